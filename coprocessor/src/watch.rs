//! Reads the contracts' events into the database, in the order of the chain.

use std::sync::Arc;

use alloy::sol_types::{SolCall, SolEvent};
use alloy_primitives::{Address, B256, U256};
use kms_chain::{
    abi::{AccessControl, CiphertextRegistry, DecryptionGateway, FheExecutor},
    computed::{Origin, computed_handle, operation_hash},
    follower::{BlockRef, Sink, SinkError, Step, settled},
    handle::Handle,
    manifest::Contracts,
    rpc::Log,
};

use crate::{
    event::{Event, Kind, Operation},
    metrics::Metrics,
    signals::Signals,
    store::{QuarantinedLog, Store},
};

/// The contracts that a coprocessor listens to, for the log filter.
#[must_use]
pub fn addresses(contracts: &Contracts) -> Vec<Address> {
    vec![contracts.access_control, contracts.fhe_executor, contracts.ciphertext_registry, contracts.decryption_gateway]
}

/// What a log means; `None` when it says nothing to a coprocessor.
///
/// # Errors
/// A reason, when the log is one of ours but can't be read.
pub fn read_log(contracts: &Contracts, chain_id: u64, log: &Log) -> Result<Option<Event>, String> {
    let address = log.address();
    let Some(topic) = log.topic0() else { return Ok(None) };
    if address == contracts.fhe_executor {
        return Ok(read_operation(chain_id, *topic, log)?.map(Event::Operation));
    }
    if address == contracts.access_control && *topic == AccessControl::Allowed::SIGNATURE_HASH {
        let AccessControl::Allowed { account, handle, .. } = decode(log)?;
        return Ok(Some(Event::Allowed { handle, account }));
    }
    if address == contracts.access_control && *topic == AccessControl::AllowedForDecryption::SIGNATURE_HASH {
        return Ok(Some(Event::Wanted(decode::<AccessControl::AllowedForDecryption>(log)?.handles)));
    }
    if address == contracts.decryption_gateway && *topic == DecryptionGateway::DecryptionRequested::SIGNATURE_HASH {
        return Ok(Some(Event::Wanted(decode::<DecryptionGateway::DecryptionRequested>(log)?.request.handles)));
    }
    if address == contracts.ciphertext_registry && *topic == CiphertextRegistry::CiphertextCommitted::SIGNATURE_HASH {
        let event = decode::<CiphertextRegistry::CiphertextCommitted>(log)?;
        return Ok(Some(Event::Committed { handle: event.handle, key_id: event.keyId, digest: event.digest }));
    }
    Ok(None)
}

/// Derives an operation's result again, as the executor did in that block.
///
/// # Errors
/// The event says another result: its endpoint lies, since the contract can't. Computing it would put a ciphertext of the liar's
/// choice under a handle that may be public.
pub fn check_result(
    contracts: &Contracts,
    chain_id: u64,
    block: &BlockRef,
    operation: &Operation,
) -> Result<(), String> {
    let Some(hash) = derivation(operation) else { return Ok(()) };
    let origin = Origin {
        chain_id,
        executor: contracts.fhe_executor,
        acl: contracts.access_control,
        parent: block.parent,
        timestamp: block.timestamp,
    };
    let named = Handle::parse(operation.result).map_err(|error| error.to_string())?;
    let derived = computed_handle(&origin, hash, named.fhe_type());
    if derived == named {
        Ok(())
    } else {
        Err(format!("forged event: this operation's result is {}, not {}", B256::from(derived), operation.result))
    }
}

/// What the executor hashed; `None` for inputs, which are not computed.
fn derivation(operation: &Operation) -> Option<B256> {
    let word = |value: U256| B256::from(value);
    let to_type = word(U256::from(operation.result[30]));
    let operand = |index: usize| operation.operands.get(index).copied().unwrap_or_default();
    let scalar = |on: bool| B256::right_padding_from(&[u8::from(on)]);
    let binary = |selector: [u8; 4]| match operation.plain {
        Some(plain) => operation_hash(selector, &[operand(0), word(plain), scalar(true)]),
        None => operation_hash(selector, &[operand(0), operand(1), scalar(false)]),
    };
    Some(match operation.kind {
        Kind::Add => binary(FheExecutor::fheAddCall::SELECTOR),
        Kind::Sub => binary(FheExecutor::fheSubCall::SELECTOR),
        Kind::Eq => binary(FheExecutor::fheEqCall::SELECTOR),
        Kind::Ge => binary(FheExecutor::fheGeCall::SELECTOR),
        Kind::Trivial => {
            let plain = word(operation.plain.unwrap_or_default());
            operation_hash(FheExecutor::trivialEncryptCall::SELECTOR, &[plain, to_type])
        }
        Kind::Cast => operation_hash(FheExecutor::castCall::SELECTOR, &[operand(0), to_type]),
        Kind::Select => operation_hash(FheExecutor::fheIfThenElseCall::SELECTOR, &[operand(0), operand(1), operand(2)]),
        Kind::Input => return None,
    })
}

fn decode<E: SolEvent>(log: &Log) -> Result<E, String> {
    E::decode_log(&log.inner).map(|decoded| decoded.data).map_err(|error| format!("{}: {error}", E::SIGNATURE))
}

