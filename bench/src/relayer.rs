//! One relayer over a real chain and stub parties at the gRPC boundary: how soon, how many, how much memory, how soon again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use alloy::{
    primitives::B256,
    providers::{Provider, ProviderBuilder, WsConnect},
};
use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use kms_proto::node::NotYetReason;
use kms_tests::{
    cluster::answers_ok,
    ground::{Asked, Chain, Database, Ground, Plan, Wish, load},
    stub::Manner,
};

use crate::report::{Figure, median, percentile};

const PATIENCE: Duration = Duration::from_secs(600);

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Requests one after the other, for latency.
    pub(crate) single: usize,
    /// Requests that are answered as fast as it goes, for throughput.
    pub(crate) sustained: usize,
    /// Requests that are open at a restart.
    pub(crate) open: usize,
}

/// All figures of the area.
///
/// # Errors
/// Something does not start, or an answer is missing or wrong.
pub(crate) fn run_blocking(sizes: Sizes) -> Result<Vec<Figure>> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Runtime::new()?.block_on(run(sizes))
}

async fn run(sizes: Sizes) -> Result<Vec<Figure>> {
    let mut figures = latency(sizes).await?;
    figures.push(throughput("sqlite", None, sizes).await?);
    match Database::server() {
        Some(server) => figures.push(throughput("postgres", Some(server), sizes).await?),
        None => eprintln!("  no PostgreSQL server: run it under script/with-postgres"),
    }
    figures.extend(recovery(sizes).await?);
    Ok(figures)
}

/// Milliseconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// When each block came, milliseconds, as the chain pushes it.
async fn watch_blocks(chain: &Chain) -> Result<Arc<Mutex<HashMap<u64, f64>>>> {
    let provider = ProviderBuilder::new().connect_ws(WsConnect::new(chain.anvil.ws_url())).await?;
    let mut heads = provider.subscribe_blocks().await?.into_stream();
    let seen = Arc::new(Mutex::new(HashMap::new()));
    let sink = seen.clone();
    tokio::spawn(async move {
        // The subscription lives as long as its provider.
        let _provider = provider;
        while let Some(head) = heads.next().await {
            sink.lock().unwrap_or_else(PoisonError::into_inner).insert(head.number, now());
        }
    });
    Ok(seen)
}

/// From the block with the request to the fulfilment handed to the node.
async fn latency(sizes: Sizes) -> Result<Vec<Figure>> {
    let ground = Ground::lay(&Plan::default()).await?;
    let chain = ground.chain();
    let database = Database::sqlite(ground.home(), "latency");
    let candidate = ground.relayer("latency").await?.with_database(&database);
    let relayer = candidate.with_endpoints(chain.id, &[chain.anvil.ws_url()]).start().await?;
    let seen = watch_blocks(chain).await?;
    // The first requests find out the epoch and make the connections.
    let first = chain.ask(5, Wish::default()).await?;
    chain.fulfilled(&first, PATIENCE).await?;
    let mut asked: Vec<Asked> = Vec::new();
    for _ in 0..sizes.single {
        asked.push(chain.ask_one(Wish::default()).await?);
        // Neither in step with the blocks, nor always alone in one.
        tokio::time::sleep(Duration::from_millis(130)).await;
    }
    chain.fulfilled(&asked, PATIENCE).await?;
    let audit = chain.audit(&[first, asked.clone()].concat(), &[relayer.account]).await?;
    ensure!(audit.reverted == 0, "{audit:?}");
    let sent = sent_at(&database).await?;
    let provider = chain.anvil.provider()?;
    let mut times = Vec::with_capacity(asked.len());
    for asked in &asked {
        let receipt = provider.get_transaction_receipt(asked.transaction).await?.context("no receipt")?;
        let block = receipt.block_number.context("no block")?;
        let came = *seen.lock().unwrap_or_else(PoisonError::into_inner).get(&block).context("a block unseen")?;
        let sent = *sent.get(&asked.id).context("never sent")?;
        times.push(sent - came);
    }
    let note = format!(
        "block with the request pushed by the chain to fulfilment taken by the node, finality latest, stub parties that \
         sign at once (no MPC), SQLite, endpoint by WebSocket, {} requests one after the other, everything on one machine",
        sizes.single
    );
    Ok(vec![
        Figure::new("relayer.latency.p50", median(times.clone()), "ms", &note),
        Figure::new("relayer.latency.p99", percentile(&mut times, 0.99), "ms", &note),
    ])
}

