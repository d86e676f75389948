//! Which host chains this party is ready for.
//!
//! Each chain comes up by itself: when one of its endpoints answers and this party holds a share of the key that is
//! active there. A chain without an endpoint keeps no other chain waiting. Once up a chain stays so; whether its
//! endpoints can be relied on is the guard's question for every single request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::guard::{ActiveKey, Guard};
use crate::keys::Keys;

/// How often this party looks.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// At a chain that is not up, first …
    pub first: Duration,
    /// … and at last.
    pub seldom: Duration,
    /// At one that is up, for the health call only.
    pub up: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), seldom: Duration::from_secs(5), up: Duration::from_secs(15) }
    }
}

/// Who knows the active keys: the guard, or a table in tests.
#[tonic::async_trait]
pub trait ActiveKeys: Send + Sync {
    /// The key that is active on a chain; none if there is none.
    async fn active_key(&self, chain_id: u64) -> Result<Option<ActiveKey>, String>;
}

#[tonic::async_trait]
impl ActiveKeys for Guard {
    async fn active_key(&self, chain_id: u64) -> Result<Option<ActiveKey>, String> {
        Self::active_key(self, chain_id).await
    }
}

/// One chain, as seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainStatus {
    /// Its id.
    pub chain_id: u64,
    /// Whether requests of it are served.
    pub ready: bool,
    /// What was wrong the last time this party looked.
    pub problem: Option<String>,
}

/// All chains of the manifest.
#[derive(Debug)]
pub struct Chains {
    all: RwLock<BTreeMap<u64, ChainStatus>>,
    pace: Pace,
}

impl Chains {
    /// These chains, none of them up.
    pub fn new(ids: impl IntoIterator<Item = u64>, pace: Pace) -> Self {
        let unknown = |chain_id| {
            let problem = Some("it was not looked at yet".into());
            (chain_id, ChainStatus { chain_id, ready: false, problem })
        };
        Self { all: RwLock::new(ids.into_iter().map(unknown).collect()), pace }
    }

    /// All chains by id.
    pub fn all(&self) -> Vec<ChainStatus> {
        self.all.read().values().cloned().collect()
    }

    /// Why requests of a chain have to wait; none if they need not, or if the chain is not of this committee, which is
    /// for others to say.
    pub fn waits_for(&self, chain_id: u64) -> Option<String> {
        let all = self.all.read();
        let chain = all.get(&chain_id).filter(|chain| !chain.ready)?;
        Some(format!("chain {chain_id}: {}", chain.problem.as_deref().unwrap_or("it is not up")))
    }

    /// Why no chain is up; none if one is, or if there are none at all.
    pub fn none_up(&self) -> Option<String> {
        let all = self.all.read();
        if all.is_empty() || all.values().any(|chain| chain.ready) {
            return None;
        }
        let problem = |c: &ChainStatus| format!("chain {}: {}", c.chain_id, c.problem.as_deref().unwrap_or_default());
        Some(all.values().map(problem).collect::<Vec<_>>().join("; "))
    }

    /// Looks after all chains until cancelled.
    pub async fn follow(&self, known: Arc<dyn ActiveKeys>, keys: Arc<Keys>, cancel: CancellationToken) {
        let ids: Vec<_> = self.all.read().keys().copied().collect();
        let each = ids.into_iter().map(|id| self.follow_one(id, &*known, &keys));
        let all = async {
            futures::future::join_all(each).await;
            // There are no chains: nothing to look after, and no reason to end.
            std::future::pending::<()>().await;
        };
        cancel.run_until_cancelled(all).await;
    }

    async fn follow_one(&self, chain_id: u64, known: &dyn ActiveKeys, keys: &Keys) {
        let mut pause = self.pace.first;
        loop {
            let problem = match known.active_key(chain_id).await {
                Err(problem) => Some(problem),
                Ok(Some(key)) if keys.usable(key.key_id).is_none() => {
                    Some(format!("there is no usable share of {}, which is active there", key.key_id))
                }
                Ok(_) => None,
            };
            let ready = self.note(chain_id, problem);
            tokio::time::sleep(if ready { self.pace.up } else { pause }).await;
            pause = (pause * 2).min(self.pace.seldom);
        }
    }

    fn note(&self, chain_id: u64, problem: Option<String>) -> bool {
        let mut all = self.all.write();
        let Some(chain) = all.get_mut(&chain_id) else { return false };
        if chain.problem != problem {
            match &problem {
                Some(problem) => tracing::warn!(chain_id, %problem, ready = chain.ready, "chain"),
                None => tracing::info!(chain_id, "the chain is up"),
            }
        }
        chain.ready |= problem.is_none();
        chain.problem = problem;
        chain.ready
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use alloy_primitives::B256;
    use parking_lot::Mutex;

    use super::*;
    use crate::testkit::until;

    const UP: u64 = 1;
    const DEAD: u64 = 2;
    const FOREIGN: u64 = 3;

    struct Table(Mutex<HashMap<u64, Result<Option<ActiveKey>, String>>>);

    #[tonic::async_trait]
    impl ActiveKeys for Table {
        async fn active_key(&self, chain_id: u64) -> Result<Option<ActiveKey>, String> {
            self.0.lock().get(&chain_id).cloned().unwrap_or_else(|| Err("no endpoint answers".into()))
        }
    }

    #[tokio::test]
    async fn a_dead_endpoint_keeps_no_other_chain_waiting_and_comes_up_by_itself() {
        let foreign = ActiveKey { key_id: B256::ZERO, context_id: B256::ZERO, epoch_id: B256::ZERO };
        let known = Arc::new(Table(Mutex::new(HashMap::from([(FOREIGN, Ok(Some(foreign)))]))));
        let tick = Duration::from_millis(1);
        let chains = Arc::new(Chains::new([UP, DEAD, FOREIGN], Pace { first: tick, seldom: tick, up: tick }));
        let (keys, cancel) = (Arc::new(Keys::default()), CancellationToken::new());
        assert!(chains.none_up().is_some_and(|why| why.contains("chain 1") && why.contains("chain 3")));
        let (following, table, end) = (chains.clone(), known.clone(), cancel.clone());
        let task = tokio::spawn(async move { following.follow(table, keys, end).await });
        let waits = async |chain: u64, why: &str| {
            until(async || chains.waits_for(chain).filter(|found| found.contains(why))).await;
        };
        waits(UP, "no endpoint answers").await;
        known.0.lock().insert(UP, Ok(None));
        until(async || chains.none_up().is_none().then_some(())).await;
        assert_eq!(chains.waits_for(UP), None);
        waits(DEAD, "no endpoint answers").await;
        waits(FOREIGN, "no usable share").await;
        assert_eq!(chains.waits_for(99), None);
        known.0.lock().insert(DEAD, Ok(None));
        until(async || chains.waits_for(DEAD).is_none().then_some(())).await;
        // Gone again: health says so, and requests are the guard's business.
        known.0.lock().remove(&DEAD);
        let gone = Some("no endpoint answers");
        until(async || (chains.all()[1].problem.as_deref() == gone).then_some(())).await;
        assert_eq!(chains.waits_for(DEAD), None);
        assert_eq!(chains.all().iter().map(|c| c.ready).collect::<Vec<_>>(), [true, true, false]);
        cancel.cancel();
        task.await.unwrap();
    }
}
