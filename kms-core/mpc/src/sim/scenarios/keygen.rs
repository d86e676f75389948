//! Key generation: whole small keys, or secret bits only.
//!
//! Within the bound: all honest parties that stay get one right key, liars are named by those who see their lie, nobody
//! honest is, and nothing is revealed that was certified. Without liars honest parties also go down and come back, as many
//! and as often as they like. With the bound violated a run need not end, but all that end have one key, nobody honest is
//! named, and nobody votes both ways.

use core::time::Duration;
use std::collections::BTreeMap;

use rand::Rng;
use rand::seq::IndexedRandom;

use crate::dkg::simulated::{Keygen, LIES, Lie, Links, Outcome, bits_spec, check_key, small_spec};
use crate::sim::{BOUND, Breach, Cast, Run, Scenario, Sim, Summary, Timing, Violation, Weather};
use crate::{PartyId, PartySet};

/// See the module.
pub(super) struct KeygenScenario;

/// Longest that a question or an answer may take within the bound, in patiences: several follow one another in a chunk.
const HOPS: u32 = 16;

impl Scenario for KeygenScenario {
    fn name(&self) -> &'static str {
        "keygen"
    }

    fn timings(&self) -> &'static [Timing] {
        &[Timing::Synchronous, Timing::BoundViolated]
    }

    fn lies(&self) -> Vec<&'static str> {
        LIES.iter().map(|lie| lie.name()).collect()
    }

    fn play(&self, run: &Run) -> Result<Summary, Violation> {
        match run.committee.degree() {
            4 => play::<4>(run),
            _ => play::<5>(run),
        }
    }
}

/// Delays and cuts as the model wants them.
fn links(run: &Run, weather: &Weather) -> Links {
    let mut rng = run.rng(5);
    let seconds = |bound: f64| Duration::from_secs_f64(bound);
    let usual = seconds(*[0.005, 0.05, 1.0].choose(&mut rng).unwrap_or(&0.05));
    let (longest, cuts) = match run.timing {
        Timing::BoundViolated => (BOUND * 3, weather.cuts.clone()),
        _ => (BOUND / HOPS, Vec::new()),
    };
    Links { usual, longest, bad: rng.random_range(0.0..0.1), cuts, patience: BOUND }
}

fn play<const D: usize>(run: &Run) -> Result<Summary, Violation> {
    let committee = run.committee;
    let n = committee.n();
    let cast = Cast::draw(&committee, run.timing, run.lie.is_some(), &mut run.rng(1));
    // A party that goes down in a complaint counts as faulty: then there are too many faults beside liars.
    let weather = Weather::draw(&committee, run.timing, &cast, cast.liars.is_empty(), &mut run.rng(2));
    let mut rng = run.rng(3);
    let draw = |liar| {
        let lie = LIES.into_iter().find(|lie| Some(lie.name()) == run.lie).or_else(|| LIES.choose(&mut rng).copied());
        (liar, lie.unwrap_or(Lie::Silent))
    };
    let lies: BTreeMap<PartyId, Lie> = cast.liars.iter().map(draw).collect();
    let spec = if n <= 7 && run.rng(4).random_bool(0.5) { small_spec() } else { bits_spec() };
    let keygen = Keygen::<D>::new(committee, spec, run.seed).with_lies(lies.clone(), links(run, &weather));
    keygen.without(cast.gone);

    let mut sim: Sim<Outcome<D>> = Sim::new(n, run.seed, weather.profile);
    sim.limit(Duration::from_secs(24 * 3600));
    if run.log {
        sim.keep_log();
    }
    weather.apply(&mut sim);
    for party in committee.parties() {
        keygen.spawn(&mut sim, party, weather.starts[party.slot()].min(BOUND / 4));
    }
    let mut report = sim.report();
    let mut summary = Summary {
        delivered: report.delivered,
        trace: report.trace,
        log: core::mem::take(&mut report.log),
        ..Summary::default()
    };
    let judged = judge(run, &cast, &lies, &keygen, &report.results, &mut summary);
    judged.map(|()| summary.clone()).map_err(|violation| Violation {
        setting: format!("{cast:?}\n{lies:?}\n{weather:?}"),
        log: summary.log,
        ..violation
    })
}

fn judge<const D: usize>(
    run: &Run,
    cast: &Cast,
    lies: &BTreeMap<PartyId, Lie>,
    keygen: &Keygen<D>,
    results: &[(PartyId, Option<Outcome<D>>)],
    summary: &mut Summary,
) -> Result<(), Violation> {
    let within = run.timing == Timing::Synchronous;
    let mut finished = Vec::new();
    for (party, result) in results.iter().filter(|(party, _)| cast.truthful().contains(*party)) {
        match result {
            Some(Ok(key)) => finished.push((*party, key, &**keygen.journal(*party))),
            other if within && cast.honest.contains(*party) => {
                let end = other.as_ref().map(|result| result.as_ref().map(|_| ()));
                return Err(Violation::new(Breach::Hang, format!("P{party} ended with {end:?}")));
            }
            _ => summary.unfinished += 1,
        }
    }
    for (party, key, _) in &finished {
        for culprit in &key.culprits {
            if !lies.contains_key(&culprit.party) {
                let text = format!("P{party} names P{}: {:?}", culprit.party, culprit.misdeed);
                return Err(Violation::new(Breach::HonestNamed, text));
            }
            summary.named += 1;
        }
        // Who restarts may be late, and liars are what they want to be.
        let stayed: PartySet = cast.honest.without(if lies.is_empty() { cast.honest } else { PartySet::EMPTY });
        let late = key.late.iter().find(|late| stayed.contains(*late));
        if let Some(late) = late.filter(|_| within) {
            return Err(Violation::new(Breach::Presence, format!("P{party} takes P{late} for late")));
        }
    }
    if finished.len() > run.committee.t() {
        check_key(&run.committee, keygen.spec(), &finished)
            .map_err(|what| Violation::new(Breach::WrongResult, what))?;
    }
    summary.results += finished.len() as u64;
    let seen = keygen.seen();
    if !seen.two_votes.is_empty() {
        return Err(Violation::new(Breach::Disagreement, format!("{} voted both ways", seen.two_votes)));
    }
    if let Some(attempt) = seen.revealed.intersection(&seen.certified).next() {
        return Err(Violation::new(Breach::Revealed, format!("{attempt:?} was revealed and used")));
    }
    let reveals = lies
        .values()
        .any(|lie| matches!(lie, Lie::WrongFrame | Lie::WrongTopBit | Lie::WrongKeys | Lie::Turncoat | Lie::Uneven));
    if within && !reveals && !seen.revealed.is_empty() {
        return Err(Violation::new(Breach::Revealed, format!("{:?} for nothing", seen.revealed)));
    }
    Ok(())
}
