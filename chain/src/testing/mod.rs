//! Real chains for tests: anvil, and a contract that logs what it is called with.

use crate::faults;
use crate::rpc::{Chain, Filter, Log, Url};
use alloy::{
    primitives::{Address, B256, Bytes, address, bytes},
    providers::{DynProvider, Provider, ProviderBuilder},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) const CHAIN: u64 = 31337;
/// First of anvil's own accounts.
pub(crate) const SENDER: Address = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
/// Returns code that emits LOG1 with the first word of the calldata: PUSH0 CALLDATALOAD PUSH0 PUSH0 LOG1 STOP.
const LOGGER: Bytes = bytes!("655f355f5fa1005f526006601af3");

/// A chain of its own; ends with the value.
pub(crate) struct Anvil {
    pub(crate) port: u16,
    pub(crate) provider: DynProvider,
    pub(crate) logger: Address,
    _process: faults::Anvil,
}

impl Anvil {
    /// Blocks come with transactions and [`Self::mine`] only; finalized is 64 blocks behind.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with(arguments: &[&str]) -> Self {
        let process = faults::Anvil::start(&[&["--timestamp", "1700000000"], arguments].concat()).expect("anvil");
        let port = process.port;
        let url: Url = format!("http://127.0.0.1:{port}").parse().expect("a URL");
        let provider = ProviderBuilder::new().disable_recommended_fillers().connect_http(url).erased();
        let mut anvil = Self { port, provider, logger: Address::ZERO, _process: process };
        let receipt = anvil.send(json!({ "from": SENDER, "data": LOGGER })).await;
        anvil.logger = serde_json::from_value(receipt["contractAddress"].clone()).expect("a contract");
        anvil
    }

    pub(crate) fn url(&self) -> Url {
        format!("http://127.0.0.1:{}", self.port).parse().expect("a URL")
    }

    pub(crate) fn ws_url(&self) -> Url {
        format!("ws://127.0.0.1:{}", self.port).parse().expect("a URL")
    }

    pub(crate) async fn chain(&self) -> Chain {
        Chain::connect(&[self.url()], CHAIN).await.expect("anvil is up")
    }

    pub(crate) async fn rpc<T: DeserializeOwned + Send + Sync + Unpin + std::fmt::Debug + 'static>(
        &self,
        method: &'static str,
        params: Value,
    ) -> T {
        self.provider.client().request(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Sends and waits for the receipt: anvil answers before it mines.
    async fn send(&self, transaction: Value) -> Value {
        let hash: B256 = self.rpc("eth_sendTransaction", json!([transaction])).await;
        loop {
            let receipt: Value = self.rpc("eth_getTransactionReceipt", json!([hash])).await;
            if !receipt.is_null() {
                return receipt;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    fn logging(&self, topic: u64) -> Value {
        let word = B256::from(alloy::primitives::U256::from(topic));
        json!({ "from": SENDER, "to": self.logger, "data": word, "gas": "0x186a0" })
    }

    /// One block with one log.
    pub(crate) async fn log(&self, topic: u64) {
        self.send(self.logging(topic)).await;
    }

    /// Empty blocks.
    pub(crate) async fn mine(&self, blocks: u64) {
        let _: Value = self.rpc("anvil_mine", json!([format!("{blocks:#x}")])).await;
    }

    /// Replaces the last blocks by as many others; the first of them holds these logs.
    pub(crate) async fn reorg(&self, depth: u64, topics: &[u64]) {
        self.reorg_at(depth, &topics.iter().map(|topic| (*topic, 0)).collect::<Vec<_>>()).await;
    }

    /// Replaces the last blocks by as many others, with these logs at these places among them.
    pub(crate) async fn reorg_at(&self, depth: u64, logs: &[(u64, u64)]) {
        let pairs: Vec<Value> = logs.iter().map(|(topic, place)| json!([self.logging(*topic), place])).collect();
        let _: Value = self.rpc("anvil_reorg", json!([depth, pairs])).await;
    }

    /// Takes the last blocks back without others in their place.
    pub(crate) async fn rollback(&self, depth: u64) {
        let _: Value = self.rpc("anvil_rollback", json!([depth])).await;
    }

    /// Number of the newest block.
    pub(crate) async fn height(&self) -> u64 {
        self.provider.get_block_number().await.expect("a height")
    }

    /// Hash of the newest block.
    pub(crate) async fn head(&self) -> B256 {
        let block: Value = self.rpc("eth_getBlockByNumber", json!(["latest", false])).await;
        serde_json::from_value(block["hash"].clone()).expect("a hash")
    }

    /// All canonical logs of the logger: block hash and topic.
    pub(crate) async fn logs(&self) -> Vec<(B256, u64)> {
        let filter = Filter::new().address(self.logger).from_block(0);
        self.provider.get_logs(&filter).await.expect("logs").iter().map(summary).collect()
    }
}

/// Block hash and topic of a log.
pub(crate) fn summary(log: &Log) -> (B256, u64) {
    let topic = log.topics()[0];
    let number = u64::from_be_bytes(topic[24..].try_into().expect("eight bytes"));
    (log.block_hash.expect("mined"), number)
}
