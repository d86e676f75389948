use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::*;

/// Adds a(X)·b(X) mod X^N + 1, product by product.
fn schoolbook<W: Word>(a: &[W], b: &[W], out: &mut [W]) {
    let len = out.len();
    for (i, a) in a.iter().enumerate() {
        for (j, b) in b.iter().enumerate() {
            let product = a.times(*b);
            let word = &mut out[(i + j) % len];
            *word = if i + j < len { word.plus(product) } else { word.minus(product) };
        }
    }
}

fn random<W: Word>(len: usize, rng: &mut ChaCha20Rng) -> Vec<W> {
    (0..len).map(|_| W::truncate(u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64()))).collect()
}

fn equals_schoolbook<W: Word, const D: usize>(masks: &[Vec<W>], shares: &[GrVec<W, D>], out: &GrVec<W, D>) {
    let mut expect = out.clone();
    for (mask, share) in masks.iter().zip(shares) {
        (0..D).for_each(|c| schoolbook(mask, share.coefficient(c), expect.coefficient_mut(c)));
    }
    let mut got = out.clone();
    let masks: Vec<&[W]> = masks.iter().map(Vec::as_slice).collect();
    let shares: Vec<_> = shares.iter().map(SharePoly::new).collect();
    add_products(&masks, &shares.iter().collect::<Vec<_>>(), &mut got);
    assert!(got == expect, "{} words of {} bits", out.len(), W::BITS);
}

fn random_products<W: Word, const D: usize>(len: usize, products: usize, seed: u64) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let masks: Vec<Vec<W>> = (0..products).map(|_| random(len, &mut rng)).collect();
    let mut share = || GrVec::from_words(random(D * len, &mut rng)).unwrap();
    let shares: Vec<GrVec<W, D>> = (0..products).map(|_| share()).collect();
    equals_schoolbook(&masks, &shares, &share());
}

#[test]
fn sums_of_products_equal_schoolbook() {
    for (seed, len) in (0..).zip([64, 128, 256, 512, 1024]) {
        random_products::<u64, 4>(len, 3, seed);
        random_products::<u128, 4>(len, 2, seed);
        random_products::<u64, 5>(len, 1, seed);
        random_products::<u128, 5>(len, 1, seed);
    }
    random_products::<u64, 4>(2048, 1, 9);
    random_products::<u128, 4>(2048, 2, 9);
}

#[test]
fn the_largest_integers_are_exact() {
    fn check<W: Word, const D: usize>(len: usize, products: usize) {
        let max = W::ZERO.minus(W::ONE);
        let half = W::truncate(1 << (W::BITS - 1));
        for (mask, share) in [(max, max), (max, half), (half, half), (W::ONE, max), (max, W::ZERO)] {
            // All products of one coefficient have the same sign at both ends of the polynomial.
            let masks = vec![vec![mask; len]; products];
            let shares = vec![GrVec::<W, D>::from_words(vec![share; D * len]).unwrap(); products];
            equals_schoolbook(&masks, &shares, &GrVec::zeros(len));
        }
    }
    check::<u64, 4>(64, 5);
    check::<u128, 4>(64, 5);
    check::<u64, 5>(256, 1);
    check::<u128, 5>(256, 1);
    check::<u64, 4>(2048, 1);
    check::<u128, 4>(2048, 1);
}

/// With the monomial X a product is a rotation with a change of sign: long sums and polynomials without a long test.
#[test]
fn the_largest_sums_are_exact() {
    fn check<W: Word>(len: usize) {
        let products = (1 << LARGEST_SUM_LOG2) / len;
        let max = W::ZERO.minus(W::ONE);
        let (mut x, ones) = (vec![W::ZERO; len], vec![max; len]);
        x[1] = W::ONE;
        let share = |words: &[W]| {
            let mut share = GrVec::<W, 4>::zeros(len);
            (0..4).for_each(|c| share.coefficient_mut(c).copy_from_slice(words));
            SharePoly::new(&share)
        };
        let (ones_share, x_share) = (share(&ones), share(&x));
        let mut out = GrVec::zeros(len);
        add_products(&vec![&x[..]; products], &vec![&ones_share; products], &mut out);
        // X·Σ −X^i = 1 − Σ_{i ≥ 1} X^i, mod 2^k.
        let count = W::truncate(products as u128);
        for c in 0..4 {
            assert!(
                out.coefficient(c)[0] == count && out.coefficient(c)[1..].iter().all(|w| *w == W::ZERO.minus(count))
            );
        }
        let mut all = GrVec::zeros(len);
        add_products(&vec![&ones[..]; products], &vec![&ones_share; products], &mut all);
        // (Σ X^i)²: N − 2·(N − 1 − i) at X^i.
        for c in 0..4 {
            for (i, word) in all.coefficient(c).iter().enumerate() {
                let expect = W::truncate((len as u128).wrapping_sub(2 * (len - 1 - i) as u128)).times(count);
                assert_eq!(*word, expect);
            }
        }
        let mut swapped = GrVec::zeros(len);
        add_products(&vec![&ones[..]; products], &vec![&x_share; products], &mut swapped);
        assert!(swapped == out);
    }
    check::<u64>(2048);
    check::<u128>(2048);
    check::<u64>(LONGEST);
    check::<u128>(LONGEST);
}

#[test]
fn no_products_add_nothing() {
    let mut out = GrVec::<u64, 4>::from_words(vec![7; 256]).unwrap();
    add_products(&[], &[], &mut out);
    assert!(out.words().iter().all(|word| *word == 7));
}
