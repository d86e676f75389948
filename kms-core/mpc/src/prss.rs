//! Pseudorandom secret sharing and the flooding masks.
//!
//! For each set A of n − t parties its members know a key r_A. f_A has degree t, f_A(0) = 1 and f_A(α_j) = 0 for j ∉ A;
//! party i keeps the weight f_A(α_i) of each of its sets. A shared pseudorandom value is Σ_A f_A·ψ_A, with ψ_A out of a
//! key stream of A: no communication. Streams are AES-128-CTR (counter: 128-bit big endian block index from 0) under
//! the key AES-128-CMAC(r_A, "KMS-PRSS-1" ‖ u8 purpose ‖ session id), restartable at every value: the bytes of value v
//! of a purpose are those at v × (bytes per value). So a batch equals single calls.
//!
//! Words are little-endian; a ring element is its coefficients in ascending order of powers.
//!
//! Source: Cramer, Damgård and Ishai, TCC 2005, §4 (sharing) and ePrint 2023/815 §5 (masks).

mod mac;
mod reveal;
mod share;
mod stream;
#[cfg(target_arch = "x86_64")]
mod wide;

use aes::Aes128Enc;
use kms_algebra::{Gr, PartyId, PartySet, Word};
use kms_encoding::PrssKey;
use kms_encoding::rounding::FLOOD_LOG2;
use zeroize::{Zeroize, Zeroizing};

use self::mac::Mac;
pub(crate) use self::reveal::StreamKeys;
use self::stream::Buffer;
use crate::{Committee, SessionId, SetupError};

/// Values that are made between two looks at a key stream.
const TILE: usize = 64;
/// Bytes of a mask: two words for its two uniforms.
const MASK_BYTES: u64 = 32;
/// Low bits of a word that make a uniform in [−2^110, 2^110), after subtracting 2^110.
const FLOOD_MASK: u128 = (1 << (FLOOD_LOG2 + 1)) - 1;

/// What a stream is for: one byte under the MAC, one layout each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Purpose {
    Uniform64 = 1,
    Uniform128 = 2,
    UniformZ64 = 3,
    UniformZ128 = 4,
    Zero64 = 5,
    Zero128 = 6,
    Mask = 7,
    Triple64 = 8,
    Triple128 = 9,
}

impl Purpose {
    const fn by_word<W: Word>(word64: Self, word128: Self) -> Self {
        if W::BITS == 64 { word64 } else { word128 }
    }
}

/// Where the stream keys of a set come from.
#[expect(clippy::large_enum_variant, reason = "nearly all are sets, and those are used most")]
enum Source {
    /// Keyed with r_A: the key schedule is computed once.
    Set(Mac),
    /// The keys of one session, which were revealed.
    Session(StreamKeys),
}

/// One set that this party is a member of.
struct Set<const D: usize> {
    source: Source,
    /// f_A(α_i) mod 2^128; mod 2^64 it is the same, reduced.
    weight: Gr<u128, D>,
}

/// The PRSS of one party in one epoch, over a ring of degree D. Its keys are erased on drop.
///
/// All functions are synchronous and allocate nothing per value. Masks are made by the calling thread, long vectors of
/// shares on rayon's pool.
pub struct Prss<const D: usize> {
    t: usize,
    own: PartyId,
    sets: Vec<Set<D>>,
    /// The same sets, if masks can be made four sets at a time.
    #[cfg(target_arch = "x86_64")]
    wide: Option<wide::Wide<D>>,
}

impl<const D: usize> core::fmt::Debug for Prss<D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Prss({} sets)", self.sets.len())
    }
}

impl<const D: usize> Prss<D> {
    /// The PRSS of party `own`.
    ///
    /// # Errors
    /// The keys are not exactly one per set that `own` is in, by ascending bitmap, or the ring does not fit.
    pub fn new(committee: &Committee, own: PartyId, keys: &[PrssKey]) -> Result<Self, SetupError> {
        kms_algebra::shamir::check_committee::<D>(committee.n(), committee.t())?;
        if !committee.contains(own) {
            return Err(SetupError::NotAMember(own, committee.n()));
        }
        let expected = committee.prss_sets().filter(|set| set.contains(own));
        if !expected.map(PartySet::bits).eq(keys.iter().map(|k| k.set)) {
            return Err(SetupError::PrssKeys(own));
        }
        let point = Gr::point(own);
        let sets = keys
            .iter()
            .map(|key| {
                let outside = committee.parties().filter(|p| key.set >> p.slot() & 1 == 0);
                Set { source: Source::Set(Mac::new(&key.key)), weight: weight(outside, point) }
            })
            .collect();
        Ok(Self {
            t: committee.t(),
            own,
            sets,
            #[cfg(target_arch = "x86_64")]
            wide: wide::Wide::new(committee.n(), own, keys),
        })
    }

