//! `kms register-key`: bring the parties' signatures over a key to the chain.

use std::{fs, path::PathBuf, time::Duration};

use alloy::{
    network::EthereumWallet,
    primitives::U256,
    providers::{Provider, ProviderBuilder},
    signers::local::PrivateKeySigner,
};
use anyhow::{Context, Result, bail, ensure};
use clap::Args as ClapArgs;
use kms_chain::abi::{IKeyManagement, KeyManagement};
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

/// Registers the key, unless the chain knows it already; returns what to print.
///
/// # Errors
/// The parties signed different things, too few signed, or the contract reverts.
pub async fn run(args: &Args, json: bool) -> Result<String> {
    let manifest = manifest::read(&args.manifest)?;
    let signed = args.signatures.iter().map(read).collect::<Result<Vec<_>>>()?;
    let first = &signed[0];
    for other in &signed {
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
    let sender: PrivateKeySigner = args.sender_key.trim_start_matches("0x").parse().context("sender key")?;
    let provider = ProviderBuilder::new().wallet(EthereumWallet::from(sender)).connect_http(args.rpc.parse()?).erased();
    ensure!(provider.get_chain_id().await? == first.chain_id, "{} is not chain {}", args.rpc, first.chain_id);
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
    if json {
        let value = serde_json::json!({ "keyId": first.key_id, "chainId": first.chain_id, "alreadyKnown": known });
        return Ok(format!("{value}\n"));
    }
    let what = if known { "was registered already" } else { "is registered and active" };
    Ok(format!("key {} {what} on chain {}\n", first.key_id, first.chain_id))
}

fn read(path: &PathBuf) -> Result<KeygenSignature> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("signature file {}", path.display()))
}
