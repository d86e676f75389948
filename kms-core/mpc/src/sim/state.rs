//! The network between the parties: what is on its way, what waits, what was sent.

use core::cmp::Reverse;
use core::task::Waker;
use core::time::Duration;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use sha3::{Digest, Sha3_256};

use super::profile::Profile;
use crate::{JobId, PartyId, PartySet};

pub(super) type Channel = (JobId, u8);

/// Bytes at each end of a message that go into the trace.
const TRACED: usize = 1 << 15;

pub(super) enum Event {
    Deliver(Delivery),
    Wake(Waker),
    Crash(PartyId),
    Restart(PartyId),
}

pub(super) struct Delivery {
    from: PartyId,
    to: PartyId,
    channel: Channel,
    payload: Bytes,
    /// Life of the sender when it sent.
    life: u32,
    /// Lost if the sender crashes while the message is on its way: a crash in the middle of sending to all.
    fragile: bool,
}

pub(super) struct Scheduled {
    pub(super) at: Duration,
    number: u64,
    pub(super) event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[derive(Default)]
struct Mailbox {
    messages: VecDeque<(PartyId, Bytes)>,
    waiting: Option<Waker>,
}

/// A party as the network sees it.
#[derive(Clone)]
struct Host {
    up: bool,
    /// All its protocols are done: what still comes is not kept.
    done: bool,
    life: u32,
    queued_from: Vec<usize>,
    queued: usize,
    peak: usize,
}

struct Sent {
    task: Option<usize>,
    from: PartyId,
    to: PartyId,
    channel: Channel,
    payload: Bytes,
}

struct Cut {
    side: PartySet,
    from: Duration,
    until: Duration,
}

pub(super) struct State {
    profile: Profile,
    rng: ChaCha20Rng,
    pub(super) now: Duration,
    scheduled: u64,
    pub(super) events: BinaryHeap<Reverse<Scheduled>>,
    mailboxes: BTreeMap<(PartyId, Channel), Mailbox>,
    hosts: Vec<Host>,
    /// Factor of the delays from a party (row) to another.
    factors: Vec<Vec<u32>>,
    cuts: Vec<Cut>,
    /// What live parties send again to one that restarts.
    outbox: Vec<Sent>,
    /// The task that is being polled: what it sends is its.
    pub(super) running: Option<usize>,
    pub(super) delivered: u64,
    trace: Sha3_256,
    pub(super) log: Option<Vec<String>>,
}

impl State {
    pub(super) fn new(n: usize, seed: u64, profile: Profile) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let host = Host { up: true, done: false, life: 0, queued_from: vec![0; n], queued: 0, peak: 0 };
        let slow = profile.slow;
        let mut factor = || if slow > 0.0 && rng.random_bool(slow) { profile.slow_factor } else { 1 };
        let factors = (0..n).map(|_| (0..n).map(|_| factor()).collect()).collect();
        Self {
            profile,
            rng,
            now: Duration::ZERO,
            scheduled: 0,
            events: BinaryHeap::new(),
            mailboxes: BTreeMap::new(),
            hosts: vec![host; n],
            factors,
            cuts: Vec::new(),
            outbox: Vec::new(),
            running: None,
            delivered: 0,
            trace: Sha3_256::new(),
            log: None,
        }
    }

    pub(super) fn schedule(&mut self, after: Duration, event: Event) {
        self.scheduled += 1;
        let at = self.now.saturating_add(after);
        self.events.push(Reverse(Scheduled { at, number: self.scheduled, event }));
    }

    pub(super) fn cut(&mut self, side: PartySet, from: Duration, until: Duration) {
        self.cuts.push(Cut { side, from, until });
    }

    /// Time that a message takes which is sent now.
    fn delay(&mut self, from: PartyId, to: PartyId) -> Duration {
        let profile = self.profile;
        let once = self.rng.random_range(profile.min_delay..=profile.max_delay);
        let mut after = once.saturating_mul(self.factors[from.slot()][to.slot()]);
        while self.rng.random_bool(profile.loss) {
            after += profile.retransmit;
        }
        // The transport sends again what it could not send when a cut is healed.
        let mut leaves = self.now;
        let apart = |cut: &&Cut| cut.side.contains(from) != cut.side.contains(to);
        while let Some(heals) =
            self.cuts.iter().filter(apart).filter(|c| c.from <= leaves && leaves < c.until).map(|c| c.until).max()
        {
            leaves = heals;
        }
        after += leaves - self.now;
        profile.bound.map_or(after, |bound| after.min(bound.saturating_sub(Duration::from_nanos(1))))
    }

    fn post(&mut self, from: PartyId, to: PartyId, channel: Channel, payload: Bytes) {
        let after = self.delay(from, to);
        let delivery =
            Delivery { from, to, channel, payload, life: self.hosts[from.slot()].life, fragile: self.rng.random() };
        self.schedule(after, Event::Deliver(delivery));
    }