fn read_operation(chain_id: u64, topic: B256, log: &Log) -> Result<Option<Operation>, String> {
    let operation = match topic {
        FheExecutor::FheAdd::SIGNATURE_HASH => {
            let e = decode::<FheExecutor::FheAdd>(log)?;
            binary(Kind::Add, e.lhs, e.rhs, e.scalarByte[0], e.result)?
        }
        FheExecutor::FheSub::SIGNATURE_HASH => {
            let e = decode::<FheExecutor::FheSub>(log)?;
            binary(Kind::Sub, e.lhs, e.rhs, e.scalarByte[0], e.result)?
        }
        FheExecutor::FheEq::SIGNATURE_HASH => {
            let e = decode::<FheExecutor::FheEq>(log)?;
            binary(Kind::Eq, e.lhs, e.rhs, e.scalarByte[0], e.result)?
        }
        FheExecutor::FheGe::SIGNATURE_HASH => {
            let e = decode::<FheExecutor::FheGe>(log)?;
            binary(Kind::Ge, e.lhs, e.rhs, e.scalarByte[0], e.result)?
        }
        FheExecutor::TrivialEncrypt::SIGNATURE_HASH => {
            let e = decode::<FheExecutor::TrivialEncrypt>(log)?;
            same_type(e.toType, e.result)?;
            Operation { result: e.result, kind: Kind::Trivial, operands: Vec::new(), plain: Some(e.pt) }
        }
        FheExecutor::Cast::SIGNATURE_HASH => {
            let e = decode::<FheExecutor::Cast>(log)?;
            same_type(e.toType, e.result)?;
            Operation { result: e.result, kind: Kind::Cast, operands: vec![e.ct], plain: None }
        }
        FheExecutor::FheIfThenElse::SIGNATURE_HASH => {
            let e = decode::<FheExecutor::FheIfThenElse>(log)?;
            let operands = vec![e.control, e.ifTrue, e.ifFalse];
            Operation { result: e.result, kind: Kind::Select, operands, plain: None }
        }
        FheExecutor::VerifyInput::SIGNATURE_HASH => {
            let e = decode::<FheExecutor::VerifyInput>(log)?;
            if e.result != e.inputHandle {
                return Err("VerifyInput: the result is not the input".into());
            }
            same_type(e.inputType, e.result)?;
            Operation { result: e.result, kind: Kind::Input, operands: Vec::new(), plain: None }
        }
        _ => return Ok(None),
    };
    let handle = Handle::parse(operation.result).map_err(|error| error.to_string())?;
    if handle.chain_id() != chain_id {
        return Err(format!("result {} belongs to chain {}", operation.result, handle.chain_id()));
    }
    Ok(Some(operation))
}

fn binary(kind: Kind, lhs: B256, rhs: B256, scalar: u8, result: B256) -> Result<Operation, String> {
    match scalar {
        0 => Ok(Operation { result, kind, operands: vec![lhs, rhs], plain: None }),
        1 => Ok(Operation { result, kind, operands: vec![lhs], plain: Some(U256::from_be_bytes(rhs.0)) }),
        other => Err(format!("{}: scalar byte {other}", kind.name())),
    }
}

fn same_type(named: u8, result: B256) -> Result<(), String> {
    if result[30] == named { Ok(()) } else { Err(format!("result {result} is not of the named type {named}")) }
}

/// Writes the steps of one chain's follower.
#[derive(Debug)]
pub struct ChainSink {
    /// The chain.
    pub chain_id: u64,
    /// Its contracts.
    pub contracts: Contracts,
    /// Where the events go.
    pub store: Store,
    /// Who is woken by them.
    pub signals: Arc<Signals>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl ChainSink {
    fn read(&self, block: BlockRef, logs: &[Log]) -> (BlockRef, Vec<Event>, Vec<QuarantinedLog>) {
        let mut events = Vec::with_capacity(logs.len());
        let mut quarantined = Vec::new();
        for log in logs {
            let read = read_log(&self.contracts, self.chain_id, log).and_then(|event| {
                if let Some(Event::Operation(operation)) = &event {
                    check_result(&self.contracts, self.chain_id, &block, operation)?;
                }
                Ok(event)
            });
            match read {
                Ok(event) => events.extend(event),
                Err(reason) => {
                    let (chain_id, address) = (self.chain_id, log.address());
                    tracing::error!(chain_id, block = block.number, %address, reason, "a log can't be read");
                    quarantined.push(QuarantinedLog { log_index: log.log_index.unwrap_or(u64::MAX), address, reason });
                }
            }
        }
        (block, events, quarantined)
    }
}

impl Sink for ChainSink {
    async fn tail(&self) -> Result<Vec<BlockRef>, SinkError> {
        Ok(self.store.blocks(self.chain_id).await?)
    }

    async fn apply(&self, step: Step) -> Result<(), SinkError> {
        let blocks: Vec<_> = step.blocks.iter().map(|(block, logs)| self.read(*block, logs)).collect();
        let settled = settled(&step.latest, step.finalized);
        self.store.apply(self.chain_id, &step.orphaned, &blocks, step.latest, settled).await?;
        let chain = self.chain_id.to_string();
        self.metrics
            .block
            .with_label_values(&[chain.as_str()])
            .set(i64::try_from(step.latest.number).unwrap_or(i64::MAX));
        if let Some(lowest) = step.orphaned.last() {
            tracing::warn!(
                self.chain_id,
                from = lowest.number,
                blocks = step.orphaned.len(),
                "a reorg took blocks back"
            );
            self.metrics.orphaned_blocks.with_label_values(&[chain.as_str()]).inc_by(step.orphaned.len() as u64);
        }
        if !step.orphaned.is_empty() || blocks.iter().any(|(_, events, _)| !events.is_empty()) {
            self.signals.all();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
