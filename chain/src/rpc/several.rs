//! What takes several endpoints: comparing them, and handing transactions to all of them.

use super::{
    BlockId, Chain, EndpointReport, RpcError,
    calls::{SECOND_OPINION, block},
};
use alloy::{
    primitives::{Address, B256, Bytes},
    providers::{DynProvider, Provider},
};
use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use std::{sync::atomic::Ordering, time::Duration};
use tokio::time::{Instant, timeout, timeout_at};

/// How long the other endpoints may take to take a transaction that one has refused.
const ANOTHER_CHANCE: Duration = Duration::from_secs(1);

impl Chain {
    /// Hands in a signed transaction, at all endpoints: one that loses it, or takes none, does no harm. Ends with the first
    /// that takes it; the others are asked all the same.
    ///
    /// # Errors
    /// A node's error as it is ("already known", "nonce too low", …), or when no endpoint answers.
    pub async fn send_raw(&self, transaction: &[u8]) -> Result<B256, RpcError> {
        let transaction = Bytes::copy_from_slice(transaction);
        let (count, active) = (self.endpoint_count(), self.active());
        let mut sending: FuturesUnordered<_> = (0..count)
            .map(|step| {
                let (chain, transaction) = (self.clone(), transaction.clone());
                // A task of its own, so that it goes on when the first has taken the transaction.
                let sent = tokio::spawn(async move { chain.send_to((active + step) % count, transaction).await });
                async move { (step, sent.await) }
            })
            .collect();
        let mut refused: Option<(usize, RpcError)> = None;
        let mut deadline = None;
        loop {
            let next = match deadline {
                Some(at) => timeout_at(at, sending.next()).await.unwrap_or(None),
                None => sending.next().await,
            };
            let Some((step, result)) = next else { break };
            let error = match result {
                Ok(Ok(hash)) => return Ok(hash),
                Ok(Err(error)) => error,
                // A task that was ended from outside: the process ends.
                Err(_) => continue,
            };
            if !error.is_endpoint_failure() && deadline.is_none() {
                deadline = Some(Instant::now() + ANOTHER_CHANCE);
            }
            // The same refusals have the same order every time, whoever is faster.
            let worse = |(at, kept): &(usize, RpcError)| (kept.rank(), step) < (error.rank(), *at);
            if refused.as_ref().is_none_or(worse) {
                refused = Some((step, error));
            }
        }
        Err(refused.map_or(RpcError::NoEndpoints, |(_, error)| error))
    }

    async fn send_to(&self, index: usize, transaction: Bytes) -> Result<B256, RpcError> {
        let send = |provider: DynProvider| {
            let transaction = transaction.clone();
            async move { provider.client().request("eth_sendRawTransaction", (transaction,)).await }
        };
        self.inner.endpoints[index].run(self.chain_id(), send).await
    }

    /// Number of transactions of an account, for decisions that a wrong answer would spoil: the lowest that any endpoint
    /// says, and only from those that name the right chain once more.
    ///
    /// # Errors
    /// When no endpoint answers.
    pub async fn lowest_transaction_count(&self, account: Address, at: BlockId) -> Result<u64, RpcError> {
        let expected = self.chain_id();
        let counts = join_all(self.inner.endpoints.iter().map(|endpoint| async move {
            let asked = async {
                endpoint.identify(expected).await?;
                let count =
                    |provider: DynProvider| async move { provider.get_transaction_count(account).block_id(at).await };
                endpoint.run(expected, count).await
            };
            timeout(SECOND_OPINION, asked)
                .await
                .unwrap_or_else(|_| Err(RpcError::Timeout { endpoint: endpoint.label().to_owned() }))
        }))
        .await;
        let mut lowest = Err(RpcError::NoEndpoints);
        for count in counts {
            lowest = match (lowest, count) {
                (Ok(a), Ok(b)) => Ok(u64::min(a, b)),
                (Ok(a), Err(_)) | (Err(_), Ok(a)) => Ok(a),
                (Err(a), Err(b)) => Err(if b.rank() > a.rank() { b } else { a }),
            };
        }
        lowest
    }

    /// Compares all endpoints at the highest height that all who answer have, and says aloud what is wrong. If the
    /// active endpoint is down, or more than `max_lag` blocks behind the best one that agrees with it, that one becomes active.
    pub async fn survey(&self, max_lag: u64) -> Vec<EndpointReport> {
        let endpoints = &self.inner.endpoints;
        let heads = join_all(endpoints.iter().map(|endpoint| async move {
            let head = timeout(SECOND_OPINION, endpoint.head(self.chain_id())).await;
            head.unwrap_or_else(|_| Err(RpcError::Timeout { endpoint: endpoint.label().to_owned() }))
        }))
        .await;
        let common = heads.iter().flatten().map(|head| head.number).min().unwrap_or(0);
        let at_common = join_all(endpoints.iter().zip(&heads).map(|(endpoint, head)| async move {
            head.as_ref().ok()?;
            let block = |provider: DynProvider| async move { block(&provider, format!("{common:#x}").into()).await };
            let asked = timeout(SECOND_OPINION, endpoint.run(self.chain_id(), block)).await;
            asked.ok()?.ok().flatten().map(|block| block.hash)
        }))
        .await;
        let active = self.active();
        let reference = at_common[active].or_else(|| at_common.iter().flatten().next().copied());
        let mut best = None;
        let mut reports = Vec::with_capacity(endpoints.len());
        for (index, (head, hash)) in heads.into_iter().zip(at_common).enumerate() {
            let endpoint = &endpoints[index];
            let disagrees = hash.is_some() && hash != reference;
            if disagrees {
                tracing::error!(
                    chain = self.chain_id(), %endpoint, height = common, ?hash, ?reference,
                    "RPC endpoints disagree about the chain"
                );
            }
            match &head {
                Ok(head) if !disagrees && best.is_none_or(|(_, number)| head.number > number) => {
                    best = Some((index, head.number));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(chain = self.chain_id(), %endpoint, %error, "RPC endpoint failed"),
            }
            let head = head.map_err(|error| error.to_string());
            let endpoint = endpoint.label().to_owned();
            reports.push(EndpointReport { endpoint, head, disagrees, active: false });
        }
        if let Some((index, number)) = best {
            let lag = reports[active].head.as_ref().map(|head| number.saturating_sub(head.number));
            if index != active && lag.as_ref().map_or(true, |lag| *lag > max_lag) {
                tracing::warn!(
                    chain = self.chain_id(), from = %endpoints[active], to = %endpoints[index], ?lag,
                    "the active RPC endpoint is down or behind; changed"
                );
                self.inner.active.store(index, Ordering::Relaxed);
            }
        }
        if let Some(report) = reports.get_mut(self.active()) {
            report.active = true;
        }
        reports
    }
}
