//! Synchronous rounds over a [`Network`]: what set-up protocols stand on.
//!
//! # Model
//! n ≥ 3t + 1 parties; wrong and late parties together are at most t. All start a run within σ of each other, a message
//! of a party that is on time takes at most δ, computation included, and the bound of a round is Δ ≥ σ + δ.
//!
//! # Rounds
//! Round r of a run (from 1) ends at a party when the messages of all parties that it does not know to be late are in,
//! and at the latest r·Δ after *its own* start. The deadlines are absolute on purpose. Were they counted from the start
//! of each round, a party that waited for a liar would lag behind one that did not have to, and be taken for late itself.
//!
//! *Claim.* A message that an honest party sends in its round r reaches every honest party before its round r ends.
//! *Proof.* The sender enters round r at the latest at (r − 1)·Δ after its start, which is at most σ after the receiver's:
//! the message is there by (r − 1)·Δ + σ + δ ≤ r·Δ on the receiver's clock, and until then the receiver ends the round
//! only with the message in hand (an honest sender is never known to be late: induction over r). ∎
//!
//! A party whose message is missing at a deadline is *late*: it is not waited for again, but what still comes in time is
//! used. So a party that is silent from the start costs one bound, not one per round; one that falls silent in round r
//! costs the time until r·Δ, because all bounds that were not used up before are still its own. No run of R rounds takes
//! longer than R·Δ. Late is not wrong.
//!
//! The only clock is [`Network::sleep`].

pub mod malicious;

use core::pin::Pin;
use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;
use futures::future::{Either, FutureExt, select};
use kms_algebra::{PartyId, PartySet};
use sha3::{Digest, Sha3_256};

use crate::{Closed, Committee, JobId, Network, SessionId};

/// Bound of a round if nothing else is said.
pub const DEFAULT_BOUND: Duration = Duration::from_secs(60);

/// Most messages of one channel that are looked at after its deadline, per party: the first and a conflicting one.
const LAST_LOOK: usize = 2;

/// What a party did that no honest party does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misdeed {
    /// Its message is none of this round.
    Malformed {
        /// Channel of the message.
        round: u8,
        /// SHA3-256 of it.
        message: [u8; 32],
    },
    /// It sent this party two different messages in one round.
    Conflicting {
        /// Channel of the messages.
        round: u8,
        /// SHA3-256 of the first, which counted.
        first: [u8; 32],
        /// SHA3-256 of the second.
        second: [u8; 32],
    },
    /// It broadcast different messages to different honest parties.
    Equivocated {
        /// Channel of the broadcast.
        round: u8,
    },
    /// It claims to have received something from this party that this party never sent.
    FalseEcho {
        /// Channel of the broadcast.
        round: u8,
    },
    /// As a dealer: the rows it sent to this party contradict the table it broadcast.
    BadRow,
    /// As a dealer: its table contradicts the rows of more than t parties.
    BadTable,
    /// As a dealer: rows that it made public contradict its table.
    BadReveal,
    /// It denies the rows that this party dealt it, or those of more than t dealers.
    FalseComplaint,
    /// Its share is not on the polynomial on which at least 2t + 1 others lie.
    WrongShare,
}

/// A party that was wrong, and how it was found. Observed: what proves it to third parties are signed frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// Who.
    pub party: PartyId,
    /// What it did.
    pub misdeed: Misdeed,
}

/// A dealer and a party of which one is wrong (or late), agreed by all: the party denies the dealer's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dispute {
    /// The dealer.
    pub dealer: PartyId,
    /// The party.
    pub party: PartyId,
    /// Whether the party says that it has other rows, and not that it has none.
    pub rows: bool,
}

/// Who misbehaved in a run, as this party saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Wrong parties, one entry each, in the order of discovery. Never an honest one.
    pub culprits: Vec<Culprit>,
    /// Parties that were late at this party, or late by agreement of all. Late is not wrong.
    pub late: PartySet,
    /// Pairs of which at least one is wrong or late. Agreed: the same at every honest party.
    pub disputes: Vec<Dispute>,
}

impl Report {
    /// The wrong parties as a set.
    #[must_use]
    pub fn wrong(&self) -> PartySet {
        self.culprits.iter().map(|culprit| culprit.party).collect()
    }

    pub(crate) fn blame(&mut self, party: PartyId, misdeed: Misdeed) {
        if self.culprits.iter().all(|culprit| culprit.party != party) {
            self.culprits.push(Culprit { party, misdeed });
        }
    }
}

/// A deadline. A type of its own, because futures that hold a bare `Box<dyn …>` across an await of a generic function
/// can't be shown to be `Send`.
struct Deadline<'a>(Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>);

/// A run in synchronous rounds, as one party sees it.
pub struct Lockstep<'a, N> {
    net: &'a N,
    committee: Committee,
    session: SessionId,
    job: JobId,
    speaks: bool,
    coming: VecDeque<Deadline<'a>>,
    now: Deadline<'a>,
    unheard: PartySet,
    /// What is known of the others.
    pub report: Report,
}

impl<N> core::fmt::Debug for Lockstep<'_, N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Lockstep")
            .field("session", &self.session)
            .field("unheard", &self.unheard)
            .finish_non_exhaustive()
    }
}

