//! The ground on which relayers are tried: real chains with the real contracts, stub parties at the gRPC boundary, relayer
//! processes with their databases, many requests in little time, and a book-keeper who looks at what the chain says.
//!
//! No ciphertext is behind a handle and no key behind a party ([`crate::stub`]): what is tried here is the relayer.

mod audit;
mod chain;
mod database;
pub mod load;
mod relayer;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy::{
    primitives::{Address, B256, U256, keccak256},
    signers::local::PrivateKeySigner,
};
use anyhow::{Context, Result};
use kms_chain::manifest::{DecryptionDomain, HostChain, Manifest};

pub use audit::Audit;
pub use chain::{Asked, Chain, Wish};
pub use database::{Database, Rows};
pub use relayer::{Candidate, Relayer};

use crate::{
    anvil::{CHAIN_ID, Mining, Terms},
    stub::{Authority, Seat, Stub},
};

/// What is laid out.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Parties.
    pub n: u32,
    /// Tolerated corruptions; 2t + 1 signatures are needed.
    pub t: u32,
    /// Host chains; their ids are consecutive, from [`CHAIN_ID`] on.
    pub chains: u64,
    /// Most gas in a block.
    pub gas_limit: u64,
    /// When there is a block.
    pub mining: Mining,
    /// Blocks of an epoch: the finalized block is two epochs behind the newest one.
    pub epoch: u64,
}

impl Default for Plan {
    /// Four parties, one chain with large blocks, five of them a second.
    fn default() -> Self {
        Self { n: 4, t: 1, chains: 1, gas_limit: 1_000_000_000, mining: Mining::Every(0.2), epoch: 1 }
    }
}

/// Chains and parties. Everything dies with it.
#[derive(Debug)]
pub struct Ground {
    /// Host chains; the first one is the domain of decryptions.
    pub chains: Vec<Chain>,
    /// Party i is at index i−1.
    pub parties: Vec<Stub>,
    /// Who everybody is.
    pub manifest: Arc<Manifest>,
    home: PathBuf,
    // Last, so that the processes are gone before their folder.
    _folder: tempfile::TempDir,
}

impl Ground {
    /// Lays it out, in a folder of its own.
    ///
    /// # Errors
    /// A chain does not start, a contract is not deployed, no port is free.
    pub async fn lay(plan: &Plan) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("kms-relayers-").tempdir()?;
        let home = folder.path().to_owned();
        let seats = (1..=plan.n).map(Seat::take).collect::<Result<Vec<_>>>()?;
        let cards: Vec<_> = (1..).zip(&seats).map(|(index, seat)| seat.card(index)).collect();
        let unset = DecryptionDomain { chain_id: 0, verifying_contract: Address::ZERO };
        let mut manifest = Manifest::from_cards(&cards, plan.t, 2 * plan.t + 1, B256::ZERO, unset)?;
        let mut chains = Vec::new();
        for chain_id in (CHAIN_ID..).take(usize::try_from(plan.chains)?) {
            let terms = Terms { chain_id, gas_limit: plan.gas_limit, mining: plan.mining, epoch: plan.epoch };
            let chain = Chain::start(terms, &mut manifest, &home).await?;
            manifest.chains.push(HostChain {
                chain_id,
                contracts: chain.contracts,
                deployment_block: chain.deployment_block,
                finality_floor: 0,
            });
            chains.push(chain);
        }
        manifest.check()?;
        fs::write(home.join("manifest.json"), manifest.to_json()?)?;
        let manifest = Arc::new(manifest);
        let clients = Authority::new()?;
        let (certificate, key) = clients.issue("relayer")?;
        fs::write(home.join("cert.pem"), certificate)?;
        fs::write(home.join("key.pem"), key)?;
        let parties = (1..)
            .zip(seats)
            .map(|(index, seat)| seat.open(index, manifest.clone(), &clients))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { chains, parties, manifest, home, _folder: folder })
    }

    /// The first chain.
    ///
    /// # Panics
    /// Never: there is one.
    pub fn chain(&self) -> &Chain {
        &self.chains[0]
    }

    /// Where files are.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// An account of that name, with ether on all chains. Equal names have equal accounts.
    ///
    /// # Errors
    /// A chain does not answer.
    pub async fn account(&self, name: &str) -> Result<PrivateKeySigner> {
        let account = PrivateKeySigner::from_bytes(&keccak256(name)).context("a hash that is no key")?;
        for chain in &self.chains {
            let wealth = U256::from(10).pow(U256::from(24));
            chain.anvil.rpc("anvil_setBalance", serde_json::json!([account.address(), wealth])).await?;
        }
        Ok(account)
    }
}
