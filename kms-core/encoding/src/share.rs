//! The share file: what a dealer (later: a finished key generation) hands to one party.
//!
//! ```text
//! "KMSS" ‖ u8 version 2 ‖ u8 params id ‖ context id (32) ‖ key id (32) ‖ epoch id (32)
//! ‖ u16 n ‖ u16 t ‖ u16 index ‖ u8 degree ‖ u8 number of vectors
//! ‖ per vector: u8 kind ‖ u32 length ‖ degree × length × u128      kinds strictly ascending
//! ‖ SHA-256 of everything before (32)
//! ```
//! All numbers big endian. A vector of `length` elements of GR(2^128, degree) is stored coordinate by coordinate: first
//! the constant coefficients of all elements, then the coefficients of X, and so on. That is the layout that the dot
//! products of the threshold decryption stream through.
//!
//! Pseudorandom keys are not in it: the parties make them among themselves ([`crate::prss_keys`]). Version 1, which
//! carried dealt ones, is refused.
//!
//! The trailing hash finds accidents, not attackers: the file is secret and travels over a trusted way.

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{FloodBound, ParamsId, SecretKeyKind};

/// First bytes of a share file.
pub const MAGIC: [u8; 4] = *b"KMSS";
/// The only version.
pub const VERSION: u8 = 2;
/// No share file is larger.
pub const MAX_BYTES: usize = 4 << 20;
const HASH_BYTES: usize = 32;

/// One party's shares of a vector over GR(2^128, degree).
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ShareVector {
    #[zeroize(skip)]
    kind: SecretKeyKind,
    #[zeroize(skip)]
    length: usize,
    words: Vec<u128>,
}

impl ShareVector {
    /// A vector of `words.len() / degree` elements, coordinate by coordinate.
    ///
    /// # Errors
    /// The words don't make whole coordinates, or there are none.
    pub fn new(kind: SecretKeyKind, degree: u8, words: Vec<u128>) -> Result<Self, ShareFileError> {
        let degree = usize::from(degree);
        if degree == 0 || words.is_empty() || !words.len().is_multiple_of(degree) {
            let mut words = words;
            words.zeroize();
            return Err(ShareFileError::Vector { kind });
        }
        Ok(Self { kind, length: words.len() / degree, words })
    }

    /// Which secret key these are shares of.
    #[must_use]
    pub const fn kind(&self) -> SecretKeyKind {
        self.kind
    }

    /// Number of ring elements: the LWE dimension of the key.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "never empty by construction")]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Number of coordinates of a ring element.
    #[must_use]
    pub fn degree(&self) -> usize {
        self.words.len() / self.length
    }

    /// The coefficients of X^`c` of all elements. Panics for `c` not below the degree, like any slice.
    #[must_use]
    pub fn coordinate(&self, c: usize) -> &[u128] {
        &self.words[c * self.length..(c + 1) * self.length]
    }
}

/// Everything that one party receives.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ShareFile {
    /// Parameter set of the key.
    #[zeroize(skip)]
    pub params: ParamsId,
    /// The committee.
    pub context_id: [u8; 32],
    /// The FHE key.
    pub key_id: [u8; 32],
    /// The epoch of this sharing.
    pub epoch_id: [u8; 32],
    /// Number of parties.
    pub n: u16,
    /// Number of corruptions tolerated.
    pub t: u16,
    /// The party that this file is for, 1..=n.
    pub index: u16,
    /// Degree of the Galois ring.
    pub degree: u8,
    /// Shares of the secret keys, at most one vector per kind, ascending.
    pub vectors: Vec<ShareVector>,
}

impl core::fmt::Debug for ShareFile {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ShareFile")
            .field("params", &self.params)
            .field("n", &self.n)
            .field("t", &self.t)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl core::fmt::Debug for ShareVector {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ShareVector").field("kind", &self.kind).field("length", &self.length).finish_non_exhaustive()
    }
}

/// Why bytes are not a share file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareFileError {
    /// Larger than [`MAX_BYTES`].
    #[error("a share file has at most {MAX_BYTES} bytes, this has {0}")]
    TooLarge(usize),
    /// Ends too early.
    #[error("the share file is truncated")]
    Truncated,
    /// Bytes after the end.
    #[error("the share file has {0} bytes too many")]
    Trailing(usize),
    /// Not a share file at all.
    #[error("this is not a share file")]
    Magic,
    /// A version from the future.
    #[error("share file version {0} is not supported")]
    Version(u8),
    /// The hash at the end is wrong: the file was damaged.
    #[error("the checksum of the share file is wrong: it was damaged")]
    Checksum,
    /// Unknown parameter set.
    #[error("unknown parameter set 0x{0:02x}")]
    Params(u8),
    /// Impossible committee.
    #[error("party {index} of {n} with {t} faults is not possible")]
    Committee {
        /// Parties.
        n: u16,
        /// Faults.
        t: u16,
        /// This party.
        index: u16,
    },
    /// The ring's degree does not belong to this number of parties.
    #[error("a committee of {n} uses another ring degree than {degree}")]
    Degree {
        /// Parties.
        n: u16,
        /// Degree in the file.
        degree: u8,
    },
    /// Unknown kind of vector.
    #[error("unknown secret key kind {0}")]
    Kind(u8),
    /// A vector is missing, repeated, out of order, or has a wrong length.
    #[error("the shares of {kind:?} are out of order or have a wrong length")]
    Vector {
        /// Which.
        kind: SecretKeyKind,
    },
}

