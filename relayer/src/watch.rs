//! From the chain into the database: reads the gateway's logs and implements the follower's sink on the store.

use std::time::Duration;

use alloy::sol_types::SolEventInterface;
use alloy_primitives::{Address, B256, Bytes};
use kms_chain::abi::DecryptionGateway::DecryptionGatewayEvents as Events;
use kms_chain::follower::{BlockRef, Log, Sink, SinkError, Step};
use kms_chain::request::{Request, request_id};

use crate::job::{ChainEvent, Located};
use crate::store::{Applied, ChainRules, Quarantined, Store};

/// Looks of one who stands by, in the time after which it may take over.
const LOOKS_PER_LEAD: i64 = 10;

/// The follower's sink for one chain.
#[derive(Debug, Clone)]
pub struct ChainSink {
    store: Store,
    gateway: Address,
    rules: ChainRules,
}

impl ChainSink {
    /// A sink for the gateway's logs.
    #[must_use]
    pub fn new(store: Store, gateway: Address, rules: ChainRules) -> Self {
        Self { store, gateway, rules }
    }

    fn read(&self, step: Step) -> Applied {
        let mut applied = Applied {
            orphaned: step.orphaned,
            blocks: Vec::with_capacity(step.blocks.len()),
            events: Vec::new(),
            quarantined: Vec::new(),
            latest: step.latest,
            safe: step.safe,
            finalized: step.finalized,
        };
        for (block, logs) in step.blocks {
            applied.blocks.push(block);
            for (position, log) in logs.iter().enumerate() {
                if log.address() != self.gateway {
                    continue;
                }
                match decode(self.rules.chain, self.gateway, log) {
                    Ok(Some((job, event))) => applied.events.push(Located {
                        block: block.number,
                        block_hash: block.hash,
                        log_index: log.log_index.unwrap_or(position as u64),
                        tx: log.transaction_hash.unwrap_or_default(),
                        job,
                        event,
                    }),
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(
                            chain = self.rules.chain, block = block.number, %error,
                            "a log of the gateway can't be read; it is kept in quarantine"
                        );
                        applied.quarantined.push(quarantined(&block, position, log, error));
                    }
                }
            }
        }
        applied
    }
}

fn quarantined(block: &BlockRef, position: usize, log: &Log, error: String) -> Quarantined {
    Quarantined {
        block: block.number,
        block_hash: block.hash,
        log_index: log.log_index.unwrap_or(position as u64),
        tx: log.transaction_hash.unwrap_or_default(),
        address: log.address(),
        topics: Bytes::from(log.topics().iter().flat_map(|topic| topic.0).collect::<Vec<u8>>()),
        data: log.inner.data.data.clone(),
        error,
    }
}

/// Reads one log of the gateway. `None`: an event that is none of ours.
fn decode(chain: u64, gateway: Address, log: &Log) -> Result<Option<(B256, ChainEvent)>, String> {
    let event = Events::decode_raw_log(log.topics(), &log.inner.data.data).map_err(|e| e.to_string())?;
    Ok(Some(match event {
        Events::DecryptionRequested(e) => {
            let request = Request::from(e.request);
            let id = request_id(chain, gateway, &request);
            // The id is the hash of the content; whoever says otherwise is not the gateway that we know.
            if id != e.requestId {
                return Err(format!("request {} has the content of {id}", e.requestId));
            }
            (id, ChainEvent::Requested { request: request.into(), fee: e.fee })
        }
        Events::DeadlineShortened(e) => (e.requestId, ChainEvent::DeadlineShortened { deadline: e.deadline }),
        Events::FeeAdded(e) => (e.requestId, ChainEvent::FeeAdded { total: e.total }),
        Events::DecryptionFulfilled(e) => (
            e.requestId,
            ChainEvent::Fulfilled { cleartexts: e.cleartexts, signers: e.signerBitmap, fulfiller: e.fulfiller },
        ),
        Events::CallbackDelivered(e) => (e.requestId, ChainEvent::CallbackDelivered),
        Events::CallbackFailed(e) => (e.requestId, ChainEvent::CallbackFailed),
        Events::DecryptionExpired(e) => (e.requestId, ChainEvent::Expired),
        _ => return Ok(None),
    }))
}

