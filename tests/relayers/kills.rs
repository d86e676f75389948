//! kill −9 at every commit and at any moment: one fulfilment and one fee for each request, on the chain and in the database.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use alloy::{
    eips::BlockId,
    network::{EthereumWallet, TransactionBuilder},
    primitives::Address,
    providers::{Provider, ProviderBuilder},
    rpc::types::TransactionRequest,
};
use anyhow::{Context, Result, ensure};
use kms_chain::abi::DecryptionGateway;
use kms_proto::node::{NotYetReason, RefusedReason};
use kms_relayer::{
    state::State,
    store::{Move, Side, Write},
};
use kms_tests::{
    anvil::{Mining, Role},
    ground::{Asked, Chain, Database, Ground, Plan, Wish},
    stub::Manner,
};

use crate::{
    books::{agree, count, settled},
    doomed::{Doomed, Fate, name, name_of_move},
    ticker::{Ticker, until},
};

const PATIENCE: Duration = Duration::from_secs(90);

/// Variables with the keys of the relayer's account and of another one.
const KEY: &str = "KMS_RELAYER_KEY";
const HEIR: &str = "KMS_RELAYER_KEY_OF_HEIR";
/// Blocks after which an answer is done with: more than pass by themselves until a test has seen that it is mined.
const DEPTH: u64 = 24;

/// Times that all of it happens, at the most.
const ROUNDS: u32 = 4;

/// Moves that every run must have been killed at, besides all writes. From nowhere: new jobs, and those that a deadline ends.
const MOVES: [(Option<State>, State); 16] = {
    use State::{Cancelled, Dispatched, Done, Expired, Final, Mined, Orphaned, Quorum, Refused, Seen, Submitting};
    [
        (None, Seen),
        (Some(Seen), Final),
        (Some(Final), Dispatched),
        (Some(Dispatched), Quorum),
        (Some(Quorum), Submitting),
        (Some(Submitting), Mined),
        (Some(Mined), Done),
        // Over HTTP.
        (None, Final),
        (Some(Quorum), Done),
        // Other ends.
        (Some(Dispatched), Refused),
        (Some(Dispatched), Cancelled),
        (None, Expired),
        // A transaction that came to nothing.
        (Some(Submitting), Quorum),
        // Reorganisations.
        (Some(Mined), Orphaned),
        (Some(Orphaned), Seen),
        (Some(Mined), Seen),
    ]
};

/// What all steps of the story use.
struct Stage {
    ground: Arc<Ground>,
    ticker: Ticker,
    doomed: Doomed,
    database: Database,
    account: Address,
    url: String,
    /// Requests that must be fulfilled.
    asked: Vec<Asked>,
}

impl Stage {
    fn chain(&self) -> &Chain {
        self.ground.chain()
    }

    fn all(&self, manner: Manner) {
        self.ground.parties.iter().for_each(|party| party.set(manner.clone()));
    }

    /// Waits until the database says so; dies with whoever keeps the relayer alive.
    async fn until(&mut self, what: &str, sql: &str, least: i64) -> Result<()> {
        let database = self.database.clone();
        until(what, async || Ok(count(&database, sql).await? >= least)).await?;
        self.doomed.check().await
    }

    async fn ended(&mut self, state: State, least: i64) -> Result<()> {
        self.until(&format!("a job is {state}"), &jobs(state), least).await
    }

    async fn count(&self, sql: &str) -> Result<i64> {
        count(&self.database, sql).await
    }

    /// Everything that a relayer can meet.
    async fn everything(&mut self) -> Result<()> {
        self.everyday().await?;
        self.unhappy_ends().await?;
        self.too_cheap().await?;
        self.nonce_taken().await?;
        self.gap().await?;
        self.another_key().await?;
        self.reorganised(false).await?;
        self.reorganised(true).await?;
        self.everyday().await
    }

    /// Points at which nobody died yet.
    fn missed(&self) -> Result<Vec<String>> {
        let died_at = self.doomed.died_at()?;
        Ok(expected().into_iter().filter(|point| !died_at.contains(point)).collect())
    }

    async fn in_a_block(&self, asked: &Asked) -> Result<u64> {
        let provider = self.chain().anvil.provider()?;
        let mut block = None;
        until("a request is in a block", async || {
            block = provider.get_transaction_receipt(asked.transaction).await?.and_then(|receipt| receipt.block_number);
            Ok(block.is_some())
        })
        .await?;
        block.context("no block")
    }

