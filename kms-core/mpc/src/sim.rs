//! A deterministic network in memory: one seed decides delays, order, losses and repetitions.
//!
//! Parties are futures that one thread polls in virtual time, so the same seed gives the same run, message for message,
//! and nothing waits for a real clock. A lost message is sent again by the transport after a while, as the real one
//! does; a crashed party's future is dropped. A run ends when every party is done, or *stalls* when nobody can go on: a
//! protocol that hangs is a result, not a test that hangs.
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

use core::cmp::Reverse;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::{Closed, JobId, Network, PartyId};

/// How the network behaves. Times are virtual.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Shortest delay of a message.
    pub min_delay: Duration,
    /// Longest delay of a message. Delays are uniform, so messages overtake each other.
    pub max_delay: Duration,
    /// Probability that a message is lost and sent again after `retransmit`; that one may be lost, too.
    pub loss: f64,
    /// Time until a lost message is sent again.
    pub retransmit: Duration,
    /// Probability that a message is delivered twice.
    pub duplicate: f64,
}

impl Default for Profile {
    /// 1 to 50 ms, nothing lost or repeated.
    fn default() -> Self {
        Self {
            min_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(50),
            loss: 0.0,
            retransmit: Duration::from_millis(200),
            duplicate: 0.0,
        }
    }
}

impl Profile {
    /// Everything that the asynchronous model allows: long delays, a fifth of the messages lost, a fifth repeated.
    #[must_use]
    pub fn rough() -> Self {
        Self { max_delay: Duration::from_secs(2), loss: 0.2, duplicate: 0.2, ..Self::default() }
    }
}

type Channel = (JobId, u8);

enum Event {
    Deliver { from: PartyId, to: PartyId, channel: Channel, payload: Bytes },
    Wake(Waker),
    Crash(PartyId),
}

struct Scheduled {
    at: Duration,
    number: u64,
    event: Event,
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

struct State {
    profile: Profile,
    rng: ChaCha20Rng,
    now: Duration,
    scheduled: u64,
    events: BinaryHeap<Reverse<Scheduled>>,
    mailboxes: BTreeMap<(PartyId, Channel), Mailbox>,
    delivered: u64,
}

impl State {
    fn schedule(&mut self, after: Duration, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse(Scheduled { at: self.now + after, number: self.scheduled, event }));
    }

    fn send(&mut self, from: PartyId, to: PartyId, channel: Channel, payload: &Bytes) {
        let copies = 1 + usize::from(self.rng.random_bool(self.profile.duplicate));
        for _ in 0..copies {
            let mut after = self.rng.random_range(self.profile.min_delay..=self.profile.max_delay);
            while self.rng.random_bool(self.profile.loss) {
                after += self.profile.retransmit;
            }
            self.schedule(after, Event::Deliver { from, to, channel, payload: payload.clone() });
        }
    }
}

/// Set when the future of a party is to be polled.
struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task<T> {
    party: PartyId,
    /// `None` once done or crashed.
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    ready: Arc<Ready>,
    result: Option<T>,
}

/// A simulated network and the parties that run on it; `T` is what a party's protocol returns.
pub struct Sim<T> {
    n: usize,
    seed: u64,
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
        let state = State {
            profile,
            rng: ChaCha20Rng::seed_from_u64(seed),
            now: Duration::ZERO,
            scheduled: 0,
            events: BinaryHeap::new(),
            mailboxes: BTreeMap::new(),
            delivered: 0,
        };
        Self { n, seed, state: Arc::new(Mutex::new(state)), tasks: Vec::new() }
    }

    /// The seed: print it when a run fails.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The network as `party` sees it.
    #[must_use]
    pub fn net(&self, party: PartyId) -> SimNet {
        SimNet { n: self.n, own: party, state: Arc::clone(&self.state) }
    }

    /// Lets `party` run a protocol. A party may run several, on several jobs or rounds.
    pub fn spawn(&mut self, party: PartyId, future: impl Future<Output = T> + Send + 'static) {
        let ready = Arc::new(Ready(AtomicBool::new(true)));
        self.tasks.push(Task { party, future: Some(Box::pin(future)), ready, result: None });
    }

    /// Stops `party` at a time: its protocols get no further.
    pub fn crash(&mut self, party: PartyId, at: Duration) {
        lock(&self.state).schedule(at, Event::Crash(party));
    }

    /// Runs until every protocol is done or none can go on. Results in the order of [`Self::spawn`]; `None` for one
    /// that crashed or waits for ever.
    pub fn run(mut self) -> Vec<(PartyId, Option<T>)> {
        loop {
            self.poll_ready();
            if self.tasks.iter().all(|task| task.future.is_none()) {
                break;
            }
            let event = {
                let mut state = lock(&self.state);
                let Some(Reverse(next)) = state.events.pop() else { break };
                state.now = next.at;
                next.event
            };
            match event {
                Event::Deliver { from, to, channel, payload } => {
                    let mut state = lock(&self.state);
                    state.delivered += 1;
                    let mailbox = state.mailboxes.entry((to, channel)).or_default();
                    mailbox.messages.push_back((from, payload));
                    let waiting = mailbox.waiting.take();
                    drop(state);
                    waiting.into_iter().for_each(Waker::wake);
                }
                Event::Wake(waker) => waker.wake(),
                Event::Crash(party) => {
                    self.tasks.iter_mut().filter(|task| task.party == party).for_each(|task| task.future = None);
                }
            }
        }
        self.tasks.into_iter().map(|task| (task.party, task.result)).collect()
    }

    fn poll_ready(&mut self) {
        while let Some(task) =
            self.tasks.iter_mut().find(|task| task.future.is_some() && task.ready.0.swap(false, Ordering::Relaxed))
        {
            let waker = Waker::from(Arc::clone(&task.ready));
            let Some(future) = task.future.as_mut() else { continue };
            if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                task.result = Some(result);
                task.future = None;
            }
        }
    }
}

/// One party's end of a [`Sim`]. Work runs at once, on the thread of the simulation, and takes no virtual time.
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
        core::future::poll_fn(|context| {
            let mut state = lock(&self.state);
            let mailbox = state.mailboxes.entry((self.own, (job, round))).or_default();
            match mailbox.messages.pop_front() {
                Some(message) => Poll::Ready(Ok(message)),
                None => {
                    mailbox.waiting = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.now() + duration;
        core::future::poll_fn(|context| {
            let mut state = lock(&self.state);
            if state.now >= until {
                return Poll::Ready(());
            }
            let after = until - state.now;
            state.schedule(after, Event::Wake(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        work()
    }
}
