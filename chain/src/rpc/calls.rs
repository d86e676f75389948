//! The calls that the rest of the system makes.

use super::{BlockId, BlockRef, Chain, EndpointReport, Filter, Heights, Log, RpcError, endpoint::Endpoint};
use alloy::{
    eips::BlockNumberOrTag,
    network::TransactionBuilder,
    primitives::{Address, B256, Bytes, U64},
    providers::{DynProvider, Provider, utils::Eip1559Estimation},
    rpc::types::{TransactionReceipt, TransactionRequest},
    sol_types::SolCall,
    transports::TransportResult,
};
use futures::{FutureExt, StreamExt, future::join_all, stream::BoxStream};
use serde::Deserialize;
use std::{borrow::Cow, sync::atomic::Ordering, time::Duration};
use tokio::time::timeout;

/// How long another endpoint may take to confirm a height: the others' answer waits for it.
const SECOND_OPINION: Duration = Duration::from_secs(3);

/// The fields of a header that every chain has.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    number: U64,
    hash: B256,
    parent_hash: B256,
    timestamp: U64,
}

impl From<Header> for BlockRef {
    fn from(header: Header) -> Self {
        Self {
            number: header.number.to(),
            hash: header.hash,
            parent: header.parent_hash,
            timestamp: header.timestamp.to(),
        }
    }
}

/// A block by tag or hex number.
pub(super) async fn block(provider: &DynProvider, tag: Cow<'static, str>) -> TransportResult<Option<BlockRef>> {
    let header: Option<Header> = provider.client().request("eth_getBlockByNumber", (tag, false)).await?;
    Ok(header.map(BlockRef::from))
}

