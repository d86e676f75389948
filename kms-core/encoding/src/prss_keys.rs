//! The pseudorandom keys of one party in one epoch, as they are sealed.
//!
//! ```text
//! "KMSQ" ‖ u8 version 1 ‖ context id (32) ‖ epoch id (32) ‖ u16 n ‖ u16 t ‖ u16 index ‖ u32 attempt
//! ‖ u32 number of commitments ‖ per commitment: 32 bytes        none, or one for every set, bitmaps ascending
//! ‖ u32 number of keys ‖ per key: u32 set bitmap ‖ 16 bytes     one for every set with this party, bitmaps ascending
//! ```
//! All numbers big endian. Bit `i − 1` of a set bitmap stands for party `i`; the sets are all sets of n − t parties.
//!
//! A **commitment** to r_A is SHA-256 of r_A with everything that it belongs to. Whoever knows it can't compute r_A, which
//! has 128 bits of entropy, but can check it: so a party that lacks the keys of its sets may take each from any one other
//! member, if the commitments are those that the committee agreed on. The **digest** of all commitments names the key set.

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::FloodBound;
use crate::rounding::MAX_SETS;

/// First bytes.
pub const MAGIC: [u8; 4] = *b"KMSQ";
/// The only version.
pub const VERSION: u8 = 1;
/// Size of a commitment.
pub const COMMITMENT_BYTES: usize = 32;
/// No object is larger: 2,000 commitments and keys.
pub const MAX_BYTES: usize = 128 * 1024;

/// The key r_A of one set of parties.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PrssKey {
    /// The members: bit `i − 1` for party `i`.
    pub set: u32,
    /// r_A.
    pub key: [u8; 16],
}

impl core::fmt::Debug for PrssKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PrssKey").field("set", &self.set).finish_non_exhaustive()
    }
}

/// What one set-up of pseudorandom keys is for. Everything that comes out of it is bound to all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Zeroize)]
pub struct PrssRun {
    /// The committee.
    pub context_id: [u8; 32],
    /// The epoch.
    pub epoch_id: [u8; 32],
    /// Which attempt, from 1.
    pub attempt: u32,
}

impl PrssRun {
    fn hash(&self, label: &[u8; 14]) -> Sha256 {
        let hash = Sha256::new().chain_update(label).chain_update(self.context_id).chain_update(self.epoch_id);
        hash.chain_update(self.attempt.to_be_bytes())
    }

    /// SHA-256("KMS-PRSS-SET-1" ‖ context id ‖ epoch id ‖ u32 attempt ‖ u32 set ‖ r_A).
    #[must_use]
    pub fn commitment(&self, key: &PrssKey) -> [u8; COMMITMENT_BYTES] {
        let hash = self.hash(b"KMS-PRSS-SET-1").chain_update(key.set.to_be_bytes());
        hash.chain_update(key.key).finalize().into()
    }

    /// SHA-256("KMS-PRSS-ALL-1" ‖ context id ‖ epoch id ‖ u32 attempt ‖ commitments of all sets, bitmaps ascending).
    #[must_use]
    pub fn digest(&self, commitments: &[[u8; COMMITMENT_BYTES]]) -> [u8; 32] {
        let hash = self.hash(b"KMS-PRSS-ALL-1");
        commitments.iter().fold(hash, |hash, c| hash.chain_update(c)).finalize().into()
    }
}

/// The sets of n − t out of n parties, by ascending bitmap.
pub fn sets(n: u16, t: u16) -> impl Iterator<Item = u32> + Clone {
    // Gosper's hack: the next larger integer with the same number of ones.
    let size = u32::from(n.saturating_sub(t)).min(31);
    let end = 1u64 << n.min(31);
    let first = (1u64 << size) - 1;
    core::iter::successors(Some(first), |&set| {
        let low = set & set.wrapping_neg();
        let ripple = set + low;
        Some(ripple | (((set ^ ripple) >> 2) / low.max(1)))
    })
    .take_while(move |set| *set < end && *set > 0)
    .filter_map(|set| u32::try_from(set).ok())
}

