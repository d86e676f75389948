//! A coprocessor that is killed: at every point where something is written or sent, once before and once after it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{Address, B256, U256};
use async_trait::async_trait;
use kms_chain::{eip712, follower::BlockRef};
use kms_encoding::FheType;
use kms_fhe::{InputError, inputs::InputMetadata};
use tempfile::TempDir;

use crate::{
    commit::{
        Committer,
        tests::{FakeLedger, committer, word},
    },
    compute::Compute,
    crew::Trade,
    error::{Error, Result},
    event::{Event, Kind, Operation},
    fhe::Arithmetic,
    inputs::{InputChain, Inputs, Post, Refused, Waiting},
    ledger::{Broadcast, Fees, Ledger, Receipt, Simulation},
    metrics::Metrics,
    objects::Objects,
    signals::Signals,
    squash::Squash,
    store::{HandleStatus, InputRoom, Store},
};

/// Ends a process, as far as its parts can tell: from one point on nothing succeeds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    passed: Vec<(&'static str, &'static str)>,
    kill_at: Option<usize>,
    killed: bool,
}

impl Faults {
    fn killing_at(point: Option<usize>) -> Self {
        Self(Arc::new(Mutex::new(Plan { kill_at: point, ..Plan::default() })))
    }

    /// Comes by a point where the process may be killed.
    pub(crate) fn pass(&self, side: &'static str, step: &'static str) -> Result<()> {
        let mut plan = self.0.lock().unwrap();
        plan.killed |= plan.kill_at == Some(plan.passed.len());
        if plan.killed {
            return Err(Error::Task("killed"));
        }
        plan.passed.push((side, step));
        Ok(())
    }
}

/// The chain, which outlives its callers.
struct Mortal(FakeLedger, Faults);

#[async_trait]
impl Ledger for Mortal {
    async fn commitments(&self, handles: &[B256]) -> Result<Vec<Option<(B256, B256)>>> {
        self.0.commitments(handles).await
    }
    async fn fees(&self) -> Result<Fees> {
        self.0.fees().await
    }
    async fn next_nonce(&self, account: Address) -> Result<u64> {
        self.0.next_nonce(account).await
    }
    async fn final_nonce(&self, account: Address) -> Result<u64> {
        self.0.final_nonce(account).await
    }
    async fn final_block(&self) -> Result<u64> {
        self.0.final_block().await
    }
    async fn simulate(&self, from: Address, to: Address, calldata: &[u8]) -> Result<Simulation> {
        self.0.simulate(from, to, calldata).await
    }
    async fn broadcast(&self, raw: &[u8]) -> Result<Broadcast> {
        self.1.pass("before", "broadcast")?;
        let said = self.0.broadcast(raw).await?;
        self.1.pass("after", "broadcast")?;
        Ok(said)
    }
    async fn receipt(&self, hash: B256) -> Result<Option<Receipt>> {
        self.0.receipt(hash).await
    }
}

/// Ciphertexts are single bytes, lists are their members.
#[derive(Debug)]
struct Numbers {
    /// The next squashing fails.
    sick: AtomicBool,
}

impl Arithmetic for Numbers {
    fn key_id(&self) -> B256 {
        word(0xaa)
    }
    fn check_input(&self, list: &[u8], _: &InputMetadata) -> Result<Vec<FheType>, InputError> {
        Ok(vec![FheType::Uint8; list.len()])
    }
    fn expand_input(&self, list: &[u8], _: &InputMetadata) -> Result<Vec<Vec<u8>>, InputError> {
        Ok(list.iter().map(|byte| vec![*byte]).collect())
    }
    fn compute(&self, operation: &Operation, operands: &[Vec<u8>]) -> Result<Vec<u8>, String> {
        let plain = operation.plain.map_or(0, |plain| plain.byte(0));
        Ok(vec![operands.iter().flatten().fold(plain, |sum, byte| sum.wrapping_add(*byte))])
    }
    fn squash_object(&self, handle: B256, bytes: &[u8]) -> Result<Vec<u8>, String> {
        if self.sick.swap(false, Ordering::SeqCst) { Err("unwell".into()) } else { Ok([&handle[..], bytes].concat()) }
    }
}

const CHAIN: u64 = 31337;
/// Seconds that inputs wait for the chain.
const MAX_AGE: u64 = 50_000;
/// The sum of both inputs, which the registry does not take at first.
const SUM: B256 = B256::repeat_byte(0x51);
/// A handle for which the registry holds another digest.
const CONTRADICTED: B256 = B256::repeat_byte(0x61);
/// Seconds since 1970, moved by the test.
static CLOCK: AtomicU64 = AtomicU64::new(0);

fn clock() -> u64 {
    CLOCK.load(Ordering::SeqCst)
}

/// What lives on when the process ends: disk, chain, client.
struct World {
    folder: TempDir,
    ledger: FakeLedger,
    numbers: Arc<Numbers>,
    blocks: Vec<(BlockRef, Vec<Event>)>,
    /// Lists, and the handles of each answer to a post; each is posted twice.
    posts: Vec<(Vec<u8>, Vec<Vec<B256>>)>,
    rounds: u64,
}

