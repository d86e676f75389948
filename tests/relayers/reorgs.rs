//! Reorganisations of real chains over requests and over fulfilments, while the relayer looks and while it is away.

use std::time::Duration;

use alloy::providers::Provider;
use anyhow::{Result, ensure};
use kms_chain::faults::{Fault, FaultyRpc};
use kms_tests::{
    anvil::Mining,
    ground::{Asked, Chain, Ground, Plan, Wish},
};
use serde_json::json;

fn by_hand() -> Plan {
    Plan { mining: Mining::Manual, ..Plan::default() }
}

async fn mine(chain: &Chain, blocks: u64) -> Result<()> {
    chain.anvil.rpc("anvil_mine", json!([format!("{blocks:#x}")])).await?;
    Ok(())
}

/// Replaces the newest blocks by empty ones. What was in them is forgotten by the node.
async fn reorg(chain: &Chain, depth: u64) -> Result<()> {
    chain.anvil.rpc("anvil_reorg", json!([depth, []])).await?;
    chain.forget_nonces().await;
    Ok(())
}

/// Makes blocks until these requests are fulfilled.
async fn fulfil(chain: &Chain, asked: &[Asked]) -> Result<()> {
    while chain.fulfilled(asked, Duration::ZERO).await.is_err() {
        mine(chain, 1).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Two requests, fulfilled in the newest block or shortly before, and the block that they are in.
async fn answered(chain: &Chain) -> Result<(Vec<Asked>, u64)> {
    let asked = chain.ask(2, Wish::default()).await?;
    mine(chain, 1).await?;
    let block = height(chain).await?;
    fulfil(chain, &asked).await?;
    Ok((asked, block))
}

async fn height(chain: &Chain) -> Result<u64> {
    Ok(chain.anvil.provider()?.get_block_number().await?)
}

pub(crate) async fn of_every_depth_over_requests_and_fulfilments() -> Result<()> {
    let ground = Ground::lay(&by_hand()).await?;
    // Blocks that the relayer never saw take its answers along: it sends them again when they are late.
    let relayer = ground.relayer("one").await?.set("tx.bump_after_s", 2).start().await?;
    let chain = ground.chain();
    mine(chain, 10).await?;
    let (mut kept, mut gone) = (Vec::new(), 0);
    for depth in 1..=8 {
        // Over the fulfilments alone.
        let (asked, _) = answered(chain).await?;
        mine(chain, depth - 1).await?;
        reorg(chain, depth).await?;
        fulfil(chain, &asked).await?;
        kept.extend(asked);
        // Over the requests, too: they come in another block, or not at all.
        if depth > 1 {
            let (asked, block) = answered(chain).await?;
            while height(chain).await? + 1 < block + depth {
                mine(chain, 1).await?;
            }
            reorg(chain, height(chain).await? + 1 - block).await?;
            if depth % 2 == 0 {
                chain.ask_again(&asked).await?;
                fulfil(chain, &asked).await?;
                kept.extend(asked);
            } else {
                gone += asked.len();
            }
        }
    }
    let last = chain.ask(2, Wish::default()).await?;
    fulfil(chain, &last).await?;
    kept.extend(last);
    let audit = chain.audit(&kept, &[relayer.account]).await?;
    // A transaction for a request that is gone may be in a block before anybody knows.
    ensure!(audit.total() == kept.len() && audit.reverted <= gone, "{audit:?}, {gone} requests are gone");
    Ok(())
}

pub(crate) async fn while_the_relayer_is_cut_off_and_while_it_is_down() -> Result<()> {
    let ground = Ground::lay(&by_hand()).await?;
    let chain = ground.chain();
    let rpc = FaultyRpc::start(chain.anvil.port).await?;
    let candidate = ground.relayer("one").await?.set("tx.bump_after_s", 2);
    let mut relayer = candidate.with_endpoints(chain.id, &[rpc.url().to_string()]).start().await?;
    mine(chain, 10).await?;
    let mut kept = Vec::new();
    for is_down in [false, true] {
        let (asked, block) = answered(chain).await?;
        if is_down {
            relayer.process.kill()
        } else {
            rpc.set(Fault::Drop)
        }
        // Fulfilments and requests go, and come back in other blocks, among ten minutes of others.
        reorg(chain, height(chain).await? + 1 - block).await?;
        chain.ask_again(&asked).await?;
        mine(chain, 300).await?;
        let more = chain.ask(5, Wish::default()).await?;
        mine(chain, 300).await?;
        if is_down {
            relayer.process.restart()?
        } else {
            rpc.set(Fault::None)
        }
        kept.extend(asked);
        kept.extend(more);
        fulfil(chain, &kept).await?;
    }
    let audit = chain.audit(&kept, &[relayer.account]).await?;
    ensure!(audit.total() == kept.len() && audit.reverted == 0, "{audit:?}");
    Ok(())
}
