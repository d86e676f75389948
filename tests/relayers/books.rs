//! What relayers have in their databases in the end, and whether it is what the chain says.

use alloy::{eips::BlockId, primitives::Address, providers::Provider};
use anyhow::{Context, Result, ensure};
use kms_tests::ground::{Chain, Database};

use crate::ticker::until;

/// One number.
pub(crate) async fn count(database: &Database, sql: &str) -> Result<i64> {
    let rows = database.rows(sql).await?;
    Ok(rows.first().context("no row")?.1)
}

/// Jobs that wait for something.
const OPEN: &str = "SELECT 'open', COUNT(*) FROM jobs \
    WHERE state NOT IN ('done', 'expired', 'cancelled', 'refused', 'orphaned')";
/// Transactions that wait for something.
const PENDING: &str = "SELECT 'pending', COUNT(*) FROM transactions WHERE state IN ('pending', 'mined')";

/// Waits until nothing is open in any of these databases.
pub(crate) async fn settled(databases: &[Database]) -> Result<()> {
    for database in databases {
        let settled = async || Ok(count(database, OPEN).await? == 0 && count(database, PENDING).await? == 0);
        if let Err(error) = until("nothing is open", settled).await {
            let stuck = database
                .rows(
                    "SELECT state || ': ' || COALESCE(reason, '') || ' ' || COALESCE(detail, ''), attempts FROM jobs \
                       WHERE state NOT IN ('done', 'expired', 'cancelled', 'refused', 'orphaned') LIMIT 5",
                )
                .await?;
            return Err(error.context(format!("{:?}, stuck: {stuck:?}", database.states().await?)));
        }
    }
    Ok(())
}

/// Checks a database against the chain: all requests of the chain are known and `done` of them are done, none was posted
/// twice from here, and each nonce of each account is held by one transaction that the chain knows.
pub(crate) async fn agree(chain: &Chain, database: &Database, accounts: &[Address], done: usize) -> Result<()> {
    let done_here = count(database, "SELECT 'done', COUNT(*) FROM jobs WHERE kind = 'on-chain' AND state = 'done'");
    ensure!(done_here.await? == i64::try_from(done)?, "{:?}, should be {done} done", database.states().await?);
    let unanswered =
        "SELECT 'odd', COUNT(*) FROM jobs WHERE kind = 'on-chain' AND state = 'done' AND fulfilled_tx IS NULL";
    ensure!(count(database, unanswered).await? == 0, "done without a fulfilment");
    let twice = "SELECT 'twice', COUNT(*) FROM (SELECT job FROM transactions WHERE purpose = 'fulfil' AND succeeded = 1 \
                 GROUP BY job HAVING COUNT(*) > 1) AS twice";
    ensure!(count(database, twice).await? == 0, "one request was posted twice with success");
    let foreign = "SELECT 'foreign', COUNT(*) FROM transactions t JOIN jobs j ON j.id = t.job \
                   WHERE t.purpose = 'fulfil' AND t.succeeded = 1 AND t.mined_hash <> j.fulfilled_tx";
    ensure!(count(database, foreign).await? == 0, "a fulfilment of ours is not the one that stands");
    let provider = chain.anvil.provider()?;
    let mut used = 0;
    for account in accounts {
        used += provider.get_transaction_count(*account).block_id(BlockId::latest()).await?;
    }
    let held = count(database, "SELECT 'held', COUNT(*) FROM transactions").await?;
    ensure!(held == i64::try_from(used)?, "{used} nonces are used, and the database holds {held}");
    Ok(())
}
