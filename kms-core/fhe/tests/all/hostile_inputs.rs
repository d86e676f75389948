//! Encrypted inputs, hostile ones.

use kms_encoding::{FheType, Plaintext, Word};
use kms_fhe::inputs::{self, InputMetadata};
use kms_fhe::{FormatError, InputError};
use tfhe::integer::ciphertext::DataKind;
use tfhe::safe_serialization::{safe_deserialize, safe_serialize};
use tfhe::zk::{CompactPkeCrs, ZkComputeLoad};
use tfhe::{CompactCiphertextList, CompactPublicKey, ProvenCompactCiphertextList, Tag};

use crate::fixture::{METADATA, fixture};
use crate::mutate::mutations;

fn vote() -> Vec<u8> {
    inputs::build(&fixture().keys, &[Plaintext::new(FheType::Bool, true).unwrap()], &METADATA).unwrap()
}

/// Key and CRS as a client reads them that does not use this crate.
fn foreign_client() -> (CompactPublicKey, CompactPkeCrs) {
    let folder = &fixture().folder;
    let read = |file| std::fs::read(folder.join(file)).unwrap();
    (
        safe_deserialize(read("public_key.bin").as_slice(), 1 << 20).unwrap(),
        safe_deserialize(read("crs.bin").as_slice(), 1 << 24).unwrap(),
    )
}

fn bytes_of(list: &ProvenCompactCiphertextList) -> Vec<u8> {
    let mut bytes = Vec::new();
    safe_serialize(list, &mut bytes, 1 << 20).unwrap();
    bytes
}

#[test]
fn an_input_is_bound_to_chain_acl_contract_and_user() {
    let f = fixture();
    let bytes = vote();
    for other in [
        InputMetadata { chain_id: [9; 32], ..METADATA },
        InputMetadata { acl: [9; 20], ..METADATA },
        InputMetadata { contract: [9; 20], ..METADATA },
        InputMetadata { user: [9; 20], ..METADATA },
    ] {
        assert_eq!(inputs::verify(&f.keys, &bytes, &other), Err(InputError::Proof));
        assert_eq!(inputs::verify_and_expand(&f.keys, &f.eval, &bytes, &other).unwrap_err(), InputError::Proof);
    }
}

#[test]
fn trailing_and_oversized_bytes_are_refused() {
    let f = fixture();
    let mut bytes = vote();
    bytes.extend_from_slice(&[0; 3]);
    let verify = |bytes: &[u8]| inputs::verify(&f.keys, bytes, &METADATA).unwrap_err();
    assert_eq!(verify(&bytes), InputError::Format(FormatError::Trailing { bytes: 3 }));
    bytes.resize(inputs::MAX_BYTES + 1, 0);
    assert!(matches!(verify(&bytes), InputError::Format(FormatError::TooLarge { .. })));
}

#[test]
fn mutants_are_refused_without_a_panic() {
    let f = fixture();
    for mutant in mutations(&vote(), 180, 2) {
        assert!(inputs::verify(&f.keys, &mutant, &METADATA).is_err());
    }
}

#[test]
fn a_list_of_types_that_handles_do_not_have_is_refused() {
    let f = fixture();
    let (key, crs) = foreign_client();
    let metadata = METADATA.to_bytes();
    let mut signed = CompactCiphertextList::builder(&key);
    signed.push(7i64);
    let mut narrow = CompactCiphertextList::builder(&key);
    narrow.push_with_num_bits(3u8, 2).unwrap();
    for builder in [signed, narrow] {
        let list = builder.build_with_proof_packed(&crs, &metadata, ZkComputeLoad::Proof).unwrap();
        assert_eq!(inputs::verify(&f.keys, &bytes_of(&list), &METADATA), Err(InputError::Type { index: 0 }));
    }
}

#[test]
fn another_keys_input_is_refused() {
    let f = fixture();
    let (other, _) = kms_fhe::keygen::generate(crate::fixture::PARAMS, false);
    let folder = f.folder.with_extension("other");
    let crs = kms_fhe::crs::load_or_make_insecure(crate::fixture::PARAMS, f.folder.parent()).unwrap();
    kms_fhe::bundle::write(&folder, &other, &crs, [7; 32]).unwrap();
    let keys = kms_fhe::PublicKeys::load(&folder).unwrap();
    let bytes = inputs::build(&keys, &[Plaintext::new(FheType::Bool, true).unwrap()], &METADATA).unwrap();
    assert_eq!(inputs::verify(&f.keys, &bytes, &METADATA), Err(InputError::Proof));
}

/// The proof says nothing about the types: they are labels. A voter can put a 3 behind the label of a boolean.
#[test]
fn a_vote_of_three_counts_as_one() {
    let f = fixture();
    let (key, crs) = foreign_client();
    let mut builder = CompactCiphertextList::builder(&key);
    builder.push_with_num_bits(3u8, 2).unwrap();
    let list = builder.build_with_proof_packed(&crs, &METADATA.to_bytes(), ZkComputeLoad::Proof).unwrap();
    let parts = postcard::to_stdvec(&list).unwrap();
    type Parts = (tfhe::shortint::ciphertext::ProvenCompactCiphertextList, Vec<DataKind>, Tag);
    let (blocks, kinds, tag): Parts = postcard::from_bytes(&parts).unwrap();
    assert!(matches!(kinds[..], [DataKind::Unsigned(n)] if n.get() == 1));
    let relabelled = postcard::to_stdvec(&(blocks, vec![DataKind::Boolean], tag)).unwrap();
    let list: ProvenCompactCiphertextList = postcard::from_bytes(&relabelled).unwrap();
    let expanded = inputs::verify_and_expand(&f.keys, &f.eval, &bytes_of(&list), &METADATA).unwrap();
    assert_eq!(expanded[0].ty(), FheType::Bool);
    assert_eq!(f.open(&expanded[0]), Word::from(true));
    let tally = f.eval.cast(&expanded[0], FheType::Uint8).unwrap();
    let tally = f.eval.binary(kms_fhe::BinaryOp::Add, &tally, &f.trivial(FheType::Uint8, 4)).unwrap();
    assert_eq!(f.open(&tally), Word::from(5u64));
}
