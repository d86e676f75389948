//! One look at the chain: compare, walk back, catch up.

use super::{BlockRef, FollowError, FollowerConfig, Log, Sink, Step, settled};
use crate::rpc::{Chain, Filter, Heights, RpcError};
use alloy::primitives::{Bloom, BloomInput};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;

/// Blocks read one by one that go into one step, and logs after which a step is full.
const BLOCKS_PER_STEP: usize = 32;
const LOGS_PER_STEP: usize = 10_000;
/// Requests in flight while headers or logs are fetched.
const CONCURRENCY: usize = 8;

#[derive(Debug)]
pub(super) struct Scan<S> {
    chain: Chain,
    config: FollowerConfig,
    sink: S,
    /// The sink's rows, oldest first; `None` until read, and after a sink failed.
    rows: Option<Vec<BlockRef>>,
    window: u64,
    head: u64,
    safe: u64,
    finalized: u64,
}

impl<S: Sink> Scan<S> {
    pub(super) fn new(chain: Chain, config: FollowerConfig, sink: S) -> Self {
        let window = config.max_window.clamp(1, 1000);
        Self { chain, config, sink, rows: None, window, head: 0, safe: 0, finalized: 0 }
    }

    /// Cursor, head and finalized height.
    pub(super) fn position(&self) -> (u64, u64, u64) {
        (self.tip().map_or(0, |tip| tip.number), self.head, self.finalized)
    }

    fn tip(&self) -> Option<BlockRef> {
        self.rows.as_ref()?.last().copied()
    }

    /// Brings the sink up to the head that the chain has now.
    pub(super) async fn round(&mut self) -> Result<(), FollowError> {
        if self.rows.is_none() {
            self.rows = Some(self.sink.tail().await.map_err(FollowError::Sink)?);
        }
        let heights = self.chain.heights().await?;
        let mut orphaned = self.fork(&heights).await?;
        if !orphaned.is_empty() {
            // Another chain looks like a deep reorganisation: nothing is undone on the word of a node that serves one.
            self.chain.identify().await?;
        }
        self.head = heights.latest.number;
        let heights_changed = heights.safe > self.safe || heights.finalized > self.finalized;
        // They never go back, but neither does a false answer stay above the head.
        self.finalized = if self.finalized > self.head { 0 } else { self.finalized }.max(heights.finalized);
        self.safe = if self.safe > self.head { 0 } else { self.safe }.max(heights.safe).max(self.finalized);
        let settled = settled(&heights.latest, self.finalized);
        let mut idle = !heights_changed;
        loop {
            let base = self.base(&orphaned);
            let from = base.map_or(self.config.start_block, |base| base.number + 1);
            let blocks = if from > heights.latest.number {
                Vec::new()
            } else if from <= settled {
                self.window(from, settled).await?
            } else {
                self.singles(from, heights.latest.number, base).await?
            };
            if blocks.is_empty() && orphaned.is_empty() && idle {
                return Ok(());
            }
            let Some(latest) = blocks.last().map(|(block, _)| *block).or(base) else { return Ok(()) };
            self.apply(std::mem::take(&mut orphaned), blocks, latest).await?;
            idle = true;
        }
    }

    /// The newest row that stays.
    fn base(&self, orphaned: &[BlockRef]) -> Option<BlockRef> {
        let rows = self.rows.as_deref().unwrap_or_default();
        rows[..rows.len() - orphaned.len()].last().copied()
    }

    /// Rows that are no longer canonical, newest first.
    async fn fork(&self, heights: &Heights) -> Result<Vec<BlockRef>, FollowError> {
        let rows = self.rows.as_deref().unwrap_or_default();
        let mut orphaned = Vec::new();
        let mut unmatched = None;
        for row in rows.iter().rev() {
            if row.number > heights.latest.number {
                // A shorter chain: whether these rows are gone shows at the height that both have.
                orphaned.push(*row);
                continue;
            }
            let canonical =
                if row.number == heights.latest.number { heights.latest } else { self.canonical(row.number).await? };
            if canonical.hash == row.hash {
                // Nothing but missing blocks on top: the endpoint is behind, or blocks were taken back without being
                // replaced yet. Either way there is nothing to undo until a different block shows up.
                return Ok(if unmatched.is_none() { Vec::new() } else { orphaned });
            }
            orphaned.push(*row);
            unmatched = Some(canonical.hash);
        }
        // Not one row is left, not even the settled one at the foot: fine only if nothing older was ever dropped from the table and the endpoint has this height.
        match (rows.first(), unmatched) {
            (Some(oldest), Some(found)) if oldest.number > self.config.start_block => {
                Err(FollowError::FinalizedReorg { number: oldest.number, expected: oldest.hash, found })
            }
            (_, None) => Ok(Vec::new()),
            _ => Ok(orphaned),
        }
    }

    async fn canonical(&self, number: u64) -> Result<BlockRef, FollowError> {
        let block = self.chain.block_by_number(number).await?;
        at_height(block, number)
    }

    fn filter(&self) -> Filter {
        Filter::new().address(self.config.addresses.clone())
    }

    fn may_hold_ours(&self, bloom: &Bloom) -> bool {
        self.config.addresses.iter().any(|address| bloom.contains_input(BloomInput::Raw(address.as_slice())))
    }

