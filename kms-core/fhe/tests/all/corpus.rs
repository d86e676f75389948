//! Stored inputs and variants of them for every decoder of the crate: each gives a value or a typed error, and holds no more
//! memory than its length justifies. `KMS_UPDATE_GOLDEN=1` writes the stored ones anew.

use std::fs;
use std::path::Path;

use kms_encoding::{FheType, ParamsId, Plaintext};
use kms_fhe::{Ciphertext, FormatError, InputError, KeyInfo, Object, inputs, object};

use crate::budget::bounded;
use crate::fixture::{METADATA, PARAMS, fixture, handle};
use crate::mutate::mutations;

/// The stored inputs of one kind; `fresh` makes valid ones.
fn corpus(kind: &str, fresh: impl FnOnce() -> Vec<(&'static str, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(kind);
    if std::env::var_os("KMS_UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(&folder).unwrap();
        fresh().into_iter().for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
    }
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
        .into_iter()
        .map(|path| (path.file_name().unwrap().to_string_lossy().into(), fs::read(path).unwrap()))
        .collect()
}

/// Key id and handles of an object, wherever its header has them.
fn parse(bytes: &[u8]) -> Result<Object, kms_fhe::ObjectError> {
    let key_id = bytes.get(7..39).and_then(|id| id.try_into().ok()).unwrap_or([0; 32]);
    bounded(bytes.len(), || Object::parse(bytes, PARAMS, &key_id))
}

#[test]
fn objects() {
    let fresh = || {
        let f = fixture();
        let integer =
            |ty| object::encode_integer(PARAMS, &f.info.key_id(), &handle(ty, 0), &f.squashed(ty, 1)).unwrap();
        let values = [f.squashed(FheType::Bool, 1), f.squashed(FheType::Uint8, 77)];
        let named: Vec<_> = values.iter().map(|value| (handle(value.ty(), 0), value)).collect();
        vec![
            ("bool", integer(FheType::Bool)),
            ("uint8", integer(FheType::Uint8)),
            ("list", object::encode_list(&f.eval, &f.info.key_id(), &named).unwrap()),
        ]
    };
    for (seed, (name, bytes)) in (1..).zip(corpus("object", fresh)) {
        let object = parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (handle, ty) in object.handles() {
            assert_eq!(object.blocks(handle).unwrap().len(), ty.squashed_blocks(), "{name}");
        }
        for mutant in mutations(&bytes, 400, seed) {
            if let Ok(object) = parse(&mutant) {
                for (handle, _) in object.handles() {
                    let blocks = bounded(mutant.len(), || object.blocks(handle)).unwrap();
                    assert_eq!(blocks.dimension(), PARAMS.dimension(blocks.key()));
                }
            }
        }
        let other = bounded(bytes.len(), || Object::parse(&bytes, ParamsId::Production, &[0; 32]));
        assert!(other.is_err(), "{name}");
    }
}

#[test]
fn inputs_of_users() {
    let f = fixture();
    let fresh = || {
        let bool = Plaintext::new(FheType::Bool, true).unwrap();
        let number = Plaintext::new(FheType::Uint8, 7u64).unwrap();
        vec![
            ("bool", inputs::build(&f.keys, &[bool], &METADATA).unwrap()),
            ("pair", inputs::build(&f.keys, &[bool, number], &METADATA).unwrap()),
        ]
    };
    // The stored lists are under a key that nobody has any more: whole, they get as far as the proof.
    for (seed, (name, bytes)) in (1..).zip(corpus("input", fresh)) {
        let verify = |bytes: &[u8]| bounded(bytes.len(), || inputs::verify(&f.keys, bytes, &METADATA));
        if std::env::var_os("KMS_UPDATE_GOLDEN").is_none() {
            assert_eq!(verify(&bytes), Err(InputError::Proof), "{name}");
        }
        mutations(&bytes, 60, seed).for_each(|mutant| assert!(verify(&mutant).is_err(), "{name}"));
    }
}

#[test]
fn stored_ciphertexts() {
    let bytes = fixture().trivial(FheType::Uint8, 5).to_bytes().unwrap();
    let read = |bytes: &[u8], ty| bounded(bytes.len(), || Ciphertext::from_bytes(bytes, ty, PARAMS));
    assert!(read(&bytes, FheType::Uint8).is_ok());
    assert!(matches!(read(&bytes, FheType::Uint16), Err(FormatError::Malformed(_) | FormatError::OtherParameters)));
    for mutant in mutations(&bytes, 400, 3) {
        if let Ok(value) = read(&mutant, FheType::Uint8) {
            assert_eq!(value.ty(), FheType::Uint8);
        }
    }
}

#[test]
fn descriptions_of_keys() {
    let fresh = || vec![("key.json", fs::read(fixture().folder.join("key.json")).unwrap())];
    for (seed, (name, bytes)) in (1..).zip(corpus("key-info", fresh)) {
        let read = |bytes: &[u8]| bounded(bytes.len(), || KeyInfo::parse(bytes));
        let info = read(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        for mutant in mutations(&bytes, 600, seed) {
            if let Ok(other) = read(&mutant) {
                assert_eq!(other.key_id(), info.key_id(), "another key under the same digests");
            }
        }
    }
}
