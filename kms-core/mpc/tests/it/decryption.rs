use std::time::Duration;

use kms_encoding::{DecodeError, FheType, Plaintext, SecretKeyKind, Word};
use kms_mpc::malicious::Behaviour;
use kms_mpc::sim::Profile;
use kms_mpc::{DecryptError, Outcome, PartyId, PartySet, Refusal};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;

use crate::setting::{Answer, Setting};

const COMMITTEES: [(usize, usize); 3] = [(4, 1), (7, 2), (13, 4)];
const TYPES: [FheType; 4] = [FheType::Bool, FheType::Uint64, FheType::Uint8, FheType::Address];
const LONG: Duration = Duration::from_secs(600);

/// Prints the seed of a run that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failing seed: {}", self.0);
        }
    }
}

fn party(index: usize) -> PartyId {
    PartyId::new(index as u8).unwrap()
}

fn expect(answer: &Option<Answer>, values: &[Plaintext]) -> Outcome {
    let (got, outcome) = answer.as_ref().expect("every honest party finishes").as_ref().expect("and decides");
    assert_eq!(got.as_deref(), Ok(values));
    outcome.clone()
}

/// `t` random parties and the others.
fn split(n: usize, t: usize, rng: &mut ChaCha20Rng) -> (PartySet, PartySet) {
    let mut order: Vec<PartyId> = PartyId::all(n).collect();
    order.shuffle(rng);
    (order[..t].iter().copied().collect(), order[t..].iter().copied().collect())
}

#[test]
fn honest_committees_decrypt_every_type() {
    for (n, t) in COMMITTEES {
        let seed = Seed(n as u64);
        let mut setting = Setting::new(n, t, seed.0);
        let (items, values) = setting.job(&FheType::ALL);
        for profile in [Profile::default(), Profile::rough()] {
            for (_, answer) in setting.run(&[&items], seed.0, profile, &[], PartySet::EMPTY, LONG) {
                let outcome = expect(&answer, &values);
                assert_eq!(outcome, Outcome { arrived: PartySet::all(n), ..Outcome::default() });
            }
        }
    }
}

#[test]
fn a_committee_over_the_ring_of_degree_5_decrypts() {
    let mut setting = Setting::new(16, 1, 5);
    let (items, values) = setting.job(&TYPES);
    let liar = [(party(16), Behaviour::WrongShare)];
    for (p, answer) in setting.run(&[&items], 5, Profile::default(), &liar, PartySet::EMPTY, LONG) {
        if p != party(16) {
            assert_eq!(expect(&answer, &values).culprits().iter().collect::<Vec<_>>(), [party(16)]);
        }
    }
}

#[test]
fn lying_and_absent_parties_up_to_t_together_are_told_apart() {
    for (n, t) in [(7, 2), (13, 4)] {
        for round in 0..6 {
            let seed = Seed(100 * n as u64 + round);
            let mut rng = ChaCha20Rng::seed_from_u64(seed.0);
            let (faulty, honest) = split(n, t, &mut rng);
            let absent: PartySet = faulty.iter().take(1 + round as usize % (t - 1)).collect();
            let liars = faulty.without(absent);
            let behaviours: Vec<_> = liars.iter().map(|p| (p, Behaviour::WrongShare)).collect();
            let mut setting = Setting::new(n, t, seed.0);
            let (items, values) = setting.job(&TYPES);
            let answers = setting.run(&[&items], seed.0, Profile::rough(), &behaviours, absent, LONG);
            for (_, answer) in answers.iter().filter(|(p, _)| honest.contains(*p)) {
                let outcome = expect(answer, &values);
                assert_eq!((outcome.culprits(), outcome.late), (liars, absent));
            }
        }
    }
}

#[test]
fn an_impatient_tail_reports_who_was_late_and_names_no_honest_party() {
    for (n, t) in COMMITTEES {
        let seed = Seed(n as u64);
        let mut setting = Setting::new(n, t, seed.0);
        let (items, values) = setting.job(&TYPES);
        let answers = setting.run(&[&items], seed.0, Profile::rough(), &[], PartySet::EMPTY, Duration::ZERO);
        for (_, answer) in answers {
            let outcome = expect(&answer, &values);
            assert!(outcome.wrong.is_empty() && outcome.arrived.len() > 2 * t);
            assert_eq!(outcome.late, PartySet::all(n).without(outcome.arrived));
        }
    }
}

#[test]
fn outside_the_model_there_is_no_wrong_value() {
    for (n, t) in COMMITTEES {
        let mut setting = Setting::new(n, t, 3);
        let (items, _) = setting.job(&TYPES);
        // t + 1 liars: decided by nobody, named is nobody.
        let behaviours: Vec<_> = PartyId::all(t + 1).map(|p| (p, Behaviour::WrongShare)).collect();
        for (p, answer) in setting.run(&[&items], 3, Profile::default(), &behaviours, PartySet::EMPTY, LONG) {
            if p.slot() > t {
                assert_eq!(answer, Some(Err(DecryptError::TooManyWrong)));
            }
        }
        // t + 1 absent: everybody waits.
        let absent = PartyId::all(t + 1).collect();
        let answers = setting.run(&[&items], 3, Profile::default(), &[], absent, LONG);
        assert!(answers.iter().all(|(_, answer)| answer.is_none()));
    }
}

