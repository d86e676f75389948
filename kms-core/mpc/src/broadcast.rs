//! Reliable broadcast by all parties at once, with agreement on absence.
//!
//! Every party sends one message; at the end every honest party has, for each sender, the same message or the same
//! *absent*. An honest sender that is on time is never absent.
//!
//! # Assumptions
//! n ≥ 3t + 1, at most t parties wrong or late, synchronous rounds ([`crate::lockstep`]), authenticated channels,
//! SHA3-256 collision resistant. No signatures.
//!
//! # Protocol (t + 3 rounds, all n senders in the same messages)
//! 1. *Send*: the sender s sends its message to all.
//! 2. *Echo*: everybody sends the hashes of what it received.
//! 3. *Vote*: whoever has n − t equal echoes for s votes for that hash, else for none. It also asks t + 1 echoers for the
//!    message of every hash with n − 2t echoes that it lacks; they answer in round 4.
//! 4. … t + 3. *Bits*: with n − t votes for one hash a party's bit for s is 1, else 0. The n − 1 parties other than s
//!    agree on one bit by exponential information gathering of depth **t** (`eig`); s listens.
//!
//! Bit 1: the message whose hash has t + 1 votes. Bit 0: absent.
//!
//! Sources: Turpin and Coan, *Extending binary Byzantine agreement to multivalued* (1984) for rounds 2 and 3; Pease,
//! Shostak and Lamport, *Reaching agreement in the presence of faults* (1980), and Bar-Noy, Dolev, Dwork and Strong,
//! *Shifting gears* (1987), for the agreement by gathering; Bracha (1987) for the echo of hashes.
//!
//! # Proof
//! (a) *Honest votes for s agree.* Two honest parties with n − t echoes each for h and h' share n − 2t > t echoers, so an
//! honest one, which echoed one hash to all: h = h'.
//!
//! (b) *Honest and on time is never absent.* All honest parties echo h, so all have n − t echoes and vote h, so all have
//! n − t votes: all honest bits are 1, and the gathering keeps a bit that all honest parties start with, also with t
//! wrong parties among the n − 1.
//!
//! (c) *Agreement.* Is s honest and on time, then (b). Else at most t − 1 of the other n − 1 ≥ 3(t − 1) + 1 parties are
//! wrong, and depth t suffices for them to agree, s included, for it hears what they hear. On 0 all say absent. On 1 some
//! honest party had bit 1 (otherwise all honest bits were 0 and would have been kept), so n − t votes for a hash h, at
//! least n − 2t ≥ t + 1 of them honest, and everybody sees these. No other hash has t + 1 votes, for that needs an honest
//! one, by (a).
//!
//! (d) *The message is there.* h has an honest vote, so n − t echoes at that party, so n − 2t honest echoes, which every
//! party sees: a party without the message asks t + 1 echoers of h, of which one is honest and answers in round 4. At most
//! two hashes of a sender have n − 2t echoes at one party (n − 2t > n / 3), and an honest party lacks messages of wrong or
//! late senders only: 2t questions at most, and nobody answers more.
//!
//! # Bytes sent to each peer
//! Message + echo 12 + 32n + vote 13 + 32n + 37·questions + bits: 8 + ⌈(n − 1)·(n − 2)!/((n − 1 − r)!·8)⌉ in the r-th
//! round of bits, about 2 KB in the last one at (13, 4).
//!
//! # Failure modes
//! Outside the model only: [`BroadcastError::Unavailable`] if a hash was agreed on whose message nobody sends. Honest
//! parties may then also disagree, as in any synchronous protocol.
//!
//! # Channels
//! `first` + 0 send, + 1 echo, + 2 vote, + 3 … + 2 + t bits, + 3 + t … + 2 + t + n answers: one for each sender, so that
//! all messages of a party on one channel are equal and a second one is proof of equivocation.

mod eig;
pub mod malicious;
pub mod wire;

use bytes::Bytes;
use kms_algebra::{PartyId, PartySet};
use sha3::{Digest, Sha3_256};

use self::eig::{Shape, Tree};
use self::wire::{Question, Votes};
use crate::lockstep::{Lockstep, Misdeed, Report};
use crate::{Closed, Committee, Network, SessionId};

