//! Parties that lie on purpose, for tests of the others. Behind `--insecure-misbehave` only, and never quiet about it.

use std::time::Duration;

use bytes::Bytes;
use rand::{Rng, RngCore};

/// How long a stalling party sits on its messages: longer than the others' tails.
const STALL: Duration = Duration::from_secs(4);

/// How a test party misbehaves towards its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Misbehave {
    /// Sends shares of the right form and with a wrong value.
    WrongShare,
    /// Sends two different shares of one round: to some the wrong one first, to the others the right one.
    Equivocate,
    /// Sends its shares long after they are needed.
    Stall,
    /// Sends random bytes of random length.
    Garbage,
    /// Sends no shares at all, and nothing again on request.
    Silent,
}

impl Misbehave {
    /// What the party sends to `peer` instead of `payload`, in order.
    pub fn apply(self, peer: u16, payload: &Bytes) -> Vec<Bytes> {
        match self {
            Self::Silent => Vec::new(),
            Self::Stall => vec![payload.clone()],
            Self::Garbage => {
                let mut rng = rand::rng();
                let mut garbage = vec![0; rng.random_range(1..512)];
                rng.fill_bytes(&mut garbage);
                vec![garbage.into()]
            }
            Self::WrongShare => vec![wrong(payload)],
            Self::Equivocate if peer.is_multiple_of(2) => vec![wrong(payload), payload.clone()],
            Self::Equivocate => vec![payload.clone(), wrong(payload)],
        }
    }

    /// How long it waits before it sends anything.
    pub const fn delay(self) -> Duration {
        if matches!(self, Self::Stall) { STALL } else { Duration::ZERO }
    }

    /// Says loudly that this party lies.
    pub fn announce(self) {
        tracing::error!(
            misbehave = ?self,
            "THIS PARTY LIES TO ITS PEERS ON PURPOSE (--insecure-misbehave). Never run it in a real committee."
        );
    }
}

/// The tail of a message is share words: any change there is another share of the right form. The same lie every time, so
/// that it is a wrong share and not an equivocation.
fn wrong(payload: &Bytes) -> Bytes {
    let mut lie = payload.to_vec();
    if let Some(last) = lie.last_mut() {
        *last ^= 0x5a;
    }
    lie.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lie_is_never_the_truth() {
        let truth = Bytes::from_static(&[1, 2, 3, 4]);
        assert!(Misbehave::Silent.apply(2, &truth).is_empty());
        let lie = Misbehave::WrongShare.apply(2, &truth);
        assert!(lie.len() == 1 && lie[0] != truth);
        assert_eq!(lie, Misbehave::WrongShare.apply(3, &truth));
        assert_ne!(Misbehave::Garbage.apply(2, &truth), [truth.clone()]);
        assert_eq!(Misbehave::Equivocate.apply(2, &truth), [lie[0].clone(), truth.clone()]);
        assert_eq!(Misbehave::Equivocate.apply(3, &truth), [truth.clone(), lie[0].clone()]);
        assert_eq!(Misbehave::Stall.apply(2, &truth), [truth]);
        assert!(Misbehave::Stall.delay() > Misbehave::WrongShare.delay());
    }
}
