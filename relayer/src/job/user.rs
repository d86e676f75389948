//! What a user asks for.

use alloy_primitives::{Address, B256, Bytes};
use kms_chain::permit::{HandleContract, Permit, UserRequest};
use serde::{Deserialize, Serialize};

/// A user decryption as it is stored: permit, signature, and what to read by it. The host chain is the job's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserPayload {
    /// Who signed.
    pub user: Address,
    /// Whose handles are read, if not the user's own.
    pub delegator: Option<Address>,
    /// ML-KEM public key that shares are sealed to.
    pub public_key: Bytes,
    /// Contracts of the permit.
    pub contracts: Vec<Address>,
    /// First second of validity.
    pub start: u64,
    /// Days of validity.
    pub days: u64,
    /// Extra data of the permit, byte for byte.
    pub extra_data: Bytes,
    /// The user's signature over the permit.
    pub signature: Bytes,
    /// Handles, each with its contract, in the order of the shares.
    pub pairs: Vec<(B256, Address)>,
}

impl From<UserRequest> for UserPayload {
    fn from(r: UserRequest) -> Self {
        let Permit { user, delegator, public_key, contracts, start, days, extra_data } = r.permit;
        let pairs = r.pairs.iter().map(|pair| (pair.handle, pair.contract)).collect();
        Self { user, delegator, public_key, contracts, start, days, extra_data, signature: r.signature, pairs }
    }
}

impl UserPayload {
    /// The request, on its host chain.
    #[must_use]
    pub fn request(&self, host_chain_id: u64) -> UserRequest {
        UserRequest {
            host_chain_id,
            permit: Permit {
                user: self.user,
                delegator: self.delegator,
                public_key: self.public_key.clone(),
                contracts: self.contracts.clone(),
                start: self.start,
                days: self.days,
                extra_data: self.extra_data.clone(),
            },
            signature: self.signature.clone(),
            pairs: self
                .pairs
                .iter()
                .map(|(handle, contract)| HandleContract { handle: *handle, contract: *contract })
                .collect(),
        }
    }
}
