//! Records of a run's journal.
//!
//! ```text
//! u8 kind ‖ fields; the first record is
//! 0: "KMSJ" ‖ u8 version 1 ‖ u8 party ‖ u8 n ‖ u8 t ‖ digest of the run (32)
//! 1: seed (32)                                   durable before the seed is used
//! 2: u32 chunk ‖ u32 attempt ‖ vote (33)         durable before the vote is told
//! 3: u32 chunk ‖ u32 attempt                     its stream keys were revealed: the next attempt begins
//! 4: exclusion (10)
//! 5: u32 chunk ‖ u32 attempt ‖ hash (32) ‖ opened values of secret bits   durable before the chunk counts as done
//! 6: u8 party ‖ u8 misdeed ‖ u32 chunk ‖ evidence
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use kms_algebra::PartyId;

use super::evidence::{Culprit, Misdeed};
use super::message::Exclusion;
use super::reader::Reader;
use super::statement::Vote;

const MAGIC: [u8; 4] = *b"KMSJ";
const VERSION: u8 = 1;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Start { own: PartyId, n: u8, t: u8, run: [u8; 32] },
    Seed([u8; 32]),
    Vote { chunk: u32, attempt: u32, vote: Vote },
    Dropped { chunk: u32, attempt: u32 },
    Excluded(Exclusion),
    Done { chunk: u32, attempt: u32, hash: [u8; 32], values: Bytes },
    Culprit(Culprit),
}

impl Record {
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        match self {
            Self::Start { own, n, t, run } => {
                bytes.put_u8(0);
                bytes.put_slice(&MAGIC);
                bytes.put_slice(&[VERSION, own.index(), *n, *t]);
                bytes.put_slice(run);
            }
            Self::Seed(seed) => {
                bytes.put_u8(1);
                bytes.put_slice(seed);
            }
            Self::Vote { chunk, attempt, vote } => {
                bytes.put_u8(2);
                bytes.put_u32(*chunk);
                bytes.put_u32(*attempt);
                bytes.put_slice(&vote.encode());
            }
            Self::Dropped { chunk, attempt } => {
                bytes.put_u8(3);
                bytes.put_u32(*chunk);
                bytes.put_u32(*attempt);
            }
            Self::Excluded(exclusion) => {
                bytes.put_u8(4);
                exclusion.put(&mut bytes);
            }
            Self::Done { chunk, attempt, hash, values } => {
                bytes.put_u8(5);
                bytes.put_u32(*chunk);
                bytes.put_u32(*attempt);
                bytes.put_slice(hash);
                bytes.put_slice(values);
            }
            Self::Culprit(culprit) => {
                bytes.put_u8(6);
                bytes.put_u8(culprit.party.index());
                bytes.put_u8(culprit.misdeed.code());
                bytes.put_u32(culprit.chunk);
                bytes.put_slice(&culprit.evidence);
            }
        }
        bytes.freeze()
    }

    pub(super) fn decode(bytes: &Bytes) -> Option<Self> {
        let mut r = Reader::new(bytes);
        let tail = |r: &mut Reader<'_>| bytes.slice(bytes.len() - r.rest().len()..);
        let record = match r.u8()? {
            0 => {
                if r.take(4)? != MAGIC || r.u8()? != VERSION {
                    return None;
                }
                Self::Start { own: r.party()?, n: r.u8()?, t: r.u8()?, run: r.array()? }
            }
            1 => Self::Seed(r.array()?),
            2 => Self::Vote { chunk: r.u32()?, attempt: r.u32()?, vote: Vote::decode(&r.array()?)? },
            3 => Self::Dropped { chunk: r.u32()?, attempt: r.u32()? },
            4 => Self::Excluded(Exclusion::take(&mut r)?),
            5 => Self::Done { chunk: r.u32()?, attempt: r.u32()?, hash: r.array()?, values: tail(&mut r) },
            6 => Self::Culprit(Culprit {
                party: r.party()?,
                misdeed: Misdeed::from_code(r.u8()?)?,
                chunk: r.u32()?,
                evidence: tail(&mut r),
            }),
            _ => return None,
        };
        r.end(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip() {
        let party = PartyId::new(3).unwrap();
        let misdeed = Misdeed::WrongFrame;
        let records = [
            Record::Start { own: party, n: 4, t: 1, run: [1; 32] },
            Record::Seed([2; 32]),
            Record::Vote { chunk: 1, attempt: 2, vote: Vote::Final([3; 32]) },
            Record::Vote { chunk: 1, attempt: 2, vote: Vote::Reveal },
            Record::Dropped { chunk: 7, attempt: 1 },
            Record::Excluded(Exclusion { chunk: 1, attempt: 2, party, late: true }),
            Record::Done { chunk: 1, attempt: 0, hash: [4; 32], values: Bytes::from_static(b"values") },
            Record::Done { chunk: 1, attempt: 0, hash: [4; 32], values: Bytes::new() },
            Record::Culprit(Culprit { party, misdeed, chunk: 4, evidence: Bytes::from_static(b"evidence") }),
        ];
        for record in records {
            let bytes = record.encode();
            assert_eq!(Record::decode(&bytes), Some(record));
            assert_eq!(Record::decode(&bytes.slice(..5)), None);
        }
        assert_eq!(Record::decode(&Bytes::from_static(b"\x07")), None);
        assert_eq!(Record::decode(&Bytes::new()), None);
    }
}
