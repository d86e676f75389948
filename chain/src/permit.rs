//! Permits of user decryptions: what a user signs, and every rule about it that needs no chain.
//!
//! Parties, relayers and clients check with the same code. What the chain must say beside it (right on each handle for the
//! user and for its contract, delegation, revocation, a smart account's signature) is the party's chain guard.

use crate::{
    eip712::{
        self, DelegatedUserDecryptRequestVerification, SignatureError, UserDecryptRequestVerification,
        decryption_domain,
    },
    extra_data::{ExtraData, ExtraDataError},
    handle::{Handle, HandleError, check_request_handles},
    proof::SignatureBytes,
};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::SolValue;
use kms_encoding::user::{PublicKey, PublicKeyError};

/// Most contracts in a permit.
pub const MAX_CONTRACTS: usize = 10;
/// Longest permit, in days.
pub const MAX_DAYS: u64 = 365;
/// Most bytes of a permit's signature: a smart account's may be long.
pub const MAX_SIGNATURE_BYTES: usize = 4096;
const SECONDS_PER_DAY: u64 = 86_400;

/// What a user signs to let a key read its handles, or those of a delegator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Who signs: the user, or the delegate.
    pub user: Address,
    /// Whose handles are read, if not the user's own.
    pub delegator: Option<Address>,
    /// The user's ML-KEM public key.
    pub public_key: Bytes,
    /// Contracts whose handles may be read.
    pub contracts: Vec<Address>,
    /// First second of validity, block time.
    pub start: u64,
    /// Days of validity.
    pub days: u64,
    /// Extra data that the responses carry: version 0, 1 or 2.
    pub extra_data: Bytes,
}

/// A permit that no party accepts, whatever the chain says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PermitError {
    /// The public key is none.
    #[error(transparent)]
    PublicKey(#[from] PublicKeyError),
    /// No contract, or more than ten.
    #[error("a permit names 1 to {MAX_CONTRACTS} contracts, not {0}")]
    ContractCount(usize),
    /// The user stands in the list of contracts.
    #[error("the user {0} stands in the list of contracts")]
    UserInContracts(Address),
    /// The delegator stands in the list of contracts.
    #[error("the delegator {0} stands in the list of contracts")]
    DelegatorInContracts(Address),
    /// A delegation to oneself.
    #[error("{0} can't be its own delegate")]
    OwnDelegate(Address),
    /// Zero days, or more than 365.
    #[error("a permit is valid for 1 to {MAX_DAYS} days, not {0}")]
    Days(u64),
    /// The last second of validity is beyond all time.
    #[error("the permit starts at {0}, which is no time")]
    Start(u64),
    /// The extra data does not parse.
    #[error(transparent)]
    ExtraData(#[from] ExtraDataError),
    /// The extra data binds to a request of a gateway.
    #[error("the extra data binds to request {0}, which a permit does not")]
    BoundToRequest(B256),
    /// Not valid yet.
    #[error("the permit is valid from {start}, it is {now}")]
    NotYetValid {
        /// First second of validity.
        start: u64,
        /// Block time.
        now: u64,
    },
    /// No longer valid.
    #[error("the permit was valid until {end}, it is {now}")]
    Expired {
        /// Last second of validity.
        end: u64,
        /// Block time.
        now: u64,
    },
}

impl PermitError {
    /// Stable label, the same in the golden file, and what an API says.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::PublicKey(_) => "PublicKey",
            Self::ContractCount(_) => "ContractCount",
            Self::UserInContracts(_) => "UserInContracts",
            Self::DelegatorInContracts(_) => "DelegatorInContracts",
            Self::OwnDelegate(_) => "OwnDelegate",
            Self::Days(_) => "Days",
            Self::Start(_) => "Start",
            Self::ExtraData(error) => error.label(),
            Self::BoundToRequest(_) => "BoundToRequest",
            Self::NotYetValid { .. } => "NotYetValid",
            Self::Expired { .. } => "Expired",
        }
    }
}