    /// Requests on chain and a question over HTTP, from beginning to end.
    async fn everyday(&mut self) -> Result<()> {
        let asked = self.chain().ask(2, Wish::default()).await?;
        self.asked.extend(asked);
        self.ask_over_http().await?;
        self.chain().fulfilled(&self.asked, PATIENCE).await?;
        // Deep enough to be done with.
        self.chain().mine(DEPTH).await?;
        settled(std::slice::from_ref(&self.database)).await?;
        self.doomed.check().await
    }

    async fn ask_over_http(&self) -> Result<()> {
        let handle = self.chain().handles[self.asked.len() % self.chain().handles.len()];
        let body = serde_json::json!({ "ciphertextHandles": [handle], "extraData": "0x00" }).to_string();
        until("a question is taken", async || {
            let post = reqwest::Client::new().post(format!("{}/v2/public-decrypt", self.url));
            let answer = post.header("content-type", "application/json").body(body.clone()).send().await;
            Ok(answer.is_ok_and(|answer| answer.status().as_u16() == 202 || answer.status().is_success()))
        })
        .await
    }

    /// Parties that say no, that never come to it, and a requester that changes its mind.
    async fn unhappy_ends(&mut self) -> Result<()> {
        self.all(Manner::Refusing(RefusedReason::NotPermitted));
        let refused = self.count(&jobs(State::Refused)).await?;
        self.chain().ask_one(Wish::default()).await?;
        self.ended(State::Refused, refused + 1).await?;
        self.all(Manner::NotYet { times: u64::MAX, reason: NotYetReason::NotFinal, retry_after_ms: 100 });
        let cancelled_before = self.count(&jobs(State::Cancelled)).await?;
        let unwanted = self.chain().ask_one(Wish::default()).await?;
        self.ended(State::Dispatched, 1).await?;
        let gateway = DecryptionGateway::new(
            self.chain().contracts.decryption_gateway,
            self.chain().anvil.provider_as(Role::Voter(0))?,
        );
        let cancelled = gateway.cancel((&unwanted.request).into()).gas(500_000).send().await?.get_receipt().await?;
        ensure!(cancelled.status(), "it can't be cancelled");
        self.chain().forget_nonces().await;
        self.ended(State::Cancelled, cancelled_before + 1).await?;
        let expired = self.count(&jobs(State::Expired)).await?;
        self.chain().ask_one(Wish { seconds: 3_600, ..Wish::default() }).await?;
        self.ended(State::Dispatched, 1).await?;
        self.chain().anvil.rpc("evm_increaseTime", serde_json::json!([8_000])).await?;
        self.ended(State::Expired, expired + 1).await?;
        self.all(Manner::Honest);
        Ok(())
    }

    /// A request whose answer is on its way, and no block comes.
    async fn underway(&mut self) -> Result<()> {
        self.all(Manner::NotYet { times: u64::MAX, reason: NotYetReason::NotFinal, retry_after_ms: 100 });
        let asked = self.chain().ask_one(Wish::default()).await?;
        self.in_a_block(&asked).await?;
        self.ticker.stop().await;
        self.all(Manner::Honest);
        self.asked.push(asked);
        let pending = "SELECT 'n', COUNT(*) FROM transactions WHERE state = 'pending'";
        self.until("an answer is on its way", pending, 1).await
    }

    /// Nobody mines the answer: its fee is raised.
    async fn too_cheap(&mut self) -> Result<()> {
        let raised = "SELECT 'n', COUNT(*) - COUNT(DISTINCT nonce) FROM attempts";
        let before = self.count(raised).await?;
        self.underway().await?;
        self.until("a fee is raised", raised, before + 1).await?;
        self.ticker.go_on();
        self.everyday().await
    }

