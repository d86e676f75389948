//! Messages on their way out: what is to go to a peer at the same time goes in one frame under one signature.
//!
//! One task takes what has piled up, signs it on rayon's pool and puts it into the queues of the streams. There is no
//! clock in it: a tick lasts as long as signing does, so a lone message leaves at once and a burst shares frames. A message
//! to all is signed once for all.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use kms_proto::bounds::{MAX_BUNDLE, MAX_PAYLOAD};
use kms_proto::peer::{Frame, frame::Body};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Inner;
use super::frame::{self, Outgoing, SessionId};
use crate::pool::compute;

/// Messages to one peer that wait to be signed …
const MESSAGES: usize = 4096;
/// … and their bytes. One that is over is dropped: the peer asks for what it lacks.
const BYTES: usize = 8 << 20;

/// What waits for one peer.
#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Outgoing>,
    bytes: usize,
}

/// What waits for all peers.
#[derive(Debug)]
pub(super) struct Outbox {
    /// By index − 1.
    peers: Mutex<Vec<Waiting>>,
    wake: Notify,
}

impl Outbox {
    pub(super) fn new(n: usize) -> Self {
        Self { peers: Mutex::new((0..n).map(|_| Waiting::default()).collect()), wake: Notify::new() }
    }

    /// Puts a message in. `false` if there is no room.
    pub(super) fn post(&self, peer: u16, message: Outgoing) -> bool {
        let mut peers = self.peers.lock();
        let Some(waiting) = peers.get_mut(usize::from(peer).wrapping_sub(1)) else { return false };
        let bytes = waiting.bytes + message.payload.len();
        if waiting.messages.len() >= MESSAGES || bytes > BYTES {
            return false;
        }
        waiting.bytes = bytes;
        waiting.messages.push_back(message);
        drop(peers);
        self.wake.notify_one();
        true
    }

    /// What goes into the next frame of each peer that has something waiting.
    fn take(&self) -> Vec<(u16, Vec<Outgoing>)> {
        let mut peers = self.peers.lock();
        (1u16..).zip(peers.iter_mut()).filter_map(|(peer, waiting)| Some((peer, waiting.bundle()?))).collect()
    }
}

impl Waiting {
    /// As many messages as a frame holds, oldest first.
    fn bundle(&mut self) -> Option<Vec<Outgoing>> {
        let mut bundle = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.messages.front() {
            bytes += next.payload.len();
            if bundle.len() == MAX_BUNDLE || (bytes > MAX_PAYLOAD && !bundle.is_empty()) {
                break;
            }
            self.bytes -= next.payload.len();
            bundle.extend(self.messages.pop_front());
        }
        (!bundle.is_empty()).then_some(bundle)
    }
}

/// Signs and sends until cancelled.
pub(super) async fn run(inner: Arc<Inner>) {
    while inner.cancel.run_until_cancelled(inner.outbox.wake.notified()).await.is_some() {
        loop {
            let bundles = inner.outbox.take();
            if bundles.is_empty() {
                break;
            }
            let signer = inner.clone();
            for (peer, frame) in compute(move || sign(&signer, bundles)).await {
                // Without a stream, or with a full queue, nothing is lost: the peer asks for what it lacks.
                if !inner.send(peer, frame) {
                    inner.metrics.peer_unsent(peer);
                }
            }
        }
    }
}

/// One frame per peer; those with the same messages get the same.
fn sign(inner: &Inner, bundles: Vec<(u16, Vec<Outgoing>)>) -> Vec<(u16, Frame)> {
    // Payloads are the same where they are the same memory: a message to all is cloned, not copied.
    type Key = Vec<(SessionId, u8, *const u8, usize)>;
    let mut signed: HashMap<Key, Frame> = HashMap::new();
    let frames = bundles.into_iter().map(|(peer, bundle)| {
        let key = bundle.iter().map(|m| (m.session, m.round, m.payload.as_ptr(), m.payload.len())).collect();
        let frame = signed.entry(key).or_insert_with(|| inner.signed(bundle)).clone();
        (peer, frame)
    });
    frames.collect()
}

impl Inner {
    fn signed(&self, mut bundle: Vec<Outgoing>) -> Frame {
        let (key, committee, own) = (&self.key, &self.committee_hash, self.own);
        let body = match bundle.pop() {
            Some(only) if bundle.is_empty() => {
                Body::Share(frame::sign(key, committee, own, &only.session, only.round, only.payload))
            }
            last => Body::Shares(frame::sign_all(key, committee, own, bundle.into_iter().chain(last))),
        };
        Frame { body: Some(body) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(session: u8, bytes: usize) -> Outgoing {
        Outgoing { session: [session; 32], round: 1, payload: vec![session; bytes].into() }
    }

    #[test]
    fn what_waits_together_leaves_together_within_the_bounds_of_a_frame() {
        let outbox = Outbox::new(3);
        for session in 0..70 {
            assert!(outbox.post(2, message(session, 10)));
        }
        assert!(outbox.post(3, message(1, MAX_PAYLOAD)) && outbox.post(3, message(2, 1)));
        let first = outbox.take();
        assert_eq!(first.iter().map(|(peer, list)| (*peer, list.len())).collect::<Vec<_>>(), [(2, 64), (3, 1)]);
        assert_eq!(first[0].1[0], message(0, 10));
        let second = outbox.take();
        assert_eq!(second.iter().map(|(peer, list)| (*peer, list.len())).collect::<Vec<_>>(), [(2, 6), (3, 1)]);
        assert!(outbox.take().is_empty());
        assert!(!outbox.post(4, message(1, 1)), "nobody");
    }

    #[test]
    fn a_peer_has_so_much_room_and_no_more() {
        let outbox = Outbox::new(2);
        assert_eq!((0..2 * MESSAGES).filter(|_| outbox.post(1, message(1, 0))).count(), MESSAGES);
        let kept = (0..100).filter(|_| outbox.post(2, message(1, MAX_PAYLOAD))).count();
        assert_eq!(kept, BYTES / MAX_PAYLOAD);
        while !outbox.take().is_empty() {}
        assert!(outbox.post(1, message(1, 0)) && outbox.post(2, message(1, MAX_PAYLOAD)));
    }
}
