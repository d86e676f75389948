//! What speaks against a party, and what proves it to third parties.
//!
//! Evidence is checked with public data only: who the parties are and how they sign, the specification, the identity of the
//! run and its seed.
//!
//! ```text
//! "KMSE" ‖ u8 version 1 ‖ u8 misdeed ‖ u8 party ‖ u32 chunk ‖ u32 attempt ‖
//! equivocation: twice hash of a frame (32) ‖ signature (65)
//! two votes:    twice vote (33) ‖ signature (65)
//! wrong frame:  signature of the frame (65) ‖ u16 parts ‖ SHA-256 of each part ‖ u16 part ‖ its bytes ‖ certificate ‖ claims
//! wrong keys:   claims
//! claims:       u8 number ‖ per claimant u8 party ‖ signature (65) ‖ claims, see `reveal.rs`
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use kms_algebra::PartyId;
use sha2::{Digest, Sha256};

use super::exchange::Verifier;
use super::message::{self, SignedFrame};
use super::plan::{self, Chunk};
use super::reader::Reader;
use super::reveal::{self, KeyClaim};
use super::run::Public;
use super::statement::{self, Certificate, SIGNATURE_BYTES, Signature, Vote};
use super::work::{self, KeyWord};
use crate::SessionId;
use crate::prss::Prss;
use kms_encoding::key_spec::Width;

const MAGIC: [u8; 4] = *b"KMSE";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 15;
/// Bytes of a proof that a party signed two frames.
pub(super) const EQUIVOCATION_BYTES: usize = HEADER_BYTES + 2 * (32 + SIGNATURE_BYTES);

/// What a party did that no honest party does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misdeed {
    /// It signed two frames of one chunk. Proved.
    Equivocated,
    /// It signed two votes on one chunk. Proved.
    VotedTwice,
    /// Its signed frame is not what its keys give. Proved.
    WrongFrame,
    /// It signed a claim about keys that t + 1 others contradict. Proved.
    WrongKeys,
    /// Its share is not on the polynomial on which 2t + 1 others lie. Observed.
    WrongShare,
    /// It answered with something that is no answer, or not signed by it. Observed.
    Malformed,
}

impl Misdeed {
    const ALL: [Self; 6] =
        [Self::Equivocated, Self::VotedTwice, Self::WrongFrame, Self::WrongKeys, Self::WrongShare, Self::Malformed];

