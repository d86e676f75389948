//! The calls that the rest of the system makes.

use super::{BlockId, BlockRef, Chain, Filter, Heights, Log, RpcError, endpoint::Endpoint};
use alloy::{
    eips::BlockNumberOrTag,
    network::TransactionBuilder,
    primitives::{Address, B256, Bloom, Bytes, U64},
    providers::{DynProvider, Provider, utils::Eip1559Estimation},
    rpc::types::{TransactionReceipt, TransactionRequest},
    sol_types::SolCall,
    transports::TransportResult,
};
use futures::{
    FutureExt, StreamExt,
    future::join_all,
    stream::{BoxStream, FuturesUnordered},
};
use serde::Deserialize;
use std::{borrow::Cow, sync::atomic::Ordering, time::Duration};
use tokio::time::timeout;

/// How long another endpoint may take to say what it thinks: the others' answer waits for it.
pub(super) const SECOND_OPINION: Duration = Duration::from_secs(3);
/// Questions in a row that no other endpoint answered after which the one that is left is believed. Otherwise a chain with two
/// endpoints would have nothing final any more when one is gone for good.
const ALONE_AFTER: u32 = 20;

/// The fields of a header that every chain has, and the one that says which contracts logged something.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    number: U64,
    hash: B256,
    parent_hash: B256,
    timestamp: U64,
    logs_bloom: Option<Bloom>,
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

async fn header(provider: &DynProvider, tag: Cow<'static, str>) -> TransportResult<Option<Header>> {
    provider.client().request("eth_getBlockByNumber", (tag, false)).await
}

/// A block by tag or hex number.
pub(super) async fn block(provider: &DynProvider, tag: Cow<'static, str>) -> TransportResult<Option<BlockRef>> {
    Ok(header(provider, tag).await?.map(BlockRef::from))
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
        let agreed = &self.inner.agreed;
        let others = self.inner.endpoints.iter().filter(|endpoint| !std::ptr::eq(*endpoint, asked));
        let mut answers: FuturesUnordered<_> = others
            .map(|endpoint| async move {
                let answer = endpoint.run(self.chain_id(), |provider| async move { tagged_numbers(&provider).await });
                timeout(SECOND_OPINION, answer).await.ok()?.ok()
            })
            .collect();
        let mut alone = true;
        while let Some(answer) = answers.next().await {
            let Some((safe, finalized)) = answer else { continue };
            alone = false;
            agreed.safe.fetch_max(safe.min(claimed.safe), Ordering::Relaxed);
            agreed.finalized.fetch_max(finalized.min(claimed.finalized), Ordering::Relaxed);
            // Whoever is slow or down holds up nobody when the others suffice.
            if safe >= claimed.safe && finalized >= claimed.finalized {
                break;
            }
        }
        if !alone {
            agreed.alone.store(0, Ordering::Relaxed);
        } else if agreed.alone.fetch_add(1, Ordering::Relaxed) >= ALONE_AFTER {
            tracing::warn!(chain = self.chain_id(), endpoint = %asked, "no other RPC endpoint answers: this one is believed");
            agreed.safe.fetch_max(claimed.safe, Ordering::Relaxed);
            agreed.finalized.fetch_max(claimed.finalized, Ordering::Relaxed);
        }
    }

    /// Makes sure that the endpoint in use still serves the chain that it named when it was connected.
    ///
    /// # Errors
    /// [`RpcError::WrongChain`], or the endpoint does not answer.
    pub async fn identify(&self) -> Result<(), RpcError> {
        self.inner.endpoints[self.active()].identify(self.chain_id()).await
    }

    /// The canonical block of this height, if the chain is that long.
    ///
    /// # Errors
    /// When no endpoint answers.
    pub async fn block_by_number(&self, number: u64) -> Result<Option<BlockRef>, RpcError> {
        self.run(|provider| async move { block(&provider, format!("{number:#x}").into()).await }).await
    }

    /// The canonical block of this height with the filter of what was logged in it, if the node has one.
    pub(crate) async fn block_and_bloom(&self, number: u64) -> Result<Option<(BlockRef, Option<Bloom>)>, RpcError> {
        let found = self.run(|provider| async move { header(&provider, format!("{number:#x}").into()).await }).await?;
        Ok(found.map(|header| (header.logs_bloom, header)).map(|(bloom, header)| (header.into(), bloom)))
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

    /// Logs of a filter that ends at block `to`, and that block, both of the same endpoint: one that does not have the block
    /// may not have all the logs either.
    pub(crate) async fn logs_up_to(&self, filter: &Filter, to: u64) -> Result<(Vec<Log>, Option<BlockRef>), RpcError> {
        self.run(|provider| {
            let filter = filter.clone().to_block(to);
            async move { Ok((provider.get_logs(&filter).await?, block(&provider, format!("{to:#x}").into()).await?)) }
        })
        .await
    }

    /// Logs of a filter that are not to be missed: as the first endpoint says that has any, and the active one asked last.
    pub(crate) async fn logs_anywhere(&self, filter: &Filter) -> Vec<Log> {
        let (endpoints, active) = (&self.inner.endpoints, self.active());
        for step in 1..=endpoints.len() {
            let endpoint = &endpoints[(active + step) % endpoints.len()];
            let asked = endpoint.run(self.chain_id(), |provider| {
                let filter = filter.clone();
                async move { provider.get_logs(&filter).await }
            });
            if let Ok(Ok(logs)) = timeout(SECOND_OPINION, asked).await
                && !logs.is_empty()
            {
                return logs;
            }
        }
        Vec::new()
    }

    /// Logs of some contracts by the receipts of a block; none if no endpoint gives them.
    pub(crate) async fn logs_of_receipts(&self, block: B256, addresses: &[Address]) -> Vec<Log> {
        let asked = self.run(|provider| async move { provider.get_block_receipts(BlockId::hash(block)).await });
        let receipts = match timeout(SECOND_OPINION, asked).await {
            Ok(Ok(receipts)) => receipts.unwrap_or_default(),
            _ => return Vec::new(),
        };
        let logs = receipts.into_iter().flat_map(|receipt| receipt.inner.logs().to_vec());
        logs.filter(|log| addresses.contains(&log.address())).collect()
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

    /// Receipt of a mined transaction.
    ///
    /// # Errors
    /// When no endpoint answers.
    pub async fn receipt(&self, transaction: B256) -> Result<Option<TransactionReceipt>, RpcError> {
        self.run(|provider| async move { provider.get_transaction_receipt(transaction).await }).await
    }

    /// Wakes on every new head, if the active endpoint can push. The stream ends with the connection.
    pub async fn new_heads(&self) -> Option<BoxStream<'static, ()>> {
        let endpoint = &self.inner.endpoints[self.active()];
        if !endpoint.is_websocket() {
            return None;
        }
        let subscribed = endpoint.run(self.chain_id(), |provider| async move { provider.subscribe_blocks().await });
        let subscription = timeout(SECOND_OPINION, subscribed).await.ok()?.ok()?;
        Some(subscription.into_stream().map(|_| ()).boxed())
    }
}

async fn raw_call(provider: DynProvider, to: Address, data: Bytes, at: BlockId) -> TransportResult<Bytes> {
    let request = TransactionRequest::default().with_to(to).with_input(data);
    provider.call(request).block(at).await
}
