//! Payloads of ciphertext objects: from tfhe's bytes to (mask, body).

use kms_encoding::{FheType, LweBlocks, ParamsId, SecretKeyKind};
use tfhe::conformance::ParameterSetConformant;
use tfhe::core_crypto::prelude::GlweCiphertextConformanceParams;
use tfhe::integer::ciphertext::DataKind;
use tfhe::shortint::ciphertext::{CompressedSquashedNoiseCiphertextList as ShortintList, SquashedNoiseCiphertext};
use tfhe::shortint::parameters::CompressedSquashedNoiseCiphertextConformanceParams;
use tfhe::{CompressedSquashedNoiseCiphertextList, SquashedNoiseFheBool, SquashedNoiseFheUint, Tag};

use crate::ciphertext::SquashedInner;
use crate::params::{BLOCK_MODULUS, numbers};
use crate::{FormatError, ObjectError, Squashed, serial};

/// A checked payload.
pub(super) enum Payload {
    /// Masks and bodies under the squashing key.
    Value { masks: Vec<u128>, bodies: Vec<u128> },
    /// A conformant list.
    List(Box<ShortintList>),
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Value { .. } => "Value",
            Self::List(_) => "List",
        })
    }
}

pub(super) fn write_value(value: &Squashed, limit: usize) -> Result<Vec<u8>, FormatError> {
    match &value.inner {
        SquashedInner::Bool(b) => serial::write(b, limit),
        SquashedInner::Uint(x) => serial::write(x, limit),
    }
}

pub(super) fn read_value(bytes: &[u8], ty: FheType, params: ParamsId) -> Result<Payload, ObjectError> {
    let key = SecretKeyKind::Squashing;
    let limit = super::MAX_BYTES;
    if ty == FheType::Bool {
        let value: SquashedNoiseFheBool = serial::read(bytes, limit)?;
        let inner = value.underlying_squashed_noise_ciphertext();
        let (masks, bodies) = flatten([inner.packed_blocks()], params, key, 0)?;
        return Ok(Payload::Value { masks, bodies });
    }
    let value: SquashedNoiseFheUint = serial::read(bytes, limit)?;
    let inner = value.underlying_squashed_noise_ciphertext();
    let blocks = inner.packed_blocks();
    if inner.original_block_count() != ty.radix_blocks() || blocks.len() != ty.squashed_blocks() {
        return Err(ObjectError::PayloadType { index: 0, ty });
    }
    let (masks, bodies) = flatten(blocks, params, key, 0)?;
    Ok(Payload::Value { masks, bodies })
}

/// Reads a list. tfhe keeps the parts of its list to itself; a round trip through serde gives them, and then its own check
/// of the inner list applies.
pub(super) fn read_list(bytes: &[u8], types: &[FheType], params: ParamsId) -> Result<Payload, ObjectError> {
    let list: CompressedSquashedNoiseCiphertextList = serial::read(bytes, super::MAX_BYTES)?;
    if list.len() != types.len() {
        return Err(ObjectError::BlockCount { expected: types.len(), got: list.len() });
    }
    let malformed = |e: postcard::Error| FormatError::malformed(&e.to_string());
    let parts = postcard::to_stdvec(&list).map_err(malformed)?;
    drop(list);
    let (list, kinds, tag): (ShortintList, Vec<DataKind>, Tag) = postcard::from_bytes(&parts).map_err(malformed)?;
    if !list.is_conformant(&list_parameters(params)) || tag != Tag::default() {
        return Err(FormatError::OtherParameters.into());
    }
    for (index, (kind, ty)) in kinds.iter().zip(types).enumerate() {
        let same = match kind {
            DataKind::Boolean => *ty == FheType::Bool,
            DataKind::Unsigned(blocks) => *ty != FheType::Bool && blocks.get() == ty.radix_blocks(),
            _ => false,
        };
        if !same {
            return Err(ObjectError::PayloadType { index, ty: *ty });
        }
    }
    let expected = types.iter().map(|ty| ty.squashed_blocks()).sum();
    if list.len() != expected {
        return Err(ObjectError::BlockCount { expected, got: list.len() });
    }
    Ok(Payload::List(Box::new(list)))
}

fn list_parameters(params: ParamsId) -> CompressedSquashedNoiseCiphertextConformanceParams {
    let p = numbers(params).squashed_compression;
    CompressedSquashedNoiseCiphertextConformanceParams {
        ct_params: GlweCiphertextConformanceParams {
            glwe_dim: p.packing_ks_glwe_dimension,
            polynomial_size: p.packing_ks_polynomial_size,
            ct_modulus: p.ciphertext_modulus,
        },
        lwe_per_glwe: p.lwe_per_glwe,
        message_modulus: p.message_modulus,
        carry_modulus: p.carry_modulus,
    }
}

impl Payload {
    /// `count` blocks from the absolute position `first` on.
    pub(super) fn blocks(&self, params: ParamsId, first: usize, count: usize) -> Result<LweBlocks, ObjectError> {
        let (key, masks, bodies) = match self {
            Self::Value { masks, bodies } => (SecretKeyKind::Squashing, masks.clone(), bodies.clone()),
            Self::List(list) => {
                let key = SecretKeyKind::SquashedCompression;
                let missing = |_| ObjectError::BlockCount { expected: first + count, got: list.len() };
                let blocks = (first..first + count).map(|i| list.unpack(i)).collect::<Result<Vec<_>, _>>();
                let (masks, bodies) = flatten(&blocks.map_err(missing)?, params, key, first)?;
                (key, masks, bodies)
            }
        };
        // At most MAX_HANDLES × 64 blocks.
        Ok(LweBlocks::new(key, params.dimension(key), first as u32, masks, bodies)?)
    }
}

/// Checks each block and lays the words out flat: all masks, all bodies.
fn flatten<'a>(
    blocks: impl IntoIterator<Item = &'a SquashedNoiseCiphertext, IntoIter: ExactSizeIterator>,
    params: ParamsId,
    key: SecretKeyKind,
    first: usize,
) -> Result<(Vec<u128>, Vec<u128>), ObjectError> {
    let blocks = blocks.into_iter();
    let dimension = params.dimension(key);
    let (mut masks, mut bodies) = (Vec::new(), Vec::with_capacity(blocks.len()));
    for (index, block) in blocks.enumerate() {
        let ct = block.lwe_ciphertext();
        let words: &[u128] = ct.as_ref();
        let usable = block.message_modulus().0 == BLOCK_MODULUS
            && block.carry_modulus().0 == BLOCK_MODULUS
            && block.degree().get() < BLOCK_MODULUS * BLOCK_MODULUS
            && ct.ciphertext_modulus().is_native_modulus();
        match words.split_last() {
            Some((body, mask)) if usable && mask.len() == dimension => {
                masks.extend_from_slice(mask);
                bodies.push(*body);
            }
            _ => return Err(ObjectError::Block { index: first + index }),
        }
    }
    Ok((masks, bodies))
}
