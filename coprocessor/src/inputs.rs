//! Encrypted inputs: a proven compact list enters, handles and a signed statement leave.
//!
//! The statement says that the proof holds for this user, contract and chain, and that this coprocessor has the list: it is
//! on disk before it is signed. The signature is deterministic, so posting the same list again gives the same answer.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{Address, B256, keccak256};
use kms_chain::{
    eip712::{self, Eip712Domain},
    ids,
    proof::InputProof,
};
use kms_fhe::{InputError, inputs::MAX_VALUES};
use tokio_util::sync::CancellationToken;

use crate::{
    commit::now,
    error::{Error, Result},
    fhe::{Arithmetic, input_metadata},
    metrics::Metrics,
    signals::Signals,
    store::{Admitted, Input, InputRoom, Store, StoredInput},
};

/// What one chain's inputs are bound to.
#[derive(Clone, Debug)]
pub struct InputChain {
    /// The ACL, part of what a proof is bound to.
    pub access_control: Address,
    /// EIP-712 domain of the statement.
    pub domain: Eip712Domain,
}

/// A list as posted.
#[derive(Clone, Debug)]
pub struct Post {
    /// The chain it is meant for.
    pub chain_id: u64,
    /// The contract that may take it.
    pub contract: Address,
    /// The user who may hand it in.
    pub user: Address,
    /// The proven compact list.
    pub ciphertext: Vec<u8>,
}

/// What the poster gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Handles, in the order of the list.
    pub handles: Vec<B256>,
    /// The bytes for `verifyInput`.
    pub proof: Vec<u8>,
}

/// Why a post is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The chain is not served here.
    #[error("chain {0} is not served by this coprocessor")]
    UnknownChain(u64),
    /// Inputs that wait for the chain leave no room.
    #[error("the inputs that wait for their chain leave no room for more")]
    NoRoom,
    /// Inputs of this client that wait for the chain leave no room.
    #[error("your inputs that wait for their chain leave no room for more")]
    NoRoomForClient,
    /// The list or its proof is not right.
    #[error(transparent)]
    Fault(#[from] InputError),
    /// Our own fault.
    #[error(transparent)]
    Internal(#[from] Error),
}

/// How long inputs wait for the chain, and how much room they have meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Seconds until an input is forgotten that the chain did not use.
    pub max_age: u64,
    /// Room of all that wait.
    pub room: InputRoom,
}

/// Checks and signs inputs.
pub struct Inputs {
    chains: BTreeMap<u64, InputChain>,
    store: Store,
    engine: Arc<dyn Arithmetic>,
    signer: PrivateKeySigner,
    signals: Arc<Signals>,
    waiting: Waiting,
}

impl std::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs").field("chains", &self.chains.keys()).finish_non_exhaustive()
    }
}

impl Inputs {
    /// Serves the inputs of `chains`.
    #[must_use]
    pub fn new(
        chains: BTreeMap<u64, InputChain>,
        store: Store,
        engine: Arc<dyn Arithmetic>,
        signer: PrivateKeySigner,
        signals: Arc<Signals>,
        waiting: Waiting,
    ) -> Self {
        Self { chains, store, engine, signer, signals, waiting }
    }

    fn chain(&self, chain_id: u64) -> Result<&InputChain, Refused> {
        self.chains.get(&chain_id).ok_or(Refused::UnknownChain(chain_id))
    }

    /// The answer to a list that was accepted before; costs no proof. One that has waited for half of its time has all of it
    /// before it again.
    ///
    /// # Errors
    /// When the chain is not served, or the database fails.
    pub async fn known(&self, post: &Post) -> Result<Option<Receipt>, Refused> {
        let chain = self.chain(post.chain_id)?;
        let id = keccak256(&post.ciphertext);
        if self.store.input(post.chain_id, id).await?.is_none() {
            return Ok(None);
        }
        let now = now();
        self.store.renew_input(post.chain_id, id, now.saturating_sub(self.waiting.max_age / 2), now).await?;
        let Some(stored) = self.store.input(post.chain_id, id).await? else { return Ok(None) };
        let same = stored.input.contract == post.contract && stored.input.user == post.user;
        Ok(if same { Some(self.sign(chain, &stored)?) } else { None })
    }

