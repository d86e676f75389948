//! The bytes of rows, tables and revealed rows; and of shares over any of the rings.
//!
//! ```text
//! header  "KMSV" ‖ u8 version 1 ‖ u8 kind ‖ u8 degree D ‖ u8 bytes of a word (8 or 16) ‖ u32 BE elements
//! vector  header ‖ D × elements words, little-endian, coefficient-major          (kind 1 row, kind 4 share)
//! table   header (kind 2, elements 0) ‖ u32 BE bitmap of dealers ‖ n × 32 bytes: digest of the own row or zeros
//!         ‖ u8 1 and n(n − 1)/2 × 32 bytes: hashes of all pairs of the own dealing; or u8 0 without a dealing
//! reveal  header (kind 3, elements of all rows together) ‖ rows as words, one row after the other
//! ```
//! Revealed rows and shares depend on what was agreed on before, so 32 bytes stand before their header: the transcript of
//! that ([`with_view`]). A party that has seen something else, which needs more than t wrong or late parties, does not
//! judge them.
//!
//! A row is (values + 1)·(t + 1) elements: for each value the coefficients of its polynomial, constant first. Every
//! length is known to the receiver before it looks at a byte.

use bytes::{BufMut, Bytes, BytesMut};
use kms_algebra::{GrVec, Word};

use super::dealing::Hash;
use crate::Committee;

/// First bytes of a message.
pub const MAGIC: [u8; 4] = *b"KMSV";
/// The only version.
pub const VERSION: u8 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 12;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A dealer's row for one party.
    Row = 1,
    /// What a party has received, and the table of its own dealing.
    Table = 2,
    /// Rows that a dealer makes public.
    Reveal = 3,
    /// Shares for an opening.
    Share = 4,
}

/// Why bytes are no message of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VssWireError {
    /// Another length than the message has.
    #[error("{got} bytes instead of {expected}")]
    Length {
        /// Bytes of a message.
        expected: usize,
        /// Bytes received.
        got: usize,
    },
    /// Another magic, version, kind, ring or number of elements.
    #[error("the header is not that of this round")]
    Header,
    /// A bitmap with parties outside the committee, or a digest without its bit.
    #[error("bits or digests that can't be")]
    Content,
}

fn header<W: Word, const D: usize>(kind: Kind, elements: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&[VERSION, kind as u8, D as u8, W::BYTES as u8]);
    header[8..].copy_from_slice(&(elements as u32).to_be_bytes());
    header
}

fn check<W: Word, const D: usize>(
    bytes: &[u8],
    kind: Kind,
    elements: usize,
    body: usize,
) -> Result<&[u8], VssWireError> {
    let expected = HEADER_BYTES + body;
    if bytes.len() != expected {
        return Err(VssWireError::Length { expected, got: bytes.len() });
    }
    let (head, body) = bytes.split_at(HEADER_BYTES);
    if head == header::<W, D>(kind, elements) { Ok(body) } else { Err(VssWireError::Header) }
}

/// Bytes before a message that depends on what was agreed on.
pub const VIEW_BYTES: usize = 32;

/// A message after the transcript of what its sender has seen.
#[must_use]
pub fn with_view(view: &Hash, message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(VIEW_BYTES + message.len());
    bytes.put_slice(view);
    bytes.put_slice(message);
    bytes.freeze()
}

/// The message, or `None` if its sender has seen something else.
///
/// # Errors
/// The bytes are too short.
pub fn without_view<'a>(view: &Hash, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, VssWireError> {
    let split = bytes.split_at_checked(VIEW_BYTES);
    let (seen, message) = split.ok_or(VssWireError::Length { expected: VIEW_BYTES, got: bytes.len() })?;
    Ok((seen == view).then_some(message))
}

/// Length of a vector with this many elements.
#[must_use]
pub const fn vector_len<W: Word, const D: usize>(elements: usize) -> usize {
    HEADER_BYTES + elements * D * W::BYTES
}

fn put_words<W: Word, const D: usize>(bytes: &mut BytesMut, vector: &GrVec<W, D>) {
    let mut word_bytes = [0u8; 16];
    for word in vector.words() {
        word.write_le(&mut word_bytes);
        bytes.put_slice(&word_bytes[..W::BYTES]);
    }
}

fn words<W: Word, const D: usize>(body: &[u8]) -> Result<GrVec<W, D>, VssWireError> {
    GrVec::from_words(body.chunks_exact(W::BYTES).map(W::read_le).collect()).ok_or(VssWireError::Header)
}

