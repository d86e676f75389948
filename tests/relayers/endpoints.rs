//! A relayer whose RPC endpoints fail, lie, or are gone.

use std::time::Duration;

use anyhow::{Result, ensure};
use kms_chain::faults::{Fault, FaultyRpc, Wire};
use kms_tests::ground::{Ground, Plan, Wish};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn an_endpoint_that_misbehaves_in_turns_costs_nothing_but_time() -> Result<()> {
    let ground = Ground::lay(&Plan::default()).await?;
    let chain = ground.chain();
    let rpc = FaultyRpc::start(chain.anvil.port).await?;
    let relayer = ground.relayer("one").await?.with_endpoints(chain.id, &[rpc.url().to_string()]).start().await?;
    let mut asked = Vec::new();
    for fault in [
        Fault::Drop,
        Fault::Lose,
        Fault::Cut,
        Fault::Twice,
        Fault::Delay(Duration::from_millis(50)),
        Fault::DoubleLogs,
        Fault::NoLogs,
        Fault::StaleHead(chain.deployment_block),
        Fault::StaleCounts(chain.deployment_block),
        Fault::Error(-32603, "internal error"),
        Fault::Status(503, None),
        Fault::Status(429, Some(1)),
        Fault::Status(429, None),
    ] {
        // The chain goes on, and so does whoever asks; what is at hand meets the fault somewhere on its way.
        asked.extend(chain.ask(3, Wish::default()).await?);
        rpc.set(fault);
        tokio::time::sleep(Duration::from_millis(400)).await;
        rpc.set(Fault::None);
    }
    chain.fulfilled(&asked, PATIENCE).await?;
    let audit = chain.audit(&asked, &[relayer.account]).await?;
    ensure!(audit.total() == asked.len() && audit.reverted == 0, "{audit:?}");
    Ok(())
}

pub(crate) async fn the_first_endpoint_is_gone_for_good_and_then_all_are_gone_for_a_while() -> Result<()> {
    let ground = Ground::lay(&Plan::default()).await?;
    let chain = ground.chain();
    let (first, second) = (Wire::to(chain.anvil.port).await?, Wire::to(chain.anvil.port).await?);
    let urls = [first.url().to_string(), second.url().to_string()];
    let relayer = ground.relayer("one").await?.with_endpoints(chain.id, &urls).start().await?;
    let mut asked = chain.ask(5, Wish::default()).await?;
    first.cut();
    asked.extend(chain.ask(5, Wish::default()).await?);
    chain.fulfilled(&asked, PATIENCE).await?;
    // A finality that two endpoints had to vouch for, had there been two.
    let last = chain.ask(2, Wish { finality: 0xffff, ..Wish::default() }).await?;
    chain.fulfilled(&last, PATIENCE).await?;
    asked.extend(last);
    second.cut();
    asked.extend(chain.ask(20, Wish::default()).await?);
    tokio::time::sleep(Duration::from_secs(1)).await;
    second.mend();
    chain.fulfilled(&asked, PATIENCE).await?;
    let audit = chain.audit(&asked, &[relayer.account]).await?;
    ensure!(audit.total() == asked.len() && audit.reverted == 0, "{audit:?}");
    Ok(())
}

pub(crate) async fn another_chain_behind_the_endpoint_is_none_of_ours() -> Result<()> {
    let ground = Ground::lay(&Plan { chains: 2, ..Plan::default() }).await?;
    let (chain, other) = (&ground.chains[0], &ground.chains[1]);
    let rpc = FaultyRpc::start(chain.anvil.port).await?;
    let relayer = ground.relayer("one").await?.with_endpoints(chain.id, &[rpc.url().to_string()]).start().await?;
    let mut asked = chain.ask(5, Wish::default()).await?;
    chain.fulfilled(&asked, PATIENCE).await?;
    // The same account has more transactions there.
    let elsewhere = other.ask(8, Wish::default()).await?;
    other.fulfilled(&elsewhere, PATIENCE).await?;
    rpc.set(Fault::Elsewhere(other.anvil.port));
    asked.extend(chain.ask(5, Wish::default()).await?);
    tokio::time::sleep(Duration::from_secs(2)).await;
    rpc.set(Fault::None);
    chain.fulfilled(&asked, PATIENCE).await?;
    for (chain, asked) in [(chain, &asked), (other, &elsewhere)] {
        let audit = chain.audit(asked, &[relayer.account]).await?;
        ensure!(audit.total() == asked.len() && audit.reverted == 0 && audit.noops == 0, "{audit:?}");
    }
    Ok(())
}