/// SHA3-256 of a message with its session, channel and sender.
pub type Hash = [u8; 32];

/// Why a broadcast came to no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BroadcastError {
    /// The network was closed.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// A message was agreed on that nobody sends: more than t parties are wrong or late.
    #[error("nobody has sent the message of party {sender} that was agreed on")]
    Unavailable {
        /// Whose message.
        sender: PartyId,
    },
}

/// Rounds of a broadcast: t + 3.
#[must_use]
pub const fn rounds(committee: &Committee) -> u32 {
    committee.t() as u32 + 3
}

/// Channels of a broadcast: t + 3 + n.
#[must_use]
pub const fn channels(committee: &Committee) -> u8 {
    (committee.t() + 3 + committee.n()) as u8
}

/// Channels of a broadcast whose first channel is this.
#[derive(Clone, Copy, Debug)]
struct Channels {
    first: u8,
    t: u8,
}

impl Channels {
    const fn send(self) -> u8 {
        self.first
    }
    const fn echo(self) -> u8 {
        self.first + 1
    }
    const fn vote(self) -> u8 {
        self.first + 2
    }
    /// `round` from 1 to t.
    const fn bits(self, round: usize) -> u8 {
        self.first + 2 + round as u8
    }
    const fn answer(self, sender: PartyId) -> u8 {
        self.first + 3 + self.t + sender.slot() as u8
    }
}

fn hash(session: &SessionId, channel: u8, sender: PartyId, message: &[u8]) -> Hash {
    let mut hash = Sha3_256::new();
    hash.update(b"KMS-BROADCAST-1");
    hash.update(session.as_bytes());
    hash.update([channel, sender.index()]);
    hash.update(message);
    hash.finalize().into()
}

/// Broadcasts `message` and takes part in the broadcasts of all others. Messages by slot, `None` for absent: the same at
/// every honest party. A message of more than `max` bytes counts as none; `max` is at most what the transport carries.
///
/// # Errors
/// The network was closed, or the model does not hold.
pub async fn broadcast<N: Network>(
    run: &mut Lockstep<'_, N>,
    first: u8,
    message: Bytes,
    max: usize,
) -> Result<Vec<Option<Bytes>>, BroadcastError> {
    let committee = run.committee();
    let channels = Channels { first, t: committee.t() as u8 };
    let mut state = State::new(run, channels, max);

    run.next_round();
    run.send_all(channels.send(), &message);
    let mut messages = run.collect(channels.send()).await?;
    messages[run.own().slot()] = Some(message);
    state.take_messages(messages, &mut run.report);

    run.next_round();
    run.send_all(channels.echo(), &wire::encode_hashes(wire::Kind::Echo, committee, &state.hashes()));
    let mut echoes =
        wire::collect(run, channels.echo(), |m| wire::decode_hashes(wire::Kind::Echo, committee, m)).await?;
    echoes[run.own().slot()] = Some(state.hashes());
    let votes = state.take_echoes(&echoes, &mut run.report);

    run.next_round();
    run.send_all(channels.vote(), &wire::encode_votes(committee, &votes));
    let mut all = wire::collect(run, channels.vote(), |m| wire::decode_votes(committee, m)).await?;
    all[run.own().slot()] = Some(votes);
    state.take_votes(&all);

    for round in 1..=committee.t() {
        run.next_round();
        let bits = state.bits(round);
        run.send_all(channels.bits(round), &wire::encode_bits(committee, round, &bits));
        if round == 1 {
            answer(run, &state, &all);
        }
        let count = bits.len();
        let received =
            wire::collect(run, channels.bits(round), |m| wire::decode_bits(committee, round, count, m)).await?;
        state.take_bits(round, &received);
        if round == 1 {
            fetch(run, &mut state).await?;
        }
    }
    let outcome = state.outcome()?;
    for (party, message) in committee.parties().zip(&outcome) {
        if message.is_none() && party != run.own() {
            run.report.late.insert(party);
        }
    }
    Ok(outcome)
}

