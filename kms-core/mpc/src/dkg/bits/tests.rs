use kms_algebra::{Codec, PartyId};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use super::*;
use crate::dkg::double::{Double, unpack};
use crate::{Committee, insecure_dealt};

struct Parties<const D: usize> {
    committee: Committee,
    prss: Vec<Prss<D>>,
    double: Double<D>,
}

impl<const D: usize> Parties<D> {
    fn new(n: usize, t: usize) -> Self {
        let committee = Committee::new(n, t).unwrap();
        let keys = insecure_dealt::prss_keys(&committee, &mut ChaCha20Rng::seed_from_u64(n as u64));
        let prss = committee.parties().zip(&keys).map(|(p, keys)| Prss::new(&committee, p, keys).unwrap()).collect();
        Self { committee, prss, double: Double::new(&committee).unwrap() }
    }

    fn open<W: Word>(&self, shares: &[GrVec<W, D>]) -> GrVec<W, D> {
        let list: Vec<_> = self.committee.parties().zip(shares).collect();
        let decoded = Codec::new(self.committee.n(), self.committee.t()).unwrap().decode(&list).unwrap();
        assert_eq!(decoded.agreeing.len(), self.committee.n(), "all shares are on polynomials of degree t");
        decoded.values
    }

    /// Makes bits and opens everything: a and the bits.
    fn bits<W: Word>(&self, session: &SessionId, first: u64, count: usize) -> (Vec<W>, Vec<W>) {
        let (a, packed): (Vec<_>, Vec<_>) =
            self.prss.iter().map(|prss| square::<W, D>(prss, session, first, count)).unzip();
        let list: Vec<_> = self.committee.parties().zip(&packed).collect();
        let opened = self.double.open(&list).unwrap();
        assert!((PER_OPENING..D).all(|c| opened.coefficient(c).iter().all(|word| *word == W::ZERO)));
        let opened = unpack(&opened, count);
        let bits: Vec<_> = a.iter().map(|a| solve(a.clone(), &opened).unwrap()).collect();
        let (a, bits) = (self.open(&a), self.open(&bits));
        assert!(a.iter().chain(bits.iter()).all(|x| x.0[1..].iter().all(|c| *c == W::ZERO)), "values of Z_2^k");
        for (v, a) in opened.iter().zip(a.coefficient(0)) {
            assert_eq!(*v, a.times(a.plus(W::ONE)));
        }
        (a.coefficient(0).to_vec(), bits.coefficient(0).to_vec())
    }
}

fn session(byte: u8) -> SessionId {
    SessionId::from_bytes([byte; 32])
}

fn bits_are_the_lowest_of_random_values<const D: usize>(n: usize, t: usize, byte: u8, first: u64, count: usize) {
    fn check<W: Word, const D: usize>(parties: &Parties<D>, byte: u8, first: u64, count: usize) {
        let (a, bits) = parties.bits::<W>(&session(byte), first, count);
        for (a, bit) in a.iter().zip(bits) {
            assert_eq!(bit, if a.bit(0) { W::ONE } else { W::ZERO });
        }
    }
    let parties = Parties::<D>::new(n, t);
    check::<u64, D>(&parties, byte, first, count);
    check::<u128, D>(&parties, byte, first, count);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn all_parties_hold_shares_of_bits(byte: u8, group in 0u64..1 << 30, count in 1usize..30) {
        let first = group * PER_OPENING as u64;
        bits_are_the_lowest_of_random_values::<4>(4, 1, byte, first, count);
        bits_are_the_lowest_of_random_values::<4>(7, 2, byte, first, count);
        bits_are_the_lowest_of_random_values::<5>(16, 1, byte, first, count);
    }

    #[test]
    fn a_batch_equals_its_groups(byte: u8, group in 0u64..1 << 30, count in 1usize..200) {
        fn check<W: Word, const D: usize>(prss: &Prss<D>, session: &SessionId, first: u64, count: usize) {
            let (a, packed) = square::<W, D>(prss, session, first, count);
            for g in 0..packed_len(count) {
                let start = g * PER_OPENING;
                let len = PER_OPENING.min(count - start);
                let (a_group, packed_group) = square::<W, D>(prss, session, first + start as u64, len);
                assert!((0..len).all(|i| a_group.get(i) == a.get(start + i)));
                assert_eq!(packed_group.get(0), packed.get(g));
            }
        }
        let first = group * PER_OPENING as u64;
        let (four, five) = (Parties::<4>::new(7, 2), Parties::<5>::new(16, 1));
        check::<u64, 4>(&four.prss[3], &session(byte), first, count);
        check::<u128, 4>(&four.prss[3], &session(byte), first, count);
        check::<u64, 5>(&five.prss[15], &session(byte), first, count);
        check::<u128, 5>(&five.prss[15], &session(byte), first, count);
    }
}

#[test]
fn all_parties_of_the_largest_default_committee_hold_shares_of_bits() {
    bits_are_the_lowest_of_random_values::<4>(13, 4, 5, 1 << 20, 37);
}

proptest! {
    #[test]
    fn roots_are_even_and_inverses_exact(a: u128) {
        fn check<W: Word>(a: W) {
            let v = a.times(a.plus(W::ONE));
            let (r, y) = even_root(v);
            let expect = if a.bit(0) { W::ZERO.minus(W::ONE).minus(a) } else { a };
            assert_eq!(r, expect);
            assert_eq!(r.plus(r).plus(W::ONE).times(y), W::ONE);
        }
        for a in [a, 0, 1, 2, u128::MAX, u128::MAX - 1, 1 << 127, (1 << 127) - 1, a << 64, a >> 64] {
            check(a);
            check(a as u64);
        }
    }
}

#[test]
fn bits_are_balanced_and_independent_of_their_neighbours() {
    let parties = Parties::<4>::new(4, 1);
    let (_, bits) = parties.bits::<u64>(&session(7), 0, 20_000);
    let ones = bits.iter().filter(|bit| **bit == 1).count();
    let equal = bits.windows(2).filter(|pair| pair[0] == pair[1]).count();
    // Five standard deviations of 20,000 coins are 354; the streams are fixed, so this can't fail by chance.
    assert!(ones.abs_diff(10_000) < 354 && equal.abs_diff(10_000) < 354, "{ones} ones, {equal} pairs");
}

#[test]
fn an_odd_value_is_an_error_with_its_position() {
    let a = GrVec::<u64, 4>::zeros(6);
    assert_eq!(solve(a.clone(), &[0, 2, 4, 6, 7, 9]).unwrap_err(), OddValue { position: 4 });
    assert!(solve(a, &[0, 2, 4, 6, 8, 10]).is_ok());
}

#[test]
fn a_changed_share_is_found() {
    let parties = Parties::<4>::new(7, 2);
    let mut packed: Vec<_> = parties.prss.iter().map(|prss| square::<u128, 4>(prss, &session(1), 0, 40).1).collect();
    for liar in PartyId::all(7) {
        let right = packed[liar.slot()].get(3);
        packed[liar.slot()].set(3, right + Gr::constant(1 << 127));
        let all: Vec<_> = PartyId::all(7).zip(&packed).collect();
        assert_eq!(parties.double.open(&all), None);
        let without: Vec<_> = all.into_iter().filter(|(p, _)| *p != liar).collect();
        assert!(parties.double.open(&without).is_some());
        packed[liar.slot()].set(3, right);
    }
}
