//! Everything that an operator looks at first, and what of it wants attention.

use std::time::{Duration, Instant};

use kms_chain::follower::FollowerStatus;
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::clock::now_ms;
use crate::error::Error;
use crate::http::{Api, health};
use crate::sight::{AccountSight, Answers, Lookout, PartySight, Sight};
use crate::state::State;
use crate::store::{Queue, Store, follow_lead};

/// How old counts may be: however many look, the jobs are counted once in this time. Of those that ended there are many.
const OPEN_FOR: Duration = Duration::from_secs(1);
const ENDED_FOR: Duration = Duration::from_secs(10);
/// Milliseconds at one stage, or with one nonce, after which something is probably wrong.
const LONG_MS: i64 = 300_000;

/// What is kept for operators between two looks.
#[derive(Debug)]
pub struct Desk {
    lookout: Lookout,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    open: Option<(Instant, Vec<Queue>)>,
    ended: Option<(Instant, Vec<Queue>)>,
}

/// What was counted, if it is not too old.
fn fresh(counted: &Option<(Instant, Vec<Queue>)>, age: Duration) -> Option<&[Queue]> {
    counted.as_ref().filter(|(at, _)| at.elapsed() < age).map(|(_, queues)| queues.as_slice())
}

impl Desk {
    /// A desk with a view.
    #[must_use]
    pub fn new(lookout: Lookout) -> Self {
        Self { lookout, counted: Mutex::default() }
    }

    async fn queues(&self, store: &Store) -> Result<Vec<Queue>, Error> {
        let mut counted = self.counted.lock().await;
        if fresh(&counted.open, OPEN_FOR).is_none() {
            counted.open = Some((Instant::now(), store.open_queues().await?));
        }
        if fresh(&counted.ended, ENDED_FOR).is_none() {
            counted.ended = Some((Instant::now(), store.ended_queues().await?));
        }
        let all = [&counted.open, &counted.ended].into_iter().flatten();
        Ok(all.flat_map(|(_, queues)| queues.iter().cloned()).collect())
    }
}

/// How everything is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct Overview {
    /// This relayer's clock, milliseconds.
    now: i64,
    /// Name of this process among those that share its database.
    instance: String,
    version: &'static str,
    /// As `/readyz`.
    ready: bool,
    /// What wants attention, the worst first.
    attention: Vec<Attention>,
    committee: CommitteeView,
    chains: Vec<ChainView>,
    /// All stages, in the order of the pipeline.
    stages: Vec<Stage>,
    /// Parties, endpoints and accounts as they were seen last; null until the first look is done.
    sight: Option<Sight>,
}

/// Something that wants attention.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
struct Attention {
    level: Level,
    text: String,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Requests wait, or will soon.
    Bad,
    /// One more fault, and they do.
    Warn,
}

/// What the committee needs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CommitteeView {
    /// Parties.
    parties: usize,
    /// Signatures of a public decryption.
    signatures: usize,
    /// Shares of a user decryption.
    shares: usize,
}

impl CommitteeView {
    /// Parties that any decryption needs.
    fn needed(&self) -> usize {
        self.signatures.max(self.shares)
    }
}

/// How a chain is followed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ChainView {
    chain_id: u64,
    /// Newest block whose logs are applied.
    cursor: u64,
    /// Newest block.
    head: u64,
    finalized: u64,
    /// Another relayer of this database follows it, and this one would take over.
    stands_by: bool,
    problem: Option<String>,
}

impl ChainView {
    async fn new(api: &Api, chain_id: u64, status: FollowerStatus) -> Result<Self, Error> {
        let stands_by = api.store.leads(&follow_lead(chain_id)) == Some(false);
        let other = if stands_by { api.store.cursor(chain_id).await? } else { None };
        Ok(Self {
            chain_id,
            cursor: other.map_or(status.cursor, |cursor| cursor.number),
            head: other.map_or(status.head, |cursor| cursor.number),
            finalized: other.map_or(status.finalized, |cursor| cursor.finalized),
            stands_by,
            problem: status.error.filter(|_| !stands_by),
        })
    }
}

