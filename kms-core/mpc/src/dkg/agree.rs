//! Agreement on openings of degree 2t.
//!
//! A vote FINAL(h) is cast only on a zero syndrome over all parties that are not excluded: with at most t liars and late
//! parties that value is right, so all honest FINAL votes on an attempt are equal. A party that sees another syndrome, or
//! misses frames for too long, enters the complaint of [`super::relay`], after which all honest parties that have not voted
//! judge the same word. Nothing is used before 2t + 1 equal votes FINAL, nothing revealed before 2t + 1 votes REVEAL, and
//! a vote is durable before it is told: a party never casts two.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{self, Either, select};
use futures::stream::FuturesUnordered;
use kms_algebra::{PartyId, PartySet};

use super::ask::alongside;
use super::error::RunError;
use super::evidence::{self, Culprit, Misdeed};
use super::exchange::{Exchange, Signer};
use super::journal::Journal;
use super::message::{Ask, Question, SignedFrame, VoteAnswer};
use super::plan::Chunk;
use super::record::Record;
use super::run::Inner;
use super::statement::{self, Certificate, Signature, Vote};
use super::work::{self, KeyWord, Opened};
use crate::SessionId;

/// An attempt at a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Try {
    pub(super) chunk: Chunk,
    pub(super) attempt: u32,
    pub(super) session: SessionId,
}

impl Try {
    pub(super) const fn key(&self) -> (u32, u32) {
        (self.chunk.index, self.attempt)
    }

    pub(super) const fn question(&self, ask: Ask) -> Question {
        Question { chunk: self.chunk.index, attempt: self.attempt, ask }
    }
}

/// What was agreed on.
pub(super) enum Verdict<W> {
    /// These values may be used.
    Final(Opened<W>),
    /// The frames contradict each other: a certificate allows to reveal the stream keys.
    Reveal,
}

/// What a party sees of an attempt.
struct View {
    voted: Option<Vote>,
    certificate: Option<Vote>,
    present: PartySet,
    needed: PartySet,
    split: bool,
}

impl<const D: usize, S: Signer + 'static, J: Journal + 'static> Inner<D, S, J> {
    /// Agrees on the opening of frame A. This party's own one is published already.
    pub(super) async fn agree<W: KeyWord, E: Exchange>(&self, ex: &E, at: &Try) -> Result<Verdict<W>, RunError> {
        let others: FuturesUnordered<_> = self.peers().map(|peer| self.listen(ex, at, peer)).collect();
        alongside(self.decide(ex, at), others).await
    }

    /// Gets a peer's frame A and its vote.
    async fn listen<E: Exchange>(&self, ex: &E, at: &Try, peer: PartyId) -> Result<(), RunError> {
        let frame = async {
            if self.state().excluded(at.chunk.index, at.attempt).contains(peer) {
                return Ok(());
            }
            let direct = core::pin::pin!(self.frame_of(ex, at, peer));
            let around = core::pin::pin!(self.frame_from_others(ex, at, peer));
            let (frame, evasive) = match select(direct, around).await {
                Either::Left((frame, _)) => (frame?, false),
                Either::Right((frame, _)) => (frame?, true),
            };
            if evasive {
                self.state().evasive.insert(peer);
            } else {
                self.state().evasive.remove(peer);
            }
            self.keep_frame(at, peer, frame);
            Ok(())
        };
        let votes = async {
            let mut known = false;
            loop {
                let committee = self.config.committee;
                let read = |answer: &Bytes| VoteAnswer::decode(answer, &committee);
                let answer = self.ask(ex, peer, at.question(Ask::Vote { known }), read).await?;
                if let Some((vote, signature)) = answer.vote {
                    known |= self.hear_vote(at, peer, vote, signature);
                }
                if let Some(certificate) = answer.certificate
                    && certificate.verify(&committee, &at.session, &*self.signer)
                {
                    // Somebody in it may have told this party something else.
                    for (party, signature) in &certificate.signatures {
                        self.hear_vote(at, *party, certificate.vote, *signature);
                    }
                    self.change(|state| {
                        state.attempts.entry(at.key()).or_default().certificate.get_or_insert(certificate);
                    });
                }
                if self.state().attempts.get(&at.key()).is_none_or(|attempt| attempt.certificate.is_some()) {
                    return Ok(());
                }
                // A peer whose vote is known and that answers nevertheless may not keep this party busy.
                ex.sleep(self.config.patience / 256).await;
            }
        };
        let (frame, votes): (Result<(), RunError>, Result<(), RunError>) = future::join(frame, votes).await;
        frame.and(votes)
    }

