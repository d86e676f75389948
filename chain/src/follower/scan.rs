//! One look at the chain: compare, walk back, catch up.

use super::{BlockRef, FollowError, FollowerConfig, Log, Sink, Step};
use crate::rpc::{Chain, Filter, Heights, RpcError};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;

/// Blocks above finalized that go into one step.
const BLOCKS_PER_STEP: usize = 32;
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
        self.head = heights.latest.number;
        let heights_changed = heights.safe > self.safe || heights.finalized > self.finalized;
        self.safe = self.safe.max(heights.safe);
        self.finalized = self.finalized.max(heights.finalized);
        let mut idle = !heights_changed;
        loop {
            let base = self.base(&orphaned);
            let from = base.map_or(self.config.start_block, |base| base.number + 1);
            let blocks = if from > heights.latest.number {
                Vec::new()
            } else if from <= self.finalized.min(heights.latest.number) {
                self.window(from, self.finalized.min(heights.latest.number)).await?
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
            if row.number <= self.finalized {
                let (number, expected, found) = (row.number, row.hash, canonical.hash);
                return Err(FollowError::FinalizedReorg { number, expected, found });
            }
            orphaned.push(*row);
            unmatched = Some(canonical.hash);
        }
        // Not one row is left: fine only if nothing older was ever dropped from the table and the endpoint has this height.
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
        Ok(block.ok_or_else(|| RpcError::BlockUnknown(number.to_string()))?)
    }

    fn filter(&self) -> Filter {
        Filter::new().address(self.config.addresses.clone())
    }

    /// One window below finalized: blocks with logs, and its last block.
    async fn window(&mut self, from: u64, finalized: u64) -> Result<Vec<(BlockRef, Vec<Log>)>, FollowError> {
        let (to, logs) = loop {
            let to = finalized.min(from.saturating_add(self.window - 1));
            match self.chain.logs(&self.filter().from_block(from).to_block(to)).await {
                Ok(logs) => break (to, logs),
                // Limits of range or of results have a different wording at every provider: any refusal makes the window
                // smaller, and at one block it is a real error.
                Err(RpcError::Answer { .. } | RpcError::Timeout { .. }) if to > from => {
                    self.window = ((to - from) / 2).max(1);
                }
                Err(error) => return Err(error.into()),
            }
        };
        self.window = (self.window * 2).min(self.config.max_window.max(1));
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
            .map(|(number, logs)| async move { sealed(scan.canonical(number).await?, logs) })
            .buffered(CONCURRENCY)
            .try_collect()
            .await
    }

    /// Some blocks above finalized, each linked to the one before.
    async fn singles(
        &self,
        from: u64,
        head: u64,
        base: Option<BlockRef>,
    ) -> Result<Vec<(BlockRef, Vec<Log>)>, FollowError> {
        let blocks: Vec<(BlockRef, Vec<Log>)> = stream::iter((from..=head).take(BLOCKS_PER_STEP))
            .map(|number| async move {
                let block = self.canonical(number).await?;
                let logs = self.chain.logs(&self.filter().at_block_hash(block.hash)).await?;
                sealed(block, logs)
            })
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        let mut parent = base;
        for (block, _) in &blocks {
            if parent.is_some_and(|parent| parent.number + 1 != block.number || parent.hash != block.parent) {
                return Err(FollowError::Moved(block.number));
            }
            parent = Some(*block);
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
        let newest_final = rows.iter().rposition(|row| row.number <= self.finalized).unwrap_or(0);
        rows.drain(..newest_final);
        self.rows = Some(rows);
        Ok(())
    }
}

/// Checks that the logs are those of the block, and puts them in order.
fn sealed(block: BlockRef, mut logs: Vec<Log>) -> Result<(BlockRef, Vec<Log>), FollowError> {
    if logs.iter().any(|log| log.block_hash != Some(block.hash) || log.removed) {
        return Err(FollowError::Moved(block.number));
    }
    logs.sort_by_key(|log| log.log_index);
    Ok((block, logs))
}
