//! `kms status`: where a request is, as the relayer tells.

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use kms_chain::B256;
use serde_json::Value;

use crate::access::Access;

/// Arguments of `kms status`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Request id.
    request_id: B256,
    /// Base URL of a relayer.
    #[arg(long, env = "KMS_RELAYER_URL")]
    relayer: String,
    #[command(flatten)]
    access: Access,
}

/// Asks the relayer and returns what to print.
///
/// # Errors
/// The relayer does not answer, or does not know the request.
pub async fn run(args: &Args, json: bool) -> Result<String> {
    let url = format!("{}/requests/{}", args.relayer.trim_end_matches('/'), args.request_id);
    let response = args.access.client()?.get(&url).send().await.with_context(|| format!("ask {url}"))?;
    if response.status() == reqwest::StatusCode::NOT_FOUND {
        bail!("this relayer has not seen request {}", args.request_id);
    }
    let value: Value = response.error_for_status()?.json().await?;
    if json { Ok(format!("{value}\n")) } else { Ok(render(&value)) }
}

fn render(value: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut out = format!("{}  {}", text(&value["requestId"]), text(&value["stage"]));
    if let Some(waiting) = value["waitingFor"].as_str() {
        out += &format!(", waiting for {waiting}");
    }
    out.push('\n');
    let mut last: Option<i64> = None;
    for entry in value["timeline"].as_array().into_iter().flatten() {
        let at = entry["at"].as_i64().unwrap_or_default();
        let step = last.map_or(0, |before| at - before);
        last = Some(at);
        out += &format!("  {:<12} +{step:>6} ms  {}\n", text(&entry["stage"]), text(&entry["detail"]));
    }
    for party in value["parties"].as_array().into_iter().flatten() {
        let index = party["index"].as_u64().unwrap_or_default();
        out += &format!("  party {index:<6} {}  {}\n", text(&party["status"]), text(&party["detail"]));
    }
    for transaction in value["transactions"].as_array().into_iter().flatten() {
        out += &format!("  transaction  {}  {}\n", text(&transaction["hash"]), text(&transaction["state"]));
    }
    if let Some(cleartexts) = value["cleartexts"].as_str() {
        out += &format!("  cleartexts   {cleartexts}\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn a_timeline_shows_stage_steps_parties_and_what_it_waits_for() {
        let shown = render(&serde_json::json!({
            "requestId": "0x12", "stage": "dispatched", "waitingFor": "3 of 3 signatures",
            "timeline": [{"stage": "seen", "at": 1000, "detail": null}, {"stage": "final", "at": 1250, "detail": "block 7"}],
            "parties": [{"index": 2, "status": "refused", "detail": "not permitted"}],
            "transactions": [], "cleartexts": null,
        }));
        assert!(shown.starts_with("0x12  dispatched, waiting for 3 of 3 signatures\n"));
        assert!(shown.contains("final        +   250 ms  block 7"));
        assert!(shown.contains("party 2      refused  not permitted"));
    }
}
