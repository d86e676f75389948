//! The chain guard: what this party's own view of the chain says about a request.
//!
//! Before any share leaves the party, its own endpoints must show that the request exists, that the contract may
//! decrypt the handles, which digests are committed and that the key is active: all read at **one** block hash that is
//! final enough for the request and for this party, in one `eth_call` to `GuardLens`. That the request is still open
//! and its deadline not reached is read at the latest block, and a refusal from there is for good only if the final block
//! says the same. Time is block time. If there are several endpoints they
//! all have to say the same; one that lies can delay an answer, never cause one. Requests that come
//! together are read together.

mod chain;
mod endpoint;
mod lens;
mod probe;
mod reader;
mod verdict;
mod view;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use kms_chain::handle::{Handle, check_request_handles};
use kms_chain::manifest::Manifest;
use kms_chain::request::{Finality, Request, request_id};
use kms_chain::user_view::{UserGrant, UserQuestion, UserVerdict, UserWait};

pub use probe::ActiveKey;
pub use verdict::{Grant, HandleGrant, NotYet, NotYetReason, Refusal, Verdict};

use crate::config::ChainEndpoints;
use crate::error::ConfigError;
use crate::metrics::Metrics;
use chain::{Chain, Reading};
use endpoint::BlockRef;
use view::Stop;

/// Asks the chains.
#[derive(Debug)]
pub struct Guard {
    context: B256,
    manifest: Arc<Manifest>,
    chains: HashMap<u64, Arc<Chain>>,
    metrics: Arc<Metrics>,
}

impl Guard {
    /// A guard for the chains of the manifest, by this party's own endpoints. Nothing is sent yet.
    ///
    /// # Errors
    /// An endpoint is no URL.
    pub fn new(
        manifest: Arc<Manifest>,
        endpoints: &[ChainEndpoints],
        metrics: Arc<Metrics>,
    ) -> Result<Self, ConfigError> {
        let mut chains = HashMap::new();
        for own in endpoints {
            // Endpoints of a chain that the committee does not serve are of no use; the start-up table names them.
            if let Some(chain) = manifest.chain(own.chain_id) {
                chains.insert(own.chain_id, Arc::new(Chain::new(chain, &own.rpc)?));
            }
        }
        Ok(Self { context: manifest.committee.context_id, manifest, chains, metrics })
    }

    /// Whether this party may answer an on-chain request now. The request's id is recomputed from its content.
    pub async fn check_request(&self, chain_id: u64, request: &Request) -> Verdict {
        let started = Instant::now();
        let verdict = self.judge_request(chain_id, request).await.map_or_else(Verdict::from, Verdict::Allowed);
        self.metrics.guard(&verdict, started.elapsed().as_secs_f64());
        verdict
    }

    /// Whether this party may decrypt handles that are marked publicly decryptable, at the chain's own floor.
    pub async fn check_public(&self, chain_id: u64, handles: &[B256]) -> Verdict {
        let started = Instant::now();
        let verdict = self.judge_public(chain_id, handles).await.map_or_else(Verdict::from, Verdict::Allowed);
        self.metrics.guard(&verdict, started.elapsed().as_secs_f64());
        verdict
    }

    /// Whether this party may seal its share for a user, at the chain's own floor and with what may be taken back still
    /// standing at the latest block. Nothing of it is remembered: every call is judged again.
    pub async fn check_user(&self, question: &UserQuestion) -> Verdict {
        let started = Instant::now();
        let verdict = self.judge_user(question).await.map_or_else(Verdict::from, Verdict::Allowed);
        self.metrics.guard(&verdict, started.elapsed().as_secs_f64());
        verdict
    }

    async fn judge_request(&self, chain_id: u64, request: &Request) -> Result<Grant, Stop> {
        let (chain, handles) = self.chain_and_handles(chain_id, &request.handles)?;
        let asked = Finality::parse(request.finality).map_err(|e| Refusal::UnknownFinality(e.0))?;
        if request.contextId != self.context {
            return Err(Refusal::WrongContext { requested: request.contextId, own: self.context }.into());
        }
        let reading = chain.read(asked, lens::request_call(request), lens::request_answer).await?;
        let open = |view: &_| view::open_at_latest(request, &handles, view);
        agree(&reading, open).map_err(|stop| stop.confirmed_by(open(&reading.at_final)))?;
        let grants = view::grants_at_final(request, &handles, &reading.at_final)?;
        let id = request_id(chain_id, chain.gateway(), request);
        Ok(self.grant(chain_id, Some(id), grants, reading.block))
    }

