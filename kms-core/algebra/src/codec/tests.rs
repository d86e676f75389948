use proptest::prelude::*;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::*;

const COMMITTEES: [(usize, usize); 5] = [(4, 1), (7, 2), (10, 3), (13, 4), (15, 2)];

fn shares<W: Word, const D: usize>(
    n: usize,
    t: usize,
    columns: usize,
    rng: &mut ChaCha20Rng,
) -> (GrVec<W, D>, Vec<GrVec<W, D>>) {
    let mut secrets = GrVec::zeros(columns);
    let mut shares = vec![GrVec::zeros(columns); n];
    for i in 0..columns {
        let secret = Gr::random(rng);
        secrets.set(i, secret);
        for (v, s) in shares.iter_mut().zip(shamir::share(secret, n, t, rng)) {
            v.set(i, s);
        }
    }
    (secrets, shares)
}

fn pick(n: usize, size: usize, rng: &mut ChaCha20Rng) -> PartySet {
    let mut set = PartySet::EMPTY;
    while set.len() < size {
        set.insert(PartyId::new(1 + (rng.next_u32() % n as u32) as u8).unwrap());
    }
    set
}

/// An error with a random valuation, so that the lifting goes through several levels.
fn error<W: Word, const D: usize>(rng: &mut ChaCha20Rng) -> Gr<W, D> {
    let e = Gr::random(rng).scale(W::truncate(1 << (rng.next_u32() % W::BITS)));
    if e.is_zero() { Gr::ONE } else { e }
}

/// `wrong` liars, each wrong in a random part of the columns, `received` shares.
fn robust<W: Word, const D: usize>(seed: u64, n: usize, t: usize) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let codec = Codec::<W, D>::new(n, t).unwrap();
    let columns = 1 + (rng.next_u32() % 5) as usize;
    let (secrets, mut all) = shares::<W, D>(n, t, columns, &mut rng);
    let m = 2 * t + 1 + (rng.next_u32() as usize) % (n - 2 * t);
    let received = pick(n, m, &mut rng);
    let liars = pick(n, (rng.next_u32() as usize) % (t + 1), &mut rng);
    let mut culprits = PartySet::EMPTY;
    for liar in liars.iter() {
        for i in 0..columns {
            if rng.next_u32() % 2 == 0 {
                let e = error(&mut rng);
                let share = all[liar.slot()].get(i);
                all[liar.slot()].set(i, share + e);
                culprits.insert(liar);
            }
        }
    }
    let list: Vec<_> = received.iter().map(|p| (p, &all[p.slot()])).collect();
    let present = culprits.without(culprits.without(received));
    match codec.decode(&list) {
        Ok(decoded) => {
            assert_eq!(decoded.values, secrets);
            assert_eq!(decoded.culprits, present);
            assert!(decoded.agreeing.len() > 2 * t);
            for p in PartyId::all(n) {
                let difference = codec.first_difference(&list, decoded.agreeing, p, &all[p.slot()]);
                assert_eq!(difference.is_some(), culprits.contains(p));
            }
        }
        Err(e) => {
            assert_eq!(e, Undecided::Inconsistent { got: m });
            assert!(present.len() > m - (2 * t + 1), "{present:?} of {m} are within the radius");
        }
    }
}

proptest! {
    #[test]
    fn at_most_t_liars_never_change_a_value_and_are_named(seed: u64) {
        for (n, t) in COMMITTEES {
            robust::<u64, 4>(seed, n, t);
            robust::<u128, 4>(seed, n, t);
        }
        robust::<u128, 5>(seed, 16, 4);
        robust::<u64, 5>(seed, 31, 10);
    }
}

/// A batch with some liars and its columns one by one: the same values, and all culprits of the columns.
fn batch_and_singles<W: Word, const D: usize>(seed: u64, n: usize, t: usize) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let codec = Codec::<W, D>::new(n, t).unwrap();
    let columns = 2 + (rng.next_u32() % 20) as usize;
    let (_, mut all) = shares::<W, D>(n, t, columns, &mut rng);
    for liar in pick(n, t, &mut rng).iter() {
        for i in (0..columns).filter(|_| rng.next_u32().is_multiple_of(3)).collect::<Vec<_>>() {
            let share = all[liar.slot()].get(i);
            all[liar.slot()].set(i, share + error(&mut rng));
        }
    }
    let decode = |columns: core::ops::Range<usize>| {
        let cut: Vec<GrVec<W, D>> = all.iter().map(|v| columns.clone().map(|i| v.get(i)).collect()).collect();
        codec.decode(&PartyId::all(n).zip(&cut).collect::<Vec<_>>()).unwrap()
    };
    let batch = decode(0..columns);
    let mut culprits = PartySet::EMPTY;
    for i in 0..columns {
        let single = decode(i..i + 1);
        assert_eq!(single.values.get(0), batch.values.get(i));
        culprits = culprits.union(single.culprits);
    }
    assert_eq!(batch.culprits, culprits);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_batch_is_its_columns(seed: u64) {
        for (n, t) in [(4, 1), (7, 2), (13, 4)] {
            batch_and_singles::<u128, 4>(seed, n, t);
        }
        batch_and_singles::<u64, 5>(seed, 16, 4);
    }
}

#[test]
fn a_low_weight_codeword_of_t_colluders_is_not_believed() {
    // g of degree t vanishes at t honest parties: there the colluders' f + g looks right too, but only 2t agree.
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    for (n, t) in COMMITTEES {
        let codec = Codec::<u128, 4>::new(n, t).unwrap();
        let (secrets, mut all) = shares::<u128, 4>(n, t, 3, &mut rng);
        let liars: PartySet = PartyId::all(t).collect();
        for p in liars.iter() {
            let g = PartyId::all(2 * t)
                .skip(t)
                .fold(Gr::constant(1 << 127), |g, zero| g * (Gr::point(p) - Gr::point(zero)));
            let share = all[p.slot()].get(1);
            all[p.slot()].set(1, share + g);
        }
        for m in 2 * t + 1..=n {
            let list: Vec<_> = PartyId::all(m).map(|p| (p, &all[p.slot()])).collect();
            match codec.decode(&list) {
                Ok(decoded) => assert_eq!((decoded.values, decoded.culprits), (secrets.clone(), liars)),
                Err(_) => assert!(m < 3 * t + 1),
            }
        }
    }
}

#[test]
fn too_few_shares_are_undecided_and_impossible_committees_refused() {
    let codec = Codec::<u64, 4>::new(4, 1).unwrap();
    let v = GrVec::zeros(1);
    let list: Vec<_> = PartyId::all(2).map(|p| (p, &v)).collect();
    assert_eq!(codec.decode(&list).unwrap_err(), Undecided::TooFew { got: 2, needed: 3 });
    assert!(Codec::<u64, 4>::new(3, 1).is_err());
    assert!(Codec::<u64, 4>::new(16, 1).is_err());
}

#[test]
fn an_empty_batch_is_decided() {
    let codec = Codec::<u64, 4>::new(4, 1).unwrap();
    let v = GrVec::zeros(0);
    let list: Vec<_> = PartyId::all(3).map(|p| (p, &v)).collect();
    assert!(codec.decode(&list).unwrap().values.is_empty());
}
