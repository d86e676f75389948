//! What the tests share: stores, made-up chains, a scripted committee, a scripted node, a real anvil.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::eips::BlockId;
use alloy::primitives::{Address, B256, Bytes, FixedBytes, U256, keccak256};
use kms_chain::faults;
use kms_chain::follower::BlockRef;
use kms_chain::request::{Finality, Request, request_id};
use kms_chain::rpc::Chain;
use kms_relayer::dispatch::{Committee, Question, Receipt, Said};
use kms_relayer::http::Desk;
use kms_relayer::job::{ChainEvent, GatewayRequest, Job, Located};
use kms_relayer::metrics::Metrics;
use kms_relayer::sight::{Eyes, Lookout, Sight};
use kms_relayer::store::{Applied, ChainRules, Mined, NewAnswer, NewPull, PartyStatus, Pulled, Report, Store};
use kms_relayer::tx::{Fees, Node, NodeError, Signer, TxRules};
use tokio::sync::mpsc;

pub(crate) const CHAIN: u64 = 31_337;
pub(crate) const GATEWAY: Address = Address::repeat_byte(0x6a);
pub(crate) const CONTEXT: B256 = B256::repeat_byte(0xc0);
pub(crate) const GRACE: u64 = 300;

pub(crate) struct TempStore {
    pub(crate) store: Store,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) async fn store() -> TempStore {
    let dir = tempfile::tempdir().expect("temporary folder");
    let store = open(dir.path(), "test").await;
    TempStore { store, dir }
}

/// Opens the store in a folder, or in the PostgreSQL database that `KMS_TEST_POSTGRES` names, in a schema per folder.
pub(crate) async fn open(dir: &Path, instance: &str) -> Store {
    let metrics = Arc::new(Metrics::default());
    let url = match std::env::var("KMS_TEST_POSTGRES") {
        Ok(url) => {
            let name = dir.file_name().expect("folder").to_string_lossy().to_lowercase().replace('.', "t");
            sqlx::any::install_default_drivers();
            let admin = sqlx::AnyPool::connect(&url).await.expect("PostgreSQL");
            let sql = format!("CREATE SCHEMA IF NOT EXISTS {name}");
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&admin).await.expect("schema");
            admin.close().await;
            format!("{url}?options=-csearch_path%3D{name}")
        }
        Err(_) => format!("sqlite://{}/relayer.db", dir.display()),
    };
    Store::open(&url, instance, metrics).await.expect("store")
}

pub(crate) fn rules(depth: u64) -> ChainRules {
    ChainRules { chain: CHAIN, floor: Finality::Latest, depth, grace: GRACE, lead_ms: 60_000 }
}

pub(crate) fn request(nonce: u64, finality: u16, deadline: u64) -> (B256, GatewayRequest) {
    let request = GatewayRequest {
        requester: Address::repeat_byte(0x11),
        nonce,
        handles: vec![handle(1), handle(2)],
        selector: FixedBytes([1, 2, 3, 4]),
        gas_limit: 100_000,
        finality,
        deadline,
        context_id: CONTEXT,
    };
    (request_id(CHAIN, GATEWAY, &Request::from(request.clone())), request)
}

/// Records a pull and returns its job.
pub(crate) async fn submit(store: &Store, pull: NewPull) -> Job {
    match store.submit_pull(pull, 1_000, 1_000).await.expect("database") {
        Pulled::Job(job) => *job,
        other => panic!("{other:?}"),
    }
}

/// What a party reports that answers with this value.
pub(crate) fn said(party: u32, value: u8) -> Report {
    Report {
        party,
        status: PartyStatus::Answered,
        detail: String::new(),
        retry_at: 0,
        answer: Some(answer(party, value).into()),
    }
}

/// Asks for one handle.
pub(crate) fn pull_of(n: u8) -> NewPull {
    let (extra_data, client) = (Bytes::new(), Vec::new());
    NewPull { chain: CHAIN, handles: vec![handle(n)], extra_data, deadline: 9_999_999_999, client }
}

pub(crate) fn handle(n: u8) -> B256 {
    let mut raw = [n; 32];
    raw[21] = 0xff;
    raw[22..30].copy_from_slice(&CHAIN.to_be_bytes());
    raw[30] = 4;
    raw[31] = 0;
    B256::from(raw)
}

/// A chain that exists in the test only.
#[derive(Debug, Clone)]
pub(crate) struct FakeChain {
    pub(crate) blocks: Vec<(BlockRef, Vec<(B256, ChainEvent)>)>,
    pub(crate) finalized: u64,
    salt: u64,
}

impl FakeChain {
    pub(crate) fn new() -> Self {
        let genesis = BlockRef { number: 0, hash: B256::repeat_byte(1), parent: B256::ZERO, timestamp: 1_000 };
        Self { blocks: vec![(genesis, Vec::new())], finalized: 0, salt: 0 }
    }

