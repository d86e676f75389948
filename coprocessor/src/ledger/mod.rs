//! What the committer needs of a chain, as a trait: tests put a chain of their own behind it.

mod rpc;

use alloy_primitives::{Address, B256};
use async_trait::async_trait;

pub use self::rpc::RpcLedger;
use crate::error::Result;

/// What the chain asks for gas now, in wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// Most paid per gas.
    pub max_fee: u128,
    /// Most paid to the proposer per gas.
    pub priority_fee: u128,
}

/// Where a transaction was mined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Number of its block.
    pub block_number: u64,
    /// Hash of its block.
    pub block_hash: B256,
    /// Whether the call succeeded.
    pub success: bool,
    /// Gas used.
    pub gas_used: u64,
}

/// What the node said to a simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Simulation {
    /// It would succeed with this much gas.
    Gas(u64),
    /// It would revert, or takes more gas than any transaction may.
    Reverts(String),
    /// The node can't simulate it for a reason of the account or its own.
    Unable(String),
}

/// What the node said to a signed transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// It has it, perhaps had it before.
    Accepted,
    /// Another transaction with this nonce is in a block.
    NonceUsed,
    /// The fee is too low for this node, or to replace another version.
    Underpriced,
    /// Anything else; tried again.
    Refused(String),
}

/// One chain, seen by the committer.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Commitments in the registry: `(key id, digest)`, in the order of `handles`.
    async fn commitments(&self, handles: &[B256]) -> Result<Vec<Option<(B256, B256)>>>;
    /// What gas costs.
    async fn fees(&self) -> Result<Fees>;
    /// Next nonce of `account`, its waiting transactions included.
    async fn next_nonce(&self, account: Address) -> Result<u64>;
    /// Next nonce of `account` as of the last final block.
    async fn final_nonce(&self, account: Address) -> Result<u64>;
    /// Number of the last final block.
    async fn final_block(&self) -> Result<u64>;
    /// Simulates a call.
    async fn simulate(&self, from: Address, to: Address, calldata: &[u8]) -> Result<Simulation>;
    /// Sends a signed transaction.
    async fn broadcast(&self, raw: &[u8]) -> Result<Broadcast>;
    /// Receipt of a transaction on the canonical chain.
    async fn receipt(&self, hash: B256) -> Result<Option<Receipt>>;
}

/// Sorts a node's answer to `eth_estimateGas`: is it the call's fault? A call that reverts comes with data or says so; one
/// whose gas is above the block's limit fails as well, and is possible in parts.
#[must_use]
pub fn classify_simulation(message: &str, data: Option<String>) -> Simulation {
    let text = message.to_ascii_lowercase();
    let own = ["revert", "gas required exceeds", "out of gas", "outofgas", "exceeds block gas limit", "intrinsic gas"];
    // Geth names the gas that the balance pays for; with it the call's own need is not known.
    let funds = text.contains("insufficient funds") || text.contains("insufficient balance");
    if !funds && (data.is_some() || own.iter().any(|words| text.contains(words))) {
        let data = data.map(|data| format!(" {data}")).unwrap_or_default();
        Simulation::Reverts(format!("{message}{data}"))
    } else {
        Simulation::Unable(message.to_owned())
    }
}

/// Sorts a node's answer to `eth_sendRawTransaction` by its message: the codes say nothing, all nodes use −32000 or −32603.
#[must_use]
pub fn classify_broadcast(message: &str) -> Broadcast {
    let text = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["already known", "already imported", "known transaction", "alreadyknown"]) {
        Broadcast::Accepted
    } else if says(&["nonce too low", "nonce is too low", "invalid nonce", "oldnonce"]) {
        Broadcast::NonceUsed
    } else if says(&["underpriced", "fee too low", "max fee per gas less than block base fee", "feetoolow"]) {
        Broadcast::Underpriced
    } else {
        Broadcast::Refused(message.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_messages_are_understood() {
        // go-ethereum core/txpool/errors.go, core/error.go; Nethermind AcceptTxResult; Erigon and Reth txpool errors; anvil.
        let table = [
            ("already known", Broadcast::Accepted),
            ("AlreadyKnown", Broadcast::Accepted),
            ("transaction already imported", Broadcast::Accepted),
            ("nonce too low: next nonce 5, tx nonce 4", Broadcast::NonceUsed),
            ("OldNonce", Broadcast::NonceUsed),
            ("replacement transaction underpriced", Broadcast::Underpriced),
            ("transaction underpriced: tip needed 1, tip permitted 0", Broadcast::Underpriced),
            ("max fee per gas less than block base fee", Broadcast::Underpriced),
            (
                "insufficient funds for gas * price + value",
                Broadcast::Refused("insufficient funds for gas * price + value".into()),
            ),
        ];
        for (message, expected) in table {
            assert_eq!(classify_broadcast(message), expected, "{message}");
        }
    }
    #[test]
    fn a_call_is_blamed_only_for_what_is_its_fault() {
        // go-ethereum eth/gasestimator and core/vm/errors.go; anvil.
        for message in [
            "execution reverted",
            "gas required exceeds allowance (30000000)",
            "out of gas: gas required exceeds: 30000000",
        ] {
            assert_eq!(classify_simulation(message, None), Simulation::Reverts(message.into()));
        }
        let named = classify_simulation("server error", Some("0x1234".into()));
        assert_eq!(named, Simulation::Reverts("server error 0x1234".into()));
        for message in ["insufficient funds for gas * price + value", "header not found", "missing trie node"] {
            assert_eq!(classify_simulation(message, None), Simulation::Unable(message.into()));
        }
    }
}
