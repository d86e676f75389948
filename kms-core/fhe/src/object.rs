//! Ciphertext objects: the bytes whose SHA-256 is committed on chain, and how a party reads them.
//!
//! ```text
//! "KMSC" ‖ u8 version 1 ‖ u8 format ‖ u8 params id ‖ key id (32) ‖ u16 count ‖ count × handle (32)
//! ‖ u32 payload length ‖ payload
//! ```
//! Big endian. Format 1: one squashed value, the payload a `SquashedNoiseFheBool` or `SquashedNoiseFheUint`. Format 2: a
//! `CompressedSquashedNoiseCiphertextList` with the values of the handles in their order. Both payloads in tfhe's safe
//! serialisation. Block `j` of the object, counted through all handles, has the absolute position `j`.
//!
//! tfhe has no conformance check for any of these types, and a malformed list can make it allocate until the process
//! aborts. So everything is checked here, and nothing of tfhe's is called on a payload before it has passed: sizes,
//! trailing bytes, dimensions, moduli, degrees, types and block counts. The noise of a ciphertext can't be seen; the
//! residual check after the opening bounds it.

mod payload;

use kms_encoding::{FheType, LweBlocks, ParamsId};
use sha2::{Digest, Sha256};

use crate::{EvalError, EvalKeys, ObjectError, Squashed, serial};

/// First bytes of an object.
pub const MAGIC: [u8; 4] = *b"KMSC";
/// The only version.
pub const VERSION: u8 = 1;
/// No object is larger: a squashed `uint256` under the production parameters has 4.2 MB.
pub const MAX_BYTES: usize = 8 << 20;
/// Handles in one object.
pub const MAX_HANDLES: usize = 1024;
const HEADER_BYTES: usize = 4 + 3 + 32 + 2;

/// Kind of payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ObjectFormat {
    /// One squashed value, under the squashing key.
    Integer = 1,
    /// Squashed values in a compressed list, under the squashed-compression key.
    List = 2,
}

/// A checked object.
#[derive(Debug)]
pub struct Object {
    format: ObjectFormat,
    params: ParamsId,
    handles: Vec<([u8; 32], FheType)>,
    payload: payload::Payload,
}

/// SHA-256 of object bytes: what is committed on chain.
#[must_use]
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The type that a handle's type byte names.
#[must_use]
pub const fn handle_type(handle: &[u8; 32]) -> Option<FheType> {
    FheType::from_u8(handle[30])
}

/// Object bytes of one squashed value.
///
/// # Errors
/// The handle's type is not the value's.
pub fn encode_integer(
    params: ParamsId,
    key_id: &[u8; 32],
    handle: &[u8; 32],
    value: &Squashed,
) -> Result<Vec<u8>, ObjectError> {
    check_type(handle, 0, value)?;
    encode(ObjectFormat::Integer, params, key_id, &[*handle], &payload::write_value(value, MAX_BYTES)?)
}

/// Object bytes of several squashed values in one compressed list.
///
/// # Errors
/// No or too many values, a handle of another type than its value, or a key without squashed compression.
pub fn encode_list(
    eval: &EvalKeys,
    key_id: &[u8; 32],
    values: &[([u8; 32], &Squashed)],
) -> Result<Vec<u8>, EncodeListError> {
    if values.is_empty() || values.len() > MAX_HANDLES {
        return Err(ObjectError::HandleCount(values.len()).into());
    }
    for (index, (handle, value)) in values.iter().enumerate() {
        check_type(handle, index, value)?;
    }
    let (handles, values): (Vec<_>, Vec<_>) = values.iter().copied().unzip();
    let list = serial::write(&eval.compress(&values)?, MAX_BYTES).map_err(ObjectError::from)?;
    Ok(encode(ObjectFormat::List, eval.params(), key_id, &handles, &list)?)
}

/// Why a list object can't be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeListError {
    /// The values can't be in one object.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The list can't be computed.
    #[error(transparent)]
    Eval(#[from] EvalError),
}

fn check_type(handle: &[u8; 32], index: usize, value: &Squashed) -> Result<(), ObjectError> {
    match handle_type(handle) {
        Some(ty) if ty == value.ty() => Ok(()),
        Some(ty) => Err(ObjectError::PayloadType { index, ty }),
        None => Err(ObjectError::HandleType { index, ty: handle[30] }),
    }
}

