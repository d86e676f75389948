//! Shares of pseudorandom values: what key generation is made of.
//!
//! All kinds are sums Σ_A f_A(α_i)·w_A over the words w of the streams, folded by public powers of X and of the point of the
//! party: so there is one loop that takes time, over words. Tiles of words stay in the first level of the cache while one
//! set after the other is added to them.

use aes::Aes128Enc;
use kms_algebra::{Gr, GrVec, Word};
use zeroize::Zeroizing;

use super::stream::Buffer;
use super::{Prss, Purpose, message};
use crate::{SessionId, tiles};

/// Words that are summed over the sets at a time.
const TILE_WORDS: usize = 256;
/// Blocks that are encrypted at a time with portable code.
const BLOCKS: usize = 16;

/// The streams of all sets of a party for one purpose in one session. Erased on drop.
enum Streams {
    Portable(Vec<Aes128Enc>),
    #[cfg(target_arch = "x86_64")]
    Wide(super::wide::Streams),
}

impl<const D: usize> Prss<D> {
    /// Shares of uniformly random ring elements number `first..first + count`: ψ_A fills a ring element.
    #[must_use]
    pub fn uniform<W: Word>(&self, session: &SessionId, first: u64, count: usize) -> GrVec<W, D> {
        let purpose = Purpose::by_word::<W>(Purpose::Uniform64, Purpose::Uniform128);
        self.values(purpose, session, first, count, D, element)
    }

    /// Shares of uniformly random values of Z_2^k number `first..first + count`: ψ_A fills a word.
    #[must_use]
    pub fn uniform_z<W: Word>(&self, session: &SessionId, first: u64, count: usize) -> GrVec<W, D> {
        let purpose = Purpose::by_word::<W>(Purpose::UniformZ64, Purpose::UniformZ128);
        self.values(purpose, session, first, count, 1, |words| words[0])
    }

    /// Like [`Self::uniform_z`] out of streams of their own: what products of secrets are masked with.
    #[must_use]
    pub fn triple<W: Word>(&self, session: &SessionId, first: u64, count: usize) -> GrVec<W, D> {
        let purpose = Purpose::by_word::<W>(Purpose::Triple64, Purpose::Triple128);
        self.values(purpose, session, first, count, 1, |words| words[0])
    }

    /// Shares of degree 2t of zero number `first..first + count`, uniformly random among all of them:
    /// Σ_A f_A(α_i)·Σ_{j=1..t} α_i^j·χ_{A,j}.
    #[must_use]
    pub fn zero<W: Word>(&self, session: &SessionId, first: u64, count: usize) -> GrVec<W, D> {
        let purpose = Purpose::by_word::<W>(Purpose::Zero64, Purpose::Zero128);
        self.values(purpose, session, first, count, self.t * D, |words| {
            let chi = words.chunks_exact(D).rev().map(element);
            chi.fold(Gr::ZERO, |sum, chi| (sum + chi).times_point(self.own))
        })
    }

    /// Values whose streams have `words` words each: what `fold`, which is linear, makes of the sums of their words.
    fn values<W: Word>(
        &self,
        purpose: Purpose,
        session: &SessionId,
        first: u64,
        count: usize,
        words: usize,
        fold: impl Fn(&[Gr<W, D>]) -> Gr<W, D> + Sync,
    ) -> GrVec<W, D> {
        self.values_of(&self.streams(purpose, session), first, count, words, fold)
    }

    fn values_of<W: Word>(
        &self,
        streams: &Streams,
        first: u64,
        count: usize,
        words: usize,
        fold: impl Fn(&[Gr<W, D>]) -> Gr<W, D> + Sync,
    ) -> GrVec<W, D> {
        let scale = self.scale::<W>(streams);
        let per_tile = TILE_WORDS / words;
        let tile = |tile: usize, mut out: [&mut [W]; D]| {
            let mut sums = Zeroizing::new([Gr::<W, D>::ZERO; TILE_WORDS]);
            let sums = &mut sums[..out[0].len() * words];
            self.sums(streams, (first + (tile * per_tile) as u64) * words as u64, sums);
            for (i, words) in sums.chunks_exact(words).enumerate() {
                let mut value = fold(words);
                if let Some(scale) = scale {
                    value = value * scale;
                }
                for (out, word) in out.iter_mut().zip(value.0) {
                    out[i] = word;
                }
            }
        };
        let mut out = GrVec::zeros(count);
        tiles::for_each(&mut out, per_tile, tile);
        out
    }

    fn streams(&self, purpose: Purpose, session: &SessionId) -> Streams {
        #[cfg(target_arch = "x86_64")]
        if let Some(wide) = &self.wide {
            return Streams::Wide(wide.streams(&message(purpose, session)));
        }
        self.portable_streams(purpose, session)
    }

    fn portable_streams(&self, purpose: Purpose, session: &SessionId) -> Streams {
        Streams::Portable(self.sets.iter().map(|set| set.stream(purpose, session)).collect())
    }

