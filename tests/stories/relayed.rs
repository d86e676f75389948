//! A user's shares through a relayer that is killed in between.

use std::time::{Duration, Instant};

use alloy::primitives::{B256, Bytes, U256};
use anyhow::{Context, Result, bail, ensure};
use kms_client::user::{UserDecryption, UserRequest, UserResponse};
use kms_tests::{anvil::Role, cluster::Cluster, parties, token::Token, user::Asking};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(120);
const ALICE: Role = Role::Voter(0);
const BOB: Role = Role::Voter(1);

fn body(request: &UserRequest) -> Value {
    let permit = &request.permit;
    let pairs: Vec<Value> =
        request.pairs.iter().map(|pair| json!({ "handle": pair.handle, "contractAddress": pair.contract })).collect();
    json!({
        "handleContractPairs": pairs,
        "requestValidity": { "startTimestamp": permit.start.to_string(), "durationDays": permit.days.to_string() },
        "contractsChainId": request.host_chain_id.to_string(),
        "contractAddresses": permit.contracts,
        "userAddress": permit.user,
        "signature": request.signature,
        "publicKey": permit.public_key,
        "extraData": permit.extra_data,
    })
}

async fn post(cluster: &Cluster, request: &UserRequest) -> Result<(u16, Value)> {
    let post = reqwest::Client::new().post(format!("{}/v2/user-decrypt", cluster.relayer_url));
    let response = post.header("content-type", "application/json").body(body(request).to_string()).send().await?;
    let status = response.status().as_u16();
    Ok((status, serde_json::from_str(&response.text().await?)?))
}

/// Reads until the relayer has so many shares, and adds them. A relayer that is down for a moment is waited for.
async fn collect(cluster: &Cluster, id: B256, reader: &mut UserDecryption, wanted: usize) -> Result<bool> {
    let url = format!("{}/v2/user-decrypt/{id}", cluster.relayer_url);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Ok(response) = reqwest::get(&url).await {
            let status = response.status().as_u16();
            let answer: Value = serde_json::from_str(&response.text().await?)?;
            ensure!(matches!(status, 200 | 202), "{answer}");
            let shares = answer["result"]["shares"].as_array().cloned().unwrap_or_default();
            if shares.len() >= wanted {
                for share in &shares {
                    let field = |name: &str| -> Result<Bytes> { Ok(share[name].as_str().context("a field")?.parse()?) };
                    reader.add(&UserResponse {
                        share: field("share")?,
                        signature: field("signature")?,
                        extra_data: field("extraData")?,
                    })?;
                }
                return answer["result"]["collecting"].as_bool().context("collecting");
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("there are no {wanted} shares in time")
}

fn kill_relayer(cluster: &mut Cluster) -> Result<()> {
    let relayer = cluster.relayer.as_mut().context("a relayer")?;
    relayer.kill();
    relayer.restart()
}

pub(crate) async fn shares_outlive_the_relayer_that_collected_them(cluster: &mut Cluster) -> Result<()> {
    let token = Token::deploy(cluster).await?;
    let alice = ALICE.wallet().address();
    token.mint(cluster, alice, 77).await?;
    let handle = token.balance(cluster, alice).await?;
    cluster.parties[3].kill();
    let asking = Asking::new(cluster, ALICE, token.address, &[handle], |_| ()).await?;
    let request = asking.request.clone();
    let mut reader = asking.reader(cluster)?;
    let id = request.id(parties::manifest(cluster)?.decryption_domain.verifying_contract);

    // Asked before anything is computed, and killed while it waits for the ciphertext.
    let (status, answer) = post(cluster, &request).await?;
    ensure!(status == 202 && answer["result"]["jobId"] == json!(id), "{status}: {answer}");
    kill_relayer(cluster)?;
    ensure!(collect(cluster, id, &mut reader, 3).await?, "with one party missing it collects on");
    let result = reader.reconstruct()?;
    let (_, value) = result.values.first().context("no value")?;
    ensure!(U256::from_be_bytes(value.value().0) == U256::from(77), "{result:?}");
    ensure!(result.progress.missing.to_string() == "4", "{result:?}");

    // Its id is no way around the signature.
    let mut forged = Asking::new(cluster, BOB, token.address, &[handle], |permit| permit.user = alice).await?.request;
    forged.permit = request.permit.clone();
    let (status, answer) = post(cluster, &forged).await?;
    ensure!(status == 400 && answer["error"]["label"] == "WrongSigner", "{status}: {answer}");

    // The last share comes to the next process.
    kill_relayer(cluster)?;
    cluster.heal().await?;
    collect(cluster, id, &mut reader, 4).await?;
    let result = reader.reconstruct()?;
    ensure!(result.agreeing.len() == 4 && result.progress.missing.is_empty(), "{result:?}");
    Ok(())
}