    /// A peer's frame A, from itself.
    async fn frame_of<E: Exchange>(&self, ex: &E, at: &Try, peer: PartyId) -> Result<SignedFrame, RunError> {
        loop {
            let len = at.chunk.bytes_a::<D>();
            let read = |answer: &Bytes| SignedFrame::decode(answer, len);
            let frame = self.ask(ex, peer, at.question(Ask::FrameA), read).await?;
            if self.check_frame(ex, at, peer, &frame).await {
                return Ok(frame);
            }
            self.malformed(peer, at.chunk.index);
            ex.sleep(self.config.patience / 8).await;
        }
    }

    /// A party's frame A from somebody else: so nobody delays a run by giving its frames to all but one.
    async fn frame_from_others<E: Exchange>(&self, ex: &E, at: &Try, sender: PartyId) -> Result<SignedFrame, RunError> {
        let evasive = self.state().evasive.contains(sender);
        ex.sleep(self.config.patience / if evasive { 1024 } else { 16 }).await;
        let question = at.question(Ask::Held { sender, hash: None });
        let check = |_, answer: Bytes| async move {
            let frame = SignedFrame::decode(&answer, at.chunk.bytes_a::<D>())?;
            self.check_frame(ex, at, sender, &frame).await.then_some(frame)
        };
        loop {
            let peers = self.peers().filter(|peer| *peer != sender);
            if let Some(frame) = self.first_of(ex, peers, question, check).await? {
                return Ok(frame);
            }
            ex.sleep(self.config.patience / 64).await;
        }
    }

    /// Whether a frame has the hash that its sender signed.
    pub(super) async fn check_frame<E: Exchange>(
        &self,
        ex: &E,
        at: &Try,
        sender: PartyId,
        frame: &SignedFrame,
    ) -> bool {
        if !self.signer.verify(sender, &statement::frame(&at.session, sender, &frame.hash), &frame.signature) {
            return false;
        }
        let (chunk, bytes) = (at.chunk, frame.frame.clone());
        let hash = ex.compute(move || statement::hash_of_parts(&work::part_hashes::<D>(&chunk, &bytes))).await;
        hash == frame.hash
    }

    /// Keeps a frame that was checked. Two different ones prove that their sender lied, and no more are kept.
    pub(super) fn keep_frame(&self, at: &Try, sender: PartyId, frame: SignedFrame) {
        let proof = self.change(|state| {
            let attempt = state.attempts.entry(at.key()).or_default();
            match attempt.word.get(&sender) {
                Some(first) if first.hash != frame.hash => {
                    let first = (first.hash, first.signature);
                    let second = (frame.hash, frame.signature);
                    if attempt.frames_of(sender) < 2 {
                        attempt.others.push((sender, frame));
                    }
                    Some(evidence::equivocation(at.key(), sender, first, second))
                }
                Some(_) => None,
                None => {
                    attempt.word.insert(sender, frame);
                    None
                }
            }
        });
        if let Some(proof) = proof {
            self.prove(at.chunk.index, sender, Misdeed::Equivocated, proof);
        }
    }

    /// Keeps a proof against a party.
    pub(super) fn prove(&self, chunk: u32, party: PartyId, misdeed: Misdeed, evidence: Bytes) {
        self.change(|state| {
            if misdeed == Misdeed::Equivocated {
                state.proofs.entry(party).or_insert_with(|| evidence.clone());
            }
            state.blame(Culprit { party, misdeed, chunk, evidence })
        });
    }