    /// One window of settled blocks: those with logs, and its last block.
    async fn window(&mut self, from: u64, settled: u64) -> Result<Vec<(BlockRef, Vec<Log>)>, FollowError> {
        let (last, logs) = loop {
            let to = settled.min(from.saturating_add(self.window - 1));
            match self.chain.logs_up_to(&self.filter().from_block(from), to).await {
                Ok((logs, last)) => break (at_height(last, to)?, logs),
                // At one block it is a real error.
                Err(error) if error.wants_less() && to > from => {
                    self.window = ((to - from) / 2).max(1);
                }
                Err(error) => return Err(error.into()),
            }
        };
        self.window = (self.window * 2).min(self.config.max_window.max(1));
        let to = last.number;
        let mut by_block = BTreeMap::<u64, Vec<Log>>::from([(to, Vec::new())]);
        for log in logs {
            let number = log.block_number.ok_or(FollowError::Moved(from))?;
            if !(from..=to).contains(&number) {
                return Err(FollowError::Moved(number));
            }
            by_block.entry(number).or_default().push(log);
        }
        let scan = &*self;
        stream::iter(by_block)
            .map(|(number, logs)| async move {
                let block = if number == to { last } else { scan.canonical(number).await? };
                sealed(block, logs)
            })
            .buffered(CONCURRENCY)
            .try_collect()
            .await
    }

    /// Some blocks above the settled ones, each linked to the one before.
    async fn singles(
        &self,
        from: u64,
        head: u64,
        base: Option<BlockRef>,
    ) -> Result<Vec<(BlockRef, Vec<Log>)>, FollowError> {
        let mut reading = stream::iter((from..=head).take(BLOCKS_PER_STEP))
            .map(|number| async move {
                let (block, bloom) = self.chain.block_and_bloom(number).await?.unzip();
                let block = at_height(block, number)?;
                let filter = self.filter().at_block_hash(block.hash);
                let mut logs = self.chain.logs(&filter).await?;
                if logs.is_empty() && bloom.flatten().is_some_and(|bloom| self.may_hold_ours(&bloom)) {
                    // Usually somebody else's logs have the same bits; but a node that is still at work on this block, or
                    // lies, would make us skip a request for ever. The last word have receipts, which nodes don't keep in
                    // the index of their logs.
                    logs = self.chain.logs_anywhere(&filter).await;
                    if logs.is_empty() {
                        logs = self.chain.logs_of_receipts(block.hash, &self.config.addresses).await;
                    }
                    if !logs.is_empty() {
                        tracing::warn!(chain = self.chain.chain_id(), number, "an RPC endpoint leaves out logs");
                    }
                }
                sealed(block, logs)
            })
            .buffered(CONCURRENCY);
        let (mut blocks, mut parent, mut count) = (Vec::new(), base, 0);
        while let Some((block, logs)) = reading.try_next().await? {
            if parent.is_some_and(|parent| parent.number + 1 != block.number || parent.hash != block.parent) {
                return Err(FollowError::Moved(block.number));
            }
            parent = Some(block);
            count += logs.len();
            blocks.push((block, logs));
            if count >= LOGS_PER_STEP {
                break;
            }
        }
        Ok(blocks)
    }

    async fn apply(
        &mut self,
        orphaned: Vec<BlockRef>,
        blocks: Vec<(BlockRef, Vec<Log>)>,
        latest: BlockRef,
    ) -> Result<(), FollowError> {
        let added: Vec<BlockRef> = blocks.iter().map(|(block, _)| *block).collect();
        let removed = orphaned.len();
        if removed > 0 {
            tracing::info!(
                chain = self.chain.chain_id(),
                removed,
                from = orphaned[removed - 1].number,
                "chain reorganised"
            );
        }
        let step = Step { orphaned, blocks, latest, safe: self.safe, finalized: self.finalized };
        // Until the sink has answered, nobody knows what its table holds.
        let rows = self.rows.take();
        self.sink.apply(step).await.map_err(FollowError::Sink)?;
        let mut rows = rows.unwrap_or_default();
        rows.truncate(rows.len() - removed);
        rows.extend(added);
        let settled = settled(&latest, self.finalized);
        let foot = rows.iter().rposition(|row| row.number <= settled).unwrap_or(0);
        rows.drain(..foot);
        self.rows = Some(rows);
        Ok(())
    }
}

/// The block that was asked for, and no other.
fn at_height(block: Option<BlockRef>, number: u64) -> Result<BlockRef, FollowError> {
    let block = block.ok_or_else(|| RpcError::BlockUnknown(number.to_string()))?;
    if block.number == number { Ok(block) } else { Err(FollowError::Moved(number)) }
}

/// Checks that the logs are those of the block, and puts each of them in its place once.
fn sealed(block: BlockRef, mut logs: Vec<Log>) -> Result<(BlockRef, Vec<Log>), FollowError> {
    let strange = |log: &Log| log.block_hash != Some(block.hash) || log.log_index.is_none() || log.removed;
    if logs.iter().any(strange) {
        return Err(FollowError::Moved(block.number));
    }
    logs.sort_by_key(|log| log.log_index);
    logs.dedup_by_key(|log| log.log_index);
    Ok((block, logs))
}
