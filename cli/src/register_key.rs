//! `kms register-key`: bring the parties' signatures over a key to the chain.

use std::{fs, path::PathBuf, time::Duration};

use alloy::{
    network::EthereumWallet,
    primitives::{B256, U256},
    providers::{Provider, ProviderBuilder},
    signers::local::PrivateKeySigner,
};
use anyhow::{Context, Result, bail, ensure};
use clap::Args as ClapArgs;
use kms_chain::{
    abi::{IKeyManagement, KeyManagement},
    manifest::Manifest,
};
use kms_node::keys::KeygenSignature;

use crate::manifest;

/// Arguments of `kms register-key`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The cluster manifest.
    #[arg(long)]
    manifest: PathBuf,
    /// JSON-RPC endpoint of the chain.
    #[arg(long)]
    rpc: String,
    /// A party's `keygen-signature.json`; give it once per party.
    #[arg(long = "signature", required = true)]
    signatures: Vec<PathBuf>,
    /// Private key of the sender of the transaction, hex. Anyone may send it.
    #[arg(long, env = "KMS_SENDER_KEY", hide_env_values = true)]
    sender_key: String,
}

/// What came of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The key.
    pub key_id: B256,
    /// The chain.
    pub chain_id: u64,
    /// The chain knew it already.
    pub known: bool,
}

/// Runs the command and returns what to print.
///
/// # Errors
/// See [`register`].
pub async fn run(args: &Args, json: bool) -> Result<String> {
    let manifest = manifest::read(&args.manifest)?;
    let signed = args.signatures.iter().map(read).collect::<Result<Vec<_>>>()?;
    let Registered { key_id, chain_id, known } = register(&manifest, &args.rpc, &args.sender_key, &signed).await?;
    if json {
        let value = serde_json::json!({ "keyId": key_id, "chainId": chain_id, "alreadyKnown": known });
        return Ok(format!("{value}\n"));
    }
    let what = if known { "was registered already" } else { "is registered and active" };
    Ok(format!("key {key_id} {what} on chain {chain_id}\n"))
}

/// Registers the key on the chain of the signatures, unless it is known there.
///
/// # Errors
/// The parties signed different things, too few signed, or the contract reverts.
pub async fn register(
    manifest: &Manifest,
    rpc: &str,
    sender_key: &str,
    signed: &[KeygenSignature],
) -> Result<Registered> {
    let first = signed.first().context("no signature was given")?;
    for other in signed {
        let same =
            KeygenSignature { party: first.party, signature: first.signature.clone(), ..other.clone() } == *first;
        ensure!(
            same,
            "parties {} and {} signed different keys: compare their files before anything else",
            first.party,
            other.party
        );
    }
    let chain =
        manifest.chain(first.chain_id).with_context(|| format!("chain {} is not in the manifest", first.chain_id))?;
    let sender: PrivateKeySigner = sender_key.trim_start_matches("0x").parse().context("sender key")?;
    let provider = ProviderBuilder::new().wallet(EthereumWallet::from(sender)).connect_http(rpc.parse()?).erased();
    ensure!(provider.get_chain_id().await? == first.chain_id, "{rpc} is not chain {}", first.chain_id);
    let contract = KeyManagement::new(chain.contracts.key_management, &provider);
    let known = contract.keyState(first.key_id).call().await? != 0;
    if !known {
        let digests = first
            .digests
            .iter()
            .map(|item| IKeyManagement::KeyDigest { keyType: item.key_type, digest: item.digest.to_vec().into() })
            .collect();
        let receipt = contract
            .registerKey(
                first.prep_keygen_id,
                U256::from_be_bytes(first.key_id.0),
                digests,
                first.extra_data.clone(),
                signed.iter().map(|file| file.signature.clone()).collect(),
            )
            .send()
            .await?
            .with_timeout(Some(Duration::from_secs(120)))
            .get_receipt()
            .await?;
        if !receipt.status() {
            bail!("registering key {} reverted", first.key_id);
        }
    }
    Ok(Registered { key_id: first.key_id, chain_id: first.chain_id, known })
}

fn read(path: &PathBuf) -> Result<KeygenSignature> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("signature file {}", path.display()))
}
