//! The block follower: hands every log of some contracts to a [`Sink`], exactly once per canonical block, and takes back
//! what a reorg removes.
//!
//! The sink keeps a table of block references down to the [`settled`] height; its newest row is the cursor. Up to the settled
//! height the follower reads windows of `eth_getLogs` whose size adapts; above it goes block by block, header and logs
//! by hash, and a parent that doesn't match leads back to the fork. The head's hash is compared on every tick, so a reorg that
//! leaves the height alone is seen too. Every step is one transaction of the sink: after a kill at any point the next run
//! resumes at the cursor. What is called final is believed for the jobs, but the last [`TAIL`] blocks are never settled: a
//! false answer about finality heals like any other reorg. A reorg of settled blocks is not followed but reported as an
//! error, again and again, until someone looks.

mod scan;
#[cfg(test)]
mod tests;

pub use crate::rpc::BlockRef;
pub use alloy::rpc::types::Log;

use crate::rpc::{Chain, EndpointReport, RpcError};
use alloy::primitives::Address;
use futures::{FutureExt, StreamExt};
use scan::Scan;
use std::{future::Future, time::Duration};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Whatever a sink's storage says.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// Where followed blocks go.
pub trait Sink: Send + Sync {
    /// All block references kept, oldest first. At least: everything above the [`settled`] height of the last step, and the
    /// newest row at or below it (also when that row is far below: it is the cursor). Older rows may be dropped.
    fn tail(&self) -> impl Future<Output = Result<Vec<BlockRef>, SinkError>> + Send;

    /// Takes one step in ONE transaction: undo `orphaned`, add `blocks`, remember the heights. A sink that fails has
    /// done nothing; the step, or another one that fits the chain better, comes again.
    fn apply(&self, step: Step) -> impl Future<Output = Result<(), SinkError>> + Send;
}

/// Blocks below the cursor that can still be taken back, whatever an endpoint calls final.
pub const TAIL: u64 = 256;

/// The height up to which blocks are never taken back, so that rows below may be dropped: finalized, and [`TAIL`] blocks
/// below the cursor `latest`.
#[must_use]
pub fn settled(latest: &BlockRef, finalized: u64) -> u64 {
    finalized.min(latest.number.saturating_sub(TAIL))
}

/// One move of the cursor.
#[derive(Clone, Debug)]
pub struct Step {
    /// Rows that are no longer canonical, newest first. To be undone before `blocks` are added.
    pub orphaned: Vec<BlockRef>,
    /// New canonical blocks in ascending order, with their logs in order. Above finalized, and among the [`TAIL`] newest blocks of
    /// the chain, there is one entry per block; below, only blocks with logs and the last block of a window, which is the cursor.
    pub blocks: Vec<(BlockRef, Vec<Log>)>,
    /// The cursor after this step: newest block whose logs the sink has seen.
    pub latest: BlockRef,
    /// Number of the chain's safe block, 0 if none. Never goes back within a run, unless the chain turns out shorter.
    pub safe: u64,
    /// Number of the chain's finalized block, 0 if none. Never goes back within a run, unless the chain turns out shorter.
    pub finalized: u64,
}

/// What to follow.
#[derive(Clone, Debug)]
pub struct FollowerConfig {
    /// Contracts whose logs are wanted.
    pub addresses: Vec<Address>,
    /// Where to begin when the sink is empty: the deployment block.
    pub start_block: u64,
    /// Most blocks in one `eth_getLogs` of settled blocks.
    pub max_window: u64,
    /// How often to look at the head when nothing wakes the follower.
    pub tick: Duration,
}

/// How the follower is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FollowerStatus {
    /// Newest block whose logs the sink has.
    pub cursor: u64,
    /// Newest block of the chain that was seen.
    pub head: u64,
    /// Finalized height.
    pub finalized: u64,
    /// Completed looks at the chain since start; grows with every tick that succeeds.
    pub rounds: u64,
    /// Why the last look failed, if it did.
    pub error: Option<String>,
    /// The endpoints, when they were last compared: every [`SURVEY_TICKS`] looks.
    pub endpoints: Vec<EndpointReport>,
}

