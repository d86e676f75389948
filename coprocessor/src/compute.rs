//! Computes what the chain says, in the order that operands allow.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use alloy_primitives::B256;
use async_trait::async_trait;

use crate::{
    crew::{Trade, apart},
    error::Result,
    event::Kind,
    fhe::{Arithmetic, input_metadata},
    inputs::InputChain,
    metrics::Metrics,
    signals::Signals,
    store::{Outcome, PendingOperation, Store},
};

/// Rows looked at in one go: the members of one input list are many rows but one job, so it is more than a list has.
const WINDOW: usize = 288;

/// Why an input can't be had. Which of the two it is, nobody knows: what is forgotten leaves nothing behind.
const NO_INPUT: &str = "the input was not posted to this coprocessor, or so long before its use that it was forgotten; \
                        posting the same list again brings it back";

/// Evaluates operations.
#[derive(Debug)]
pub struct Compute {
    /// The database.
    pub store: Store,
    /// Keys and arithmetic.
    pub engine: Arc<dyn Arithmetic>,
    /// What inputs are bound to, by chain.
    pub chains: BTreeMap<u64, InputChain>,
    /// Who is woken by results.
    pub signals: Arc<Signals>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

#[async_trait]
impl Trade for Compute {
    type Job = PendingOperation;
    const NAME: &'static str = "compute";

    async fn next(&self, busy: &HashSet<B256>) -> Result<Vec<(B256, PendingOperation)>> {
        let mut jobs = Vec::new();
        let mut lists = HashSet::new();
        for pending in self.store.ready_operations(WINDOW + busy.len()).await? {
            // A list is expanded as a whole, once: its id is the key of all of its members.
            let key = match pending.operation.kind {
                Kind::Input => match self.store.input_of(pending.operation.result).await? {
                    Some((_, id)) => {
                        if !lists.insert(id) {
                            continue;
                        }
                        id
                    }
                    None => pending.operation.result,
                },
                _ => pending.operation.result,
            };
            if !busy.contains(&key) {
                jobs.push((key, pending));
            }
        }
        Ok(jobs)
    }

    async fn work(&self, pending: PendingOperation) -> Result<()> {
        let kind = pending.operation.kind;
        let timer = self.metrics.operation_seconds.with_label_values(&[kind.name()]).start_timer();
        let outcome = match kind {
            Kind::Input => self.input(&pending).await?,
            _ => Some(self.evaluate(&pending).await?),
        };
        timer.observe_duration();
        let (label, settled) = match &outcome {
            None => ("computed", self.store.settle_expanded(&pending).await?),
            Some(outcome) => (label(outcome), self.store.settle(&pending, outcome).await?),
        };
        if settled {
            self.metrics.operations.with_label_values(&[kind.name(), label]).inc();
            let handle = pending.operation.result;
            match &outcome {
                Some(Outcome::Failed(reason) | Outcome::Missing(reason)) => {
                    tracing::warn!(%handle, kind = kind.name(), reason, "an operation can't be computed");
                }
                _ => tracing::debug!(%handle, kind = kind.name(), "computed"),
            }
            self.signals.squash.notify_one();
        }
        Ok(())
    }
}

impl Compute {
    async fn evaluate(&self, pending: &PendingOperation) -> Result<Outcome> {
        let operation = pending.operation.clone();
        let mut operands = Vec::with_capacity(operation.operands.len());
        for operand in &operation.operands {
            if let Some(problem) = self.store.operand_problem(*operand).await? {
                return Ok(problem);
            }
            match self.store.ciphertext(*operand).await? {
                Some(bytes) => operands.push(bytes),
                // A reorg took it between the two questions; the row of this operation is gone as well.
                None => return Ok(Outcome::Missing(format!("operand {operand} is gone"))),
            }
        }
        let engine = self.engine.clone();
        Ok(match apart("the computation", move || engine.compute(&operation, &operands)).await? {
            Ok(bytes) => Outcome::Computed(bytes),
            Err(reason) => Outcome::Failed(reason),
        })
    }

    /// `None` when the ciphertext is stored now.
    async fn input(&self, pending: &PendingOperation) -> Result<Option<Outcome>> {
        let handle = pending.operation.result;
        if self.store.ciphertext(handle).await?.is_some() {
            return Ok(None);
        }
        let unknown = || Some(Outcome::Missing(NO_INPUT.into()));
        let Some((chain_id, id)) = self.store.input_of(handle).await? else { return Ok(unknown()) };
        let (Some(stored), Some(chain)) = (self.store.input(chain_id, id).await?, self.chains.get(&chain_id)) else {
            return Ok(unknown());
        };
        let input = stored.input;
        let metadata = input_metadata(chain_id, chain.access_control, input.contract, input.user);
        let engine = self.engine.clone();
        let expand = move || engine.expand_input(&input.ciphertext, &metadata).map_err(|error| error.to_string());
        match apart("the expansion", expand).await? {
            Ok(members) if members.len() == stored.handles.len() => {
                let members: Vec<(B256, Vec<u8>)> = stored.handles.into_iter().zip(members).collect();
                self.store.store_expansion(&members).await?;
                Ok(None)
            }
            Ok(_) => Ok(Some(Outcome::Failed("the list has another length than when it was posted".into()))),
            Err(reason) => Ok(Some(Outcome::Failed(reason))),
        }
    }
}

fn label(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Computed(_) => "computed",
        Outcome::Missing(_) => "missing",
        Outcome::Failed(_) => "failed",
    }
}
