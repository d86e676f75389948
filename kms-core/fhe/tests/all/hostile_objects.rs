//! Ciphertext objects, hostile ones.

use kms_encoding::{FheType, ParamsId, SecretKeyKind};
use kms_fhe::object::{self, MAX_BYTES, MAX_HANDLES};
use kms_fhe::{FormatError, Object, ObjectError};
use tfhe::prelude::*;
use tfhe::safe_serialization::{safe_deserialize, safe_serialize};
use tfhe::{CompressedSquashedNoiseCiphertextList, SquashedNoiseFheUint};

use crate::fixture::{PARAMS, fixture, handle};
use crate::mutate::mutations;

const HEADER: usize = 41;

fn integer(ty: FheType) -> Vec<u8> {
    let f = fixture();
    object::encode_integer(PARAMS, &f.info.key_id(), &handle(ty, 0), &f.squashed(ty, 1)).unwrap()
}

fn list(types: &[FheType]) -> Vec<u8> {
    let f = fixture();
    let values: Vec<_> = types.iter().map(|ty| f.squashed(*ty, 1)).collect();
    let entries: Vec<_> = values.iter().zip(0..).map(|(v, n)| (handle(v.ty(), n), v)).collect();
    object::encode_list(&f.eval, &f.info.key_id(), &entries).unwrap()
}

fn parse(bytes: &[u8]) -> Result<Object, ObjectError> {
    Object::parse(bytes, PARAMS, &fixture().info.key_id())
}

/// Replaces the payload of an object, with its right length.
fn with_payload(bytes: &[u8], handles: usize, payload: &[u8]) -> Vec<u8> {
    let mut out = bytes[..HEADER + 32 * handles].to_vec();
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
    out
}

fn payload(bytes: &[u8], handles: usize) -> &[u8] {
    &bytes[HEADER + 32 * handles + 4..]
}

/// Everything that a party does with an object: parse, and extract each handle.
fn use_it(bytes: &[u8]) -> Result<(), ObjectError> {
    let object = parse(bytes)?;
    for (id, ty) in object.handles() {
        let blocks = object.blocks(id)?;
        assert_eq!(blocks.len(), ty.squashed_blocks());
        assert_eq!(blocks.dimension(), PARAMS.dimension(blocks.key()));
    }
    Ok(())
}

#[test]
fn thousands_of_mutants_neither_panic_nor_abort() {
    for (seed, honest) in
        [integer(FheType::Bool), integer(FheType::Uint64), list(&[FheType::Uint64, FheType::Bool, FheType::Address])]
            .iter()
            .enumerate()
    {
        let mut accepted = 0;
        for mutant in mutations(honest, 1800, seed as u64) {
            accepted += usize::from(use_it(&mutant).is_ok());
        }
        // Flips inside masks and bodies give another well-formed ciphertext: the digest is what binds those.
        assert!(accepted > 0 && accepted < 1800);
    }
}

#[test]
fn mutants_behind_an_honest_header_neither_panic_nor_abort() {
    for (seed, (handles, honest)) in
        [(1, integer(FheType::Uint64)), (2, list(&[FheType::Uint32, FheType::Bool]))].iter().enumerate()
    {
        for mutant in mutations(payload(honest, *handles), 1800, 40 + seed as u64) {
            drop(use_it(&with_payload(honest, *handles, &mutant)));
        }
    }
}

#[test]
fn header_fields_are_checked() {
    let honest = integer(FheType::Uint8);
    let with = |at: usize, byte: u8| {
        let mut bytes = honest.clone();
        bytes[at] = byte;
        parse(&bytes).unwrap_err()
    };
    assert_eq!(with(0, 0), ObjectError::Magic);
    assert_eq!(with(4, 2), ObjectError::Version(2));
    assert_eq!(with(5, 3), ObjectError::Format(3));
    assert_eq!(with(6, 1), ObjectError::Params { got: 1, expected: PARAMS });
    assert_eq!(with(6, 9), ObjectError::Params { got: 9, expected: PARAMS });
    assert_eq!(with(7, !honest[7]), ObjectError::Key);
    assert_eq!(with(40, 0), ObjectError::HandleCount(0));
    assert_eq!(with(40, 2), ObjectError::HandleCount(2));
    assert_eq!(with(71, 9), ObjectError::HandleType { index: 0, ty: 9 });
    assert_eq!(with(71, 1), ObjectError::HandleType { index: 0, ty: 1 });
    assert_eq!(with(73, 0xff), ObjectError::Truncated);
    assert_eq!(parse(&[]).unwrap_err(), ObjectError::Truncated);
    assert_eq!(parse(&honest[..honest.len() - 1]).unwrap_err(), ObjectError::Truncated);
    let mut longer = honest.clone();
    longer.push(0);
    assert_eq!(parse(&longer).unwrap_err(), ObjectError::Trailing { bytes: 1 });
    longer.resize(MAX_BYTES + 1, 0);
    assert_eq!(parse(&longer).unwrap_err(), ObjectError::TooLarge { bytes: MAX_BYTES + 1, limit: MAX_BYTES });
    let mut crowd = list(&[FheType::Bool]);
    crowd[39..41].copy_from_slice(&(MAX_HANDLES as u16 + 1).to_be_bytes());
    assert_eq!(parse(&crowd).unwrap_err(), ObjectError::HandleCount(MAX_HANDLES + 1));
}

