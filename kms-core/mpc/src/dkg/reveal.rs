//! Revealing the stream keys of an attempt, after a certificate: who was wrong, and proof of it.
//!
//! Every party signs the keys of the attempt's streams of all its sets. The keys of a set that t + 1 of its members claim
//! are the true ones; all honest members do. With all keys everybody's frame can be computed: whoever signed another one
//! was wrong. The attempt's bits were not used for anything and its session never comes again, so that nothing is lost.
//!
//! ```text
//! claim: signature (65) ‖ per set of the claimant, by ascending bitmap: keys of `uniform_z`, `zero`, and with products
//! `triple` (16 each)
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use kms_algebra::{PartyId, PartySet};

use super::agree::Try;
use super::error::RunError;
use super::evidence::{self, Misdeed};
use super::exchange::{Exchange, Signer};
use super::journal::Journal;
use super::message::{Ask, SignedFrame};
use super::plan::Chunk;
use super::record::Record;
use super::run::Inner;
use super::statement::{self, SIGNATURE_BYTES, Signature};
use super::work::{self, KeyWord};
use crate::prss::{Prss, StreamKeys};
use crate::{Committee, SessionId};
use kms_encoding::key_spec::Width;

/// A claim whose signature was checked.
#[derive(Clone, Debug)]
pub(super) struct KeyClaim {
    pub(super) party: PartyId,
    pub(super) signature: Signature,
    pub(super) claims: Bytes,
}

impl KeyClaim {
    /// As it is told.
    pub(super) fn encode(&self) -> Bytes {
        [&self.signature[..], &self.claims].concat().into()
    }
}

/// Keys of a set that are claimed of an attempt.
const fn keys_per_set(chunk: &Chunk) -> usize {
    if chunk.products > 0 { 3 } else { 2 }
}

/// Bytes of a claim without its signature.
pub(super) fn claim_bytes(committee: &Committee, chunk: &Chunk) -> usize {
    // All parties are in the same number of sets.
    let sets = PartySet::subsets(committee.n() - 1, committee.t()).count();
    sets * keys_per_set(chunk) * 16
}

/// The keys that at least t + 1 members of a set claim, for all sets for which there are such. Claims have the right length.
pub(super) fn true_keys(committee: &Committee, chunk: &Chunk, claims: &[KeyClaim]) -> BTreeMap<PartySet, StreamKeys> {
    let mut counts: BTreeMap<(PartySet, StreamKeys), usize> = BTreeMap::new();
    for claim in claims {
        for entry in read_claims(committee, chunk, claim) {
            *counts.entry(entry).or_default() += 1;
        }
    }
    counts.into_iter().filter(|(_, count)| *count > committee.t()).map(|(entry, _)| entry).collect()
}

/// What a party claims of its sets.
fn read_claims<'a>(
    committee: &Committee,
    chunk: &Chunk,
    claim: &'a KeyClaim,
) -> impl Iterator<Item = (PartySet, StreamKeys)> + use<'a> {
    let party = claim.party;
    let sets = committee.prss_sets().filter(move |set| set.contains(party));
    sets.zip(claim.claims.chunks_exact(keys_per_set(chunk) * 16)).map(|(set, bytes)| {
        let mut keys = StreamKeys::default();
        keys.as_flattened_mut()[..bytes.len()].copy_from_slice(bytes);
        (set, keys)
    })
}

/// Whether a claim contradicts keys that are known.
pub(super) fn contradicts(
    committee: &Committee,
    chunk: &Chunk,
    claim: &KeyClaim,
    keys: &BTreeMap<PartySet, StreamKeys>,
) -> bool {
    read_claims(committee, chunk, claim).any(|(set, claimed)| keys.get(&set).is_some_and(|keys| *keys != claimed))
}

/// The first part of a frame A that is not what revealed keys give.
pub(super) fn wrong_part<W: KeyWord, const D: usize>(
    committee: &Committee,
    chunk: &Chunk,
    session: &SessionId,
    party: PartyId,
    keys: &BTreeMap<PartySet, StreamKeys>,
    is_right: impl Fn(usize, &[u8]) -> bool,
) -> Option<usize> {
    let keys: Vec<_> = keys.iter().map(|(set, keys)| (*set, *keys)).collect();
    let prss = Prss::<D>::revealed(committee, party, &keys);
    (0..chunk.parts_a::<D>().len()).find(|part| {
        let (_, share) = work::part_a::<W, D>(&prss, chunk, session, *part);
        !is_right(*part, &work::to_bytes(share.words()))
    })
}

