//! What a voter's own program does: encrypt, prove, send.

use std::{path::Path, sync::Arc};

use alloy::primitives::{Address, U256};
use anyhow::Result;
use kms_encoding::{FheType, Plaintext};
use kms_fhe::{
    bundle::PublicKeys,
    inputs::{self, InputMetadata},
};

use crate::anvil::CHAIN_ID;

/// Public key and reference string, loaded once.
#[derive(Debug, Clone)]
pub struct Encryptor {
    keys: Arc<PublicKeys>,
}

impl Encryptor {
    /// Loads the public bundle.
    ///
    /// # Errors
    /// A file is missing or does not match its digest.
    pub fn load(bundle: &Path) -> Result<Self> {
        Ok(Self { keys: Arc::new(PublicKeys::load(bundle)?) })
    }

    /// One encrypted boolean with its proof, bound to chain, ACL, contract and user.
    ///
    /// # Errors
    /// The proof can't be made.
    pub fn encrypt_bool(&self, value: bool, acl: Address, contract: Address, user: Address) -> Result<Vec<u8>> {
        self.encrypt(&[Plaintext::new(FheType::Bool, u128::from(value))?], acl, contract, user)
    }

    /// Encrypted values with their proof.
    ///
    /// # Errors
    /// The proof can't be made.
    pub fn encrypt(&self, values: &[Plaintext], acl: Address, contract: Address, user: Address) -> Result<Vec<u8>> {
        let metadata = InputMetadata {
            chain_id: U256::from(CHAIN_ID).to_be_bytes(),
            acl: acl.into_array(),
            contract: contract.into_array(),
            user: user.into_array(),
        };
        Ok(inputs::build(&self.keys, values, &metadata)?)
    }
}