/// All that one party keeps of a set-up.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PrssKeys {
    /// What they are for.
    #[zeroize(skip)]
    pub run: PrssRun,
    /// Number of parties.
    pub n: u16,
    /// Number of corruptions tolerated.
    pub t: u16,
    /// The party whose keys these are, 1..=n.
    pub index: u16,
    /// Commitments to the keys of all sets, by ascending bitmap; none as long as the committee has not agreed on them.
    #[zeroize(skip)]
    pub commitments: Vec<[u8; COMMITMENT_BYTES]>,
    /// Keys of the sets that this party is a member of, by ascending bitmap.
    pub keys: Vec<PrssKey>,
}

impl core::fmt::Debug for PrssKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PrssKeys")
            .field("attempt", &self.run.attempt)
            .field("n", &self.n)
            .field("t", &self.t)
            .field("index", &self.index)
            .field("agreed", &!self.commitments.is_empty())
            .finish_non_exhaustive()
    }
}

/// Why bytes are no pseudorandom keys of a party.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrssKeysError {
    /// Larger than [`MAX_BYTES`].
    #[error("pseudorandom keys have at most {MAX_BYTES} bytes, these have {0}")]
    TooLarge(usize),
    /// Ends too early.
    #[error("the pseudorandom keys are truncated")]
    Truncated,
    /// Bytes after the end.
    #[error("the pseudorandom keys have {0} bytes too many")]
    Trailing(usize),
    /// Not pseudorandom keys at all.
    #[error("these are no pseudorandom keys")]
    Magic,
    /// A version from the future.
    #[error("version {0} of pseudorandom keys is not supported")]
    Version(u8),
    /// Impossible committee or attempt.
    #[error("attempt {attempt} of party {index} of {n} with {t} faults is not possible")]
    Committee {
        /// Parties.
        n: u16,
        /// Faults.
        t: u16,
        /// The party.
        index: u16,
        /// The attempt.
        attempt: u32,
    },
    /// Not exactly one key for each set of n − t parties that contains the party.
    #[error("the keys are not those of the sets of party {index}")]
    Sets {
        /// The party.
        index: u16,
    },
    /// Neither none nor one commitment for each set.
    #[error("{got} commitments, there are {expected} sets")]
    Commitments {
        /// Number of sets.
        expected: usize,
        /// Number of commitments.
        got: usize,
    },
    /// A key is not the one that the committee agreed on.
    #[error("the key of set {set:#b} is not the one that was agreed on")]
    Mismatch {
        /// The set.
        set: u32,
    },
}

impl PrssKeys {
    /// Sets with this party, and whether `n`, `t` and `index` are possible at all.
    fn own_sets(&self) -> Result<impl Iterator<Item = u32> + Clone + use<>, PrssKeysError> {
        let Self { n, t, index, .. } = *self;
        let attempt = self.run.attempt;
        let possible = FloodBound::new(n.into(), t.into()).is_ok() && index >= 1 && index <= n && attempt >= 1;
        if !possible {
            return Err(PrssKeysError::Committee { n, t, index, attempt });
        }
        Ok(sets(n, t).filter(move |set| set >> (index - 1) & 1 == 1))
    }

    /// Whether the committee has agreed on these keys.
    #[must_use]
    pub const fn agreed(&self) -> bool {
        !self.commitments.is_empty()
    }

    /// Checks that the parts fit each other.
    ///
    /// # Errors
    /// See [`PrssKeysError`].
    pub fn check(&self) -> Result<(), PrssKeysError> {
        let (n, t, index) = (self.n, self.t, self.index);
        if !self.own_sets()?.eq(self.keys.iter().map(|key| key.set)) {
            return Err(PrssKeysError::Sets { index });
        }
        if self.commitments.is_empty() {
            return Ok(());
        }
        let (expected, got) = (sets(n, t).count(), self.commitments.len());
        if expected != got {
            return Err(PrssKeysError::Commitments { expected, got });
        }
        let mut keys = self.keys.iter().peekable();
        for (set, commitment) in sets(n, t).zip(&self.commitments) {
            if let Some(key) = keys.next_if(|key| key.set == set)
                && self.run.commitment(key) != *commitment
            {
                return Err(PrssKeysError::Mismatch { set });
            }
        }
        Ok(())
    }