/// Writes a row or shares.
#[must_use]
pub fn encode_vector<W: Word, const D: usize>(kind: Kind, vector: &GrVec<W, D>) -> Bytes {
    let mut bytes = BytesMut::with_capacity(vector_len::<W, D>(vector.len()));
    bytes.put_slice(&header::<W, D>(kind, vector.len()));
    put_words(&mut bytes, vector);
    bytes.freeze()
}

/// Reads a row or shares of exactly this many elements.
///
/// # Errors
/// The bytes are not exactly that.
pub fn decode_vector<W: Word, const D: usize>(
    kind: Kind,
    bytes: &[u8],
    elements: usize,
) -> Result<GrVec<W, D>, VssWireError> {
    words(check::<W, D>(bytes, kind, elements, elements * D * W::BYTES)?)
}

/// What a party says about the rows it has received, and the table of its own dealing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// For each dealer the digest of its row; `None`: no row came.
    pub digests: Vec<Option<Hash>>,
    /// Hashes of all pairs i < j of the own dealing, in the order of [`super::dealing::pair`]; `None`: no dealing.
    pub pairs: Option<Vec<Hash>>,
}

/// Length of the longest table.
#[must_use]
pub const fn max_table_len(committee: &Committee) -> usize {
    let n = committee.n();
    HEADER_BYTES + 4 + 32 * n + 1 + 16 * n * (n - 1)
}

/// Writes a table.
#[must_use]
pub fn encode_table<W: Word, const D: usize>(committee: &Committee, table: &Table) -> Bytes {
    let mut bytes = BytesMut::with_capacity(max_table_len(committee));
    bytes.put_slice(&header::<W, D>(Kind::Table, 0));
    let digests = table.digests.iter().enumerate();
    bytes.put_u32(digests.fold(0u32, |map, (slot, digest)| map | u32::from(digest.is_some()) << slot));
    table.digests.iter().for_each(|digest| bytes.put_slice(&digest.unwrap_or_default()));
    bytes.put_u8(table.pairs.is_some().into());
    table.pairs.iter().flatten().for_each(|hash| bytes.put_slice(hash));
    bytes.freeze()
}

/// Reads a table.
///
/// # Errors
/// The bytes are not exactly that.
pub fn decode_table<W: Word, const D: usize>(committee: &Committee, bytes: &[u8]) -> Result<Table, VssWireError> {
    let n = committee.n();
    let (digests_end, longest) = (HEADER_BYTES + 4 + 32 * n, max_table_len(committee));
    let pairs = match bytes.get(digests_end) {
        Some(0) => 0,
        Some(1) => 16 * n * (n - 1),
        Some(_) => return Err(VssWireError::Content),
        None => return Err(VssWireError::Length { expected: longest, got: bytes.len() }),
    };
    let body = check::<W, D>(bytes, Kind::Table, 0, digests_end + 1 + pairs - HEADER_BYTES)?;
    let (bitmap, rest) = body.split_at(4);
    let (digests, rest) = rest.split_at(32 * n);
    let (flag, hashes) = rest.split_at(1);
    let bitmap = bitmap.iter().fold(0u32, |map, byte| map << 8 | u32::from(*byte));
    if u64::from(bitmap) >> n != 0 {
        return Err(VssWireError::Content);
    }
    let digests = digests.chunks_exact(32).enumerate().map(|(slot, digest)| match bitmap >> slot & 1 {
        1 => Ok(Some(hash(digest))),
        _ if digest.iter().all(|byte| *byte == 0) => Ok(None),
        _ => Err(VssWireError::Content),
    });
    let digests = digests.collect::<Result<_, _>>()?;
    Ok(Table { digests, pairs: (flag[0] == 1).then(|| hashes.chunks_exact(32).map(hash).collect()) })
}

fn hash(bytes: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(bytes);
    hash
}

/// Writes rows that become public.
#[must_use]
pub fn encode_reveal<W: Word, const D: usize>(rows: &[&GrVec<W, D>]) -> Bytes {
    let elements = rows.iter().map(|row| row.len()).sum();
    let mut bytes = BytesMut::with_capacity(vector_len::<W, D>(elements));
    bytes.put_slice(&header::<W, D>(Kind::Reveal, elements));
    rows.iter().for_each(|row| put_words(&mut bytes, row));
    bytes.freeze()
}

