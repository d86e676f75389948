//! The bytes of echoes, votes and bits.
//!
//! ```text
//! header  "KMSB" ‖ u8 version 1 ‖ u8 kind ‖ u8 n ‖ u8 round of bits, else 0
//! echo    header (kind 1) ‖ u32 BE bitmap of senders ‖ n × 32 bytes: hash, or zeros where the bitmap has 0
//! vote    as echo (kind 2) ‖ u8 questions (≤ 2t) ‖ questions × (u8 sender ‖ 32 bytes hash ‖ u32 BE bitmap of askees)
//! bits    header (kind 3) ‖ bits, low first, for all senders but the party itself, the last byte filled with zeros
//! ```
//! The message itself and the answers have no header: their hash is what counts. Every length is known to the receiver
//! before it looks at a byte, or bounded by 2t questions.

use bytes::{BufMut, Bytes, BytesMut};
use kms_algebra::{PartyId, PartySet};

use super::Hash;
use crate::lockstep::Lockstep;
use crate::{Closed, Committee, Network};

/// First bytes of a message of the broadcast.
pub const MAGIC: [u8; 4] = *b"KMSB";
/// The only version.
pub const VERSION: u8 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 8;
/// Bytes of a question.
pub const QUESTION_BYTES: usize = 37;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Hashes of what was received.
    Echo = 1,
    /// Hashes with n − t echoes, and questions.
    Vote = 2,
    /// Bits of the agreement.
    Bits = 3,
}

/// Why bytes are no message of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BroadcastWireError {
    /// Another length than the message has.
    #[error("{got} bytes instead of {expected}")]
    Length {
        /// Bytes of a message.
        expected: usize,
        /// Bytes received.
        got: usize,
    },
    /// Another magic, version, kind, committee or round.
    #[error("the header is not that of this round")]
    Header,
    /// A bitmap with parties outside the committee, a hash without its bit, or filling that is not zero.
    #[error("bits or hashes that can't be")]
    Content,
    /// More than 2t questions, or one about nobody.
    #[error("questions that can't be")]
    Questions,
}

/// A request for a message that the asker lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whose message.
    pub sender: PartyId,
    /// Its hash.
    pub hash: Hash,
    /// Who is asked.
    pub askees: PartySet,
}

/// What a party sends in the third round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Votes {
    /// By sender.
    pub hashes: Vec<Option<Hash>>,
    /// At most 2t.
    pub questions: Vec<Question>,
}

fn header(kind: Kind, committee: Committee, round: usize) -> [u8; HEADER_BYTES] {
    let [a, b, c, d] = MAGIC;
    [a, b, c, d, VERSION, kind as u8, committee.n() as u8, round as u8]
}

/// Writes hashes by sender.
#[must_use]
pub fn encode_hashes(kind: Kind, committee: Committee, hashes: &[Option<Hash>]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + 4 + 32 * hashes.len());
    put_hashes(&mut bytes, kind, committee, hashes);
    bytes.freeze()
}

fn put_hashes(bytes: &mut BytesMut, kind: Kind, committee: Committee, hashes: &[Option<Hash>]) {
    bytes.put_slice(&header(kind, committee, 0));
    let bitmap = hashes.iter().enumerate().fold(0u32, |map, (slot, hash)| map | u32::from(hash.is_some()) << slot);
    bytes.put_u32(bitmap);
    hashes.iter().for_each(|hash| bytes.put_slice(&hash.unwrap_or_default()));
}

/// Reads hashes by sender.
///
/// # Errors
/// The bytes are not exactly that.
pub fn decode_hashes(kind: Kind, committee: Committee, bytes: &[u8]) -> Result<Vec<Option<Hash>>, BroadcastWireError> {
    let expected = HEADER_BYTES + 4 + 32 * committee.n();
    if bytes.len() != expected {
        return Err(BroadcastWireError::Length { expected, got: bytes.len() });
    }
    let (head, rest) = bytes.split_at(HEADER_BYTES);
    if head != header(kind, committee, 0) {
        return Err(BroadcastWireError::Header);
    }
    let (bitmap, hashes) = rest.split_at(4);
    let bitmap = u32::from_be_bytes(array(bitmap));
    if u64::from(bitmap) >> committee.n() != 0 {
        return Err(BroadcastWireError::Content);
    }
    let hashes = hashes.chunks_exact(32).enumerate().map(|(slot, hash)| match bitmap >> slot & 1 {
        1 => Ok(Some(array(hash))),
        _ if hash.iter().all(|byte| *byte == 0) => Ok(None),
        _ => Err(BroadcastWireError::Content),
    });
    hashes.collect()
}