    /// Writes the object.
    ///
    /// # Errors
    /// The parts don't fit each other; see [`Self::check`].
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, PrssKeysError> {
        self.check()?;
        // Exact, so that no copy of a secret is left behind by a growing buffer.
        let size = 87 + COMMITMENT_BYTES * self.commitments.len() + 20 * self.keys.len();
        let mut out = Zeroizing::new(Vec::with_capacity(size));
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&self.run.context_id);
        out.extend_from_slice(&self.run.epoch_id);
        for number in [self.n, self.t, self.index] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.run.attempt.to_be_bytes());
        // At most 2,000 of either.
        out.extend_from_slice(&(self.commitments.len() as u32).to_be_bytes());
        for commitment in &self.commitments {
            out.extend_from_slice(commitment);
        }
        out.extend_from_slice(&(self.keys.len() as u32).to_be_bytes());
        for key in &self.keys {
            out.extend_from_slice(&key.set.to_be_bytes());
            out.extend_from_slice(&key.key);
        }
        debug_assert_eq!(out.len(), size);
        Ok(out)
    }

    /// Reads an object. Allocates no more than the size of `bytes` justifies.
    ///
    /// # Errors
    /// See [`PrssKeysError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PrssKeysError> {
        if bytes.len() > MAX_BYTES {
            return Err(PrssKeysError::TooLarge(bytes.len()));
        }
        let mut rest = bytes;
        if take::<4>(&mut rest)? != MAGIC {
            return Err(PrssKeysError::Magic);
        }
        let [version] = take(&mut rest)?;
        if version != VERSION {
            return Err(PrssKeysError::Version(version));
        }
        let [context_id, epoch_id] = [take(&mut rest)?, take(&mut rest)?];
        let mut number = || take(&mut rest).map(u16::from_be_bytes);
        let [n, t, index] = [number()?, number()?, number()?];
        let attempt = u32::from_be_bytes(take(&mut rest)?);
        let run = PrssRun { context_id, epoch_id, attempt };
        let commitments = list(&mut rest, COMMITMENT_BYTES, take)?;
        let key = |rest: &mut &[u8]| Ok(PrssKey { set: u32::from_be_bytes(take(rest)?), key: take(rest)? });
        let keys = list(&mut rest, 20, key)?;
        if !rest.is_empty() {
            return Err(PrssKeysError::Trailing(rest.len()));
        }
        let keys = Self { run, n, t, index, commitments, keys };
        keys.check()?;
        Ok(keys)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], PrssKeysError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(PrssKeysError::Truncated)?;
    *rest = tail;
    Ok(*head)
}