/// Reads `rows` rows of `elements` elements each.
///
/// # Errors
/// The bytes are not exactly that.
pub fn decode_reveal<W: Word, const D: usize>(
    bytes: &[u8],
    rows: usize,
    elements: usize,
) -> Result<Vec<GrVec<W, D>>, VssWireError> {
    let row_bytes = elements * D * W::BYTES;
    let body = check::<W, D>(bytes, Kind::Reveal, rows * elements, rows * row_bytes)?;
    if rows == 0 { Ok(Vec::new()) } else { body.chunks_exact(row_bytes).map(words).collect() }
}

#[cfg(test)]
mod tests {
    use kms_algebra::Gr;

    use super::*;

    fn vector(elements: u64) -> GrVec<u64, 4> {
        (0..elements).map(|i| Gr([i, i + 1, i + 2, u64::MAX - i])).collect()
    }

    #[test]
    fn vectors_round_trip_are_pinned_and_nothing_else_is_read() {
        let bytes = encode_vector(Kind::Row, &vector(2));
        assert_eq!(&bytes[..21], b"KMSV\x01\x01\x04\x08\0\0\0\x02\0\0\0\0\0\0\0\0\x01");
        assert_eq!(decode_vector::<u64, 4>(Kind::Row, &bytes, 2), Ok(vector(2)));
        assert_eq!(decode_vector::<u64, 4>(Kind::Share, &bytes, 2), Err(VssWireError::Header));
        assert!(matches!(decode_vector::<u64, 4>(Kind::Row, &bytes, 3), Err(VssWireError::Length { .. })));
        assert_eq!(decode_vector::<u128, 4>(Kind::Row, &bytes, 1), Err(VssWireError::Header));
        for at in 0..HEADER_BYTES {
            let mut bad = bytes.to_vec();
            bad[at] ^= 1;
            assert_eq!(decode_vector::<u64, 4>(Kind::Row, &bad, 2), Err(VssWireError::Header), "byte {at}");
        }
        for cut in 0..bytes.len() {
            assert!(decode_vector::<u64, 4>(Kind::Row, &bytes[..cut], 2).is_err());
        }
    }

    #[test]
    fn tables_round_trip_and_nothing_else_is_read() {
        let c = Committee::new(4, 1).unwrap();
        for pairs in [None, Some(vec![[9; 32]; 6])] {
            let table = Table { digests: vec![Some([1; 32]), None, Some([3; 32]), Some([4; 32])], pairs };
            let bytes = encode_table::<u64, 4>(&c, &table);
            assert!(bytes.len() <= max_table_len(&c));
            assert_eq!(decode_table::<u64, 4>(&c, &bytes), Ok(table));
            assert!(decode_table::<u128, 4>(&c, &bytes).is_err());
            for cut in 0..bytes.len() {
                assert!(decode_table::<u64, 4>(&c, &bytes[..cut]).is_err());
            }
            for (at, with) in [(HEADER_BYTES, 1), (HEADER_BYTES + 3, 0b1111), (HEADER_BYTES + 4 + 128, 2)] {
                let mut bad = bytes.to_vec();
                bad[at] = with;
                // A digest of zeros for a dealer whose bit was set is no error; one byte of a bitmap beyond n is.
                let decoded = decode_table::<u64, 4>(&c, &bad);
                assert!(decoded.is_err() || at == HEADER_BYTES + 3, "{at}");
            }
            let mut bad = bytes.to_vec();
            bad[HEADER_BYTES + 3] = 0b1001;
            assert_eq!(decode_table::<u64, 4>(&c, &bad), Err(VssWireError::Content));
        }
    }

    #[test]
    fn messages_of_another_view_are_not_read() {
        let bytes = with_view(&[1; 32], b"message");
        assert_eq!(without_view(&[1; 32], &bytes), Ok(Some(&b"message"[..])));
        assert_eq!(without_view(&[2; 32], &bytes), Ok(None));
        assert!(without_view(&[1; 32], &bytes[..31]).is_err());
    }

    #[test]
    fn reveals_round_trip() {
        let rows = [vector(3), vector(3)];
        let bytes = encode_reveal(&rows.iter().collect::<Vec<_>>());
        assert_eq!(decode_reveal::<u64, 4>(&bytes, 2, 3), Ok(rows.to_vec()));
        assert!(decode_reveal::<u64, 4>(&bytes, 3, 2).is_ok(), "the number of rows is known to all");
        assert!(decode_reveal::<u64, 4>(&bytes, 1, 3).is_err());
        assert_eq!(decode_reveal::<u64, 4>(&encode_reveal::<u64, 4>(&[]), 0, 3), Ok(Vec::new()));
        for cut in 0..bytes.len() {
            assert!(decode_reveal::<u64, 4>(&bytes[..cut], 2, 3).is_err());
        }
    }
}
