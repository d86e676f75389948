//! A deterministic network in memory, and what is run on it by the thousand.
//!
//! One seed decides delays, order, losses, repetitions, crashes, restarts and cuts. Parties are futures that one thread
//! polls in virtual time, so the same seed gives the same run, message for message ([`Report::trace`] is a digest of
//! it), and nothing waits for a real clock. A lost message is sent again by the transport after a while, as the real
//! one does. A crashed party loses what it had in memory; one that was given a factory by [`Sim::spawn_durable`] is built
//! anew when it restarts, and its peers send again what they had sent to it. A run ends when every party is done, or
//! *stalls* when nobody can go on or virtual time is up: a protocol that hangs is a result, not a test that hangs.
//!
//! [`Scenario`]s are protocols with a cast of liars, weather drawn from the seed, and a judge; [`sweep`](mod@sweep) runs
//! them over many seeds, `script/sim` from the command line. `docs/simulator.md` says how to read a failure and how to add one.
//!
//! ```
//! use core::time::Duration;
//! use bytes::Bytes;
//! use kms_mpc::{JobId, Network, PartyId, sim::{Profile, Sim}};
//!
//! let mut sim = Sim::new(2, 42, Profile::default());
//! let job = JobId::new(&[]);
//! for party in PartyId::all(2) {
//!     let net = sim.net(party);
//!     sim.spawn(party, async move {
//!         let other = PartyId::new(3 - net.own().index()).unwrap();
//!         net.send(job, 1, other, Bytes::from_static(b"hello"));
//!         net.recv(job, 1).await.unwrap().0
//!     });
//! }
//! let met: Vec<_> = sim.run().into_iter().map(|(_, result)| result.unwrap()).collect();
//! assert_eq!(met, PartyId::all(2).rev().collect::<Vec<_>>());
//! ```

mod cast;
pub mod dealt;
mod net;
mod profile;
mod scenario;
mod scenarios;
mod state;
pub mod sweep;
#[cfg(test)]
mod tests;

use core::cmp::Reverse;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

pub use cast::{Cast, Weather};
pub use net::SimNet;
pub use profile::{BOUND, Profile, Timing};
pub use scenario::{Breach, Run, Scenario, Summary, Violation};
pub use scenarios::{SCENARIOS, find};

use crate::{PartyId, PartySet};
use state::{Event, State};

/// Virtual time after which a run is over, unless [`Sim::limit`] says otherwise: far beyond what any protocol waits.
const DEFAULT_LIMIT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Most events of a run: a protocol that keeps itself busy for ever is a stall, too.
const MAX_EVENTS: u64 = 50_000_000;

/// Set when the future of a party is to be polled.
struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

type Protocol<T> = Pin<Box<dyn Future<Output = T> + Send>>;

struct Task<T> {
    party: PartyId,
    /// `None` once done or crashed.
    future: Option<Protocol<T>>,
    rebuild: Option<Box<dyn FnMut() -> Protocol<T> + Send>>,
    ready: Arc<Ready>,
    result: Option<T>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every protocol of a party that is up is done.
    Done,
    /// Nothing is on its way and nobody can go on.
    Stalled,
    /// The limit of virtual time or of events is reached.
    Limit,
}

/// A run that is over.
#[derive(Clone, Debug)]
pub struct Report<T> {
    /// What came out, in the order of spawning; `None` for a protocol that crashed or waits for ever.
    pub results: Vec<(PartyId, Option<T>)>,
    /// How it ended.
    pub end: End,
    /// Virtual time of the last event.
    pub at: Duration,
    /// Messages that reached their receiver.
    pub delivered: u64,
    /// Most bytes that waited at each party at one moment, by slot.
    pub peaks: Vec<usize>,
    /// SHA3-256 over every delivery, crash and restart with its time: equal digests, equal runs.
    pub trace: [u8; 32],
    /// One line per event, if [`Sim::keep_log`] asked for it.
    pub log: Vec<String>,
}

/// A simulated network and the parties that run on it; `T` is what a party's protocol returns.
pub struct Sim<T> {
    n: usize,
    seed: u64,
    limit: Duration,
    state: Arc<Mutex<State>>,
    tasks: Vec<Task<T>>,
}

