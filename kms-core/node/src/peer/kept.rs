//! Messages that can't be computed again: those of a run whose sender had used fresh randomness.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::frame::SessionId;

/// What was sent in one session, by receiver and round.
type Sent = HashMap<(u16, u8), Bytes>;

/// The sessions whose messages are kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    sessions: Mutex<HashMap<SessionId, Sent>>,
}

impl Kept {
    /// Remembers what is sent if the session is one of those; the first message of a round is the one.
    pub(super) fn sent(&self, session: &SessionId, peer: u16, round: u8, payload: &Bytes) {
        if let Some(sent) = self.sessions.lock().get_mut(session) {
            sent.entry((peer, round)).or_insert_with(|| payload.clone());
        }
    }

    /// What was sent to `peer` so far, by round; `None` if the session's messages are not kept.
    pub(super) fn messages(&self, session: &SessionId, peer: u16) -> Option<Vec<(u8, Bytes)>> {
        let sessions = self.sessions.lock();
        let sent = sessions.get(session)?.iter().filter(|((to, _), _)| *to == peer);
        let mut messages: Vec<_> = sent.map(|((_, round), payload)| (*round, payload.clone())).collect();
        messages.sort_unstable_by_key(|(round, _)| *round);
        Some(messages)
    }
}

/// Keeps the messages of a session until it is dropped, so that peers may ask for them again. What that costs is what the
/// protocol sends.
#[derive(Debug)]
pub struct Keeping {
    kept: Arc<Kept>,
    session: SessionId,
}

impl Keeping {
    pub(super) fn new(kept: Arc<Kept>, session: SessionId) -> Self {
        kept.sessions.lock().entry(session).or_default();
        Self { kept, session }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.kept.sessions.lock().remove(&self.session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_kept_by_receiver_as_long_as_somebody_wants_them() {
        let kept = Arc::new(Kept::default());
        let (session, other) = ([1; 32], [2; 32]);
        let keeping = Keeping::new(kept.clone(), session);
        for (peer, round, byte) in [(2, 2, 5u8), (2, 1, 4), (3, 1, 6), (2, 1, 9)] {
            kept.sent(&session, peer, round, &vec![byte].into());
            kept.sent(&other, peer, round, &vec![byte].into());
        }
        let first = |byte: u8| Bytes::from(vec![byte]);
        assert_eq!(kept.messages(&session, 2), Some(vec![(1, first(4)), (2, first(5))]));
        assert_eq!(kept.messages(&session, 4), Some(Vec::new()));
        assert_eq!(kept.messages(&other, 2), None);
        drop(keeping);
        assert_eq!(kept.messages(&session, 2), None);
    }
}
