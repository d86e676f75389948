//! The chain guard: what this party's own view of the chain says about a request.
//!
//! Before any share leaves the party, its own endpoints must show that the request exists, that the contract may
//! decrypt the handles, which digests are committed and that the key is active: all read at **one** block hash that is
//! final enough for the request and for this party, in one `eth_call` to `GuardLens`. That the request is still open
//! and its deadline not reached is read at the latest block. Time is block time. If there are several endpoints they
//! all have to say the same; one that lies can delay an answer, never cause one.

mod verdict;

pub use verdict::{Grant, HandleGrant, NotYet, NotYetReason, Refusal, Verdict};

use alloy_primitives::B256;
use kms_chain::request::Request;

/// Asks the chains.
#[derive(Debug)]
pub struct Guard {}

impl Guard {
    /// Whether this party may answer an on-chain request now. The id is recomputed from the content.
    pub async fn check_request(&self, chain_id: u64, request: &Request) -> Verdict {
        let _ = request;
        Verdict::Refused(Refusal::UnknownChain(chain_id))
    }

    /// Whether this party may decrypt handles that are marked publicly decryptable, at the chain's own floor.
    pub async fn check_public(&self, chain_id: u64, handles: &[B256]) -> Verdict {
        let _ = handles;
        Verdict::Refused(Refusal::UnknownChain(chain_id))
    }
}
