//! What a rogue relayer, or nobody's client, gets from honest parties.

use std::time::{Duration, Instant};

use alloy::primitives::U256;
use anyhow::{Result, bail, ensure};
use kms_chain::FheType;
use kms_client::transport::{NotYetReason, Outcome, RefusedReason};
use kms_tests::{cluster::Cluster, parties, probe::Probe, process::Process};

const PATIENCE: Duration = Duration::from_secs(90);

/// Asks every party and expects this refusal from each.
async fn all_refuse(cluster: &Cluster, question: &kms_client::Question, expected: RefusedReason) -> Result<()> {
    let clients = parties::operator(cluster)?;
    for index in 1..=cluster.options.n {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match clients.decrypt(u32::try_from(index)?, question).await? {
                Outcome::Refused { reason, detail } => {
                    ensure!(reason == expected, "party {index} refused as {reason:?}: {detail}");
                    ensure!(!detail.is_empty(), "party {index} gives no reason");
                    break;
                }
                Outcome::NotYet { retry_after, .. } if Instant::now() < deadline => {
                    tokio::time::sleep(retry_after).await
                }
                other => bail!("party {index} said {other:?} instead of refusing"),
            }
        }
    }
    Ok(())
}

pub(crate) async fn a_party_asked_directly_refuses_what_the_chain_does_not_show(cluster: &mut Cluster) -> Result<()> {
    let mut probe = Probe::deploy(cluster).await?;
    let handles = probe.make(cluster, &[U256::from(4711)], FheType::Uint16).await?;
    // A value that its contract never published.
    let question = parties::public_question(cluster, &handles).await?;
    all_refuse(cluster, &question, RefusedReason::NotPermitted).await?;
    // A request that no gateway has recorded: a real one with another deadline is another request.
    let asked = probe.ask(cluster, &handles, 0).await?;
    let mut forged = asked.request.clone();
    forged.deadline += 1;
    let question = parties::question(cluster, &forged).await?;
    // It may still come, for all a party knows; until then nobody starts on it.
    let clients = parties::operator(cluster)?;
    for index in 1..=cluster.options.n {
        match clients.decrypt(u32::try_from(index)?, &question).await? {
            Outcome::NotYet { reason, .. } => {
                ensure!(reason == NotYetReason::Behind, "party {index} waits for {reason:?}")
            }
            other => bail!("party {index} said {other:?} to a request that no gateway has recorded"),
        }
    }
    // The real one is answered, also to somebody who asks the parties a second time.
    ensure!(probe.wait_for_answer(cluster, asked.id, PATIENCE).await? == [U256::from(4711)], "wrong value");
    Ok(())
}

pub(crate) async fn a_client_that_is_not_on_the_list_gets_nothing(cluster: &mut Cluster) -> Result<()> {
    let dir = cluster.path("clients/stranger");
    if !dir.exists() {
        cluster.kms(&["client-cert", "--name", "operator", "--out", &dir.display().to_string()])?;
    }
    let stranger = parties::connect(cluster, &dir)?;
    for index in 1..=cluster.options.n {
        let index = u32::try_from(index)?;
        ensure!(stranger.health(index).await.is_err(), "party {index} talks to a client that it does not know");
        ensure!(parties::operator(cluster)?.health(index).await.is_ok(), "party {index} does not talk to its operator");
    }
    Ok(())
}

pub(crate) async fn a_cancelled_request_is_not_started(cluster: &mut Cluster) -> Result<()> {
    let mut probe = Probe::deploy(cluster).await?;
    let handles = probe.make(cluster, &[U256::from(5)], FheType::Uint8).await?;
    // Nobody may hear of it before it is cancelled.
    cluster.parties.iter_mut().for_each(Process::kill);
    let asked = probe.ask(cluster, &handles, 7).await?;
    probe.cancel(cluster, &asked).await?;
    cluster.heal().await?;
    let question = parties::question(cluster, &asked.request).await?;
    let clients = parties::operator(cluster)?;
    for party in 1..=4 {
        match clients.decrypt(party, &question).await? {
            Outcome::Refused { reason, .. } => {
                ensure!(reason == RefusedReason::NotOpen, "party {party} refused as {reason:?}");
            }
            other => bail!("party {party} said {other:?} to a cancelled request"),
        }
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(Probe::fulfilments(cluster, asked.id).await?.is_empty(), "a cancelled request was fulfilled");
    Ok(())
}

pub(crate) async fn a_request_for_a_handle_of_another_contract_reverts(cluster: &mut Cluster) -> Result<()> {
    let mut owner = Probe::deploy(cluster).await?;
    let thief = Probe::deploy(cluster).await?;
    let handles = owner.make(cluster, &[U256::from(1)], FheType::Bool).await?;
    ensure!(thief.ask(cluster, &handles, 0).await.is_err(), "a contract asked for a handle that it has no right on");
    Ok(())
}
