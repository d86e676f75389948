//! Every lie × every protocol × three committees: the right result, and the right culprits with the right evidence; and
//! some hundreds of seeds in which anything may happen.
//!
//! The scenarios judge. To see the matrix: `script/sim --list`. To run more of it: `docs/simulator.md`.

use kms_mpc::Committee;
use kms_mpc::sim::sweep::{Plan, sweep};
use kms_mpc::sim::{SCENARIOS, Scenario, Timing, find};

/// Committees, seeds per lie, seeds per profile.
const COMMITTEES: [((usize, usize), u64, u64); 3] = [((4, 1), 2, 60), ((7, 2), 1, 20), ((13, 4), 1, 3)];

fn plan(committee: (usize, usize), timing: Timing, first: u64, seeds: u64, lie: Option<&'static str>) -> Plan {
    let committee = Committee::new(committee.0, committee.1).unwrap();
    Plan { committee, timing, first, seeds, lie, threads: 1 }
}

/// Runs a plan and fails with the commands that repeat its failures; how often liars were named.
fn hold(scenario: &dyn Scenario, plan: &Plan) -> u64 {
    let sweep = sweep(scenario, plan, |_| ());
    let (n, t, name, timing) = (plan.committee.n(), plan.committee.t(), scenario.name(), plan.timing);
    let lie = plan.lie.map(|lie| format!(" --lie {lie}")).unwrap_or_default();
    for (seed, violation) in &sweep.failures {
        eprintln!("{violation}\n{}", violation.setting);
        let what = format!("--n {n} --t {t} --scenario {name} --profile {timing}{lie}");
        eprintln!("script/sim {what} --first-seed {seed} --seeds 1 --log");
    }
    assert!(sweep.failures.is_empty(), "{name}, {timing}, ({n},{t}){lie}");
    assert_eq!(sweep.passed, plan.seeds);
    sweep.total.named
}

fn every_lie(scenario: &str, committee: usize) {
    let scenario = find(scenario).unwrap();
    let (committee, seeds, _) = COMMITTEES[committee];
    let held = |lie| hold(scenario, &plan(committee, scenario.timings()[0], 1, seeds, Some(lie)));
    let named: u64 = scenario.lies().into_iter().map(held).sum();
    assert!(named > 0);
}

fn many_seeds(scenario: &str) {
    let scenario = find(scenario).unwrap();
    for &timing in scenario.timings() {
        for (committee, _, seeds) in COMMITTEES {
            hold(scenario, &plan(committee, timing, 1000, seeds, None));
        }
    }
    // Larger than 3t + 1, and the ring of degree 5.
    for committee in [(5, 1), (9, 2), (16, 1), (17, 2)] {
        hold(scenario, &plan(committee, scenario.timings()[0], 2000, 1, None));
    }
}

/// Tests of each scenario by its own, so that they run side by side and a failure says which.
macro_rules! scenarios {
    ($($module:ident $name:literal)*) => {
        $(mod $module {
            #[test]
            fn every_lie_of_1_of_4_changes_nothing_and_names_its_liar() {
                super::every_lie($name, 0);
            }

            #[test]
            fn every_lie_of_2_of_7_changes_nothing_and_names_its_liars() {
                super::every_lie($name, 1);
            }

            #[test]
            fn every_lie_of_4_of_13_changes_nothing_and_names_its_liars() {
                super::every_lie($name, 2);
            }

            #[test]
            fn many_seeds_hold_in_every_profile() {
                super::many_seeds($name);
            }
        })*

        #[test]
        fn every_scenario_is_tested() {
            assert_eq!(SCENARIOS.iter().map(|scenario| scenario.name()).collect::<Vec<_>>(), [$($name),*]);
        }
    };
}

scenarios! {
    decryption "decryption"
    opening "opening"
    broadcast "broadcast"
    vss "vss"
    coin "coin"
    prss_setup "prss-setup"
    keygen "keygen"
}
