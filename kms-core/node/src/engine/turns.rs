//! When an old share is computed again for a peer.
//!
//! It is heavy, and a peer may ask for as many old jobs as it likes. So one is computed at a time for the whole party,
//! every peer has at most one question on its way there, and asks at a pace of its own: one that floods waits for
//! itself, and takes at most every second turn from one that does not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Shares that are computed for one peer without a pause after it has been quiet …
const BURST: f64 = 32.0;
/// … and how many a second from then on.
const RATE: f64 = 8.0;

/// How many shares a peer may have computed.
#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self { left: BURST, at: now }
    }

    /// How long until there is one.
    fn wait(&mut self, now: Instant) -> Duration {
        self.left = (self.left + now.duration_since(self.at).as_secs_f64() * RATE).min(BURST);
        self.at = now;
        Duration::from_secs_f64((1.0 - self.left).max(0.0) / RATE)
    }
}

/// All peers, and the one place where shares are computed again.
#[derive(Debug)]
pub(super) struct Turns {
    peers: Mutex<HashMap<u16, Arc<tokio::sync::Mutex<Bucket>>>>,
    place: Arc<Semaphore>,
}

/// The one question of a peer.
#[derive(Debug)]
pub(super) struct Turn(OwnedMutexGuard<Bucket>);

impl Turns {
    pub(super) fn new() -> Self {
        Self { peers: Mutex::default(), place: Arc::new(Semaphore::new(1)) }
    }

    /// Waits until `peer` has no other question under way and its pace allows one.
    pub(super) async fn of(&self, peer: u16) -> Turn {
        let bucket = {
            let mut peers = self.peers.lock();
            let new = || Arc::new(tokio::sync::Mutex::new(Bucket::new(Instant::now())));
            peers.entry(peer).or_insert_with(new).clone()
        };
        let mut bucket = bucket.lock_owned().await;
        loop {
            let wait = bucket.wait(Instant::now());
            if wait.is_zero() {
                return Turn(bucket);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Waits for the place, first come, first served. Never none: it is never closed.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.place.clone().acquire_owned().await.ok()
    }
}

impl Turn {
    /// A share is computed.
    pub(super) fn spend(&mut self) {
        self.0.left -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_pace_is_a_burst_and_a_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let mut at_once = 0;
        while bucket.wait(start).is_zero() {
            bucket.left -= 1.0;
            at_once += 1;
        }
        assert_eq!(at_once, 32);
        assert_eq!(bucket.wait(start), Duration::from_millis(125));
        assert!(bucket.wait(start + Duration::from_millis(125)).is_zero());
        // A long silence earns one burst, not more.
        assert!(bucket.wait(start + Duration::from_secs(3600)).is_zero());
        assert!((bucket.left - BURST).abs() < 1e-9);
    }

    #[tokio::test]
    async fn a_peer_that_floods_waits_for_itself() {
        let turns = Turns::new();
        let mut first = turns.of(2).now_or_never().unwrap();
        assert!(turns.of(2).now_or_never().is_none(), "two questions of one peer");
        assert!(turns.of(3).now_or_never().is_some());
        first.0.left = -1000.0;
        drop(first);
        assert!(turns.of(2).now_or_never().is_none(), "faster than its pace");
        assert!(turns.of(3).now_or_never().is_some());
        let place = turns.place().now_or_never().unwrap();
        assert!(turns.place().now_or_never().is_none(), "two shares at the same time");
        drop(place);
        assert!(turns.place().now_or_never().is_some());
    }
}
