//! What a restart has interrupted.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use kms_proto::node::{NotYetReason, decrypt_response::Outcome};
use tokio::sync::Semaphore;

use super::call::Call;
use super::reply::LATER;
use super::request::{Pending, Slot, micros};
use super::{EngineError, Inner, RESUMED, RESUMING, record};
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
        // A chain whose endpoints are dead keeps the requests of no other chain waiting.
        for chain in &self.parts.party.manifest.chains {
            let (inner, chain_id) = (self.clone(), chain.chain_id);
            self.tasks.spawn(async move {
                let cancel = inner.parts.cancel.clone();
                let all = inner.take_up_all(chain_id, pending.last);
                if let Some(Err(error)) = cancel.run_until_cancelled(all).await {
                    tracing::error!(chain_id, %error, "interrupted requests can't be read");
                }
            });
        }
        Ok(usize::try_from(pending.count).unwrap_or(usize::MAX))
    }

    /// Goes through the rows of a chain that were there at the start, oldest first.
    async fn take_up_all(self: &Arc<Self>, chain_id: u64, last: u64) -> Result<(), EngineError> {
        let (heavy, all) = (Arc::new(Semaphore::new(RESUMING)), Arc::new(Semaphore::new(RESUMED)));
        let mut after = Position::default();
        loop {
            let page = self.parts.store.pending_after(chain_id, after, last, PAGE).await?;
            let Some(end) = page.last() else { return Ok(()) };
            after = end.position;
            for row in page {
                // Never an error: the semaphore is not closed.
                let Ok(place) = all.clone().acquire_owned().await else { return Ok(()) };
                let (inner, heavy) = (self.clone(), heavy.clone());
                self.tasks.spawn(async move {
                    if let Err(error) = inner.take_up(row.key, heavy).await {
                        tracing::error!(request = %row.key.id, %error, "an interrupted request can't be taken up");
                    }
                    drop(place);
                });
            }
        }
    }

    /// Takes up a request that a restart has interrupted. The guard is asked again: a cancelled request starts nothing.
    async fn take_up(self: &Arc<Self>, key: RequestKey, heavy: Arc<Semaphore>) -> Result<(), EngineError> {
        let mut pause = LATER;
        let mut tries = 0;
        while tries < TRIES {
            tries += 1;
            let slot = self.parts.cancel.run_until_cancelled(heavy.clone().acquire_owned()).await;
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
            if let Some(mut running) = self.start(call, Some(slot), ()) {
                let settled = running.wait_for(Option::is_some);
                let Some(settled) = self.parts.cancel.run_until_cancelled(settled).await else { return Ok(()) };
                // A chain may be gone for long; its requests wait for it.
                if settled.is_ok_and(|outcome| is_gone(outcome.as_ref())) {
                    tries = 0;
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
        if B256::from(*job.as_bytes()) != row.job_id {
            tracing::error!(request = %row.id, %job, "the row names other ciphertexts than its job");
            return Ok(());
        }
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

/// Whether the endpoints of the chain were the problem.
fn is_gone(outcome: Option<&Outcome>) -> bool {
    let gone = NotYetReason::ChainUnavailable;
    matches!(outcome, Some(Outcome::NotYet(not_yet)) if not_yet.reason() == gone)
}
