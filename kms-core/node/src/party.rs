//! Who this party is.

use std::path::Path;
use std::sync::Arc;

use alloy_primitives::{Address, B256};
use k256::ecdsa::SigningKey;
use kms_chain::eip712::signer_address;
use kms_chain::manifest::{HostChain, MAX_MANIFEST_BYTES, Manifest};
use zeroize::Zeroizing;

use crate::error::ConfigError;

/// The party's own certificate authority: it issues the leaf that this process shows to others, and nothing else.
#[derive(Clone)]
pub struct TlsRoot {
    /// Certificate, PEM, as it stands in the card and the manifest.
    pub certificate_pem: String,
    /// Private key, PKCS #8 DER.
    pub key_der: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for TlsRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsRoot").finish_non_exhaustive()
    }
}

/// This party: its place in the committee and its own secrets.
#[derive(Clone)]
pub struct Party {
    /// Place in the committee, from 1.
    pub index: u16,
    /// The cluster.
    pub manifest: Arc<Manifest>,
    /// Hash of the committee part of the manifest, equal at all parties.
    pub committee_hash: [u8; 32],
    /// Signs answers, receipts and peer frames. Zeroed on drop by its own type.
    pub signing_key: SigningKey,
    /// Issues this party's certificates.
    pub tls_root: TlsRoot,
}

impl std::fmt::Debug for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Party").field("index", &self.index).field("address", &self.address()).finish_non_exhaustive()
    }
}

impl Party {
    /// Puts a party together and checks that the manifest means it: its signer and TLS root stand at `index`.
    ///
    /// # Errors
    /// [`ConfigError::Value`] names what does not fit.
    pub fn new(
        index: u16,
        manifest: Arc<Manifest>,
        signing_key: SigningKey,
        tls_root: TlsRoot,
    ) -> Result<Self, ConfigError> {
        let value = |key: &str, problem: String| ConfigError::Value { key: key.into(), problem };
        let entry = manifest.committee.party(index.into()).ok_or_else(|| {
            value("index", format!("the manifest has parties 1 to {}, not {index}", manifest.committee.n))
        })?;
        let own = signer_address(&signing_key);
        if entry.signer != own {
            return Err(value("index", format!("party {index} signs with {}, this node with {own}", entry.signer)));
        }
        if entry.tls_root.trim() != tls_root.certificate_pem.trim() {
            return Err(value("index", format!("the TLS root of party {index} in the manifest is not this node's")));
        }
        let committee_hash = manifest.committee_hash();
        Ok(Self { index, manifest, committee_hash, signing_key, tls_root })
    }

    /// Id of the committee's context.
    pub fn context(&self) -> B256 {
        self.manifest.committee.context_id
    }

    /// Number of parties.
    pub fn n(&self) -> u32 {
        self.manifest.committee.n
    }

    /// Number of parties that may be corrupted.
    pub fn t(&self) -> u32 {
        self.manifest.committee.t
    }

    /// Address of this party's signing key.
    pub fn address(&self) -> Address {
        signer_address(&self.signing_key)
    }

    /// The host chain with this id, if the committee serves it.
    pub fn chain(&self, chain_id: u64) -> Option<&HostChain> {
        self.manifest.chain(chain_id)
    }
}

/// Reads and checks a manifest file.
///
/// # Errors
/// Unreadable, too large, or not acceptable.
pub fn read_manifest(path: &Path) -> Result<Manifest, ConfigError> {
    let bytes = crate::config::read_bounded(path, MAX_MANIFEST_BYTES as u64)?;
    Manifest::parse(&bytes).map_err(|e| ConfigError::Manifest { path: path.to_owned(), problem: e.to_string() })
}
