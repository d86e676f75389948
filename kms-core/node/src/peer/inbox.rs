//! Messages by session: delivered to whoever has the session open, or kept for a while if nobody has yet.

use std::collections::{HashMap, VecDeque, hash_map::Entry};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lru::LruCache;
use tokio::sync::mpsc;

use super::frame::{FrameProof, Message, SessionId};

/// Bounds of what is kept for sessions that this party has not started. Each peer has its own: whatever some of them
/// send costs no message of another, and all together hold at most n − 1 times the bytes of one.
#[derive(Clone, Copy, Debug)]
pub struct InboxLimits {
    /// Bytes of one peer: at least some dozen of the largest messages of a job.
    pub bytes: usize,
    /// Messages of one peer.
    pub messages: usize,
    /// Messages of one peer per second whose signatures are checked.
    pub per_second: u32,
    /// How many of these may come at once.
    pub burst: u32,
    /// How long a message is kept.
    pub age: Duration,
}

impl Default for InboxLimits {
    fn default() -> Self {
        Self { bytes: 2 << 20, messages: 4096, per_second: 512, burst: 1024, age: Duration::from_secs(120) }
    }
}

/// Ids of sessions that ended lately, whose stragglers are not early messages.
const ENDED: NonZeroUsize = NonZeroUsize::new(8192).unwrap();

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Given to the open session.
    Delivered,
    /// Kept for a session that may be opened.
    Kept,
    /// Nothing new: a repetition, or a session that has ended.
    Ignored,
    /// A second, different message of the same round: kept as proof.
    Conflict,
    /// Not kept: the sender has no place left.
    TooMany,
    /// Not kept: too many of the sender came lately.
    TooOften,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    /// One queue per round.
    to: Vec<mpsc::UnboundedSender<Message>>,
    /// First frame per sender and round, then a conflicting one if any.
    seen: HashMap<(u16, u8), (FrameProof, Option<FrameProof>)>,
}

#[derive(Debug)]
struct Early {
    message: Message,
    at: Instant,
}

/// What one peer has used of its bounds.
#[derive(Debug, Clone, Copy)]
struct Usage {
    bytes: usize,
    messages: usize,
    /// Signatures that may be checked, and as of when.
    checks: f64,
    at: Instant,
}

impl Usage {
    fn new(limits: &InboxLimits, now: Instant) -> Self {
        Self { bytes: 0, messages: 0, checks: limits.burst.into(), at: now }
    }

    fn has_place(&self, limits: &InboxLimits, message: &Message) -> bool {
        self.bytes + weight(message) <= limits.bytes && self.messages < limits.messages
    }

    fn take_check(&mut self, limits: &InboxLimits, now: Instant) -> bool {
        let since = now.duration_since(self.at).as_secs_f64();
        self.checks = (self.checks + since * f64::from(limits.per_second)).min(limits.burst.into());
        self.at = now;
        let granted = self.checks >= 1.0;
        if granted {
            self.checks -= 1.0;
        }
        granted
    }
}

/// All sessions of this party.
#[derive(Debug)]
pub(super) struct Inbox {
    limits: InboxLimits,
    open: HashMap<SessionId, Open>,
    early: HashMap<SessionId, Vec<Early>>,
    /// Arrival order of early messages, for expiry; entries of messages that are gone are skipped.
    order: VecDeque<(Instant, SessionId)>,
    usage: HashMap<u16, Usage>,
    ended: LruCache<SessionId, ()>,
}

impl Inbox {
    pub(super) fn new(limits: InboxLimits) -> Self {
        Self {
            limits,
            open: HashMap::new(),
            early: HashMap::new(),
            order: VecDeque::new(),
            usage: HashMap::new(),
            ended: LruCache::new(ENDED),
        }
    }

    /// Opens a session of `rounds` rounds, counted from 1, and delivers what came early: one queue per round. `None` if
    /// it is open already.
    pub(super) fn open(
        &mut self,
        id: SessionId,
        rounds: u8,
        now: Instant,
    ) -> Option<Vec<mpsc::UnboundedReceiver<Message>>> {
        if self.open.contains_key(&id) {
            return None;
        }
        self.ended.pop(&id);
        // Unbounded and still bounded: each sender gets one message into the queue of a round, two if they conflict.
        let (to, from) = (0..rounds).map(|_| mpsc::unbounded_channel()).unzip();
        self.open.insert(id, Open { since: now, to, seen: HashMap::new() });
        for early in self.early.remove(&id).unwrap_or_default() {
            self.release(&early.message);
            self.deliver(early.message, now);
        }
        Some(from)
    }

    /// Ends a session.
    pub(super) fn close(&mut self, id: &SessionId) {
        if self.open.remove(id).is_some() {
            self.ended.put(*id, ());
        }
    }

    /// Decides about a message before its signature is checked, which is dear; `None` if that has to be done.
    pub(super) fn screen(&mut self, claim: &Message, now: Instant) -> Option<Delivery> {
        if let Some(open) = self.open.get(&claim.session) {
            // No bound is needed: what passes is recorded, or ends the stream.
            return open.settled(claim).then_some(Delivery::Ignored);
        }
        if self.ended.contains(&claim.session) || self.is_kept(claim) {
            return Some(Delivery::Ignored);
        }
        let usage = self.usage.entry(claim.from).or_insert_with(|| Usage::new(&self.limits, now));
        if !usage.has_place(&self.limits, claim) {
            return Some(Delivery::TooMany);
        }
        (!usage.take_check(&self.limits, now)).then_some(Delivery::TooOften)
    }

