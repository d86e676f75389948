//! Encrypted inputs, honest ones.

use kms_encoding::{FheType, Plaintext, Word};
use kms_fhe::{InputError, inputs};

use crate::fixture::{METADATA, fixture};

fn plain(ty: FheType, value: u128) -> Plaintext {
    Plaintext::truncated(ty, Word::from(value))
}

#[test]
fn every_type_survives_encryption_proof_and_expansion() {
    let f = fixture();
    let small: Vec<_> =
        FheType::ALL[..7].iter().map(|ty| plain(*ty, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef)).collect();
    let wide = Plaintext::new(FheType::Uint256, Word([0xa7; 32])).unwrap();
    for values in [small, vec![wide, plain(FheType::Bool, 0)]] {
        let bytes = inputs::build(&f.keys, &values, &METADATA).unwrap();
        let types: Vec<_> = values.iter().map(Plaintext::ty).collect();
        assert_eq!(inputs::verify(&f.keys, &bytes, &METADATA), Ok(types));
        let expanded = inputs::verify_and_expand(&f.keys, &f.eval, &bytes, &METADATA).unwrap();
        assert_eq!(expanded.len(), values.len());
        for (ciphertext, value) in expanded.iter().zip(&values) {
            assert_eq!((ciphertext.ty(), f.open(ciphertext)), (value.ty(), value.value()));
        }
    }
}

#[test]
fn sizes_are_limited_before_any_work() {
    let f = fixture();
    let build = |values: &[Plaintext]| inputs::build(&f.keys, values, &METADATA).unwrap_err();
    assert_eq!(build(&[]), InputError::Count(0));
    assert_eq!(build(&[plain(FheType::Bool, 1); 256]), InputError::Count(256));
    // The test parameters prove 512 bits; a boolean counts 2.
    let mut values = vec![plain(FheType::Uint256, 1); 2];
    values.push(plain(FheType::Bool, 1));
    assert_eq!(build(&values), InputError::Bits { bits: 514, limit: 512 });
}

#[test]
fn metadata_has_fixed_places() {
    let bytes = METADATA.to_bytes();
    assert_eq!(bytes.len(), 92);
    assert_eq!([bytes[31], bytes[32], bytes[52], bytes[72], bytes[91]], [1, 2, 3, 4, 4]);
}