#[test]
fn a_bad_ciphertext_is_refused_by_all_in_the_same_words() {
    let mut setting = Setting::new(7, 2, 11);
    let value = Plaintext::truncated(FheType::Uint64, Word([0x5A; 32]));
    let (mut items, _) = setting.job(&[FheType::Bool]);
    items.push(setting.encrypt_with(SecretKeyKind::Squashing, value, 1 << 122));
    let behaviours = [
        (party(3), Behaviour::WrongShare),
        (party(6), Behaviour::Codeword { zeros: [party(1), party(2)].into_iter().collect(), shift: 100 }),
    ];
    let answers = setting.run(&[&items], 11, Profile::rough(), &behaviours, PartySet::EMPTY, LONG);
    let refusals: Vec<Refusal> = answers
        .iter()
        .filter(|(p, _)| ![3, 6].contains(&p.index()))
        .map(|(_, answer)| answer.as_ref().unwrap().as_ref().unwrap().0.clone().unwrap_err())
        .collect();
    assert_eq!(refusals.len(), 5);
    assert!(refusals.iter().all(|r| *r == refusals[0] && r.item == 1));
    assert!(matches!(refusals[0].reason, DecodeError::Residual { .. }));
}

#[test]
fn shares_are_a_function_of_session_and_position_whatever_the_job() {
    let mut setting = Setting::new(4, 1, 12);
    let (items, _) = setting.job(&[FheType::Uint64, FheType::Uint128]);
    let message = |items: &[kms_mpc::Item]| setting.own(0, items).message()[12..].to_vec();
    let both = message(&items);
    assert_eq!(both, message(&items), "a resent message is the same");
    // Coefficient-major: 4 elements of the first and 8 of the second ciphertext per coefficient.
    let (one, two) = (message(&items[..1]), message(&items[1..]));
    let (swapped, bytes) = (message(&[items[1].clone(), items[0].clone()]), 16);
    for c in 0..4 {
        let row = |m: &[u8], elements: usize, from: usize, len: usize| {
            m[(c * elements + from) * bytes..(c * elements + from + len) * bytes].to_vec()
        };
        assert_eq!(row(&both, 12, 0, 4), row(&one, 4, 0, 4));
        assert_eq!(row(&both, 12, 4, 8), row(&two, 8, 0, 8));
        assert_eq!(row(&swapped, 12, 0, 8), row(&two, 8, 0, 8));
    }
}

#[test]
fn jobs_that_this_party_cannot_do_are_typed_errors() {
    let mut setting = Setting::new(4, 1, 13);
    let (items, _) = setting.job(&[FheType::Uint64]);
    let run = |shares: &[kms_encoding::ShareVector], items: &[kms_mpc::Item]| {
        setting.dealt.epochs[0].partial_decrypt(shares, items).map(|_| ()).unwrap_err()
    };
    let shares = &setting.dealt.shares[0];
    assert_eq!(run(shares, &[]), DecryptError::JobSize { got: 0 });
    assert_eq!(run(shares, &vec![items[0].clone(); 257]), DecryptError::JobSize { got: 4112 });
    let other = kms_mpc::Item { ty: FheType::Uint8, ..items[0].clone() };
    assert_eq!(run(shares, &[other]), DecryptError::BlockCount { item: 0, expected: 2, got: 16 });
    assert!(matches!(run(&[], &items), DecryptError::NoShare { item: 0, .. }));
}

#[test]
fn a_seed_decides_a_run() {
    let mut setting = Setting::new(7, 2, 14);
    let (items, _) = setting.job(&TYPES);
    let run = |seed| setting.run(&[&items], seed, Profile::rough(), &[], PartySet::EMPTY, Duration::from_secs(1));
    assert_eq!(run(1), run(1));
    assert!((2..10).any(|seed| run(seed) != run(1)));
}

#[test]
fn a_party_that_comes_back_catches_up_alone() {
    // Two of four are down: nothing. One returns, sends its share and takes what waits for it.
    let mut setting = Setting::new(4, 1, 15);
    let (items, values) = setting.job(&TYPES);
    let own: Vec<_> = (0..4).map(|i| setting.own(i, &items)).collect();
    let mut sim = kms_mpc::sim::Sim::new(4, 15, Profile::rough());
    for (i, own) in own.into_iter().enumerate().skip(1) {
        let (net, epoch) = (sim.net(party(i + 1)), setting.dealt.epochs[i].clone());
        sim.spawn(party(i + 1), async move {
            if i == 3 {
                kms_mpc::Network::sleep(&net, LONG).await;
            }
            let decryption = kms_mpc::decrypt(&net, &epoch, &own).await.unwrap();
            (decryption.values, net.now() >= LONG)
        });
    }
    sim.crash(party(1), Duration::ZERO);
    for (_, answer) in sim.run() {
        assert_eq!(answer, Some((Ok(values.clone()), true)));
    }
}
