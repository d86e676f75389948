//! Decryption requests: their content-bound id and the finality they ask for.

use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::{SolValue, sol};

sol! {
    /// A decryption request as the gateway emits it; the whole of it makes the id.
    #[derive(Debug, PartialEq, Eq, Hash)]
    struct Request {
        address requester;
        uint64 nonce;
        bytes32[] handles;
        bytes4 selector;
        uint32 gasLimit;
        uint16 finality;
        uint64 deadline;
        bytes32 contextId;
    }
}

/// `keccak256(abi.encode(uint256 chainId, address gateway, Request))`.
#[must_use]
pub fn request_id(chain_id: u64, gateway: Address, request: &Request) -> B256 {
    let chain_id = alloy_primitives::U256::from(chain_id);
    keccak256((chain_id, gateway, request.clone()).abi_encode_params())
}

/// Id of a pull request, which no contract has recorded:
/// `keccak256(abi.encode("KMS-PULL-1", uint256 chainId, bytes32[] handles, bytes extraData))`, with the extra data as given.
#[must_use]
pub fn pull_request_id(chain_id: u64, handles: &[B256], extra_data: &[u8]) -> B256 {
    let chain_id = alloy_primitives::U256::from(chain_id);
    let extra_data = alloy_primitives::Bytes::copy_from_slice(extra_data);
    keccak256(("KMS-PULL-1", chain_id, handles.to_vec(), extra_data).abi_encode_params())
}

/// How final a block must be before a request in it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finality {
    /// Being in the canonical chain is enough.
    Latest,
    /// That many blocks on top (1 to 1000).
    Blocks(u16),
    /// The chain's `safe` block.
    Safe,
    /// The chain's `finalized` block.
    Finalized,
}

/// A finality code that means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown finality {0:#06x}")]
pub struct UnknownFinality(pub u16);

impl Finality {
    /// Code of [`Finality::Safe`].
    pub const SAFE: u16 = 0xfffe;
    /// Code of [`Finality::Finalized`].
    pub const FINALIZED: u16 = 0xffff;
    /// Most blocks that a request may wait for.
    pub const MAX_BLOCKS: u16 = 1000;

    /// Reads the contract's code.
    ///
    /// # Errors
    /// [`UnknownFinality`] for 1001 to 0xfffd.
    pub fn parse(code: u16) -> Result<Self, UnknownFinality> {
        match code {
            0 => Ok(Self::Latest),
            1..=Self::MAX_BLOCKS => Ok(Self::Blocks(code)),
            Self::SAFE => Ok(Self::Safe),
            Self::FINALIZED => Ok(Self::Finalized),
            _ => Err(UnknownFinality(code)),
        }
    }

    /// The contract's code.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Latest => 0,
            Self::Blocks(n) => n,
            Self::Safe => Self::SAFE,
            Self::Finalized => Self::FINALIZED,
        }
    }

    /// Number of the highest block that counts as final, given the chain's latest, safe and finalized ones; none if the
    /// chain is still too short. Two finalities together are the lower of their heights.
    #[must_use]
    pub fn height(self, latest: u64, safe: u64, finalized: u64) -> Option<u64> {
        match self {
            Self::Latest => Some(latest),
            Self::Blocks(n) => latest.checked_sub(u64::from(n)),
            Self::Safe => Some(safe),
            Self::Finalized => Some(finalized),
        }
    }

    /// Whether block `number` counts as final.
    #[must_use]
    pub fn reached(self, number: u64, latest: u64, safe: u64, finalized: u64) -> bool {
        self.height(latest, safe, finalized).is_some_and(|height| number <= height)
    }
}