impl Permit {
    /// The rules that depend on nothing but the permit. Returns the parsed key.
    ///
    /// # Errors
    /// The first broken rule, in the order of [`PermitError`].
    pub fn check(&self) -> Result<PublicKey, PermitError> {
        let key = PublicKey::parse(&self.public_key)?;
        if self.contracts.is_empty() || self.contracts.len() > MAX_CONTRACTS {
            return Err(PermitError::ContractCount(self.contracts.len()));
        }
        if self.contracts.contains(&self.user) {
            return Err(PermitError::UserInContracts(self.user));
        }
        if let Some(delegator) = self.delegator {
            if self.contracts.contains(&delegator) {
                return Err(PermitError::DelegatorInContracts(delegator));
            }
            if delegator == self.user {
                return Err(PermitError::OwnDelegate(delegator));
            }
        }
        if self.days == 0 || self.days > MAX_DAYS {
            return Err(PermitError::Days(self.days));
        }
        self.start.checked_add(self.days * SECONDS_PER_DAY).ok_or(PermitError::Start(self.start))?;
        if let Some(request) = ExtraData::parse(&self.extra_data)?.request_id() {
            return Err(PermitError::BoundToRequest(request));
        }
        Ok(key)
    }

    /// Last second of validity.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.days.saturating_mul(SECONDS_PER_DAY))
    }

    /// Whether the permit is valid at block time `now`; both bounds are.
    ///
    /// # Errors
    /// [`PermitError::NotYetValid`], [`PermitError::Expired`].
    pub fn check_time(&self, now: u64) -> Result<(), PermitError> {
        if now < self.start {
            return Err(PermitError::NotYetValid { start: self.start, now });
        }
        if now > self.end() {
            return Err(PermitError::Expired { end: self.end(), now });
        }
        Ok(())
    }

    /// What the user signs: in the decryption domain's contract, with the host chain's id.
    #[must_use]
    pub fn digest(&self, host_chain_id: u64, verifying_contract: Address) -> B256 {
        let domain = decryption_domain(host_chain_id, verifying_contract);
        let (start, days) = (U256::from(self.start), U256::from(self.days));
        match self.delegator {
            None => {
                let statement = UserDecryptRequestVerification {
                    publicKey: self.public_key.clone(),
                    contractAddresses: self.contracts.clone(),
                    startTimestamp: start,
                    durationDays: days,
                    extraData: self.extra_data.clone(),
                };
                eip712::permit_digest(&domain, &statement)
            }
            Some(delegator) => {
                let statement = DelegatedUserDecryptRequestVerification {
                    publicKey: self.public_key.clone(),
                    contractAddresses: self.contracts.clone(),
                    delegatorAddress: delegator,
                    startTimestamp: start,
                    durationDays: days,
                    extraData: self.extra_data.clone(),
                };
                eip712::delegated_permit_digest(&domain, &statement)
            }
        }
    }

    /// Whether a wallet's signature is the user's. A smart account's (ERC-1271) is checked on the chain instead.
    ///
    /// # Errors
    /// 65 bytes that are no signature at all; `Ok(false)` for another length or another signer.
    pub fn is_signed_by_wallet(&self, digest: B256, signature: &[u8]) -> Result<bool, SignatureError> {
        match SignatureBytes::try_from(signature) {
            Ok(signature) => Ok(eip712::recover(digest, &signature)? == self.user),
            Err(_) => Ok(false),
        }
    }
}

/// A handle and the contract that the user names with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HandleContract {
    /// The handle.
    pub handle: B256,
    /// A contract of the permit which, like the user, must hold a right on the handle.
    pub contract: Address,
}

/// A request that no party answers, whatever the chain says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserRequestError {
    /// The permit.
    #[error(transparent)]
    Permit(#[from] PermitError),
    /// The handles.
    #[error(transparent)]
    Handles(#[from] HandleError),
    /// A handle stands twice in the request.
    #[error("handle {0} stands twice in the request")]
    RepeatedHandle(B256),
    /// A contract that the permit does not name.
    #[error("contract {0} does not stand in the permit")]
    ContractNotInPermit(Address),
    /// The signature is empty, or longer than [`MAX_SIGNATURE_BYTES`].
    #[error("a signature of {0} bytes")]
    SignatureLength(usize),
}

impl UserRequestError {
    /// Stable label, the same in the golden file, and what an API says.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Permit(error) => error.label(),
            Self::Handles(error) => error.label(),
            Self::RepeatedHandle(_) => "RepeatedHandle",
            Self::ContractNotInPermit(_) => "ContractNotInPermit",
            Self::SignatureLength(_) => "SignatureLength",
        }
    }
}

