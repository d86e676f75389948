//! What a party knows of a run in memory. All of it is a function of the run's keys, of the journal, and of what peers
//! answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kms_algebra::{PartyId, PartySet};

use super::evidence::Culprit;
use super::message::{Claim, Exclusion, SignedFrame, VoteAnswer};
use super::run::Seed;
use super::statement::{Certificate, Signature, Vote};
use super::work::Values;

/// One attempt at a chunk.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    /// Frames A whose signature was checked, by sender, this party's included.
    pub(super) word: BTreeMap<PartyId, SignedFrame>,
    /// Further frames of senders that signed more than one.
    pub(super) others: Vec<(PartyId, SignedFrame)>,
    /// What others signed whose frames are forgotten: it still shows who signed something else for somebody else.
    pub(super) signed: BTreeMap<PartyId, ([u8; 32], Signature)>,
    /// Votes whose signature was checked.
    pub(super) votes: BTreeMap<PartyId, (Vote, Signature)>,
    /// 2t + 1 equal ones.
    pub(super) certificate: Option<Certificate>,
    /// What this party relays in a complaint, by instance and round.
    pub(super) relays: BTreeMap<(u32, u8), Bytes>,
    /// The word that was judged at the end of a complaint: hashes of frames by sender.
    pub(super) judged: Option<BTreeMap<PartyId, [u8; 32]>>,
    /// Stream keys, revealed after a certificate.
    pub(super) keys: Option<Bytes>,
    /// What frames A opened to, once that is certified and as long as the chunk is in flight.
    pub(super) opened: Option<Arc<dyn Values>>,
    /// This party's frame B.
    pub(super) b: Option<Bytes>,
    /// This party's frame C.
    pub(super) c: Option<Bytes>,
}

impl Attempt {
    /// The frame of a sender with a hash.
    pub(super) fn frame(&self, sender: PartyId, hash: &[u8; 32]) -> Option<&SignedFrame> {
        let others = self.others.iter().filter(|(party, _)| *party == sender).map(|(_, frame)| frame);
        self.word.get(&sender).into_iter().chain(others).find(|frame| frame.hash == *hash)
    }

    /// Forgets the bytes of others' frames.
    pub(super) fn forget_others(&mut self, own: PartyId) {
        for (party, frame) in &self.word {
            self.signed.insert(*party, (frame.hash, frame.signature));
        }
        self.word.retain(|party, _| *party == own);
        self.others.clear();
    }

    /// How many frames of a sender are here: two at most, which prove that it lied.
    pub(super) fn frames_of(&self, sender: PartyId) -> usize {
        let others = self.others.iter().filter(|(party, _)| *party == sender).count();
        usize::from(self.word.contains_key(&sender)) + others
    }

    /// What more than t parties have voted FINAL for: one of them is honest, so it is right.
    pub(super) fn vouched_final(&self, t: usize) -> Option<[u8; 32]> {
        let mut votes: BTreeMap<[u8; 32], usize> = BTreeMap::new();
        for (vote, _) in self.votes.values() {
            if let Vote::Final(hash) = vote {
                *votes.entry(*hash).or_default() += 1;
            }
        }
        votes.into_iter().find(|(_, count)| *count > t).map(|(hash, _)| hash)
    }
}

/// A chunk that is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    /// The attempt that succeeded.
    pub(super) attempt: u32,
    /// SHA-256 of its bodies or values.
    pub(super) hash: [u8; 32],
}

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) seed: Option<Seed>,
    /// This party's votes, all of them durable.
    pub(super) votes: BTreeMap<(u32, u32), Vote>,
    /// Attempts at chunks that are in flight, or that peers may still ask about.
    pub(super) attempts: BTreeMap<(u32, u32), Attempt>,
    /// Certificates of attempts that are forgotten otherwise.
    pub(super) certificates: BTreeMap<(u32, u32), Certificate>,
    /// Number of the current attempt, if it is not the first.
    pub(super) current: BTreeMap<u32, u32>,
    /// Attempts that a certificate has dropped: their stream keys may be known.
    pub(super) dropped: BTreeSet<(u32, u32)>,
    pub(super) done: BTreeMap<u32, Done>,
    /// The first chunk that is not done.
    pub(super) frontier: u32,
    /// Opened values of chunks of secret bits that are done.
    pub(super) values: BTreeMap<u32, Bytes>,
    /// Agreed exclusions, in order.
    pub(super) exclusions: BTreeSet<Exclusion>,
    /// Proofs of equivocation: statements that any party can check.
    pub(super) proofs: BTreeMap<PartyId, Bytes>,
    pub(super) culprits: Vec<Culprit>,
    /// How many of them are journalled.
    pub(super) culprits_written: usize,
    /// Chunks that are done here, but whose frames peers ask for.
    pub(super) wanted: BTreeSet<u32>,
    /// Those that were wanted in this life.
    pub(super) served: BTreeSet<u32>,
    /// Parties whose frame came from another one the last time, because they did not give it.
    pub(super) evasive: PartySet,
    /// Whether peers were ahead the last time.
    pub(super) behind: bool,
    /// Whether certified values had to be fetched the last time.
    pub(super) misled: bool,
}

