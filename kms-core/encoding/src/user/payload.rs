//! What a party seals: its masked, unopened partial decryptions.
//!
//! ```text
//! "KMSU" ‖ u8 version 1 ‖ u8 degree d ‖ u16 BE handles h ‖ h × u16 BE blocks ‖ d × elements × 16 bytes
//! ```
//! All blocks of the request in the order of its handles, packed d per ring element as in the opening between the parties;
//! the words coefficient-major and little-endian. Everything but the words follows from the request, so a payload of
//! another shape is refused before anything is allocated.

use core::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::FheType;

const MAGIC: [u8; 4] = *b"KMSU";
/// The only version.
pub const PAYLOAD_VERSION: u8 = 1;
const WORD_BYTES: usize = 16;

/// Ring elements that the blocks of these types need, `degree` blocks in each.
#[must_use]
pub fn packed_elements(degree: u8, types: &[FheType]) -> usize {
    let blocks: usize = types.iter().map(|ty| ty.squashed_blocks()).sum();
    blocks.div_ceil(usize::from(degree).max(1))
}

/// Why bytes, or words, are no payload of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// Another length than the request needs.
    #[error("{got} bytes, a payload of this request has {expected}")]
    Length {
        /// Bytes of a payload of the request.
        expected: usize,
        /// Bytes there are.
        got: usize,
    },
    /// Not a payload, of another version, for another ring or for other types.
    #[error("the header is not that of a payload of this request")]
    Header,
    /// Another number of words than the request needs.
    #[error("{got} words, a payload of this request has {expected}")]
    Words {
        /// Words of a payload of the request.
        expected: usize,
        /// Words there are.
        got: usize,
    },
}

impl PayloadError {
    /// Stable label, the same in the golden file.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Length { .. } => "PayloadLength",
            Self::Header => "PayloadHeader",
            Self::Words { .. } => "PayloadWords",
        }
    }
}

/// One party's masked shares of all blocks of a request. Erased on drop: 2t + 1 of them are the plaintext.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SharePayload {
    #[zeroize(skip)]
    degree: u8,
    #[zeroize(skip)]
    header: Vec<u8>,
    words: Vec<u128>,
}

impl fmt::Debug for SharePayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharePayload").field("degree", &self.degree).finish_non_exhaustive()
    }
}

fn header(degree: u8, types: &[FheType]) -> Vec<u8> {
    let mut header = Vec::with_capacity(8 + 2 * types.len());
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&[PAYLOAD_VERSION, degree]);
    // At most MAX_HANDLES handles of at most 64 blocks.
    header.extend_from_slice(&(types.len() as u16).to_be_bytes());
    for ty in types {
        header.extend_from_slice(&(ty.squashed_blocks() as u16).to_be_bytes());
    }
    header
}

impl SharePayload {
    /// The payload of these packed words: the constant coefficients of all elements, then those of X, and so on. They are
    /// the words of the share message of the opening, see `kms_mpc::wire`.
    ///
    /// # Errors
    /// [`PayloadError::Words`].
    pub fn new(degree: u8, types: &[FheType], words: Vec<u128>) -> Result<Self, PayloadError> {
        let payload = Self { degree, header: header(degree, types), words };
        let (expected, got) = (packed_elements(degree, types) * usize::from(degree), payload.words.len());
        if expected == got { Ok(payload) } else { Err(PayloadError::Words { expected, got }) }
    }

    /// The degree of the ring.
    #[must_use]
    pub const fn degree(&self) -> u8 {
        self.degree
    }

    /// The words, coefficient-major.
    #[must_use]
    pub fn words(&self) -> &[u128] {
        &self.words
    }

    /// Takes the words out.
    #[must_use]
    pub fn into_words(mut self) -> Vec<u128> {
        core::mem::take(&mut self.words)
    }

    /// Writes the payload.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Exact, so that no copy of a secret is left behind by a growing buffer; the tag of the envelope fits too.
        let size = self.header.len() + self.words.len() * WORD_BYTES;
        let mut out = Zeroizing::new(Vec::with_capacity(size + super::envelope::TAG_BYTES));
        out.extend_from_slice(&self.header);
        for word in &self.words {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out
    }

    /// Reads the payload of a request for these types from a committee with this ring.
    ///
    /// # Errors
    /// The bytes are not exactly that.
    pub fn from_bytes(bytes: &[u8], degree: u8, types: &[FheType]) -> Result<Self, PayloadError> {
        let header = header(degree, types);
        let expected = header.len() + packed_elements(degree, types) * usize::from(degree) * WORD_BYTES;
        match bytes.split_at_checked(header.len()) {
            Some((head, body)) if bytes.len() == expected => {
                if head != header {
                    return Err(PayloadError::Header);
                }
                let words = body.as_chunks().0.iter().map(|word| u128::from_le_bytes(*word)).collect();
                Ok(Self { degree, header, words })
            }
            _ => Err(PayloadError::Length { expected, got: bytes.len() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPES: [FheType; 2] = [FheType::Uint16, FheType::Bool];

    #[test]
    fn layout_is_pinned() {
        let payload = SharePayload::new(4, &TYPES, (1..=8).collect()).unwrap();
        let bytes = payload.to_bytes();
        assert_eq!(bytes[..12], *b"KMSU\x01\x04\0\x02\0\x04\0\x01");
        assert_eq!((bytes.len(), bytes[12], bytes[13], bytes[28]), (12 + 8 * 16, 1, 0, 2));
        assert_eq!(SharePayload::from_bytes(&bytes, 4, &TYPES), Ok(payload));
    }

    #[test]
    fn everything_else_is_refused() {
        let bytes = SharePayload::new(4, &TYPES, vec![9; 8]).unwrap().to_bytes();
        let expected = bytes.len();
        for cut in 0..bytes.len() {
            let got = SharePayload::from_bytes(&bytes[..cut], 4, &TYPES);
            assert_eq!(got, Err(PayloadError::Length { expected, got: cut }));
        }
        for i in 0..12 {
            let mut bad = bytes.to_vec();
            bad[i] ^= 1;
            assert_eq!(SharePayload::from_bytes(&bad, 4, &TYPES), Err(PayloadError::Header), "byte {i}");
        }
        // The same number of blocks, other types.
        let swapped = [FheType::Bool, FheType::Uint16];
        assert_eq!(SharePayload::from_bytes(&bytes, 4, &swapped), Err(PayloadError::Header));
        assert!(SharePayload::from_bytes(&bytes, 5, &TYPES).is_err());
        assert_eq!(SharePayload::new(4, &TYPES, vec![0; 7]), Err(PayloadError::Words { expected: 8, got: 7 }));
        assert_eq!(packed_elements(5, &TYPES), 1);
        assert_eq!(packed_elements(4, &[]), 0);
    }

    proptest! {
        #[test]
        fn payloads_round_trip(which in proptest::collection::vec(0..8usize, 1..20), degree in 4u8..=5, word: u128) {
            let types: Vec<FheType> = which.into_iter().map(|i| FheType::ALL[i]).collect();
            let words = packed_elements(degree, &types) * usize::from(degree);
            let words: Vec<u128> = (0..words as u128).map(|i| word.wrapping_mul(i)).collect();
            let payload = SharePayload::new(degree, &types, words.clone()).unwrap();
            let back = SharePayload::from_bytes(&payload.to_bytes(), degree, &types).unwrap();
            prop_assert_eq!(back.words(), &words[..]);
            prop_assert_eq!(back.into_words(), words);
        }
    }
}
