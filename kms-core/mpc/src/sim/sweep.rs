//! Many seeds.

use core::panic::AssertUnwindSafe;
use core::sync::atomic::{AtomicU64, Ordering};
use std::panic::catch_unwind;
use std::sync::{Mutex, PoisonError};

use super::{Breach, Run, Scenario, Summary, Timing, Violation};
use crate::Committee;

/// Seeds to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The committee.
    pub committee: Committee,
    /// The model of the network.
    pub timing: Timing,
    /// First seed.
    pub first: u64,
    /// How many.
    pub seeds: u64,
    /// Lie that t liars tell in every run; otherwise the seeds decide.
    pub lie: Option<&'static str>,
    /// Threads; each runs whole seeds, so results do not depend on it.
    pub threads: usize,
}

/// What came out of many seeds.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// Runs in which everything was as it should be.
    pub passed: u64,
    /// Sums over them; `peak` is the largest, `trace` the exclusive or.
    pub total: Summary,
    /// Seeds of the runs in which something was not, in ascending order.
    pub failures: Vec<(u64, Violation)>,
}

impl Sweep {
    fn add(&mut self, summary: &Summary) {
        self.passed += 1;
        let total = &mut self.total;
        total.results += summary.results;
        total.refusals += summary.refusals;
        total.unfinished += summary.unfinished;
        total.named += summary.named;
        total.delivered += summary.delivered;
        total.peak = total.peak.max(summary.peak);
        total.trace.iter_mut().zip(summary.trace).for_each(|(sum, byte)| *sum ^= byte);
    }
}

/// One run; a panic inside is a violation like any other.
///
/// # Errors
/// See [`Scenario::play`].
pub fn play(scenario: &dyn Scenario, run: &Run) -> Result<Summary, Violation> {
    catch_unwind(AssertUnwindSafe(|| scenario.play(run))).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
        Err(Violation::new(Breach::Panic, text.unwrap_or("without a message")))
    })
}

/// Runs a scenario over many seeds. `progress` hears the number of runs done, of `plan.seeds`, after each one.
pub fn sweep(scenario: &dyn Scenario, plan: &Plan, progress: impl Fn(u64) + Sync) -> Sweep {
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let result = Mutex::new(Sweep::default());
    let worker = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= plan.seeds {
                return;
            }
            let seed = plan.first.wrapping_add(index);
            let run = Run { committee: plan.committee, timing: plan.timing, seed, lie: plan.lie, log: false };
            let played = play(scenario, &run);
            let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
            match played {
                Ok(summary) => result.add(&summary),
                Err(violation) => result.failures.push((seed, violation)),
            }
            drop(result);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..plan.threads.max(1) {
            // A pool of one thread: what a protocol gives to rayon runs here, instead of stealing another seed's work.
            scope.spawn(|| match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
                Ok(pool) => pool.install(worker),
                Err(_) => worker(),
            });
        }
    });
    let mut sweep = result.into_inner().unwrap_or_else(PoisonError::into_inner);
    sweep.failures.sort_by_key(|(seed, _)| *seed);
    sweep
}
