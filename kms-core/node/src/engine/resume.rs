//! What a restart has interrupted.

use std::sync::Arc;
use std::time::Duration;

use super::call::Call;
use super::request::{LATER, Pending, micros};
use super::{EngineError, Inner, record};
use crate::receipts::Subject;
use crate::store::RequestRow;

/// How often a request that a restart has interrupted is tried before it waits for its next call.
const TRIES: u32 = 20;
/// Longest pause between two of these tries.
const PAUSE: Duration = Duration::from_secs(30);

impl Inner {
    pub(super) async fn resume(self: &Arc<Self>) -> Result<usize, EngineError> {
        let unfinished = self.parts.store.unfinished().await?;
        let answered = self.parts.store.without_receipt().await?;
        let count = unfinished.len() + answered.len();
        for row in unfinished {
            let inner = self.clone();
            self.tasks.spawn(async move {
                if let Err(error) = inner.take_up(&row).await {
                    tracing::error!(request = %row.id, %error, "an interrupted request can't be taken up");
                }
            });
        }
        for row in answered {
            let inner = self.clone();
            self.tasks.spawn(async move {
                if let Err(error) = inner.receipt_of(&row).await {
                    tracing::error!(request = %row.id, %error, "an answered request gets no receipt");
                }
            });
        }
        Ok(count)
    }

    /// Takes up a request that a restart has interrupted. The guard is asked again: a cancelled request starts nothing.
    async fn take_up(self: &Arc<Self>, row: &RequestRow) -> Result<(), EngineError> {
        let task = record::read_task(&row.payload)?;
        let call = task.call.and_then(|raw| Call::parse(&self.parts.party, raw).ok());
        let call = call.filter(|call| call.key() == row.key()).ok_or(EngineError::Stored(row.id))?;
        let mut pause = LATER;
        for _ in 0..TRIES {
            if let Some(mut running) = self.start(call.clone()) {
                let settled = running.wait_for(Option::is_some);
                if self.parts.cancel.run_until_cancelled(settled).await.is_none() {
                    return Ok(());
                }
                // Everything else may be different the next time.
                if self.known(row.key()).await?.is_some() {
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
    async fn receipt_of(self: &Arc<Self>, row: &RequestRow) -> Result<(), EngineError> {
        let Some(work) = self.recorded_work(row).await? else { return Ok(()) };
        let subject = Subject {
            request_id: row.id,
            epoch_id: row.epoch_id,
            key_id: work.material.key_id,
            mpc_micros: row.mpc.map(micros).unwrap_or_default(),
        };
        let job = self.join(work);
        self.finish(Pending::Job { job, subject }).await
    }
}
