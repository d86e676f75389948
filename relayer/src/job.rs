//! Jobs: what is asked for, and the facts that the chain holds about it.

use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256};
use kms_chain::request::{Finality, Request};
use serde::{Deserialize, Serialize};

use crate::state::State;

mod user;

pub use user::UserPayload;

/// A gateway request as it is stored: field by field the contract's struct.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayRequest {
    /// Contract that asked.
    pub requester: Address,
    /// Its counter.
    pub nonce: u64,
    /// Handles in request order.
    pub handles: Vec<B256>,
    /// Selector of the callback.
    pub selector: FixedBytes<4>,
    /// Gas limit of the callback.
    pub gas_limit: u32,
    /// Finality code.
    pub finality: u16,
    /// Deadline as first set, block time in seconds.
    pub deadline: u64,
    /// Context that is to answer.
    pub context_id: B256,
}

impl From<Request> for GatewayRequest {
    fn from(r: Request) -> Self {
        Self {
            requester: r.requester,
            nonce: r.nonce,
            handles: r.handles,
            selector: r.selector,
            gas_limit: r.gasLimit,
            finality: r.finality,
            deadline: r.deadline,
            context_id: r.contextId,
        }
    }
}

impl From<GatewayRequest> for Request {
    fn from(r: GatewayRequest) -> Self {
        Self {
            requester: r.requester,
            nonce: r.nonce,
            handles: r.handles,
            selector: r.selector,
            gasLimit: r.gas_limit,
            finality: r.finality,
            deadline: r.deadline,
            contextId: r.context_id,
        }
    }
}

/// What is to be done. Its tag is the job's kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Payload {
    /// Answer a request that a gateway recorded, and post the answer there.
    OnChain(GatewayRequest),
    /// Decrypt handles that are marked publicly decryptable, for a caller of the HTTP API.
    PublicPull {
        /// Handles in the order of the cleartexts.
        handles: Vec<B256>,
        /// Extra data that the answer carries.
        extra_data: Bytes,
    },
    /// Collect sealed shares for a user, whose client puts them together.
    UserDecrypt(UserPayload),
}

/// Kind of the jobs that collect shares for a user.
pub(crate) const USER_KIND: &str = "user-decrypt";
/// All kinds, as they are stored.
pub(crate) const KINDS: [&str; 3] = ["on-chain", "public-pull", USER_KIND];
/// Version of the stored payload.
const PAYLOAD_VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Versioned<P> {
    v: u8,
    #[serde(flatten)]
    payload: P,
}

impl Payload {
    /// Kind, as it is stored and counted.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Payload::OnChain(_) => "on-chain",
            Payload::PublicPull { .. } => "public-pull",
            Payload::UserDecrypt(_) => USER_KIND,
        }
    }

    /// The stored text.
    ///
    /// # Errors
    /// Never for values of this type; the signature is serde's.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&Versioned { v: PAYLOAD_VERSION, payload: self })
    }

    /// Reads the stored text.
    ///
    /// # Errors
    /// Text that this version did not write.
    pub fn from_text(text: &str) -> Result<Self, serde_json::Error> {
        let read: Versioned<Payload> = serde_json::from_str(text)?;
        if read.v != PAYLOAD_VERSION {
            return Err(serde::de::Error::custom(format!("payload version {} is not known", read.v)));
        }
        Ok(read.payload)
    }
}

