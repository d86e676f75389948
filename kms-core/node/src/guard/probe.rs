//! What start-up and `kms-node check` ask the chains: none of it decides about a request.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::sol_types::SolCall;
use alloy_primitives::{Address, B256, Bytes};
use kms_chain::abi::{KeyManagement, KmsVerifier};
use kms_chain::request::Finality;

use super::chain::Chain;
use super::endpoint::{BlockRef, Endpoint, EndpointError};
use super::{Guard, lens};
use crate::party::Party;
use crate::startup::{Level, Table};

/// A chain whose newest block is that many seconds old has stopped, or its endpoint has.
const STALE_SECONDS: u64 = 300;
/// Start-up waits that long for the first answer of an endpoint, and not longer: other chains wait too.
const PATIENCE: Duration = Duration::from_secs(3);
/// A block from the future: this machine's clock is behind.
const AHEAD_SECONDS: u64 = 30;

/// The key that a chain says is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveKey {
    /// The FHE key.
    pub key_id: B256,
    /// Committee that holds it.
    pub context_id: B256,
    /// Epoch of the sharing.
    pub epoch_id: B256,
}

impl Guard {
    /// Asks all endpoints of all chains whether they can be relied on, and whether the contracts mean this party.
    pub async fn probe(&self, party: &Party, table: &mut Table) {
        for host in &self.manifest.chains {
            let id = host.chain_id;
            let Some(chain) = self.chains.get(&id) else {
                table.add(Level::Broken, format!("chain {id}"), "the configuration has no endpoint for it");
                continue;
            };
            if chain.endpoints.len() == 1 {
                table.add(Level::Warning, format!("chain {id}"), "one endpoint only: it is believed without a second");
            }
            for endpoint in &chain.endpoints {
                self.probe_endpoint(chain, endpoint, party, table).await;
            }
        }
    }

    /// The key that a chain says is active; none if there is none. The first endpoint that answers is believed: this
    /// tells what to be ready for, not what to decrypt.
    ///
    /// # Errors
    /// No endpoint answers.
    pub async fn active_key(&self, chain_id: u64) -> Result<Option<ActiveKey>, String> {
        let chain = self.chains.get(&chain_id).ok_or("no endpoint is configured")?;
        let mut problem = String::new();
        for endpoint in &chain.endpoints {
            match tokio::time::timeout(PATIENCE, active_key(chain, endpoint)).await {
                Ok(Ok(key)) => return Ok(key),
                Ok(Err(e)) => problem = e.to_string(),
                Err(_) => problem = format!("{} does not answer in time", endpoint.name()),
            }
        }
        Err(problem)
    }

    async fn probe_endpoint(&self, chain: &Chain, endpoint: &Endpoint, party: &Party, table: &mut Table) {
        let subject = format!("chain {} at {}", chain.host.chain_id, endpoint.name());
        let finalities = [Finality::Latest, chain.host.floor()];
        let asking = endpoint.heads(&finalities);
        let heads = match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Ok(heads)) => heads,
            Ok(Err(e)) => return table.add(Level::Broken, subject, e.to_string()),
            Err(_) => return table.add(Level::Broken, subject, "no answer in time"),
        };
        let (level, clock) = clock(heads.latest);
        table.add(level, subject.clone(), format!("block {}, {clock}", heads.latest.number));
        table.record(format!("{subject}: contracts"), contracts(chain, endpoint).await);
        table.record(format!("{subject}: context"), self.context(chain, endpoint, party, heads.latest.hash).await);
        if let Some(target) = heads.height(chain.host.floor()) {
            let outcome = readable(chain, endpoint, target).await;
            table.record(format!("{subject}: state at block {target}"), outcome);
        }
    }

    /// Whether the verifier has this party's signer at this party's place.
    async fn context(&self, chain: &Chain, endpoint: &Endpoint, party: &Party, block: B256) -> Result<String, String> {
        let ask = async |input: Bytes| {
            endpoint.call(chain.host.contracts.kms_verifier, input, block).await.map_err(|e| e.to_string())
        };
        let input = KmsVerifier::contextOfCall { contextId: self.context }.abi_encode().into();
        let view = KmsVerifier::contextOfCall::abi_decode_returns_validate(&ask(input).await?)
            .map_err(|e| format!("the verifier's answer makes no sense: {e}"))?;
        let registered = view.signers.get(usize::from(party.index) - 1).copied().unwrap_or(Address::ZERO);
        if registered != party.address() {
            let own = party.address();
            return Err(format!("party {} is {registered} on chain, this node signs with {own}", party.index));
        }
        if view.destroyed {
            return Err(format!("context {} was destroyed", self.context));
        }
        let input = KmsVerifier::currentContextIdCall {}.abi_encode().into();
        let current = KmsVerifier::currentContextIdCall::abi_decode_returns_validate(&ask(input).await?)
            .map_err(|e| format!("the verifier's answer makes no sense: {e}"))?;
        if current == self.context { Ok("current".into()) } else { Ok(format!("live; {current} is current")) }
    }
}

fn clock(latest: BlockRef) -> (Level, String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if latest.timestamp > now + AHEAD_SECONDS {
        (Level::Warning, format!("{} seconds ahead of this machine's clock", latest.timestamp - now))
    } else if latest.timestamp + STALE_SECONDS < now {
        (Level::Warning, format!("{} seconds old", now - latest.timestamp))
    } else {
        (Level::Good, "fresh".into())
    }
}

async fn contracts(chain: &Chain, endpoint: &Endpoint) -> Result<String, String> {
    let c = &chain.host.contracts;
    for (name, address) in [
        ("GuardLens", c.guard_lens),
        ("DecryptionGateway", c.decryption_gateway),
        ("KmsVerifier", c.kms_verifier),
        ("KeyManagement", c.key_management),
    ] {
        if !endpoint.has_code(address).await.map_err(|e| e.to_string())? {
            return Err(format!("there is no {name} at {address}"));
        }
    }
    Ok("deployed".into())
}

/// Whether the endpoint still has the state at the chain's floor: on fast chains that takes an archive.
async fn readable(chain: &Chain, endpoint: &Endpoint, number: u64) -> Result<String, EndpointError> {
    let block = endpoint.block_at(number).await?;
    endpoint.call(chain.host.contracts.guard_lens, lens::handles_call(&[]), block.hash).await?;
    Ok("readable".into())
}

async fn active_key(chain: &Chain, endpoint: &Endpoint) -> Result<Option<ActiveKey>, EndpointError> {
    let heads = endpoint.heads(&[Finality::Latest]).await?;
    let input = KeyManagement::activeKeyCall {}.abi_encode().into();
    let bytes = endpoint.call(chain.host.contracts.key_management, input, heads.latest.hash).await?;
    let key = KeyManagement::activeKeyCall::abi_decode_returns_validate(&bytes).map_err(|e| {
        EndpointError::Unavailable { endpoint: endpoint.name().into(), problem: format!("activeKey: {e}") }
    })?;
    let active = ActiveKey { key_id: key.keyId, context_id: key.contextId, epoch_id: key.epochId };
    Ok((!active.key_id.is_zero()).then_some(active))
}
