//! Signed frames: a peer's message that its sender can't deny later.

use std::ops::Range;

use alloy_primitives::{Address, B256};
use bytes::Bytes;
use k256::ecdsa::SigningKey;
use kms_chain::eip712::{recover, sign_digest};
use kms_chain::proof::SignatureBytes;
use kms_proto::{bounds, peer};
use sha3::{Digest, Sha3_256};

/// Id of a session: the bytes of the job's id.
pub type SessionId = [u8; 32];

/// One message of a session as it came, its signature checked.
#[derive(Clone, Debug)]
pub struct Message {
    /// Sender.
    pub from: u16,
    /// Session.
    pub session: SessionId,
    /// Round.
    pub round: u8,
    /// Protocol message.
    pub payload: Bytes,
    /// What the sender can't deny.
    pub proof: FrameProof,
}

/// A message on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) session: SessionId,
    pub(super) round: u8,
    pub(super) payload: Bytes,
}

/// A signed message without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameProof {
    /// Round.
    pub round: u8,
    /// SHA3-256 of the payload.
    pub payload_hash: [u8; 32],
    /// From the message to what is signed; empty if it was alone in its frame.
    pub path: Vec<Step>,
    /// Signature of the sender.
    pub signature: SignatureBytes,
}

/// One step up in the tree of a frame's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whether the neighbour stands on the left.
    pub left: bool,
    /// The neighbour.
    pub neighbour: [u8; 32],
}

impl FrameProof {
    /// Whether it is about the same payload in the same round: a payload has many signatures.
    pub(super) fn says_as_much_as(&self, other: &Self) -> bool {
        (self.round, self.payload_hash) == (other.round, other.payload_hash)
    }
}

/// A frame that its supposed sender has not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the frame is not signed by its sender")]
pub(super) struct ForeignFrame;

fn digest(committee: &[u8; 32], sender: u16, session: &SessionId, round: u8, payload_hash: &[u8; 32]) -> B256 {
    let mut hash = Sha3_256::new();
    hash.update(b"KMS-FRAME-1");
    hash.update(committee);
    // A committee has at most 255 parties.
    hash.update([u8::try_from(sender).unwrap_or(0)]);
    hash.update(session);
    hash.update(u32::from(round).to_be_bytes());
    hash.update(payload_hash);
    B256::from_slice(&hash.finalize())
}

