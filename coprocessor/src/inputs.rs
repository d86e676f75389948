//! Encrypted inputs: a proven compact list enters, handles and a signed statement leave.
//!
//! The statement says that the proof holds for this user, contract and chain, and that this coprocessor has the list: it is
//! on disk before it is signed. The signature is deterministic, so posting the same list again gives the same answer.

use std::{collections::BTreeMap, sync::Arc};

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{Address, B256, keccak256};
use kms_chain::{
    eip712::{self, Eip712Domain},
    ids,
    proof::InputProof,
};
use kms_fhe::{InputError, inputs::MAX_VALUES};

use crate::{
    error::{Error, Result},
    fhe::{Engine, input_metadata},
    signals::Signals,
    store::{Input, Store, StoredInput},
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
    /// The list or its proof is not right.
    #[error(transparent)]
    Fault(#[from] InputError),
    /// Our own fault.
    #[error(transparent)]
    Internal(#[from] Error),
}

/// Checks and signs inputs.
pub struct Inputs {
    chains: BTreeMap<u64, InputChain>,
    store: Store,
    engine: Arc<Engine>,
    signer: PrivateKeySigner,
    signals: Arc<Signals>,
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
        engine: Arc<Engine>,
        signer: PrivateKeySigner,
        signals: Arc<Signals>,
    ) -> Self {
        Self { chains, store, engine, signer, signals }
    }

    fn chain(&self, chain_id: u64) -> Result<&InputChain, Refused> {
        self.chains.get(&chain_id).ok_or(Refused::UnknownChain(chain_id))
    }

    /// The answer to a list that was accepted before; costs no proof.
    ///
    /// # Errors
    /// When the chain is not served, or the database fails.
    pub async fn known(&self, post: &Post) -> Result<Option<Receipt>, Refused> {
        let chain = self.chain(post.chain_id)?;
        let Some(stored) = self.store.input(post.chain_id, keccak256(&post.ciphertext)).await? else {
            return Ok(None);
        };
        let same = stored.input.contract == post.contract && stored.input.user == post.user;
        Ok(if same { Some(self.sign(chain, &stored)?) } else { None })
    }

    /// Checks the proof, stores the list, and signs. Takes a core for up to half a second.
    ///
    /// # Errors
    /// When the chain is not served, the list is not right, or the database fails.
    pub async fn accept(&self, post: Post) -> Result<Receipt, Refused> {
        let chain = self.chain(post.chain_id)?;
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
        self.store.insert_input(&stored, crate::commit::now()).await?;
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
