//! Parties that lie on purpose, for tests of the others. Behind `--insecure-misbehave` only, and never quiet about it.

use bytes::Bytes;
use rand::{Rng, RngCore};

/// How a test party misbehaves towards its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Misbehave {
    /// Sends shares of the right form and with a wrong value.
    WrongShare,
    /// Sends random bytes of random length.
    Garbage,
    /// Sends no shares at all, and nothing again on request.
    Silent,
}

impl Misbehave {
    /// What the party sends instead of `payload`; `None` is nothing.
    pub fn apply(self, payload: Bytes) -> Option<Bytes> {
        match self {
            Self::Silent => None,
            Self::Garbage => {
                let mut rng = rand::rng();
                let mut garbage = vec![0; rng.random_range(1..512)];
                rng.fill_bytes(&mut garbage);
                Some(garbage.into())
            }
            Self::WrongShare => {
                // The tail of a message is share words: any change there is another share of the right form. The same
                // lie every time, so that it is a wrong share and not an equivocation.
                let mut lie = payload.to_vec();
                if let Some(last) = lie.last_mut() {
                    *last ^= 0x5a;
                }
                Some(lie.into())
            }
        }
    }

    /// Says loudly that this party lies.
    pub fn announce(self) {
        tracing::error!(
            misbehave = ?self,
            "THIS PARTY LIES TO ITS PEERS ON PURPOSE (--insecure-misbehave). Never run it in a real committee."
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lie_is_never_the_truth() {
        let truth = Bytes::from_static(&[1, 2, 3, 4]);
        assert_eq!(Misbehave::Silent.apply(truth.clone()), None);
        let wrong = Misbehave::WrongShare.apply(truth.clone());
        assert_ne!(wrong, Some(truth.clone()));
        assert_eq!(wrong, Misbehave::WrongShare.apply(truth.clone()));
        assert_ne!(Misbehave::Garbage.apply(truth.clone()), Some(truth));
    }
}
