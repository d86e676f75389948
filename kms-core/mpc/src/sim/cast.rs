//! Who plays what in a run, and what the network does to them: all of it drawn from the seed.

use core::time::Duration;

use rand::Rng;
use rand::seq::{IndexedRandom, IteratorRandom, SliceRandom};
use rand_chacha::ChaCha20Rng;

use super::profile::{BOUND, Profile, Timing};
use super::{Report, Sim};
use crate::{Committee, PartyId, PartySet};

/// The parts of the parties. Every party is in exactly one of the three sets.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    /// At most t parties that lie.
    pub liars: PartySet,
    /// Honest parties that go down and stay down. Within the model at most t together with the liars.
    pub gone: PartySet,
    /// Honest parties that stay, though they may go down and come back.
    pub honest: PartySet,
}

impl Cast {
    /// Draws a cast. With `all_lie` there are t liars and nobody is gone.
    #[must_use]
    pub fn draw(committee: &Committee, timing: Timing, all_lie: bool, rng: &mut ChaCha20Rng) -> Self {
        let (n, t) = (committee.n(), committee.t());
        let mut order: Vec<PartyId> = PartyId::all(n).collect();
        order.shuffle(rng);
        // The full number of faults is the hardest case and the most frequent one.
        let faults = if rng.random_bool(0.7) { t } else { rng.random_range(0..=t) };
        let mut liars = if rng.random_bool(0.5) { faults } else { rng.random_range(0..=faults) };
        let mut gone = faults - liars;
        if timing == Timing::BoundViolated && rng.random_bool(0.5) {
            gone = rng.random_range(0..=n - liars);
        }
        if all_lie {
            (liars, gone) = (t, 0);
        }
        let mut parties = order.into_iter();
        let liars = parties.by_ref().take(liars).collect();
        let gone = parties.by_ref().take(gone).collect();
        Self { liars, gone, honest: parties.collect() }
    }

    /// Everybody who does not lie.
    #[must_use]
    pub const fn truthful(&self) -> PartySet {
        self.honest.union(self.gone)
    }
}

/// What the network does in a run.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Delays and losses.
    pub profile: Profile,
    /// When each party starts, by slot.
    pub starts: Vec<Duration>,
    /// Who goes down when, and when it is back.
    pub crashes: Vec<(PartyId, Duration, Option<Duration>)>,
    /// Who is cut off from the others, from when until when.
    pub cuts: Vec<(PartySet, Duration, Duration)>,
    /// Most lives of a party.
    pub lives: usize,
}

impl Weather {
    /// Draws weather. Parties that stay go down and come back only if the protocol can be `restartable`: others count a
    /// party that forgot where it was as faulty.
    #[must_use]
    pub fn draw(committee: &Committee, timing: Timing, cast: &Cast, restartable: bool, rng: &mut ChaCha20Rng) -> Self {
        let n = committee.n();
        let mut profile = Profile::draw(timing, rng);
        // Things happen while the protocol runs, or long after the first messages.
        let horizon = *[profile.max_delay * 2, BOUND, BOUND * 10].choose(rng).unwrap_or(&BOUND);
        let moment = |rng: &mut ChaCha20Rng| horizon.mul_f64(rng.random::<f64>());
        let spread = match timing {
            // What starts apart and delays take together is below the bound.
            Timing::Synchronous => *[Duration::ZERO, BOUND / 4].choose(rng).unwrap_or(&Duration::ZERO),
            _ => *[Duration::ZERO, profile.max_delay, BOUND].choose(rng).unwrap_or(&Duration::ZERO),
        };
        profile.bound = profile.bound.map(|bound| bound - spread);
        let starts = (0..n).map(|_| spread.mul_f64(rng.random::<f64>())).collect();
        let mut crashes: Vec<_> = cast.gone.iter().map(|p| (p, moment(rng), None)).collect();
        let mut lives = 1;
        if restartable && rng.random_bool(0.4) {
            for party in cast.honest.iter().filter(|_| rng.random_bool(0.4)).collect::<Vec<_>>() {
                let times = rng.random_range(1..=3);
                let mut at = Duration::ZERO;
                for _ in 0..times {
                    at += moment(rng);
                    let back = at + BOUND.mul_f64(rng.random::<f64>());
                    crashes.push((party, at, Some(back)));
                    at = back;
                }
                lives = lives.max(1 + times);
            }
        }
        let mut cuts = Vec::new();
        if rng.random_bool(0.3) {
            for _ in 0..rng.random_range(1..=3) {
                let size = rng.random_range(1..n);
                let side = PartyId::all(n).choose_multiple(rng, size).into_iter().collect();
                let from = moment(rng);
                cuts.push((side, from, from + (BOUND * 2).mul_f64(rng.random::<f64>())));
            }
        }
        Self { profile, starts, crashes, cuts, lives }
    }

    /// Lets it happen.
    pub fn apply<T>(&self, sim: &mut Sim<T>) {
        for (party, at, back) in &self.crashes {
            sim.crash(*party, *at);
            if let Some(back) = back {
                sim.restart(*party, *back);
            }
        }
        for (side, from, until) in &self.cuts {
            sim.cut(*side, *from, *until);
        }
    }

    /// The first party of `parties` at which more bytes waited than it should ever have to hold, and how many: `fair`
    /// is what the protocol sends it in one life, once. The network may double every message, and sends it again in
    /// every life.
    #[must_use]
    pub fn over_memory<T>(&self, report: &Report<T>, parties: PartySet, fair: usize) -> Option<(PartyId, usize)> {
        let bound = fair * 2 * self.lives;
        parties.iter().map(|p| (p, report.peaks[p.slot()])).find(|(_, peak)| *peak > bound)
    }
}
