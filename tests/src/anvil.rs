//! A real chain for tests: anvil.

use std::{path::Path, time::Duration};

use alloy::{
    network::EthereumWallet,
    primitives::{Address, address},
    providers::{DynProvider, Provider, ProviderBuilder},
    signers::local::PrivateKeySigner,
};
use anyhow::{Context, Result, bail};

use crate::{paths, process::Process};

/// Chain id of every test chain unless said otherwise.
pub const CHAIN_ID: u64 = 31337;

/// anvil's well-known development keys, by use. They guard nothing.
pub const INSECURE_KEYS: [&str; 6] = [
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
];
/// Address of the first development key.
pub const DEPLOYER: Address = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");

/// Who uses which of [`INSECURE_KEYS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Deploys the contracts.
    Deployer,
    /// Sends fulfilments.
    Relayer,
    /// Commits digests.
    Coprocessor,
    /// Casts votes; index 0 to 2.
    Voter(usize),
}

impl Role {
    /// The role's development key, hex without 0x.
    pub fn insecure_key(self) -> &'static str {
        INSECURE_KEYS[match self {
            Self::Deployer => 0,
            Self::Relayer => 1,
            Self::Coprocessor => 2,
            Self::Voter(index) => 3 + index % 3,
        }]
    }

    /// The role's wallet.
    ///
    /// # Panics
    /// Never: the keys are constants.
    pub fn wallet(self) -> PrivateKeySigner {
        self.insecure_key().parse().expect("constant key")
    }
}

/// A running anvil.
#[derive(Debug)]
pub struct Anvil {
    /// The process, to be killed or paused.
    pub process: Process,
    /// JSON-RPC port.
    pub port: u16,
}

/// What a chain is like.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Chain id.
    pub chain_id: u64,
    /// Most gas in a block.
    pub gas_limit: u64,
    /// When there is a block.
    pub mining: Mining,
    /// Blocks of an epoch: the finalized block is two epochs behind the newest one.
    pub epoch: u64,
}

/// When there is a block.
#[derive(Debug, Clone, Copy)]
pub enum Mining {
    /// Every so many seconds. Below one second the chain's clock runs ahead: block times are whole seconds, and rise.
    Every(f64),
    /// At once for each transaction.
    Instant,
    /// When a test says so.
    Manual,
}

impl Default for Terms {
    fn default() -> Self {
        Self { chain_id: CHAIN_ID, gas_limit: 30_000_000, mining: Mining::Every(1.0), epoch: 1 }
    }
}

impl Anvil {
    /// Starts anvil with one block a second and finality that moves.
    ///
    /// # Errors
    /// It does not answer within 20 seconds.
    pub async fn start(logs: &Path, extra: &[&str]) -> Result<Self> {
        Self::start_on(Terms::default(), logs, extra).await
    }

    /// The same on other terms.
    ///
    /// # Errors
    /// It does not answer within 20 seconds.
    pub async fn start_on(terms: Terms, logs: &Path, extra: &[&str]) -> Result<Self> {
        let port = paths::free_port()?;
        let (port_text, id, gas) = (port.to_string(), terms.chain_id.to_string(), terms.gas_limit.to_string());
        let epoch = terms.epoch.to_string();
        let mut args =
            ["--port", &port_text, "--slots-in-an-epoch", &epoch, "--chain-id", &id, "--gas-limit", &gas, "--quiet"]
                .map(str::to_owned)
                .to_vec();
        match terms.mining {
            Mining::Every(seconds) => args.extend(["--block-time".to_owned(), seconds.to_string()]),
            Mining::Instant => {}
            Mining::Manual => args.push("--no-mining".to_owned()),
        }
        args.extend(extra.iter().map(ToString::to_string));
        let name = if terms.chain_id == CHAIN_ID { "anvil".to_owned() } else { format!("anvil-{id}") };
        let process = Process::start(&name, &paths::tool("anvil")?, &args, &[], logs)?;
        let anvil = Self { process, port };
        for _ in 0..200 {
            if anvil.provider()?.get_block_number().await.is_ok() {
                return Ok(anvil);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("anvil does not answer\n{}", anvil.process.log_tail(20))
    }

    /// JSON-RPC address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Address for subscriptions.
    pub fn ws_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// One of anvil's own methods.
    ///
    /// # Errors
    /// It does not answer, or says no.
    pub async fn rpc(&self, method: &'static str, params: serde_json::Value) -> Result<serde_json::Value> {
        self.provider()?.client().request(method, params).await.with_context(|| method.to_owned())
    }

    /// A read-only provider.
    ///
    /// # Errors
    /// Never in practice: the address is well formed.
    pub fn provider(&self) -> Result<DynProvider> {
        Ok(ProviderBuilder::new().connect_http(self.url().parse().context("anvil url")?).erased())
    }

    /// A provider that signs as `role`.
    ///
    /// # Errors
    /// Never in practice: the address is well formed.
    pub fn provider_as(&self, role: Role) -> Result<DynProvider> {
        Ok(ProviderBuilder::new()
            .wallet(EthereumWallet::from(role.wallet()))
            .connect_http(self.url().parse().context("anvil url")?)
            .erased())
    }
}
