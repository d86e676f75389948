//! Ids of keys and epochs, and handles of encrypted inputs: hashes of what they stand for.

use crate::handle::Handle;
use alloy_primitives::{Address, B256, Keccak256, U256};
use kms_encoding::FheType;

pub use kms_encoding::ids::{epoch_id, key_id};

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