impl Sink for ChainSink {
    /// Only one relayer of a database follows a chain; the others stand by here. Whoever takes over starts from what the last
    /// one has stored.
    async fn tail(&self) -> Result<Vec<BlockRef>, SinkError> {
        let (name, lead) = (self.rules.lead_name(), self.rules.lead_ms);
        while !self.store.lead(&name, lead).await? {
            let pause = u64::try_from(lead / LOOKS_PER_LEAD).unwrap_or(0).max(50);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Ok(self.store.tail(self.rules.chain).await?)
    }

    /// An error makes the follower read the tail again, also when somebody else has followed the chain in between.
    async fn apply(&self, step: Step) -> Result<(), SinkError> {
        Ok(self.store.apply(&self.rules, &self.read(step)).await?)
    }
}

#[cfg(test)]
mod tests {
    use alloy::sol_types::SolEvent;
    use alloy_primitives::{FixedBytes, LogData, U256};
    use kms_chain::abi::DecryptionGateway;

    use super::*;

    const GATEWAY: Address = Address::repeat_byte(0x6a);

    fn log(data: LogData) -> Log {
        Log { inner: alloy_primitives::Log { address: GATEWAY, data }, ..Log::default() }
    }

    fn request() -> Request {
        Request {
            requester: Address::repeat_byte(1),
            nonce: 2,
            handles: vec![B256::repeat_byte(3)],
            selector: FixedBytes([4; 4]),
            gasLimit: 5,
            finality: 6,
            deadline: 7,
            contextId: B256::repeat_byte(8),
        }
    }

    #[test]
    fn a_request_is_read_whole_and_its_id_is_checked() {
        let id = request_id(1, GATEWAY, &request());
        let mut event = DecryptionGateway::DecryptionRequested {
            requestId: id,
            requester: request().requester,
            request: (&request()).into(),
            fee: U256::from(9),
        };
        let read = decode(1, GATEWAY, &log(event.encode_log_data())).unwrap();
        assert_eq!(read, Some((id, ChainEvent::Requested { request: request().into(), fee: U256::from(9) })));
        // The same content on another chain, or at another gateway, is another request.
        assert!(decode(2, GATEWAY, &log(event.encode_log_data())).is_err());
        event.request.nonce += 1;
        assert!(decode(1, GATEWAY, &log(event.encode_log_data())).unwrap_err().contains("has the content of"));
    }

    #[test]
    fn all_events_of_a_request_are_read() {
        let id = B256::repeat_byte(1);
        let fulfilled = DecryptionGateway::DecryptionFulfilled {
            requestId: id,
            cleartexts: Bytes::from(vec![1]),
            signerBitmap: U256::from(7),
            fulfiller: GATEWAY,
        };
        for (data, event) in [
            (
                DecryptionGateway::DeadlineShortened { requestId: id, deadline: 5 }.encode_log_data(),
                ChainEvent::DeadlineShortened { deadline: 5 },
            ),
            (
                DecryptionGateway::FeeAdded { requestId: id, total: U256::from(5) }.encode_log_data(),
                ChainEvent::FeeAdded { total: U256::from(5) },
            ),
            (
                fulfilled.encode_log_data(),
                ChainEvent::Fulfilled { cleartexts: Bytes::from(vec![1]), signers: U256::from(7), fulfiller: GATEWAY },
            ),
            (DecryptionGateway::CallbackDelivered { requestId: id }.encode_log_data(), ChainEvent::CallbackDelivered),
            (DecryptionGateway::CallbackFailed { requestId: id }.encode_log_data(), ChainEvent::CallbackFailed),
            (DecryptionGateway::DecryptionExpired { requestId: id }.encode_log_data(), ChainEvent::Expired),
        ] {
            assert_eq!(decode(1, GATEWAY, &log(data)).unwrap(), Some((id, event)));
        }
    }

    #[test]
    fn what_is_none_of_our_business_is_skipped_and_what_cannot_be_read_is_said() {
        let withdrawn =
            DecryptionGateway::Withdrawn { account: GATEWAY, to: GATEWAY, amount: U256::from(1) }.encode_log_data();
        assert_eq!(decode(1, GATEWAY, &log(withdrawn.clone())).unwrap(), None);
        let topics = vec![B256::repeat_byte(9)];
        assert!(decode(1, GATEWAY, &log(LogData::new_unchecked(topics, Bytes::new()))).is_err());
        let cut = LogData::new_unchecked(withdrawn.topics().to_vec(), Bytes::from(vec![1, 2, 3]));
        assert!(decode(1, GATEWAY, &log(cut)).is_err());
        assert!(decode(1, GATEWAY, &log(LogData::new_unchecked(Vec::new(), Bytes::new()))).is_err());
    }
}
