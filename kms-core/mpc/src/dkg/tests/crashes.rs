//! Parties go down and come back, or don't.

use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::*;
use crate::dkg::plan::Plan;
use crate::dkg::record::Record;
use crate::sim::BOUND;

/// Kinds of records.
const VOTE: u8 = 2;
const DONE: u8 = 5;

/// Nobody told two votes, and nothing was revealed.
fn votes_are_single(keygen: &Keygen, seed: u64) {
    let seen = keygen.seen();
    assert!(seen.two_votes.is_empty(), "seed {seed}: {} voted both ways", seen.two_votes);
    assert!(seen.revealed.is_empty(), "seed {seed}: {:?} revealed", seen.revealed);
}

/// Plays a run in which parties of a random set go down several times while it lasts.
fn with_crashes(n: usize, t: usize, down: usize, spec: KeySpec, seed: u64) {
    let keygen = Keygen::new(committee(n, t), spec, seed);
    let mut sim = simulation(&keygen, seed);
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let times = rng.random_range(1..=3);
    for _ in 0..times {
        // A run takes some seconds. Together or each for itself.
        let at = Duration::from_millis(rng.random_range(0..4000));
        let apart = Duration::from_millis(if rng.random() { 0 } else { 1500 });
        for party in PartyId::all(n).choose_multiple(&mut rng, down) {
            let at = at + apart.mul_f64(rng.random());
            sim.crash(party, at);
            sim.restart(party, at + (BOUND / 3).mul_f64(rng.random()));
        }
    }
    let report = sim.report();
    key_of(&keygen, &report, PartySet::all(n), seed);
    votes_are_single(&keygen, seed);
    for (_, result) in &report.results {
        let Some(Ok(finished)) = result else { panic!("seed {seed}: everybody ends") };
        assert!(finished.culprits.is_empty(), "seed {seed}: {:?}", finished.culprits);
    }
}

#[test]
fn one_party_that_comes_back_gets_the_same_key() {
    for seed in 100..115 {
        with_crashes(4, 1, 1, small_spec(), seed);
    }
}

#[test]
fn two_parties_that_come_back_get_the_same_key() {
    for seed in 200..215 {
        with_crashes(4, 1, 2, small_spec(), seed);
    }
}

#[test]
fn all_parties_that_come_back_get_the_same_key() {
    for seed in 300..315 {
        with_crashes(4, 1, 4, small_spec(), seed);
        with_crashes(7, 2, 7, bits_spec(), seed);
    }
}

#[test]
fn parties_that_are_gone_are_late_and_the_others_finish() {
    for (n, t, seed) in [(4, 1, 400), (4, 1, 401), (4, 1, 402), (7, 2, 403), (7, 2, 404)] {
        let keygen = Keygen::new(committee(n, t), small_spec(), seed);
        let mut sim = simulation(&keygen, seed);
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let gone: PartySet = PartyId::all(n).choose_multiple(&mut rng, t).into_iter().collect();
        for party in gone.iter() {
            sim.crash(party, Duration::from_millis(rng.random_range(0..1000)));
        }
        keygen.without(gone);
        let report = sim.report();
        key_of(&keygen, &report, PartySet::all(n).without(gone), seed);
        votes_are_single(&keygen, seed);
        for (party, result) in &report.results {
            if let Some(Ok(finished)) = result {
                assert!(finished.culprits.is_empty() && finished.late == gone, "seed {seed}: P{party} {finished:?}");
            }
        }
    }
}

#[test]
fn a_party_that_comes_back_long_after_takes_the_key_over() {
    let seed = 500;
    let keygen = Keygen::new(committee(4, 1), small_spec(), seed);
    let mut sim = simulation(&keygen, seed);
    sim.crash(party(2), Duration::from_millis(300));
    sim.restart(party(2), BOUND * 60);
    let report = sim.report();
    key_of(&keygen, &report, PartySet::all(4), seed);
    assert!(report.at < BOUND * 62, "{:?}", report.at);
}