/// Writes votes and questions.
#[must_use]
pub fn encode_votes(committee: Committee, votes: &Votes) -> Bytes {
    let mut bytes = BytesMut::new();
    put_hashes(&mut bytes, Kind::Vote, committee, &votes.hashes);
    bytes.put_u8(votes.questions.len() as u8);
    for question in &votes.questions {
        bytes.put_u8(question.sender.index());
        bytes.put_slice(&question.hash);
        bytes.put_u32(question.askees.bits());
    }
    bytes.freeze()
}

/// Reads votes and questions.
///
/// # Errors
/// The bytes are not exactly that.
pub fn decode_votes(committee: Committee, bytes: &[u8]) -> Result<Votes, BroadcastWireError> {
    let least = HEADER_BYTES + 4 + 32 * committee.n() + 1;
    if bytes.len() < least {
        return Err(BroadcastWireError::Length { expected: least, got: bytes.len() });
    }
    let (hashes, rest) = bytes.split_at(least - 1);
    let (count, questions) = rest.split_at(1);
    let count = usize::from(count[0]);
    if count > 2 * committee.t() {
        return Err(BroadcastWireError::Questions);
    }
    if questions.len() != count * QUESTION_BYTES {
        return Err(BroadcastWireError::Length { expected: least + count * QUESTION_BYTES, got: bytes.len() });
    }
    let hashes = decode_hashes(Kind::Vote, committee, hashes)?;
    let questions = questions.chunks_exact(QUESTION_BYTES).map(|question| {
        let sender = PartyId::new(question[0]).filter(|p| committee.contains(*p));
        let askees = PartySet::from_bits(u32::from_be_bytes(array(&question[33..])))
            .filter(|set| set.without(PartySet::all(committee.n())).is_empty());
        match (sender, askees) {
            (Some(sender), Some(askees)) => Ok(Question { sender, hash: array(&question[1..33]), askees }),
            _ => Err(BroadcastWireError::Questions),
        }
    });
    Ok(Votes { hashes, questions: questions.collect::<Result<_, _>>()? })
}

/// Writes the bits of a round.
#[must_use]
pub fn encode_bits(committee: Committee, round: usize, bits: &[bool]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + bits.len().div_ceil(8));
    bytes.put_slice(&header(Kind::Bits, committee, round));
    for eight in bits.chunks(8) {
        bytes.put_u8(eight.iter().enumerate().fold(0, |byte, (i, bit)| byte | u8::from(*bit) << i));
    }
    bytes.freeze()
}

/// Reads `count` bits of a round.
///
/// # Errors
/// The bytes are not exactly that.
pub fn decode_bits(
    committee: Committee,
    round: usize,
    count: usize,
    bytes: &[u8],
) -> Result<Vec<bool>, BroadcastWireError> {
    let expected = HEADER_BYTES + count.div_ceil(8);
    if bytes.len() != expected {
        return Err(BroadcastWireError::Length { expected, got: bytes.len() });
    }
    let (head, body) = bytes.split_at(HEADER_BYTES);
    if head != header(Kind::Bits, committee, round) {
        return Err(BroadcastWireError::Header);
    }
    let mut bits: Vec<bool> = body.iter().flat_map(|byte| (0..8).map(move |i| byte >> i & 1 == 1)).collect();
    if bits.drain(count..).any(|bit| bit) {
        return Err(BroadcastWireError::Content);
    }
    Ok(bits)
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}