    /// Its byte in records and evidence.
    pub(super) fn code(self) -> u8 {
        (1..).zip(Self::ALL).find(|(_, misdeed)| *misdeed == self).map_or(0, |(code, _)| code)
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

/// A party that was wrong. Never an honest one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// Who.
    pub party: PartyId,
    /// What it did.
    pub misdeed: Misdeed,
    /// Chunk in which it was found.
    pub chunk: u32,
    /// Proof for third parties, see [`verify`]; empty if it was only observed.
    pub evidence: Bytes,
}

/// Bytes that prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes prove nothing")]
pub struct NoEvidence;

/// Checks evidence with public data only: whom it proves what about.
///
/// # Errors
/// [`NoEvidence`].
pub fn verify<const D: usize>(
    public: &Public<D>,
    signer: &impl Verifier,
    evidence: &[u8],
) -> Result<(PartyId, Misdeed), NoEvidence> {
    check(public, signer, evidence).ok_or(NoEvidence)
}

fn check<const D: usize>(public: &Public<D>, signer: &impl Verifier, evidence: &[u8]) -> Option<(PartyId, Misdeed)> {
    let mut r = Reader::new(evidence);
    if r.take(4)? != MAGIC || r.u8()? != VERSION {
        return None;
    }
    let misdeed = Misdeed::from_code(r.u8()?)?;
    let party = r.party().filter(|party| public.committee.contains(*party))?;
    let (chunk, attempt) = (r.u32()?, r.u32()?);
    let session = plan::session(&public.run, &public.seed, public.plan.get(chunk)?, attempt);
    let proved = match misdeed {
        Misdeed::Equivocated => {
            let mut signed = || Some((r.array::<32>()?, r.signature()?));
            let (first, second) = (signed()?, signed()?);
            r.end(())?;
            let right = |(hash, signature): &([u8; 32], Signature)| {
                signer.verify(party, &statement::frame(&session, party, hash), signature)
            };
            first.0 != second.0 && right(&first) && right(&second)
        }
        Misdeed::VotedTwice => {
            let mut signed = || Some((Vote::decode(&r.array()?)?, r.signature()?));
            let (first, second) = (signed()?, signed()?);
            r.end(())?;
            let right = |(vote, signature): &(Vote, Signature)| signer.verify(party, &vote.digest(&session), signature);
            first.0 != second.0 && right(&first) && right(&second)
        }
        Misdeed::WrongFrame => match public.plan.get(chunk)?.width {
            Width::W64 => wrong_frame_proved::<u64, D>(public, signer, &mut r, (chunk, session), party)?,
            Width::W128 => wrong_frame_proved::<u128, D>(public, signer, &mut r, (chunk, session), party)?,
        },
        Misdeed::WrongKeys => {
            let chunk = public.plan.get(chunk)?;
            let claims = take_claims(public, signer, &mut r, chunk, &session)?;
            r.end(())?;
            let keys = reveal::true_keys(&public.committee, chunk, &claims);
            let mut own = claims.iter().filter(|claim| claim.party == party);
            own.any(|claim| reveal::contradicts(&public.committee, chunk, claim, &keys))
        }
        Misdeed::WrongShare | Misdeed::Malformed => false,
    };
    proved.then_some((party, misdeed))
}

/// Whether a signed part of a frame is not what revealed keys give.
fn wrong_frame_proved<W: KeyWord, const D: usize>(
    public: &Public<D>,
    signer: &impl Verifier,
    r: &mut Reader<'_>,
    (chunk, session): (u32, SessionId),
    party: PartyId,
) -> Option<bool> {
    let chunk = public.plan.get(chunk)?;
    let elements = chunk.parts_a::<D>();
    let signature = r.signature()?;
    let count = usize::from(r.u16()?);
    if count != elements.len() {
        return None;
    }
    let hashes = (0..count).map(|_| r.array()).collect::<Option<Vec<[u8; 32]>>>()?;
    let part = usize::from(r.u16()?);
    let bytes = r.take(chunk.frame_bytes::<D>(*elements.get(part)?))?;
    let certificate = message::take_certificate(r, &public.committee)?;
    let claims = take_claims(public, signer, r, chunk, &session)?;
    r.end(())?;
    let hash = statement::hash_of_parts(&hashes);
    let signed = signer.verify(party, &statement::frame(&session, party, &hash), &signature)
        && hashes.get(part) == Some(&Sha256::digest(bytes).into())
        && certificate.vote == Vote::Reveal
        && certificate.verify(&public.committee, &session, signer);
    let keys = reveal::true_keys(&public.committee, chunk, &claims);
    let known = public.committee.prss_sets().filter(|set| set.contains(party)).all(|set| keys.contains_key(&set));
    if !signed || !known {
        return None;
    }
    let prss = Prss::<D>::revealed(&public.committee, party, &keys.into_iter().collect::<Vec<_>>());
    let (_, right) = work::part_a::<W, D>(&prss, chunk, &session, part);
    Some(work::to_bytes(right.words()) != bytes)
}

/// Claims of different parties with right signatures.
fn take_claims<const D: usize>(
    public: &Public<D>,
    signer: &impl Verifier,
    r: &mut Reader<'_>,
    chunk: &Chunk,
    session: &SessionId,
) -> Option<Vec<KeyClaim>> {
    let count = usize::from(r.u8()?);
    let len = reveal::claim_bytes(&public.committee, chunk);
    let mut claims: Vec<KeyClaim> = Vec::new();
    for _ in 0..count {
        let party = r.party().filter(|party| public.committee.contains(*party))?;
        let signature = r.signature()?;
        let bytes = r.take(len)?;
        let right = signer.verify(party, &statement::claim(session, party, bytes), &signature);
        // In ascending order, so that nobody claims twice.
        if !right || claims.last().is_some_and(|last| last.party >= party) {
            return None;
        }
        claims.push(KeyClaim { party, signature, claims: Bytes::copy_from_slice(bytes) });
    }
    Some(claims)
}

fn put_claims(bytes: &mut BytesMut, claims: &[KeyClaim]) {
    bytes.put_u8(claims.len() as u8);
    for claim in claims {
        bytes.put_u8(claim.party.index());
        bytes.put_slice(&claim.signature);
        bytes.put_slice(&claim.claims);
    }
}

/// Evidence of a claim that others contradict. Claims by ascending party.
pub(super) fn wrong_keys(at: (u32, u32), party: PartyId, claims: &[KeyClaim]) -> Bytes {
    let mut bytes = header(Misdeed::WrongKeys, party, at);
    put_claims(&mut bytes, claims);
    bytes.freeze()
}

/// Evidence of a signed frame that is not what revealed keys give. Claims by ascending party.
pub(super) fn wrong_frame<const D: usize>(
    at: (u32, u32),
    chunk: &Chunk,
    party: PartyId,
    frame: &SignedFrame,
    part: usize,
    certificate: &Certificate,
    claims: &[KeyClaim],
) -> Bytes {
    let mut bytes = header(Misdeed::WrongFrame, party, at);
    bytes.put_slice(&frame.signature);
    let hashes = work::part_hashes::<D>(chunk, &frame.frame);
    bytes.put_u16(hashes.len() as u16);
    hashes.iter().for_each(|hash| bytes.put_slice(hash));
    bytes.put_u16(part as u16);
    if let Some(part) = work::parts_of_a::<D>(chunk, &frame.frame).get(part) {
        bytes.put_slice(part);
    }
    message::put_certificate(&mut bytes, certificate);
    put_claims(&mut bytes, claims);
    bytes.freeze()
}

fn header(misdeed: Misdeed, party: PartyId, (chunk, attempt): (u32, u32)) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(EQUIVOCATION_BYTES);
    bytes.put_slice(&MAGIC);
    bytes.put_slice(&[VERSION, misdeed.code(), party.index()]);
    bytes.put_u32(chunk);
    bytes.put_u32(attempt);
    bytes
}

/// Evidence of two signed frames.
pub(super) fn equivocation(
    at: (u32, u32),
    party: PartyId,
    first: ([u8; 32], Signature),
    second: ([u8; 32], Signature),
) -> Bytes {
    let mut bytes = header(Misdeed::Equivocated, party, at);
    for (hash, signature) in [first, second] {
        bytes.put_slice(&hash);
        bytes.put_slice(&signature);
    }
    bytes.freeze()
}

/// Evidence of two signed votes.
pub(super) fn votes(at: (u32, u32), party: PartyId, first: (Vote, Signature), second: (Vote, Signature)) -> Bytes {
    let mut bytes = header(Misdeed::VotedTwice, party, at);
    for (vote, signature) in [first, second] {
        bytes.put_slice(&vote.encode());
        bytes.put_slice(&signature);
    }
    bytes.freeze()
}
