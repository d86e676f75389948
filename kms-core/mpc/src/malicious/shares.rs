//! Errors on the shares of a message.

use bytes::Bytes;
use kms_algebra::{Gr, GrVec, PartyId, PartySet};
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::wire::{self, HEADER_BYTES};

pub(super) enum Error {
    /// An odd constant on every element, another one for another factor.
    Everywhere(u8),
    LastBit,
    Sparse {
        own: PartyId,
        seed: u64,
    },
    Codeword {
        own: PartyId,
        zeros: PartySet,
        shift: u32,
    },
    Codewords {
        own: PartyId,
        honest: PartySet,
        zeros: u8,
        seed: u64,
    },
}

/// A share message with an error added. What is no share message goes out unchanged.
#[must_use]
pub(super) fn shifted(payload: &Bytes, error: &Error) -> Bytes {
    match payload.get(5) {
        Some(4) => shift::<4>(payload, error),
        Some(5) => shift::<5>(payload, error),
        _ => None,
    }
    .unwrap_or_else(|| payload.clone())
}

/// 2^shift·∏ (X − zero) at the point of `own`.
fn codeword<const D: usize>(own: PartyId, zeros: impl Iterator<Item = PartyId>, shift: u32) -> Gr<u128, D> {
    let at = Gr::point(own);
    zeros.fold(Gr::constant(1 << shift), |g, zero| g * (at - Gr::point(zero)))
}

fn shift<const D: usize>(payload: &Bytes, error: &Error) -> Option<Bytes> {
    let elements = payload.len().checked_sub(HEADER_BYTES)? / (D * 16);
    let mut shares: GrVec<u128, D> = wire::decode(payload, elements).ok()?;
    let last = elements.checked_sub(1)?;
    let mut add = |i: usize, e: Gr<u128, D>| {
        let share = shares.get(i);
        shares.set(i, share + e);
    };
    match *error {
        Error::Everywhere(factor) => {
            (0..elements).for_each(|i| add(i, Gr::constant((2 * i as u128 + 1) * (2 * u128::from(factor) - 1))));
        }
        Error::LastBit => add(last, Gr::constant(1 << 127)),
        Error::Sparse { own, seed } => {
            let mut rng = ChaCha20Rng::seed_from_u64(seed ^ u64::from(own.index()));
            let wrong = rng.random_range(1..=elements.min(4));
            for i in (0..elements).choose_multiple(&mut rng, wrong) {
                let mut words = [0; D];
                words[rng.random_range(0..D)] = rng.random::<u128>() << rng.random_range(0..127) | 1 << 127;
                add(i, Gr(words));
            }
        }
        Error::Codeword { own, zeros, shift } => {
            let g = codeword(own, zeros.iter(), shift);
            (0..elements).for_each(|i| add(i, g));
        }
        Error::Codewords { own, honest, zeros, seed } => {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            for i in 0..elements {
                let chosen = honest.iter().choose_multiple(&mut rng, zeros.into());
                add(i, codeword(own, chosen.into_iter(), rng.random_range(0..128)));
            }
        }
    }
    Some(wire::encode(&shares))
}
