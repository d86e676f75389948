//! `kms manifest`: from cards to a committee, and from a deployment to a full manifest.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use kms_chain::{
    Address, B256,
    context::usual_threshold,
    manifest::{Card, DecryptionDomain, Deployment, HostChain, Manifest},
};

/// What to do with a manifest.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Join cards; party i is the i-th card. Contracts are deployed with the context this prints.
    New {
        /// A party's card; give it once per party, in order.
        #[arg(long = "card", required = true)]
        cards: Vec<PathBuf>,
        /// Parties that may be malicious, at least 1; n must be at least 3t+1, and at most 31.
        #[arg(long)]
        t: u32,
        /// Signatures that make an answer; 2t+1 if not given.
        #[arg(long)]
        threshold: Option<u32>,
        /// Makes two committees of the same members different; random if not given.
        #[arg(long)]
        salt: Option<B256>,
        /// Where to write the manifest.
        #[arg(long)]
        out: PathBuf,
    },
    /// Add a host chain, as its deployment file describes it.
    AddChain {
        /// The manifest to extend.
        #[arg(long)]
        manifest: PathBuf,
        /// What `script/deploy` wrote.
        #[arg(long)]
        deployment: PathBuf,
        /// Least finality the parties accept: 0 latest, 1–1000 blocks, 65534 safe, 65535 finalized.
        #[arg(long)]
        finality_floor: u16,
        /// Where to write the result; over the input if not given.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Check a manifest and show its committee.
    Show {
        /// The manifest.
        #[arg(long)]
        manifest: PathBuf,
    },
}

/// Reads and checks a manifest file.
///
/// # Errors
/// It can't be read or breaks a rule; the error names the file.
pub fn read(path: &Path) -> Result<Manifest> {
    let bytes = fs::read(path).with_context(|| format!("read manifest {}", path.display()))?;
    Manifest::parse(&bytes).with_context(|| format!("manifest {}", path.display()))
}

/// Runs the command and returns what to print.
///
/// # Errors
/// A file can't be read or written, or breaks a rule.
pub fn run(command: &Command, json: bool) -> Result<String> {
    match command {
        Command::New { cards, t, threshold, salt, out } => {
            let cards = cards.iter().map(|path| read_card(path)).collect::<Result<Vec<_>>>()?;
            let threshold = match threshold {
                Some(threshold) => *threshold,
                None => usual_threshold(cards.len(), *t)?,
            };
            let salt = salt.unwrap_or_else(|| B256::from(rand::random::<[u8; 32]>()));
            // The domain is known once the contracts are; `add-chain` fills it in.
            let unset = DecryptionDomain { chain_id: 0, verifying_contract: Address::ZERO };
            let manifest = Manifest::from_cards(&cards, *t, threshold, salt, unset)?;
            write(out, &manifest)?;
            describe(&manifest, out, json)
        }
        Command::AddChain { manifest: path, deployment, finality_floor, out } => {
            let mut manifest = read(path)?;
            let deployment: Deployment = serde_json::from_slice(&fs::read(deployment)?)
                .with_context(|| format!("deployment {}", deployment.display()))?;
            ensure!(
                deployment.context_id == manifest.committee.context_id,
                "the contracts were deployed with context {}, the manifest's is {}",
                deployment.context_id,
                manifest.committee.context_id
            );
            if manifest.chains.is_empty() {
                manifest.decryption_domain = deployment.decryption_domain;
            }
            ensure!(
                manifest.decryption_domain == deployment.decryption_domain,
                "the decryption domain differs from that of the chains already there"
            );
            manifest.chains.push(HostChain {
                chain_id: deployment.chain_id,
                contracts: deployment.contracts,
                deployment_block: deployment.deployment_block,
                finality_floor: *finality_floor,
            });
            manifest.check()?;
            let out = out.as_ref().unwrap_or(path);
            write(out, &manifest)?;
            describe(&manifest, out, json)
        }
        Command::Show { manifest: path } => describe(&read(path)?, path, json),
    }
}

fn read_card(path: &Path) -> Result<Card> {
    Card::parse(&fs::read(path).with_context(|| format!("read card {}", path.display()))?)
        .with_context(|| format!("card {}", path.display()))
}

fn write(path: &Path, manifest: &Manifest) -> Result<()> {
    fs::write(path, manifest.to_json()? + "\n").with_context(|| format!("write {}", path.display()))
}

fn describe(manifest: &Manifest, path: &Path, json: bool) -> Result<String> {
    let committee = &manifest.committee;
    if json {
        let value = serde_json::json!({
            "manifest": path,
            "contextId": committee.context_id,
            "committeeHash": B256::from(manifest.committee_hash()),
            "n": committee.n, "t": committee.t, "threshold": committee.threshold,
            "chains": manifest.chains.iter().map(|chain| chain.chain_id).collect::<Vec<_>>(),
        });
        return Ok(format!("{value}\n"));
    }
    Ok(format!(
        "{}: {} parties, {} may be malicious, {} sign\ncontext   {}\ncommittee {}\nchains    {:?}\n",
        path.display(),
        committee.n,
        committee.t,
        committee.threshold,
        committee.context_id,
        B256::from(manifest.committee_hash()),
        manifest.chains.iter().map(|chain| chain.chain_id).collect::<Vec<_>>(),
    ))
}

#[cfg(test)]
mod tests;