/// The messages of a round on a channel, decoded, by slot. What can't be decoded is nothing, and names its sender.
pub(crate) async fn collect<N: Network, T, E>(
    run: &mut Lockstep<'_, N>,
    channel: u8,
    decode: impl Fn(&[u8]) -> Result<T, E> + Send,
) -> Result<Vec<Option<T>>, Closed> {
    let messages = run.collect(channel).await?;
    let parties = run.committee().parties();
    let decoded = parties.zip(messages).map(|(from, message)| {
        let message = message?;
        let decoded = decode(&message).ok();
        if decoded.is_none() {
            run.malformed(channel, from, &message);
        }
        decoded
    });
    Ok(decoded.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committee() -> Committee {
        Committee::new(4, 1).unwrap()
    }

    fn votes() -> Votes {
        let sender = PartyId::new(3).unwrap();
        let askees = PartySet::from_bits(0b1011).unwrap();
        Votes {
            hashes: vec![Some([1; 32]), None, Some([2; 32]), None],
            questions: vec![Question { sender, hash: [7; 32], askees }, Question { sender, hash: [8; 32], askees }],
        }
    }

    #[test]
    fn echoes_round_trip_are_pinned_and_nothing_else_is_read() {
        let c = committee();
        let bytes = encode_hashes(Kind::Echo, c, &votes().hashes);
        assert_eq!(&bytes[..14], b"KMSB\x01\x01\x04\0\0\0\0\x05\x01\x01");
        assert_eq!(decode_hashes(Kind::Echo, c, &bytes).unwrap(), votes().hashes);
        assert_eq!(decode_hashes(Kind::Vote, c, &bytes), Err(BroadcastWireError::Header));
        for cut in 0..bytes.len() {
            assert!(matches!(decode_hashes(Kind::Echo, c, &bytes[..cut]), Err(BroadcastWireError::Length { .. })));
        }
        for (at, error) in [(0, BroadcastWireError::Header), (8, BroadcastWireError::Content)] {
            let mut bad = bytes.to_vec();
            bad[at] ^= 0x40;
            assert_eq!(decode_hashes(Kind::Echo, c, &bad), Err(error));
        }
        // A hash that its bitmap does not know.
        let mut bad = bytes.to_vec();
        bad[11] ^= 1;
        assert_eq!(decode_hashes(Kind::Echo, c, &bad), Err(BroadcastWireError::Content));
    }

    #[test]
    fn votes_round_trip_and_questions_are_bounded() {
        let c = committee();
        let bytes = encode_votes(c, &votes());
        assert_eq!(decode_votes(c, &bytes).unwrap(), votes());
        let count = HEADER_BYTES + 4 + 32 * 4;
        let with = |at: usize, byte: u8| {
            let mut bad = bytes.to_vec();
            bad[at] = byte;
            decode_votes(c, &bad)
        };
        assert_eq!(with(count, 3), Err(BroadcastWireError::Questions));
        assert!(matches!(with(count, 1), Err(BroadcastWireError::Length { .. })));
        for sender in [0, 5, 255] {
            assert_eq!(with(count + 1, sender), Err(BroadcastWireError::Questions));
        }
        assert_eq!(with(count + 34, 1), Err(BroadcastWireError::Questions));
        for cut in 0..bytes.len() {
            assert!(decode_votes(c, &bytes[..cut]).is_err());
        }
    }

    #[test]
    fn bits_round_trip_and_filling_is_zero() {
        let c = committee();
        for count in 0..20 {
            let bits: Vec<bool> = (0..count).map(|i| i % 3 == 0).collect();
            let bytes = encode_bits(c, 1, &bits);
            assert_eq!(decode_bits(c, 1, count, &bytes).unwrap(), bits);
            assert!(decode_bits(c, 2, count, &bytes).is_err());
            assert!(decode_bits(c, 1, count + 8, &bytes).is_err());
            if count % 8 != 0 {
                let mut bad = bytes.to_vec();
                bad[HEADER_BYTES + count / 8] |= 0x80;
                assert_eq!(decode_bits(c, 1, count, &bad), Err(BroadcastWireError::Content));
            }
        }
    }
}
