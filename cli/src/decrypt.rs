//! `kms decrypt`: pull a publicly decryptable value from the parties, with a proof that any contract can check.

use std::{path::PathBuf, time::Duration};

use alloy::providers::Provider;
use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use kms_chain::{B256, extra_data::ExtraData, handle::Handle};
use kms_client::{Question, transport::Collected};

use crate::{clients, manifest};

/// Arguments of `kms decrypt`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The cluster manifest.
    #[arg(long)]
    manifest: PathBuf,
    /// Folder with cert.pem and key.pem of a client that the parties admit.
    #[arg(long)]
    client: PathBuf,
    /// JSON-RPC endpoint of the handles' chain.
    #[arg(long)]
    rpc: String,
    /// A handle; give it once per value.
    #[arg(long = "handle", required = true)]
    handles: Vec<B256>,
    /// Seconds to wait for a quorum.
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

/// Asks all parties and returns what to print.
///
/// # Errors
/// No quorum in time, or the parties refuse; the error says what each said.
pub async fn run(args: &Args, json: bool) -> Result<String> {
    let manifest = manifest::read(&args.manifest)?;
    let parties = clients::parties(&manifest, &args.client)?;
    let provider = clients::provider(&args.rpc)?;
    let chain_id = provider.get_chain_id().await?;
    let (_, epoch) = clients::active_key(&provider, &manifest, chain_id).await?;
    let extra_data = ExtraData::V1 { context: manifest.committee.context_id }.encode();
    let question = Question::public(&manifest.committee, chain_id, &args.handles, &extra_data, epoch)?;
    let collected = parties.collect(&question, tokio::time::Instant::now() + Duration::from_secs(args.patience)).await;
    let Some(decryption) = &collected.decryption else {
        bail!("no quorum for {}:\n{}", question.id(), what_parties_said(&collected));
    };
    let values = decryption.values();
    let proof = hex::encode(decryption.proof.encode()?);
    if json {
        let value = serde_json::json!({
            "requestId": question.id(),
            "values": values.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "cleartexts": decryption.cleartexts,
            "proof": format!("0x{proof}"),
            "signers": decryption.signers,
        });
        return Ok(format!("{value}\n"));
    }
    let mut out = String::new();
    for (handle, value) in args.handles.iter().zip(&values) {
        let ty = Handle::parse(*handle).map_or_else(|_| "?".into(), |handle| format!("{:?}", handle.fhe_type()));
        out += &format!("{handle}  {}  {value}\n", ty.to_lowercase());
    }
    out +=
        &format!("cleartexts {}\nproof      0x{proof}\nsigned by  {:?}\n", decryption.cleartexts, decryption.signers);
    Ok(out)
}

fn what_parties_said(collected: &Collected) -> String {
    let said = collected.outcomes.iter().map(|(index, outcome)| match outcome {
        Ok(outcome) => format!("  party {index}: {outcome:?}"),
        Err(error) => format!("  party {index}: {error}"),
    });
    said.collect::<Vec<_>>().join("\n")
}
