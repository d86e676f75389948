//! Parties that lie.

use std::time::Duration;

use alloy::primitives::U256;
use anyhow::{Result, ensure};
use kms_chain::FheType;
use kms_tests::{cluster::Cluster, parties, probe::Probe};

const PATIENCE: Duration = Duration::from_secs(90);

/// What the honest parties' receipts say about a party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Wrong, by what this party has seen.
    Observed,
    /// Wrong, by two frames that contradict each other: proved to anybody.
    Proved,
    /// Late, not wrong.
    Late,
}

const BEHAVIOURS: [(u64, &str, Verdict); 5] = [
    (21, "wrong-share", Verdict::Observed),
    (22, "garbage", Verdict::Observed),
    (23, "silent", Verdict::Late),
    (24, "equivocate", Verdict::Proved),
    (25, "stall", Verdict::Late),
];

pub(crate) async fn a_lying_party_is_outvoted_and_named(cluster: &mut Cluster) -> Result<()> {
    let mut probe = Probe::deploy(cluster).await?;
    for (value, behaviour, verdict) in BEHAVIOURS {
        let honest = cluster.parties[1].args().to_vec();
        cluster.parties[1].kill();
        cluster.parties[1].push_args(&["--insecure-misbehave", behaviour]);
        cluster.parties[1].restart()?;
        cluster.heal().await?;
        // Without its link party 2 would only be late, whatever it sends.
        parties::linked(cluster, 1, 2, true, PATIENCE).await?;
        parties::linked(cluster, 3, 2, true, PATIENCE).await?;
        let outcome = one_answer(cluster, &mut probe, value, verdict).await;
        cluster.parties[1].kill();
        cluster.parties[1].set_args(honest);
        cluster.heal().await?;
        outcome.map_err(|error| error.context(format!("with a party that does {behaviour}")))?;
    }
    Ok(())
}

/// The answer is right; the final receipts of honest parties name party 2 if it lied, and only count it if it was late.
async fn one_answer(cluster: &mut Cluster, probe: &mut Probe, value: u64, verdict: Verdict) -> Result<()> {
    let handles = probe.make(cluster, &[U256::from(value)], FheType::Uint32).await?;
    let late_before = [late_count(cluster, 0).await?, late_count(cluster, 2).await?];
    let asked = probe.ask(cluster, &handles, 1).await?;
    ensure!(probe.wait_for_answer(cluster, asked.id, PATIENCE).await? == [U256::from(value)], "wrong value");
    for (slot, late_before) in [0usize, 2].into_iter().zip(late_before) {
        let party = slot as u32 + 1;
        let receipt = parties::receipt(cluster, party, asked.id, PATIENCE).await?;
        let wrong = U256::try_from_be_slice(&receipt.wrong).unwrap_or_default();
        let late = U256::try_from_be_slice(&receipt.late).unwrap_or_default();
        let party_two = U256::from(0b10);
        if verdict == Verdict::Late {
            ensure!(wrong.is_zero(), "a late party was called wrong by party {party}: {wrong:b}");
            ensure!(late & party_two == party_two, "the late party was not counted by party {party}: {late:b}");
            ensure!(late_count(cluster, slot).await? > late_before, "the metrics of party {party} don't count it");
            continue;
        }
        ensure!(wrong == party_two, "the receipt of party {party} names {wrong:b} as wrong");
        let proved = receipt.evidence.iter().any(|evidence| evidence.party == 2 && evidence.proved);
        ensure!(proved == (verdict == Verdict::Proved), "party {party}: {:?}", receipt.evidence);
        let named = count(cluster, slot, "kms_node_peer_wrong_total{peer=\"2\"}").await?;
        ensure!(named > 0, "the metrics of party {party} don't name party 2");
    }
    Ok(())
}

async fn late_count(cluster: &Cluster, slot: usize) -> Result<u64> {
    count(cluster, slot, "kms_node_peer_late_total{peer=\"2\"}").await
}

/// A counter of a party; one that was never counted is zero.
async fn count(cluster: &Cluster, slot: usize, name: &str) -> Result<u64> {
    let metrics = reqwest::get(format!("{}/metrics", cluster.party_metrics[slot])).await?.text().await?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name));
    Ok(value.map_or(Ok(0), |value| value.trim().parse())?)
}