/// Degree of the Galois ring for a committee of `n`: 4 up to 15 parties, 5 up to 31.
#[must_use]
pub const fn ring_degree(n: u16) -> u8 {
    if n <= 15 { 4 } else { 5 }
}

impl ShareFile {
    /// Checks that the parts fit each other.
    ///
    /// # Errors
    /// See [`ShareFileError`].
    pub fn check(&self) -> Result<(), ShareFileError> {
        let Self { n, t, index, degree, .. } = *self;
        FloodBound::new(n.into(), t.into()).map_err(|_| ShareFileError::Committee { n, t, index })?;
        if index == 0 || index > n {
            return Err(ShareFileError::Committee { n, t, index });
        }
        if degree != ring_degree(n) {
            return Err(ShareFileError::Degree { n, degree });
        }
        if self.vectors.first().map(ShareVector::kind) != Some(SecretKeyKind::Squashing) {
            return Err(ShareFileError::Vector { kind: SecretKeyKind::Squashing });
        }
        for (i, v) in self.vectors.iter().enumerate() {
            let ordered = i == 0 || self.vectors[i - 1].kind() < v.kind();
            if !ordered || v.len() != self.params.dimension(v.kind()) || v.degree() != usize::from(degree) {
                return Err(ShareFileError::Vector { kind: v.kind() });
            }
        }
        Ok(())
    }

