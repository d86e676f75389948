//! The main way of the data.

use std::time::Duration;

use alloy::primitives::U256;
use anyhow::{Result, ensure};
use kms_tests::{
    anvil::Role,
    ballot::Encryptor,
    cluster::Cluster,
    probe::Probe,
    relayer,
    vote::{self, Vote},
};

const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) async fn a_vote_is_counted_on_ciphertexts_and_opened_once(cluster: &mut Cluster) -> Result<()> {
    let contract = Vote::deploy(cluster).await?;
    let encryptor = Encryptor::load(&cluster.public_dir())?;
    for (index, choice) in [true, false, true].into_iter().enumerate() {
        let voter = Role::Voter(index);
        let user = voter.wallet().address();
        let list = encryptor.encrypt_bool(choice, cluster.contracts.access_control, contract.address, user)?;
        let input = vote::post_input(cluster, contract.address, user, &list).await?;
        contract.cast(cluster, voter, &input).await?;
    }
    let id = contract.close(cluster, U256::from(1000)).await?;
    ensure!(contract.wait_for_result(cluster, PATIENCE).await? == 2, "wrong tally");

    let timeline = relayer::wait_for_stage(&cluster.relayer_url, &id.to_string(), &["done"], PATIENCE).await?;
    ensure!(timeline.signers.len() >= 3, "fewer than three signers: {timeline:?}");
    for stage in ["seen", "final", "dispatched", "quorum", "submitting", "mined", "done"] {
        ensure!(timeline.timeline.iter().any(|entry| entry.stage == stage), "no stage {stage} in {timeline:#?}");
    }
    ensure!(Probe::fulfilments(cluster, id).await?.len() == 1, "not exactly one fulfilment");
    let shown = cluster.kms(&["status", &id.to_string(), "--relayer", &cluster.relayer_url])?;
    ensure!(shown.contains("done"), "kms status says {shown}");
    let manifest = cluster.path("manifest.json").display().to_string();
    let client = cluster.path("clients/operator").display().to_string();
    let report = cluster.kms(&[
        "--json",
        "doctor",
        "--manifest",
        &manifest,
        "--client",
        &client,
        "--rpc",
        &cluster.anvil.url(),
        "--relayer",
        &cluster.relayer_url,
        "--coprocessor",
        &cluster.coprocessor_url,
    ])?;
    ensure!(report.contains("\"healthy\":true"), "doctor says {report}");
    Ok(())
}

pub(crate) async fn a_ballot_counts_once_however_often_it_is_posted(cluster: &mut Cluster) -> Result<()> {
    let contract = Vote::deploy(cluster).await?;
    let encryptor = Encryptor::load(&cluster.public_dir())?;
    let voter = Role::Voter(0);
    let user = voter.wallet().address();
    let list = encryptor.encrypt_bool(true, cluster.contracts.access_control, contract.address, user)?;
    let first = vote::post_input(cluster, contract.address, user, &list).await?;
    let second = vote::post_input(cluster, contract.address, user, &list).await?;
    ensure!(
        first.handles == second.handles && first.input_proof == second.input_proof,
        "a repeated post gave another answer"
    );
    contract.cast(cluster, voter, &first).await?;
    ensure!(contract.cast(cluster, voter, &second).await.is_err(), "the same voter voted twice");
    contract.close(cluster, U256::ZERO).await?;
    ensure!(contract.wait_for_result(cluster, PATIENCE).await? == 1, "wrong tally");
    Ok(())
}
