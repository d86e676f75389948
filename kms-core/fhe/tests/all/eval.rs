//! Operations give what the same operation gives on plaintexts.

use kms_encoding::{FheType, Plaintext, Word};
use kms_fhe::{BinaryOp, Ciphertext, EvalError, FormatError};

use crate::fixture::{PARAMS, fixture};

const UINTS: [FheType; 6] =
    [FheType::Uint8, FheType::Uint16, FheType::Uint32, FheType::Uint64, FheType::Uint128, FheType::Uint256];

#[test]
fn arithmetic_wraps_at_the_width_of_the_type() {
    let f = fixture();
    for ty in UINTS {
        let mask = if ty.bits() >= 128 { u128::MAX } else { (1 << ty.bits()) - 1 };
        let (a, b) =
            (0xfedc_ba98_7654_3210_0123_4567_89ab_cdef & mask, 0x8899_aabb_ccdd_eeff_0011_2233_4455_6677 & mask);
        let (x, y) = (f.trivial(ty, a), f.trivial(ty, b));
        let run = |op, x, y| f.open(&f.eval.binary(op, x, y).unwrap());
        if ty != FheType::Uint256 {
            assert_eq!(run(BinaryOp::Add, &x, &y).to_u128(), Some(a.wrapping_add(b) & mask), "{ty}");
            assert_eq!(run(BinaryOp::Sub, &y, &x).to_u128(), Some(b.wrapping_sub(a) & mask), "{ty}");
        }
        assert_eq!(run(BinaryOp::Ge, &x, &y), Word::from(a >= b));
        assert_eq!(run(BinaryOp::Ge, &x, &x), Word::from(true));
        assert_eq!(run(BinaryOp::Eq, &x, &y), Word::from(false));
        assert_eq!(run(BinaryOp::Eq, &x, &x), Word::from(true));
    }
    let (zero, one) = (f.trivial(FheType::Uint256, 0), f.trivial(FheType::Uint256, 1));
    assert_eq!(f.open(&f.eval.binary(BinaryOp::Sub, &zero, &one).unwrap()), Word([0xff; 32]));
}

#[test]
fn selection_and_equality_work_for_every_type() {
    let f = fixture();
    for ty in FheType::ALL {
        let (x, y) = (f.trivial(ty, 1), f.trivial(ty, 0));
        for (bit, expect) in [(true, 1u64), (false, 0)] {
            let control = f.trivial(FheType::Bool, bit.into());
            let selected = f.eval.if_then_else(&control, &x, &y).unwrap();
            assert_eq!((selected.ty(), f.open(&selected)), (ty, Word::from(expect)));
        }
        assert_eq!(f.open(&f.eval.binary(BinaryOp::Eq, &x, &y).unwrap()), Word::from(false));
    }
}

#[test]
fn casts_reduce_extend_and_test_for_zero() {
    let f = fixture();
    let value = 0x1_0000_00ab_u128;
    let x = f.trivial(FheType::Uint64, value);
    for to in FheType::ALL {
        let cast = f.eval.cast(&x, to).unwrap();
        assert_eq!((cast.ty(), f.open(&cast)), (to, Plaintext::truncated(to, Word::from(value)).value()));
    }
    let truth = f.trivial(FheType::Bool, 1);
    assert_eq!(f.open(&f.eval.cast(&truth, FheType::Address).unwrap()), Word::from(1u64));
    let zero = f.trivial(FheType::Uint8, 0);
    assert_eq!(f.open(&f.eval.cast(&zero, FheType::Bool).unwrap()), Word::ZERO);
}

#[test]
fn operations_that_do_not_exist_are_refused() {
    let f = fixture();
    let [bit, byte, short, address] =
        [FheType::Bool, FheType::Uint8, FheType::Uint16, FheType::Address].map(|ty| f.trivial(ty, 1));
    let refused = |result: Result<Ciphertext, EvalError>| matches!(result, Err(EvalError::Types { .. }));
    for op in [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Ge, BinaryOp::Eq] {
        assert!(refused(f.eval.binary(op, &byte, &short)));
        assert!(refused(f.eval.binary(op, &bit, &byte)));
    }
    for op in [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Ge] {
        assert!(refused(f.eval.binary(op, &bit, &bit)));
        assert!(refused(f.eval.binary(op, &address, &address)));
    }
    assert!(refused(f.eval.if_then_else(&byte, &byte, &byte)));
    assert!(refused(f.eval.if_then_else(&bit, &byte, &short)));
}

#[test]
fn operations_work_inside_rayon_workers() {
    let f = fixture();
    let sums =
        in_rayon(8, |i| f.eval.binary(BinaryOp::Add, &f.trivial(FheType::Uint8, i), &f.trivial(FheType::Uint8, 1)));
    for (i, sum) in sums.into_iter().enumerate() {
        assert_eq!(f.open(&sum.unwrap()), Word::from(i as u64 + 1));
    }
}

fn in_rayon<T: Send>(count: u128, f: impl Fn(u128) -> T + Sync) -> Vec<T> {
    use rayon::prelude::*;
    (0..count as u64).into_par_iter().map(|i| f(i.into())).collect()
}

#[test]
fn stored_ciphertexts_come_back_and_mutants_do_not_panic() {
    let f = fixture();
    for ty in FheType::ALL {
        let fresh = f.trivial(ty, 1);
        let computed = f.eval.if_then_else(&f.trivial(FheType::Bool, 1), &fresh, &f.trivial(ty, 0)).unwrap();
        for value in [fresh, computed] {
            let bytes = value.to_bytes().unwrap();
            let again = Ciphertext::from_bytes(&bytes, ty, PARAMS).unwrap();
            assert_eq!(f.open(&again), Word::from(1u64));
            for other in FheType::ALL.into_iter().filter(|o| *o != ty) {
                assert!(Ciphertext::from_bytes(&bytes, other, PARAMS).is_err(), "{ty} read as {other}");
            }
            let mut longer = bytes.clone();
            longer.push(0);
            let trailing = Ciphertext::from_bytes(&longer, ty, PARAMS).unwrap_err();
            assert_eq!(trailing, FormatError::Trailing { bytes: 1 });
        }
    }
    let bytes = f.trivial(FheType::Uint64, 77).to_bytes().unwrap();
    for mutant in crate::mutate::mutations(&bytes, 1200, 1) {
        if let Ok(value) = Ciphertext::from_bytes(&mutant, FheType::Uint64, PARAMS) {
            assert!(f.eval.squash(&value).is_ok());
        }
    }
}
