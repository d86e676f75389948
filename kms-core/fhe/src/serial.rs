//! tfhe's safe serialisation with the checks that it leaves out.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tfhe::conformance::ParameterSetConformant;
use tfhe::named::Named;
use tfhe::safe_serialization::{DeserializationConfig, safe_serialize};
use tfhe::{Unversionize, Versionize};

use crate::FormatError;

/// Reads one object that fills `bytes` exactly.
pub(crate) fn read<T>(bytes: &[u8], limit: usize) -> Result<T, FormatError>
where
    T: DeserializeOwned + Unversionize + Named,
{
    if bytes.len() > limit {
        return Err(FormatError::TooLarge { bytes: bytes.len(), limit });
    }
    read_from(bytes, bytes.len() as u64)
}

/// Reads one object that fills the `size` bytes of a reader exactly.
///
/// The limit given to tfhe is the number of bytes there are: a length field inside can't make it allocate more.
pub(crate) fn read_from<T>(mut reader: impl Read, size: u64) -> Result<T, FormatError>
where
    T: DeserializeOwned + Unversionize + Named,
{
    let object = DeserializationConfig::new(size)
        .disable_conformance()
        .deserialize_from(&mut reader)
        .map_err(|e| FormatError::malformed(&e))?;
    match io::copy(&mut reader, &mut io::sink()).map_err(|e| FormatError::malformed(&e.to_string()))? {
        0 => Ok(object),
        bytes => Err(FormatError::Trailing { bytes: bytes as usize }),
    }
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
    write_to(object, &mut bytes, limit)?;
    Ok(bytes)
}

/// [`write`], to a writer.
pub(crate) fn write_to<T>(object: &T, writer: impl Write, limit: usize) -> Result<(), FormatError>
where
    T: Serialize + Versionize + Named,
{
    safe_serialize(object, writer, limit as u64).map_err(|e| FormatError::malformed(&e.to_string()))
}
