//! Questions and answers between parties.
//!
//! ```text
//! question: "KMSQ" ‖ u8 version 1 ‖ u8 kind ‖ u32 chunk ‖ u32 attempt ‖ fields of the kind
//! ```
//! Integers are big-endian, words little-endian. Answers have no header: what a question is answered with is fixed by the
//! question, and its length by the plan. Whoever asked refuses any other length before anything is allocated.
//!
//! | kind | question | fields | answer |
//! |---|---|---|---|
//! | 1 | share of the coin | | one ring element mod 2^128 |
//! | 2 | frame A | | hash (32) ‖ signature (65) ‖ frame |
//! | 3 | frame B | | frame |
//! | 4 | frame C | | frame |
//! | 5 | vote | u8 whether the asker has the peer's vote | [`VoteAnswer`] |
//! | 6 | relay of a complaint | u32 instance ‖ u8 round | [`Relay`](super::relay) |
//! | 7 | somebody's frame A, if there is no hash any | u8 sender ‖ u8 whether a hash follows ‖ hash (32) | as 2 |
//! | 8 | stream keys, after a certificate | | claims, see [`super::reveal`] |
//! | 9 | claim about a chunk that is done | | [`Claim`] |
//! | 10 | what a chunk that is done gave | | bodies, or opened values of secret bits |
//! | 11 | opened values of frame A, while the chunk is in flight | | v of all bits, d of all products |

use bytes::{BufMut, Bytes, BytesMut};
use kms_algebra::PartyId;

use super::reader::Reader;
use super::statement::{Certificate, Signature, Vote};
use crate::Committee;

const MAGIC: [u8; 4] = *b"KMSQ";
const VERSION: u8 = 1;

/// What is asked about an attempt at a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Coin,
    FrameA,
    FrameB,
    FrameC,
    Vote { known: bool },
    Relay { instance: u32, round: u8 },
    Held { sender: PartyId, hash: Option<[u8; 32]> },
    Keys,
    Claim,
    Result,
    Values,
}

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) chunk: u32,
    pub(super) attempt: u32,
    pub(super) ask: Ask,
}

impl Question {
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(64);
        bytes.put_slice(&MAGIC);
        bytes.put_u8(VERSION);
        bytes.put_u8(match self.ask {
            Ask::Coin => 1,
            Ask::FrameA => 2,
            Ask::FrameB => 3,
            Ask::FrameC => 4,
            Ask::Vote { .. } => 5,
            Ask::Relay { .. } => 6,
            Ask::Held { .. } => 7,
            Ask::Keys => 8,
            Ask::Claim => 9,
            Ask::Result => 10,
            Ask::Values => 11,
        });
        bytes.put_u32(self.chunk);
        bytes.put_u32(self.attempt);
        match self.ask {
            Ask::Vote { known } => bytes.put_u8(known.into()),
            Ask::Relay { instance, round } => {
                bytes.put_u32(instance);
                bytes.put_u8(round);
            }
            Ask::Held { sender, hash } => {
                bytes.put_u8(sender.index());
                bytes.put_u8(hash.is_some().into());
                bytes.put_slice(&hash.unwrap_or_default());
            }
            _ => {}
        }
        bytes.freeze()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader::new(bytes);
        if r.take(4)? != MAGIC || r.u8()? != VERSION {
            return None;
        }
        let kind = r.u8()?;
        let (chunk, attempt) = (r.u32()?, r.u32()?);
        let ask = match kind {
            1 => Ask::Coin,
            2 => Ask::FrameA,
            3 => Ask::FrameB,
            4 => Ask::FrameC,
            5 => Ask::Vote { known: flag(r.u8()?)? },
            6 => Ask::Relay { instance: r.u32()?, round: r.u8()? },
            7 => {
                let (sender, some, hash) = (r.party()?, flag(r.u8()?)?, r.array()?);
                (some || hash == [0; 32]).then_some(())?;
                Ask::Held { sender, hash: some.then_some(hash) }
            }
            8 => Ask::Keys,
            9 => Ask::Claim,
            10 => Ask::Result,
            11 => Ask::Values,
            _ => return None,
        };
        r.end(Self { chunk, attempt, ask })
    }
}

