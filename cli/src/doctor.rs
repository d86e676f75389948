//! `kms doctor`: every part of a deployment checked from outside, one row each.

use std::{
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use alloy::{
    eips::BlockNumberOrTag,
    providers::{DynProvider, Provider},
};
use anyhow::Result;
use clap::Args as ClapArgs;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use kms_chain::{B256, abi::KmsVerifier, manifest::HostChain, manifest::Manifest};
use serde::Serialize;

use crate::{clients, manifest};

/// A chain whose newest block is older than this is stuck.
const STALE_BLOCK_SECONDS: u64 = 120;

/// Arguments of `kms doctor`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The cluster manifest.
    #[arg(long)]
    manifest: PathBuf,
    /// Folder with cert.pem and key.pem of a client that the parties admit; parties are not asked without it.
    #[arg(long)]
    client: Option<PathBuf>,
    /// JSON-RPC endpoint; give it once per chain of the manifest.
    #[arg(long = "rpc")]
    rpc: Vec<String>,
    /// Base URL of a relayer.
    #[arg(long)]
    relayer: Option<String>,
    /// Base URL of a coprocessor.
    #[arg(long)]
    coprocessor: Option<String>,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, but somebody should look.
    Warning,
    /// Does not work.
    Failed,
}

/// One row.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What was looked at.
    pub part: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, and what to do.
    pub detail: String,
}

/// The whole table.
#[derive(Debug, Default)]
pub struct Report {
    checks: Vec<Check>,
}

impl Report {
    /// Whether nothing failed.
    pub fn healthy(&self) -> bool {
        self.checks.iter().all(|check| check.verdict != Verdict::Failed)
    }

    /// As text or JSON.
    ///
    /// # Errors
    /// Never in practice: all rows serialise.
    pub fn render(&self, json: bool) -> Result<String> {
        if json {
            return Ok(format!("{}\n", serde_json::json!({ "healthy": self.healthy(), "checks": self.checks })));
        }
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED).set_header(["part", "", "found"]);
        for check in &self.checks {
            let mark = match check.verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "LOOK",
                Verdict::Failed => "FAILED",
            };
            table.add_row([check.part.as_str(), mark, check.detail.as_str()]);
        }
        Ok(format!("{table}\n{}\n", if self.healthy() { "All is well." } else { "Something is wrong." }))
    }

    fn add(&mut self, part: impl Into<String>, verdict: Verdict, detail: impl Into<String>) {
        self.checks.push(Check { part: part.into(), verdict, detail: detail.into() });
    }

    fn ok_if(&mut self, good: bool, part: &str, detail: impl Into<String>) {
        self.add(part, if good { Verdict::Ok } else { Verdict::Failed }, detail);
    }
}

/// Makes all checks; a check that fails is a row, not an error.
///
/// # Errors
/// The manifest or the client certificate can't be read.
pub async fn run(args: &Args) -> Result<Report> {
    let manifest = manifest::read(&args.manifest)?;
    let mut report = Report::default();
    let committee = &manifest.committee;
    report.add(
        "manifest",
        Verdict::Ok,
        format!(
            "{} parties, t = {}, {} sign, context {}",
            committee.n, committee.t, committee.threshold, committee.context_id
        ),
    );
    let mut active = None;
    for url in &args.rpc {
        active = chain(&mut report, &manifest, url).await.or(active);
    }
    for chain in &manifest.chains {
        let part = format!("chain {}", chain.chain_id);
        if !report.checks.iter().any(|check| check.part.starts_with(&part)) {
            report.add(part, Verdict::Warning, "not looked at: give its endpoint with --rpc");
        }
    }
    if let Some(dir) = &args.client {
        parties(&mut report, &manifest, dir, active).await?;
    } else {
        report.add("parties", Verdict::Warning, "not asked: give a client certificate with --client");
    }
    for (part, url, path) in [("relayer", &args.relayer, "readyz"), ("coprocessor", &args.coprocessor, "healthz")] {
        if let Some(url) = url {
            service(&mut report, part, url, path).await;
        }
    }
    Ok(report)
}

async fn chain(report: &mut Report, manifest: &Manifest, url: &str) -> Option<B256> {
    let provider = match clients::provider(url) {
        Ok(provider) => provider,
        Err(error) => {
            report.add(url, Verdict::Failed, error.to_string());
            return None;
        }
    };
    let chain_id = match provider.get_chain_id().await {
        Ok(chain_id) => chain_id,
        Err(error) => {
            report.add(url, Verdict::Failed, format!("does not answer: {error}"));
            return None;
        }
    };
    let Some(chain) = manifest.chain(chain_id) else {
        report.add(url, Verdict::Failed, format!("is chain {chain_id}, which the manifest does not have"));
        return None;
    };
    let part = format!("chain {chain_id}");
    head(report, &part, &provider).await;
    contracts(report, &part, &provider, manifest, chain).await;
    match clients::active_key(&provider, manifest, chain_id).await {
        Ok((key, epoch)) => {
            report.add(format!("{part} key"), Verdict::Ok, format!("{key} is active, epoch {epoch}"));
            Some(key)
        }
        Err(error) => {
            report.add(format!("{part} key"), Verdict::Failed, error.to_string());
            None
        }
    }
}