    /// Takes a vote; whether it is one.
    pub(super) fn hear_vote(&self, at: &Try, peer: PartyId, vote: Vote, signature: Signature) -> bool {
        if !self.signer.verify(peer, &vote.digest(&at.session), &signature) {
            self.malformed(peer, at.chunk.index);
            return false;
        }
        let needed = 2 * self.config.committee.t() + 1;
        let proof = self.change(|state| {
            let attempt = state.attempts.entry(at.key()).or_default();
            if let Some(first) = attempt.votes.get(&peer) {
                return (first.0 != vote).then(|| evidence::votes(at.key(), peer, *first, (vote, signature)));
            }
            attempt.votes.insert(peer, (vote, signature));
            let equal = attempt.votes.iter().filter(|(_, (v, _))| *v == vote);
            let signatures: Vec<_> = equal.map(|(party, (_, signature))| (*party, *signature)).collect();
            if attempt.certificate.is_none() && signatures.len() >= needed {
                attempt.certificate = Some(Certificate { vote, signatures });
            }
            None
        });
        if let Some(proof) = proof {
            self.prove(at.chunk.index, peer, Misdeed::VotedTwice, proof);
        }
        true
    }

    /// Casts this party's vote, unless it has cast one.
    pub(super) async fn vote(&self, at: &Try, vote: Vote) -> Result<(), RunError> {
        if self.state().votes.contains_key(&at.key()) {
            return Ok(());
        }
        let (chunk, attempt) = at.key();
        self.journal.append(Record::Vote { chunk, attempt, vote }.encode(), true).await?;
        self.state().votes.insert(at.key(), vote);
        self.tell_vote(at, vote);
        Ok(())
    }

    /// Shows a vote that is durable.
    pub(super) fn tell_vote(&self, at: &Try, vote: Vote) {
        let signature = self.signer.sign(&vote.digest(&at.session));
        self.hear_vote(at, self.config.own, vote, signature);
    }

    fn view(&self, at: &Try) -> View {
        let state = self.state();
        let (n, t) = (self.config.committee.n(), self.config.committee.t());
        let needed = PartySet::all(n).without(state.absent(at.chunk.index, at.attempt));
        let voted = state.votes.get(&at.key()).copied();
        let Some(attempt) = state.attempts.get(&at.key()) else {
            return View { voted, certificate: None, present: PartySet::EMPTY, needed, split: false };
        };
        let reveals = attempt.votes.values().filter(|(vote, _)| *vote == Vote::Reveal).count();
        let unheard = n - attempt.votes.len();
        // Honest votes FINAL are all equal, so the most that any of them can get is what all of them have.
        let finals = attempt.votes.len() - reveals;
        View {
            voted,
            certificate: attempt.certificate.as_ref().map(|c| c.vote),
            present: attempt.word.keys().copied().collect(),
            needed,
            split: finals + unheard < 2 * t + 1 && reveals + unheard < 2 * t + 1,
        }
    }

    async fn decide<W: KeyWord, E: Exchange>(&self, ex: &E, at: &Try) -> Result<Verdict<W>, RunError> {
        let mut changes = self.version.subscribe();
        let mut opened: Option<Opened<W>> = None;
        let mut tried = PartySet::EMPTY;
        let mut instance = 0;
        loop {
            let mut patience = core::pin::pin!(ex.sleep(self.config.patience));
            let mut expired = false;
            loop {
                changes.borrow_and_update();
                let view = self.view(at);
                match view.certificate {
                    Some(Vote::Reveal) => return Ok(Verdict::Reveal),
                    Some(Vote::Final(hash)) => {
                        if let Some(opened) = opened.take_if(|opened| opened.hash == hash) {
                            return Ok(Verdict::Final(opened));
                        }
                        let word = core::pin::pin!(self.certified_word(ex, at, hash));
                        let values = core::pin::pin!(self.certified_values(ex, at, hash));
                        return match select(word, values).await {
                            Either::Left((opened, _)) => Ok(Verdict::Final(opened)),
                            Either::Right((opened, _)) => {
                                if self.view(at).needed.without(self.view(at).present).is_empty() {
                                    self.compare(ex, at).await?;
                                }
                                opened.map(Verdict::Final)
                            }
                        };
                    }
                    None if view.split => return Err(RunError::Split { chunk: at.chunk.index }),
                    None => {}
                }
                let complete = view.needed.without(view.present).is_empty();
                if opened.is_none() && complete && tried != view.needed {
                    tried = view.needed;
                    opened = self.open(ex, at, self.frames(at, view.needed)).await;
                    if let Some(opened) = &opened {
                        self.vote(at, Vote::Final(opened.hash)).await?;
                    }
                    continue;
                }
                if view.voted.is_none() && view.certificate.is_none() && ((complete && instance == 0) || expired) {
                    instance += 1;
                    if let Some(found) = self.complain(ex, at, instance).await? {
                        opened = found;
                    }
                    // If it came to nothing, more than t are away: there is time.
                    break;
                }
                self.waiting_for(at, view.needed.without(view.present));
                let change = core::pin::pin!(changes.changed());
                if expired {
                    let _ = change.await;
                } else if let Either::Left(_) = select(patience.as_mut(), change).await {
                    expired = true;
                }
            }
        }
    }