fn encode(
    format: ObjectFormat,
    params: ParamsId,
    key_id: &[u8; 32],
    handles: &[[u8; 32]],
    payload: &[u8],
) -> Result<Vec<u8>, ObjectError> {
    let size = HEADER_BYTES + 32 * handles.len() + 4 + payload.len();
    if size > MAX_BYTES {
        return Err(ObjectError::TooLarge { bytes: size, limit: MAX_BYTES });
    }
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[VERSION, format as u8, params.to_u8()]);
    bytes.extend_from_slice(key_id);
    // At most MAX_HANDLES and MAX_BYTES.
    bytes.extend_from_slice(&(handles.len() as u16).to_be_bytes());
    for handle in handles {
        bytes.extend_from_slice(handle);
    }
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

impl Object {
    /// Reads and checks the whole object. The caller has compared its digest with the committed one.
    ///
    /// # Errors
    /// See [`ObjectError`]: all are final, and the same at every party.
    pub fn parse(bytes: &[u8], params: ParamsId, key_id: &[u8; 32]) -> Result<Self, ObjectError> {
        if bytes.len() > MAX_BYTES {
            return Err(ObjectError::TooLarge { bytes: bytes.len(), limit: MAX_BYTES });
        }
        let mut r = Reader(bytes);
        if r.array()? != MAGIC {
            return Err(ObjectError::Magic);
        }
        let [version, format, got] = r.array()?;
        if version != VERSION {
            return Err(ObjectError::Version(version));
        }
        let format = match format {
            1 => ObjectFormat::Integer,
            2 => ObjectFormat::List,
            other => return Err(ObjectError::Format(other)),
        };
        if got != params.to_u8() {
            return Err(ObjectError::Params { got, expected: params });
        }
        if r.array()? != *key_id {
            return Err(ObjectError::Key);
        }
        let count = usize::from(u16::from_be_bytes(r.array()?));
        if count == 0 || count > MAX_HANDLES || (format == ObjectFormat::Integer && count != 1) {
            return Err(ObjectError::HandleCount(count));
        }
        let mut handles: Vec<([u8; 32], FheType)> = Vec::with_capacity(count);
        for index in 0..count {
            let handle = r.array()?;
            let ty = handle_type(&handle).ok_or(ObjectError::HandleType { index, ty: handle[30] })?;
            handles.push((handle, ty));
        }
        check_distinct(&handles)?;
        let length = u32::from_be_bytes(r.array()?) as usize;
        let (payload, rest) = r.0.split_at_checked(length).ok_or(ObjectError::Truncated)?;
        if !rest.is_empty() {
            return Err(ObjectError::Trailing { bytes: rest.len() });
        }
        let types: Vec<_> = handles.iter().map(|(_, ty)| *ty).collect();
        let payload = match format {
            ObjectFormat::Integer => payload::read_value(payload, types[0], params)?,
            ObjectFormat::List => payload::read_list(payload, &types, params)?,
        };
        Ok(Self { format, params, handles, payload })
    }

    /// Kind of payload.
    #[must_use]
    pub const fn format(&self) -> ObjectFormat {
        self.format
    }

    /// The handles and their types, in the object's order.
    pub fn handles(&self) -> impl ExactSizeIterator<Item = (&[u8; 32], FheType)> {
        self.handles.iter().map(|(handle, ty)| (handle, *ty))
    }

    /// The blocks of one handle with their absolute positions.
    ///
    /// # Errors
    /// The object does not hold the handle.
    pub fn blocks(&self, handle: &[u8; 32]) -> Result<LweBlocks, ObjectError> {
        let index = self.handles.iter().position(|(h, _)| h == handle).ok_or(ObjectError::HandleMissing)?;
        let first: usize = self.handles[..index].iter().map(|(_, ty)| ty.squashed_blocks()).sum();
        self.payload.blocks(self.params, first, self.handles[index].1.squashed_blocks())
    }
}

fn check_distinct(handles: &[([u8; 32], FheType)]) -> Result<(), ObjectError> {
    let mut seen = std::collections::HashSet::with_capacity(handles.len());
    match handles.iter().position(|(handle, _)| !seen.insert(handle)) {
        Some(index) => Err(ObjectError::HandleRepeated { index }),
        None => Ok(()),
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ObjectError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(ObjectError::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }
}
