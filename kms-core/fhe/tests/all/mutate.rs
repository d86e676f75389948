//! Hostile variants of honest bytes.

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

/// Truncations, flipped bits, wild length fields, garbage, and an honest header with garbage behind it.
pub(crate) struct Mutations<'a> {
    honest: &'a [u8],
    rng: StdRng,
    left: usize,
}

pub(crate) fn mutations(honest: &[u8], count: usize, seed: u64) -> Mutations<'_> {
    Mutations { honest, rng: StdRng::seed_from_u64(seed), left: count }
}

impl Iterator for Mutations<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.left = self.left.checked_sub(1)?;
        let r = &mut self.rng;
        let size = self.honest.len();
        let mut bytes = self.honest.to_vec();
        match self.left % 6 {
            0 => bytes.truncate(if self.left.is_multiple_of(12) {
                r.random_range(0..size.min(400))
            } else {
                r.random_range(0..size)
            }),
            1 => flip(&mut bytes, r.random_range(0..size.min(1024)), r),
            2 => flip(&mut bytes, size - 1 - r.random_range(0..size.min(1024)), r),
            3 => flip(&mut bytes, r.random_range(0..size), r),
            4 => {
                let at = r.random_range(0..size.min(2048) - 8);
                let wild = [u64::MAX, 0, 1, 1 << 62, 1 << 40, 1 << 32, 7][r.random_range(0..7)];
                bytes[at..at + 8].copy_from_slice(&wild.to_le_bytes());
            }
            _ => {
                let from = r.random_range(0..size.min(300));
                r.fill_bytes(&mut bytes[from..]);
            }
        }
        Some(bytes)
    }
}

fn flip(bytes: &mut [u8], at: usize, r: &mut StdRng) {
    bytes[at] ^= 1 << r.random_range(0..8);
}
