//! Parties that lie.

use std::time::Duration;

use alloy::primitives::U256;
use anyhow::{Result, bail, ensure};
use kms_chain::FheType;
use kms_tests::{cluster::Cluster, parties, probe::Probe};

const PATIENCE: Duration = Duration::from_secs(90);
/// Times that a party may be late with a lie.
const TRIES: u32 = 5;

/// What a receipt of an honest party says about a party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Its share came and was right.
    Right,
    /// Its share was wrong.
    Wrong,
    /// Its share had not come.
    Late,
}

/// A behaviour of party 2, and what parties 1 and 4 say about it.
const BEHAVIOURS: [(u64, &str, [Verdict; 2]); 5] = [
    (21, "wrong-share", [Verdict::Wrong, Verdict::Wrong]),
    (22, "garbage", [Verdict::Wrong, Verdict::Wrong]),
    (23, "silent", [Verdict::Late, Verdict::Late]),
    (24, "equivocate", [Verdict::Right, Verdict::Wrong]),
    (25, "stall", [Verdict::Late, Verdict::Late]),
];

pub(crate) async fn a_lying_party_is_outvoted_and_named(cluster: &mut Cluster) -> Result<()> {
    let mut probe = Probe::deploy(cluster).await?;
    for (value, behaviour, verdicts) in BEHAVIOURS {
        let honest = cluster.parties[1].args().to_vec();
        cluster.parties[1].kill();
        cluster.parties[1].push_args(&["--insecure-misbehave", behaviour]);
        cluster.parties[1].restart()?;
        cluster.heal().await?;
        // Without its link party 2 would only be late, whatever it sends.
        for party in [1, 4] {
            parties::linked(cluster, party, 2, true, PATIENCE).await?;
        }
        let outcome = judged(cluster, &mut probe, value, verdicts).await;
        cluster.parties[1].kill();
        cluster.parties[1].set_args(honest);
        cluster.heal().await?;
        outcome.map_err(|error| error.context(format!("with a party that does {behaviour}")))?;
    }
    Ok(())
}

/// A party that has just started may be late with its first lie, which counts as late and no more: then it lies once more.
async fn judged(cluster: &mut Cluster, probe: &mut Probe, value: u64, verdicts: [Verdict; 2]) -> Result<()> {
    for _ in 0..TRIES {
        if one_answer(cluster, probe, value, verdicts).await? {
            return Ok(());
        }
    }
    bail!("late {TRIES} times")
}

/// Whether party 2 was in time as it is expected to be. The answer is right; the final receipts and the metrics of honest parties name party 2 if it lied to them, and only count
/// it if it was late.
async fn one_answer(cluster: &mut Cluster, probe: &mut Probe, value: u64, verdicts: [Verdict; 2]) -> Result<bool> {
    let handles = probe.make(cluster, &[U256::from(value)], FheType::Uint32).await?;
    let before = [counts(cluster, 1).await?, counts(cluster, 4).await?];
    let asked = probe.ask(cluster, &handles, 1).await?;
    ensure!(probe.wait_for_answer(cluster, asked.id, PATIENCE).await? == [U256::from(value)], "wrong value");
    for ((party, verdict), before) in [1usize, 4].into_iter().zip(verdicts).zip(before) {
        let receipt = parties::receipt(cluster, party as u32, asked.id, PATIENCE).await?;
        let [wrong, late] = [&receipt.wrong, &receipt.late].map(|set| U256::try_from_be_slice(set).unwrap_or_default());
        if verdict != Verdict::Late && late.bit(1) {
            return Ok(false);
        }
        let named = if verdict == Verdict::Wrong { U256::from(0b10) } else { U256::ZERO };
        ensure!(wrong == named, "the receipt of party {party} names {wrong:b} as wrong");
        ensure!(late.bit(1) == (verdict == Verdict::Late), "the receipt of party {party} counts {late:b} as late");
        let after = counts(cluster, party).await?;
        let (more_wrong, more_late) = (after.0 > before.0, after.1 > before.1);
        ensure!(more_wrong == (verdict == Verdict::Wrong), "the metrics of party {party}: {before:?}, {after:?}");
        ensure!(more_late == (verdict == Verdict::Late), "the metrics of party {party}: {before:?}, {after:?}");
    }
    Ok(true)
}

/// How often a party has found party 2 wrong, and late.
async fn counts(cluster: &Cluster, party: usize) -> Result<(u64, u64)> {
    let metrics = reqwest::get(format!("{}/metrics", cluster.party_metrics[party - 1])).await?.text().await?;
    // A counter that was never counted is not there.
    let count = |name: &str| {
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("{peer=\"2\"}"));
        value.map_or(Ok(0), |value| value.trim().parse())
    };
    Ok((count("kms_node_peer_wrong_total")?, count("kms_node_peer_late_total")?))
}