/// Sends what others have asked this party for.
fn answer<N: Network>(run: &Lockstep<'_, N>, state: &State, votes: &[Option<Votes>]) {
    for (asker, votes) in run.committee().parties().zip(votes) {
        let Some(votes) = votes else { continue };
        let mut answered = PartySet::EMPTY;
        for question in votes.questions.iter().filter(|q| q.askees.contains(run.own())) {
            let held = state.held[question.sender.slot()].iter().find(|(hash, _)| *hash == question.hash);
            if let Some((_, message)) = held
                && answered.insert(question.sender)
            {
                run.send(state.channels.answer(question.sender), asker, message.clone());
            }
        }
    }
}

/// Receives what this party has asked for.
async fn fetch<N: Network>(run: &mut Lockstep<'_, N>, state: &mut State) -> Result<(), Closed> {
    let mut senders = PartySet::EMPTY;
    for sender in state.questions.iter().map(|q| q.sender).collect::<Vec<_>>() {
        if !senders.insert(sender) {
            continue;
        }
        let channel = state.channels.answer(sender);
        let state = &mut *state;
        run.wait_for(channel, move |report, from, message| {
            state.take_answer(sender, from, message, report);
            !state.lacks(sender)
        })
        .await?;
    }
    Ok(())
}

/// One party's side of the n broadcasts. Synchronous.
struct State {
    session: SessionId,
    committee: Committee,
    own: PartyId,
    speaks: bool,
    channels: Channels,
    max: usize,
    /// Messages by sender, with their hashes; the first is the one that the sender sent.
    held: Vec<Vec<(Hash, Bytes)>>,
    direct: Vec<Option<Hash>>,
    questions: Vec<Question>,
    /// The only hash by sender that can be agreed on.
    candidates: Vec<Option<Hash>>,
    shape: Shape,
    trees: Vec<Tree>,
}

impl State {
    fn new<N: Network>(run: &Lockstep<'_, N>, channels: Channels, max: usize) -> Self {
        let (session, committee, own, speaks) = (run.session(), run.committee(), run.own(), run.speaks());
        let shape = Shape::new(committee.n() - 1, committee.t());
        let trees = (0..committee.n()).map(|_| Tree::new(&shape)).collect();
        Self {
            session,
            committee,
            own,
            speaks,
            channels,
            max,
            held: vec![Vec::new(); committee.n()],
            direct: vec![None; committee.n()],
            questions: Vec::new(),
            candidates: vec![None; committee.n()],
            shape,
            trees,
        }
    }

    fn hash(&self, sender: PartyId, message: &[u8]) -> Hash {
        hash(&self.session, self.channels.send(), sender, message)
    }

    fn hashes(&self) -> Vec<Option<Hash>> {
        self.direct.clone()
    }

    fn take_messages(&mut self, messages: Vec<Option<Bytes>>, report: &mut Report) {
        for (sender, message) in self.committee.parties().zip(messages) {
            let Some(message) = message else { continue };
            if message.len() > self.max {
                let message = Sha3_256::digest(&message).into();
                report.blame(sender, Misdeed::Malformed { round: self.channels.send(), message });
                continue;
            }
            let hash = self.hash(sender, &message);
            self.direct[sender.slot()] = Some(hash);
            self.held[sender.slot()].push((hash, message));
        }
    }

    /// Votes and questions.
    fn take_echoes(&mut self, echoes: &[Option<Vec<Option<Hash>>>], report: &mut Report) -> Votes {
        let (n, t) = (self.committee.n(), self.committee.t());
        let mut votes = Vec::with_capacity(n);
        for sender in self.committee.parties() {
            let tally = tally(self.committee, echoes.iter().map(|e| e.as_ref().and_then(|e| e[sender.slot()])));
            votes.push(tally.iter().find(|(_, echoers)| echoers.len() >= n - t).map(|(hash, _)| *hash));
            let own = self.direct[sender.slot()];
            for (hash, echoers) in &tally {
                if own == Some(*hash) {
                    continue;
                }
                if sender == self.own && self.speaks {
                    echoers.iter().for_each(|p| report.blame(p, Misdeed::FalseEcho { round: self.channels.send() }));
                }
                if echoers.len() >= n - 2 * t {
                    let askees = echoers.iter().take(t + 1).collect();
                    self.questions.push(Question { sender, hash: *hash, askees });
                }
            }
            // t + 1 echoes of a hash: an honest party has received it.
            let received = tally.iter().filter(|(hash, echoers)| own == Some(*hash) || echoers.len() > t).count();
            if received > 1 && sender != self.own {
                report.blame(sender, Misdeed::Equivocated { round: self.channels.send() });
            }
        }
        self.questions.truncate(2 * t);
        Votes { hashes: votes, questions: self.questions.clone() }
    }