/// One row of work.
#[derive(Debug, Clone)]
pub struct Job {
    /// Request id, or the hash of a pull's content.
    pub id: B256,
    /// Host chain.
    pub chain: u64,
    /// State.
    pub state: State,
    /// What is to be done.
    pub payload: Payload,
    /// When it was recorded, milliseconds.
    pub created_at: i64,
    /// When it reached its state, milliseconds.
    pub since: i64,
    /// Attempts made in this state.
    pub attempts: u32,
    /// Not before this time, milliseconds.
    pub next_attempt: i64,
    /// Label of why it waits or ended.
    pub reason: Option<String>,
    /// The same as a sentence.
    pub detail: Option<String>,
    /// Effective deadline, seconds.
    pub deadline: u64,
    /// Present fee.
    pub fee: U256,
    /// Block of the request.
    pub block: Option<u64>,
    /// Transaction that fulfilled it.
    pub fulfilled_tx: Option<B256>,
    /// `delivered` or `failed`, once the callback has run.
    pub callback: Option<String>,
    /// Cleartexts, from quorum on.
    pub cleartexts: Option<Bytes>,
    /// Extra data that was signed.
    pub extra_data: Option<Bytes>,
    /// Epoch to ask for.
    pub epoch: Option<B256>,
}

/// What a gateway said in one log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum ChainEvent {
    /// A decryption was asked for.
    Requested {
        /// The whole request.
        request: GatewayRequest,
        /// Fee paid with it.
        fee: U256,
    },
    /// The requester took the request back.
    DeadlineShortened {
        /// New deadline, block time.
        deadline: u64,
    },
    /// The fee grew.
    FeeAdded {
        /// To this.
        total: U256,
    },
    /// The answer was recorded.
    Fulfilled {
        /// The answer.
        cleartexts: Bytes,
        /// Positions of the signers in the context.
        signers: U256,
        /// Who posted it.
        fulfiller: Address,
    },
    /// The callback ran.
    CallbackDelivered,
    /// The callback failed.
    CallbackFailed,
    /// The request ended without an answer.
    Expired,
}

/// A log with its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Block number.
    pub block: u64,
    /// Block hash.
    pub block_hash: B256,
    /// Index of the log in its block.
    pub log_index: u64,
    /// Transaction.
    pub tx: B256,
    /// Request id.
    pub job: B256,
    /// What it says.
    pub event: ChainEvent,
}

/// Everything that the canonical chain holds about one request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The request, its block and the block's hash.
    pub requested: Option<(GatewayRequest, u64, B256)>,
    /// Effective deadline, block time.
    pub deadline: u64,
    /// Present fee.
    pub fee: U256,
    /// The deadline was shortened.
    pub cancelled: bool,
    /// The answer, its block and its transaction.
    pub fulfilled: Option<(Bytes, u64, B256)>,
    /// `delivered` or `failed`.
    pub callback: Option<&'static str>,
    /// The request ended without an answer.
    pub expired: bool,
}

impl Facts {
    /// Folds the events of one request, given in the order of the chain.
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a Located>) -> Facts {
        let mut facts = Facts::default();
        for located in events {
            match &located.event {
                ChainEvent::Requested { request, fee } => {
                    facts.deadline = request.deadline;
                    facts.fee = *fee;
                    facts.requested = Some((request.clone(), located.block, located.block_hash));
                }
                ChainEvent::DeadlineShortened { deadline } => {
                    facts.deadline = *deadline;
                    facts.cancelled = true;
                }
                ChainEvent::FeeAdded { total } => facts.fee = *total,
                ChainEvent::Fulfilled { cleartexts, .. } => {
                    facts.fulfilled = Some((cleartexts.clone(), located.block, located.tx));
                }
                ChainEvent::CallbackDelivered => facts.callback = Some("delivered"),
                ChainEvent::CallbackFailed => facts.callback = Some("failed"),
                ChainEvent::Expired => facts.expired = true,
            }
        }
        facts
    }
}

/// When a request counts as final for us: its own finality and the parties' floor, both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FinalWhen {
    /// Blocks that the latest block must be above the request's.
    pub confirmations: u64,
    /// `latest`, `safe` or `finalized`: the block of that name must be at least the request's.
    pub tag: &'static str,
}