impl<const D: usize, S: Signer + 'static, J: Journal + 'static> Inner<D, S, J> {
    /// Finds out who was wrong, excludes them, and goes on to the next attempt.
    pub(super) async fn reveal<W: KeyWord, E: Exchange>(&self, ex: &E, at: &Try) -> Result<(), RunError> {
        let (committee, chunk) = (self.config.committee, at.chunk);
        let claims = self.key_claims(ex, at).await?;
        let keys = true_keys(&committee, &chunk, &claims);
        for claim in claims.iter().filter(|claim| contradicts(&committee, &chunk, claim, &keys)) {
            let proof = evidence::wrong_keys(at.key(), claim.party, &claims);
            self.prove(chunk.index, claim.party, Misdeed::WrongKeys, proof);
        }
        let (frames, certificate) = {
            let state = self.state();
            let Some(attempt) = state.attempts.get(&at.key()) else { return Ok(()) };
            let judged = |(party, hash): (&PartyId, &[u8; 32])| Some((*party, attempt.frame(*party, hash)?.clone()));
            let frames: Vec<(PartyId, SignedFrame)> = match &attempt.judged {
                Some(word) => word.iter().filter_map(judged).collect(),
                // This party has restarted: it finds what it can, and takes over what the others found.
                None => attempt.word.iter().map(|(party, frame)| (*party, frame.clone())).collect(),
            };
            (frames, attempt.certificate.clone())
        };
        let Some(certificate) = certificate else { return Ok(()) };
        let mut wrong = PartySet::EMPTY;
        let keys = Arc::new(keys);
        for (party, frame) in frames {
            let (keys, tried, bytes) = (Arc::clone(&keys), *at, frame.frame.clone());
            let found = ex
                .compute(move || {
                    let parts = work::parts_of_a::<D>(&tried.chunk, &bytes);
                    wrong_part::<W, D>(&committee, &tried.chunk, &tried.session, party, &keys, |part, right| {
                        parts.get(part).is_some_and(|bytes| *bytes == right)
                    })
                })
                .await;
            if let Some(part) = found {
                wrong.insert(party);
                let proof = evidence::wrong_frame::<D>(at.key(), &chunk, party, &frame, part, &certificate, &claims);
                self.prove(chunk.index, party, Misdeed::WrongFrame, proof);
            }
        }
        self.exclude(at, wrong.iter().collect::<Vec<_>>().into_iter(), false).await?;
        self.write_culprits().await?;
        let (chunk, attempt) = at.key();
        self.journal.append(Record::Dropped { chunk, attempt }.encode(), true).await?;
        let own = self.config.own;
        self.change(|state| {
            state.current.insert(chunk, attempt + 1);
            state.dropped.insert((chunk, attempt));
            if let Some(attempt) = state.attempts.get_mut(&at.key()) {
                attempt.forget_others(own);
            }
        });
        Ok(())
    }

    /// This party's claim. **Only for an attempt that a certificate has dropped.**
    pub(super) fn key_claim(&self, at: &Try) -> KeyClaim {
        let keys = match at.chunk.width {
            Width::W64 => self.prss.stream_keys::<u64>(&at.session),
            Width::W128 => self.prss.stream_keys::<u128>(&at.session),
        };
        let mut claimed = Vec::new();
        for keys in keys {
            keys[..keys_per_set(&at.chunk)].iter().for_each(|key| claimed.extend_from_slice(key));
        }
        let (party, claims) = (self.config.own, Bytes::from(claimed));
        let signature = self.signer.sign(&statement::claim(&at.session, party, &claims));
        KeyClaim { party, signature, claims }
    }

    /// Publishes this party's claim and gathers those of the others until the keys of all sets are known.
    async fn key_claims<E: Exchange>(&self, ex: &E, at: &Try) -> Result<Vec<KeyClaim>, RunError> {
        let (committee, chunk) = (self.config.committee, at.chunk);
        let own = self.key_claim(at);
        self.change(|state| {
            let attempt = state.attempts.entry(at.key()).or_default();
            // Nothing is revealed without a certificate.
            if attempt.certificate.as_ref().is_some_and(|c| c.vote == statement::Vote::Reveal) {
                attempt.keys = Some(own.encode());
            }
        });
        let len = claim_bytes(&committee, &chunk);
        let one = |party| async move {
            let read = |answer: &Bytes| {
                let (signature, claims) = answer.split_at_checked(SIGNATURE_BYTES)?;
                let signature: Signature = signature.try_into().ok()?;
                let right = claims.len() == len
                    && self.signer.verify(party, &statement::claim(&at.session, party, claims), &signature);
                right.then(|| KeyClaim { party, signature, claims: answer.slice(SIGNATURE_BYTES..) })
            };
            self.ask(ex, party, at.question(Ask::Keys), read).await
        };
        let mut asks: FuturesUnordered<_> = self.peers().map(one).collect();
        let mut all = vec![own];
        let sets = committee.prss_sets().count();
        while let Some(claim) = asks.next().await {
            all.push(claim?);
            if all.len() > 2 * committee.t() && true_keys(&committee, &chunk, &all).len() == sets {
                break;
            }
        }
        all.sort_by_key(|claim| claim.party);
        Ok(all)
    }

    /// Journals what was found against parties and is not journalled yet.
    pub(super) async fn write_culprits(&self) -> Result<(), RunError> {
        loop {
            let next = {
                let state = self.state();
                let written = state.culprits_written;
                state.culprits.get(written).cloned().map(|culprit| (written, culprit))
            };
            let Some((written, culprit)) = next else { return Ok(()) };
            self.journal.append(Record::Culprit(culprit).encode(), false).await?;
            let mut state = self.state();
            state.culprits_written = state.culprits_written.max(written + 1);
        }
    }
}
