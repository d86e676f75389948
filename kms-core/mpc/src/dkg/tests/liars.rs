//! Liars: what each one gets away with is nothing.

use rand::SeedableRng;
use rand::seq::IteratorRandom;
use rand_chacha::ChaCha20Rng;

use super::*;
use crate::dkg::simulated::{InsecureSigner, LIES, Lie, Links, test_spec};
use crate::dkg::{Culprit, Misdeed, evidence};
use crate::sim::BOUND;

/// What honest parties have to find out about a liar.
enum Find {
    /// Every honest party has proof of this, or saw it.
    All(Misdeed),
    /// Some honest party has.
    Some(Misdeed),
    /// Nothing has to be seen.
    Nothing,
}

/// What is to be found, and whether the liars count as late.
fn expect(lie: Lie, bodies: bool) -> (Find, bool) {
    match lie {
        Lie::WrongFrame | Lie::WrongTopBit => (Find::All(Misdeed::WrongFrame), false),
        // t + 1 right claims may be there before a wrong one is seen.
        Lie::WrongKeys => (Find::All(Misdeed::WrongFrame), false),
        Lie::WrongB | Lie::WrongC if bodies => (Find::Some(Misdeed::WrongShare), false),
        Lie::Garbage | Lie::Oversized => (Find::All(Misdeed::Malformed), true),
        Lie::Silent | Lie::Stall => (Find::Nothing, true),
        _ => (Find::Nothing, false),
    }
}

fn proved(misdeed: Misdeed) -> bool {
    matches!(misdeed, Misdeed::Equivocated | Misdeed::VotedTwice | Misdeed::WrongFrame | Misdeed::WrongKeys)
}

/// What is found against the liars.
fn lied_to(n: usize, t: usize, spec: KeySpec, lie: Lie, seed: u64) -> Vec<Misdeed> {
    lied_to_those_who_start(n, t, spec, lie, seed, Duration::ZERO)
}

/// The last honest party starts later than the others.
fn lied_to_those_who_start(n: usize, t: usize, spec: KeySpec, lie: Lie, seed: u64, last: Duration) -> Vec<Misdeed> {
    let what = format!("{lie:?} ({n},{t}), seed {seed}");
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let liars: PartySet = PartyId::all(n).choose_multiple(&mut rng, t).into_iter().collect();
    let honest = PartySet::all(n).without(liars);
    let bodies = !spec.components.is_empty();
    let keygen = Keygen::new(committee(n, t), spec, seed)
        .with_lies(liars.iter().map(|liar| (liar, lie)).collect(), Links::default());
    let starts = |party| if honest.iter().last() == Some(party) { last } else { Duration::ZERO };
    let report = simulation_of(&keygen, seed, starts).report();
    key_of(&keygen, &report, honest, seed);
    let public = keygen.parties_public().unwrap();
    let (find, late) = expect(lie, bodies);
    let mut seen: Vec<Vec<&Culprit>> = Vec::new();
    for (party, result) in report.results.iter().filter(|(party, _)| honest.contains(*party)) {
        let Some(Ok(finished)) = result else { panic!("{what}: P{party} ends") };
        for culprit in &finished.culprits {
            assert!(liars.contains(culprit.party), "{what}: P{party} names P{}, {:?}", culprit.party, culprit.misdeed);
            // Whoever has nothing but public data comes to the same.
            let checked = evidence::verify(&public, &InsecureSigner(*party), &culprit.evidence);
            let expected = if proved(culprit.misdeed) { Ok((culprit.party, culprit.misdeed)) } else { checked };
            assert_eq!(checked, expected, "{what}: {culprit:?}");
            assert_eq!(culprit.evidence.is_empty(), !proved(culprit.misdeed), "{what}");
            // Changed evidence says nothing, or the truth about another liar.
            if proved(culprit.misdeed) {
                for at in [5, 6, 7, 12, culprit.evidence.len() - 1] {
                    let mut bad = culprit.evidence.to_vec();
                    bad[at] ^= 1;
                    let checked = evidence::verify(&public, &InsecureSigner(*party), &bad);
                    let harmless = checked.is_err() || (at == 6 && checked.is_ok_and(|(p, _)| liars.contains(p)));
                    assert!(harmless, "{what}: byte {at}");
                }
            }
        }
        if matches!(lie, Lie::Hidden | Lie::Uneven | Lie::Turncoat) {
            // Whether a hidden frame comes out in time is up to those who were let in on it, and one that is sent in the
            // last moment may come too late.
            assert!(finished.late.without(liars).is_empty(), "{what}: P{party}");
        } else {
            assert_eq!(finished.late, if late { liars } else { PartySet::EMPTY }, "{what}: P{party}");
        }
        seen.push(finished.culprits.iter().collect());
    }
    for liar in liars.iter() {
        let by = |misdeed| seen.iter().filter(|c| c.iter().any(|c| c.party == liar && c.misdeed == misdeed)).count();
        match find {
            Find::All(misdeed) => assert_eq!(by(misdeed), honest.len(), "{what}: P{liar} {misdeed:?}"),
            Find::Some(misdeed) => assert!(by(misdeed) > 0, "{what}: P{liar} {misdeed:?}"),
            Find::Nothing => {}
        }
    }
    let world = keygen.seen();
    assert!(world.two_votes.is_empty(), "{what}: {} voted both ways", world.two_votes);
    let both: Vec<_> = world.revealed.intersection(&world.certified).collect();
    assert!(both.is_empty(), "{what}: {both:?} revealed and used");
    let revealing = matches!(lie, Lie::WrongFrame | Lie::WrongTopBit | Lie::WrongKeys);
    let open = matches!(lie, Lie::Uneven | Lie::Turncoat);
    assert!(world.revealed.is_empty() != revealing || open, "{what}");
    seen.into_iter().flatten().map(|culprit| culprit.misdeed).collect()
}

