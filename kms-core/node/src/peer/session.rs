//! An open session: the network that a protocol run sees.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kms_mpc::{Closed, JobId, Network, PartyId};
use tokio::sync::mpsc;

use super::frame::{FrameProof, Message, SessionId};
use super::{ASK_AFTER, Inner};

/// Longest pause between two questions for the same missing message.
const ASK_AT_MOST_EVERY: Duration = Duration::from_secs(30);

/// An open session: the [`Network`] of exactly one job. It ends when this is dropped.
pub struct Session {
    inner: Arc<Inner>,
    id: SessionId,
    own: PartyId,
    /// One queue per round; a lock each, because the trait receives through `&self`.
    rounds: Vec<tokio::sync::Mutex<mpsc::UnboundedReceiver<Message>>>,
    /// When this party's first message went out.
    sent: OnceLock<Instant>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &hex::encode(self.id)).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(
        inner: Arc<Inner>,
        id: SessionId,
        own: PartyId,
        rounds: Vec<mpsc::UnboundedReceiver<Message>>,
    ) -> Self {
        let rounds = rounds.into_iter().map(tokio::sync::Mutex::new).collect();
        Self { inner, id, own, rounds, sent: OnceLock::new() }
    }

    /// What `party` has signed in this session, a conflicting frame last.
    pub fn frames(&self, party: u16) -> Vec<FrameProof> {
        self.inner.inbox.lock().frames(&self.id, party)
    }
}

impl Network for Session {
    fn own(&self) -> PartyId {
        self.own
    }

    fn n(&self) -> usize {
        self.inner.members.len()
    }

    fn send(&self, job: JobId, round: u8, to: PartyId, payload: Bytes) {
        debug_assert_eq!(*job.as_bytes(), self.id, "a session is the network of one job");
        self.sent.get_or_init(Instant::now);
        self.inner.kept.sent(&self.id, to.index().into(), round, &payload);
        if let Some(lie) = self.inner.misbehave {
            self.inner.lie(lie, to.index().into(), self.id, round, &payload);
            return;
        }
        self.inner.post(to.index().into(), self.id, round, payload);
    }

    async fn recv(&self, _job: JobId, round: u8) -> Result<(PartyId, Bytes), Closed> {
        let mut queue = self.rounds.get(usize::from(round).wrapping_sub(1)).ok_or(Closed)?.lock().await;
        loop {
            let message = self.inner.cancel.run_until_cancelled(queue.recv()).await.flatten().ok_or(Closed)?;
            let waited = self.sent.get().map_or(Duration::ZERO, Instant::elapsed);
            self.inner.metrics.peer_share(message.from, waited.as_secs_f64());
            // Members of a committee have valid indices.
            if let Some(from) = u8::try_from(message.from).ok().and_then(PartyId::new) {
                return Ok((from, message.payload));
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.inner.inbox.lock().close(&self.id);
    }
}

/// Which missing messages were asked for, and when again.
#[derive(Debug, Default)]
pub(super) struct Asked {
    next: HashMap<(u16, SessionId), (Instant, Duration)>,
}

impl Asked {
    /// Those of `missing` whose time has come; their next time is twice as far away.
    pub(super) fn due(&mut self, peer: u16, mut missing: Vec<SessionId>, now: Instant) -> Vec<SessionId> {
        let next = &mut self.next;
        missing.retain(|id| {
            let entry = next.entry((peer, *id)).or_insert((now, ASK_AFTER));
            let due = now >= entry.0;
            if due {
                *entry = (now + entry.1, (entry.1 * 2).min(ASK_AT_MOST_EVERY));
            }
            due
        });
        missing
    }

    /// Forgets sessions that are not open any more.
    pub(super) fn forget(&mut self, open: impl Fn(&SessionId) -> bool) {
        self.next.retain(|(_, id), _| open(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_get_rarer() {
        let start = Instant::now();
        let mut asked = Asked::default();
        let mut times = Vec::new();
        for second in 0..20 {
            if !asked.due(2, vec![[1; 32]], start + Duration::from_secs(second)).is_empty() {
                times.push(second);
            }
        }
        assert_eq!(times, [0, 1, 3, 7, 15]);
        asked.forget(|_| false);
        assert!(!asked.due(2, vec![[1; 32]], start).is_empty());
    }
}