    /// Checks the proof, stores the list, and signs. Takes a core for up to half a second.
    ///
    /// # Errors
    /// When the chain is not served, there is no room, the list is not right, or the database fails.
    pub async fn accept(&self, post: Post, client: IpAddr) -> Result<Receipt, Refused> {
        let chain = self.chain(post.chain_id)?;
        let client = bucket(client);
        room(self.store.input_room(&client, post.ciphertext.len() as u64, &self.waiting.room).await?)?;
        let metadata = input_metadata(post.chain_id, chain.access_control, post.contract, post.user);
        let engine = self.engine.clone();
        let (ciphertext, checked) = tokio::task::spawn_blocking(move || {
            let checked = engine.check_input(&post.ciphertext, &metadata);
            (post.ciphertext, checked)
        })
        .await
        .map_err(|_| Error::Task("input proof"))?;
        let types = checked?;
        if types.len() > MAX_VALUES {
            return Err(InputError::Count(types.len()).into());
        }
        let id = keccak256(&ciphertext);
        // An index fits one byte, and 0xff is never reached: it means "computed".
        let handles = (0u8..)
            .zip(types)
            .map(|(index, fhe_type)| ids::input_handle(id, chain.access_control, post.chain_id, index, fhe_type).raw())
            .collect();
        let input = Input { id, chain_id: post.chain_id, contract: post.contract, user: post.user, ciphertext };
        let stored = StoredInput { input, handles };
        room(self.store.insert_input(&stored, &client, &self.waiting.room, now()).await?)?;
        self.signals.compute.notify_one();
        Ok(self.sign(chain, &stored)?)
    }

    fn sign(&self, chain: &InputChain, stored: &StoredInput) -> Result<Receipt> {
        let Input { chain_id, contract, user, .. } = stored.input;
        let handles = stored.handles.clone();
        let digest = eip712::input_digest(&chain.domain, &handles, user, contract, chain_id, &[]);
        let signature = eip712::sign_digest(self.signer.credential(), digest);
        let proof =
            InputProof { handles: handles.clone(), signatures: vec![signature], extra_data: Default::default() }
                .encode()
                .map_err(|_| Error::Corrupt { column: "handle" })?;
        Ok(Receipt { handles, proof: proof.to_vec() })
    }
}

fn room(admitted: Admitted) -> Result<(), Refused> {
    match admitted {
        Admitted::Stored => Ok(()),
        Admitted::NoRoom => Err(Refused::NoRoom),
        Admitted::NoRoomForClient => Err(Refused::NoRoomForClient),
    }
}

/// Who counts as one client: an IPv4 address, or a /64 of IPv6, of which one customer has all addresses.
fn bucket(client: IpAddr) -> Vec<u8> {
    match client.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().into_iter().take(8).collect(),
    }
}

/// Inputs deleted in one transaction.
const PRUNE_STEP: usize = 64;
/// Between two looks for inputs whose time is over.
const PRUNE_TICK: Duration = Duration::from_secs(60);

/// Forgets inputs that `chains` never used, `max_age` seconds after they were accepted, until `cancel`.
pub async fn prune(store: Store, chains: Vec<u64>, max_age: u64, metrics: Arc<Metrics>, cancel: CancellationToken) {
    loop {
        for chain_id in &chains {
            let pruned = prune_chain(&store, *chain_id, max_age, &metrics, &cancel).await;
            if let Err(error) = pruned {
                tracing::error!(chain_id, %error, "inputs whose time is over can't be deleted");
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(PRUNE_TICK) => {}
        }
    }
}

async fn prune_chain(
    store: &Store,
    chain_id: u64,
    max_age: u64,
    metrics: &Metrics,
    cancel: &CancellationToken,
) -> Result<()> {
    while !cancel.is_cancelled() {
        // Step by step: posts and events come in between.
        let pruned = store.prune_inputs(chain_id, max_age, now(), PRUNE_STEP).await?;
        metrics.inputs_pruned.inc_by(pruned as u64);
        if pruned > 0 {
            tracing::info!(chain_id, pruned, "inputs that the chain never used are forgotten");
        }
        if pruned < PRUNE_STEP {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_customer_is_one_client() {
        let bucket = |text: &str| bucket(text.parse().unwrap());
        assert_eq!(bucket("2001:db8:1:2::1"), bucket("2001:db8:1:2:ffff::7"));
        assert_ne!(bucket("2001:db8:1:2::1"), bucket("2001:db8:1:3::1"));
        assert_eq!(bucket("::ffff:10.0.0.1"), bucket("10.0.0.1"));
        assert_ne!(bucket("10.0.0.1"), bucket("10.0.0.2"));
    }
}