async fn head(report: &mut Report, part: &str, provider: &DynProvider) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    match provider.get_block_by_number(BlockNumberOrTag::Latest).await {
        Ok(Some(block)) => {
            let (number, age) = (block.header.number, now.saturating_sub(block.header.timestamp));
            let verdict = if age > STALE_BLOCK_SECONDS { Verdict::Warning } else { Verdict::Ok };
            report.add(part, verdict, format!("block {number}, {age} s old"));
        }
        Ok(None) => report.add(part, Verdict::Failed, "has no latest block"),
        Err(error) => report.add(part, Verdict::Failed, format!("no latest block: {error}")),
    }
    if provider.get_block_by_number(BlockNumberOrTag::Finalized).await.ok().flatten().is_none() {
        report.add(
            format!("{part} finality"),
            Verdict::Warning,
            "names no finalized block: requests with that finality would wait",
        );
    }
}

async fn contracts(report: &mut Report, part: &str, provider: &DynProvider, manifest: &Manifest, chain: &HostChain) {
    let c = &chain.contracts;
    let all = [
        ("AccessControl", c.access_control),
        ("FheExecutor", c.fhe_executor),
        ("InputVerifier", c.input_verifier),
        ("CiphertextRegistry", c.ciphertext_registry),
        ("KmsVerifier", c.kms_verifier),
        ("DecryptionGateway", c.decryption_gateway),
        ("GuardLens", c.guard_lens),
        ("KeyManagement", c.key_management),
    ];
    let mut missing = Vec::new();
    for (name, address) in all {
        if provider.get_code_at(address).await.map_or(true, |code| code.is_empty()) {
            missing.push(format!("{name} at {address}"));
        }
    }
    let found =
        if missing.is_empty() { "all have code".to_owned() } else { format!("no code: {}", missing.join(", ")) };
    report.ok_if(missing.is_empty(), &format!("{part} contracts"), found);
    let part = format!("{part} context");
    match KmsVerifier::new(c.kms_verifier, provider).currentContextId().call().await {
        Ok(current) if current == manifest.committee.context_id => report.add(part, Verdict::Ok, "is this committee's"),
        Ok(current) => report.add(part, Verdict::Failed, format!("is {current}, not this committee's")),
        Err(error) => report.add(part, Verdict::Failed, format!("can't be read: {error}")),
    }
}

async fn parties(report: &mut Report, manifest: &Manifest, dir: &std::path::Path, active: Option<B256>) -> Result<()> {
    let parties = clients::parties(manifest, dir)?;
    let n = manifest.committee.n;
    let mut serving = 0;
    for (index, health) in parties.health_all().await {
        let part = format!("party {index}");
        match health {
            Ok(health) => {
                let connected = health.peers.iter().filter(|peer| peer.connected).count();
                let usable =
                    active.is_none_or(|key| health.usable_keys.iter().any(|id| id.as_slice() == key.as_slice()));
                let all_links = connected + 1 == n as usize;
                let ready = health.phase.eq_ignore_ascii_case("ready");
                let verdict = match (ready && usable, all_links) {
                    (true, true) => Verdict::Ok,
                    (true, false) => Verdict::Warning,
                    (false, _) => Verdict::Failed,
                };
                serving += u32::from(ready && usable);
                let share = if usable { "" } else { ", no usable share of the active key" };
                let waits = match health.waiting_for.as_str() {
                    "" => String::new(),
                    what => format!(", {what}"),
                };
                let links = format!("{connected} of {} peers connected", n - 1);
                report.add(part, verdict, format!("{}, {links}{share}{waits}", health.phase));
            }
            Err(error) => report.add(part, Verdict::Warning, error.to_string()),
        }
    }
    let threshold = manifest.committee.threshold;
    let headroom = i64::from(serving) - i64::from(threshold);
    let detail = format!("{serving} of {n} parties can answer, {threshold} are needed: {headroom} more may fail");
    report.add(
        "quorum",
        if headroom < 0 {
            Verdict::Failed
        } else if headroom == 0 {
            Verdict::Warning
        } else {
            Verdict::Ok
        },
        detail,
    );
    Ok(())
}

async fn service(report: &mut Report, part: &str, url: &str, path: &str) {
    match reqwest::get(format!("{}/{path}", url.trim_end_matches('/'))).await {
        Ok(response) if response.status().is_success() => report.add(part, Verdict::Ok, format!("{url} is ready")),
        Ok(response) => {
            let status = response.status();
            let text = response.text().await.unwrap_or_default();
            report.add(
                part,
                Verdict::Failed,
                format!("{url} says {status}: {}", text.chars().take(200).collect::<String>()),
            );
        }
        Err(error) => report.add(part, Verdict::Failed, format!("{url} does not answer: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Report, Verdict};

    #[test]
    fn a_failed_row_makes_the_report_unhealthy_and_a_warning_does_not() {
        let mut report = Report::default();
        report.add("a", Verdict::Ok, "fine");
        report.add("b", Verdict::Warning, "look");
        assert!(report.healthy());
        report.add("c", Verdict::Failed, "broken");
        assert!(!report.healthy());
        let json: serde_json::Value = serde_json::from_str(&report.render(true).unwrap()).unwrap();
        assert_eq!(json["healthy"], false);
        assert_eq!(json["checks"][2]["verdict"], "failed");
    }
}