    /// The account has no money, and then somebody else uses its nonce.
    async fn nonce_taken(&mut self) -> Result<()> {
        let refused = "SELECT 'n', COUNT(*) FROM attempts WHERE error LIKE '%nsufficient%'";
        let lost = "SELECT 'n', COUNT(*) FROM transactions WHERE state = 'lost'";
        let (refused_before, lost_before) = (self.count(refused).await?, self.count(lost).await?);
        let balance = |wei: &str| serde_json::json!([self.account, wei]);
        let (none, some) = (balance("0x0"), balance("0xde0b6b3a7640000000"));
        self.chain().anvil.rpc("anvil_setBalance", none).await?;
        let asked = self.chain().ask_one(Wish::default()).await?;
        self.asked.push(asked);
        self.until("a transaction is refused", refused, refused_before + 1).await?;
        // Killed there, too, before it stands still.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let relayer = self.doomed.relayer.clone();
        let relayer = relayer.lock().await;
        relayer.process.pause();
        self.chain().anvil.rpc("anvil_setBalance", some).await?;
        let wallet = EthereumWallet::from(self.ground.account("doomed").await?);
        let provider = ProviderBuilder::new().wallet(wallet).connect_http(self.chain().anvil.url().parse()?);
        let nonce = provider.get_transaction_count(self.account).block_id(BlockId::latest()).await?;
        let transfer = TransactionRequest::default().with_to(self.account).with_nonce(nonce).with_gas_limit(21_000);
        let transfer = provider.send_transaction(transfer).await?;
        // Deep enough that no receipt of ours is to be waited for.
        self.chain().mine(DEPTH + 2).await?;
        ensure!(transfer.get_receipt().await?.status(), "the nonce is still free");
        relayer.process.resume();
        drop(relayer);
        self.until("a nonce is lost", lost, lost_before + 1).await?;
        self.everyday().await
    }

    /// A nonce that nothing holds, as an older version or a restored backup may leave it.
    async fn gap(&mut self) -> Result<()> {
        let filled = "SELECT 'n', COUNT(*) FROM transactions WHERE purpose = 'noop' AND job IS NULL";
        let before = self.count(filled).await?;
        // The first account has posted more than its heir.
        let leak =
            "UPDATE nonces SET next = next + 1 WHERE next = (SELECT MAX(next) FROM nonces) RETURNING 'next', next";
        ensure!(self.database.rows(leak).await?.len() == 1, "one account");
        self.until("a gap is filled", filled, before + 1).await?;
        self.everyday().await
    }

    /// The relayer comes back with another account, and nobody has the key of the first one; then with the first one.
    async fn another_key(&mut self) -> Result<()> {
        self.underway().await?;
        self.ground.account("heir").await?;
        self.doomed.call_with(|config| config.replace(KEY, HEIR)).await?;
        self.chain().anvil.rpc("anvil_dropAllTransactions", serde_json::json!([])).await?;
        let given_up = "SELECT 'n', COUNT(*) FROM transactions WHERE purpose = 'noop' AND state = 'pending'";
        self.until("an answer is posted from another account", given_up, 1).await?;
        self.ticker.go_on();
        self.chain().fulfilled(&self.asked, PATIENCE).await?;
        self.doomed.call_with(str::to_owned).await?;
        self.everyday().await
    }

    /// The newest blocks are taken back, with a request and its answer. It comes again, at once or some time later.
    async fn reorganised(&mut self, at_once: bool) -> Result<()> {
        let asked = self.chain().ask_one(Wish::default()).await?;
        let block = self.in_a_block(&asked).await?;
        self.asked.push(asked.clone());
        self.ended(State::Mined, 1).await?;
        self.ticker.stop().await;
        // Not yet deep enough to be done with, whatever was mined meanwhile.
        let depth = self.chain().height().await? - block + 1;
        let again = if at_once { serde_json::json!([[asked.raw, depth - 1]]) } else { serde_json::json!([]) };
        self.chain().anvil.rpc("anvil_reorg", serde_json::json!([depth, again])).await?;
        if !at_once {
            self.ended(State::Orphaned, 1).await?;
        }
        // The request comes back before its answer does, and stays alone until that was seen: a relayer that lives
        // would broadcast the answer again, into the very block of the request.
        let relayer = self.doomed.relayer.clone();
        let relayer = relayer.lock().await;
        relayer.process.pause();
        self.chain().anvil.rpc("anvil_dropAllTransactions", serde_json::json!([])).await?;
        if !at_once {
            self.chain().ask_again(std::slice::from_ref(&asked)).await?;
            self.chain().mine(1).await?;
        }
        relayer.process.resume();
        drop(relayer);
        let none = "SELECT 'n', 1 - COUNT(*) FROM jobs WHERE state IN ('mined', 'orphaned')";
        self.until("the request is back", none, 1).await?;
        self.ticker.go_on();
        self.chain().forget_nonces().await;
        self.everyday().await
    }
}