    pub(super) fn send(&mut self, from: PartyId, to: PartyId, channel: Channel, payload: &Bytes) {
        let copies = 1 + usize::from(self.rng.random_bool(self.profile.duplicate));
        for _ in 0..copies {
            self.post(from, to, channel, payload.clone());
        }
        self.outbox.push(Sent { task: self.running, from, to, channel, payload: payload.clone() });
    }

    /// Puts a message into its mailbox; whom to wake.
    pub(super) fn deliver(&mut self, delivery: Delivery) -> Option<Waker> {
        let Delivery { from, to, channel, payload, life, fragile } = delivery;
        let crashed = life != self.hosts[from.slot()].life;
        let host = &mut self.hosts[to.slot()];
        let fate = if crashed && fragile {
            "lost in the sender's crash"
        } else if !host.up {
            "its receiver is down"
        } else if host.done {
            "nobody waits for it"
        } else if host.queued_from[from.slot()] + payload.len() > self.profile.queue_limit {
            "too much waits from this sender"
        } else {
            "delivered"
        };
        let delivered = fate == "delivered";
        if delivered {
            host.queued_from[from.slot()] += payload.len();
            host.queued += payload.len();
            host.peak = host.peak.max(host.queued);
            self.delivered += 1;
        }
        self.note(b'd', &[from.index(), to.index(), channel.1, u8::from(delivered)], &[channel.0.as_bytes(), &payload]);
        self.say(|| {
            let (job, digest) = (hex(&channel.0.as_bytes()[..4]), hex(&Sha3_256::digest(&payload)[..4]));
            let (round, bytes) = (channel.1, payload.len());
            format!("P{from} -> P{to}  job {job} round {round}  {bytes} bytes, {digest}  {fate}")
        });
        if !delivered {
            return None;
        }
        let mailbox = self.mailboxes.entry((to, channel)).or_default();
        mailbox.messages.push_back((from, payload));
        mailbox.waiting.take()
    }

    /// The next message for a party, or who waits for it.
    pub(super) fn take(&mut self, own: PartyId, channel: Channel, waker: &Waker) -> Option<(PartyId, Bytes)> {
        let mailbox = self.mailboxes.entry((own, channel)).or_default();
        let Some((from, payload)) = mailbox.messages.pop_front() else {
            mailbox.waiting = Some(waker.clone());
            return None;
        };
        let host = &mut self.hosts[own.slot()];
        host.queued_from[from.slot()] -= payload.len();
        host.queued -= payload.len();
        Some((from, payload))
    }

    fn forget_mail(&mut self, party: PartyId) {
        self.mailboxes.retain(|(to, _), _| *to != party);
        let host = &mut self.hosts[party.slot()];
        host.queued = 0;
        host.queued_from.fill(0);
    }

    /// A party goes down: what it had in memory is gone, and so is what its unfinished tasks had in their outbox.
    pub(super) fn crash(&mut self, party: PartyId, unfinished: impl Fn(usize) -> bool) {
        self.note(b'c', &[party.index()], &[]);
        self.say(|| format!("P{party} goes down"));
        let host = &mut self.hosts[party.slot()];
        host.up = false;
        host.life += 1;
        self.forget_mail(party);
        self.outbox.retain(|sent| sent.from != party || !sent.task.is_none_or(&unfinished));
    }

    /// A party is back: the others send again what they had sent to it, and it what its finished tasks had sent.
    pub(super) fn restart(&mut self, party: PartyId) {
        if self.hosts[party.slot()].up {
            return;
        }
        self.note(b'r', &[party.index()], &[]);
        self.say(|| format!("P{party} is back"));
        self.hosts[party.slot()].up = true;
        let again: Vec<_> = self
            .outbox
            .iter()
            .filter(|s| s.from == party || (s.to == party && self.hosts[s.from.slot()].up))
            .map(|s| (s.from, s.to, s.channel, s.payload.clone()))
            .collect();
        for (from, to, channel, payload) in again {
            self.post(from, to, channel, payload);
        }
    }

    pub(super) fn finish(&mut self, party: PartyId) {
        self.hosts[party.slot()].done = true;
        self.forget_mail(party);
    }

    pub(super) fn is_up(&self, party: PartyId) -> bool {
        self.hosts[party.slot()].up
    }

    pub(super) fn peaks(&self) -> Vec<usize> {
        self.hosts.iter().map(|host| host.peak).collect()
    }

    /// Adds to the trace: time, kind, small fields, then parts by length.
    fn note(&mut self, kind: u8, fields: &[u8], parts: &[&[u8]]) {
        self.trace.update(self.now.as_nanos().to_be_bytes());
        self.trace.update([kind]);
        self.trace.update(fields);
        for part in parts {
            self.trace.update((part.len() as u64).to_be_bytes());
            // Of the megabytes of a liar the ends are enough.
            let (head, rest) = part.split_at(part.len().min(TRACED));
            self.trace.update(head);
            self.trace.update(&rest[rest.len().saturating_sub(TRACED)..]);
        }
    }

    pub(super) fn trace(&self) -> [u8; 32] {
        self.trace.clone().finalize().into()
    }

    /// Adds a line to the log, if one is kept.
    pub(super) fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>12.6} s  {}", self.now.as_secs_f64(), line()));
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