    /// Writes the file.
    ///
    /// # Errors
    /// The parts don't fit each other; see [`Self::check`].
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, ShareFileError> {
        self.check()?;
        let words: usize = self.vectors.iter().map(|v| v.words.len()).sum();
        // Exact, so that no copy of a secret is left behind by a growing buffer.
        let size = 110 + 5 * self.vectors.len() + 16 * words + HASH_BYTES;
        let mut out = Zeroizing::new(Vec::with_capacity(size));
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, self.params.to_u8()]);
        for id in [&self.context_id, &self.key_id, &self.epoch_id] {
            out.extend_from_slice(id);
        }
        for number in [self.n, self.t, self.index] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        // At most two vectors, of at most 6,144 elements.
        out.extend_from_slice(&[self.degree, self.vectors.len() as u8]);
        for v in &self.vectors {
            out.push(v.kind.to_u8());
            out.extend_from_slice(&(v.length as u32).to_be_bytes());
            for word in &v.words {
                out.extend_from_slice(&word.to_be_bytes());
            }
        }
        let hash = Sha256::digest(&out[..]);
        out.extend_from_slice(&hash);
        debug_assert_eq!(out.len(), size);
        Ok(out)
    }

    /// Reads a file. Allocates no more than the size of `bytes` justifies.
    ///
    /// # Errors
    /// See [`ShareFileError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ShareFileError> {
        if bytes.len() > MAX_BYTES {
            return Err(ShareFileError::TooLarge(bytes.len()));
        }
        let mut r = Reader(bytes);
        if r.array()? != MAGIC {
            return Err(ShareFileError::Magic);
        }
        let version = r.u8()?;
        if version != VERSION {
            return Err(ShareFileError::Version(version));
        }
        let (content, hash) = bytes.split_last_chunk::<HASH_BYTES>().ok_or(ShareFileError::Truncated)?;
        if Sha256::digest(content)[..] != hash[..] {
            return Err(ShareFileError::Checksum);
        }
        let mut r = Reader(content.get(MAGIC.len() + 1..).ok_or(ShareFileError::Truncated)?);
        let params = r.u8()?;
        let params = ParamsId::from_u8(params).ok_or(ShareFileError::Params(params))?;
        let [context_id, key_id, epoch_id] = [r.array()?, r.array()?, r.array()?];
        let [n, t, index] = [r.u16()?, r.u16()?, r.u16()?];
        let degree = r.u8()?;
        let vectors = (0..r.u8()?).map(|_| r.vector(degree)).collect::<Result<_, _>>()?;
        let file = Self { params, context_id, key_id, epoch_id, n, t, index, degree, vectors };
        if !r.0.is_empty() {
            return Err(ShareFileError::Trailing(r.0.len()));
        }
        file.check()?;
        Ok(file)
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ShareFileError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(ShareFileError::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, ShareFileError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, ShareFileError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, ShareFileError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn vector(&mut self, degree: u8) -> Result<ShareVector, ShareFileError> {
        let kind = self.u8()?;
        let kind = SecretKeyKind::from_u8(kind).ok_or(ShareFileError::Kind(kind))?;
        // A length in 32 bits times a degree in 8 bits times 16 fits 64 bits.
        let size = u64::from(self.u32()?) * u64::from(degree) * 16;
        let size = usize::try_from(size).map_err(|_| ShareFileError::Truncated)?;
        let (head, tail) = self.0.split_at_checked(size).ok_or(ShareFileError::Truncated)?;
        self.0 = tail;
        let words = head.as_chunks().0.iter().map(|w| u128::from_be_bytes(*w)).collect();
        ShareVector::new(kind, degree, words)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(compression: bool) -> ShareFile {
        let params = ParamsId::InsecureTest;
        let vector = |kind| {
            let words = (0..4 * params.dimension(kind) as u128).map(|i| i << 100 | i).collect();
            ShareVector::new(kind, 4, words).unwrap()
        };
        let mut vectors = vec![vector(SecretKeyKind::Squashing)];
        if compression {
            vectors.push(vector(SecretKeyKind::SquashedCompression));
        }
        ShareFile {
            params,
            context_id: [1; 32],
            key_id: [2; 32],
            epoch_id: [3; 32],
            n: 4,
            t: 1,
            index: 2,
            degree: 4,
            vectors,
        }
    }

    /// Recomputes the trailing hash, so that the mutation is seen by the parser behind it.
    fn rehash(bytes: &mut [u8]) {
        if let Some((content, hash)) = bytes.split_last_chunk_mut::<HASH_BYTES>() {
            hash.copy_from_slice(&Sha256::digest(content));
        }
    }

    #[test]
    fn round_trip_and_layout() {
        for compression in [false, true] {
            let file = sample(compression);
            let bytes = file.to_bytes().unwrap();
            assert_eq!(bytes[..6], [b'K', b'M', b'S', b'S', 2, 0xF1]);
            assert_eq!(ShareFile::from_bytes(&bytes).unwrap(), file);
        }
        let file = sample(false);
        assert_eq!(file.vectors[0].coordinate(1)[3], (256 + 3) << 100 | (256 + 3));
        assert_eq!(file.to_bytes().unwrap()[110..115], [1, 0, 0, 1, 0]);
    }

    #[test]
    fn debug_shows_no_share() {
        let text = format!("{:?} {:?}", sample(true), sample(true).vectors[0]);
        assert!(!text.contains("words"), "{text}");
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let error = |change: &dyn Fn(&mut ShareFile)| {
            let mut file = sample(true);
            change(&mut file);
            file.to_bytes().unwrap_err()
        };
        assert_eq!(error(&|f| f.index = 0), ShareFileError::Committee { n: 4, t: 1, index: 0 });
        assert_eq!(error(&|f| f.index = 5), ShareFileError::Committee { n: 4, t: 1, index: 5 });
        assert_eq!(error(&|f| f.t = 2), ShareFileError::Committee { n: 4, t: 2, index: 2 });
        assert_eq!(error(&|f| f.degree = 5), ShareFileError::Degree { n: 4, degree: 5 });
        assert_eq!(error(&|f| f.vectors.reverse()), ShareFileError::Vector { kind: SecretKeyKind::Squashing });
        assert_eq!(error(&|f| f.vectors.clear()), ShareFileError::Vector { kind: SecretKeyKind::Squashing });
        let production = |f: &mut ShareFile| f.params = ParamsId::Production;
        assert_eq!(error(&production), ShareFileError::Vector { kind: SecretKeyKind::Squashing });
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_an_error() {
        let bytes = sample(false).to_bytes().unwrap();
        for n in (0..300).chain(bytes.len() - 100..bytes.len()) {
            assert!(ShareFile::from_bytes(&bytes[..n]).is_err());
        }
        for bit in (0..150 * 8).chain((bytes.len() - 100) * 8..bytes.len() * 8) {
            let mut b = bytes.to_vec();
            b[bit / 8] ^= 1 << (bit % 8);
            assert!(ShareFile::from_bytes(&b).is_err(), "bit {bit}");
        }
        assert_eq!(ShareFile::from_bytes(&vec![0; MAX_BYTES + 1]), Err(ShareFileError::TooLarge(MAX_BYTES + 1)));
    }

    #[test]
    fn lengths_are_not_believed() {
        // Behind a right checksum.
        let bytes = sample(false).to_bytes().unwrap();
        let mut b = bytes.to_vec();
        b[111..115].fill(0xff);
        rehash(&mut b);
        assert_eq!(ShareFile::from_bytes(&b), Err(ShareFileError::Truncated));
        let mut b = bytes.to_vec();
        b.extend_from_slice(&[0; 7]);
        rehash(&mut b);
        assert_eq!(ShareFile::from_bytes(&b), Err(ShareFileError::Trailing(7)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn mutated_headers_never_parse_to_nonsense(edits in proptest::collection::vec((4usize..130, any::<u8>()), 1..6), cut in 0usize..200) {
            let mut bytes = sample(false).to_bytes().unwrap().to_vec();
            for (at, byte) in edits {
                bytes[at] = byte;
            }
            bytes.truncate(bytes.len() - cut);
            rehash(&mut bytes);
            if let Ok(file) = ShareFile::from_bytes(&bytes) {
                prop_assert_eq!(file.to_bytes().unwrap().to_vec(), bytes);
            }
        }

        #[test]
        fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(ShareFile::from_bytes(&bytes).is_err());
        }
    }
}
