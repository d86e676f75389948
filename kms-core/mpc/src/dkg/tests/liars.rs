//! Liars: what each one gets away with is nothing.

use rand::SeedableRng;
use rand::seq::IteratorRandom;
use rand_chacha::ChaCha20Rng;

use super::*;
use crate::dkg::simulated::{InsecureSigner, LIES, Lie, Links, test_spec};
use crate::dkg::{Culprit, Misdeed, evidence};

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
        Lie::Equivocate => (Find::Some(Misdeed::Equivocated), false),
        Lie::WrongB | Lie::WrongC if bodies => (Find::Some(Misdeed::WrongShare), false),
        Lie::Garbage | Lie::Oversized => (Find::All(Misdeed::Malformed), true),
        Lie::Silent | Lie::Stall => (Find::Nothing, true),
        _ => (Find::Nothing, false),
    }
}

fn proved(misdeed: Misdeed) -> bool {
    matches!(misdeed, Misdeed::Equivocated | Misdeed::VotedTwice | Misdeed::WrongFrame | Misdeed::WrongKeys)
}

fn lied_to(n: usize, t: usize, spec: KeySpec, lie: Lie, seed: u64) {
    let what = format!("{lie:?} ({n},{t}), seed {seed}");
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let liars: PartySet = PartyId::all(n).choose_multiple(&mut rng, t).into_iter().collect();
    let honest = PartySet::all(n).without(liars);
    let bodies = !spec.components.is_empty();
    let keygen = Keygen::new(committee(n, t), spec, seed)
        .with_lies(liars.iter().map(|liar| (liar, lie)).collect(), Links::default());
    let report = simulation(&keygen, seed).report();
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
        if lie == Lie::Hidden {
            // Whether a hidden frame comes out in time is up to those who were let in on it.
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
    assert_eq!(world.revealed.is_empty(), !revealing, "{what}");
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
