//! tfhe's safe serialisation with the checks that it leaves out.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tfhe::conformance::ParameterSetConformant;
use tfhe::named::Named;
use tfhe::safe_serialization::{DeserializationConfig, safe_serialize};
use tfhe::{Unversionize, Versionize};

use crate::FormatError;

/// Reads one object that fills `bytes` exactly.
///
/// The limit given to tfhe is the number of bytes there are: a length field inside can't make it allocate more.
pub(crate) fn read<T>(bytes: &[u8], limit: usize) -> Result<T, FormatError>
where
    T: DeserializeOwned + Unversionize + Named,
{
    if bytes.len() > limit {
        return Err(FormatError::TooLarge { bytes: bytes.len(), limit });
    }
    let mut rest = bytes;
    let object = DeserializationConfig::new(bytes.len() as u64)
        .disable_conformance()
        .deserialize_from(&mut rest)
        .map_err(|e| FormatError::malformed(&e))?;
    if rest.is_empty() { Ok(object) } else { Err(FormatError::Trailing { bytes: rest.len() }) }
}

/// [`read`], and the object must have the dimensions and moduli of `parameters`.
pub(crate) fn read_conformant<T>(bytes: &[u8], limit: usize, parameters: &T::ParameterSet) -> Result<T, FormatError>
where
    T: DeserializeOwned + Unversionize + Named + ParameterSetConformant,
{
    let object: T = read(bytes, limit)?;
    if object.is_conformant(parameters) { Ok(object) } else { Err(FormatError::OtherParameters) }
}

/// Writes an object of our own.
pub(crate) fn write<T: Serialize + Versionize + Named>(object: &T, limit: usize) -> Result<Vec<u8>, FormatError> {
    let mut bytes = Vec::new();
    safe_serialize(object, &mut bytes, limit as u64).map_err(|e| FormatError::malformed(&e.to_string()))?;
    Ok(bytes)
}
