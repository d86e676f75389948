//! A contract written only against the npm package of the ecosystem.

use std::time::Duration;

use alloy::{
    primitives::{B256, Bytes},
    sol,
    sol_types::SolValue,
};
use anyhow::{Context, Result, ensure};
use kms_tests::{
    anvil::Role,
    ballot::Encryptor,
    cluster::Cluster,
    vote::{self},
};

sol! {
    #[sol(rpc)]
    interface IEcosystemVote {
        function vote(bytes32 ballot, bytes calldata inputProof) external;
        function close() external;
        function resolve(bytes calldata cleartexts, bytes calldata decryptionProof) external;
        function tally() external view returns (bytes32);
        function result() external view returns (uint64);
        function decided() external view returns (bool);
    }
}

const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));

pub(crate) async fn a_contract_of_the_ecosystem_package_runs_unchanged(cluster: &mut Cluster) -> Result<()> {
    let deployer = cluster.anvil.provider_as(Role::Deployer)?;
    let c = &cluster.contracts;
    let args = (c.access_control, c.fhe_executor, c.kms_verifier).abi_encode_params();
    let address = vote::deploy(&deployer, "EcosystemVote", args).await?;
    let encryptor = Encryptor::load(&cluster.public_dir())?;
    for (index, choice) in [true, true, false].into_iter().enumerate() {
        let voter = Role::Voter(index);
        let user = voter.wallet().address();
        let list = encryptor.encrypt_bool(choice, cluster.contracts.access_control, address, user)?;
        let input = vote::post_input(cluster, address, user, &list).await?;
        let ballot: B256 = *input.handles.first().context("no handle")?;
        let provider = cluster.anvil.provider_as(voter)?;
        let sent = IEcosystemVote::new(address, &provider).vote(ballot, input.input_proof).send().await?;
        ensure!(sent.with_timeout(PATIENCE).get_receipt().await?.status(), "the vote reverted");
    }
    let contract = IEcosystemVote::new(address, &deployer);
    ensure!(contract.close().send().await?.with_timeout(PATIENCE).get_receipt().await?.status(), "closing reverted");
    let tally: B256 = contract.tally().call().await?;

    // The operator's tool pulls value and proof from the parties; anybody may submit them.
    let answer = cluster.kms(&[
        "--json",
        "decrypt",
        "--manifest",
        &cluster.path("manifest.json").display().to_string(),
        "--client",
        &cluster.path("clients/operator").display().to_string(),
        "--rpc",
        &cluster.anvil.url(),
        "--handle",
        &tally.to_string(),
    ])?;
    let answer: serde_json::Value = serde_json::from_str(&answer)?;
    ensure!(answer["values"][0] == "2", "kms decrypt says {answer}");
    let bytes = |name: &str| -> Result<Bytes> { Ok(answer[name].as_str().context("missing field")?.parse()?) };
    let (cleartexts, proof) = (bytes("cleartexts")?, bytes("proof")?);
    let mut wrong = cleartexts.to_vec();
    wrong[31] = 3;
    ensure!(contract.resolve(wrong.into(), proof.clone()).call().await.is_err(), "an altered cleartext was accepted");
    let resolved = contract.resolve(cleartexts, proof).send().await?.with_timeout(PATIENCE).get_receipt().await?;
    ensure!(resolved.status(), "resolving reverted");
    ensure!(contract.result().call().await? == 2 && contract.decided().call().await?, "wrong result on chain");

    // The same through the relayer's HTTP API.
    let relayed = pull_through_relayer(cluster, tally).await?;
    ensure!(relayed.trim_start_matches("0x").trim_start_matches('0') == "2", "the relayer's value is {relayed}");
    Ok(())
}

async fn pull_through_relayer(cluster: &Cluster, handle: B256) -> Result<String> {
    let client = reqwest::Client::new();
    let url = format!("{}/v2/public-decrypt", cluster.relayer_url);
    let body = serde_json::json!({ "ciphertextHandles": [handle], "extraData": "0x00" });
    let posted = client.post(&url).json(&body).send().await?;
    ensure!(posted.status() == 202, "POST answered {}", posted.status());
    let posted: serde_json::Value = posted.json().await?;
    let job = posted["result"]["jobId"].as_str().context("no job id")?.to_owned();
    for _ in 0..600 {
        let answer = client.get(format!("{url}/{job}")).send().await?;
        if answer.status() == 200 {
            let answer: serde_json::Value = answer.json().await?;
            return Ok(answer["result"]["decryptedValue"].as_str().context("no value")?.to_owned());
        }
        ensure!(answer.status() == 202, "GET answered {}: {}", answer.status(), answer.text().await?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("the relayer did not answer the pull")
}
