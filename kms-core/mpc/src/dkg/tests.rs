//! Whole runs on the simulated network.

use core::time::Duration;

use kms_algebra::{PartyId, PartySet};

use super::RunError;
use super::simulated::{self, bits_spec, check_key, small_spec};
use crate::Committee;
use crate::sim::{End, Profile, Report, Sim};
use kms_encoding::key_spec::KeySpec;

mod answers;
mod crashes;
mod honest;
mod liars;

type Keygen = simulated::Keygen<4>;
type Out = simulated::Outcome<4>;

fn party(index: u8) -> PartyId {
    PartyId::new(index).unwrap()
}

fn committee(n: usize, t: usize) -> Committee {
    Committee::new(n, t).unwrap()
}

/// A simulation of all parties of a run.
fn simulation(keygen: &Keygen, seed: u64) -> Sim<Out> {
    simulation_of(keygen, seed, |_| Duration::ZERO)
}

/// The same with parties that start one after the other.
fn simulation_of(keygen: &Keygen, seed: u64, starts: impl Fn(PartyId) -> Duration) -> Sim<Out> {
    let n = keygen.committee().n();
    let mut sim = Sim::new(n, seed, Profile::default());
    sim.limit(Duration::from_secs(24 * 3600));
    for party in PartyId::all(n) {
        keygen.spawn(&mut sim, party, starts(party));
    }
    sim
}

/// The keys of these parties, checked.
fn key_of(keygen: &Keygen, report: &Report<Out>, parties: PartySet, seed: u64) -> Vec<Vec<u128>> {
    assert!(report.end == End::Done, "seed {seed}: {:?} at {:?}", report.end, report.at);
    let finished: Vec<_> = report
        .results
        .iter()
        .filter(|(party, _)| parties.contains(*party))
        .map(|(party, result)| match result {
            Some(Ok(finished)) => (*party, finished, &**keygen.journal(*party)),
            other => panic!("seed {seed}: P{party} ended with {other:?}"),
        })
        .collect();
    check_key(&keygen.committee(), keygen.spec(), &finished).unwrap_or_else(|what| panic!("seed {seed}: {what}"))
}

fn run(n: usize, t: usize, spec: KeySpec, seed: u64) -> (Keygen, Report<Out>, Vec<Vec<u128>>) {
    let keygen = Keygen::new(committee(n, t), spec, seed);
    let report = simulation(&keygen, seed).report();
    let key = key_of(&keygen, &report, PartySet::all(n), seed);
    (keygen, report, key)
}