    async fn judge_public(&self, chain_id: u64, handles: &[B256]) -> Result<Grant, Stop> {
        let (chain, parsed) = self.chain_and_handles(chain_id, handles)?;
        let reading = chain.read(Finality::Latest, lens::handles_call(handles), lens::handles_answer).await?;
        let open = |view: &_| view::public_at_latest(self.context, &parsed, view);
        agree(&reading, open).map_err(|stop| stop.confirmed_by(open(&reading.at_final)))?;
        let grants = view::public_grants_at_final(&parsed, &reading.at_final)?;
        Ok(self.grant(chain_id, None, grants, reading.block))
    }

    async fn judge_user(&self, question: &UserQuestion) -> Result<Grant, Stop> {
        let request = question.request();
        let (chain, _) = self.chain_and_handles(request.host_chain_id, &request.handles())?;
        let reading = chain.read(Finality::Latest, lens::user_call(question), lens::user_answer).await?;
        let mut verdicts = reading.at_latest.iter().map(|latest| question.judge(&reading.at_final, latest));
        let first = verdicts.next();
        let unanimous = first.as_ref().is_some_and(|first| verdicts.all(|other| first.same_kind(&other)));
        let grants = match first.filter(|_| unanimous) {
            None => return Err(disagreement()),
            Some(UserVerdict::Allowed(grants)) => grants,
            Some(UserVerdict::NotYet { reason, detail }) => return Err(Stop::Wait(reason.into(), detail)),
            Some(UserVerdict::Refused { refusal, .. }) => return Err(Refusal::User(refusal).into()),
        };
        let grants =
            grants.into_iter().map(|UserGrant { handle, key_id, digest }| HandleGrant { handle, key_id, digest });
        Ok(self.grant(request.host_chain_id, None, grants.collect(), reading.block))
    }

    fn chain_and_handles(&self, chain_id: u64, handles: &[B256]) -> Result<(&Arc<Chain>, Vec<Handle>), Stop> {
        if self.manifest.chain(chain_id).is_none() {
            return Err(Refusal::UnknownChain(chain_id).into());
        }
        let handles = check_request_handles(handles, chain_id).map_err(Refusal::Handles)?;
        let Some(chain) = self.chains.get(&chain_id) else {
            let detail = format!("this party has no endpoint of chain {chain_id}");
            return Err(Stop::Wait(NotYetReason::ChainUnavailable, detail));
        };
        Ok((chain, handles))
    }

    fn grant(&self, chain_id: u64, request_id: Option<B256>, handles: Vec<HandleGrant>, block: BlockRef) -> Grant {
        Grant {
            chain_id,
            context: self.context,
            request_id,
            handles,
            block_number: block.number,
            block_hash: block.hash,
        }
    }
}

/// All endpoints have to come to the same conclusion at their latest blocks.
fn agree<V>(reading: &Reading<V>, conclude: impl Fn(&V) -> Result<(), Stop>) -> Result<(), Stop> {
    let mut conclusions = reading.at_latest.iter().map(conclude);
    let first = conclusions.next().unwrap_or(Ok(()));
    let unanimous = conclusions.all(|other| match (&first, &other) {
        (Ok(()), Ok(())) => true,
        (Err(a), Err(b)) => a.same_kind(b),
        _ => false,
    });
    if unanimous {
        return first;
    }
    Err(disagreement())
}

fn disagreement() -> Stop {
    Stop::Wait(NotYetReason::BlockUnknown, "the endpoints disagree about the request at their latest blocks".into())
}

impl From<UserWait> for NotYetReason {
    fn from(wait: UserWait) -> Self {
        match wait {
            UserWait::NotFinal => Self::NotFinal,
            UserWait::NotCommitted => Self::NotCommitted,
            UserWait::NotStarted => Self::Behind,
            UserWait::BlockUnknown => Self::BlockUnknown,
            UserWait::ChainUnavailable => Self::ChainUnavailable,
        }
    }
}

impl From<Stop> for Verdict {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Refuse(refusal) => Self::Refused(refusal),
            Stop::Wait(reason, detail) => {
                let retry_after = match reason {
                    NotYetReason::BlockUnknown => Duration::from_millis(500),
                    NotYetReason::NotFinal | NotYetReason::NotCommitted | NotYetReason::Behind => {
                        Duration::from_secs(1)
                    }
                    NotYetReason::ChainUnavailable => Duration::from_secs(2),
                };
                Self::NotYet(NotYet { reason, detail, retry_after })
            }
        }
    }
}
