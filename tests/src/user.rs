//! Users who read encrypted values: key pairs, permits, requests.

use alloy::{
    primitives::{Address, B256, Bytes},
    providers::Provider,
    signers::SignerSync,
};
use anyhow::{Context, Result};
use kms_chain::{
    extra_data::ExtraData,
    permit::{HandleContract, Permit, UserRequest},
};
use kms_client::user::{Kem, KeyPair, Parties, UserDecryption};

use crate::{
    anvil::{CHAIN_ID, Role},
    cluster::Cluster,
    parties,
};

/// What is asked for, and the only key that opens the answers.
#[derive(Debug)]
pub struct Asking {
    /// Permit, signature, pairs.
    pub request: UserRequest,
    pair: KeyPair,
}

impl Asking {
    /// A permit of `signer`'s wallet for a day from the latest block on, for these handles of one contract. `change` is made
    /// before it is signed.
    ///
    /// # Errors
    /// The chain does not answer, or the machine has no randomness.
    pub async fn new(
        cluster: &Cluster,
        signer: Role,
        contract: Address,
        handles: &[B256],
        change: impl FnOnce(&mut Permit),
    ) -> Result<Self> {
        let latest = cluster.anvil.provider()?.get_block_by_number(Default::default()).await?.context("no block")?;
        let manifest = parties::manifest(cluster)?;
        let pair = KeyPair::generate(Kem::MlKem768)?;
        let mut permit = Permit {
            user: signer.wallet().address(),
            delegator: None,
            public_key: Bytes::copy_from_slice(pair.public_key().as_bytes()),
            contracts: vec![contract],
            start: latest.header.timestamp,
            days: 1,
            extra_data: ExtraData::V1 { context: manifest.committee.context_id }.encode(),
        };
        change(&mut permit);
        let digest = permit.digest(CHAIN_ID, manifest.decryption_domain.verifying_contract);
        let signature = Bytes::copy_from_slice(&signer.wallet().sign_hash_sync(&digest)?.as_bytes());
        let pairs = handles.iter().map(|handle| HandleContract { handle: *handle, contract }).collect();
        Ok(Self { request: UserRequest { host_chain_id: CHAIN_ID, permit, signature, pairs }, pair })
    }

    /// Puts the shares together.
    ///
    /// # Errors
    /// The request breaks a rule.
    pub fn reader(self, cluster: &Cluster) -> Result<UserDecryption> {
        let manifest = parties::manifest(cluster)?;
        let committee = Parties::from(&manifest.committee);
        Ok(UserDecryption::new(committee, &manifest.decryption_domain, self.request, self.pair)?)
    }
}