impl FinalWhen {
    /// Both together.
    #[must_use]
    pub fn both(a: Finality, b: Finality) -> Self {
        let confirmations =
            [a, b].into_iter().map(|f| if let Finality::Blocks(n) = f { u64::from(n) } else { 0 }).max();
        let tag = if [a, b].contains(&Finality::Finalized) {
            "finalized"
        } else if [a, b].contains(&Finality::Safe) {
            "safe"
        } else {
            "latest"
        };
        Self { confirmations: confirmations.unwrap_or(0), tag }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> GatewayRequest {
        GatewayRequest {
            requester: Address::repeat_byte(1),
            nonce: 7,
            handles: vec![B256::repeat_byte(2), B256::repeat_byte(3)],
            selector: FixedBytes([1, 2, 3, 4]),
            gas_limit: 100_000,
            finality: 0xffff,
            deadline: 1_900_000_000,
            context_id: B256::repeat_byte(9),
        }
    }

    #[test]
    fn payloads_are_read_back() {
        let pull = Payload::PublicPull { handles: vec![B256::repeat_byte(1)], extra_data: Bytes::from(vec![0]) };
        let user = UserPayload {
            user: Address::repeat_byte(1),
            delegator: Some(Address::repeat_byte(2)),
            public_key: vec![3; 800].into(),
            contracts: vec![Address::repeat_byte(4)],
            start: u64::MAX,
            days: 365,
            extra_data: vec![0].into(),
            signature: vec![5; 70].into(),
            pairs: vec![(B256::repeat_byte(6), Address::repeat_byte(4))],
        };
        assert_eq!(UserPayload::from(user.request(7)), user);
        for payload in [Payload::OnChain(request()), pull, Payload::UserDecrypt(user)] {
            let text = payload.to_text().unwrap();
            assert!(KINDS.contains(&payload.kind()));
            assert_eq!(Payload::from_text(&text).unwrap(), payload);
            assert!(text.contains(payload.kind()), "{text}");
            assert!(Payload::from_text(&text.replace("\"v\":1", "\"v\":2")).is_err());
        }
        assert!(Payload::from_text("{}").is_err());
    }

    #[test]
    fn both_finalities_count() {
        use Finality::{Blocks, Finalized, Latest, Safe};
        assert_eq!(FinalWhen::both(Latest, Latest), FinalWhen { confirmations: 0, tag: "latest" });
        assert_eq!(FinalWhen::both(Blocks(5), Safe), FinalWhen { confirmations: 5, tag: "safe" });
        assert_eq!(FinalWhen::both(Blocks(5), Blocks(7)), FinalWhen { confirmations: 7, tag: "latest" });
        assert_eq!(FinalWhen::both(Safe, Finalized), FinalWhen { confirmations: 0, tag: "finalized" });
    }

    #[test]
    fn the_last_word_of_the_events_counts() {
        let at = |block: u64, event| Located {
            block,
            block_hash: B256::with_last_byte(block as u8),
            log_index: 0,
            tx: B256::repeat_byte(block as u8),
            job: B256::ZERO,
            event,
        };
        let events = vec![
            at(1, ChainEvent::Requested { request: request(), fee: U256::from(5) }),
            at(2, ChainEvent::FeeAdded { total: U256::from(9) }),
            at(3, ChainEvent::DeadlineShortened { deadline: 55 }),
            at(
                4,
                ChainEvent::Fulfilled {
                    cleartexts: Bytes::from(vec![1]),
                    signers: U256::from(7),
                    fulfiller: Address::ZERO,
                },
            ),
            at(4, ChainEvent::CallbackFailed),
            at(5, ChainEvent::CallbackDelivered),
        ];
        let facts = Facts::fold(&events);
        assert_eq!((facts.deadline, facts.fee, facts.cancelled), (55, U256::from(9), true));
        assert_eq!(facts.fulfilled.as_ref().unwrap().1, 4);
        assert_eq!(facts.callback, Some("delivered"));
        assert_eq!(Facts::fold(&events[..1]).fee, U256::from(5));
        assert_eq!(Facts::fold(&[]), Facts::default());
    }
}
