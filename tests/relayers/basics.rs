//! The ground itself: requests in, one answer each out.

use std::time::Duration;

use anyhow::{Result, ensure};
use kms_proto::node::NotYetReason;
use kms_tests::{
    ground::{Ground, Plan, Wish},
    stub::Manner,
};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn requests_are_answered_once_and_paid_once() -> Result<()> {
    let ground = Ground::lay(&Plan::default()).await?;
    let relayer = ground.relayer("one").await?.start().await?;
    let chain = ground.chain();
    let asked = chain.ask(50, Wish::default()).await?;
    chain.fulfilled(&asked, PATIENCE).await?;
    let audit = chain.audit(&asked, &[relayer.account]).await?;
    ensure!(audit.total() == 50 && audit.reverted == 0 && audit.noops == 0, "{audit:?}");
    Ok(())
}

pub(crate) async fn parties_that_are_down_slow_lying_or_not_ready_are_worked_around() -> Result<()> {
    let ground = Ground::lay(&Plan { n: 7, t: 2, ..Plan::default() }).await?;
    ground.parties[0].stop();
    ground.parties[1].set(Manner::Lying);
    ground.parties[2].set(Manner::Slow(Duration::from_millis(200)));
    ground.parties[3].set(Manner::NotYet { times: 2, reason: NotYetReason::NotFinal, retry_after_ms: 50 });
    let relayer = ground.relayer("one").await?.start().await?;
    let chain = ground.chain();
    let asked = chain.ask(10, Wish::default()).await?;
    chain.fulfilled(&asked, PATIENCE).await?;
    let audit = chain.audit(&asked, &[relayer.account]).await?;
    ensure!(audit.total() == 10 && audit.reverted == 0, "{audit:?}");
    // Without the slow one and the one that was not ready there are three signatures of the five that are needed.
    for asked in &asked {
        let times = ground.parties[3].asked_about(asked.id);
        ensure!(times >= 3, "the party that was not ready was asked {times} times");
    }
    Ok(())
}

pub(crate) async fn one_relayer_serves_two_chains() -> Result<()> {
    let ground = Ground::lay(&Plan { chains: 2, ..Plan::default() }).await?;
    let relayer = ground.relayer("one").await?.start().await?;
    let mut asked = Vec::new();
    for chain in &ground.chains {
        asked.push(chain.ask(10, Wish::default()).await?);
    }
    for (chain, asked) in ground.chains.iter().zip(&asked) {
        chain.fulfilled(asked, PATIENCE).await?;
        let audit = chain.audit(asked, &[relayer.account]).await?;
        ensure!(audit.total() == 10 && audit.reverted == 0, "{audit:?}");
    }
    let states = relayer.database.states().await?;
    ensure!(states.iter().map(|(_, count)| count).sum::<i64>() == 20, "{states:?}");
    Ok(())
}
