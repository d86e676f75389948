//! Signing transactions with any of alloy's signers.

mod aws;

use std::sync::Arc;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::Encodable2718;
use alloy::network::TxSigner;
use alloy::primitives::{Address, B256, Bytes, Signature, TxKind, U256};

pub use aws::{AwsError, AwsKms, check as check_aws, credentials as aws_credentials};

use super::fees::Fees;
use crate::error::Error;

/// Holds the key of the account that pays.
#[derive(Clone)]
pub struct Signer(Arc<dyn TxSigner<Signature> + Send + Sync>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Signer").field(&self.address()).finish()
    }
}

impl Signer {
    /// From a signer of alloy: a local key, a keystore, a key management service.
    pub fn new(signer: impl TxSigner<Signature> + Send + Sync + 'static) -> Self {
        Self(Arc::new(signer))
    }

    /// The account.
    #[must_use]
    pub fn address(&self) -> Address {
        self.0.address()
    }

    /// Signs a transaction without value. Returns its hash and its bytes.
    ///
    /// # Errors
    /// The signer refuses.
    pub async fn sign(
        &self,
        chain_id: u64,
        nonce: u64,
        to: Address,
        input: Bytes,
        gas_limit: u64,
        fees: Fees,
    ) -> Result<(B256, Bytes), Error> {
        let mut tx = TxEip1559 {
            chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas: fees.max_fee,
            max_priority_fee_per_gas: fees.priority_fee,
            to: TxKind::Call(to),
            value: U256::ZERO,
            access_list: Default::default(),
            input,
        };
        let signature =
            self.0.sign_transaction(&mut tx).await.map_err(|e| Error::Transaction(format!("signer: {e}")))?;
        let envelope = TxEnvelope::from(tx.into_signed(signature));
        Ok((*envelope.tx_hash(), envelope.encoded_2718().into()))
    }
}