    fn take_votes(&mut self, votes: &[Option<Votes>]) {
        let (n, t) = (self.committee.n(), self.committee.t());
        for sender in self.committee.parties() {
            let tally = tally(self.committee, votes.iter().map(|v| v.as_ref().and_then(|v| v.hashes[sender.slot()])));
            let best = tally.iter().max_by_key(|(_, voters)| voters.len()).filter(|(_, voters)| voters.len() > t);
            self.candidates[sender.slot()] = best.map(|(hash, _)| *hash);
            self.trees[sender.slot()].set_input(best.is_some_and(|(_, voters)| voters.len() >= n - t));
        }
    }

    /// What this party says in a round of bits, for all senders but itself.
    fn bits(&self, round: usize) -> Vec<bool> {
        let mut bits = Vec::with_capacity((self.committee.n() - 1) * self.shape.relayed(round));
        for sender in self.committee.parties().filter(|s| *s != self.own) {
            self.trees[sender.slot()].relay(&self.shape, round, slot_without(sender, self.own), &mut bits);
        }
        bits
    }

    fn take_bits(&mut self, round: usize, received: &[Option<Vec<bool>>]) {
        let own = self.bits(round);
        for party in self.committee.parties() {
            let bits = if party == self.own { Some(&own) } else { received[party.slot()].as_ref() };
            let Some(bits) = bits else { continue };
            let senders = self.committee.parties().filter(|s| *s != party);
            for (sender, bits) in senders.zip(bits.chunks_exact(self.shape.relayed(round))) {
                self.trees[sender.slot()].absorb(&self.shape, round, slot_without(sender, party), bits);
            }
        }
    }

    fn take_answer(&mut self, sender: PartyId, from: PartyId, message: Bytes, report: &mut Report) {
        let hash = self.hash(sender, &message);
        let asked = |q: &&Question| q.sender == sender && q.askees.contains(from);
        if self.questions.iter().filter(asked).any(|q| q.hash == hash) && message.len() <= self.max {
            if self.held[sender.slot()].iter().all(|(held, _)| *held != hash) {
                self.held[sender.slot()].push((hash, message));
            }
        } else if self.speaks {
            // (A listener may have asked something else before it restarted.)
            let message = Sha3_256::digest(&message).into();
            report.blame(from, Misdeed::Malformed { round: self.channels.answer(sender), message });
        }
    }

    /// Whether a question about a message of `sender` is open.
    fn lacks(&self, sender: PartyId) -> bool {
        let held = &self.held[sender.slot()];
        self.questions.iter().any(|q| q.sender == sender && held.iter().all(|(hash, _)| *hash != q.hash))
    }

    fn outcome(&self) -> Result<Vec<Option<Bytes>>, BroadcastError> {
        self.committee
            .parties()
            .map(|sender| {
                let slot = sender.slot();
                if !self.trees[slot].resolve(&self.shape) {
                    return Ok(None);
                }
                let candidate = self.candidates[slot];
                let message = self.held[slot].iter().find(|(hash, _)| Some(*hash) == candidate);
                message.map(|(_, m)| Some(m.clone())).ok_or(BroadcastError::Unavailable { sender })
            })
            .collect()
    }
}

/// The place of `party` among the parties other than `sender`.
const fn slot_without(sender: PartyId, party: PartyId) -> usize {
    if party.slot() < sender.slot() { party.slot() } else { party.slot() - 1 }
}

/// Who says what.
fn tally(committee: Committee, said: impl Iterator<Item = Option<Hash>>) -> Vec<(Hash, PartySet)> {
    let mut tally: Vec<(Hash, PartySet)> = Vec::new();
    for (party, hash) in committee.parties().zip(said) {
        let Some(hash) = hash else { continue };
        match tally.iter_mut().find(|(h, _)| *h == hash) {
            Some((_, parties)) => {
                parties.insert(party);
            }
            None => tally.push((hash, [party].into_iter().collect())),
        }
    }
    tally
}

#[cfg(test)]
mod tests;
