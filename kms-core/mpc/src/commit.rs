//! Hash commitments.
//!
//! c = SHA3-256("KMS-COMMIT-1" ‖ session ‖ u8 party ‖ u8 label length ‖ label ‖ nonce ‖ value), with a fresh 32-byte
//! nonce. Binding if SHA3-256 is collision resistant, hiding in the random oracle model whatever the value, because the
//! nonce can't be guessed. Session, party and label are under the hash: nobody can repeat the commitment of another, and
//! none is good for a second purpose. The value stands last and alone has no fixed width.

use rand::CryptoRng;
use sha3::{Digest, Sha3_256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{PartyId, SessionId};

/// What a commitment is for. Labels are constants of protocols, at most 255 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose<'a> {
    /// The run.
    pub session: SessionId,
    /// Who commits.
    pub party: PartyId,
    /// What for; longer ones are cut at 255 bytes.
    pub label: &'a str,
}

/// A commitment: 32 bytes that say nothing about the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commitment(pub [u8; 32]);

/// What opens a commitment, besides the value. Secret until then; erased on drop.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Nonce([u8; 32]);

impl core::fmt::Debug for Nonce {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Nonce(…)")
    }
}

impl Nonce {
    /// A nonce as it came over a wire.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Commits to a value.
pub fn commit(purpose: &Purpose<'_>, value: &[u8], rng: &mut impl CryptoRng) -> (Commitment, Nonce) {
    let mut nonce = Nonce([0; 32]);
    rng.fill_bytes(&mut nonce.0);
    (Commitment(digest(purpose, &nonce, value)), nonce)
}

/// Whether the commitment is one to this value.
#[must_use]
pub fn opens(commitment: &Commitment, purpose: &Purpose<'_>, nonce: &Nonce, value: &[u8]) -> bool {
    digest(purpose, nonce, value) == commitment.0
}

fn digest(purpose: &Purpose<'_>, nonce: &Nonce, value: &[u8]) -> [u8; 32] {
    let label = &purpose.label.as_bytes()[..purpose.label.len().min(255)];
    let mut hash = Sha3_256::new();
    hash.update(b"KMS-COMMIT-1");
    hash.update(purpose.session.as_bytes());
    hash.update([purpose.party.index(), label.len() as u8]);
    hash.update(label);
    hash.update(nonce.0);
    hash.update(value);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    use super::*;

    fn purpose(session: u8, party: u8, label: &str) -> Purpose<'_> {
        Purpose { session: SessionId::from_bytes([session; 32]), party: PartyId::new(party).unwrap(), label }
    }

    #[test]
    fn a_commitment_opens_to_its_value_for_its_purpose_only() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let (c, nonce) = commit(&purpose(1, 1, "share"), b"value", &mut rng);
        assert!(opens(&c, &purpose(1, 1, "share"), &nonce, b"value"));
        let other = Nonce::from_bytes([0; 32]);
        for (purpose, nonce, value) in [
            (purpose(2, 1, "share"), &nonce, &b"value"[..]),
            (purpose(1, 2, "share"), &nonce, b"value"),
            (purpose(1, 1, "shar"), &nonce, b"value"),
            (purpose(1, 1, "share"), &other, b"value"),
            (purpose(1, 1, "share"), &nonce, b"valu"),
        ] {
            assert!(!opens(&c, &purpose, nonce, value));
        }
    }

    #[test]
    fn commitments_to_one_value_differ() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let (a, _) = commit(&purpose(1, 1, "x"), b"", &mut rng);
        let (b, _) = commit(&purpose(1, 1, "x"), b"", &mut rng);
        assert_ne!(a, b);
    }
}