    /// Opens frames of different parties.
    pub(super) async fn open<W: KeyWord, E: Exchange>(
        &self,
        ex: &E,
        at: &Try,
        frames: Vec<(PartyId, Bytes)>,
    ) -> Option<Opened<W>> {
        // More than t are missing: a zero syndrome would prove nothing.
        if frames.len() < self.config.committee.n() - self.config.committee.t() {
            return None;
        }
        let (decoders, chunk) = (Arc::clone(&self.decoders), at.chunk);
        ex.compute(move || work::open::<W, D>(&decoders.double, &chunk, &frames)).await
    }

    /// The frames of these parties, as far as they are here.
    fn frames(&self, at: &Try, set: PartySet) -> Vec<(PartyId, Bytes)> {
        let state = self.state();
        let word = state.attempts.get(&at.key()).map(|attempt| &attempt.word);
        word.into_iter()
            .flatten()
            .filter(|(party, _)| set.contains(**party))
            .map(|(party, frame)| (*party, frame.frame.clone()))
            .collect()
    }

    /// Values with a certified hash out of the frames that are here, as soon as they give them.
    async fn certified_word<W: KeyWord, E: Exchange>(&self, ex: &E, at: &Try, hash: [u8; 32]) -> Opened<W> {
        let mut changes = self.version.subscribe();
        let mut tried = PartySet::EMPTY;
        loop {
            changes.borrow_and_update();
            let present = self.view(at).present;
            if present != tried && present.len() > 2 * self.config.committee.t() {
                tried = present;
                let (decoders, chunk, frames) = (Arc::clone(&self.decoders), at.chunk, self.frames(at, present));
                let opened = ex.compute(move || work::open::<W, D>(&decoders.double, &chunk, &frames)).await;
                if let Some(opened) = opened.filter(|opened| opened.hash == hash) {
                    self.state().misled = false;
                    return opened;
                }
            } else {
                let _ = changes.changed().await;
            }
        }
    }

    /// Values with a certified hash from whoever has opened them: this party's word is bad, or does not become whole.
    async fn certified_values<W: KeyWord, E: Exchange>(
        &self,
        ex: &E,
        at: &Try,
        hash: [u8; 32],
    ) -> Result<Opened<W>, RunError> {
        let check = |peer, answer: Bytes| async move {
            let chunk = at.chunk;
            let opened = ex.compute(move || Opened::<W>::from_bytes(&chunk, &answer)).await;
            let right = opened.filter(|opened| opened.hash == hash);
            if right.is_none() {
                self.malformed(peer, chunk.index);
            }
            right
        };
        loop {
            let misled = self.state().misled;
            ex.sleep(self.config.patience / if misled { 1024 } else { 64 }).await;
            if let Some(opened) = self.first_of(ex, self.peers(), at.question(Ask::Values), check).await? {
                self.state().misled = true;
                return Ok(opened);
            }
        }
    }
}