/// A tag that the chain may not name yet.
async fn tagged_number(provider: &DynProvider, tag: BlockNumberOrTag) -> TransportResult<u64> {
    match block(provider, tag.to_string().into()).await {
        Ok(block) => Ok(block.map_or(0, |block| block.number)),
        // Nodes answer "finalized block not found" until there is one.
        Err(error) if error.as_error_resp().is_some_and(|payload| !payload.is_retry_err()) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Safe and finalized height.
async fn tagged_numbers(provider: &DynProvider) -> TransportResult<(u64, u64)> {
    futures::try_join!(
        tagged_number(provider, BlockNumberOrTag::Safe),
        tagged_number(provider, BlockNumberOrTag::Finalized)
    )
}

impl Chain {
    /// Newest, safe and finalized block, all of one endpoint. Of several endpoints another one must have come as far:
    /// without a second that answers, the safe and the finalized height stay where two have seen them.
    ///
    /// # Errors
    /// When no endpoint answers.
    pub async fn heights(&self) -> Result<Heights, RpcError> {
        let (asked, found) = self
            .try_each(|endpoint| {
                let operation = |provider: DynProvider| async move {
                    let latest = block(&provider, "latest".into());
                    let (latest, (safe, finalized)) = futures::try_join!(latest, tagged_numbers(&provider))?;
                    Ok(latest.map(|latest| Heights { latest, safe, finalized }))
                };
                async move { Ok((endpoint, endpoint.run(self.chain_id(), operation).await?)) }.boxed()
            })
            .await?;
        let mut heights = found.ok_or_else(|| RpcError::BlockUnknown("latest".to_owned()))?;
        for (what, height) in [("safe", &mut heights.safe), ("finalized", &mut heights.finalized)] {
            if *height > heights.latest.number {
                let latest = heights.latest.number;
                tracing::warn!(chain = self.chain_id(), endpoint = %asked, height, latest, "{what} block above the head");
                *height = 0;
            }
        }
        if self.endpoint_count() > 1 {
            let agreed = &self.inner.agreed;
            let (safe, finalized) = (agreed.safe.load(Ordering::Relaxed), agreed.finalized.load(Ordering::Relaxed));
            if heights.safe > safe || heights.finalized > finalized {
                self.ask_others(asked, &heights).await;
            }
            heights.safe = heights.safe.min(agreed.safe.load(Ordering::Relaxed));
            heights.finalized = heights.finalized.min(agreed.finalized.load(Ordering::Relaxed));
        }
        Ok(heights)
    }

    /// Raises the agreed heights to what another endpoint vouches for.
    async fn ask_others(&self, asked: &Endpoint, claimed: &Heights) {
        let others = self.inner.endpoints.iter().filter(|endpoint| !std::ptr::eq(*endpoint, asked));
        let answers = join_all(others.map(|endpoint| async move {
            let answer = endpoint.run(self.chain_id(), |provider| async move { tagged_numbers(&provider).await });
            timeout(SECOND_OPINION, answer).await.ok()?.ok()
        }))
        .await;
        for (safe, finalized) in answers.into_iter().flatten() {
            self.inner.agreed.safe.fetch_max(safe.min(claimed.safe), Ordering::Relaxed);
            self.inner.agreed.finalized.fetch_max(finalized.min(claimed.finalized), Ordering::Relaxed);
        }
    }

    /// The canonical block of this height, if the chain is that long.
    ///
    /// # Errors
    /// When no endpoint answers.
    pub async fn block_by_number(&self, number: u64) -> Result<Option<BlockRef>, RpcError> {
        self.run(|provider| async move { block(&provider, format!("{number:#x}").into()).await }).await
    }

    /// The block with this hash, canonical or not, if the endpoint still has it.
    ///
    /// # Errors
    /// When no endpoint answers.
    pub async fn block_by_hash(&self, hash: B256) -> Result<Option<BlockRef>, RpcError> {
        self.run(|provider| async move {
            let header: Option<Header> = provider.client().request("eth_getBlockByHash", (hash, false)).await?;
            Ok(header.map(BlockRef::from))
        })
        .await
    }

    /// Logs of a filter.
    ///
    /// # Errors
    /// The node's error (too many results, for one), or when no endpoint answers.
    pub async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, RpcError> {
        self.run(|provider| {
            let filter = filter.clone();
            async move { provider.get_logs(&filter).await }
        })
        .await
    }

    /// A read-only call, decoded.
    ///
    /// # Errors
    /// A revert or another error of the node, an undecodable result, or when no endpoint answers.
    pub async fn call<C: SolCall + Send + Sync>(
        &self,
        to: Address,
        call: &C,
        at: BlockId,
    ) -> Result<C::Return, RpcError> {
        let data = Bytes::from(call.abi_encode());
        let result = self.run(|provider| raw_call(provider, to, data.clone(), at)).await?;
        C::abi_decode_returns_validate(&result).map_err(|_| RpcError::Decode(C::SIGNATURE))
    }

    /// A read-only call on every endpoint; all results must be equal. Endpoints that fail are left out as long as one
    /// answers. For a result that must not depend on one lying endpoint.
    ///
    /// # Errors
    /// [`RpcError::Disagreement`], a revert or another error of a node, an undecodable result, or no answer.
    pub async fn call_agreed<C: SolCall + Send + Sync>(
        &self,
        to: Address,
        call: &C,
        at: BlockId,
    ) -> Result<C::Return, RpcError> {
        let data = Bytes::from(call.abi_encode());
        let asked = self.inner.endpoints.iter().map(|endpoint| {
            endpoint
                .run(self.chain_id(), |provider| raw_call(provider, to, data.clone(), at))
                .map(move |result| (endpoint, result))
        });
        let mut agreed = None;
        let mut failure = RpcError::NoEndpoints;
        for (endpoint, result) in join_all(asked).await {
            match (result, &agreed) {
                (Ok(bytes), None) => agreed = Some((endpoint, bytes)),
                (Ok(bytes), Some((first, same))) if bytes != *same => {
                    return Err(RpcError::Disagreement {
                        first: first.label().to_owned(),
                        second: endpoint.label().to_owned(),
                    });
                }
                (Ok(_), Some(_)) => {}
                // A revert here and a result there is a disagreement too, and the careful side wins.
                (Err(error), _) if !error.is_endpoint_failure() => return Err(error),
                (Err(error), _) => failure = error,
            }
        }
        let (_, bytes) = agreed.ok_or(failure)?;
        C::abi_decode_returns_validate(&bytes).map_err(|_| RpcError::Decode(C::SIGNATURE))
    }

    /// Runs a transaction as a call, to learn whether it would revert.
    ///
    /// # Errors
    /// A revert or another error of the node, or when no endpoint answers.
    pub async fn simulate(&self, transaction: &TransactionRequest, at: BlockId) -> Result<Bytes, RpcError> {
        self.run(|provider| {
            let transaction = transaction.clone();
            async move { provider.call(transaction).block(at).await }
        })
        .await
    }

    /// Gas that a transaction needs at the newest block.
    ///
    /// # Errors
    /// A revert or another error of the node, or when no endpoint answers.
    pub async fn estimate_gas(&self, transaction: &TransactionRequest) -> Result<u64, RpcError> {
        self.run(|provider| {
            let transaction = transaction.clone();
            async move { provider.estimate_gas(transaction).block(BlockId::latest()).await }
        })
        .await
    }

    /// Fees that should get a transaction mined soon.
    ///
    /// # Errors
    /// When no endpoint answers.
    pub async fn fees(&self) -> Result<Eip1559Estimation, RpcError> {
        self.run(|provider| async move { provider.estimate_eip1559_fees().await }).await
    }

    /// Number of transactions that an account has sent, up to the given block (`pending` includes the pool).
    ///
    /// # Errors
    /// When no endpoint answers.
    pub async fn transaction_count(&self, account: Address, at: BlockId) -> Result<u64, RpcError> {
        self.run(|provider| async move { provider.get_transaction_count(account).block_id(at).await }).await
    }

    /// Hands in a signed transaction.
    ///
    /// # Errors
    /// The node's error as it is ("already known", "nonce too low", …), or when no endpoint answers.
    pub async fn send_raw(&self, transaction: &[u8]) -> Result<B256, RpcError> {
        let transaction = Bytes::copy_from_slice(transaction);
        self.run(|provider| {
            let transaction = transaction.clone();
            async move { provider.client().request("eth_sendRawTransaction", (transaction,)).await }
        })
        .await
    }

    /// Receipt of a mined transaction.
    ///
    /// # Errors
    /// When no endpoint answers.
    pub async fn receipt(&self, transaction: B256) -> Result<Option<TransactionReceipt>, RpcError> {
        self.run(|provider| async move { provider.get_transaction_receipt(transaction).await }).await
    }

    /// Wakes on every new head, if the active endpoint can push. The stream ends with the connection.
    pub async fn new_heads(&self) -> Option<BoxStream<'static, ()>> {
        let endpoint = &self.inner.endpoints[self.inner.active.load(Ordering::Relaxed)];
        if !endpoint.is_websocket() {
            return None;
        }
        let subscribed =
            endpoint.run(self.chain_id(), |provider| async move { provider.subscribe_blocks().await }).await;
        subscribed.ok().map(|subscription| subscription.into_stream().map(|_| ()).boxed())
    }

    /// Compares all endpoints at the highest height that all who answer have, and says aloud what is wrong. If the
    /// active endpoint is down, or more than `max_lag` blocks behind the best one that agrees with it, that one becomes active.
    pub async fn survey(&self, max_lag: u64) -> Vec<EndpointReport> {
        let endpoints = &self.inner.endpoints;
        let heads = join_all(endpoints.iter().map(|endpoint| endpoint.head(self.chain_id()))).await;
        let common = heads.iter().flatten().map(|head| head.number).min().unwrap_or(0);
        let at_common = join_all(endpoints.iter().zip(&heads).map(|(endpoint, head)| async move {
            head.as_ref().ok()?;
            let block = |provider: DynProvider| async move { block(&provider, format!("{common:#x}").into()).await };
            endpoint.run(self.chain_id(), block).await.ok().flatten().map(|block| block.hash)
        }))
        .await;
        let active = self.inner.active.load(Ordering::Relaxed);
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
            reports.push(EndpointReport { endpoint: endpoint.label().to_owned(), head, disagrees });
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
        reports
    }
}

async fn raw_call(provider: DynProvider, to: Address, data: Bytes, at: BlockId) -> TransportResult<Bytes> {
    let request = TransactionRequest::default().with_to(to).with_input(data);
    provider.call(request).block(at).await
}