/// In memory where there is such a place: the kills are not power cuts, and a disk that others use as well takes its time to
/// confirm thousands of writes.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What lives in memory.
struct Process {
    store: Store,
    compute: Compute,
    squash: Squash,
    inputs: Inputs,
    committer: Committer<Mortal>,
}

/// Where everything ends, however it went.
#[derive(Debug, PartialEq)]
struct End {
    statuses: Vec<HandleStatus>,
    ciphertexts: Vec<Option<Vec<u8>>>,
    inputs: Vec<bool>,
    objects: BTreeSet<String>,
    registry: BTreeMap<B256, (B256, B256)>,
    /// Transactions with an effect that held the handle.
    commits: BTreeMap<B256, usize>,
}

impl World {
    fn new() -> Self {
        CLOCK.store(crate::commit::now(), Ordering::SeqCst);
        let ledger = FakeLedger::default();
        ledger.with(|world| {
            world.bad.insert(SUM);
            world.answer = Some(Broadcast::Underpriced);
            world.registry.insert(CONTRADICTED, (word(0xaa), word(0xdd)));
        });
        let mut world = Self {
            folder: folder(),
            ledger,
            numbers: Arc::new(Numbers { sick: AtomicBool::new(true) }),
            blocks: Vec::new(),
            posts: vec![(vec![3, 4], Vec::new()), (vec![9], Vec::new())],
            rounds: 0,
        };
        world.block(Vec::new());
        world
    }

    fn block(&mut self, events: Vec<Event>) {
        let number = self.blocks.len() as u64;
        let hash = |number: u64| B256::from(U256::from(number + 1));
        let parent = B256::from(U256::from(number));
        self.blocks.push((BlockRef { number, hash: hash(number), parent, timestamp: clock() }, events));
    }

    async fn start(&self, faults: &Faults) -> Process {
        let mut store = Store::open(&format!("sqlite://{}/db", self.folder.path().display())).await.unwrap();
        store.faults = faults.clone();
        let objects = Objects::open(&format!("file://{}/objects", self.folder.path().display())).unwrap();
        let (signals, metrics) = (Arc::new(Signals::default()), Arc::new(Metrics::new().unwrap()));
        let engine: Arc<dyn Arithmetic> = self.numbers.clone();
        let domain = eip712::input_domain(CHAIN, Address::repeat_byte(0x1f));
        let chains = BTreeMap::from([(CHAIN, InputChain { access_control: Address::repeat_byte(0xac), domain })]);
        let waiting = Waiting { max_age: MAX_AGE, room: InputRoom { total: 1 << 20, client: 1 << 20 } };
        let signer = PrivateKeySigner::from_bytes(&word(7)).unwrap();
        let mut squash = Squash::new(store.clone(), engine.clone(), objects, signals.clone(), metrics.clone());
        squash.clock = clock;
        Process {
            inputs: Inputs::new(chains.clone(), store.clone(), engine.clone(), signer, signals.clone(), waiting),
            compute: Compute { store: store.clone(), engine, chains, signals, metrics },
            squash,
            committer: committer(store.clone(), Mortal(self.ledger.clone(), faults.clone())),
            store,
        }
    }

    /// What happens outside between two rounds of the process.
    fn go_on(&mut self) {
        self.rounds += 1;
        CLOCK.fetch_add(20, Ordering::SeqCst);
        if self.rounds == 10 {
            self.ledger.with(|world| world.bad.clear());
        }
        let answered = self.posts.iter().all(|(_, answers)| answers.len() == 2);
        if answered && self.blocks.len() == 1 {
            let used = self.posts[0].1[0].clone();
            let operation =
                |kind, result, operands, plain| Event::Operation(Operation { result, kind, operands, plain });
            let mut events: Vec<Event> =
                used.iter().map(|handle| operation(Kind::Input, *handle, Vec::new(), None)).collect();
            events.push(operation(Kind::Add, SUM, used.clone(), None));
            events.push(operation(Kind::Trivial, CONTRADICTED, Vec::new(), Some(U256::from(5))));
            events.push(Event::Wanted(vec![SUM, used[0], CONTRADICTED]));
            self.block(events);
        }
        self.ledger.mine();
        let known: HashSet<B256> = self.blocks.iter().flat_map(|(_, events)| events).filter_map(committed).collect();
        let mut fresh = self.ledger.with(|world| {
            world.final_height = world.height;
            world.registry.iter().map(|(handle, (key_id, digest))| (*handle, *key_id, *digest)).collect::<Vec<_>>()
        });
        fresh.retain(|(handle, ..)| *handle != CONTRADICTED && !known.contains(handle));
        if !fresh.is_empty() {
            let events = fresh.into_iter().map(|(handle, key_id, digest)| Event::Committed { handle, key_id, digest });
            self.block(events.collect());
        }
        // Long after all of that the time of the other list is over.
        if self.rounds == 24 {
            CLOCK.fetch_add(2 * MAX_AGE, Ordering::SeqCst);
            self.block(Vec::new());
            self.block(Vec::new());
        }
    }

