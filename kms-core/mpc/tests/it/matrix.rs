//! Every lie × every protocol × three committees: the right result, and the right culprits with the right evidence.
//!
//! The scenarios judge; [`kms_mpc::malicious::LIES`] says what each lie looks like to whom. To see the matrix:
//! `script/sim --list`.

use kms_mpc::Committee;
use kms_mpc::sim::sweep::{Plan, sweep};
use kms_mpc::sim::{SCENARIOS, Scenario, Timing};

const COMMITTEES: [(usize, usize); 3] = [(4, 1), (7, 2), (13, 4)];

fn plan(committee: (usize, usize), timing: Timing, first: u64, seeds: u64, lie: Option<&'static str>) -> Plan {
    let committee = Committee::new(committee.0, committee.1).unwrap();
    Plan { committee, timing, first, seeds, lie, threads: 2 }
}

/// Runs a plan and fails with the commands that repeat its failures; how often liars were named.
fn hold(scenario: &dyn Scenario, plan: &Plan) -> u64 {
    let sweep = sweep(scenario, plan, |_| ());
    let (n, t, name) = (plan.committee.n(), plan.committee.t(), scenario.name());
    let lie = plan.lie.map(|lie| format!(" --lie {lie}")).unwrap_or_default();
    for (seed, violation) in &sweep.failures {
        eprintln!("{violation}\n{}", violation.setting);
        eprintln!(
            "script/sim --n {n} --t {t} --scenario {name} --profile {}{lie} --first-seed {seed} --seeds 1 --log",
            plan.timing
        );
    }
    assert!(sweep.failures.is_empty(), "{name}, {}, ({n},{t}){lie}", plan.timing);
    assert_eq!(sweep.passed, plan.seeds);
    sweep.total.named
}

#[test]
fn every_lie_in_every_protocol_and_committee_changes_nothing_and_names_its_liars() {
    for scenario in SCENARIOS {
        let timing = scenario.timings()[0];
        for committee in COMMITTEES {
            for lie in scenario.lies() {
                hold(*scenario, &plan(committee, timing, 1, 4, Some(lie)));
            }
        }
    }
}

#[test]
fn hundreds_of_seeds_hold_in_every_profile() {
    for scenario in SCENARIOS {
        for &timing in scenario.timings() {
            for (committee, seeds) in COMMITTEES.into_iter().zip([100, 50, 20]) {
                hold(*scenario, &plan(committee, timing, 1000, seeds, None));
            }
        }
    }
}

#[test]
fn committees_larger_than_3t_plus_1_and_the_ring_of_degree_5_hold_too() {
    for scenario in SCENARIOS {
        for committee in [(5, 1), (9, 2), (16, 1), (17, 2)] {
            hold(*scenario, &plan(committee, scenario.timings()[0], 2000, 10, None));
        }
    }
}