    pub(crate) fn head(&self) -> BlockRef {
        self.blocks.last().expect("genesis").0
    }

    pub(crate) fn mine(&mut self, seconds: u64, events: Vec<(B256, ChainEvent)>) {
        let head = self.head();
        self.salt += 1;
        let hash = keccak256([head.hash.as_slice(), &self.salt.to_be_bytes()].concat());
        let block = BlockRef { number: head.number + 1, hash, parent: head.hash, timestamp: head.timestamp + seconds };
        self.blocks.push((block, events));
    }

    /// Takes back the newest blocks, newest first; never what is finalized.
    pub(crate) fn reorg(&mut self, depth: usize) -> Vec<BlockRef> {
        let keep = (self.blocks.len() - depth.min(self.blocks.len() - 1)).max(self.finalized as usize + 1);
        self.blocks.split_off(keep).into_iter().rev().map(|(block, _)| block).collect()
    }

    /// The step that brings a store from `from` blocks to the head.
    pub(crate) fn step(&self, orphaned: Vec<BlockRef>, from: usize) -> Applied {
        let mut events = Vec::new();
        for (block, logs) in &self.blocks[from..] {
            for (i, (job, event)) in logs.iter().enumerate() {
                events.push(Located {
                    block: block.number,
                    block_hash: block.hash,
                    log_index: i as u64,
                    tx: keccak256(block.hash),
                    job: *job,
                    event: event.clone(),
                });
            }
        }
        Applied {
            orphaned,
            blocks: self.blocks[from..].iter().map(|(block, _)| *block).collect(),
            events,
            quarantined: Vec::new(),
            latest: self.head(),
            safe: self.finalized,
            finalized: self.finalized,
        }
    }

    /// All events of a job on this chain, with the heights of their blocks.
    pub(crate) fn of(&self, job: B256) -> Vec<(u64, &ChainEvent)> {
        self.blocks
            .iter()
            .flat_map(|(block, events)| {
                events.iter().filter(|(id, _)| *id == job).map(|(_, event)| (block.number, event))
            })
            .collect()
    }
}

pub(crate) fn fulfilled() -> ChainEvent {
    ChainEvent::Fulfilled { cleartexts: cleartexts(7), signers: U256::from(7), fulfiller: Address::repeat_byte(9) }
}

pub(crate) fn cleartexts(value: u8) -> Bytes {
    let mut words = vec![0u8; 64];
    words[31] = value;
    words.into()
}

pub(crate) fn answer(party: u32, value: u8) -> NewAnswer {
    NewAnswer {
        signer: Address::repeat_byte(party as u8),
        cleartexts: cleartexts(value),
        extra_data: Bytes::from(vec![3; 97]),
        signature: [party as u8; 65],
    }
}

/// Parties that say what they are told to: for each party a list, of which the last entry is repeated.
#[derive(Debug, Default)]
pub(crate) struct Scripted {
    script: Mutex<HashMap<u32, VecDeque<Said>>>,
    pub(crate) asked: Mutex<Vec<(u32, B256)>>,
}

impl Scripted {
    pub(crate) fn new(script: Vec<Vec<Said>>) -> Arc<Self> {
        let script = script.into_iter().enumerate().map(|(i, said)| (i as u32 + 1, said.into())).collect();
        Arc::new(Self { script: Mutex::new(script), asked: Mutex::default() })
    }

    pub(crate) fn honest() -> Arc<Self> {
        Self::new((1..=4).map(|party| vec![Said::Answer(answer(party, 7))]).collect())
    }

    pub(crate) fn times_asked(&self, party: u32) -> usize {
        self.asked.lock().expect("asked").iter().filter(|(p, _)| *p == party).count()
    }
}

#[async_trait::async_trait]
impl Committee for Scripted {
    fn parties(&self) -> Vec<u32> {
        (1..=4).collect()
    }
    fn threshold(&self) -> usize {
        3
    }
    fn faults(&self) -> usize {
        1
    }
    fn context(&self) -> B256 {
        CONTEXT
    }
    fn ask(&self, question: Question) -> mpsc::Receiver<(u32, Said)> {
        let (send, receive) = mpsc::channel(8);
        for party in question.parties {
            self.asked.lock().expect("asked").push((party, question.epoch));
            let mut script = self.script.lock().expect("script");
            let lines = script.entry(party).or_default();
            let said = if lines.len() > 1 { lines.pop_front() } else { lines.front().cloned() };
            if let Some(said) = said {
                send.try_send((party, said)).expect("room");
            }
        }
        receive
    }
    async fn receipt(&self, party: u32, _: B256) -> Option<Receipt> {
        Some(Receipt { bytes: vec![party as u8], mpc_micros: 1_000 * u64::from(party) })
    }
}