impl<'a, N: Network> Lockstep<'a, N> {
    /// Starts the clock of a run of at most `rounds` rounds.
    ///
    /// A party that does not speak sends nothing: it listens. The others take it for late; it learns what all learn.
    pub fn start(
        net: &'a N,
        committee: Committee,
        session: SessionId,
        speaks: bool,
        rounds: u32,
        bound: Duration,
    ) -> Self {
        let coming = (1..=rounds)
            .map(|r| {
                let mut sleep: Pin<Box<dyn Future<Output = ()> + Send + 'a>> = Box::pin(net.sleep(bound * r));
                // The first poll of a future sets its clock.
                Deadline(sleep.as_mut().now_or_never().is_none().then_some(sleep))
            })
            .collect();
        Self {
            net,
            committee,
            session,
            job: JobId::of_session(&session),
            speaks,
            coming,
            now: Deadline(None),
            unheard: PartySet::EMPTY,
            report: Report::default(),
        }
    }

    /// The network.
    pub const fn net(&self) -> &'a N {
        self.net
    }

    /// The committee.
    pub const fn committee(&self) -> Committee {
        self.committee
    }

    /// The session.
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// This party.
    pub fn own(&self) -> PartyId {
        self.net.own()
    }

    /// Whether this party sends anything.
    pub const fn speaks(&self) -> bool {
        self.speaks
    }

    /// Enters the next round.
    pub fn next_round(&mut self) {
        self.now = self.coming.pop_front().unwrap_or(Deadline(None));
    }

    /// Sends to one party.
    pub fn send(&self, channel: u8, to: PartyId, message: Bytes) {
        if self.speaks && to != self.own() {
            self.net.send(self.job, channel, to, message);
        }
    }

    /// Sends to all others.
    pub fn send_all(&self, channel: u8, message: &Bytes) {
        for to in self.committee.parties() {
            self.send(channel, to, message.clone());
        }
    }

    /// The messages of this round on a channel, by slot, `None` at this party's own. Who is missing at the deadline is
    /// recorded as late.
    ///
    /// # Errors
    /// The network was closed.
    pub async fn collect(&mut self, channel: u8) -> Result<Vec<Option<Bytes>>, Closed> {
        let mut messages: Vec<Option<Bytes>> = vec![None; self.committee.n()];
        let mut missing: PartySet = self.committee.parties().filter(|p| *p != self.own()).collect();
        while !missing.without(self.unheard).is_empty() {
            let Some((from, message)) = self.receive(channel).await? else { break };
            self.keep(channel, from, message, &mut messages);
            missing.remove(from);
        }
        // What is here already, also of parties that are not waited for.
        for _ in 0..LAST_LOOK * self.committee.n() {
            let Some(next) = self.net.recv(self.job, channel).now_or_never() else { break };
            let (from, message) = next?;
            self.keep(channel, from, message, &mut messages);
            missing.remove(from);
        }
        self.unheard = self.unheard.union(missing);
        self.report.late = self.report.late.union(missing);
        Ok(messages)
    }

    fn keep(&mut self, channel: u8, from: PartyId, message: Bytes, messages: &mut [Option<Bytes>]) {
        if from == self.own() {
            return;
        }
        match messages.get_mut(from.slot()) {
            Some(Some(first)) if *first != message => {
                let [first, second] = [&*first, &message].map(|m| Sha3_256::digest(m).into());
                self.report.blame(from, Misdeed::Conflicting { round: channel, first, second });
            }
            Some(place @ None) => *place = Some(message),
            _ => {}
        }
    }

    /// Waits on a channel until `accept` says that it has what it needs, or until the round ends.
    ///
    /// # Errors
    /// The network was closed.
    pub async fn wait_for(
        &mut self,
        channel: u8,
        mut accept: impl FnMut(&mut Report, PartyId, Bytes) -> bool + Send,
    ) -> Result<(), Closed> {
        while let Some((from, message)) = self.receive(channel).await? {
            if accept(&mut self.report, from, message) {
                return Ok(());
            }
        }
        for _ in 0..LAST_LOOK * self.committee.n() {
            let Some(next) = self.net.recv(self.job, channel).now_or_never() else { break };
            let (from, message) = next?;
            if accept(&mut self.report, from, message) {
                break;
            }
        }
        Ok(())
    }

    /// The next message on a channel; `None` when the round is over.
    async fn receive(&mut self, channel: u8) -> Result<Option<(PartyId, Bytes)>, Closed> {
        let Some(deadline) = self.now.0.as_mut() else { return Ok(None) };
        // The deadline first, so that no flood of messages holds it off.
        let receive = core::pin::pin!(self.net.recv(self.job, channel));
        match select(deadline, receive).await {
            Either::Left(((), _)) => {
                self.now = Deadline(None);
                Ok(None)
            }
            Either::Right((received, _)) => received.map(Some),
        }
    }

    /// Names a party whose message on a channel is no message.
    pub(crate) fn malformed(&mut self, channel: u8, party: PartyId, message: &[u8]) {
        let message = Sha3_256::digest(message).into();
        self.report.blame(party, Misdeed::Malformed { round: channel, message });
    }
}
