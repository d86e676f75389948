//! The EIP-712 statements that parties, users and coprocessors sign: one domain constructor and one digest function each.

mod signature;
mod types;

pub use alloy_sol_types::Eip712Domain;
pub use signature::{SignatureError, recover, sign_digest, signer_address};
pub use types::{
    CiphertextCommitment, CiphertextVerification, CommitmentBatch, ContextDestruction, ContextSuccession,
    DecryptionReceipt, DelegatedUserDecryptRequestVerification, KeyDigest, KeygenVerification,
    PublicDecryptVerification, UserDecryptRequestVerification, UserDecryptResponseVerification,
};

use crate::{context::Context, extra_data::ExtraData, extra_data::ExtraDataError};
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolStruct;

fn domain(name: &'static str, chain_id: u64, verifying_contract: Address) -> Eip712Domain {
    Eip712Domain::new(Some(name.into()), Some("1".into()), Some(U256::from(chain_id)), Some(verifying_contract), None)
}

/// Domain of decryption answers and receipts: the canonical decryption domain, equal for all host chains. Permits use the
/// same name and contract with the host chain's id.
#[must_use]
pub fn decryption_domain(chain_id: u64, verifying_contract: Address) -> Eip712Domain {
    domain("Decryption", chain_id, verifying_contract)
}

/// Domain of encrypted inputs.
#[must_use]
pub fn input_domain(chain_id: u64, input_verifier: Address) -> Eip712Domain {
    domain("InputVerification", chain_id, input_verifier)
}

/// Domain of ciphertext commitments.
#[must_use]
pub fn registry_domain(chain_id: u64, registry: Address) -> Eip712Domain {
    domain("CiphertextRegistry", chain_id, registry)
}

/// Domain of key registrations.
#[must_use]
pub fn key_management_domain(chain_id: u64, key_management: Address) -> Eip712Domain {
    domain("KeyManagement", chain_id, key_management)
}

/// Domain of context statements: no chain and no contract, so that anyone can mirror them to every host chain.
#[must_use]
pub fn context_domain() -> Eip712Domain {
    Eip712Domain::new(Some("KmsVerifier".into()), Some("1".into()), None, None, None)
}

/// What a party signs for a public decryption. `extra_data` may be as given: 0x00 is signed as empty.
///
/// # Errors
/// Extra data that doesn't parse.
pub fn public_decrypt_digest(
    domain: &Eip712Domain,
    handles: &[B256],
    cleartexts: &[u8],
    extra_data: &[u8],
) -> Result<B256, ExtraDataError> {
    let extra_data = ExtraData::parse(extra_data)?.encode();
    let statement = PublicDecryptVerification {
        ctHandles: handles.to_vec(),
        decryptedResult: Bytes::copy_from_slice(cleartexts),
        extraData: extra_data,
    };
    Ok(statement.eip712_signing_hash(domain))
}

/// What a party signs for its share of a user decryption. 0x00 is signed as empty.
///
/// # Errors
/// Extra data that doesn't parse.
pub fn user_decrypt_response_digest(
    domain: &Eip712Domain,
    public_key: &[u8],
    handles: &[B256],
    share: &[u8],
    extra_data: &[u8],
) -> Result<B256, ExtraDataError> {
    let extra_data = ExtraData::parse(extra_data)?.encode();
    let statement = UserDecryptResponseVerification {
        publicKey: Bytes::copy_from_slice(public_key),
        ctHandles: handles.to_vec(),
        userDecryptedShare: Bytes::copy_from_slice(share),
        extraData: extra_data,
    };
    Ok(statement.eip712_signing_hash(domain))
}

/// What a user signs to let a key read its handles.
#[must_use]
pub fn permit_digest(domain: &Eip712Domain, permit: &UserDecryptRequestVerification) -> B256 {
    permit.eip712_signing_hash(domain)
}

/// What a delegate signs to read a delegator's handles.
#[must_use]
pub fn delegated_permit_digest(domain: &Eip712Domain, permit: &DelegatedUserDecryptRequestVerification) -> B256 {
    permit.eip712_signing_hash(domain)
}

/// What a coprocessor signs for verified inputs.
#[must_use]
pub fn input_digest(
    domain: &Eip712Domain,
    handles: &[B256],
    user: Address,
    contract: Address,
    contract_chain_id: u64,
    extra_data: &[u8],
) -> B256 {
    let statement = CiphertextVerification {
        ctHandles: handles.to_vec(),
        userAddress: user,
        contractAddress: contract,
        contractChainId: U256::from(contract_chain_id),
        extraData: Bytes::copy_from_slice(extra_data),
    };
    statement.eip712_signing_hash(domain)
}

/// What a coprocessor signs for a batch of ciphertext digests.
#[must_use]
pub fn commitment_digest(domain: &Eip712Domain, items: &[CiphertextCommitment]) -> B256 {
    CommitmentBatch { items: items.to_vec() }.eip712_signing_hash(domain)
}

/// What a party signs to register a key; `extra_data` is v2 and names context and epoch.
#[must_use]
pub fn keygen_digest(
    domain: &Eip712Domain,
    prep_keygen_id: U256,
    key_id: B256,
    digests: &[KeyDigest],
    extra_data: &[u8],
) -> B256 {
    let statement = KeygenVerification {
        prepKeygenId: prep_keygen_id,
        keyId: key_id.into(),
        keyDigests: digests.to_vec(),
        extraData: Bytes::copy_from_slice(extra_data),
    };
    statement.eip712_signing_hash(domain)
}

/// What a party signs as the final receipt of a request.
#[must_use]
pub fn receipt_digest(domain: &Eip712Domain, receipt: &DecryptionReceipt) -> B256 {
    receipt.eip712_signing_hash(domain)
}

/// What n−t signers of the old and of the new committee sign to make `successor` current.
#[must_use]
pub fn succession_digest(successor: &Context) -> B256 {
    let statement = ContextSuccession {
        previous: successor.previous,
        signers: successor.signers.clone(),
        t: U256::from(successor.t),
        threshold: U256::from(successor.threshold),
        salt: successor.salt,
    };
    statement.eip712_signing_hash(&context_domain())
}

/// What n−t signers of the current context sign to end the context `destroyed`.
#[must_use]
pub fn destruction_digest(current: B256, destroyed: B256) -> B256 {
    ContextDestruction { contextId: current, destroyed }.eip712_signing_hash(&context_domain())
}