    async fn end(&self, store: &Store) -> End {
        let handles: Vec<B256> =
            self.posts.iter().flat_map(|(_, answers)| answers[0].clone()).chain([SUM, CONTRADICTED]).collect();
        let mut end = End {
            statuses: Vec::new(),
            ciphertexts: Vec::new(),
            inputs: Vec::new(),
            objects: BTreeSet::new(),
            registry: self.ledger.with(|world| world.registry.clone().into_iter().collect()),
            commits: BTreeMap::new(),
        };
        for handle in handles {
            end.statuses.push(store.handle_status(handle).await.unwrap());
            end.ciphertexts.push(store.ciphertext(handle).await.unwrap());
        }
        for (list, _) in &self.posts {
            let id = alloy_primitives::keccak256(list);
            end.inputs.push(store.input(CHAIN, id).await.unwrap().is_some());
        }
        for file in std::fs::read_dir(self.folder.path().join("objects/ct")).unwrap() {
            end.objects.insert(file.unwrap().file_name().to_string_lossy().into_owned());
        }
        self.ledger.with(|world| {
            for handle in world.mined.iter().filter(|batch| batch.success).flat_map(|batch| &batch.handles) {
                *end.commits.entry(*handle).or_default() += 1;
            }
        });
        end
    }
}

fn committed(event: &Event) -> Option<B256> {
    if let Event::Committed { handle, .. } = event { Some(*handle) } else { None }
}

impl Process {
    /// Everything that a process does, once.
    async fn round(&mut self, world: &mut World) -> Result<()> {
        for (list, answers) in &mut world.posts {
            if answers.len() < 2 {
                let post = Post {
                    chain_id: CHAIN,
                    contract: Address::repeat_byte(1),
                    user: Address::repeat_byte(2),
                    ciphertext: list.clone(),
                };
                let own = |refused| match refused {
                    Refused::Internal(error) => error,
                    other => panic!("{other}"),
                };
                let receipt = match self.inputs.known(&post).await.map_err(own)? {
                    Some(receipt) => receipt,
                    None => self.inputs.accept(post, IpAddr::from([127, 0, 0, 1])).await.map_err(own)?,
                };
                answers.push(receipt.handles);
            }
        }
        let cursor = self.store.blocks(CHAIN).await?.last().map(|block| block.number);
        for (block, events) in world.blocks.iter().filter(|(block, _)| cursor.is_none_or(|at| block.number > at)) {
            let settled = block.number.saturating_sub(1);
            self.store.apply(CHAIN, &[], &[(*block, events.clone(), Vec::new())], *block, settled).await?;
        }
        for (_, job) in self.compute.next(&HashSet::new()).await? {
            self.compute.work(job).await?;
        }
        for (_, job) in self.squash.next(&HashSet::new()).await? {
            self.squash.work(job).await?;
        }
        // At first the account can't pay.
        world.ledger.set_unable(world.rounds < 5);
        self.committer.tick(clock()).await?;
        self.store.prune_inputs(CHAIN, MAX_AGE, clock(), 10).await?;
        Ok(())
    }
}

/// From the first post to the end, with a kill at one point. Returns the end, and the points that were passed.
async fn live(kill_at: Option<usize>) -> (End, Vec<(&'static str, &'static str)>) {
    let mut world = World::new();
    let faults = Faults::killing_at(kill_at);
    let mut process = world.start(&faults).await;
    let mut killed = false;
    while world.rounds < 28 {
        if process.round(&mut world).await.is_err() {
            assert!(!std::mem::replace(&mut killed, true), "only the kill may go wrong");
            process.store.close().await;
            process = world.start(&Faults::default()).await;
        }
        world.go_on();
    }
    assert_eq!(killed, kill_at.is_some());
    let unsettled = process.store.unsettled_transactions(CHAIN).await.unwrap();
    assert!(unsettled.is_empty(), "{unsettled:?}");
    let end = world.end(&process.store).await;
    process.store.close().await;
    let passed = faults.0.lock().unwrap().passed.clone();
    (end, passed)
}

#[tokio::test]
async fn a_kill_at_any_point_changes_nothing_in_the_end() {
    let (end, points) = live(None).await;
    let steps: BTreeSet<&str> = points.iter().map(|(_, step)| *step).collect();
    // Every step there is: whoever adds one adds it to the story above.
    let all = [
        "apply",
        "broadcast",
        "fail_commitment",
        "fail_squash",
        "insert_attempt",
        "insert_commitment",
        "insert_input",
        "insert_transaction",
        "move_transaction",
        "postpone_commitments",
        "prune_inputs",
        "refuse_commitment",
        "renew_input",
        "settle",
        "settle_expanded",
        "store_expansion",
    ];
    assert_eq!(steps.into_iter().collect::<Vec<_>>(), all);
    assert_eq!(end.inputs, [true, false], "the list that nobody used is forgotten");
    assert_eq!(end.objects.len(), 3);
    assert_eq!(end.commits.values().collect::<Vec<_>>(), [&1, &1], "nothing is committed twice");
    for (at, point) in points.iter().enumerate() {
        let (after, _) = live(Some(at)).await;
        assert_eq!(after, end, "killed {point:?}");
    }
}
