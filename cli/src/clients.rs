//! How the tool itself presents itself to parties and chains.

use std::{fs, path::Path};

use alloy::{
    primitives::B256,
    providers::{DynProvider, Provider, ProviderBuilder},
};
use anyhow::{Context, Result, ensure};
use kms_chain::{abi::KeyManagement, manifest::Manifest};
use kms_client::transport::{Identity, Parties};

/// Clients for all parties, with the certificate in `dir` (cert.pem, key.pem).
///
/// # Errors
/// A file can't be read or used.
pub fn parties(manifest: &Manifest, dir: &Path) -> Result<Parties> {
    let read = |name: &str| fs::read(dir.join(name)).with_context(|| format!("read {}", dir.join(name).display()));
    let identity = Identity::from_pem(&read("cert.pem")?, &read("key.pem")?)?;
    Ok(Parties::connect(manifest, &identity)?)
}

/// A read-only provider.
///
/// # Errors
/// The URL is malformed.
pub fn provider(url: &str) -> Result<DynProvider> {
    Ok(ProviderBuilder::new().connect_http(url.parse().with_context(|| format!("RPC URL {url}"))?).erased())
}

/// The id of the chain behind an endpoint.
///
/// # Errors
/// The URL is malformed, or nobody answers there.
pub async fn chain_id(url: &str) -> Result<u64> {
    provider(url)?.get_chain_id().await.with_context(|| format!("ask {url}"))
}

/// Key and epoch that the chain calls active.
///
/// # Errors
/// The chain does not answer, or no key is active.
pub async fn active_key(provider: &DynProvider, manifest: &Manifest, chain_id: u64) -> Result<(B256, B256)> {
    let chain = manifest.chain(chain_id).with_context(|| format!("chain {chain_id} is not in the manifest"))?;
    let active = KeyManagement::new(chain.contracts.key_management, provider).activeKey().call().await?;
    ensure!(!active.keyId.is_zero(), "no key is active on chain {chain_id}: register one first (kms register-key)");
    Ok((active.keyId, active.epochId))
}
