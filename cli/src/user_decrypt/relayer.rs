//! A user decryption through a relayer's HTTP API. What it sends counts for nothing until it is authenticated here.

use std::time::{Duration, Instant};

use alloy::primitives::{B256, Bytes};
use anyhow::{Context, Result, bail, ensure};
use kms_chain::permit::UserRequest;
use kms_client::user::{ReconstructError, Reconstruction, UserDecryption, UserResponse};
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

/// Most bytes of an answer: two shares of 64 KiB, in hex, for each of 31 parties.
const MAX_ANSWER: usize = 10 << 20;
/// Longest pause between two questions, whatever the relayer says.
const MAX_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize)]
struct Collected {
    shares: Vec<Share>,
    collecting: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Share {
    share: Bytes,
    signature: Bytes,
    extra_data: Bytes,
}

/// Asks until `reader` has the values or `patience` is over; then for as long as `tail` while the relayer collects on.
pub(super) async fn read(
    client: &Client,
    url: &str,
    reader: &mut UserDecryption,
    patience: Duration,
    tail: Duration,
) -> Result<Result<Reconstruction, ReconstructError>> {
    let route = if reader.request().permit.delegator.is_some() { "delegated-user-decrypt" } else { "user-decrypt" };
    let url = format!("{}/v2/{route}", url.trim_end_matches('/'));
    let body = body(reader.request());
    let mut until = Instant::now() + patience;
    let mut decided = false;
    let mut job = post(client, &url, &body).await?;
    loop {
        let answer = client.get(&job).send().await.with_context(|| format!("ask {job}"))?;
        let pause = pause(&answer);
        let mut over = false;
        match answer.status() {
            StatusCode::OK => over = !take(answer, reader).await?,
            StatusCode::ACCEPTED | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {}
            // Given up or forgotten: it collects on when it is asked again.
            StatusCode::GATEWAY_TIMEOUT | StatusCode::NOT_FOUND => over = true,
            _ => bail!("{}", failure(answer).await),
        }
        let result = reader.reconstruct();
        if !decided && !matches!(result, Err(ReconstructError::Undecided(_))) {
            decided = true;
            until = until.min(Instant::now() + tail);
        }
        if decided && over || Instant::now() + pause >= until {
            return Ok(result);
        }
        tokio::time::sleep(pause).await;
        if over {
            job = post(client, &url, &body).await?;
        }
    }
}

/// Asks for the shares; the address where they will be.
async fn post(client: &Client, url: &str, body: &Value) -> Result<String> {
    let posted = client.post(url).json(body).send().await.with_context(|| format!("ask {url}"))?;
    ensure!(posted.status() == StatusCode::ACCEPTED, "{}", failure(posted).await);
    let posted = bounded(posted).await?;
    let job = posted["result"]["jobId"].as_str().and_then(|job| job.parse::<B256>().ok());
    Ok(format!("{url}/{}", job.context("the relayer names no job")?))
}

/// Adds the shares of an answer; whether there may be more of them.
async fn take(answer: Response, reader: &mut UserDecryption) -> Result<bool> {
    let result = bounded(answer).await?["result"].take();
    let collected: Collected = serde_json::from_value(result).context("the relayer's answer makes no sense")?;
    for Share { share, signature, extra_data } in collected.shares {
        // What nobody has signed is no more than noise on the way.
        if let Err(rejected) = reader.add(&UserResponse { share, signature, extra_data }) {
            tracing::warn!(%rejected, "a share of the relayer is nobody's");
        }
    }
    Ok(collected.collecting)
}

fn body(request: &UserRequest) -> Value {
    let permit = &request.permit;
    let pairs = request.pairs.iter();
    let pairs = pairs.map(|pair| json!({ "handle": pair.handle, "contractAddress": pair.contract }));
    let mut body = json!({
        "handleContractPairs": pairs.collect::<Vec<_>>(),
        "requestValidity": {
            "startTimestamp": permit.start.to_string(),
            "durationDays": permit.days.to_string(),
        },
        "contractsChainId": request.host_chain_id.to_string(),
        "contractAddresses": permit.contracts,
        "userAddress": permit.user,
        "signature": request.signature,
        "publicKey": permit.public_key,
        "extraData": permit.extra_data,
    });
    if let Some(delegator) = permit.delegator {
        body["delegatorAddress"] = json!(delegator);
    }
    body
}

/// How long the relayer wants to be left alone.
fn pause(answer: &Response) -> Duration {
    let seconds = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1)).min(MAX_PAUSE)
}

async fn bounded(mut answer: Response) -> Result<Value> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        ensure!(bytes.len() + chunk.len() <= MAX_ANSWER, "the relayer's answer has more than {MAX_ANSWER} bytes");
        bytes.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&bytes).context("the relayer's answer is no JSON")
}

/// The relayer's words.
async fn failure(answer: Response) -> String {
    let status = answer.status();
    let value = bounded(answer).await.unwrap_or_default();
    let text = |name: &str| value["error"][name].as_str().unwrap_or("?").to_owned();
    format!("the relayer answers {status}: {}: {}", text("label"), text("message"))
}
