//! The bytes of a share message.
//!
//! ```text
//! "KMSP" ‖ u8 version 1 ‖ u8 degree D ‖ u8 word bytes (16) ‖ u8 0 ‖ u32 BE elements ‖ D × elements × 16 bytes
//! ```
//! Coefficient-major: the constant coefficients of all packed elements, then those of X, and so on; words
//! little-endian. The receiver knows how many elements a job has, so a message of another length is refused before
//! anything is allocated.

use bytes::{BufMut, Bytes, BytesMut};
use kms_algebra::{GrVec, Word};

/// First bytes of a share message.
pub const MAGIC: [u8; 4] = *b"KMSP";
/// The only version.
pub const VERSION: u8 = 1;
/// Bytes before the words.
pub const HEADER_BYTES: usize = 12;

/// Why bytes are no share message of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Another length than the job needs.
    #[error("{got} bytes, a share of this job has {expected}")]
    Length {
        /// Bytes of a share of the job.
        expected: usize,
        /// Bytes received.
        got: usize,
    },
    /// Not a share message, of another version, or for another ring or number of elements.
    #[error("the header is not that of a share of this job")]
    Header,
}

fn header<const D: usize>(elements: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&[VERSION, D as u8, u128::BYTES as u8, 0]);
    header[8..].copy_from_slice(&(elements as u32).to_be_bytes());
    header
}

/// Length of a message with this many elements.
#[must_use]
pub const fn message_len<const D: usize>(elements: usize) -> usize {
    HEADER_BYTES + elements * D * u128::BYTES
}

/// Writes packed shares.
#[must_use]
pub fn encode<const D: usize>(shares: &GrVec<u128, D>) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message_len::<D>(shares.len()));
    bytes.put_slice(&header::<D>(shares.len()));
    for word in shares.words() {
        bytes.put_u128_le(*word);
    }
    bytes.freeze()
}

/// Reads the shares of a job with this many packed elements.
///
/// # Errors
/// The bytes are not exactly that.
pub fn decode<const D: usize>(bytes: &[u8], elements: usize) -> Result<GrVec<u128, D>, WireError> {
    let expected = message_len::<D>(elements);
    if bytes.len() != expected {
        return Err(WireError::Length { expected, got: bytes.len() });
    }
    let (head, body) = bytes.split_at(HEADER_BYTES);
    if head != header::<D>(elements) {
        return Err(WireError::Header);
    }
    let words = body.chunks_exact(u128::BYTES).map(u128::read_le).collect();
    GrVec::from_words(words).ok_or(WireError::Header)
}

#[cfg(test)]
mod tests {
    use kms_algebra::Gr;

    use super::*;

    #[test]
    fn messages_round_trip_and_are_pinned() {
        let shares: GrVec<u128, 4> = [Gr([1, 2, 3, 4]), Gr([5, 6, 7, u128::MAX])].into_iter().collect();
        let bytes = encode(&shares);
        assert_eq!(&bytes[..28], b"KMSP\x01\x04\x10\0\0\0\0\x02\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(bytes[28], 5);
        assert_eq!(decode::<4>(&bytes, 2), Ok(shares));
    }

    #[test]
    fn everything_else_is_refused() {
        let bytes = encode(&GrVec::<u128, 4>::zeros(2));
        let expected = bytes.len();
        assert_eq!(decode::<4>(&bytes[1..], 2), Err(WireError::Length { expected, got: expected - 1 }));
        assert!(matches!(decode::<4>(&bytes, 3), Err(WireError::Length { .. })));
        assert!(matches!(decode::<5>(&bytes, 2), Err(WireError::Length { .. })));
        for i in 0..HEADER_BYTES {
            let mut bad = bytes.to_vec();
            bad[i] ^= 1;
            assert_eq!(decode::<4>(&bad, 2), Err(WireError::Header), "byte {i}");
        }
        assert!(decode::<4>(&[], 0).is_err());
    }
}