/// Why one look at the chain failed. The follower tries again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// The chain can't be read.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The sink failed.
    #[error("sink: {0}")]
    Sink(SinkError),
    /// The chain changed, or the endpoint contradicted itself, while it was read.
    #[error("the chain changed at height {0} while it was read")]
    Moved(u64),
    /// The endpoint shows another block at a height that was final.
    #[error("block {number} was finalized as {expected}, the endpoint now shows {found}")]
    FinalizedReorg {
        /// Height.
        number: u64,
        /// Hash in the table.
        expected: alloy::primitives::B256,
        /// Hash of the endpoint.
        found: alloy::primitives::B256,
    },
}

/// Follows one chain into one sink.
#[derive(Debug)]
pub struct Follower<S> {
    chain: Chain,
    tick: Duration,
    scan: Scan<S>,
    status: watch::Sender<FollowerStatus>,
}

/// Failed looks in a row before the wait between them stops growing.
const MAX_BACKOFF_STEPS: u32 = 5;
/// Ticks between two comparisons of the endpoints.
pub const SURVEY_TICKS: u64 = 32;
/// Blocks that the active endpoint may be behind the best one.
const MAX_LAG: u64 = 3;

impl<S: Sink> Follower<S> {
    /// Prepares a follower; nothing is read yet.
    #[must_use]
    pub fn new(chain: Chain, config: FollowerConfig, sink: S) -> Self {
        let tick = config.tick;
        let (status, _) = watch::channel(FollowerStatus::default());
        Self { chain: chain.clone(), tick, scan: Scan::new(chain, config, sink), status }
    }

    /// A view of the follower's condition, for health checks and metrics.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<FollowerStatus> {
        self.status.subscribe()
    }

    /// Follows until cancelled. Faults of chain and sink are logged, shown in the status, and tried again.
    pub async fn run(mut self, cancel: CancellationToken) {
        cancel.clone().run_until_cancelled(self.follow()).await;
    }

    async fn follow(&mut self) {
        let mut heads = None;
        let mut pushing = self.chain.active();
        let mut failures = 0;
        for tick in 0u64.. {
            if tick % SURVEY_TICKS == 0 {
                let endpoints = self.chain.survey(MAX_LAG).await;
                self.status.send_modify(|status| status.endpoints = endpoints);
            }
            let result = self.scan.round().await;
            failures = if result.is_ok() { 0 } else { failures + 1 };
            self.report(result);
            // An endpoint that is left, or does not answer, may never push again without its stream's end.
            if failures > 0 || self.chain.active() != pushing {
                heads = None;
            }
            if heads.is_none() {
                pushing = self.chain.active();
                heads = self.chain.new_heads().await;
            }
            let wait = self.tick * 2u32.pow(failures.min(MAX_BACKOFF_STEPS));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // A stream that ended wakes at once; the next round asks for a new one.
                pushed = next(&mut heads), if heads.is_some() && failures == 0 => if pushed.is_none() { heads = None },
            }
            // One look answers all pushes that are here by now.
            while let Some(Some(())) = next(&mut heads).now_or_never() {}
        }
    }

    fn report(&self, result: Result<(), FollowError>) {
        let error = result.err().map(|error| {
            let message = error.to_string();
            if matches!(error, FollowError::FinalizedReorg { .. }) {
                tracing::error!(chain = self.chain.chain_id(), "{message}");
            } else {
                tracing::warn!(chain = self.chain.chain_id(), "block follower: {message}");
            }
            message
        });
        let (cursor, head, finalized) = self.scan.position();
        self.status.send_modify(|status| {
            let rounds = status.rounds + u64::from(error.is_none());
            let endpoints = std::mem::take(&mut status.endpoints);
            *status = FollowerStatus { cursor, head, finalized, rounds, error, endpoints };
        });
    }
}

async fn next(heads: &mut Option<futures::stream::BoxStream<'static, ()>>) -> Option<()> {
    match heads {
        Some(stream) => stream.next().await,
        None => None,
    }
}
