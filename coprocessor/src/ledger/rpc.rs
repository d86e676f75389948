//! A real chain.

use alloy::{eips::BlockId, network::TransactionBuilder, rpc::types::TransactionRequest};
use alloy_primitives::{Address, B256, Bytes};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use kms_chain::{
    abi::CiphertextRegistry,
    rpc::{Chain, RpcError},
};

use super::{Broadcast, Fees, Ledger, Receipt, Simulation, classify_broadcast, classify_simulation};
use crate::error::{Error, Result};

/// Calls under way at once when many commitments are asked for.
const PARALLEL_CALLS: usize = 16;

/// A chain behind its RPC endpoints.
#[derive(Clone, Debug)]
pub struct RpcLedger {
    chain: Chain,
    registry: Address,
}

impl RpcLedger {
    /// Sees `chain`, and on it the registry at `registry`.
    #[must_use]
    pub fn new(chain: Chain, registry: Address) -> Self {
        Self { chain, registry }
    }

    fn failed(&self, error: &RpcError) -> Error {
        Error::Chain { chain_id: self.chain.chain_id(), reason: error.to_string() }
    }
}

#[async_trait]
impl Ledger for RpcLedger {
    async fn commitments(&self, handles: &[B256]) -> Result<Vec<Option<(B256, B256)>>> {
        stream::iter(handles.to_vec())
            .map(|handle| async move {
                let call = CiphertextRegistry::commitmentOfCall { handle };
                let found = self.chain.call(self.registry, &call, BlockId::latest()).await;
                let found = found.map_err(|error| self.failed(&error))?;
                Ok((!found.digest.is_zero()).then_some((found.keyId, found.digest)))
            })
            .buffered(PARALLEL_CALLS)
            .try_collect()
            .await
    }

    async fn fees(&self) -> Result<Fees> {
        let fees = self.chain.fees().await.map_err(|error| self.failed(&error))?;
        Ok(Fees { max_fee: fees.max_fee_per_gas, priority_fee: fees.max_priority_fee_per_gas })
    }

    async fn next_nonce(&self, account: Address) -> Result<u64> {
        self.chain.transaction_count(account, BlockId::pending()).await.map_err(|error| self.failed(&error))
    }

    async fn final_nonce(&self, account: Address) -> Result<u64> {
        match self.chain.transaction_count(account, BlockId::finalized()).await {
            Ok(nonce) => Ok(nonce),
            // A young chain names no final block yet.
            Err(RpcError::Answer { .. }) => Ok(0),
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn final_block(&self) -> Result<u64> {
        Ok(self.chain.heights().await.map_err(|error| self.failed(&error))?.finalized)
    }

    async fn simulate(&self, from: Address, to: Address, calldata: &[u8]) -> Result<Simulation> {
        let transaction =
            TransactionRequest::default().with_from(from).with_to(to).with_input(Bytes::copy_from_slice(calldata));
        match self.chain.estimate_gas(&transaction).await {
            Ok(gas) => Ok(Simulation::Gas(gas)),
            Err(RpcError::Answer { message, data, .. }) => {
                Ok(classify_simulation(&message, data.map(|data| data.to_string())))
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn broadcast(&self, raw: &[u8]) -> Result<Broadcast> {
        match self.chain.send_raw(raw).await {
            Ok(_) => Ok(Broadcast::Accepted),
            Err(RpcError::Answer { message, .. }) => Ok(classify_broadcast(&message)),
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn receipt(&self, hash: B256) -> Result<Option<Receipt>> {
        let receipt = self.chain.receipt(hash).await.map_err(|error| self.failed(&error))?;
        Ok(receipt.and_then(|receipt| {
            Some(Receipt {
                block_number: receipt.block_number?,
                block_hash: receipt.block_hash?,
                success: receipt.status(),
                gas_used: receipt.gas_used,
            })
        }))
    }
}