const fn flag(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// A frame A with what makes it provable.
#[derive(Clone, Debug)]
pub(super) struct SignedFrame {
    pub(super) hash: [u8; 32],
    pub(super) signature: Signature,
    pub(super) frame: Bytes,
}

impl SignedFrame {
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(32 + 65 + self.frame.len());
        bytes.put_slice(&self.hash);
        bytes.put_slice(&self.signature);
        bytes.put_slice(&self.frame);
        bytes.freeze()
    }

    /// Takes an answer apart without copying. Neither hash nor signature are checked here.
    pub(super) fn decode(bytes: &Bytes, frame_bytes: usize) -> Option<Self> {
        let mut r = Reader::new(bytes);
        let (hash, signature) = (r.array()?, r.signature()?);
        let frame = bytes.slice(bytes.len() - r.rest().len()..);
        (frame.len() == frame_bytes).then_some(Self { hash, signature, frame })
    }
}

/// What a party says about the votes on an attempt: its own one, and a certificate if it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VoteAnswer {
    pub(super) vote: Option<(Vote, Signature)>,
    pub(super) certificate: Option<Certificate>,
}

impl VoteAnswer {
    /// u8 flags ‖ vote ‖ signature ‖ certificate: vote ‖ u8 number ‖ per party u8 index ‖ signature.
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(256);
        bytes.put_u8(u8::from(self.vote.is_some()) | u8::from(self.certificate.is_some()) << 1);
        if let Some((vote, signature)) = &self.vote {
            bytes.put_slice(&vote.encode());
            bytes.put_slice(signature);
        }
        if let Some(certificate) = &self.certificate {
            put_certificate(&mut bytes, certificate);
        }
        bytes.freeze()
    }

    pub(super) fn decode(bytes: &[u8], committee: &Committee) -> Option<Self> {
        let mut r = Reader::new(bytes);
        let flags = r.u8().filter(|flags| *flags < 4)?;
        let vote = if flags & 1 == 1 { Some((Vote::decode(&r.array()?)?, r.signature()?)) } else { None };
        let certificate = if flags & 2 == 2 { Some(take_certificate(&mut r, committee)?) } else { None };
        r.end(Self { vote, certificate })
    }
}

pub(super) fn put_certificate(bytes: &mut BytesMut, certificate: &Certificate) {
    bytes.put_slice(&certificate.vote.encode());
    bytes.put_u8(certificate.signatures.len() as u8);
    for (party, signature) in &certificate.signatures {
        bytes.put_u8(party.index());
        bytes.put_slice(signature);
    }
}

/// Reads a certificate. Its signatures are not checked here.
pub(super) fn take_certificate(r: &mut Reader<'_>, committee: &Committee) -> Option<Certificate> {
    let vote = Vote::decode(&r.array()?)?;
    let count = usize::from(r.u8()?);
    if count > committee.n() {
        return None;
    }
    let signatures = (0..count).map(|_| Some((r.party()?, r.signature()?))).collect::<Option<_>>()?;
    Some(Certificate { vote, signatures })
}

/// Why nobody waits for a party any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Exclusion {
    /// Chunk that it was decided in: it holds for those that follow, and for later attempts at this one.
    pub(super) chunk: u32,
    /// Attempt at the chunk.
    pub(super) attempt: u32,
    /// Who.
    pub(super) party: PartyId,
    /// Late, and not shown to be wrong.
    pub(super) late: bool,
}

impl Exclusion {
    pub(super) const BYTES: usize = 10;