/// A user decryption: a signed permit and the handles to read by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRequest {
    /// Chain of the handles and of the permit.
    pub host_chain_id: u64,
    /// The permit.
    pub permit: Permit,
    /// The user's signature over it.
    pub signature: Bytes,
    /// What to read.
    pub pairs: Vec<HandleContract>,
}

impl UserRequest {
    /// The handles, in order.
    #[must_use]
    pub fn handles(&self) -> Vec<B256> {
        self.pairs.iter().map(|pair| pair.handle).collect()
    }

    /// The context that the extra data names, if it does.
    #[must_use]
    pub fn named_context(&self) -> Option<B256> {
        ExtraData::parse(&self.permit.extra_data).ok().and_then(|extra| extra.context())
    }

    /// All rules that need neither the chain nor the clock: those of the permit, those of handles, no handle twice, each
    /// contract in the permit.
    ///
    /// # Errors
    /// The first broken rule, in the order of [`UserRequestError`].
    pub fn check(&self) -> Result<(PublicKey, Vec<Handle>), UserRequestError> {
        let key = self.permit.check()?;
        let handles = check_request_handles(&self.handles(), self.host_chain_id)?;
        let mut seen = std::collections::HashSet::new();
        for pair in &self.pairs {
            if !seen.insert(pair.handle) {
                return Err(UserRequestError::RepeatedHandle(pair.handle));
            }
            if !self.permit.contracts.contains(&pair.contract) {
                return Err(UserRequestError::ContractNotInPermit(pair.contract));
            }
        }
        if self.signature.is_empty() || self.signature.len() > MAX_SIGNATURE_BYTES {
            return Err(UserRequestError::SignatureLength(self.signature.len()));
        }
        Ok((key, handles))
    }

    /// Id of the request: `keccak256(abi.encode("KMS-USER-1", uint256 chainId, bytes32 permitHash, address user,
    /// (bytes32 handle, address contract)[]))`. The signature is not in it: whoever knows a request by its id has checked
    /// the signature of this one.
    #[must_use]
    pub fn id(&self, verifying_contract: Address) -> B256 {
        let pairs: Vec<(B256, Address)> = self.pairs.iter().map(|pair| (pair.handle, pair.contract)).collect();
        let permit_hash = self.permit.digest(self.host_chain_id, verifying_contract);
        let content = ("KMS-USER-1", U256::from(self.host_chain_id), permit_hash, self.permit.user, pairs);
        keccak256(content.abi_encode_params())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FheType;
    use kms_encoding::user::{Kem, KeyPair, SEED_BYTES};

    const CHAIN: u64 = 31337;
    const START: u64 = 1_700_000_000;

    fn request() -> UserRequest {
        let key = KeyPair::from_seed(Kem::MlKem768, &[1; SEED_BYTES]);
        let contract = Address::repeat_byte(2);
        let handle = |seed| Handle::new([seed; 21], 0xff, CHAIN, FheType::Uint64).raw();
        UserRequest {
            host_chain_id: CHAIN,
            permit: Permit {
                user: Address::repeat_byte(1),
                delegator: None,
                public_key: key.public_key().as_bytes().to_vec().into(),
                contracts: vec![contract, Address::repeat_byte(3)],
                start: START,
                days: 10,
                extra_data: Bytes::new(),
            },
            signature: vec![0; 65].into(),
            pairs: vec![HandleContract { handle: handle(1), contract }, HandleContract { handle: handle(2), contract }],
        }
    }

    fn error(change: impl FnOnce(&mut UserRequest)) -> &'static str {
        let mut request = request();
        change(&mut request);
        request.check().unwrap_err().label()
    }