/// Whose other frame comes when all is agreed may get away with one chunk, but not with a key.
#[test]
fn whoever_signs_two_frames_is_named() {
    for seed in 1520..1526 {
        let found = lied_to(4, 1, small_spec(), Lie::Equivocate, seed);
        assert!(found.contains(&Misdeed::Equivocated), "seed {seed}: {found:?}");
    }
}

#[test]
fn whoever_missed_an_exclusion_hears_of_it() {
    for seed in 1510..1518 {
        lied_to(4, 1, bits_spec(), Lie::Turncoat, seed);
    }
}

#[test]
fn a_round_that_ended_early_does_not_shorten_the_next_one() {
    lied_to_those_who_start(7, 2, bits_spec(), Lie::Uneven, 1600, Duration::from_secs(5));
}

#[test]
fn a_party_that_comes_back_is_not_held_up_by_one_that_stalls() {
    let lies = [(party(1), Lie::SlowResults)].into();
    let keygen = Keygen::new(committee(4, 1), small_spec(), 1700).with_lies(lies, Links::default());
    let mut sim = simulation(&keygen, 1700);
    sim.crash(party(2), Duration::from_millis(300));
    sim.restart(party(2), BOUND * 60);
    let report = sim.report();
    key_of(&keygen, &report, PartySet::all(4).without([party(1)].into_iter().collect()), 1700);
    assert!(report.at < BOUND * 62, "{:?}", report.at);
}

#[test]
fn bits_of_four() {
    for (lie, seed) in LIES.into_iter().zip(1000..) {
        lied_to(4, 1, bits_spec(), lie, seed);
    }
}

#[test]
fn bits_of_seven() {
    for (lie, seed) in LIES.into_iter().zip(1100..) {
        lied_to(7, 2, bits_spec(), lie, seed);
    }
}

#[test]
fn bits_of_thirteen() {
    for (lie, seed) in LIES.into_iter().zip(1200..) {
        lied_to(13, 4, bits_spec(), lie, seed);
    }
}

#[test]
fn keys_of_four() {
    for (lie, seed) in LIES.into_iter().zip(1300..) {
        lied_to(4, 1, small_spec(), lie, seed);
    }
}

#[test]
fn keys_of_seven() {
    for (lie, seed) in LIES.into_iter().zip(1400..) {
        lied_to(7, 2, small_spec(), lie, seed);
    }
}

#[test]
fn keys_of_the_size_of_test_parameters() {
    for (n, t, lie) in [(4, 1, Lie::WrongFrame), (7, 2, Lie::WrongTopBit)] {
        lied_to(n, t, test_spec(), lie, 1500);
    }
}
