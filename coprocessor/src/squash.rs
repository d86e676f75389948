//! Squashes what somebody may want decrypted, files the object, and records its digest as this signer's word.
//!
//! Squashing costs as much as several operations (3.8 s for a uint64 on two cores), so it is done to handles only that the ACL
//! marked as publicly decryptable or that a `DecryptionRequested` names, and after those to handles on which two accounts hold
//! lasting rights: a user may read these without a word on the chain. It is done once: a digest, once recorded, is used for
//! ever, because floating-point transforms may differ between machines and parties must open the very same ciphertext.
//! What can't be squashed is tried a few times more, each after a longer pause, and then given up with its reason.

use std::{collections::HashSet, sync::Arc};

use alloy_primitives::B256;
use async_trait::async_trait;

use crate::{
    commit,
    crew::{Trade, apart},
    error::Result,
    fhe::Arithmetic,
    metrics::Metrics,
    objects::Objects,
    signals::Signals,
    store::{Commitment, Store},
};

/// Handles looked at in one go.
const WINDOW: usize = 64;

/// Makes ciphertext objects.
#[derive(Debug)]
pub struct Squash {
    store: Store,
    engine: Arc<dyn Arithmetic>,
    objects: Objects,
    signals: Arc<Signals>,
    metrics: Arc<Metrics>,
    /// Seconds since 1970.
    pub(crate) clock: fn() -> u64,
}

impl Squash {
    /// Squashes what `store` says is wanted, and files it in `objects`.
    #[must_use]
    pub fn new(
        store: Store,
        engine: Arc<dyn Arithmetic>,
        objects: Objects,
        signals: Arc<Signals>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { store, engine, objects, signals, metrics, clock: commit::now }
    }
}

#[async_trait]
impl Trade for Squash {
    type Job = (u64, B256);
    const NAME: &'static str = "squash";

    async fn next(&self, busy: &HashSet<B256>) -> Result<Vec<(B256, (u64, B256))>> {
        let ready = self.store.ready_squashes((self.clock)(), WINDOW + busy.len()).await?;
        Ok(ready.into_iter().map(|job| (job.1, job)).collect())
    }

    async fn work(&self, (chain_id, handle): (u64, B256)) -> Result<()> {
        // A reorg may have taken it since it was found ready.
        let Some(bytes) = self.store.ciphertext(handle).await? else { return Ok(()) };
        let timer = self.metrics.squash_seconds.start_timer();
        let engine = self.engine.clone();
        let object = match apart("squashing", move || engine.squash_object(handle, &bytes)).await? {
            Ok(object) => object,
            Err(reason) => {
                timer.stop_and_discard();
                let given_up = self.store.fail_squash(handle, &reason, (self.clock)()).await?;
                tracing::error!(%handle, reason, given_up, "a ciphertext can't be squashed");
                return Ok(());
            }
        };
        let digest = self.objects.put(object).await?;
        let commitment = Commitment { chain_id, handle, key_id: self.engine.key_id(), digest };
        self.store.insert_commitment(&commitment).await?;
        timer.observe_duration();
        tracing::info!(%handle, %digest, "squashed");
        self.signals.commit.notify_waiters();
        Ok(())
    }
}