impl<T> core::fmt::Debug for Sim<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sim").field("n", &self.n).field("seed", &self.seed).finish_non_exhaustive()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A test that panicked inside: its state is as good as any.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Sim<T> {
    /// A network of n parties.
    #[must_use]
    pub fn new(n: usize, seed: u64, profile: Profile) -> Self {
        let state = Arc::new(Mutex::new(State::new(n, seed, profile)));
        Self { n, seed, limit: DEFAULT_LIMIT, state, tasks: Vec::new() }
    }

    /// The seed: print it when a run fails.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The network as `party` sees it.
    #[must_use]
    pub fn net(&self, party: PartyId) -> SimNet {
        SimNet::new(self.n, party, Arc::clone(&self.state))
    }

    fn add(&mut self, party: PartyId, future: Protocol<T>, rebuild: Option<Box<dyn FnMut() -> Protocol<T> + Send>>) {
        let ready = Arc::new(Ready(AtomicBool::new(true)));
        self.tasks.push(Task { party, future: Some(future), rebuild, ready, result: None });
    }

    /// Lets `party` run a protocol. A party may run several, on several jobs or rounds. A crash ends it for good.
    pub fn spawn(&mut self, party: PartyId, future: impl Future<Output = T> + Send + 'static) {
        self.add(party, Box::pin(future), None);
    }

    /// Lets `party` run a protocol that is built anew after each restart. What the factory owns is what the party keeps
    /// on disk; everything inside the future is lost in a crash. A result is durable: a done protocol is not built
    /// again.
    pub fn spawn_durable<F: Future<Output = T> + Send + 'static>(
        &mut self,
        party: PartyId,
        mut factory: impl FnMut() -> F + Send + 'static,
    ) {
        let first = Box::pin(factory());
        self.add(party, first, Some(Box::new(move || Box::pin(factory()))));
    }

    /// Stops `party` at a time: its protocols get no further, and what it had in memory is gone.
    pub fn crash(&mut self, party: PartyId, at: Duration) {
        lock(&self.state).schedule(at, Event::Crash(party));
    }

    /// Starts `party` again at a time, if it is down then.
    pub fn restart(&mut self, party: PartyId, at: Duration) {
        lock(&self.state).schedule(at, Event::Restart(party));
    }

    /// Cuts the parties of `side` off from the others for a time. What is sent across arrives after the cut is healed.
    pub fn cut(&mut self, side: PartySet, from: Duration, until: Duration) {
        lock(&self.state).cut(side, from, until);
    }

    /// Ends the run when virtual time gets there.
    pub const fn limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Keeps a line per event for [`Report::log`].
    pub fn keep_log(&mut self) {
        lock(&self.state).log = Some(Vec::new());
    }

    /// Runs until every protocol is done or none can go on. Results in the order of [`Self::spawn`]; `None` for one
    /// that crashed or waits for ever.
    pub fn run(self) -> Vec<(PartyId, Option<T>)> {
        self.report().results
    }

    /// The same, with everything that is known about the run.
    pub fn report(mut self) -> Report<T> {
        let mut events = 0;
        let end = loop {
            self.poll_ready();
            if self.tasks.iter().all(|task| task.result.is_some() || self.is_gone(task)) {
                break End::Done;
            }
            let event = {
                let mut state = lock(&self.state);
                let Some(Reverse(next)) = state.events.pop() else { break End::Stalled };
                events += 1;
                if next.at > self.limit || events > MAX_EVENTS {
                    break End::Limit;
                }
                state.now = next.at;
                next.event
            };
            self.happen(event);
        };
        let mut state = lock(&self.state);
        Report {
            results: self.tasks.into_iter().map(|task| (task.party, task.result)).collect(),
            end,
            at: state.now,
            delivered: state.delivered,
            peaks: state.peaks(),
            trace: state.trace(),
            log: state.log.take().unwrap_or_default(),
        }
    }

    /// Whether a task is down with no way back. One that can be rebuilt may still be.
    fn is_gone(&self, task: &Task<T>) -> bool {
        task.future.is_none() && (task.rebuild.is_none() || !self.restarts(task.party))
    }

    fn restarts(&self, party: PartyId) -> bool {
        lock(&self.state).events.iter().any(|Reverse(next)| matches!(next.event, Event::Restart(p) if p == party))
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver(delivery) => {
                let waiting = lock(&self.state).deliver(delivery);
                waiting.into_iter().for_each(Waker::wake);
            }
            Event::Wake(waker) => waker.wake(),
            Event::Crash(party) => {
                self.tasks.iter_mut().filter(|task| task.party == party).for_each(|task| task.future = None);
                lock(&self.state).crash(party, |task| self.tasks.get(task).is_none_or(|task| task.result.is_none()));
            }
            Event::Restart(party) => {
                let down = !lock(&self.state).is_up(party);
                lock(&self.state).restart(party);
                for task in self.tasks.iter_mut().filter(|t| down && t.party == party && t.result.is_none()) {
                    task.future = task.rebuild.as_mut().map(|rebuild| rebuild());
                    task.ready.0.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    fn poll_ready(&mut self) {
        while let Some(index) =
            self.tasks.iter().position(|task| task.future.is_some() && task.ready.0.swap(false, Ordering::Relaxed))
        {
            let task = &mut self.tasks[index];
            let waker = Waker::from(Arc::clone(&task.ready));
            let Some(future) = task.future.as_mut() else { continue };
            lock(&self.state).running = Some(index);
            if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                task.result = Some(result);
                task.future = None;
                let party = task.party;
                if self.tasks.iter().all(|task| task.party != party || task.result.is_some()) {
                    lock(&self.state).finish(party);
                }
            }
            lock(&self.state).running = None;
        }
    }
}
