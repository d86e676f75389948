//! Pseudorandom keys that nobody dealt.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use alloy::primitives::U256;
use anyhow::{Context, Result, ensure};
use kms_chain::FheType;
use kms_tests::{cluster::Cluster, parties, probe::Probe};

const PATIENCE: Duration = Duration::from_secs(90);

/// The sealed pseudorandom keys of a party, object and key.
fn sealed(cluster: &Cluster, party: usize) -> Result<Vec<PathBuf>> {
    let mut found: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for entry in fs::read_dir(cluster.path(&format!("party-{party}/sealed")))? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        // Those of the epoch itself, not of an attempt.
        if name.strip_prefix("prss-").is_some_and(|epoch| !epoch.contains('-')) {
            found.entry(name.to_owned()).or_default().push(path);
        }
    }
    // Of the run that made the key only the object is left, which nothing opens any more.
    found.retain(|_, files| files.len() == 2);
    let found = found.into_values().flatten().collect();
    Ok(found)
}

pub(crate) async fn parties_made_their_pseudorandom_keys_themselves(cluster: &mut Cluster) -> Result<()> {
    for party in 1..=cluster.parties.len() {
        ensure!(sealed(cluster, party)?.len() == 2, "party {party} has no pseudorandom keys");
        let metrics = reqwest::get(format!("{}/metrics", cluster.party_metrics[party - 1])).await?.text().await?;
        ensure!(metrics.contains("\nkms_node_prss_setups_open 0"), "a set-up of party {party} is open");
    }
    Ok(())
}

pub(crate) async fn a_party_that_lost_its_pseudorandom_keys_takes_them_over(cluster: &mut Cluster) -> Result<()> {
    let mut probe = Probe::deploy(cluster).await?;
    cluster.parties[3].kill();
    for path in sealed(cluster, 4)? {
        fs::remove_file(path)?;
    }
    cluster.parties[3].restart()?;
    cluster.heal().await?;
    ensure!(sealed(cluster, 4)?.len() == 2, "party 4 has no pseudorandom keys");
    // They are the right ones: with party 3 down, no answer comes without party 4, and nobody calls its share wrong.
    cluster.parties[2].kill();
    let value = U256::from(80);
    let handles = probe.make(cluster, &[value], FheType::Uint32).await?;
    let asked = probe.ask(cluster, &handles, 1).await?;
    ensure!(probe.wait_for_answer(cluster, asked.id, PATIENCE).await? == [value], "wrong value");
    for party in [1, 2, 4] {
        let receipt = parties::receipt(cluster, party, asked.id, PATIENCE).await?;
        let wrong = U256::try_from_be_slice(&receipt.wrong).unwrap_or_default();
        ensure!(wrong.is_zero(), "party {party} names {wrong:b} as wrong");
    }
    cluster.parties[2].restart().context("party 3")?;
    Ok(())
}
