use kms_algebra::{Codec, GrVec, shamir};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use super::*;
use crate::insecure_dealt;

fn parties<const D: usize>(n: usize, t: usize) -> Vec<Prss<D>> {
    let committee = Committee::new(n, t).unwrap();
    let keys = insecure_dealt::prss_keys(&committee, &mut ChaCha20Rng::seed_from_u64(n as u64));
    committee.parties().zip(&keys).map(|(p, keys)| Prss::new(&committee, p, keys).unwrap()).collect()
}

fn session(byte: u8) -> SessionId {
    SessionId::from_bytes([byte; 32])
}

/// Opens with all shares; fails the test unless they lie on one polynomial of degree t.
fn open<W: Word, const D: usize>(n: usize, t: usize, shares: &[GrVec<W, D>]) -> GrVec<W, D> {
    let list: Vec<_> = PartyId::all(n).zip(shares).collect();
    let decoded = Codec::new(n, t).unwrap().decode(&list).unwrap();
    assert_eq!(decoded.agreeing.len(), n);
    decoded.values
}

fn masks<const D: usize>(prss: &Prss<D>, session: &SessionId, first: u32, count: usize) -> Vec<Gr<u128, D>> {
    let mut out = vec![Gr::ZERO; count];
    prss.add_masks(session, first, &mut out);
    out
}

fn shares_are_consistent<const D: usize>(n: usize, t: usize) {
    let parties = parties::<D>(n, t);
    let sid = session(1);
    let all = |f: &dyn Fn(&Prss<D>) -> GrVec<u128, D>| parties.iter().map(f).collect::<Vec<_>>();

    let uniform = open(n, t, &all(&|p| p.uniform(&sid, 3, 4)));
    assert!((0..4).all(|i| uniform.get(i).0.iter().all(|c| *c != 0)));

    let constants = open(n, t, &all(&|p| p.uniform_z(&sid, 3, 4)));
    assert!((0..4).all(|i| constants.get(i).0[0] != 0 && constants.get(i).0[1..].iter().all(|c| *c == 0)));

    let bound = Committee::new(n, t).unwrap().flood_bound().get() as i128;
    let masks = open(n, t, &all(&|p| masks(p, &sid, 5, 9).into_iter().collect()));
    for mask in masks.iter() {
        let (value, rest) = (mask.0[0].cast_signed(), &mask.0[1..]);
        assert!(rest.iter().all(|c| *c == 0), "a mask is a constant");
        assert!((-bound..bound).contains(&value) && value.unsigned_abs() > 1 << 80);
    }

    // Degree exactly 2t, and zero at 0: 2t + 1 shares interpolate all others and 0.
    let zero = all(&|p| p.zero(&sid, 7, 3));
    let base: Vec<_> = PartyId::all(2 * t + 1).collect();
    let at = |point, i: usize| {
        let lambda = shamir::lagrange(&base, point);
        base.iter().zip(lambda).fold(Gr::ZERO, |sum, (p, l)| sum + l * zero[p.slot()].get(i))
    };
    for i in 0..3 {
        assert!(at(Gr::ZERO, i).is_zero());
        assert!(PartyId::all(n).all(|p| at(Gr::point(p), i) == zero[p.slot()].get(i)));
        assert!(Codec::<u128, D>::new(n, t).unwrap().decode(&PartyId::all(n).zip(&zero).collect::<Vec<_>>()).is_err());
    }
}

#[test]
fn shares_lie_on_polynomials_of_the_right_degree_and_range() {
    shares_are_consistent::<4>(4, 1);
    shares_are_consistent::<4>(7, 2);
    shares_are_consistent::<4>(13, 4);
    shares_are_consistent::<5>(16, 1);
}

#[test]
fn sharings_mod_2_64_are_consistent() {
    let (n, t) = (7, 2);
    let parties = parties::<4>(n, t);
    let uniform: Vec<GrVec<u64, 4>> = parties.iter().map(|p| p.uniform(&session(2), 0, 5)).collect();
    let constants: Vec<GrVec<u64, 4>> = parties.iter().map(|p| p.uniform_z(&session(2), 0, 5)).collect();
    let _ = open(n, t, &uniform);
    assert!(open(n, t, &constants).iter().all(|v| v.0[1..] == [0; 3]));
}

#[test]
fn sessions_and_purposes_have_streams_of_their_own() {
    let p = &parties::<4>(4, 1)[0];
    let mut seen = vec![
        masks(p, &session(1), 0, 1)[0],
        masks(p, &session(1), 1, 1)[0],
        masks(p, &session(2), 0, 1)[0],
        p.uniform(&session(1), 0, 1).get(0),
        p.uniform_z(&session(1), 0, 1).get(0),
        p.triple(&session(1), 0, 1).get(0),
        p.zero(&session(1), 0, 1).get(0),
    ];
    seen.sort_unstable_by_key(|g| g.0);
    seen.dedup();
    assert_eq!(seen.len(), 7);
}

