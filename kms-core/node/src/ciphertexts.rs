//! Ciphertexts, fetched by digest from the party's own object stores.
//!
//! The digest comes from the chain, the place from this party's configuration; no URL that somebody else names is ever
//! followed, and no redirect. Bytes are bounded and hashed while they stream, and parsed only after the digest fits.

use std::sync::Arc;

use kms_encoding::LweBlocks;

use crate::error::CiphertextError;
use crate::guard::HandleGrant;

/// The object stores and what was fetched from them lately.
#[derive(Debug)]
pub struct Ciphertexts {}

impl Ciphertexts {
    /// The blocks of a granted handle.
    ///
    /// # Errors
    /// [`CiphertextError::is_final`] tells whether asking again can help.
    pub async fn fetch(&self, grant: &HandleGrant) -> Result<Arc<LweBlocks>, CiphertextError> {
        Err(CiphertextError::Missing { digest: grant.digest })
    }
}