#[test]
fn another_key_or_other_parameters_are_refused() {
    let honest = integer(FheType::Uint8);
    assert_eq!(Object::parse(&honest, PARAMS, &[0; 32]).unwrap_err(), ObjectError::Key);
    let got = PARAMS.to_u8();
    let refused = Object::parse(&honest, ParamsId::Production, &fixture().info.key_id()).unwrap_err();
    assert_eq!(refused, ObjectError::Params { got, expected: ParamsId::Production });
    // Relabelled as production: the dimension gives it away.
    let mut relabelled = honest;
    relabelled[6] = ParamsId::Production.to_u8();
    let refused = Object::parse(&relabelled, ParamsId::Production, &fixture().info.key_id()).unwrap_err();
    assert_eq!(refused, ObjectError::Block { index: 0 });
    let mut relabelled = list(&[FheType::Uint8]);
    relabelled[6] = ParamsId::Production.to_u8();
    let refused = Object::parse(&relabelled, ParamsId::Production, &fixture().info.key_id()).unwrap_err();
    assert_eq!(refused, ObjectError::Payload(FormatError::OtherParameters));
}

#[test]
fn a_payload_of_another_type_than_its_handle_is_refused() {
    let honest = integer(FheType::Uint64);
    let relabel = |bytes: &[u8], at: usize, ty: FheType| {
        let mut bytes = bytes.to_vec();
        bytes[HEADER + 32 * at + 30] = ty.to_u8();
        parse(&bytes).unwrap_err()
    };
    for ty in [FheType::Uint8, FheType::Uint32, FheType::Uint128, FheType::Address, FheType::Uint256] {
        assert_eq!(relabel(&honest, 0, ty), ObjectError::PayloadType { index: 0, ty });
    }
    assert!(matches!(relabel(&honest, 0, FheType::Bool), ObjectError::Payload(FormatError::Malformed(_))));
    assert!(matches!(relabel(&integer(FheType::Bool), 0, FheType::Uint8), ObjectError::Payload(_)));
    let pair = list(&[FheType::Uint32, FheType::Bool]);
    for (at, ty) in [(0, FheType::Uint8), (0, FheType::Bool), (1, FheType::Uint8)] {
        assert_eq!(relabel(&pair, at, ty), ObjectError::PayloadType { index: at, ty });
    }
}

#[test]
fn signed_integers_are_refused() {
    let (_, server_key) = crate::raw::keyset(&fixture().folder).decompress().into_raw_parts();
    let signed = tfhe::with_server_key_as_context(server_key, || {
        let value = tfhe::FheInt8::try_encrypt_trivial(-1i8).unwrap().squash_noise().unwrap();
        let list = CompressedSquashedNoiseCiphertextList::builder().push(value.clone()).build().unwrap();
        (written(&value), written(&list))
    });
    let refused = parse(&with_payload(&integer(FheType::Uint8), 1, &signed.0)).unwrap_err();
    assert!(matches!(refused, ObjectError::Payload(FormatError::Malformed(_))));
    let refused = parse(&with_payload(&list(&[FheType::Uint8]), 1, &signed.1)).unwrap_err();
    assert_eq!(refused, ObjectError::PayloadType { index: 0, ty: FheType::Uint8 });
}

#[test]
fn handles_and_values_must_match_one_to_one() {
    let pair = list(&[FheType::Uint32, FheType::Bool]);
    let mut twice = pair.clone();
    twice.copy_within(HEADER..HEADER + 32, HEADER + 32);
    assert_eq!(parse(&twice).unwrap_err(), ObjectError::HandleRepeated { index: 1 });
    let one = list(&[FheType::Uint32]);
    let too_many = with_payload(&one, 1, payload(&pair, 2));
    assert_eq!(parse(&too_many).unwrap_err(), ObjectError::BlockCount { expected: 1, got: 2 });
    let too_few = with_payload(&pair, 2, payload(&one, 1));
    assert_eq!(parse(&too_few).unwrap_err(), ObjectError::BlockCount { expected: 2, got: 1 });
}

#[test]
fn formats_are_not_mixed() {
    let value = integer(FheType::Uint32);
    let one = list(&[FheType::Uint32]);
    for (header, body) in [(&value, &one), (&one, &value)] {
        let mixed = with_payload(header, 1, payload(body, 1));
        assert!(matches!(parse(&mixed).unwrap_err(), ObjectError::Payload(FormatError::Malformed(_))));
    }
    // A value taken out of a list is under the other key, of another dimension, though of the same tfhe type.
    let unpacked: CompressedSquashedNoiseCiphertextList = safe_deserialize(payload(&one, 1), 1 << 20).unwrap();
    let entry: SquashedNoiseFheUint = unpacked.get(0).unwrap().unwrap();
    assert_ne!(PARAMS.dimension(SecretKeyKind::Squashing), PARAMS.dimension(SecretKeyKind::SquashedCompression));
    assert_eq!(parse(&with_payload(&value, 1, &written(&entry))).unwrap_err(), ObjectError::Block { index: 0 });
}

#[test]
fn bytes_after_the_payload_object_are_refused() {
    for honest in [integer(FheType::Uint32), integer(FheType::Bool), list(&[FheType::Uint32])] {
        let mut longer = payload(&honest, 1).to_vec();
        longer.extend_from_slice(&[1, 2, 3]);
        let refused = parse(&with_payload(&honest, 1, &longer)).unwrap_err();
        assert_eq!(refused, ObjectError::Payload(FormatError::Trailing { bytes: 3 }));
    }
}

fn written<T: serde::Serialize + tfhe::Versionize + tfhe::named::Named>(object: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    safe_serialize(object, &mut bytes, 1 << 24).unwrap();
    bytes
}
