//! Parties that lie on purpose, for tests of the others. Behind `--insecure-misbehave` only, and never quiet about it.

use std::time::Duration;

use bytes::Bytes;
use rand::{Rng, RngCore};

/// How long a stalling party sits on its messages: longer than the others' tails.
const STALL: Duration = Duration::from_secs(4);

/// How a test party misbehaves towards its peers, and towards users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Misbehave {
    /// Sends shares of the right form and with a wrong value.
    WrongShare,
    /// Sends the right share to peers with odd indices and a wrong one to those with even indices.
    Equivocate,
    /// Sends its shares long after they are needed.
    Stall,
    /// Sends random bytes of random length.
    Garbage,
    /// Sends no shares at all, and nothing again on request.
    Silent,
    /// Tells the truth, but for wrong shares in generations of keys.
    WrongInKeygen,
    /// Tells the truth, but signs two frames in generations of keys: another one for peers with odd indices.
    TwoFramesInKeygen,
}

impl Misbehave {
    /// What the party sends to `peer` instead of `payload`; `None` is nothing.
    pub fn apply(self, peer: u16, payload: &Bytes) -> Option<Bytes> {
        match self {
            Self::Silent => None,
            Self::Stall | Self::WrongInKeygen | Self::TwoFramesInKeygen => Some(payload.clone()),
            Self::Garbage => {
                let mut rng = rand::rng();
                let mut garbage = vec![0; rng.random_range(1..512)];
                rng.fill_bytes(&mut garbage);
                Some(garbage.into())
            }
            Self::Equivocate if !peer.is_multiple_of(2) => Some(payload.clone()),
            Self::WrongShare | Self::Equivocate => Some(wrong(payload)),
        }
    }

    /// What the party answers to a question of a key generation instead of `answer`; `None` is nothing. Wrong shares have
    /// their place where nothing is signed: in the share of the coin and in the frames of degree t.
    pub fn apply_in_keygen(self, peer: u16, question: &[u8], answer: &Bytes) -> Option<Bytes> {
        let unsigned = question.get(5).is_some_and(|kind| matches!(kind, 1 | 3 | 4));
        match self {
            Self::WrongShare | Self::WrongInKeygen | Self::Equivocate if !unsigned => Some(answer.clone()),
            Self::WrongInKeygen => Some(wrong(answer)),
            lie => lie.apply(peer, answer),
        }
    }

    /// Whether the party signs another frame for `peer` than for others.
    pub const fn signs_another_frame(self, peer: u16) -> bool {
        matches!(self, Self::TwoFramesInKeygen) && !peer.is_multiple_of(2)
    }

    /// The words that the party seals for a user instead of its own; `None` is nothing. Users count as peers with even indices.
    pub fn apply_for_user(self, mut words: Vec<u128>) -> Option<Vec<u128>> {
        match self {
            Self::Silent => return None,
            Self::Stall | Self::WrongInKeygen | Self::TwoFramesInKeygen => {}
            Self::Garbage => words.fill_with(|| rand::rng().random()),
            Self::WrongShare | Self::Equivocate => {
                if let Some(last) = words.last_mut() {
                    *last ^= 0x5a;
                }
            }
        }
        Some(words)
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
        assert_eq!(Misbehave::Silent.apply(2, &truth), None);
        let lie = Misbehave::WrongShare.apply(2, &truth);
        assert_ne!(lie, Some(truth.clone()));
        assert_eq!(lie, Misbehave::WrongShare.apply(3, &truth));
        assert_ne!(Misbehave::Garbage.apply(2, &truth), Some(truth.clone()));
        assert_eq!(Misbehave::Equivocate.apply(2, &truth), lie);
        assert_eq!(Misbehave::Equivocate.apply(3, &truth), Some(truth.clone()));
        assert_eq!(Misbehave::Stall.apply(2, &truth), Some(truth.clone()));
        let words = vec![7u128; 4];
        assert_eq!(Misbehave::Silent.apply_for_user(words.clone()), None);
        assert_eq!(Misbehave::WrongInKeygen.apply_for_user(words.clone()), Some(words.clone()));
        for lie in [Misbehave::WrongShare, Misbehave::Equivocate, Misbehave::Garbage] {
            let lie = lie.apply_for_user(words.clone()).unwrap();
            assert!(lie != words && lie.len() == words.len());
        }
        let (frame_a, frame_c) = (b"KMSQ\x01\x02", b"KMSQ\x01\x04");
        for (liar, about_a, about_c) in [
            (Misbehave::WrongShare, Some(&truth), lie.as_ref()),
            (Misbehave::WrongInKeygen, Some(&truth), lie.as_ref()),
            (Misbehave::TwoFramesInKeygen, Some(&truth), Some(&truth)),
            (Misbehave::Silent, None, None),
        ] {
            assert_eq!(liar.apply_in_keygen(2, frame_a, &truth).as_ref(), about_a);
            assert_eq!(liar.apply_in_keygen(2, frame_c, &truth).as_ref(), about_c);
        }
        for liar in [Misbehave::WrongInKeygen, Misbehave::TwoFramesInKeygen] {
            assert_eq!(liar.apply(2, &truth), Some(truth.clone()));
            assert_eq!(liar.signs_another_frame(3), liar == Misbehave::TwoFramesInKeygen);
            assert!(!liar.signs_another_frame(4));
        }
        assert!(Misbehave::Stall.delay() > Misbehave::WrongShare.delay());
    }
}
