//! What a restart has interrupted.

use std::sync::Arc;
use std::time::Duration;

use super::call::Call;
use super::request::{LATER, Pending, Slot, micros};
use super::{EngineError, Inner, record};
use crate::receipts::Subject;
use crate::store::{Position, RequestKey, RequestRow, Stage};

/// How often a request that a restart has interrupted is tried before it waits for its next call.
const TRIES: u32 = 20;
/// Rows that are read at a time.
const PAGE: u32 = 64;
/// Longest pause between two of these tries.
const PAUSE: Duration = Duration::from_secs(30);

impl Inner {
    pub(super) async fn resume(self: &Arc<Self>) -> Result<usize, EngineError> {
        let pending = self.parts.store.pending().await?;
        let inner = self.clone();
        self.tasks.spawn(async move {
            let cancel = inner.parts.cancel.clone();
            if let Some(Err(error)) = cancel.run_until_cancelled(inner.take_up_all(pending.last)).await {
                tracing::error!(%error, "interrupted requests can't be read");
            }
        });
        Ok(usize::try_from(pending.count).unwrap_or(usize::MAX))
    }

    /// Goes through the rows that were there at the start, oldest first.
    async fn take_up_all(self: &Arc<Self>, last: u64) -> Result<(), EngineError> {
        let mut after = Position::default();
        loop {
            let page = self.parts.store.pending_after(after, last, PAGE).await?;
            let Some(end) = page.last() else { return Ok(()) };
            after = end.position;
            for row in page {
                // Never an error: the semaphore is not closed.
                let Ok(place) = self.resumed.clone().acquire_owned().await else { return Ok(()) };
                let inner = self.clone();
                self.tasks.spawn(async move {
                    let outcome = inner.take_up(row.key).await;
                    if let Err(error) = outcome {
                        tracing::error!(request = %row.key.id, %error, "an interrupted request can't be taken up");
                    }
                    drop(place);
                });
            }
        }
    }

    /// Takes up a request that a restart has interrupted. The guard is asked again: a cancelled request starts nothing.
    async fn take_up(self: &Arc<Self>, key: RequestKey) -> Result<(), EngineError> {
        let mut pause = LATER;
        for _ in 0..TRIES {
            let slot = self.parts.cancel.run_until_cancelled(self.resuming.clone().acquire_owned()).await;
            let Some(Ok(slot)) = slot else { return Ok(()) };
            // Read now and not before: a request that waits for its turn is only its id.
            let Some(row) = self.parts.store.request(key).await? else { return Ok(()) };
            match row.stage {
                Stage::Received | Stage::Opening => {}
                Stage::Answered => return self.receipt_of(&row, slot).await,
                Stage::Final | Stage::Refused => return Ok(()),
            }
            let task = record::read_task(&row.payload)?;
            let call = task.call.and_then(|raw| Call::parse(&self.parts.party, raw).ok());
            let call = call.filter(|call| call.key() == key).ok_or(EngineError::Stored(key.id))?;
            if let Some(mut running) = self.start(call, Some(slot)) {
                let settled = running.wait_for(Option::is_some);
                if self.parts.cancel.run_until_cancelled(settled).await.is_none() {
                    return Ok(());
                }
                // Everything else may be different the next time.
                if self.known(key).await?.is_some() {
                    return Ok(());
                }
            }
            if self.parts.cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return Ok(());
            }
            pause = (pause * 2).min(PAUSE);
        }
        Ok(())
    }

    /// Opens an answered request once more, only to learn who is there.
    async fn receipt_of(self: &Arc<Self>, row: &RequestRow, slot: Slot) -> Result<(), EngineError> {
        let Some(work) = self.recorded_work(row).await? else { return Ok(()) };
        let (job, epoch, key_id) = (work.job(), work.epoch.clone(), work.material.key_id);
        let mpc_micros = row.mpc.map(micros).unwrap_or_default();
        let subject = Subject { request_id: row.id, epoch_id: row.epoch_id, key_id, mpc_micros };
        let own = match self.share(work).await {
            Ok(own) => own,
            Err(error) => {
                tracing::error!(%job, %error, "this party can't compute its share");
                return Ok(());
            }
        };
        let job = self.join(epoch, own);
        drop(slot);
        self.finish(Pending::Job { job, subject }).await
    }
}
