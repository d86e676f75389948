//! Several relayers: with one database they share the work, with databases of their own they race on the chain.

use std::{sync::Arc, time::Duration};

use alloy::primitives::Address;
use anyhow::{Result, ensure};
use kms_tests::{
    ground::{Asked, Audit, Candidate, Database, Ground, Plan, Relayer, Wish},
    stub::Manner,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    books::{agree, count, settled},
    number,
};

const NAMES: [&str; 3] = ["one", "two", "three"];
const PATIENCE: Duration = Duration::from_secs(90);

/// Relayers that are killed one at a time, at any moment, and start again.
struct Team {
    relayers: Vec<Arc<Mutex<Relayer>>>,
    accounts: Vec<Address>,
    databases: Vec<Database>,
}

impl Team {
    async fn start(candidates: Vec<Candidate<'_>>) -> Result<Self> {
        let (mut relayers, mut accounts, mut databases) = (Vec::new(), Vec::new(), Vec::new());
        for candidate in candidates {
            let relayer = candidate.start().await?;
            accounts.push(relayer.account);
            databases.push(relayer.database.clone());
            relayers.push(Arc::new(Mutex::new(relayer)));
        }
        accounts.sort();
        accounts.dedup();
        databases.dedup_by(|a, b| a.url == b.url);
        Ok(Self { relayers, accounts, databases })
    }

    /// Kills one after the other until told to stop; the last one stays dead. Says how often.
    fn haunt(&self, seed: u64) -> (CancellationToken, tokio::task::JoinHandle<Result<u32>>) {
        let (relayers, stop) = (self.relayers.clone(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut dice = StdRng::seed_from_u64(seed);
            for died in 1.. {
                let pause = Duration::from_millis(dice.random_range(100..1_200));
                let stop = stopped.run_until_cancelled(tokio::time::sleep(pause)).await.is_none();
                let mut relayer = relayers[dice.random_range(0..relayers.len())].lock().await;
                ensure!(relayer.process.is_running(), "it ended by itself\n{}", relayer.process.log_tail(30));
                relayer.process.kill();
                if stop {
                    return Ok(died);
                }
                relayer.process.restart()?;
            }
            Ok(0)
        });
        (stop, task)
    }

