//! What parties sign: frames, relayed items, votes, key claims. One domain each, everything of fixed width.

use kms_algebra::{PartyId, PartySet};
use sha2::{Digest, Sha256};

use super::exchange::Verifier;
use crate::{Committee, SessionId};

/// A signature of a party.
pub(super) type Signature = [u8; 65];
/// Bytes of a signature.
pub(super) const SIGNATURE_BYTES: usize = 65;

fn digest(domain: &[u8], session: &SessionId, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(domain);
    hash.update(session.as_bytes());
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// Hash of the parts of a frame: SHA-256 over the SHA-256 of the parts, so that one part is evidence enough.
pub(super) fn hash_of_parts(parts: &[[u8; 32]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"KMS-DKG-PARTS-1");
    hash.update((parts.len() as u32).to_be_bytes());
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// What the sender of a frame signs. Its session says which chunk and attempt.
pub(super) fn frame(session: &SessionId, sender: PartyId, hash: &[u8; 32]) -> [u8; 32] {
    digest(b"KMS-DKG-FRAME-1", session, &[&[sender.index()], hash])
}

/// What a party signs that relays an item of a complaint.
pub(super) fn relay(session: &SessionId, instance: u32, item: &[u8]) -> [u8; 32] {
    digest(b"KMS-DKG-RELAY-1", session, &[&instance.to_be_bytes(), item])
}

/// What a party signs that claims stream keys.
pub(super) fn claim(session: &SessionId, claimant: PartyId, claims: &[u8]) -> [u8; 32] {
    digest(b"KMS-DKG-CLAIM-1", session, &[&[claimant.index()], &Sha256::digest(claims)])
}

/// A vote on an attempt at a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Vote {
    /// The opened values have this hash: they may be used.
    Final([u8; 32]),
    /// The frames contradict each other: stream keys are to be revealed.
    Reveal,
}

impl Vote {
    /// Bytes of an encoded vote.
    pub(super) const BYTES: usize = 33;

    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        if let Self::Final(hash) = self {
            bytes[0] = 1;
            bytes[1..].copy_from_slice(hash);
        } else {
            bytes[0] = 2;
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let mut hash = [0; 32];
        hash.copy_from_slice(&bytes[1..]);
        match bytes[0] {
            1 => Some(Self::Final(hash)),
            2 if hash == [0; 32] => Some(Self::Reveal),
            _ => None,
        }
    }

    /// What is signed.
    pub(super) fn digest(&self, session: &SessionId) -> [u8; 32] {
        digest(b"KMS-DKG-VOTE-1", session, &[&self.encode()])
    }
}

/// 2t + 1 equal votes. Certificates of both kinds on one attempt can't exist with at most t liars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    /// What they voted for.
    pub(super) vote: Vote,
    /// Who, and their signatures.
    pub(super) signatures: Vec<(PartyId, Signature)>,
}

impl Certificate {
    /// Whether it is one.
    pub(super) fn verify(&self, committee: &Committee, session: &SessionId, signer: &impl Verifier) -> bool {
        let digest = self.vote.digest(session);
        let parties: PartySet = self.signatures.iter().map(|(party, _)| *party).collect();
        parties.len() == self.signatures.len()
            && parties.len() > 2 * committee.t()
            && self.signatures.iter().all(|(p, s)| committee.contains(*p) && signer.verify(*p, &digest, s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_round_trip_and_nothing_else_is_one() {
        for vote in [Vote::Final([7; 32]), Vote::Final([0; 32]), Vote::Reveal] {
            assert_eq!(Vote::decode(&vote.encode()), Some(vote));
        }
        for bad in [0, 3, 255] {
            let mut bytes = Vote::Reveal.encode();
            bytes[0] = bad;
            assert_eq!(Vote::decode(&bytes), None);
        }
        let mut bytes = Vote::Reveal.encode();
        bytes[32] = 1;
        assert_eq!(Vote::decode(&bytes), None);
    }

    #[test]
    fn domains_and_fields_are_apart() {
        let (a, b) = (SessionId::from_bytes([1; 32]), SessionId::from_bytes([2; 32]));
        let party = |index| PartyId::new(index).unwrap();
        let all = [
            frame(&a, party(1), &[3; 32]),
            frame(&a, party(2), &[3; 32]),
            frame(&b, party(1), &[3; 32]),
            claim(&a, party(1), &[3; 32]),
            relay(&a, 0, &[3; 32]),
            relay(&a, 1, &[3; 32]),
            Vote::Final([3; 32]).digest(&a),
            Vote::Final([3; 32]).digest(&b),
            Vote::Reveal.digest(&a),
        ];
        assert!((0..all.len()).all(|i| (0..i).all(|j| all[i] != all[j])));
    }
}