    pub(super) fn put(&self, bytes: &mut BytesMut) {
        bytes.put_u32(self.chunk);
        bytes.put_u32(self.attempt);
        bytes.put_u8(self.party.index());
        bytes.put_u8(self.late.into());
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Option<Self> {
        Some(Self { chunk: r.u32()?, attempt: r.u32()?, party: r.party()?, late: flag(r.u8()?)? })
    }
}

/// u8 number ‖ exclusions: at most one of each party.
pub(super) fn take_exclusions(r: &mut Reader<'_>, committee: &Committee) -> Option<Vec<Exclusion>> {
    let count = usize::from(r.u8()?);
    (count <= committee.n()).then(|| (0..count).map(|_| Exclusion::take(r)).collect())?
}

/// What a party says about a chunk that is done; t + 1 equal ones are the truth.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    /// The attempt that succeeded.
    pub(super) attempt: u32,
    /// SHA-256 of what it gave.
    pub(super) hash: [u8; 32],
    /// Who was excluded up to it, in order.
    pub(super) exclusions: Vec<Exclusion>,
}

impl Claim {
    /// u32 attempt ‖ hash (32) ‖ u8 number ‖ exclusions.
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(37 + self.exclusions.len() * Exclusion::BYTES);
        bytes.put_u32(self.attempt);
        bytes.put_slice(&self.hash);
        bytes.put_u8(self.exclusions.len() as u8);
        self.exclusions.iter().for_each(|exclusion| exclusion.put(&mut bytes));
        bytes.freeze()
    }

    pub(super) fn decode(bytes: &[u8], committee: &Committee) -> Option<Self> {
        let mut r = Reader::new(bytes);
        let (attempt, hash) = (r.u32()?, r.array()?);
        let exclusions = take_exclusions(&mut r, committee)?;
        r.end(Self { attempt, hash, exclusions })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn party(index: u8) -> PartyId {
        PartyId::new(index).unwrap()
    }

    fn committee() -> Committee {
        Committee::new(4, 1).unwrap()
    }

    #[test]
    fn questions_round_trip_and_are_pinned() {
        let asks = [
            Ask::Coin,
            Ask::FrameA,
            Ask::FrameB,
            Ask::FrameC,
            Ask::Vote { known: true },
            Ask::Relay { instance: 7, round: 2 },
            Ask::Held { sender: party(3), hash: Some([9; 32]) },
            Ask::Keys,
            Ask::Claim,
            Ask::Result,
            Ask::Values,
        ];
        for (kind, ask) in (1..).zip(asks) {
            let question = Question { chunk: 258, attempt: 1, ask };
            let bytes = question.encode();
            assert_eq!(&bytes[..14], [&b"KMSQ\x01"[..], &[kind], b"\0\0\x01\x02\0\0\0\x01"].concat());
            assert_eq!(Question::decode(&bytes), Some(question));
            assert_eq!(Question::decode(&[&bytes[..], &[0]].concat()), None);
            assert_eq!(Question::decode(&bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn answers_round_trip() {
        let vote = Some((Vote::Final([5; 32]), [6; 65]));
        let certificate =
            Certificate { vote: Vote::Reveal, signatures: vec![(party(1), [1; 65]), (party(4), [2; 65])] };
        for answer in [
            VoteAnswer::default(),
            VoteAnswer { vote, certificate: None },
            VoteAnswer { vote, certificate: Some(certificate) },
        ] {
            assert_eq!(VoteAnswer::decode(&answer.encode(), &committee()), Some(answer));
        }
        let exclusions = vec![Exclusion { chunk: 1, attempt: 2, party: party(3), late: true }];
        let claim = Claim { attempt: 1, hash: [4; 32], exclusions };
        assert_eq!(Claim::decode(&claim.encode(), &committee()), Some(claim));
        let frame = SignedFrame { hash: [1; 32], signature: [2; 65], frame: Bytes::from_static(b"frame") };
        let bytes = frame.encode();
        assert!(SignedFrame::decode(&bytes, 5).is_some_and(|f| f.frame == frame.frame && f.hash == frame.hash));
        assert!(SignedFrame::decode(&bytes, 4).is_none() && SignedFrame::decode(&bytes.slice(..90), 5).is_none());
    }

    proptest! {
        #[test]
        fn garbage_is_refused_without_harm(bytes: Vec<u8>) {
            let _ = Question::decode(&bytes);
            let _ = Claim::decode(&bytes, &committee());
            let _ = VoteAnswer::decode(&bytes, &committee());
            let _ = SignedFrame::decode(&Bytes::from(bytes), 8);
        }
    }
}