/// When each request's first transaction was taken by the node, milliseconds.
async fn sent_at(database: &Database) -> Result<HashMap<B256, f64>> {
    let rows = database
        .rows(
            "SELECT lower(hex(t.job)), MIN(a.sent_at) FROM attempts a JOIN transactions t ON t.chain = a.chain \
             AND t.sender = a.sender AND t.nonce = a.nonce WHERE a.sent_at IS NOT NULL GROUP BY t.job",
        )
        .await?;
    #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
    rows.into_iter().map(|(job, at)| Ok((job.parse()?, at as f64))).collect()
}

/// Many at once, and how long until all are fulfilled.
async fn throughput(name: &str, server: Option<String>, sizes: Sizes) -> Result<Figure> {
    let ground = Ground::lay(&Plan { gas_limit: 10_000_000_000, ..Plan::default() }).await?;
    let database = match server {
        Some(server) => Database::postgres(&server, ground.home(), name).await?,
        None => Database::sqlite(ground.home(), name),
    };
    let relayer = ground.relayer(name).await?.with_database(&database).start().await?;
    let chain = ground.chain();
    let first = chain.ask(5, Wish::default()).await?;
    chain.fulfilled(&first, PATIENCE).await?;
    let (asked, load) = load::at_once(chain, &relayer, sizes.sustained, PATIENCE).await?;
    let audit = chain.audit(&[first, asked].concat(), &[relayer.account]).await?;
    ensure!(audit.reverted == 0 && audit.noops == 0, "{audit:?}");
    eprintln!("  {name}: {}", load.describe());
    let note =
        format!("one relayer, four stub parties over mTLS, block every 0.2 s, all on one machine: {}", load.describe());
    Ok(Figure::new(&format!("relayer.throughput.{name}"), load.rate(), "fulfilments/s", note))
}

/// Killed with many open requests, and started again.
async fn recovery(sizes: Sizes) -> Result<Vec<Figure>> {
    let ground = Ground::lay(&Plan { gas_limit: 10_000_000_000, ..Plan::default() }).await?;
    let chain = ground.chain();
    // Open for as long as the parties say so.
    let wait = Manner::NotYet { times: u64::MAX, reason: NotYetReason::NotFinal, retry_after_ms: 5_000 };
    ground.parties.iter().for_each(|party| party.set(wait.clone()));
    let database = Database::sqlite(ground.home(), "recovery");
    let mut relayer = ground.relayer("recovery").await?.with_database(&database).start().await?;
    let asked = chain.ask(sizes.open, Wish::default()).await?;
    let deadline = Instant::now() + PATIENCE;
    // Every one of them has been put to the parties.
    let untouched = "SELECT 'open', COUNT(*) FROM jobs WHERE attempts > 0 AND state = 'dispatched'";
    let open = i64::try_from(sizes.open)?;
    while database.rows(untouched).await?.first().map(|row| row.1) != Some(open) {
        ensure!(Instant::now() < deadline, "not all requests came to the parties\n{}", relayer.process.log_tail(20));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let before = relayer.process.usage();
    relayer.process.kill();
    let asked_before: u64 = ground.parties.iter().map(|party| party.asked()).sum();
    ground.parties.iter().for_each(|party| party.set(Manner::Honest));
    // The others may not be due for some seconds: this one is.
    let late = chain.ask_one(Wish::default()).await?;
    let clock = Instant::now();
    relayer.process.restart()?;
    while ground.parties.iter().map(|party| party.asked()).sum::<u64>() == asked_before
        || !answers_ok(&format!("{}/readyz", relayer.url)).await
    {
        ensure!(Instant::now() < deadline, "it does not come back\n{}", relayer.process.log_tail(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seconds = clock.elapsed().as_secs_f64();
    let asked = [asked, vec![late]].concat();
    chain.fulfilled(&asked, PATIENCE).await?;
    let audit = chain.audit(&asked, &[relayer.account]).await?;
    ensure!(audit.reverted == 0, "{audit:?}");
    let after = relayer.process.usage();
    #[expect(clippy::cast_precision_loss, reason = "bytes")]
    let memory = before.peak.max(after.peak) as f64 / 1e6;
    let recovered = format!(
        "kill -9 with {} open requests, start of the process to ready and the first question at a party (of a request that came meanwhile, or an old one), SQLite",
        sizes.open
    );
    let rss =
        format!("most resident memory while {} requests came and waited, and while they were answered", sizes.open);
    Ok(vec![Figure::new("relayer.recovery", seconds, "s", recovered), Figure::new("relayer.rss", memory, "MB", rss)])
}
