//! Ids of keys, epochs and encrypted inputs: hashes of what they stand for.

use crate::handle::Handle;
use alloy_primitives::{Address, B256, Keccak256, U256};
use kms_encoding::FheType;
use sha2::{Digest, Sha256};

/// SHA-256("KMS-KEY-1" ‖ digest of the public key bundle).
#[must_use]
pub fn key_id(bundle_digest: [u8; 32]) -> B256 {
    let mut hash = Sha256::new();
    hash.update(b"KMS-KEY-1");
    hash.update(bundle_digest);
    B256::from_slice(&hash.finalize())
}

/// SHA-256("KMS-EPOCH-1" ‖ context ‖ key ‖ u64 big-endian counter); the counter of a dealt or generated key is 1.
#[must_use]
pub fn epoch_id(context: B256, key: B256, counter: u64) -> B256 {
    let mut hash = Sha256::new();
    hash.update(b"KMS-EPOCH-1");
    hash.update(context);
    hash.update(key);
    hash.update(counter.to_be_bytes());
    B256::from_slice(&hash.finalize())
}

/// Handle of input `index` of an encrypted list: its hash is the first 21 bytes of
/// keccak256("KMS-INPUT-1" ‖ keccak256(ciphertext) ‖ acl ‖ uint256 chain id ‖ uint8 index).
#[must_use]
pub fn input_handle(ciphertext_hash: B256, acl: Address, chain_id: u64, index: u8, fhe_type: FheType) -> Handle {
    let mut hash = Keccak256::new();
    hash.update(b"KMS-INPUT-1");
    hash.update(ciphertext_hash);
    hash.update(acl);
    hash.update(U256::from(chain_id).to_be_bytes::<32>());
    hash.update([index]);
    let hash = hash.finalize();
    let mut head = [0u8; 21];
    head.copy_from_slice(&hash[..21]);
    Handle::new(head, index, chain_id, fhe_type)
}

/// What a proof of an encrypted list is bound to: uint256 chain id ‖ ACL ‖ contract ‖ user, 92 bytes.
#[must_use]
pub fn input_metadata(chain_id: u64, acl: Address, contract: Address, user: Address) -> [u8; 92] {
    let mut out = [0u8; 92];
    out[..32].copy_from_slice(&U256::from(chain_id).to_be_bytes::<32>());
    out[32..52].copy_from_slice(acl.as_slice());
    out[52..72].copy_from_slice(contract.as_slice());
    out[72..].copy_from_slice(user.as_slice());
    out
}