    /// What [`Self::sums`] still have to be multiplied with.
    fn scale<W: Word>(&self, streams: &Streams) -> Option<Gr<W, D>> {
        match streams {
            Streams::Portable(_) => None,
            #[cfg(target_arch = "x86_64")]
            Streams::Wide(_) => self.wide.as_ref().and_then(super::wide::Wide::scale),
        }
    }

    /// The sums of words `first..first + out.len()` over the sets, times weights of a common denominator. `out` has at most
    /// [`TILE_WORDS`] elements.
    fn sums<W: Word>(&self, streams: &Streams, first: u64, out: &mut [Gr<W, D>]) {
        match streams {
            Streams::Portable(ciphers) => self.portable_sums(ciphers, first, out),
            #[cfg(target_arch = "x86_64")]
            Streams::Wide(streams) => {
                if let Some(wide) = &self.wide {
                    wide.sums(streams, first, out);
                }
            }
        }
    }

    /// One set after the other.
    fn portable_sums<W: Word>(&self, ciphers: &[Aes128Enc], first: u64, out: &mut [Gr<W, D>]) {
        let per_block = 16 / W::BYTES;
        let (first, behind) = (first / per_block as u64, (first % per_block as u64) as usize);
        let mut keystream = Buffer::<BLOCKS>::new();
        out.fill(Gr::ZERO);
        for (set, cipher) in self.sets.iter().zip(ciphers) {
            let weight = set.weight.cast::<W>();
            // Words of the first block that are not wanted.
            let (mut block, mut skip, mut left) = (first, behind, &mut *out);
            while !left.is_empty() {
                let (now, rest) = left.split_at_mut(left.len().min(BLOCKS * per_block - skip));
                let blocks = keystream.blocks(cipher, block, (skip + now.len()).div_ceil(per_block));
                let words = blocks.iter().flat_map(|block| block.chunks_exact(W::BYTES)).skip(skip);
                for (sum, word) in now.iter_mut().zip(words) {
                    *sum += weight.scale(W::read_le(word));
                }
                (block, skip, left) = (block + BLOCKS as u64, 0, rest);
            }
        }
    }
}

/// Σ_e X^e·words\[e\].
fn element<W: Word, const D: usize>(words: &[Gr<W, D>]) -> Gr<W, D> {
    words.iter().rev().fold(Gr::ZERO, |sum, word| sum.times_x() + *word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    use super::*;
    use crate::{Committee, insecure_dealt};

    /// Where the processor has no wide units both are the portable code.
    fn same_with_and_without_wide_units<W: Word, const D: usize>(
        prss: &Prss<D>,
        session: &SessionId,
        first: u64,
        count: usize,
    ) {
        let fold = |words: &[Gr<W, D>]| words.iter().fold(Gr::ZERO, |sum, word| sum.times_x() + *word);
        for words in [1, 3, prss.t * D] {
            let count = count.min(1000 / words);
            let wide = prss.values::<W>(Purpose::Zero64, session, first, count, words, fold);
            let portable = prss.portable_streams(Purpose::Zero64, session);
            assert!(prss.values_of(&portable, first, count, words, fold) == wide);
        }
    }

    fn party<const D: usize>(n: usize, t: usize, own: usize) -> Prss<D> {
        let committee = Committee::new(n, t).unwrap();
        let keys = insecure_dealt::prss_keys(&committee, &mut ChaCha20Rng::seed_from_u64(n as u64));
        Prss::new(&committee, committee.parties().nth(own).unwrap(), &keys[own]).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn shares_are_the_same_with_and_without_wide_units(sid: [u8; 32], first in 0u64..1 << 40, count in 1usize..400) {
            fn check<const D: usize>(prss: &Prss<D>, sid: &SessionId, first: u64, count: usize) {
                same_with_and_without_wide_units::<u64, D>(prss, sid, first, count);
                same_with_and_without_wide_units::<u128, D>(prss, sid, first, count);
            }
            let sid = SessionId::from_bytes(sid);
            check(&party::<4>(4, 1, 2), &sid, first, count);
            check(&party::<4>(10, 1, 0), &sid, first, count);
            check(&party::<4>(11, 1, 5), &sid, first, count);
            check(&party::<4>(7, 2, 6), &sid, first, count);
            check(&party::<4>(10, 3, 9), &sid, first, count);
            check(&party::<5>(16, 1, 15), &sid, first, count);
        }
    }

    #[test]
    fn shares_of_the_largest_default_committee_are_the_same() {
        let (prss, sid) = (party::<4>(13, 4, 7), SessionId::from_bytes([3; 32]));
        same_with_and_without_wide_units::<u64, 4>(&prss, &sid, 77, 100);
        same_with_and_without_wide_units::<u128, 4>(&prss, &sid, 77, 100);
    }
}