    /// Takes a message whose signature was checked.
    pub(super) fn deliver(&mut self, message: Message, now: Instant) -> Delivery {
        if let Some(open) = self.open.get_mut(&message.session) {
            return open.take(message);
        }
        if self.ended.contains(&message.session) {
            return Delivery::Ignored;
        }
        self.keep(message, now)
    }

    fn is_kept(&self, message: &Message) -> bool {
        let same = |e: &Early| e.message.from == message.from && e.message.proof.says_as_much_as(&message.proof);
        self.early.get(&message.session).is_some_and(|kept| kept.iter().any(same))
    }

    fn keep(&mut self, message: Message, now: Instant) -> Delivery {
        if self.is_kept(&message) {
            return Delivery::Ignored;
        }
        let usage = self.usage.entry(message.from).or_insert_with(|| Usage::new(&self.limits, now));
        if !usage.has_place(&self.limits, &message) {
            return Delivery::TooMany;
        }
        usage.bytes += weight(&message);
        usage.messages += 1;
        // Its own bytes: those that came are a part of their frame and would keep all of it.
        let message = Message { payload: Bytes::copy_from_slice(&message.payload), ..message };
        self.order.push_back((now, message.session));
        self.early.entry(message.session).or_default().push(Early { message, at: now });
        Delivery::Kept
    }

    fn release(&mut self, message: &Message) {
        let bytes = weight(message);
        if let Some(usage) = self.usage.get_mut(&message.from) {
            usage.bytes -= bytes;
            usage.messages -= 1;
        }
    }

    /// Drops what was kept for too long and names it: (sender, session).
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(u16, SessionId)> {
        let mut dropped = Vec::new();
        while self.order.front().is_some_and(|(at, _)| now.duration_since(*at) >= self.limits.age) {
            let Some((_, id)) = self.order.pop_front() else { break };
            let Some(kept) = self.early.remove(&id) else { continue };
            let (old, young): (Vec<_>, Vec<_>) =
                kept.into_iter().partition(|e| now.duration_since(e.at) >= self.limits.age);
            for early in old {
                self.release(&early.message);
                dropped.push((early.message.from, id));
            }
            if !young.is_empty() {
                self.early.insert(id, young);
            }
        }
        dropped
    }

    /// Sessions that are open.
    pub(super) fn open_ids(&self) -> Vec<SessionId> {
        self.open.keys().copied().collect()
    }

    pub(super) fn is_open(&self, id: &SessionId) -> bool {
        self.open.contains_key(id)
    }

    /// Sessions open for at least `age` in which some round lacks a message of `peer`.
    pub(super) fn missing(&self, peer: u16, age: Duration, now: Instant) -> Vec<SessionId> {
        self.open
            .iter()
            .filter(|(_, open)| now.duration_since(open.since) >= age && open.lacks(peer))
            .map(|(id, _)| *id)
            .collect()
    }

    /// The frames of `party` in an open session: all it signed, conflicting ones last.
    pub(super) fn frames(&self, id: &SessionId, party: u16) -> Vec<FrameProof> {
        let Some(open) = self.open.get(id) else { return Vec::new() };
        let of_party = || open.seen.iter().filter(|((from, _), _)| *from == party);
        let firsts = of_party().map(|(_, (first, _))| first);
        firsts.chain(of_party().filter_map(|(_, (_, second))| second.as_ref())).cloned().collect()
    }
}

impl Open {
    /// Whether a message changes nothing: there is no such round, it is a repetition, or two prove enough.
    fn settled(&self, message: &Message) -> bool {
        let round = usize::from(message.round);
        if round == 0 || round > self.to.len() {
            return true;
        }
        let seen = self.seen.get(&(message.from, message.round));
        seen.is_some_and(|(first, second)| second.is_some() || first.says_as_much_as(&message.proof))
    }

    fn take(&mut self, message: Message) -> Delivery {
        if self.settled(&message) {
            return Delivery::Ignored;
        }
        let Some(to) = self.to.get(usize::from(message.round).wrapping_sub(1)) else { return Delivery::Ignored };
        let delivery = match self.seen.entry((message.from, message.round)) {
            Entry::Occupied(mut first) => {
                first.get_mut().1 = Some(message.proof.clone());
                Delivery::Conflict
            }
            Entry::Vacant(first) => {
                first.insert((message.proof.clone(), None));
                Delivery::Delivered
            }
        };
        // A conflicting one is evidence for the protocol; a session that has just ended takes nothing any more.
        let _ = to.send(message);
        delivery
    }

    /// Whether a round that somebody has already reached lacks a message of `peer`.
    fn lacks(&self, peer: u16) -> bool {
        let reached = self.seen.keys().map(|(_, round)| *round).max().unwrap_or(1);
        (1..=reached).any(|round| !self.seen.contains_key(&(peer, round)))
    }
}

/// What a kept message costs: its payload and a flat amount for everything around it.
fn weight(message: &Message) -> usize {
    message.payload.len() + 256
}

#[cfg(test)]
mod tests;