/// The node above two others.
fn parent(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut hash = Sha3_256::new();
    hash.update(b"KMS-FRAME-2");
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// What is signed of a list of messages, and the path of each there.
fn tree(leaves: &[[u8; 32]]) -> ([u8; 32], Vec<Vec<Step>>) {
    let mut paths = vec![Vec::new(); leaves.len()];
    // Each node with the leaves below it.
    let mut row: Vec<_> = leaves.iter().copied().zip((0..).map(|leaf: usize| leaf..leaf + 1)).collect();
    while row.len() > 1 {
        let pair = |pair: &[([u8; 32], Range<usize>)]| match pair {
            [(left, under_left), (right, under_right)] => {
                for path in &mut paths[under_left.clone()] {
                    path.push(Step { left: false, neighbour: *right });
                }
                for path in &mut paths[under_right.clone()] {
                    path.push(Step { left: true, neighbour: *left });
                }
                (parent(left, right), under_left.start..under_right.end)
            }
            alone => alone[0].clone(),
        };
        row = row.chunks(2).map(pair).collect();
    }
    (row.first().map(|(root, _)| *root).unwrap_or_default(), paths)
}

/// Signs messages that leave together.
pub(super) fn sign_all(
    key: &SigningKey,
    committee: &[u8; 32],
    sender: u16,
    messages: impl IntoIterator<Item = Outgoing>,
) -> peer::Shares {
    let mut leaves = Vec::new();
    let messages = messages.into_iter().map(|m| {
        let hash = Sha3_256::digest(&m.payload).into();
        leaves.push(digest(committee, sender, &m.session, m.round, &hash).0);
        peer::Message { session: m.session.to_vec(), round: m.round.into(), payload: m.payload }
    });
    let messages = messages.collect();
    let signature = sign_digest(key, tree(&leaves).0.into()).to_vec();
    peer::Shares { messages, signature }
}

/// Signs a message.
pub(super) fn sign(
    key: &SigningKey,
    committee: &[u8; 32],
    sender: u16,
    session: &SessionId,
    round: u8,
    payload: Bytes,
) -> peer::Share {
    let hash = Sha3_256::digest(&payload).into();
    let signature = sign_digest(key, digest(committee, sender, session, round, &hash));
    peer::Share { session: session.to_vec(), round: round.into(), payload, signature: signature.to_vec() }
}

/// A message that came, its signature not checked yet.
#[derive(Clone, Debug)]
pub(super) struct Unchecked(Message);

impl Unchecked {
    /// Reads a frame on the link of `sender`.
    pub(super) fn read(share: peer::Share, sender: u16) -> Result<Self, ForeignFrame> {
        let session = bounds::id("session", &share.session).map_err(|_| ForeignFrame)?;
        let signature = bounds::signature("signature", &share.signature).map_err(|_| ForeignFrame)?;
        let round = u8::try_from(share.round).map_err(|_| ForeignFrame)?;
        let payload_hash = Sha3_256::digest(&share.payload).into();
        let proof = FrameProof { round, payload_hash, path: Vec::new(), signature };
        Ok(Self(Message { from: sender, session, round, payload: share.payload, proof }))
    }

    /// Reads a frame with several messages, and what must be signed of them.
    pub(super) fn read_all(
        shares: peer::Shares,
        sender: u16,
        committee: &[u8; 32],
    ) -> Result<(Vec<Self>, B256), ForeignFrame> {
        let signature = bounds::signature("signature", &shares.signature).map_err(|_| ForeignFrame)?;
        let mut list = Vec::with_capacity(shares.messages.len());
        for message in shares.messages {
            let peer::Message { session, round, payload } = message;
            let alone = peer::Share { session, round, payload, signature: signature.to_vec() };
            list.push(Self::read(alone, sender)?);
        }
        let leaf = |m: &Self| digest(committee, sender, &m.0.session, m.0.round, &m.0.proof.payload_hash).0;
        let (root, paths) = tree(&list.iter().map(leaf).collect::<Vec<_>>());
        for (message, path) in list.iter_mut().zip(paths) {
            message.0.proof.path = path;
        }
        Ok((list, root.into()))
    }

    /// The message, its signature having been checked with the others of its frame.
    pub(super) fn checked(self) -> Message {
        self.0
    }

    /// What it claims to be.
    pub(super) fn claim(&self) -> &Message {
        &self.0
    }

    /// Checks whose message it is: the dear part.
    pub(super) fn check(self, committee: &[u8; 32], signer: Address) -> Result<Message, ForeignFrame> {
        let Message { from, session, round, proof, .. } = &self.0;
        let digest = digest(committee, *from, session, *round, &proof.payload_hash);
        check(digest, &proof.signature, signer)?;
        Ok(self.0)
    }
}

/// Whether the sender has signed `digest`: the dear part.
pub(super) fn check(digest: B256, signature: &SignatureBytes, signer: Address) -> Result<(), ForeignFrame> {
    if recover(digest, signature) == Ok(signer) { Ok(()) } else { Err(ForeignFrame) }
}

impl FrameProof {
    /// Whether `signer` has said this in a session: what a third party checks.
    pub fn is_signed_by(&self, signer: Address, committee: &[u8; 32], sender: u16, session: &SessionId) -> bool {
        let leaf = digest(committee, sender, session, self.round, &self.payload_hash).0;
        let up = |node: [u8; 32], step: &Step| {
            if step.left { parent(&step.neighbour, &node) } else { parent(&node, &step.neighbour) }
        };
        check(self.path.iter().fold(leaf, up).into(), &self.signature, signer).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use kms_chain::eip712::signer_address;

    use super::*;

    fn verify(share: peer::Share, committee: &[u8; 32], sender: u16, signer: Address) -> Result<Message, ForeignFrame> {
        Unchecked::read(share, sender)?.check(committee, signer)
    }

    #[test]
    fn only_the_whole_frame_of_its_sender_verifies() {
        let key = SigningKey::from_slice(&[7; 32]).unwrap();
        let address = signer_address(&key);
        let committee = [1; 32];
        let share = sign(&key, &committee, 3, &[9; 32], 2, vec![1, 2, 3].into());
        let message = verify(share.clone(), &committee, 3, address).unwrap();
        assert_eq!((message.from, message.round, message.payload), (3, 2, vec![1, 2, 3].into()));
        assert!(verify(share.clone(), &committee, 2, address).is_err(), "another sender");
        assert!(verify(share.clone(), &[2; 32], 3, address).is_err(), "another committee");
        assert!(verify(share.clone(), &committee, 3, Address::ZERO).is_err(), "another key");
        for spoil in [
            peer::Share { round: 3, ..share.clone() },
            peer::Share { round: 258, ..share.clone() },
            peer::Share { session: vec![8; 32], ..share.clone() },
            peer::Share { payload: vec![1, 2, 4].into(), ..share.clone() },
            peer::Share { signature: vec![0; 65], ..share },
        ] {
            assert!(verify(spoil, &committee, 3, address).is_err());
        }
    }

    #[test]
    fn messages_that_leave_together_are_signed_together_and_proved_alone() {
        let (key, committee) = (SigningKey::from_slice(&[7; 32]).unwrap(), [1; 32]);
        let address = signer_address(&key);
        for count in [2u8, 3, 5, 63, 64] {
            let message = |i: u8| Outgoing { session: [i; 32], round: 1 + i % 3, payload: vec![i; 3].into() };
            let shares = sign_all(&key, &committee, 3, (0..count).map(message));
            let (list, root) = Unchecked::read_all(shares.clone(), 3, &committee).unwrap();
            let signature = shares.signature.as_slice().try_into().unwrap();
            check(root, &signature, address).unwrap();
            for (i, message) in (0..count).zip(list) {
                let proof = message.checked().proof;
                assert!(proof.path.len() <= bounds::MAX_PATH);
                assert!(proof.is_signed_by(address, &committee, 3, &[i; 32]), "message {i} of {count}");
                assert!(!proof.is_signed_by(address, &committee, 3, &[i + 1; 32]));
                assert!(!proof.is_signed_by(address, &committee, 2, &[i; 32]));
            }
            // Any change of any of them is another root.
            for spoil in [
                |s: &mut peer::Shares| s.messages[1].payload = vec![9].into(),
                |s: &mut peer::Shares| s.messages[0].round += 1,
                |s: &mut peer::Shares| s.messages.swap(0, 1),
                |s: &mut peer::Shares| drop(s.messages.pop()),
            ] {
                let mut other = shares.clone();
                spoil(&mut other);
                let (_, root) = Unchecked::read_all(other, 3, &committee).unwrap();
                assert!(check(root, &signature, address).is_err());
            }
        }
    }

    #[test]
    fn the_tree_is_pinned() {
        // Computed with another implementation: SHA3-256("KMS-FRAME-2" ‖ SHA3-256("KMS-FRAME-2" ‖ 01×32 ‖ 02×32) ‖ 03×32).
        let expected = "0dba7e6622604db72823f913399be11b243b3d9ed903ee2a5e7eb754114fcced";
        assert_eq!(hex::encode(tree(&[[1; 32], [2; 32], [3; 32]]).0), expected);
    }

    #[test]
    fn the_signed_bytes_are_pinned() {
        // Computed with another implementation: SHA3-256 of "KMS-FRAME-1" ‖ 01×32 ‖ 03 ‖ 09×32 ‖ 00000002 ‖ SHA3-256(010203).
        let expected = "177b57bbdf5fe4deb63bbe123f1644a8e3c5a05681d50e9040e7ff86404739e1";
        let hash = Sha3_256::digest([1, 2, 3]).into();
        assert_eq!(hex::encode(digest(&[1; 32], 3, &[9; 32], 2, &hash)), expected);
    }
}
