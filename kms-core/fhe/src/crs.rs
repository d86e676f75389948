//! The common reference string of the input proofs.
//!
//! For now it is made locally, by one machine that could have kept the trapdoor; whoever knows it can prove encryptions
//! that are none. The name of the cached file says so. A ceremony replaces it.

use std::path::{Path, PathBuf};

use kms_encoding::ParamsId;
use tfhe::core_crypto::prelude::LweCiphertextCount;
use tfhe::zk::{CompactPkeCrs, new_compact_pke_crs_conformance_params};

use crate::params::{config, input_bits, numbers};
use crate::{BundleError, FormatError, bundle, serial};

/// No CRS is larger: production has 4.6 MB.
pub(crate) const MAX_BYTES: usize = 16 << 20;

/// A CRS in bytes, checked.
#[derive(Clone)]
pub struct Crs {
    params: ParamsId,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Crs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crs").field("params", &self.params).finish_non_exhaustive()
    }
}

impl Crs {
    /// Checks the bytes of a CRS: sizes, curve points and subgroups, seconds with production parameters. That the list is
    /// made of powers of one secret is not checked: for a CRS made elsewhere only its ceremony's transcript shows that.
    ///
    /// # Errors
    /// It is malformed, or for other parameters.
    pub fn parse(params: ParamsId, bytes: Vec<u8>) -> Result<Self, FormatError> {
        read(&bytes, params)?;
        Ok(Self { params, bytes })
    }

    /// Parameter set.
    #[must_use]
    pub const fn params(&self) -> ParamsId {
        self.params
    }

    /// The bytes, in tfhe's safe serialisation.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Makes a CRS, or takes it from the cache folder if it is there and in order; puts it there if it was made.
///
/// # Errors
/// It can't be made or written.
pub fn load_or_make_insecure(params: ParamsId, cache: Option<&Path>) -> Result<Crs, BundleError> {
    let path = cache.map(|folder| cached(folder, params));
    if let Some(crs) = path
        .as_deref()
        .and_then(|path| bundle::read_file(path, MAX_BYTES).ok())
        .and_then(|bytes| Crs::parse(params, bytes).ok())
    {
        return Ok(crs);
    }
    let crs = CompactPkeCrs::from_config(config(params, false), input_bits(params))
        .map_err(|e| BundleError::Crs(e.to_string()))?;
    let bytes = serial::write(&crs, MAX_BYTES).map_err(|source| BundleError::Format { file: bundle::CRS, source })?;
    if let Some(path) = path {
        bundle::write_file(&path, &bytes)?;
    }
    Ok(Crs { params, bytes })
}

/// Where the cache holds the CRS of a parameter set.
#[must_use]
pub fn cached(folder: &Path, params: ParamsId) -> PathBuf {
    folder.join(format!("insecure-locally-made-crs-{params}-{}.bin", input_bits(params)))
}

/// Reads a CRS and checks what [`Crs::parse`] says.
pub(crate) fn read(bytes: &[u8], params: ParamsId) -> Result<CompactPkeCrs, FormatError> {
    let blocks = LweCiphertextCount(input_bits(params).div_ceil(4));
    let expected = new_compact_pke_crs_conformance_params(numbers(params).pke, blocks)
        .map_err(|e| FormatError::malformed(&e.to_string()))?;
    serial::read_conformant(bytes, MAX_BYTES, &expected)
}