#[test]
fn keys_of_somebody_else_are_refused() {
    let committee = Committee::new(4, 1).unwrap();
    let keys = insecure_dealt::prss_keys(&committee, &mut ChaCha20Rng::seed_from_u64(1));
    let [one, two] = [1, 2].map(|i| PartyId::new(i).unwrap());
    assert_eq!(Prss::<4>::new(&committee, one, &keys[1]).unwrap_err(), SetupError::PrssKeys(one));
    assert_eq!(Prss::<4>::new(&committee, two, &keys[1][1..]).unwrap_err(), SetupError::PrssKeys(two));
    let five = PartyId::new(5).unwrap();
    assert_eq!(Prss::<4>::new(&committee, five, &keys[1]).unwrap_err(), SetupError::NotAMember(five, 4));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_batch_equals_single_calls(first in 0u32..1 << 30, count in 1usize..150) {
        fn check<const D: usize>(p: &Prss<D>, first: u32, count: usize) {
            let (sid, wide) = (session(9), u64::from(first) << 20);
            let batch = masks(p, &sid, first, count);
            assert!((0..count).all(|i| batch[i] == masks(p, &sid, first + i as u32, 1)[0]));
            fn each<W: Word, const D: usize>(count: usize, first: u64, f: impl Fn(u64, usize) -> GrVec<W, D>) {
                let batch = f(first, count);
                assert!((0..count).all(|i| batch.get(i) == f(first + i as u64, 1).get(0)));
            }
            each::<u64, D>(count, wide, |first, count| p.uniform(&sid, first, count));
            each::<u128, D>(count, wide, |first, count| p.uniform(&sid, first, count));
            each::<u64, D>(count, wide, |first, count| p.uniform_z(&sid, first, count));
            each::<u128, D>(count, wide, |first, count| p.uniform_z(&sid, first, count));
            each::<u64, D>(count, wide, |first, count| p.zero(&sid, first, count));
            each::<u128, D>(count, wide, |first, count| p.zero(&sid, first, count));
        }
        check(&parties::<4>(7, 2)[3], first, count);
        check(&parties::<5>(16, 1)[15], first, count);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// Where the processor has no wide units both are the portable code.
    #[test]
    fn masks_are_the_same_with_and_without_wide_units(sid: [u8; 32], first: u32, count in 1usize..=TILE) {
        fn check<const D: usize>(p: &Prss<D>, sid: &SessionId, first: u32, count: usize) {
            let first = first.min(u32::MAX - TILE as u32);
            let mut portable = vec![Gr::ONE; count];
            p.add_mask_tile(sid, u64::from(first), &mut portable);
            let mut out = vec![Gr::ONE; count];
            p.add_masks(sid, first, &mut out);
            assert_eq!(out, portable);
        }
        let sid = SessionId::from_bytes(sid);
        // Quads with one to four sets, several chunks, numerators that fit and that don't.
        check(&parties::<4>(4, 1)[2], &sid, first, count);
        check(&parties::<4>(10, 1)[0], &sid, first, count);
        check(&parties::<4>(11, 1)[5], &sid, first, count);
        check(&parties::<4>(12, 1)[5], &sid, first, count);
        check(&parties::<4>(7, 2)[6], &sid, first, count);
        check(&parties::<4>(10, 3)[9], &sid, first, count);
        check(&parties::<5>(16, 1)[15], &sid, first, count);
        check(&parties::<5>(31, 2)[30], &sid, first, count.min(3));
    }

    #[test]
    fn masks_of_the_largest_default_committee_are_the_same(sid: [u8; 32], first: u32, own in 0usize..13, count in 1usize..9) {
        static PARTIES: std::sync::LazyLock<Vec<Prss<4>>> = std::sync::LazyLock::new(|| parties(13, 4));
        let (sid, first) = (SessionId::from_bytes(sid), first.min(u32::MAX - 9));
        let mut portable = vec![Gr::ZERO; count];
        PARTIES[own].add_mask_tile(&sid, u64::from(first), &mut portable);
        prop_assert_eq!(masks(&PARTIES[own], &sid, first, count), portable);
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn small_numerators_are_the_weights_over_one_denominator() {
    fn check<const D: usize>(n: usize, t: usize) {
        let committee = Committee::new(n, t).unwrap();
        for own in committee.parties() {
            let denominator =
                committee.parties().filter(|j| *j != own).fold(Gr::<u128, D>::ONE, |d, j| d * Gr::point(j));
            for set in committee.prss_sets().filter(|set| set.contains(own)).take(50) {
                let outside = committee.parties().filter(|j| !set.contains(*j));
                assert_eq!(numerator(n, own, set.bits()), denominator * weight(outside, Gr::point(own)));
            }
        }
    }
    check::<4>(4, 1);
    check::<4>(13, 4);
    check::<5>(16, 1);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn committees_that_operators_choose_have_wide_masks_where_the_processor_does() {
    let wide = |n, t| parties::<4>(n, t).iter().all(|p| p.wide.is_some());
    let has = wide(7, 2);
    assert!([(10, 3), (13, 4)].into_iter().all(|(n, t)| wide(n, t) == has));
}
