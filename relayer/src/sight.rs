//! What the relayer sees around it: endpoints, parties, its accounts. Looked at only while somebody wants to know.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use futures::future::join_all;
use kms_chain::rpc::{Chain, EndpointReport};
use kms_client::transport::PartyError;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::clock::now_ms;
use crate::parties::Parties;
use crate::tx::{Condition, TxManager};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(5);
/// How long somebody who asked once is taken to be interested, milliseconds.
const INTEREST_MS: i64 = 30_000;
/// Blocks that an endpoint may be behind the best one before another is preferred.
const MAX_LAG: u64 = 3;

/// What was seen at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sight {
    /// When, milliseconds.
    pub at: i64,
    /// Parties, by index.
    pub parties: Vec<PartySight>,
    /// Chains.
    pub chains: Vec<ChainSight>,
}

/// How a party answers when it is asked how it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Answers {
    /// It serves.
    Ready,
    /// It answers, and does not serve yet, or not all of it.
    Waiting,
    /// It answers, and does not tell this relayer how it is: for that it must give it the permission `status`.
    Untold,
    /// It does not answer, or not as itself.
    Down,
}

/// One party.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartySight {
    /// Index.
    pub index: u32,
    /// How it answers.
    #[schema(inline)]
    pub answers: Answers,
    /// What is wrong, in words.
    pub problem: Option<String>,
    /// Version of its program.
    pub version: Option<String>,
    /// Other parties that it has no connection with.
    pub cut_off_from: Vec<u32>,
    /// Milliseconds that its answer took.
    pub millis: Option<u64>,
}

/// One chain.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChainSight {
    /// Chain id.
    pub chain_id: u64,
    /// Its endpoints, the preferred one first.
    pub endpoints: Vec<EndpointSight>,
    /// The account that pays; none if the database does not say.
    pub account: Option<AccountSight>,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSight {
    /// Scheme, host and port: never what may be secret.
    pub endpoint: String,
    /// Calls go here.
    pub active: bool,
    /// Its newest block.
    pub head: Option<u64>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccountSight {
    /// Address.
    #[schema(value_type = String)]
    pub address: Address,
    /// Wei, decimal text; none if no endpoint says.
    pub balance: Option<String>,
    /// Whether the balance is below the alarm.
    pub low: bool,
    /// Nonces that the chain has counted.
    pub counted: Option<u64>,
    /// Next free nonce by our books, once one was reserved.
    pub next_nonce: Option<u64>,
    /// Pending transactions.
    pub pending: u64,
    /// Most of them that there may be.
    pub max_pending: u64,
    /// The pending transaction that all others wait for.
    pub first_pending: Option<PendingSight>,
    /// What is wrong, in words.
    pub problem: Option<String>,
}

/// A pending transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingSight {
    /// Nonce.
    pub nonce: u64,
    /// The request that it is for; none: it closes a gap.
    #[schema(value_type = Option<String>)]
    pub request_id: Option<B256>,
    /// Since when, milliseconds.
    pub since: i64,
    /// Transactions signed for it, each with a higher fee.
    pub attempts: u64,
    /// What the node said against the newest of them.
    pub problem: Option<String>,
}

/// Looks around. A trait, so that tests can show what they want.
#[async_trait]
pub trait Eyes: Send + Sync + Debug {
    /// One look. What can't be seen is part of it.
    async fn look(&self) -> Sight;
}

/// The real surroundings.
#[derive(Debug)]
pub struct Surroundings {
    /// The parties.
    pub parties: Parties,
    /// Chains, each with the account that pays there.
    pub chains: Vec<(Chain, Arc<TxManager>)>,
}

#[async_trait]
impl Eyes for Surroundings {
    async fn look(&self) -> Sight {
        let parties = join_all(self.parties.all().map(|index| party(&self.parties, index)));
        let chains = join_all(self.chains.iter().map(|(chain, manager)| self::chain(chain, manager)));
        let (parties, chains) = futures::join!(parties, chains);
        Sight { at: now_ms(), parties, chains }
    }
}

async fn party(parties: &Parties, index: u32) -> PartySight {
    let start = Instant::now();
    let health = match parties.health(index).await {
        Ok(health) => health,
        Err(error) => {
            let problem = Some(error.to_string());
            let untold = matches!(error, PartyError::NotAdmitted(_));
            let (answers, cut_off_from) = (if untold { Answers::Untold } else { Answers::Down }, Vec::new());
            return PartySight { index, answers, problem, version: None, cut_off_from, millis: None };
        }
    };
    let mut problems = Vec::new();
    if health.phase != "ready" {
        let why = if health.waiting_for.is_empty() { String::new() } else { format!(": {}", health.waiting_for) };
        problems.push(format!("{}{why}", health.phase));
    }
    for chain in health.chains.iter().filter(|chain| !chain.ready) {
        problems.push(format!("chain {}: {}", chain.chain_id, or(&chain.problem, "not served yet")));
    }
    if health.usable_keys.is_empty() {
        problems.push("it has no usable key".to_owned());
    }
    PartySight {
        index,
        answers: if problems.is_empty() { Answers::Ready } else { Answers::Waiting },
        problem: (!problems.is_empty()).then(|| problems.join("; ")),
        version: Some(health.version),
        cut_off_from: health.peers.iter().filter(|peer| !peer.connected).map(|peer| peer.index).collect(),
        millis: Some(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)),
    }
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

