//! Parties that are down.

use std::time::Duration;

use alloy::primitives::U256;
use anyhow::{Result, ensure};
use kms_chain::FheType;
use kms_tests::{cluster::Cluster, probe::Probe, relayer};

const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) async fn one_party_down_and_everything_is_answered(cluster: &mut Cluster) -> Result<()> {
    let mut probe = Probe::deploy(cluster).await?;
    for down in 0..cluster.parties.len() {
        cluster.parties[down].kill();
        let value = U256::from(1000 + down);
        let handles = probe.make(cluster, &[value], FheType::Uint64).await?;
        let asked = probe.ask(cluster, &handles, 3).await?;
        ensure!(probe.wait_for_answer(cluster, asked.id, PATIENCE).await? == [value], "wrong value");
        cluster.heal().await?;
    }
    Ok(())
}

pub(crate) async fn two_parties_down_and_requests_wait_until_one_returns(cluster: &mut Cluster) -> Result<()> {
    let mut probe = Probe::deploy(cluster).await?;
    let values = [U256::from(31), U256::from(32)];
    let handles = probe.make(cluster, &values, FheType::Uint16).await?;
    cluster.parties[1].kill();
    cluster.parties[3].kill();
    let asked = probe.ask(cluster, &handles, 3).await?;
    tokio::time::sleep(Duration::from_secs(8)).await;
    ensure!(Probe::fulfilments(cluster, asked.id).await?.is_empty(), "answered without a quorum");
    let waiting = relayer::timeline(&cluster.relayer_url, &asked.id.to_string()).await?;
    let waiting = waiting.ok_or_else(|| anyhow::anyhow!("the relayer does not know the request"))?;
    ensure!(
        !["done", "refused", "expired", "cancelled", "orphaned"].contains(&waiting.stage.as_str()),
        "the request ended as {}",
        waiting.stage
    );
    cluster.parties[3].restart()?;
    ensure!(probe.wait_for_answer(cluster, asked.id, PATIENCE).await? == values, "wrong values");
    Ok(())
}
