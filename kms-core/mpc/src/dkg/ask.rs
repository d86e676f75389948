//! Asking peers, and what they are answered.

use core::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use futures::stream::{FuturesUnordered, StreamExt};
use kms_algebra::{PartyId, Word};

use super::error::{Answerless, RunError};
use super::evidence::{Culprit, Misdeed};
use super::exchange::{AskError, Exchange, Signer};
use super::journal::Journal;
use super::message::{Ask, Question};
use super::plan;
use super::run::{Inner, MAX_ATTEMPTS};
use super::work;

/// First pause after "not yet".
const AGAIN: Duration = Duration::from_millis(20);
/// Longest pause after "not yet".
const NOT_YET: Duration = Duration::from_millis(500);
/// Longest pause after a peer could not be reached.
const UNREACHABLE: Duration = Duration::from_secs(2);

/// What becomes of a question.
enum Reply {
    Now(Bytes),
    /// What is in the journal.
    Bodies {
        component: usize,
        offset: usize,
        len: usize,
    },
    /// This party's frame C of a chunk that is done, if the journal still has it.
    Kept {
        attempt: u32,
    },
    Hold,
}

impl<const D: usize, S: Signer + 'static, J: Journal + 'static> Inner<D, S, J> {
    /// Asks until there is an answer that `read` takes.
    pub(super) async fn ask<E: Exchange, T>(
        &self,
        ex: &E,
        peer: PartyId,
        question: Question,
        read: impl Fn(&Bytes) -> Option<T> + Send,
    ) -> Result<T, RunError> {
        let bytes = question.encode();
        let (mut again, mut unreachable) = (AGAIN, AGAIN);
        loop {
            let pause = match ex.ask(peer, bytes.clone()).await {
                Ok(answer) => {
                    self.count(bytes.len(), answer.len());
                    if let Some(value) = read(&answer) {
                        return Ok(value);
                    }
                    self.malformed(peer, question.chunk);
                    self.config.patience / 8
                }
                Err(AskError::Closed) => return Err(RunError::Closed),
                Err(AskError::NotYet) => {
                    // A peer that has nothing yet holds the question for a while; one that does not may not spin.
                    let pause = again;
                    again = (again * 2).min(NOT_YET);
                    pause
                }
                Err(AskError::Unreachable) => {
                    unreachable = (unreachable * 2).min(UNREACHABLE);
                    unreachable
                }
            };
            ex.sleep(pause).await;
        }
    }

    /// Asks one peer after the other until `check` takes an answer. Whoever does not answer soon keeps nobody else from it:
    /// the next one is asked meanwhile. `None`: nobody has it.
    pub(super) async fn first_of<E: Exchange, T: Send, F: Future<Output = Option<T>> + Send>(
        &self,
        ex: &E,
        mut peers: impl Iterator<Item = PartyId> + Send,
        question: Question,
        check: impl Fn(PartyId, Bytes) -> F + Send + Sync,
    ) -> Result<Option<T>, RunError> {
        let (bytes, check) = (question.encode(), &check);
        let one = |peer| {
            let bytes = bytes.clone();
            async move {
                match ex.ask(peer, bytes.clone()).await {
                    Ok(answer) => {
                        self.count(bytes.len(), answer.len());
                        Ok(check(peer, answer).await)
                    }
                    Err(AskError::Closed) => Err(RunError::Closed),
                    Err(AskError::NotYet | AskError::Unreachable) => Ok(None),
                }
            }
        };
        let mut asks = FuturesUnordered::new();
        loop {
            asks.extend(peers.next().map(one));
            if asks.is_empty() {
                return Ok(None);
            }
            let soon = core::pin::pin!(ex.sleep(self.config.patience / 128));
            if let Either::Left((Some(found), _)) = select(asks.next(), soon).await
                && let Some(found) = found?
            {
                return Ok(Some(found));
            }
        }
    }

    /// Records that a peer answered with something that is no answer.
    pub(super) fn malformed(&self, peer: PartyId, chunk: u32) {
        self.change(|state| {
            state.blame(Culprit { party: peer, misdeed: Misdeed::Malformed, chunk, evidence: Bytes::new() })
        });
    }

    /// Answers a peer as soon as there is an answer.
    pub(super) async fn answer(&self, from: PartyId, question: &Bytes) -> Result<Bytes, Answerless> {
        if !self.config.committee.contains(from) {
            return Err(Answerless::NotForYou);
        }
        let asked = Question::decode(question).ok_or(Answerless::Malformed)?;
        let mut changes = self.version.subscribe();
        let answer = loop {
            changes.borrow_and_update();
            match self.reply(&asked)? {
                Reply::Now(answer) => break answer,
                Reply::Bodies { component, offset, len } => {
                    let bodies = self.journal.read_bodies(component, offset, len).await;
                    break bodies.map_err(|_| Answerless::Journal)?;
                }
                Reply::Kept { attempt } => {
                    let kept = self.kept_c(asked.chunk, attempt).await;
                    break kept.ok_or(Answerless::NotYet)?;
                }
                Reply::Hold => {}
            }
            if changes.changed().await.is_err() {
                return Err(Answerless::NotYet);
            }
        };
        self.count(answer.len(), question.len());
        Ok(answer)
    }