/// Requests at a stage.
#[derive(Debug, Serialize, ToSchema)]
struct Stage {
    stage: &'static str,
    count: u64,
    /// Since when the first of them is there, milliseconds.
    oldest: Option<i64>,
    kinds: Vec<OfKind>,
}

/// Those of one kind.
#[derive(Debug, Serialize, ToSchema)]
struct OfKind {
    kind: String,
    count: u64,
}

impl Overview {
    pub(in crate::http) async fn of(api: &Api) -> Result<Self, Error> {
        let now = now_ms();
        let queues = api.desk.queues(&api.store).await?;
        let sight = api.desk.lookout.sight().map(|sight| (*sight).clone());
        let problems = health::problems(api).await;
        let committee = CommitteeView {
            parties: api.committee.parties().len(),
            signatures: api.committee.threshold(),
            shares: 2 * api.committee.faults() + 1,
        };
        let stages: Vec<Stage> = State::ALL.into_iter().map(|state| stage(state, &queues)).collect();
        let mut attention: Vec<Attention> = problems.iter().map(|problem| bad(problem.clone())).collect();
        if let Some(sight) = &sight {
            of_parties(sight, committee.needed(), &mut attention);
            of_chains(sight, now, &mut attention);
        }
        of_stages(&stages, now, &mut attention);
        let quarantined = api.store.quarantined().await?;
        if quarantined > 0 {
            attention.push(bad(format!("{quarantined} logs of a gateway could not be read: see the log")));
        }
        attention.sort();
        let mut chains = Vec::with_capacity(api.followers.len());
        for (chain, status) in &api.followers {
            let status = status.borrow().clone();
            chains.push(ChainView::new(api, *chain, status).await?);
        }
        Ok(Self {
            now,
            instance: api.store.instance().to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            ready: problems.is_empty(),
            attention,
            committee,
            chains,
            stages,
            sight,
        })
    }
}

fn stage(state: State, queues: &[Queue]) -> Stage {
    let here = || queues.iter().filter(move |queue| queue.state == state);
    Stage {
        stage: state.as_str(),
        count: here().map(|queue| queue.count).sum(),
        oldest: here().map(|queue| queue.oldest).min(),
        kinds: here().map(|queue| OfKind { kind: queue.kind.clone(), count: queue.count }).collect(),
    }
}

fn bad(text: String) -> Attention {
    Attention { level: Level::Bad, text }
}

fn warn(text: String) -> Attention {
    Attention { level: Level::Warn, text }
}

fn of_parties(sight: &Sight, needed: usize, attention: &mut Vec<Attention>) {
    // Who does not tell is given the benefit of the doubt.
    let up = |party: &&PartySight| matches!(party.answers, Answers::Ready | Answers::Untold);
    let (all, ready) = (sight.parties.len(), sight.parties.iter().filter(up).count());
    if ready < needed {
        attention.push(bad(format!("{ready} of {all} parties are ready and {needed} are needed: requests wait")));
    } else if ready == needed && all > needed {
        attention.push(warn(format!("{ready} of {all} parties are ready and all of them are needed")));
    }
}

fn of_chains(sight: &Sight, now: i64, attention: &mut Vec<Attention>) {
    for chain in &sight.chains {
        let id = chain.chain_id;
        for endpoint in &chain.endpoints {
            if let Some(problem) = &endpoint.problem {
                attention.push(warn(format!("chain {id}, {}: {problem}", endpoint.endpoint)));
            }
        }
        if let Some(account) = &chain.account {
            of_account(id, account, now, attention);
        }
    }
}

fn of_account(chain: u64, account: &AccountSight, now: i64, attention: &mut Vec<Attention>) {
    if account.low {
        attention.push(bad(format!("chain {chain}: the balance of {} is low", account.address)));
    }
    if let Some(first) = account.first_pending.as_ref().filter(|first| now.saturating_sub(first.since) > LONG_MS) {
        let minutes = now.saturating_sub(first.since) / 60_000;
        let text = format!("chain {chain}: nonce {} is pending for {minutes} min, and later ones with it", first.nonce);
        attention.push(bad(text));
    }
    if account.pending >= account.max_pending {
        attention.push(warn(format!("chain {chain}: as many transactions are pending as may be")));
    }
}

