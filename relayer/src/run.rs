//! Puts the parts together, and takes them apart again in order when the process is asked to end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kms_chain::follower::{Follower, FollowerConfig};
use kms_chain::manifest::Manifest;
use kms_chain::rpc::Chain;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::now_ms;
use crate::config::{ChainConfig, Config, Limits};
use crate::dispatch::{Committee, DispatchRules};
use crate::error::Error;
use crate::feed::Feed;
use crate::http::{Access, Api, Desk, RateLimit, Seats, router};
use crate::metrics::Metrics;
use crate::parties;
use crate::pipeline::{Destination, Pipeline, PipelineRules};
use crate::ranks::Ranks;
use crate::sight::{Lookout, Surroundings};
use crate::store::{ChainRules, Store, Witness};
use crate::tx::{Caretaker, Signer, TxManager};
use crate::views::{ChainViews, Judge};
use crate::watch::ChainSink;

/// Seconds after a deadline in which an answer is still taken; the gateway's `FULFIL_GRACE`.
const FULFIL_GRACE_S: u64 = 300;
/// How often the transaction manager looks, when no block wakes it.
const TX_TICK: Duration = Duration::from_secs(1);
/// Jobs deleted in one transaction.
const PRUNE_STEP: usize = 100;
/// Seconds between two looks for jobs to delete.
const PRUNE_ROUNDS: u64 = 15;
/// How long the last parties are waited for in a round when a quorum of others did not answer.
const LAST_CALL: Duration = Duration::from_secs(2);
/// How often the right of a user is looked for before it counts as missing, and the pause in between.
const LOOKS: u32 = 4;
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// Rounds between two looks at the balance.
const BALANCE_ROUNDS: u64 = 30;

/// Checks everything that can be checked without connecting anywhere. Returns one line for people.
///
/// # Errors
/// What is wrong.
pub fn check(config: &Config) -> Result<String, Error> {
    let manifest = config.manifest()?;
    let account = config.signer.account()?.map(|address| address.to_string());
    parties::Identity::load(&config.tls)?;
    Ok(format!(
        "configuration is good: {} parties, threshold {}, {} chains, account {}{}",
        manifest.committee.n,
        manifest.committee.threshold,
        config.chains.len(),
        account.as_deref().unwrap_or("of a key in AWS KMS that is looked up at the start"),
        if config.traces.is_some() { ", traced" } else { "" },
    ))
}

/// Runs the relayer until SIGTERM or SIGINT.
///
/// # Errors
/// What kept it from starting.
pub async fn run(config: Config) -> Result<(), Error> {
    run_before(config, None).await
}

