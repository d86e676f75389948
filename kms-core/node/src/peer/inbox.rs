//! Messages by session: delivered to whoever has the session open, or kept for a while if nobody has yet.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;
use tokio::sync::mpsc;

use super::frame::{FrameProof, Message, SessionId};

/// Bounds of what is kept for sessions that this party has not started.
#[derive(Clone, Copy, Debug)]
pub struct InboxLimits {
    /// Bytes of one peer.
    pub peer_bytes: usize,
    /// Messages of one peer.
    pub peer_messages: usize,
    /// Bytes of all peers together.
    pub total_bytes: usize,
    /// How long a message is kept.
    pub age: Duration,
}

impl Default for InboxLimits {
    fn default() -> Self {
        Self { peer_bytes: 8 << 20, peer_messages: 4096, total_bytes: 32 << 20, age: Duration::from_secs(120) }
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
    /// Not kept: the bound of the sender is reached.
    PeerBound,
    /// Not kept: the bound over all is reached.
    TotalBound,
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

#[derive(Debug, Default, Clone, Copy)]
struct Usage {
    bytes: usize,
    messages: usize,
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
    total: usize,
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
            total: 0,
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

    fn keep(&mut self, message: Message, now: Instant) -> Delivery {
        let kept = self.early.get(&message.session);
        if kept.is_some_and(|k| k.iter().any(|e| e.message.from == message.from && e.message.proof == message.proof)) {
            return Delivery::Ignored;
        }
        let usage = self.usage.entry(message.from).or_default();
        let bytes = weight(&message);
        if usage.bytes + bytes > self.limits.peer_bytes || usage.messages >= self.limits.peer_messages {
            return Delivery::PeerBound;
        }
        if self.total + bytes > self.limits.total_bytes {
            return Delivery::TotalBound;
        }
        usage.bytes += bytes;
        usage.messages += 1;
        self.total += bytes;
        self.order.push_back((now, message.session));
        self.early.entry(message.session).or_default().push(Early { message, at: now });
        Delivery::Kept
    }

    fn release(&mut self, message: &Message) {
        let bytes = weight(message);
        self.total -= bytes;
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
        of_party().map(|(_, (first, _))| *first).chain(of_party().filter_map(|(_, (_, second))| *second)).collect()
    }
}

impl Open {
    fn take(&mut self, message: Message) -> Delivery {
        let Some(to) = self.to.get(usize::from(message.round).wrapping_sub(1)) else { return Delivery::Ignored };
        match self.seen.get_mut(&(message.from, message.round)) {
            Some((first, _)) if first.payload_hash == message.proof.payload_hash => Delivery::Ignored,
            Some((_, Some(_))) => Delivery::Ignored,
            Some((_, second)) => {
                *second = Some(message.proof);
                // The protocol takes it as evidence; a session that has just ended takes nothing any more.
                let _ = to.send(message);
                Delivery::Conflict
            }
            None => {
                self.seen.insert((message.from, message.round), (message.proof, None));
                let _ = to.send(message);
                Delivery::Delivered
            }
        }
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
mod tests {
    use super::*;

    fn message(from: u16, session: u8, payload: &[u8]) -> Message {
        let mut payload_hash = [0; 32];
        payload_hash[..payload.len().min(32)].copy_from_slice(&payload[..payload.len().min(32)]);
        let proof = FrameProof { round: 1, payload_hash, signature: [0; 65] };
        Message { from, session: [session; 32], round: 1, payload: payload.to_vec().into(), proof }
    }

    fn limits() -> InboxLimits {
        InboxLimits { peer_bytes: 1000, peer_messages: 3, total_bytes: 1200, age: Duration::from_secs(10) }
    }

    #[test]
    fn early_messages_wait_for_their_session() {
        let now = Instant::now();
        let mut inbox = Inbox::new(limits());
        assert_eq!(inbox.deliver(message(2, 1, b"a"), now), Delivery::Kept);
        assert_eq!(inbox.deliver(message(2, 1, b"a"), now), Delivery::Ignored);
        let mut from = inbox.open([1; 32], 1, now).unwrap().remove(0);
        assert_eq!(from.try_recv().unwrap().payload, b"a"[..]);
        assert_eq!(inbox.total, 0);
        assert_eq!(inbox.deliver(message(3, 1, b"b"), now), Delivery::Delivered);
        assert_eq!(from.try_recv().unwrap().from, 3);
        assert!(inbox.open([1; 32], 1, now).is_none(), "opened twice");
    }

    #[test]
    fn a_second_message_is_a_repetition_or_a_proof() {
        let now = Instant::now();
        let mut inbox = Inbox::new(limits());
        let mut from = inbox.open([1; 32], 1, now).unwrap().remove(0);
        assert_eq!(inbox.deliver(message(2, 1, b"a"), now), Delivery::Delivered);
        assert_eq!(inbox.deliver(message(2, 1, b"a"), now), Delivery::Ignored);
        assert_eq!(inbox.frames(&[1; 32], 2).len(), 1);
        assert_eq!(inbox.deliver(message(2, 1, b"b"), now), Delivery::Conflict);
        assert_eq!(inbox.frames(&[1; 32], 2).len(), 2);
        assert_eq!(inbox.deliver(message(2, 1, b"c"), now), Delivery::Ignored, "two prove enough");
        assert!(from.try_recv().is_ok() && from.try_recv().is_ok() && from.try_recv().is_err());
        for round in [0, 2] {
            let mut far = message(3, 1, b"c");
            far.round = round;
            assert_eq!(inbox.deliver(far, now), Delivery::Ignored, "a round that the session does not have");
        }
    }

    #[test]
    fn stragglers_of_ended_sessions_cost_nothing() {
        let now = Instant::now();
        let mut inbox = Inbox::new(limits());
        let from = inbox.open([1; 32], 1, now).unwrap();
        drop(from);
        inbox.close(&[1; 32]);
        assert_eq!(inbox.deliver(message(2, 1, b"a"), now), Delivery::Ignored);
        assert_eq!(inbox.total, 0);
        assert!(inbox.open([1; 32], 1, now).is_some(), "a session can be opened again");
    }

    #[test]
    fn one_peer_can_not_fill_the_place_of_all() {
        let now = Instant::now();
        let mut inbox = Inbox::new(limits());
        for i in 0..3 {
            assert_eq!(inbox.deliver(message(2, i, b"x"), now), Delivery::Kept);
        }
        assert_eq!(inbox.deliver(message(2, 9, b"x"), now), Delivery::PeerBound);
        assert_eq!(inbox.deliver(message(3, 9, b"x"), now), Delivery::Kept);
        assert_eq!(inbox.deliver(message(4, 9, &[1; 500]), now), Delivery::TotalBound);
        assert_eq!(inbox.deliver(message(5, 9, &[1; 900]), now), Delivery::PeerBound);
    }

    #[test]
    fn old_messages_are_dropped_and_named() {
        let now = Instant::now();
        let mut inbox = Inbox::new(limits());
        inbox.deliver(message(2, 1, b"x"), now);
        inbox.deliver(message(3, 1, b"y"), now + Duration::from_secs(5));
        assert_eq!(inbox.expire(now + Duration::from_secs(9)), []);
        assert_eq!(inbox.expire(now + Duration::from_secs(10)), [(2, [1; 32])]);
        assert_eq!(inbox.expire(now + Duration::from_secs(15)), [(3, [1; 32])]);
        assert_eq!((inbox.total, inbox.early.len(), inbox.order.len()), (0, 0, 0));
    }

    #[test]
    fn missing_names_the_sessions_to_ask_for() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut inbox = Inbox::new(limits());
        let _from = inbox.open([1; 32], 1, now).unwrap();
        assert!(inbox.missing(2, Duration::from_secs(1), now).is_empty(), "too young");
        inbox.deliver(message(3, 1, b"a"), now);
        assert_eq!(inbox.missing(2, Duration::from_secs(1), later), [[1; 32]]);
        assert!(inbox.missing(3, Duration::from_secs(1), later).is_empty());
    }
}
