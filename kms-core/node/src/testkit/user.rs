//! Users of a test cluster.

use alloy_primitives::{Address, B256};
use k256::ecdsa::SigningKey;
use kms_chain::eip712::{sign_digest, signer_address};
use kms_chain::permit::{HandleContract, Permit, UserRequest};
use kms_client::user::{Kem, KeyPair, Parties, UserDecryption, UserResponse};
use kms_encoding::user::{Binding, Envelope, SharePayload, open};

use super::CHAIN;
use super::cluster::Cluster;

pub(crate) const CONTRACT: Address = Address::repeat_byte(0x44);
pub(crate) const START: u64 = 1_700_000_000;

/// A user with a wallet and the key pair of one permit.
pub(crate) struct User {
    pub(crate) wallet: SigningKey,
    pub(crate) pair: KeyPair,
}

impl User {
    pub(crate) fn new(seed: u8, kem: Kem) -> Self {
        let wallet = SigningKey::from_slice(&[seed; 32]).unwrap();
        Self { wallet, pair: KeyPair::from_seed(kem, &[seed; 64]) }
    }

    /// A signed request for these handles.
    pub(crate) fn request(&self, cluster: &Cluster, handles: &[B256]) -> UserRequest {
        self.request_with(cluster, handles, |_| ())
    }

    pub(crate) fn request_with(
        &self,
        cluster: &Cluster,
        handles: &[B256],
        change: impl FnOnce(&mut UserRequest),
    ) -> UserRequest {
        let mut request = UserRequest {
            host_chain_id: CHAIN,
            permit: Permit {
                user: signer_address(&self.wallet),
                delegator: None,
                public_key: self.pair.public_key().as_bytes().to_vec().into(),
                contracts: vec![CONTRACT],
                start: START,
                days: 365,
                extra_data: cluster.v1().into(),
            },
            signature: Default::default(),
            pairs: handles.iter().map(|handle| HandleContract { handle: *handle, contract: CONTRACT }).collect(),
        };
        change(&mut request);
        let domain = cluster.fixture.manifest.decryption_domain;
        let digest = request.permit.digest(request.host_chain_id, domain.verifying_contract);
        request.signature = sign_digest(&self.wallet, digest).to_vec().into();
        request
    }

    pub(crate) fn reader(&self, cluster: &Cluster, request: &UserRequest) -> UserDecryption {
        let manifest = &cluster.fixture.manifest;
        let parties = Parties::from(&manifest.committee);
        let pair = KeyPair::from_seed(self.pair.public_key().kem(), self.pair.seed());
        UserDecryption::new(parties, &manifest.decryption_domain, request.clone(), pair).unwrap()
    }

    /// The words that a party has sealed.
    pub(crate) fn words(&self, cluster: &Cluster, request: &UserRequest, response: &UserResponse) -> SharePayload {
        let domain = cluster.fixture.manifest.decryption_domain;
        let handles: Vec<[u8; 32]> = request.pairs.iter().map(|pair| pair.handle.0).collect();
        let binding = Binding {
            host_chain_id: CHAIN,
            domain_chain_id: domain.chain_id,
            verifying_contract: domain.verifying_contract.into(),
            extra_data: &request.permit.extra_data,
            handles: &handles,
        };
        open(&self.pair, &Envelope::parse(&response.share).unwrap(), &binding, 4).unwrap()
    }
}