/// The same, before somebody who is told of every commit of the database.
///
/// # Errors
/// As [`run`].
pub async fn run_before(config: Config, witness: Option<Arc<dyn Witness>>) -> Result<(), Error> {
    let manifest = config.manifest()?;
    let signer = config.signer.open().await?;
    let identity = parties::Identity::load(&config.tls)?;
    let store = Store::open_before(&config.database, &config.instance, Arc::new(Metrics::default()), witness).await?;
    let parties = parties::Parties::connect(&manifest, &identity)?;
    let committee: Arc<dyn Committee> = Arc::new(parties.clone());
    store.metrics().committee(committee.parties().len(), committee.threshold());
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .map_err(|e| Error::Config(format!("listen {}: {e}", config.listen)))?;

    let cancel = CancellationToken::new();
    let tasks = TaskTracker::new();
    let mut destinations = BTreeMap::new();
    let mut followers = BTreeMap::new();
    let mut lenses = BTreeMap::new();
    let mut chains = Vec::new();
    for chain in &config.chains {
        let (status, destination, rpc) =
            start_chain(&config, chain, &manifest, &store, &signer, &cancel, &tasks).await?;
        followers.insert(chain.chain_id, status);
        chains.push((rpc.clone(), destination.manager.clone()));
        lenses.insert(chain.chain_id, (rpc, destination.lens));
        destinations.insert(chain.chain_id, destination);
    }
    let pipeline = Pipeline::new(store.clone(), committee.clone(), destinations, pipeline_rules(&config));
    let working = tokio::spawn(pipeline.run(cancel.clone()));
    tasks.spawn(expire_pulls(store.clone(), config.limits.clone(), cancel.clone()));

    let api = Arc::new(Api {
        store: store.clone(),
        committee,
        followers,
        access: Access::new(&config.access),
        seats: Seats::new(config.limits.followers, config.limits.followers_per_client),
        feed: Feed::start(store.clone()),
        desk: Desk::new(Lookout::start(Arc::new(Surroundings { parties, chains }))),
        rate: RateLimit::new(config.limits.requests_per_second, config.limits.burst),
        body_bytes: config.limits.body_bytes,
        open_pulls: config.limits.open_pulls,
        open_pulls_per_client: config.limits.open_pulls_per_client,
        pull_timeout_s: config.limits.pull_timeout_s,
        decryption_contract: manifest.decryption_domain.verifying_contract,
        judge: Judge::new(Arc::new(ChainViews::new(lenses)), LOOKS, LOOK_PAUSE),
        collect: Duration::from_secs(config.limits.user_collect_s),
        draining: AtomicBool::new(false),
    });
    let service = router(api.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let stop_http = CancellationToken::new();
    let serving = tokio::spawn({
        let stop = stop_http.clone();
        async move { axum::serve(listener, service).with_graceful_shutdown(stop.cancelled_owned()).await }
    });
    tracing::info!(listen = %config.listen, account = %signer.address(), "the relayer works");

    ended().await;
    tracing::info!("asked to end: no new work is taken, what is at hand is finished");
    api.draining.store(true, Ordering::Relaxed);
    cancel.cancel();
    tasks.close();
    let drained = async {
        let _ = working.await;
        tasks.wait().await;
    };
    if tokio::time::timeout(Duration::from_secs(config.limits.drain_s), drained).await.is_err() {
        tracing::warn!("work at hand is not finished in time; the next start goes on with it");
    }
    api.feed.stop();
    stop_http.cancel();
    let _ = tokio::time::timeout(Duration::from_secs(2), serving).await;
    store.close().await;
    tracing::info!("ended");
    Ok(())
}

type FollowerStatus = tokio::sync::watch::Receiver<kms_chain::follower::FollowerStatus>;

async fn start_chain(
    config: &Config,
    chain: &ChainConfig,
    manifest: &Manifest,
    store: &Store,
    signer: &Signer,
    cancel: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<(FollowerStatus, Destination, Chain), Error> {
    let id = chain.chain_id;
    let host = manifest.chain(id).ok_or_else(|| Error::Config(format!("chain {id} is not in the manifest")))?;
    let rpc = Chain::connect(&chain.rpc, id).await.map_err(|e| Error::Chain(e.to_string()))?;
    let gateway = host.contracts.decryption_gateway;
    let lead_ms = i64::try_from(config.relayers.lead_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
    let (floor, depth) = (host.floor(), config.tx.depth);
    let rules = ChainRules { chain: id, floor, depth, grace: FULFIL_GRACE_S, lead_ms };
    let follower = Follower::new(
        rpc.clone(),
        FollowerConfig {
            addresses: vec![gateway],
            start_block: host.deployment_block,
            max_window: chain.max_window,
            tick: Duration::from_millis(chain.poll_ms),
        },
        ChainSink::new(store.clone(), gateway, rules),
    );
    let status = follower.status();
    tasks.spawn(follower.run(cancel.clone()));
    let manager = Arc::new(TxManager::new(store.clone(), Arc::new(rpc.clone()), signer.clone(), id, config.tx_rules()));
    let lead = Duration::from_secs(config.relayers.lead_s);
    let caretaker = Caretaker::new(store.clone(), Arc::new(rpc.clone()), manager.account(), config.tx_rules());
    tasks.spawn(mind_others(caretaker, lead, cancel.clone()));
    tasks.spawn(mind_transactions(store.clone(), manager.clone(), lead_ms, cancel.clone()));
    Ok((status, Destination { gateway, lens: host.contracts.guard_lens, manager }, rpc))
}

/// Looks after accounts of this database whose relayers are gone, until cancelled.
async fn mind_others(caretaker: Caretaker, lead: Duration, cancel: CancellationToken) {
    loop {
        // Twice as seldom as an account is held, so that its owner finds it free when it comes back.
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(lead / 2) => {}
        }
        if let Err(error) = caretaker.look(lead / 4).await {
            tracing::error!(%error, "accounts of other relayers can't be looked after");
        }
    }
}

/// Runs the manager's rounds: after every change of the chain, and at least every [`TX_TICK`].
async fn mind_transactions(store: Store, manager: Arc<TxManager>, lead_ms: i64, cancel: CancellationToken) {
    let account = manager.account();
    let lead = account.lead_name();
    let mut cursor = store.stirred();
    for round in 0u64.. {
        match store.lead(&lead, lead_ms).await {
            Ok(true) => {
                if let Err(error) = manager.tick().await {
                    tracing::error!(chain = account.chain, %error, "a round of the transaction manager failed");
                }
                if round % BALANCE_ROUNDS == 0
                    && let Err(error) = manager.check_balance().await
                {
                    tracing::warn!(chain = account.chain, %error, "the balance can't be read");
                }
            }
            Ok(false) => {
                if let Err(error) = manager.stand_by().await {
                    tracing::error!(chain = account.chain, %error, "pending transactions can't be counted");
                }
            }
            Err(error) => tracing::error!(%error, "the database does not answer"),
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(TX_TICK) => {}
            // Not more often than a few times per second, however busy the database is.
            () = async { let _ = cursor.changed().await; tokio::time::sleep(TX_TICK / 4).await } => {}
        }
    }
}

/// Ends pulls whose time is over, and deletes what ended long ago.
async fn expire_pulls(store: Store, limits: Limits, cancel: CancellationToken) {
    for round in 0u64.. {
        if round % PRUNE_ROUNDS == 0 {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = forget(&store, &limits) => {}
            }
        }
        if let Err(error) = store.expire_pulls().await {
            tracing::error!(%error, "overdue jobs can't be ended");
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Deletes what ended long ago, in steps, so that others come in between.
async fn forget(store: &Store, limits: &Limits) {
    let before =
        |seconds: u64| now_ms().saturating_sub(i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX));
    let users = before(limits.user_retention_s);
    while pruned(store.prune_users(users, limits.user_kept, PRUNE_STEP).await) {}
    let pulls = before(limits.pull_retention_h.saturating_mul(3_600));
    while pruned(store.prune_pulls(pulls, PRUNE_STEP).await) {}
    let requests = before(limits.request_retention_days.saturating_mul(86_400));
    while limits.request_retention_days > 0 && pruned(store.prune_requests(requests, PRUNE_STEP).await) {}
}

/// Whether there is more to delete. An error is said, and the next round tries again.
fn pruned(result: Result<usize, Error>) -> bool {
    match result {
        Ok(count) => count == PRUNE_STEP,
        Err(error) => {
            tracing::error!(%error, "old jobs can't be deleted");
            false
        }
    }
}

fn pipeline_rules(config: &Config) -> PipelineRules {
    PipelineRules {
        concurrency: config.limits.concurrency,
        reserved: config.limits.reserved,
        lease: Duration::from_secs(config.limits.lease_s),
        dispatch: DispatchRules {
            patience: Duration::from_secs(config.parties.patience_s),
            tail: Duration::from_millis(config.parties.tail_ms),
            longest_pause: Duration::from_secs(config.parties.longest_pause_s),
            grace: Duration::from_secs(config.limits.pull_grace_s),
            last_call: LAST_CALL,
            collect: Duration::from_secs(config.limits.user_collect_s),
        },
        ranks: Ranks { known: config.relayers.known.clone(), slot: Duration::from_millis(config.relayers.slot_ms) },
        tick: Duration::from_millis(250),
    }
}

/// Waits for SIGTERM or SIGINT.
async fn ended() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut term), Ok(mut int)) => {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        }
        (term, int) => {
            let error = term.err().or(int.err());
            tracing::error!(?error, "signals can't be received; only SIGKILL ends this process");
            std::future::pending::<()>().await;
        }
    }
}