impl State {
    /// The current attempt at a chunk.
    pub(super) fn attempt_of(&self, chunk: u32) -> u32 {
        self.current.get(&chunk).copied().unwrap_or(0)
    }

    /// The agreed exclusions that hold for an attempt at a chunk.
    pub(super) fn excluded(&self, chunk: u32, attempt: u32) -> PartySet {
        self.exclusions.iter().filter(|e| (e.chunk, e.attempt) < (chunk, attempt)).map(|e| e.party).collect()
    }

    /// The parties whose frames are not waited for in an attempt: excluded ones, and proved equivocators.
    pub(super) fn absent(&self, chunk: u32, attempt: u32) -> PartySet {
        self.excluded(chunk, attempt).union(self.proofs.keys().copied().collect())
    }

    /// The agreed exclusions that hold for an attempt at a chunk, in order, the first one of each party.
    pub(super) fn exclusions_before(&self, key: (u32, u32)) -> Vec<Exclusion> {
        let mut parties = PartySet::EMPTY;
        let holds = self.exclusions.iter().filter(|e| (e.chunk, e.attempt) < key);
        holds.filter(|e| parties.insert(e.party)).copied().collect()
    }

    /// What this party claims about a chunk that is done.
    pub(super) fn claim(&self, chunk: u32) -> Option<Claim> {
        let done = self.done.get(&chunk)?;
        let exclusions = self.exclusions_before((chunk + 1, 0));
        Some(Claim { attempt: done.attempt, hash: done.hash, exclusions })
    }

    /// What this party says about the votes on an attempt.
    pub(super) fn vote_answer(&self, own: PartyId, key: (u32, u32)) -> VoteAnswer {
        let attempt = self.attempts.get(&key);
        let certificate = attempt.and_then(|a| a.certificate.as_ref()).or_else(|| self.certificates.get(&key)).cloned();
        VoteAnswer { vote: attempt.and_then(|a| a.votes.get(&own)).copied(), certificate }
    }

    /// Whether a chunk can't change the exclusions of later ones any more.
    pub(super) fn settled(&self, chunk: u32) -> bool {
        let key = (chunk, self.attempt_of(chunk));
        self.done.contains_key(&chunk)
            || self
                .attempts
                .get(&key)
                .and_then(|a| a.certificate.as_ref())
                .is_some_and(|c| matches!(c.vote, Vote::Final(_)))
    }

    /// Moves the frontier behind all chunks that are done without a gap.
    pub(super) fn advance(&mut self) {
        while self.done.contains_key(&self.frontier) {
            self.frontier += 1;
        }
    }

    /// Adds what speaks against a party. One entry per party and misdeed; whether it is new.
    pub(super) fn blame(&mut self, culprit: Culprit) -> bool {
        let known = self.culprits.iter().any(|c| c.party == culprit.party && c.misdeed == culprit.misdeed);
        if !known {
            self.culprits.push(culprit);
        }
        !known
    }

    /// Forgets frames of chunks that no party can still need from here, and keeps their certificates.
    pub(super) fn prune(&mut self, before: u32) {
        let old: Vec<(u32, u32)> = self.attempts.range(..(before, 0)).map(|(key, _)| *key).collect();
        for key in old {
            if let Some(certificate) = self.attempts.remove(&key).and_then(|a| a.certificate) {
                self.certificates.insert(key, certificate);
            }
        }
    }
}