    fn reply(&self, asked: &Question) -> Result<Reply, Answerless> {
        if asked.ask == Ask::Coin {
            return Ok(Reply::Now(self.coin_share()));
        }
        let key = (asked.chunk, asked.attempt);
        let chunk = self.plan.get(asked.chunk).filter(|_| asked.attempt < MAX_ATTEMPTS).ok_or(Answerless::Malformed)?;
        let mut state = self.state();
        let own = self.config.own;
        let hold_or = |answer: Option<Bytes>| answer.map_or(Reply::Hold, Reply::Now);
        Ok(match asked.ask {
            Ask::Coin => Reply::Hold,
            Ask::FrameA | Ask::FrameB | Ask::FrameC => {
                let answer = state.attempts.get(&key).and_then(|attempt| match asked.ask {
                    Ask::FrameA => attempt.word.get(&own).map(super::message::SignedFrame::encode),
                    Ask::FrameB => attempt.b.clone(),
                    _ => attempt.c.clone(),
                });
                let gone = answer.is_none() && state.done.get(&asked.chunk).is_some_and(|d| d.attempt == asked.attempt);
                if gone && asked.ask == Ask::FrameC {
                    return Ok(Reply::Kept { attempt: asked.attempt });
                }
                if gone && asked.chunk < state.frontier.saturating_sub(self.kept_chunks()) {
                    // More than t honest parties have done it, this one included: its result can be taken over.
                    return Err(Answerless::NotYet);
                }
                // Once: what can't be made again then is taken over as a result.
                if gone && state.served.insert(asked.chunk) {
                    state.wanted.insert(asked.chunk);
                    drop(state);
                    self.touch();
                }
                hold_or(answer)
            }
            Ask::Vote { known } => {
                let mut answer = state.vote_answer(own, key);
                // After a restart votes on chunks that are done are not signed any more, but peers may need them.
                if answer.vote.is_none()
                    && let Some(vote) = state.votes.get(&key)
                    && let Some(seed) = state.seed
                {
                    let session = plan::session(&self.config.run, &seed, chunk, asked.attempt);
                    answer.vote = Some((*vote, self.signer.sign(&vote.digest(&session))));
                }
                let news = answer.certificate.is_some() || (answer.vote.is_some() && !known);
                hold_or(news.then(|| answer.encode()))
            }
            Ask::Relay { instance, round } => {
                let relay = state.attempts.get(&key).and_then(|attempt| attempt.relays.get(&(instance, round)));
                let (relay, voted) = (relay.cloned(), state.votes.contains_key(&key));
                drop(state);
                match (relay, voted) {
                    (Some(relay), _) => Reply::Now(relay),
                    // Who has voted takes no part, but shows what it has.
                    (None, true) => Reply::Now(self.relay_of_voter(key, instance, round)),
                    (None, false) => Reply::Hold,
                }
            }
            Ask::Held { sender, hash } => {
                let attempt = state.attempts.get(&key);
                let frame = match hash {
                    Some(hash) => attempt.and_then(|attempt| attempt.frame(sender, &hash)),
                    None => attempt.and_then(|attempt| attempt.word.get(&sender)),
                };
                Reply::Now(frame.ok_or(Answerless::NotYet)?.encode())
            }
            Ask::Keys => {
                let kept = state.attempts.get(&key).and_then(|attempt| attempt.keys.clone());
                let dropped = state.dropped.contains(&key);
                drop(state);
                match self.try_of(*chunk, asked.attempt).filter(|_| dropped && kept.is_none()) {
                    // Of a former life.
                    Some(at) => Reply::Now(self.key_claim(&at).encode()),
                    None => hold_or(kept),
                }
            }
            Ask::Values => {
                let opened = state.attempts.get(&key).and_then(|attempt| attempt.opened.clone());
                drop(state);
                Reply::Now(opened.ok_or(Answerless::NotYet)?.to_bytes())
            }
            Ask::Claim => Reply::Now(state.claim(asked.chunk).ok_or(Answerless::NotYet)?.encode()),
            Ask::Result => {
                if !state.done.contains_key(&asked.chunk) {
                    return Err(Answerless::NotYet);
                }
                match chunk.component() {
                    Some(component) => Reply::Bodies { component, offset: chunk.offset, len: chunk.result_bytes() },
                    None => hold_or(state.values.get(&asked.chunk).cloned()),
                }
            }
        })
    }

    /// This party's share of the coin.
    pub(super) fn coin_share(&self) -> Bytes {
        let share = self.prss.uniform::<u128>(&plan::coin_session(&self.config.run), 0, 1);
        work::to_bytes(share.words()).into()
    }

    /// Elements of a coin's share, for its length.
    pub(super) const COIN_BYTES: usize = D * <u128 as Word>::BYTES;
}

/// Runs `main` to its end, and `others` as long as it takes. An error of one of them is the end, too.
pub(super) async fn alongside<T>(
    main: impl Future<Output = Result<T, RunError>> + Send,
    mut others: FuturesUnordered<impl Future<Output = Result<(), RunError>> + Send>,
) -> Result<T, RunError> {
    let mut main = core::pin::pin!(main);
    loop {
        if others.is_empty() {
            return main.await;
        }
        match select(main.as_mut(), others.next()).await {
            Either::Left((result, _)) => return result,
            Either::Right((Some(Err(error)), _)) => return Err(error),
            Either::Right(_) => {}
        }
    }
}