/// A count and that many items of `size` bytes; nothing is allocated unless all of them are there.
fn list<T>(
    rest: &mut &[u8],
    size: usize,
    mut item: impl FnMut(&mut &[u8]) -> Result<T, PrssKeysError>,
) -> Result<Vec<T>, PrssKeysError> {
    let count = u32::from_be_bytes(take(rest)?);
    if u64::from(count) > MAX_SETS || rest.len() / size < count as usize {
        return Err(PrssKeysError::Truncated);
    }
    let mut items = Vec::with_capacity(count as usize);
    for _ in 0..count {
        items.push(item(rest)?);
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Party 2 of 4 with one fault: the sets of three that contain it.
    fn sample(agreed: bool) -> PrssKeys {
        let run = PrssRun { context_id: [1; 32], epoch_id: [2; 32], attempt: 3 };
        let key = |set: u32| PrssKey { set, key: [set as u8; 16] };
        let commitments = if agreed { sets(4, 1).map(|set| run.commitment(&key(set))).collect() } else { Vec::new() };
        PrssKeys { run, n: 4, t: 1, index: 2, commitments, keys: [0b0111, 0b1011, 0b1110].map(key).to_vec() }
    }

    #[test]
    fn sets_are_complete_and_ascending() {
        assert_eq!(sets(4, 1).collect::<Vec<_>>(), [0b0111, 0b1011, 0b1101, 0b1110]);
        for (n, t, count) in [(7, 2, 21), (10, 3, 120), (13, 4, 715), (16, 4, 1820), (31, 1, 31)] {
            let all: Vec<_> = sets(n, t).collect();
            assert_eq!(all.len(), count);
            assert!(all.windows(2).all(|w| w[0] < w[1]));
            assert!(all.iter().all(|set| set.count_ones() == u32::from(n - t) && u64::from(*set) >> n == 0));
        }
    }

    #[test]
    fn round_trip_and_layout() {
        for agreed in [false, true] {
            let keys = sample(agreed);
            let bytes = keys.to_bytes().unwrap();
            assert_eq!(bytes[..5], *b"KMSQ\x01");
            assert_eq!(bytes[69..79], [0, 4, 0, 1, 0, 2, 0, 0, 0, 3]);
            assert_eq!(PrssKeys::from_bytes(&bytes).unwrap(), keys);
            assert_eq!(keys.agreed(), agreed);
        }
        let largest = 87 + (COMMITMENT_BYTES + 20) * usize::try_from(MAX_SETS).unwrap();
        assert!(largest <= MAX_BYTES);
    }

    #[test]
    fn hashes_depend_on_everything_that_a_key_belongs_to() {
        let run = sample(false).run;
        let key = PrssKey { set: 7, key: [9; 16] };
        let others = [
            PrssRun { context_id: [9; 32], ..run },
            PrssRun { epoch_id: [9; 32], ..run },
            PrssRun { attempt: 4, ..run },
        ];
        for other in others {
            assert_ne!(other.commitment(&key), run.commitment(&key));
            assert_ne!(other.digest(&[[1; 32]]), run.digest(&[[1; 32]]));
        }
        assert_ne!(run.commitment(&PrssKey { set: 11, ..key.clone() }), run.commitment(&key));
        assert_ne!(run.commitment(&PrssKey { key: [8; 16], ..key.clone() }), run.commitment(&key));
        assert_ne!(run.digest(&[[1; 32], [2; 32]]), run.digest(&[[2; 32], [1; 32]]));
    }

    #[test]
    fn debug_shows_no_key() {
        let text = format!("{:?} {:?}", sample(true), sample(true).keys[0]);
        assert!(!text.contains("key:") && !text.contains("keys"), "{text}");
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let error = |change: fn(&mut PrssKeys)| {
            let mut keys = sample(true);
            change(&mut keys);
            keys.to_bytes().unwrap_err()
        };
        let committee = |n, t, index, attempt| PrssKeysError::Committee { n, t, index, attempt };
        assert_eq!(error(|k| k.index = 0), committee(4, 1, 0, 3));
        assert_eq!(error(|k| k.index = 5), committee(4, 1, 5, 3));
        assert_eq!(error(|k| k.t = 2), committee(4, 2, 2, 3));
        assert_eq!(error(|k| k.run.attempt = 0), committee(4, 1, 2, 0));
        let changes: [fn(&mut PrssKeys); 5] = [
            |k| k.keys.reverse(),
            |k| k.keys.truncate(2),
            |k| k.keys[0].set = 0b1101,
            |k| k.keys[2].set = 0b1111,
            |k| k.keys[2].set = 0b10011,
        ];
        for change in changes {
            assert_eq!(error(change), PrssKeysError::Sets { index: 2 });
        }
        assert_eq!(error(|k| k.commitments.truncate(3)), PrssKeysError::Commitments { expected: 4, got: 3 });
        assert_eq!(error(|k| k.commitments.reverse()), PrssKeysError::Mismatch { set: 0b0111 });
        assert_eq!(error(|k| k.keys[1].key[15] ^= 1), PrssKeysError::Mismatch { set: 0b1011 });
    }

    #[test]
    fn every_truncation_and_garbage_is_an_error() {
        let bytes = sample(true).to_bytes().unwrap();
        for n in 0..bytes.len() {
            assert!(PrssKeys::from_bytes(&bytes[..n]).is_err());
        }
        assert_eq!(PrssKeys::from_bytes(&[&bytes[..], &[0]].concat()), Err(PrssKeysError::Trailing(1)));
        assert_eq!(PrssKeys::from_bytes(&vec![0; MAX_BYTES + 1]), Err(PrssKeysError::TooLarge(MAX_BYTES + 1)));
        let mut version = bytes.to_vec();
        version[4] = 2;
        assert_eq!(PrssKeys::from_bytes(&version), Err(PrssKeysError::Version(2)));
    }

    proptest! {
        #[test]
        fn mutants_never_parse_to_nonsense(edits in proptest::collection::vec((4usize..275, any::<u8>()), 1..6)) {
            let mut bytes = sample(true).to_bytes().unwrap().to_vec();
            for (at, byte) in edits {
                bytes[at] = byte;
            }
            if let Ok(keys) = PrssKeys::from_bytes(&bytes) {
                prop_assert_eq!(keys.to_bytes().unwrap().to_vec(), bytes);
            }
        }
    }
}