    /// Asks for so many answers in portions, and looks at the books of chain and databases when all are there.
    async fn serve(&self, ground: &Ground, requests: u64, seed: Option<u64>) -> Result<(Vec<Asked>, Audit)> {
        let chain = ground.chain();
        let haunted = seed.map(|seed| self.haunt(seed));
        let mut asked = Vec::new();
        while asked.len() < usize::try_from(requests)? {
            asked.extend(chain.ask(20, Wish::default()).await?);
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let mut died = 0;
        if let Some((stop, task)) = haunted {
            stop.cancel();
            died = task.await??;
        }
        chain.fulfilled(&asked, PATIENCE).await?;
        // One of them may have died with something on its way that only it can finish.
        for relayer in &self.relayers {
            let mut relayer = relayer.lock().await;
            if !relayer.process.is_running() {
                relayer.process.restart()?;
            }
        }
        settled(&self.databases).await?;
        let audit = chain.audit(&asked, &self.accounts).await?;
        println!("  {died} kills, {} requests: {audit:?}", asked.len());
        ensure!(audit.total() == asked.len(), "{audit:?}");
        // At most one in a hundred.
        ensure!(audit.reverted * 100 <= asked.len(), "{audit:?}");
        Ok((asked, audit))
    }
}

/// Settings under which what a dead relayer held is free after a short time.
fn brief(candidate: Candidate<'_>) -> Candidate<'_> {
    candidate
        .set("parties.patience_s", 2)
        .set("limits.lease_s", 3)
        .set("relayers.lead_s", 2)
        .set("tx.depth", 3)
        .set("limits.concurrency", 24)
        .set("limits.reserved", 8)
}

/// Three with an account each on one database, if there is a server for it.
async fn sharing(ground: &Ground, accounts: [&str; 3]) -> Result<Option<Team>> {
    let Some(server) = Database::server() else {
        println!("  no PostgreSQL: nothing to share");
        return Ok(None);
    };
    let database = Database::postgres(&server, ground.home(), "shared").await?;
    let mut candidates = Vec::new();
    for (name, account) in NAMES.into_iter().zip(accounts) {
        candidates.push(brief(ground.relayer(name).await?.with_database(&database).with_account(account)));
    }
    Ok(Some(Team::start(candidates).await?))
}

pub(crate) async fn three_relayers_on_one_database_share_the_work() -> Result<()> {
    let ground = Ground::lay(&Plan::default()).await?;
    // More is on its way than one of them takes at once.
    ground.parties.iter().for_each(|party| party.set(Manner::Slow(Duration::from_millis(800))));
    let Some(team) = sharing(&ground, NAMES).await? else { return Ok(()) };
    let (asked, audit) = team.serve(&ground, number("KMS_TEST_REQUESTS", 200), None).await?;
    ensure!(audit.fulfilled.len() == 3, "somebody did nothing: {audit:?}");
    ensure!(audit.reverted == 0 && audit.noops == 0, "{audit:?}");
    agree(ground.chain(), &team.databases[0], &team.accounts, asked.len()).await
}

pub(crate) async fn on_one_database_any_of_three_may_die_at_any_time() -> Result<()> {
    let ground = Ground::lay(&Plan::default()).await?;
    let Some(team) = sharing(&ground, NAMES).await? else { return Ok(()) };
    let seed = number("KMS_TEST_SEED", 0xace);
    let (asked, _) = team.serve(&ground, number("KMS_TEST_REQUESTS", 200), Some(seed)).await?;
    agree(ground.chain(), &team.databases[0], &team.accounts, asked.len()).await
}

pub(crate) async fn on_one_database_and_account_any_of_three_may_die_at_any_time() -> Result<()> {
    let ground = Ground::lay(&Plan::default()).await?;
    let Some(team) = sharing(&ground, ["same", "same", "same"]).await? else { return Ok(()) };
    let seed = number("KMS_TEST_SEED", 0xfab);
    let (asked, _) = team.serve(&ground, number("KMS_TEST_REQUESTS", 200), Some(seed)).await?;
    agree(ground.chain(), &team.databases[0], &team.accounts, asked.len()).await
}

/// Three with everything of their own, which know each other's accounts, and wait so many milliseconds for each other. On a
/// machine that is busy with other things an answer takes seconds from its quorum to a block.
async fn rivals(ground: &Ground, slot: u64) -> Result<Team> {
    let mut known = Vec::new();
    for name in NAMES {
        known.push(ground.account(name).await?.address().to_string());
    }
    let mut candidates = Vec::new();
    for name in NAMES {
        let candidate = brief(ground.relayer(name).await?);
        candidates.push(candidate.set("relayers.known", format!("{known:?}")).set("relayers.slot_ms", slot));
    }
    Team::start(candidates).await
}

pub(crate) async fn three_rivals_pay_once_for_each_answer() -> Result<()> {
    let ground = Ground::lay(&Plan::default()).await?;
    let team = rivals(&ground, 15_000).await?;
    let (asked, audit) = team.serve(&ground, number("KMS_TEST_REQUESTS", 300), None).await?;
    ensure!(audit.fulfilled.len() == 3, "somebody did nothing: {audit:?}");
    every_database_knows(&team, asked.len()).await
}

pub(crate) async fn any_of_three_rivals_may_die_at_any_time() -> Result<()> {
    let ground = Ground::lay(&Plan::default()).await?;
    let team = rivals(&ground, 4_000).await?;
    let seed = number("KMS_TEST_SEED", 0xbad);
    let (asked, _) = team.serve(&ground, number("KMS_TEST_REQUESTS", 200), Some(seed)).await?;
    every_database_knows(&team, asked.len()).await
}

/// All of them know of all answers, and among them each was posted once.
async fn every_database_knows(team: &Team, requests: usize) -> Result<()> {
    let requests = i64::try_from(requests)?;
    let mut posted = 0;
    for database in &team.databases {
        let states = database.states().await?;
        ensure!(states == [("done".to_owned(), requests)], "{states:?}");
        let own = "SELECT 'own', COUNT(*) FROM transactions WHERE purpose = 'fulfil' AND succeeded = 1";
        posted += count(database, own).await?;
    }
    ensure!(posted == requests, "{posted} answers to {requests} requests were posted with success");
    Ok(())
}
