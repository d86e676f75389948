//! What the transaction manager needs of a chain's node. A trait, so that tests can put faults between.

use std::fmt::Debug;

use alloy::eips::BlockId;
use alloy::providers::Provider;
use alloy::rpc::types::TransactionRequest;
use alloy_primitives::{Address, B256, Bytes, U256};
use async_trait::async_trait;
use kms_chain::abi::GuardLens;
use kms_chain::rpc::{Chain, RpcError};

use super::fees::Fees;
use crate::store::Mined;

/// A node did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NodeError {
    /// What it said.
    pub message: String,
    /// Revert data, if the call was executed and reverted.
    pub revert: Option<Bytes>,
    /// The node was reached, and this is its own answer.
    pub answered: bool,
}

impl NodeError {
    /// A node that was not reached, with what is known about it.
    #[must_use]
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self { message: message.into(), revert: None, answered: false }
    }

    /// A refusal in the node's words.
    #[must_use]
    pub fn refused(message: impl Into<String>) -> Self {
        Self { message: message.into(), revert: None, answered: true }
    }
}

impl From<RpcError> for NodeError {
    fn from(error: RpcError) -> Self {
        match error {
            RpcError::Answer { message, data, .. } => {
                // A revert without data is a revert all the same.
                let revert = data.or_else(|| message.to_lowercase().contains("revert").then(Bytes::new));
                NodeError { message, revert, answered: true }
            }
            other => NodeError::unreachable(other.to_string()),
        }
    }
}

/// A node of one chain.
#[async_trait]
pub trait Node: Send + Sync + Debug {
    /// Number of transactions of `account` at the head, at a block, or with what waits in the pool.
    async fn transaction_count(&self, account: Address, at: BlockId) -> Result<u64, NodeError>;
    /// The same for decisions that a wrong answer would spoil: nodes that lie, or serve another chain, have no say alone.
    async fn lowest_transaction_count(&self, account: Address, at: BlockId) -> Result<u64, NodeError> {
        self.transaction_count(account, at).await
    }
    /// Number of the head.
    async fn head(&self) -> Result<u64, NodeError>;
    /// Fees of today.
    async fn fees(&self) -> Result<Fees, NodeError>;
    /// Executes a call, and says how much gas it takes.
    async fn estimate(&self, from: Address, to: Address, data: Bytes) -> Result<u64, NodeError>;
    /// Whether a call succeeds with so much gas. A node that can't say says no.
    async fn fits(&self, _from: Address, _to: Address, _data: Bytes, _gas: u64) -> Result<bool, NodeError> {
        Ok(false)
    }
    /// Whether a call would revert after what waits in the pool. A node that does not show its pool says no.
    async fn reverts_in_pool(&self, _from: Address, _to: Address, _data: Bytes) -> Result<bool, NodeError> {
        Ok(false)
    }
    /// Broadcasts a signed transaction.
    async fn broadcast(&self, raw: &Bytes) -> Result<(), NodeError>;
    /// Where a transaction was mined, if it was.
    async fn receipt(&self, hash: B256) -> Result<Option<Mined>, NodeError>;
    /// Balance in wei.
    async fn balance(&self, account: Address) -> Result<U256, NodeError>;
    /// How many of these handles have no committed ciphertext at the head. A node that can't say leaves it to the parties.
    async fn uncommitted(&self, _lens: Address, _handles: &[B256]) -> Result<usize, NodeError> {
        Ok(0)
    }
}

#[async_trait]
impl Node for Chain {
    async fn transaction_count(&self, account: Address, at: BlockId) -> Result<u64, NodeError> {
        Ok(Chain::transaction_count(self, account, at).await?)
    }

    async fn lowest_transaction_count(&self, account: Address, at: BlockId) -> Result<u64, NodeError> {
        Ok(Chain::lowest_transaction_count(self, account, at).await?)
    }

    async fn head(&self) -> Result<u64, NodeError> {
        Ok(self.heights().await?.latest.number)
    }

    async fn fees(&self) -> Result<Fees, NodeError> {
        let fees = Chain::fees(self).await?;
        Ok(Fees { max_fee: fees.max_fee_per_gas, priority_fee: fees.max_priority_fee_per_gas })
    }

    async fn estimate(&self, from: Address, to: Address, data: Bytes) -> Result<u64, NodeError> {
        Ok(self.estimate_gas(&TransactionRequest::default().from(from).to(to).input(data.into())).await?)
    }

    async fn fits(&self, from: Address, to: Address, data: Bytes, gas: u64) -> Result<bool, NodeError> {
        let call = TransactionRequest::default().from(from).to(to).input(data.into()).gas_limit(gas);
        Ok(tried(self, &call, BlockId::latest()).await.is_ok())
    }

    async fn reverts_in_pool(&self, from: Address, to: Address, data: Bytes) -> Result<bool, NodeError> {
        let call = TransactionRequest::default().from(from).to(to).input(data.into());
        match tried(self, &call, BlockId::pending()).await {
            Ok(()) => Ok(false),
            Err(error) if error.revert.is_some() => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn broadcast(&self, raw: &Bytes) -> Result<(), NodeError> {
        self.send_raw(raw).await?;
        Ok(())
    }

    async fn receipt(&self, hash: B256) -> Result<Option<Mined>, NodeError> {
        let Some(receipt) = Chain::receipt(self, hash).await? else { return Ok(None) };
        let (Some(block), Some(block_hash)) = (receipt.block_number, receipt.block_hash) else { return Ok(None) };
        Ok(Some(Mined {
            hash,
            block,
            block_hash,
            succeeded: receipt.status(),
            gas_used: receipt.gas_used,
            gas_price: receipt.effective_gas_price,
        }))
    }

    async fn uncommitted(&self, lens: Address, handles: &[B256]) -> Result<usize, NodeError> {
        let call = GuardLens::viewHandlesCall { account: Address::ZERO, handles: handles.to_vec() };
        let seen = self.call(lens, &call, BlockId::latest()).await?;
        Ok(seen._3.iter().filter(|handle| handle.keyId.is_zero()).count())
    }

    async fn balance(&self, account: Address) -> Result<U256, NodeError> {
        Ok(self.run(|provider| async move { provider.get_balance(account).await }).await?)
    }
}

/// Executes a call, and changes nothing.
async fn tried(chain: &Chain, call: &TransactionRequest, at: BlockId) -> Result<(), NodeError> {
    let tried = chain.run(|provider| {
        let call = call.clone();
        async move { provider.call(call).block(at).await }
    });
    Ok(tried.await.map(drop)?)
}
