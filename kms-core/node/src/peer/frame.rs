//! Signed frames: a peer's message that its sender can't deny later.

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

/// A signed frame without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameProof {
    /// Round.
    pub round: u8,
    /// SHA3-256 of the payload.
    pub payload_hash: [u8; 32],
    /// Signature of the sender.
    pub signature: SignatureBytes,
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
        let proof = FrameProof { round, payload_hash, signature };
        Ok(Self(Message { from: sender, session, round, payload: share.payload, proof }))
    }

    /// What it claims to be.
    pub(super) fn claim(&self) -> &Message {
        &self.0
    }

    /// Checks whose message it is: the dear part.
    pub(super) fn check(self, committee: &[u8; 32], signer: Address) -> Result<Message, ForeignFrame> {
        let Message { from, session, round, proof, .. } = &self.0;
        let digest = digest(committee, *from, session, *round, &proof.payload_hash);
        if recover(digest, &proof.signature) == Ok(signer) { Ok(self.0) } else { Err(ForeignFrame) }
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
    fn the_signed_bytes_are_pinned() {
        // Computed with another implementation: SHA3-256 of "KMS-FRAME-1" ‖ 01×32 ‖ 03 ‖ 09×32 ‖ 00000002 ‖ SHA3-256(010203).
        let expected = "177b57bbdf5fe4deb63bbe123f1644a8e3c5a05681d50e9040e7ff86404739e1";
        let hash = Sha3_256::digest([1, 2, 3]).into();
        assert_eq!(hex::encode(digest(&[1; 32], 3, &[9; 32], 2, &hash)), expected);
    }
}