/// Every commit of the relayer's database is a point, and so is every move of a job in it, before and after. At each of them
/// that comes up in a story in which all of them come up, a process is killed.
pub(crate) async fn at_every_commit_once() -> Result<()> {
    // What is finalized is done with, however deep it is: nothing is for a long time.
    let ground = Arc::new(Ground::lay(&Plan { mining: Mining::Manual, epoch: 32, ..Plan::default() }).await?);
    let ticker = Ticker::start(&ground);
    let candidate = ground.relayer("doomed").await?;
    let heir = ground.account("heir").await?;
    let told = [(HEIR.to_owned(), hex::encode(heir.to_bytes()))];
    // Receipts are collected soon, before the next death.
    let candidate =
        candidate.set("parties.tail_ms", 10).set("tx.bump_after_s", 1).set("tx.depth", DEPTH).set("relayers.lead_s", 2);
    let doomed = Doomed::start(candidate, ground.home(), Fate::EveryPoint, &told).await?;
    let (database, account, url) = {
        let relayer = doomed.relayer.lock().await;
        (relayer.database.clone(), relayer.account, relayer.url.clone())
    };
    let mut stage = Stage { ground: ground.clone(), ticker, doomed, database, account, url, asked: Vec::new() };
    // A commit that is on its way when the process dies at another point comes about, and nobody dies after it: what comes up
    // only once may be missed, and comes up again.
    for _ in 0..ROUNDS {
        stage.everything().await?;
        if stage.missed()?.is_empty() {
            break;
        }
    }
    let (missed, died_at) = (stage.missed()?, stage.doomed.died_at()?);
    ensure!(missed.is_empty(), "never killed at {missed:?}, but at {died_at:?}");
    let Stage { doomed, database, account, asked, .. } = stage;
    let (_relayer, died) = doomed.spare().await?;
    let accounts = [account, heir.address()];
    let audit = ground.chain().audit(&asked, &accounts).await?;
    agree(ground.chain(), &database, &accounts, asked.len()).await?;
    println!("  killed {died} times at {} points, {} requests: {audit:?}", died_at.len(), asked.len());
    Ok(())
}

/// Counts jobs in a state.
fn jobs(state: State) -> String {
    format!("SELECT 'n', COUNT(*) FROM jobs WHERE state = '{state}'")
}

fn expected() -> BTreeSet<String> {
    let sides = [Side::Before, Side::After];
    let moves = MOVES.into_iter().map(|(from, to)| Move { from, to }).collect::<Vec<_>>();
    sides
        .into_iter()
        .flat_map(|side| {
            let moves = moves.iter().map(move |moved| name_of_move(side, moved)).collect::<Vec<_>>();
            Write::ALL.into_iter().map(move |write| name(side, write)).chain(moves)
        })
        .collect()
}

/// Requests all the time, and a relayer that dies at no moment in particular.
pub(crate) async fn at_any_moment() -> Result<()> {
    let requests = crate::number("KMS_TEST_REQUESTS", 500);
    let seed = crate::number("KMS_TEST_SEED", 0x5eed);
    let ground = Ground::lay(&Plan::default()).await?;
    let candidate = ground.relayer("doomed").await?.set("relayers.lead_s", 2).set("tx.depth", 3);
    let fate = Fate::AnyMoment { seed, least: 100, most: 1_500 };
    let mut doomed = Doomed::start(candidate, ground.home(), fate, &[]).await?;
    let chain = ground.chain();
    let mut asked = Vec::new();
    while asked.len() < usize::try_from(requests)? {
        asked.extend(chain.ask(20, Wish::default()).await?);
        tokio::time::sleep(Duration::from_millis(300)).await;
        doomed.check().await?;
    }
    let (relayer, died) = doomed.spare().await?;
    chain.fulfilled(&asked, PATIENCE).await?;
    let (database, account) = {
        let relayer = relayer.lock().await;
        (relayer.database.clone(), relayer.account)
    };
    settled(std::slice::from_ref(&database)).await?;
    let audit = chain.audit(&asked, &[account]).await?;
    agree(chain, &database, &[account], asked.len()).await?;
    ensure!(died >= 5, "it was killed {died} times only");
    // A process that goes on from its database has no reason to send anything twice.
    ensure!(audit.reverted == 0 && audit.noops == 0, "seed {seed}: {audit:?}");
    println!("  killed {died} times over {} requests: {audit:?}", asked.len());
    Ok(())
}
