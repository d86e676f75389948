//! Handles of computed results: the twin of `FheExecutor`'s derivation.
//!
//! Whoever computes from events must derive each result again. An RPC endpoint that serves a forged event (another operation
//! under the handle of a value that is public) would otherwise have any ciphertext opened under that handle.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::SolValue;
use kms_encoding::FheType;

use crate::handle::Handle;

/// Index byte of a computed handle.
pub const COMPUTED_INDEX: u8 = 0xff;

/// Where and when an operation ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Chain id.
    pub chain_id: u64,
    /// The executor contract.
    pub executor: Address,
    /// Its ACL.
    pub acl: Address,
    /// Hash of the block before.
    pub parent: B256,
    /// Block time in seconds.
    pub timestamp: u64,
}

/// keccak256 of the ABI encoding of selector and arguments, one word each; the selector is aligned to the left.
#[must_use]
pub fn operation_hash(selector: [u8; 4], arguments: &[B256]) -> B256 {
    let mut words = Vec::with_capacity(32 * (1 + arguments.len()));
    words.extend_from_slice(B256::right_padding_from(&selector).as_slice());
    for argument in arguments {
        words.extend_from_slice(argument.as_slice());
    }
    keccak256(words)
}

/// The handle of an operation's result: the first 21 bytes of keccak256(abi.encode(keccak256("KMS-COMPUTE-1"), operation,
/// executor, acl, chain id, hash of the block before, block time)), index 0xff, chain id, type, version 0.
#[must_use]
pub fn computed_handle(origin: &Origin, operation: B256, fhe_type: FheType) -> Handle {
    let domain = keccak256(b"KMS-COMPUTE-1");
    let hash = keccak256(
        (
            domain,
            operation,
            origin.executor,
            origin.acl,
            U256::from(origin.chain_id),
            origin.parent,
            U256::from(origin.timestamp),
        )
            .abi_encode(),
    );
    let mut head = [0; 21];
    head.copy_from_slice(&hash[..21]);
    Handle::new(head, COMPUTED_INDEX, origin.chain_id, fhe_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin {
            chain_id: 31337,
            executor: Address::repeat_byte(1),
            acl: Address::repeat_byte(2),
            parent: B256::repeat_byte(3),
            timestamp: 4,
        }
    }

    #[test]
    fn every_part_of_an_operation_is_in_its_handle() {
        let (a, b) = (B256::repeat_byte(7), B256::repeat_byte(8));
        let base = computed_handle(&origin(), operation_hash([1, 2, 3, 4], &[a, b]), FheType::Uint8);
        let mut others = vec![
            computed_handle(&origin(), operation_hash([1, 2, 3, 5], &[a, b]), FheType::Uint8),
            computed_handle(&origin(), operation_hash([1, 2, 3, 4], &[b, a]), FheType::Uint8),
            computed_handle(&origin(), operation_hash([1, 2, 3, 4], &[a]), FheType::Uint8),
            computed_handle(&origin(), operation_hash([1, 2, 3, 4], &[a, b]), FheType::Uint16),
        ];
        for change in [
            Origin { chain_id: 1, ..origin() },
            Origin { executor: Address::ZERO, ..origin() },
            Origin { acl: Address::ZERO, ..origin() },
            Origin { parent: B256::ZERO, ..origin() },
            Origin { timestamp: 5, ..origin() },
        ] {
            others.push(computed_handle(&change, operation_hash([1, 2, 3, 4], &[a, b]), FheType::Uint8));
        }
        assert!(others.iter().all(|other| *other != base));
        assert_eq!(base.index(), COMPUTED_INDEX);
        assert_eq!(base.chain_id(), 31337);
    }
}
