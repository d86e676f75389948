//! Squashes what somebody may want decrypted, files the object, and records its digest as this signer's word.
//!
//! Squashing costs as much as several operations (3.8 s for a uint64 on two cores), so only handles that the ACL marked as
//! publicly decryptable or that a `DecryptionRequested` names get it. It is done once: a digest, once recorded, is used for
//! ever, because floating-point transforms may differ between machines and parties must open the very same ciphertext.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use alloy_primitives::B256;
use async_trait::async_trait;

use crate::{
    crew::Trade,
    error::{Error, Result},
    fhe::Engine,
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
    engine: Arc<Engine>,
    objects: Objects,
    signals: Arc<Signals>,
    metrics: Arc<Metrics>,
    /// Handles that could not be squashed; not tried again before a restart.
    given_up: Mutex<HashSet<B256>>,
}

impl Squash {
    /// Squashes what `store` says is wanted, and files it in `objects`.
    #[must_use]
    pub fn new(
        store: Store,
        engine: Arc<Engine>,
        objects: Objects,
        signals: Arc<Signals>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { store, engine, objects, signals, metrics, given_up: Mutex::default() }
    }
}

#[async_trait]
impl Trade for Squash {
    type Job = (u64, B256);
    const NAME: &'static str = "squash";

    async fn next(&self, busy: &HashSet<B256>) -> Result<Vec<(B256, (u64, B256))>> {
        let given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ready = self.store.ready_squashes(WINDOW + busy.len() + given_up.len()).await?;
        Ok(ready.into_iter().filter(|(_, handle)| !given_up.contains(handle)).map(|job| (job.1, job)).collect())
    }

    async fn work(&self, (chain_id, handle): (u64, B256)) -> Result<()> {
        // A reorg may have taken it since it was found ready.
        let Some(bytes) = self.store.ciphertext(handle).await? else { return Ok(()) };
        let timer = self.metrics.squash_seconds.start_timer();
        let engine = self.engine.clone();
        let object = tokio::task::spawn_blocking(move || engine.squash_object(handle, &bytes))
            .await
            .map_err(|_| Error::Task("squash"))?;
        let object = match object {
            Ok(object) => object,
            Err(reason) => {
                tracing::error!(%handle, reason, "a ciphertext can't be squashed");
                self.given_up.lock().unwrap_or_else(PoisonError::into_inner).insert(handle);
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