async fn chain(chain: &Chain, manager: &TxManager) -> ChainSight {
    let (reports, condition) = futures::join!(chain.survey(MAX_LAG), manager.condition());
    let account = match condition {
        Ok(condition) => Some(account(condition)),
        Err(error) => {
            tracing::warn!(chain = chain.chain_id(), %error, "the account's books can't be read");
            None
        }
    };
    let best = reports.iter().filter_map(|report| report.head.as_ref().ok()).map(|head| head.number).max();
    let endpoints = reports.into_iter().map(|report| endpoint(report, best.unwrap_or(0))).collect();
    ChainSight { chain_id: chain.chain_id(), endpoints, account }
}

fn endpoint(report: EndpointReport, best: u64) -> EndpointSight {
    let head = report.head.as_ref().ok().map(|head| head.number);
    let problem = match (report.head, report.disagrees) {
        (Err(error), _) => Some(error),
        (Ok(_), true) => Some("its blocks are not those of the others".to_owned()),
        (Ok(head), false) if best.saturating_sub(head.number) > MAX_LAG => {
            Some(format!("{} blocks behind", best.saturating_sub(head.number)))
        }
        (Ok(_), false) => None,
    };
    EndpointSight { endpoint: report.endpoint, active: report.active, head, problem }
}

fn account(condition: Condition) -> AccountSight {
    let (balance, counted, problem) = match condition.on_chain {
        Ok((balance, counted)) => (Some(balance), Some(counted), None),
        Err(error) => (None, None, Some(error.to_string())),
    };
    AccountSight {
        address: condition.account.sender,
        balance: balance.map(|wei| wei.to_string()),
        low: balance.is_some_and(|wei| wei < condition.low_balance),
        counted,
        next_nonce: condition.next_nonce,
        pending: condition.pending,
        max_pending: condition.max_pending,
        first_pending: condition.first.map(|first| PendingSight {
            nonce: first.nonce,
            request_id: first.job,
            since: first.since,
            attempts: first.attempts,
            problem: first.error,
        }),
        problem,
    }
}

/// Looks around from time to time while somebody wants to know, so that nobody waits for what does not answer.
#[derive(Debug)]
pub struct Lookout {
    seen: watch::Sender<Option<Arc<Sight>>>,
    interest: Arc<Interest>,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Interest {
    until: AtomicI64,
    woken: Notify,
}

impl Lookout {
    /// Ready to look.
    #[must_use]
    pub fn start(eyes: Arc<dyn Eyes>) -> Self {
        let lookout = Self {
            seen: watch::Sender::new(None),
            interest: Arc::new(Interest::default()),
            stop: CancellationToken::new(),
        };
        let (seen, interest, stop) = (lookout.seen.clone(), lookout.interest.clone(), lookout.stop.clone());
        tokio::spawn(async move { stop.run_until_cancelled_owned(look_on(eyes, seen, interest)).await });
        lookout
    }

    /// What was seen last, if anything; and somebody is interested.
    #[must_use]
    pub fn sight(&self) -> Option<Arc<Sight>> {
        self.interest.until.store(now_ms().saturating_add(INTEREST_MS), Ordering::Relaxed);
        self.interest.woken.notify_one();
        self.seen.borrow().clone()
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn look_on(eyes: Arc<dyn Eyes>, seen: watch::Sender<Option<Arc<Sight>>>, interest: Arc<Interest>) {
    loop {
        while interest.until.load(Ordering::Relaxed) < now_ms() {
            interest.woken.notified().await;
        }
        let sight = eyes.look().await;
        seen.send_replace(Some(Arc::new(sight)));
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use kms_chain::rpc::BlockRef;

    use super::*;

    #[derive(Debug, Default)]
    struct Counting(AtomicU64);

    #[async_trait]
    impl Eyes for Counting {
        async fn look(&self) -> Sight {
            self.0.fetch_add(1, Ordering::Relaxed);
            Sight { at: 7, parties: Vec::new(), chains: Vec::new() }
        }
    }

    #[tokio::test]
    async fn nobody_is_bothered_while_nobody_wants_to_know() {
        let eyes = Arc::new(Counting::default());
        let lookout = Lookout::start(eyes.clone());
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(eyes.0.load(Ordering::Relaxed), 0);
        while lookout.sight().is_none() {
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            assert_eq!(lookout.sight().map(|sight| sight.at), Some(7));
            tokio::task::yield_now().await;
        }
        assert_eq!(eyes.0.load(Ordering::Relaxed), 1, "however many ask, there is one look in a while");
    }

    #[test]
    fn what_is_wrong_with_an_endpoint_is_said() {
        let block = |number| BlockRef { number, hash: B256::ZERO, parent: B256::ZERO, timestamp: 0 };
        let report = |head, disagrees| EndpointReport { endpoint: "e".into(), head, disagrees, active: false };
        let problem = |report| endpoint(report, 10).problem;
        assert_eq!(problem(report(Ok(block(10)), false)), None);
        assert_eq!(problem(report(Ok(block(7)), false)), None);
        assert_eq!(problem(report(Ok(block(6)), false)).as_deref(), Some("4 blocks behind"));
        assert!(problem(report(Ok(block(10)), true)).is_some_and(|text| text.contains("others")));
        assert_eq!(problem(report(Err("down".into()), false)).as_deref(), Some("down"));
    }
}
