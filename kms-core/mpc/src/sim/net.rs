//! One party's end of the simulated network.

use core::future::poll_fn;
use core::task::{Poll, Waker};
use core::time::Duration;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::lock;
use super::state::{Event, State};
use crate::{Closed, JobId, Network, PartyId};

/// One party's end of a [`Sim`](super::Sim). Work runs at once, on the thread of the simulation, and takes no virtual
/// time.
#[derive(Clone)]
pub struct SimNet {
    n: usize,
    own: PartyId,
    state: Arc<Mutex<State>>,
}

impl core::fmt::Debug for SimNet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SimNet").field("own", &self.own).finish_non_exhaustive()
    }
}

impl SimNet {
    pub(super) const fn new(n: usize, own: PartyId, state: Arc<Mutex<State>>) -> Self {
        Self { n, own, state }
    }

    /// Virtual time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        lock(&self.state).now
    }

    /// Messages delivered so far, in the whole network.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        lock(&self.state).delivered
    }

    /// Adds a line to the log of the run, if one is kept.
    pub fn say(&self, line: impl FnOnce() -> String) {
        lock(&self.state).say(|| format!("P{}: {}", self.own, line()));
    }
}

impl Network for SimNet {
    fn own(&self) -> PartyId {
        self.own
    }

    fn n(&self) -> usize {
        self.n
    }

    fn send(&self, job: JobId, round: u8, to: PartyId, payload: Bytes) {
        if to != self.own && to.slot() < self.n {
            lock(&self.state).send(self.own, to, (job, round), &payload);
        }
    }

    async fn recv(&self, job: JobId, round: u8) -> Result<(PartyId, Bytes), Closed> {
        poll_fn(|context| match lock(&self.state).take(self.own, (job, round), context.waker()) {
            Some(message) => Poll::Ready(Ok(message)),
            None => Poll::Pending,
        })
        .await
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.now().saturating_add(duration);
        let mut registered: Option<Waker> = None;
        poll_fn(|context| {
            let mut state = lock(&self.state);
            if state.now >= until {
                return Poll::Ready(());
            }
            if !registered.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                let after = until - state.now;
                state.schedule(after, Event::Wake(context.waker().clone()));
                registered = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        work()
    }
}