/// A node that keeps what it is sent and mines when told to.
#[derive(Debug, Default)]
pub(crate) struct FakeNode {
    pub(crate) state: Mutex<FakeNodeState>,
}

#[derive(Debug, Default)]
pub(crate) struct FakeNodeState {
    pub(crate) counted: u64,
    pub(crate) sent: Vec<B256>,
    pub(crate) receipts: HashMap<B256, Mined>,
    pub(crate) refuse: VecDeque<String>,
    pub(crate) estimate: Option<NodeError>,
    /// How often it was asked for an estimate.
    pub(crate) estimates: u32,
    /// What every call takes, if it says so.
    pub(crate) takes: Option<u64>,
}

#[async_trait::async_trait]
impl Node for FakeNode {
    async fn transaction_count(&self, _: Address, _: BlockId) -> Result<u64, NodeError> {
        Ok(self.state.lock().expect("node").counted)
    }
    async fn head(&self) -> Result<u64, NodeError> {
        Ok(100)
    }
    async fn fees(&self) -> Result<Fees, NodeError> {
        Ok(Fees { max_fee: 2_000_000_000, priority_fee: 1_000_000_000 })
    }
    async fn estimate(&self, _: Address, _: Address, _: Bytes) -> Result<u64, NodeError> {
        let mut state = self.state.lock().expect("node");
        state.estimates += 1;
        state.estimate.clone().map_or(Ok(state.takes.unwrap_or(100_000)), Err)
    }
    async fn fits(&self, _: Address, _: Address, _: Bytes, gas: u64) -> Result<bool, NodeError> {
        let state = self.state.lock().expect("node");
        Ok(state.estimate.is_none() && state.takes.is_some_and(|takes| takes <= gas))
    }
    async fn broadcast(&self, raw: &Bytes) -> Result<(), NodeError> {
        let mut state = self.state.lock().expect("node");
        if let Some(message) = state.refuse.pop_front() {
            return Err(NodeError::refused(message));
        }
        state.sent.push(keccak256(raw));
        Ok(())
    }
    async fn receipt(&self, hash: B256) -> Result<Option<Mined>, NodeError> {
        Ok(self.state.lock().expect("node").receipts.get(&hash).copied())
    }
    async fn balance(&self, _: Address) -> Result<U256, NodeError> {
        Ok(U256::MAX)
    }
}

pub(crate) fn tx_rules() -> TxRules {
    TxRules {
        fee_cover_percent: 0,
        depth: 2,
        bump_after: Duration::ZERO,
        rebroadcast_after: Duration::from_secs(3600),
        max_fee: 1_000_000_000_000,
        max_in_flight: 64,
        waiting: 64,
        wait_for_room: Duration::from_millis(100),
        low_balance: U256::ZERO,
    }
}

/// Sees what it is shown.
#[derive(Debug)]
pub(crate) struct Shown(pub(crate) Mutex<Sight>);

#[async_trait::async_trait]
impl Eyes for Shown {
    async fn look(&self) -> Sight {
        self.0.lock().expect("sight").clone()
    }
}

/// An operator's desk without a view.
pub(crate) fn desk() -> Desk {
    let nothing = Sight { at: 0, parties: Vec::new(), chains: Vec::new() };
    Desk::new(Lookout::start(Arc::new(Shown(Mutex::new(nothing)))))
}

/// anvil's first account.
pub(crate) fn signer() -> Signer {
    let key = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
    Signer::new(key.parse::<alloy::signers::local::PrivateKeySigner>().expect("key"))
}

/// A real anvil that mines only when told to.
pub(crate) struct Anvil {
    pub(crate) port: u16,
    pub(crate) url: String,
    pub(crate) chain: Chain,
    _process: faults::Anvil,
}

impl Anvil {
    pub(crate) async fn start() -> Self {
        Self::of_chain(CHAIN).await
    }

    pub(crate) async fn of_chain(id: u64) -> Self {
        let process = faults::Anvil::start(&["--no-mining", "--chain-id", &id.to_string()]).expect("anvil");
        let (port, url) = (process.port, process.url());
        let chain = Chain::new(&[url.parse().expect("url")], id).expect("chain");
        Self { port, url, chain, _process: process }
    }

    pub(crate) async fn rpc(&self, method: &'static str, params: serde_json::Value) -> serde_json::Value {
        self.chain
            .run(|provider| {
                let params = params.clone();
                async move {
                    use alloy::providers::Provider;
                    provider.client().request(method, params).await
                }
            })
            .await
            .expect(method)
    }

    pub(crate) async fn mine(&self, blocks: u64) {
        self.rpc("anvil_mine", serde_json::json!([format!("{blocks:#x}")])).await;
    }
}