    /// Number of sets that this party is in: C(n−1, t).
    #[must_use]
    pub const fn sets(&self) -> usize {
        self.sets.len()
    }

    /// Adds shares of the flooding masks of blocks `first..first + out.len()` of a session to `out`. The mask of a
    /// block is E = Σ_A φ_A, φ_A the sum of **two** independent uniforms in [−2^110, 2^110), so |E| ≤ 2·C(n,t)·2^110;
    /// with two the statistical distance grows only with the square root of the number of blocks.
    ///
    /// The hottest loop of the system: per set and value two AES blocks and 4 (D) products mod 2^128, plus one key
    /// derivation per set and 64 values.
    pub fn add_masks(&self, session: &SessionId, first: u32, out: &mut [Gr<u128, D>]) {
        for (tile, out) in out.chunks_mut(TILE).enumerate() {
            let first = u64::from(first) + (tile * TILE) as u64;
            #[cfg(target_arch = "x86_64")]
            if let Some(wide) = &self.wide {
                wide.add_tile(&message(Purpose::Mask, session), first, out);
                continue;
            }
            self.add_mask_tile(session, first, out);
        }
    }

    /// One tile with portable code, a set after the other.
    fn add_mask_tile(&self, session: &SessionId, first: u64, out: &mut [Gr<u128, D>]) {
        let len = out.len();
        let mut keystream = Buffer::<{ 2 * TILE }>::new();
        let mut phi = Zeroizing::new([0u128; TILE]);
        let mut sums = Zeroizing::new([[0u128; TILE]; D]);
        for set in &self.sets {
            let cipher = set.stream(Purpose::Mask, session);
            let blocks = keystream.blocks(&cipher, first * (MASK_BYTES / 16), 2 * len);
            for (phi, pair) in phi.iter_mut().zip(blocks.chunks_exact(2)) {
                let [u, v] = [pair[0], pair[1]].map(|word| u128::from_le_bytes(word.into()) & FLOOD_MASK);
                *phi = (u + v).wrapping_sub(2 << FLOOD_LOG2);
            }
            for (sums, weight) in sums.iter_mut().zip(set.weight.0) {
                for (sum, phi) in sums[..len].iter_mut().zip(&phi[..len]) {
                    *sum = sum.wrapping_add(weight.wrapping_mul(*phi));
                }
            }
        }
        for (i, share) in out.iter_mut().enumerate() {
            *share += Gr(core::array::from_fn(|c| sums[c][i]));
        }
    }
}

impl<const D: usize> Set<D> {
    /// The stream of this set for a purpose in a session.
    fn stream(&self, purpose: Purpose, session: &SessionId) -> Aes128Enc {
        let mut key = self.source.key(purpose, session);
        let cipher = aes::cipher::KeyInit::new(&key.into());
        key.zeroize();
        cipher
    }
}

/// What the key of a stream is the MAC of.
fn message(purpose: Purpose, session: &SessionId) -> [u8; mac::MESSAGE_BYTES] {
    let mut message = [0u8; mac::MESSAGE_BYTES];
    message[..10].copy_from_slice(b"KMS-PRSS-1");
    message[10] = purpose as u8;
    message[11..].copy_from_slice(session.as_bytes());
    message
}

/// f_A(α_i) = Π_{j ∉ A} (α_j − α_i) / α_j.
fn weight<const D: usize>(outside: impl Iterator<Item = PartyId>, point: Gr<u128, D>) -> Gr<u128, D> {
    let (numerator, denominator) = outside.fold((Gr::ONE, Gr::ONE), |(numerator, denominator), j| {
        let zero = Gr::<u128, D>::point(j);
        (numerator * (zero - point), denominator * zero)
    });
    numerator * denominator.inverse().expect("products of points are units")
}

/// f_A(α_i)·Π_{j ≠ i} α_j = Π_{j ∉ A} (α_j − α_i) · Π_{j ∈ A, j ≠ i} α_j, A given as its bitmap: a multiple by a unit that
/// all sets of party i share, with small coefficients.
#[cfg(target_arch = "x86_64")]
fn numerator<const D: usize>(n: usize, own: PartyId, set: u32) -> Gr<u128, D> {
    PartyId::all(n).filter(|j| *j != own).fold(Gr::ONE, |product, j| {
        let outside = set >> j.slot() & 1 == 0;
        product * (Gr::point(j) - if outside { Gr::point(own) } else { Gr::ZERO })
    })
}

#[cfg(test)]
mod tests;
