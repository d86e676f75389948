//! Parties that lie.

use std::time::{Duration, Instant};

use alloy::primitives::U256;
use anyhow::{Result, ensure};
use kms_chain::FheType;
use kms_tests::{cluster::Cluster, parties, probe::Probe};

const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) async fn a_lying_party_is_outvoted_and_named(cluster: &mut Cluster) -> Result<()> {
    let mut probe = Probe::deploy(cluster).await?;
    for (value, behaviour) in [(21, "wrong-share"), (22, "garbage"), (23, "silent")] {
        let honest = cluster.parties[1].args().to_vec();
        cluster.parties[1].kill();
        cluster.parties[1].push_args(&["--insecure-misbehave", behaviour]);
        cluster.parties[1].restart()?;
        cluster.heal().await?;
        linked(cluster).await?;
        let outcome = one_answer(cluster, &mut probe, value, behaviour != "silent").await;
        cluster.parties[1].kill();
        cluster.parties[1].set_args(honest);
        cluster.heal().await?;
        outcome.map_err(|error| error.context(format!("with a party that does {behaviour}")))?;
    }
    Ok(())
}

/// Waits until party 1 has its link to party 2 again: until then party 2 would only be late, whatever it sends.
async fn linked(cluster: &Cluster) -> Result<()> {
    let clients = parties::operator(cluster)?;
    let deadline = Instant::now() + PATIENCE;
    while !clients.health(1).await?.peers.iter().any(|peer| peer.index == 2 && peer.connected) {
        ensure!(Instant::now() < deadline, "party 1 does not reach party 2");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// The answer is right, and the final receipts of the honest parties name party 2 if it lied, and only count it if it was silent.
async fn one_answer(cluster: &mut Cluster, probe: &mut Probe, value: u64, lies: bool) -> Result<()> {
    let handles = probe.make(cluster, &[U256::from(value)], FheType::Uint32).await?;
    let asked = probe.ask(cluster, &handles, 1).await?;
    ensure!(probe.wait_for_answer(cluster, asked.id, PATIENCE).await? == [U256::from(value)], "wrong value");
    let clients = parties::operator(cluster)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    let receipt = loop {
        if let Some(receipt) = clients.get_status(1, asked.id).await?.receipt {
            break receipt;
        }
        ensure!(Instant::now() < deadline, "party 1 has no final receipt");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let wrong = U256::try_from_be_slice(&receipt.wrong).unwrap_or_default();
    let late = U256::try_from_be_slice(&receipt.late).unwrap_or_default();
    let party_two = U256::from(0b10);
    if lies {
        ensure!(wrong == party_two, "the receipt names {wrong:b} as wrong");
        let metrics = reqwest::get(format!("{}/metrics", cluster.party_metrics[0])).await?.text().await?;
        let named = metrics.lines().any(|line| {
            line.contains("wrong") && line.contains("peer=\"2\"") && !line.ends_with(" 0") && !line.starts_with('#')
        });
        ensure!(named, "the metrics of party 1 don't name party 2");
    } else {
        ensure!(wrong.is_zero(), "a silent party was called wrong: {wrong:b}");
        ensure!(late & party_two == party_two, "the silent party was not counted as late: {late:b}");
    }
    Ok(())
}
