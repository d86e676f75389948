//! Encrypted inputs: compact lists with a proof of plaintext knowledge, bound to chain, contract and user.

pub use kms_encoding::InputMetadata;
use kms_encoding::{FheType, Plaintext, Word};
use tfhe::integer::ciphertext::IntegerProvenCompactCiphertextListConformanceParams;
use tfhe::prelude::*;
use tfhe::zk::ZkComputeLoad;
use tfhe::{
    CompactCiphertextList, CompactCiphertextListExpander, FheTypes, HlExpandable, ProvenCompactCiphertextList, Tag,
};

use crate::ciphertext::make;
use crate::eval::to_u256;
use crate::params::numbers;
use crate::{Ciphertext, EvalError, EvalKeys, FormatError, InputError, PublicKeys, serial};

/// No proven list is larger: 2,048 bits under the production parameters have 24 KB.
pub const MAX_BYTES: usize = 128 << 10;
/// Values in one input: handles count them in one byte.
pub const MAX_VALUES: usize = 255;

/// Encrypts values under the compact public key and proves the encryption: seconds of work for the client, so that the
/// coprocessor's verification is short.
///
/// # Errors
/// No value, too many, or tfhe failed.
pub fn build(keys: &PublicKeys, values: &[Plaintext], metadata: &InputMetadata) -> Result<Vec<u8>, InputError> {
    check_size(values.iter().map(Plaintext::ty), crate::params::input_bits(keys.params()))?;
    let mut builder = CompactCiphertextList::builder(keys.public_key());
    for value in values {
        if value.ty() == FheType::Bool {
            builder.push(value.value() != Word::ZERO);
        } else {
            builder.push_with_num_bits(to_u256(value.value()), value.ty().bits() as usize).map_err(tfhe)?;
        }
    }
    let list = builder.build_with_proof_packed(keys.crs(), &metadata.to_bytes(), ZkComputeLoad::Proof).map_err(tfhe)?;
    Ok(serial::write(&list, MAX_BYTES)?)
}

/// Verifies a proven list and expands it into ciphertexts that one can compute on.
///
/// Expansion also cleans the values: whatever an encrypted boolean holds, its ciphertext is of 0 or 1.
///
/// # Errors
/// See [`InputError`]; everything but [`InputError::Eval`] is the input's fault.
pub fn verify_and_expand(
    keys: &PublicKeys,
    eval: &EvalKeys,
    bytes: &[u8],
    metadata: &InputMetadata,
) -> Result<Vec<Ciphertext>, InputError> {
    let (list, types) = read_proven(keys, bytes, metadata)?;
    let values = eval.run(|| {
        let expanded = list.expand_without_verification().map_err(tfhe)?;
        types.iter().enumerate().map(|(index, ty)| take(&expanded, index, *ty)).collect::<Result<Vec<_>, _>>()
    })?;
    Ok(values?)
}

/// Verifies a proven list without expanding it, and says which types its values have: a tenth of a second.
///
/// # Errors
/// See [`InputError`].
pub fn verify(keys: &PublicKeys, bytes: &[u8], metadata: &InputMetadata) -> Result<Vec<FheType>, InputError> {
    read_proven(keys, bytes, metadata).map(|(_, types)| types)
}

fn read_proven(
    keys: &PublicKeys,
    bytes: &[u8],
    metadata: &InputMetadata,
) -> Result<(ProvenCompactCiphertextList, Vec<FheType>), InputError> {
    let (list, types) = read(keys, bytes)?;
    if list.verify(keys.crs(), keys.public_key(), &metadata.to_bytes()).is_valid() {
        Ok((list, types))
    } else {
        Err(InputError::Proof)
    }
}

fn read(keys: &PublicKeys, bytes: &[u8]) -> Result<(ProvenCompactCiphertextList, Vec<FheType>), InputError> {
    let expected = IntegerProvenCompactCiphertextListConformanceParams::from_crs_and_parameters(
        numbers(keys.params()).pke,
        keys.crs(),
    );
    let list: ProvenCompactCiphertextList = serial::read_conformant(bytes, MAX_BYTES, &expected)?;
    if *list.tag() != Tag::default() {
        return Err(FormatError::OtherParameters.into());
    }
    if list.is_empty() || list.len() > MAX_VALUES {
        return Err(InputError::Count(list.len()));
    }
    let types = (0..list.len())
        .map(|index| list.get_kind_of(index).and_then(supported).ok_or(InputError::Type { index }))
        .collect::<Result<Vec<_>, _>>()?;
    check_size(types.iter().copied(), crate::params::input_bits(keys.params()))?;
    Ok((list, types))
}

fn check_size(types: impl ExactSizeIterator<Item = FheType>, limit: usize) -> Result<(), InputError> {
    if types.len() == 0 || types.len() > MAX_VALUES {
        return Err(InputError::Count(types.len()));
    }
    let bits = types.map(|ty| ty.bits() as usize).sum();
    if bits > limit { Err(InputError::Bits { bits, limit }) } else { Ok(()) }
}

fn supported(kind: FheTypes) -> Option<FheType> {
    Some(match kind {
        FheTypes::Bool => FheType::Bool,
        FheTypes::Uint8 => FheType::Uint8,
        FheTypes::Uint16 => FheType::Uint16,
        FheTypes::Uint32 => FheType::Uint32,
        FheTypes::Uint64 => FheType::Uint64,
        FheTypes::Uint128 => FheType::Uint128,
        FheTypes::Uint160 => FheType::Address,
        FheTypes::Uint256 => FheType::Uint256,
        _ => return None,
    })
}

fn take(expanded: &CompactCiphertextListExpander, index: usize, ty: FheType) -> Result<Ciphertext, EvalError> {
    fn get<T: HlExpandable + Tagged>(expanded: &CompactCiphertextListExpander, index: usize) -> Result<T, EvalError> {
        let value = expanded.get(index).map_err(tfhe)?;
        value.ok_or_else(|| EvalError::Tfhe("the expanded list is shorter than the list".to_owned()))
    }
    Ok(Ciphertext(make!(ty, Uint => get::<Uint>(expanded, index)?, bool => get(expanded, index)?)))
}

fn tfhe(error: ::tfhe::Error) -> EvalError {
    EvalError::Tfhe(error.to_string())
}
