//! What a user sees of the relayer: the public timeline of a request.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// `GET /requests/{id}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// Request id, hex.
    pub request_id: String,
    /// Present stage.
    pub stage: String,
    /// What it waits for, if anything.
    pub waiting_for: Option<String>,
    /// All stages so far.
    pub timeline: Vec<Entry>,
    /// What each party said.
    #[serde(default)]
    pub parties: Vec<PartyEntry>,
    /// Transactions sent for it.
    #[serde(default)]
    pub transactions: Vec<TransactionEntry>,
    /// ABI-encoded cleartexts, hex, once known.
    pub cleartexts: Option<String>,
    /// Addresses whose signatures were posted.
    #[serde(default)]
    pub signers: Vec<String>,
    /// First share sent to quorum of signatures, milliseconds.
    pub mpc_ms: Option<f64>,
}

/// A stage that was reached.
#[derive(Debug, Clone, Deserialize)]
pub struct Entry {
    /// Stage name.
    pub stage: String,
    /// Unix time in milliseconds.
    pub at: i64,
    /// Anything worth saying.
    pub detail: Option<String>,
}

/// One party's part.
#[derive(Debug, Clone, Deserialize)]
pub struct PartyEntry {
    /// Party index.
    pub index: u64,
    /// answered, not-yet, refused, …
    pub status: String,
    /// Anything worth saying.
    pub detail: Option<String>,
}

/// A transaction.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransactionEntry {
    /// Hash, hex.
    pub hash: String,
    /// State.
    pub state: String,
    /// Gas, once mined.
    pub gas_used: Option<u64>,
}

/// Reads a request's timeline; `None` while the relayer has not seen it.
///
/// # Errors
/// The relayer does not answer, or with something else.
pub async fn timeline(relayer_url: &str, request_id: &str) -> Result<Option<Timeline>> {
    let response = reqwest::get(format!("{relayer_url}/requests/{request_id}")).await?;
    if response.status().as_u16() == 404 {
        return Ok(None);
    }
    let text = response.error_for_status()?.text().await?;
    serde_json::from_str(&text).with_context(|| format!("timeline: {text}")).map(Some)
}

/// Waits until a request reaches one of `stages`.
///
/// # Errors
/// It does not within `patience`; the error shows the last timeline.
pub async fn wait_for_stage(
    relayer_url: &str,
    request_id: &str,
    stages: &[&str],
    patience: Duration,
) -> Result<Timeline> {
    let deadline = Instant::now() + patience;
    let mut last = None;
    while Instant::now() < deadline {
        if let Ok(Some(timeline)) = timeline(relayer_url, request_id).await {
            if stages.contains(&timeline.stage.as_str()) {
                return Ok(timeline);
            }
            last = Some(timeline);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("request {request_id} did not reach {stages:?} within {patience:?}: {last:#?}")
}
