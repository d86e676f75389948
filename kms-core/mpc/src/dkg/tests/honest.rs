//! Everybody is honest and stays.

use super::*;

fn nobody_is_named(report: &Report<Out>) {
    for (_, result) in &report.results {
        let Some(Ok(finished)) = result else { panic!("everybody ends") };
        assert!(finished.culprits.is_empty() && finished.late.is_empty());
    }
}

#[test]
fn all_parties_get_one_right_key() {
    for (n, t) in [(4, 1), (7, 2)] {
        let (_, report, _) = run(n, t, small_spec(), 1);
        nobody_is_named(&report);
    }
}

#[test]
fn secrets_are_made_by_large_committees() {
    for (n, t) in [(10, 3), (13, 4), (5, 1)] {
        let (_, report, _) = run(n, t, bits_spec(), 2);
        nobody_is_named(&report);
    }
}

#[test]
fn runs_share_nothing() {
    let (first, _, a) = run(4, 1, small_spec(), 3);
    let (second, _, b) = run(4, 1, small_spec(), 4);
    // 192 bits each.
    assert_ne!(a, b);
    for component in 0..small_spec().components.len() {
        assert_ne!(first.journal(party(1)).bodies(component), second.journal(party(1)).bodies(component));
    }
}

#[test]
fn one_seed_is_one_run() {
    let ends = [5, 5].map(|seed| run(4, 1, bits_spec(), seed).1.at);
    assert_eq!(ends[0], ends[1]);
}
