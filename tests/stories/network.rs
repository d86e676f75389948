//! Wires between parties that are cut and mended.

use std::time::Duration;

use alloy::primitives::U256;
use anyhow::{Result, ensure};
use kms_chain::FheType;
use kms_tests::{
    cluster::Cluster,
    parties,
    probe::Probe,
    proxy::{self, Proxy},
};

const PATIENCE: Duration = Duration::from_secs(90);

/// Runs a story with wires between party 1 and others, and takes them out again.
async fn wired(
    cluster: &mut Cluster,
    to: &[u32],
    story: impl AsyncFnOnce(&Cluster, &[Proxy]) -> Result<()>,
) -> Result<()> {
    let (wires, before) = proxy::between(cluster, 1, to).await?;
    let outcome = story(cluster, &wires).await;
    cluster.parties[0].kill();
    cluster.parties[0].set_args(before);
    cluster.heal().await?;
    outcome
}

pub(crate) async fn a_cut_link_makes_nobody_wrong_and_mends_itself(cluster: &mut Cluster) -> Result<()> {
    wired(cluster, &[2], cut_one).await
}

async fn cut_one(cluster: &Cluster, wires: &[Proxy]) -> Result<()> {
    let mut probe = Probe::deploy(cluster).await?;
    parties::linked(cluster, 1, 2, true, PATIENCE).await?;
    wires[0].cut();
    parties::linked(cluster, 1, 2, false, PATIENCE).await?;
    answer(cluster, &mut probe, 61, Some(2)).await?;
    wires[0].mend();
    parties::linked(cluster, 1, 2, true, PATIENCE).await?;
    answer(cluster, &mut probe, 62, None).await
}

/// A request is answered; party 1 counts `late` as late, and nobody as wrong.
async fn answer(cluster: &Cluster, probe: &mut Probe, value: u64, late: Option<u32>) -> Result<()> {
    let handles = probe.make(cluster, &[U256::from(value)], FheType::Uint32).await?;
    let asked = probe.ask(cluster, &handles, 1).await?;
    ensure!(probe.wait_for_answer(cluster, asked.id, PATIENCE).await? == [U256::from(value)], "wrong value");
    let receipt = parties::receipt(cluster, 1, asked.id, PATIENCE).await?;
    let wrong = U256::try_from_be_slice(&receipt.wrong).unwrap_or_default();
    ensure!(wrong.is_zero(), "the receipt names {wrong:b} as wrong");
    if let Some(party) = late {
        let counted = U256::try_from_be_slice(&receipt.late).unwrap_or_default();
        ensure!(counted == U256::from(1u32 << (party - 1)), "the receipt counts {counted:b} as late");
    }
    Ok(())
}

pub(crate) async fn a_party_cut_off_in_the_middle_finishes_when_the_wire_is_mended(
    cluster: &mut Cluster,
) -> Result<()> {
    wired(cluster, &[2, 3], cut_off).await
}

/// With two links cut party 1 has too few shares: the others answer without it, and it finishes later, on its own.
async fn cut_off(cluster: &Cluster, wires: &[Proxy]) -> Result<()> {
    let mut probe = Probe::deploy(cluster).await?;
    for peer in [2, 3] {
        parties::linked(cluster, 1, peer, true, PATIENCE).await?;
    }
    let values: Vec<U256> = (70u64..74).map(U256::from).collect();
    let handles = probe.make(cluster, &values, FheType::Uint32).await?;
    wires.iter().for_each(Proxy::cut);
    for peer in [2, 3] {
        parties::linked(cluster, 1, peer, false, PATIENCE).await?;
    }
    let mut asked = Vec::new();
    for handle in handles.chunks(1) {
        asked.push(probe.ask(cluster, handle, 1).await?);
    }
    for (asked, value) in asked.iter().zip(&values) {
        ensure!(probe.wait_for_answer(cluster, asked.id, PATIENCE).await? == [*value], "wrong value");
        let status = parties::operator(cluster)?.get_status(1, asked.id).await?;
        ensure!(status.answer.is_none(), "party 1 has answered with two shares");
    }
    wires.iter().for_each(Proxy::mend);
    for asked in &asked {
        let receipt = parties::receipt(cluster, 1, asked.id, PATIENCE).await?;
        let wrong = U256::try_from_be_slice(&receipt.wrong).unwrap_or_default();
        ensure!(wrong.is_zero(), "the receipt names {wrong:b} as wrong");
    }
    Ok(())
}