fn of_stages(stages: &[Stage], now: i64, attention: &mut Vec<Attention>) {
    for Stage { stage, oldest, .. } in stages {
        // Finality takes its time, and so does depth.
        let moves_by_itself = [State::Final, State::Dispatched, State::Quorum, State::Submitting];
        let Some(age) = oldest.map(|oldest| now.saturating_sub(oldest)).filter(|age| *age > LONG_MS) else { continue };
        if moves_by_itself.iter().any(|state| state.as_str() == *stage) {
            attention.push(warn(format!("a request is at “{stage}” for {} min", age / 60_000)));
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;

    use super::*;
    use crate::sight::{ChainSight, EndpointSight, PendingSight};

    fn party(index: u32, answers: Answers) -> PartySight {
        PartySight { index, answers, problem: None, version: None, cut_off_from: Vec::new(), millis: None }
    }

    fn sight(ready: u32, account: AccountSight) -> Sight {
        let endpoint = |problem| EndpointSight { endpoint: "https://a".into(), active: true, head: Some(1), problem };
        let answers = |index| if index <= ready { Answers::Ready } else { Answers::Waiting };
        Sight {
            at: 0,
            parties: (1..=4).map(|index| party(index, answers(index))).collect(),
            chains: vec![ChainSight {
                chain_id: 7,
                endpoints: vec![endpoint(None), endpoint(Some("4 blocks behind".into()))],
                account: Some(account),
            }],
        }
    }

    fn account() -> AccountSight {
        AccountSight {
            address: Address::ZERO,
            balance: Some("1".into()),
            low: false,
            counted: Some(5),
            next_nonce: Some(6),
            pending: 1,
            max_pending: 64,
            first_pending: None,
            problem: None,
        }
    }

    #[test]
    fn a_quorum_without_room_is_said_and_one_that_is_lost_even_louder() {
        for (ready, levels) in [(4, vec![]), (3, vec![Level::Warn]), (2, vec![Level::Bad])] {
            let mut attention = Vec::new();
            of_parties(&sight(ready, account()), 3, &mut attention);
            assert_eq!(attention.iter().map(|a| a.level).collect::<Vec<_>>(), levels, "{ready}");
        }
    }

    #[test]
    fn an_account_that_holds_everything_up_is_named() {
        let waits = |since| PendingSight {
            nonce: 5,
            request_id: None,
            since,
            attempts: 3,
            problem: Some("underpriced".into()),
        };
        let mut attention = Vec::new();
        let fine = AccountSight { first_pending: Some(waits(900_000)), ..account() };
        of_chains(&sight(4, fine), 1_000_000, &mut attention);
        assert_eq!(attention, [warn("chain 7, https://a: 4 blocks behind".into())]);
        attention.clear();
        let stuck = AccountSight { low: true, pending: 64, first_pending: Some(waits(100_000)), ..account() };
        of_account(7, &stuck, 1_000_000, &mut attention);
        assert_eq!(attention.len(), 3);
        assert!(attention[1].text.contains("nonce 5 is pending for 15 min"), "{attention:?}");
    }

    #[test]
    fn what_should_move_and_does_not_is_said() {
        let queue = |state, oldest| Queue { kind: "on-chain".into(), state, count: 2, oldest };
        let queues = [queue(State::Seen, 0), queue(State::Dispatched, 0), queue(State::Quorum, 999_000)];
        let stages: Vec<Stage> = State::ALL.into_iter().map(|state| stage(state, &queues)).collect();
        assert_eq!((stages[2].count, stages[2].oldest, stages[5].oldest), (2, Some(0), None));
        let mut attention = Vec::new();
        of_stages(&stages, 1_000_000, &mut attention);
        assert_eq!(attention, [warn("a request is at “dispatched” for 16 min".into())]);
    }
}
