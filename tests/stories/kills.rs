//! kill −9 in the middle: restart finishes, exactly once.

use std::time::Duration;

use alloy::primitives::U256;
use anyhow::{Result, ensure};
use kms_chain::FheType;
use kms_tests::{
    cluster::Cluster,
    probe::{Asked, Probe},
};

const PATIENCE: Duration = Duration::from_secs(120);
/// Moments of the kill, milliseconds after the request.
const MOMENTS: [u64; 6] = [0, 150, 400, 800, 1300, 2000];

async fn ask_one(cluster: &Cluster, probe: &mut Probe, value: u64) -> Result<Asked> {
    let handles = probe.make(cluster, &[U256::from(value)], FheType::Uint32).await?;
    probe.ask(cluster, &handles, 9).await
}

async fn answered(cluster: &Cluster, probe: &Probe, asked: &Asked, value: u64) -> Result<()> {
    ensure!(probe.wait_for_answer(cluster, asked.id, PATIENCE).await? == [U256::from(value)], "wrong value");
    // Long enough for a second fulfilment to be tried.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    ensure!(Probe::fulfilments(cluster, asked.id).await?.len() == 1, "fulfilled more than once");
    Ok(())
}

pub(crate) async fn a_killed_relayer_finishes_after_restart(cluster: &mut Cluster) -> Result<()> {
    let mut probe = Probe::deploy(cluster).await?;
    for (value, moment) in (50..).zip(MOMENTS) {
        let asked = ask_one(cluster, &mut probe, value).await?;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        if let Some(relayer) = cluster.relayer.as_mut() {
            relayer.kill();
            relayer.restart()?;
        }
        answered(cluster, &probe, &asked, value).await?;
    }
    Ok(())
}

pub(crate) async fn a_killed_coprocessor_finishes_after_restart(cluster: &mut Cluster) -> Result<()> {
    let mut probe = Probe::deploy(cluster).await?;
    for (value, moment) in (70..).zip(MOMENTS) {
        let asked = ask_one(cluster, &mut probe, value).await?;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        if let Some(coprocessor) = cluster.coprocessor.as_mut() {
            coprocessor.kill();
            coprocessor.restart()?;
        }
        answered(cluster, &probe, &asked, value).await?;
    }
    Ok(())
}

pub(crate) async fn a_killed_party_catches_up(cluster: &mut Cluster) -> Result<()> {
    let mut probe = Probe::deploy(cluster).await?;
    for (value, moment) in (90..).zip(MOMENTS) {
        // With party 4 down for good, nothing can be answered without the one that is killed and comes back.
        cluster.parties[3].kill();
        let asked = ask_one(cluster, &mut probe, value).await?;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        cluster.parties[0].kill();
        cluster.parties[0].restart()?;
        answered(cluster, &probe, &asked, value).await?;
        cluster.heal().await?;
    }
    Ok(())
}