    #[test]
    fn every_rule_has_its_error() {
        assert!(request().check().is_ok());
        assert_eq!(error(|r| r.permit.public_key = vec![0; 32].into()), "PublicKey");
        assert_eq!(error(|r| r.permit.contracts.clear()), "ContractCount");
        assert_eq!(error(|r| r.permit.contracts = vec![Address::repeat_byte(2); 11]), "ContractCount");
        assert_eq!(error(|r| r.permit.user = Address::repeat_byte(3)), "UserInContracts");
        assert_eq!(error(|r| r.permit.delegator = Some(Address::repeat_byte(3))), "DelegatorInContracts");
        assert_eq!(error(|r| r.permit.delegator = Some(Address::repeat_byte(1))), "OwnDelegate");
        assert_eq!(error(|r| r.permit.days = 0), "Days");
        assert_eq!(error(|r| r.permit.days = 366), "Days");
        assert_eq!(error(|r| r.permit.start = u64::MAX - 5), "Start");
        assert_eq!(error(|r| r.permit.extra_data = vec![4].into()), "UnknownExtraDataVersion");
        assert_eq!(error(|r| r.permit.extra_data = [vec![3], vec![0; 96]].concat().into()), "BoundToRequest");
        assert_eq!(error(|r| r.pairs.clear()), "EmptyHandles");
        assert_eq!(error(|r| r.host_chain_id = 1), "ForeignChain");
        assert_eq!(error(|r| r.pairs[1].handle = r.pairs[0].handle), "RepeatedHandle");
        assert_eq!(error(|r| r.pairs[1].contract = Address::repeat_byte(4)), "ContractNotInPermit");
        assert_eq!(error(|r| r.signature = Bytes::new()), "SignatureLength");
        assert_eq!(error(|r| r.signature = vec![0; 4097].into()), "SignatureLength");
        let mut most = request();
        most.permit.contracts = vec![Address::repeat_byte(2); 10];
        most.permit.days = 365;
        most.permit.delegator = Some(Address::repeat_byte(9));
        assert!(most.check().is_ok());
    }

    #[test]
    fn both_bounds_of_time_are_inclusive() {
        let permit = request().permit;
        let end = START + 10 * 86_400;
        assert_eq!(permit.check_time(START), Ok(()));
        assert_eq!(permit.check_time(end), Ok(()));
        assert_eq!(permit.check_time(START - 1), Err(PermitError::NotYetValid { start: START, now: START - 1 }));
        assert_eq!(permit.check_time(end + 1), Err(PermitError::Expired { end, now: end + 1 }));
    }

    #[test]
    fn ids_and_digests_depend_on_every_part() {
        let gateway = Address::repeat_byte(7);
        let changes: [fn(&mut UserRequest); 9] = [
            |_| (),
            |r| r.permit.user = Address::repeat_byte(8),
            |r| r.permit.delegator = Some(Address::repeat_byte(8)),
            |r| r.permit.contracts.truncate(1),
            |r| r.permit.start += 1,
            |r| r.permit.extra_data = vec![0].into(),
            |r| r.host_chain_id = 1,
            |r| r.pairs.swap(0, 1),
            |r| r.pairs[1].contract = Address::repeat_byte(3),
        ];
        let ids: std::collections::HashSet<B256> = changes
            .iter()
            .map(|change| {
                let mut request = request();
                change(&mut request);
                request.id(gateway)
            })
            .collect();
        assert_eq!(ids.len(), changes.len());
        assert_ne!(request().id(gateway), request().id(Address::ZERO));
        let mut other = request();
        other.signature = vec![1; 65].into();
        assert_eq!(request().id(gateway), other.id(gateway));
    }

    #[test]
    fn wallets_are_told_from_others() {
        let key = k256::ecdsa::SigningKey::from_slice(&[5; 32]).expect("key");
        let mut permit = request().permit;
        permit.user = eip712::signer_address(&key);
        let digest = permit.digest(CHAIN, Address::ZERO);
        let signature = eip712::sign_digest(&key, digest);
        assert_eq!(permit.is_signed_by_wallet(digest, &signature), Ok(true));
        assert_eq!(permit.is_signed_by_wallet(permit.digest(1, Address::ZERO), &signature), Ok(false));
        assert_eq!(permit.is_signed_by_wallet(digest, &signature[..64]), Ok(false));
        let mut bad = signature;
        bad[64] = 0;
        assert_eq!(permit.is_signed_by_wallet(digest, &bad), Err(SignatureError::BadV(0)));
    }
}