#[test]
fn a_party_that_goes_down_at_the_very_end_gives_what_others_lack() {
    let seed = 550;
    let keygen = Keygen::new(committee(4, 1), small_spec(), seed);
    keygen.loses_its_last_frames(party(1));
    let last = Plan::new::<4>(&small_spec()).unwrap().chunks.len() as u32 - 1;
    keygen.journal(party(1)).hang_after(&[&[DONE][..], &last.to_be_bytes()].concat(), 0);
    let mut sim = simulation(&keygen, seed);
    sim.crash(party(4), Duration::from_millis(10));
    keygen.without([party(4)].into_iter().collect());
    sim.crash(party(1), BOUND * 20);
    sim.restart(party(1), BOUND * 21);
    let report = sim.report();
    key_of(&keygen, &report, PartySet::all(4).without([party(4)].into_iter().collect()), seed);
    assert!(report.at > BOUND * 21, "{:?}", report.at);
}

#[test]
fn nobody_is_asked_about_chunks_that_are_long_done() {
    let seed = 560;
    let keygen = Keygen::new(committee(4, 1), small_spec(), seed);
    let mut sim = simulation(&keygen, seed);
    sim.crash(party(4), Duration::from_millis(10));
    keygen.without([party(4)].into_iter().collect());
    let report = sim.report();
    key_of(&keygen, &report, PartySet::all(4).without([party(4)].into_iter().collect()), seed);
    assert!((3..=6).contains(&keygen.seen().lag), "{}", keygen.seen().lag);
}

#[test]
fn more_than_t_that_are_away_are_waited_for() {
    let seed = 600;
    let keygen = Keygen::new(committee(4, 1), small_spec(), seed);
    let mut sim = simulation(&keygen, seed);
    for index in [1, 3] {
        sim.crash(party(index), Duration::from_millis(400));
        sim.restart(party(index), BOUND * 20 + BOUND / 8 * u32::from(index));
    }
    let report = sim.report();
    key_of(&keygen, &report, PartySet::all(4), seed);
    votes_are_single(&keygen, seed);
}

#[test]
fn a_full_disk_is_an_error_and_no_lost_work() {
    for seed in 700..712 {
        let keygen = Keygen::new(committee(4, 1), small_spec(), seed);
        keygen.journal(party(1)).full_after(Some(seed % 12 * 5));
        keygen.journal(party(3)).full_after(Some(20));
        let report = simulation(&keygen, seed).report();
        key_of(&keygen, &report, PartySet::all(4), seed);
        assert_eq!(keygen.seen().disk_full, 2);
        votes_are_single(&keygen, seed);
    }
}

#[test]
fn a_party_that_goes_down_between_writing_a_vote_and_telling_it_votes_the_same() {
    for seed in 800..806 {
        let keygen = Keygen::new(committee(4, 1), small_spec(), seed);
        keygen.journal(party(4)).hang_after(&[VOTE], (seed % 6) as u32 * 3);
        let mut sim = simulation(&keygen, seed);
        sim.crash(party(4), BOUND / 4);
        sim.restart(party(4), BOUND / 3);
        let report = sim.report();
        key_of(&keygen, &report, PartySet::all(4), seed);
        votes_are_single(&keygen, seed);
        let records = keygen.journal(party(4)).all_records();
        let mut votes: Vec<_> = records
            .iter()
            .filter_map(|record| match Record::decode(record) {
                Some(Record::Vote { chunk, attempt, .. }) => Some((chunk, attempt)),
                _ => None,
            })
            .collect();
        let count = votes.len();
        votes.sort_unstable();
        votes.dedup();
        assert_eq!(votes.len(), count, "seed {seed}");
    }
}

#[test]
fn journals_of_other_runs_are_refused() {
    let (first, _, _) = run(4, 1, bits_spec(), 900);
    let other = Keygen::new(committee(4, 1), bits_spec(), 901);
    let records = first.journal(party(1)).all_records();
    futures::executor::block_on(async {
        for record in records {
            crate::dkg::journal::Journal::append(&**other.journal(party(1)), record, true).await.unwrap();
        }
    });
    other.without(PartySet::all(4));
    let mut sim = simulation(&other, 901);
    sim.limit(BOUND);
    let report = sim.report();
    assert!(matches!(report.results[0].1, Some(Err(RunError::ForeignJournal(_)))));
}

#[test]
fn journals_stay_small() {
    let (keygen, _, _) = run(4, 1, small_spec(), 950);
    let spec = keygen.spec();
    let bodies: usize = (0..spec.components.len()).map(|component| spec.body_bytes(component)).sum();
    let (records, written) = keygen.journal(party(1)).size();
    let scratch = keygen.journal(party(1)).bodies(spec.components.len()).len();
    assert_eq!(written, bodies + scratch);
    assert!(records < 10_000 && scratch < 7 * (2 << 13), "{records} {scratch}");
}
