//! Against real anvil.

mod faults;
mod outages;

use super::*;
use crate::{
    faults::{Answer, FaultyRpc, Wire},
    rpc::AnswerLimits,
    testing::{Anvil, CHAIN, summary},
};
use alloy::primitives::B256;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Default)]
struct Table {
    rows: Vec<BlockRef>,
    logs: Vec<(B256, u64)>,
    finalized: u64,
    settled: u64,
    steps: usize,
    /// Steps that will fail before anything is done, and steps that will fail after.
    failures: (usize, usize),
}

/// A sink in memory that checks the contract of [`Sink`] at every step.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Table>>);

impl Memory {
    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().expect("no test panicked")
    }
}

impl Sink for Memory {
    async fn tail(&self) -> Result<Vec<BlockRef>, SinkError> {
        Ok(self.lock().rows.clone())
    }

    async fn apply(&self, step: Step) -> Result<(), SinkError> {
        let mut table = self.lock();
        if table.failures.0 > 0 {
            table.failures.0 -= 1;
            return Err("the disk is full".into());
        }
        for row in &step.orphaned {
            assert_eq!(table.rows.pop().as_ref(), Some(row), "orphans are the newest rows, newest first");
            assert!(row.number > table.settled, "a settled block is orphaned");
            table.logs.retain(|(block, _)| *block != row.hash);
        }
        for (block, logs) in step.blocks {
            if let Some(tip) = table.rows.last() {
                assert!(block.number > tip.number, "blocks ascend");
                assert!(block.number <= step.finalized || block.number == tip.number + 1, "no gap above finalized");
                assert!(block.number > tip.number + 1 || block.parent == tip.hash, "blocks are linked");
            }
            table.rows.push(block);
            table.logs.extend(logs.iter().map(summary));
        }
        assert_eq!(table.rows.last(), Some(&step.latest), "latest is the cursor");
        assert!(step.finalized >= table.finalized && step.safe >= step.finalized);
        table.finalized = step.finalized;
        table.settled = settled(&step.latest, step.finalized);
        let base = table.rows.iter().rposition(|row| row.number <= table.settled).unwrap_or(0);
        table.rows.drain(..base);
        table.steps += 1;
        if table.failures.1 > 0 {
            table.failures.1 -= 1;
            return Err("the connection broke after the commit".into());
        }
        Ok(())
    }
}

struct Running {
    sink: Memory,
    status: watch::Receiver<FollowerStatus>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(chain: Chain, anvil: &Anvil, sink: &Memory, max_window: u64) -> Self {
        let config = FollowerConfig {
            addresses: vec![anvil.logger],
            start_block: 1,
            max_window,
            tick: Duration::from_millis(20),
        };
        let follower = Follower::new(chain, config, sink.clone());
        let (status, cancel) = (follower.status(), CancellationToken::new());
        let task = tokio::spawn(follower.run(cancel.clone()));
        Self { sink: sink.clone(), status, cancel, task }
    }

    async fn until(&mut self, condition: impl Fn(&FollowerStatus, &Table) -> bool) {
        let started = std::time::Instant::now();
        loop {
            let status = self.status.borrow_and_update().clone();
            if condition(&status, &self.sink.lock()) {
                return;
            }
            // Not a limit of speed: whoever hangs this long hangs for good, and should say where.
            let changed = tokio::time::timeout(PATIENCE, self.status.changed()).await;
            changed.unwrap_or_else(|_| panic!("the follower hangs at {status:?}")).expect("the follower runs");
            assert!(started.elapsed() < PATIENCE, "no progress: {status:?}, {:?}", self.sink.lock().rows);
        }
    }

    /// Waits until the sink has the chain's head, then compares all logs.
    async fn synced(&mut self, anvil: &Anvil) {
        let head = anvil.head().await;
        self.until(|_, table| table.rows.last().is_some_and(|tip| tip.hash == head)).await;
        let logs = anvil.logs().await;
        assert_eq!(self.sink.lock().logs, logs);
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.expect("the follower ends well");
    }
}

#[tokio::test]
async fn history_comes_in_windows_and_the_head_block_by_block() {
    let anvil = Anvil::start().await;
    for topic in 0..20 {
        anvil.log(topic).await;
        anvil.mine(7 * (topic % 3)).await;
    }
    anvil.mine(TAIL).await;
    let sink = Memory::default();
    let mut running = Running::start(anvil.chain().await, &anvil, &sink, 16);
    running.synced(&anvil).await;
    assert!(sink.lock().settled > 0, "part of the chain came in windows");
    for topic in 20..25 {
        anvil.log(topic).await;
        running.synced(&anvil).await;
    }
    let table = sink.lock();
    assert_eq!(table.logs.iter().map(|(_, topic)| *topic).collect::<Vec<_>>(), (0..25).collect::<Vec<_>>());
    assert!(table.rows[0].number <= table.settled && table.rows[1].number > table.settled);
}

#[tokio::test]
async fn a_reorg_that_keeps_the_height_is_seen_without_a_new_block() {
    let anvil = Anvil::start().await;
    anvil.log(1).await;
    anvil.log(2).await;
    let sink = Memory::default();
    let mut running = Running::start(anvil.chain().await, &anvil, &sink, 100);
    running.synced(&anvil).await;
    let before = sink.lock().rows.last().copied().expect("a tip");
    anvil.reorg(1, &[3]).await;
    running.synced(&anvil).await;
    let table = sink.lock();
    let after = table.rows.last().expect("a tip");
    assert_eq!(after.number, before.number);
    assert_ne!(after.hash, before.hash);
    assert_eq!(table.logs.iter().map(|(_, topic)| *topic).collect::<Vec<_>>(), [1, 3]);
}

#[tokio::test]
async fn deep_reorgs_and_missing_blocks() {
    let anvil = Anvil::start().await;
    let sink = Memory::default();
    let mut running = Running::start(anvil.chain().await, &anvil, &sink, 100);
    for topic in 0..12 {
        anvil.log(topic).await;
    }
    running.synced(&anvil).await;
    anvil.reorg(9, &[100, 101]).await;
    running.synced(&anvil).await;
    // Blocks that are only missing are not undone, those that others replace are.
    let rows = sink.lock().rows.len();
    anvil.rollback(3).await;
    let rounds = running.status.borrow().rounds;
    running.until(|status, _| status.rounds > rounds + 3).await;
    assert_eq!(sink.lock().rows.len(), rows);
    anvil.log(200).await;
    running.synced(&anvil).await;
    // Everything seen so far, down to the start block.
    let height = sink.lock().rows.len() as u64;
    anvil.reorg(height - 1, &[300]).await;
    running.synced(&anvil).await;
}

#[tokio::test]
async fn a_restart_resumes_at_the_cursor_whatever_happened_meanwhile() {
    let anvil = Anvil::start().await;
    let sink = Memory::default();
    for round in 0..4 {
        let mut running = Running::start(anvil.chain().await, &anvil, &sink, 100);
        for topic in 0..5 {
            anvil.log(10 * round + topic).await;
        }
        running.synced(&anvil).await;
        running.stop().await;
        match round {
            0 => anvil.log(1000).await,
            1 => anvil.reorg(3, &[1001]).await,
            _ => anvil.mine(100).await,
        }
    }
    let steps = sink.lock().steps;
    let mut running = Running::start(anvil.chain().await, &anvil, &sink, 100);
    running.synced(&anvil).await;
    assert!(sink.lock().steps > steps);
}

#[tokio::test]
async fn an_rpc_outage_is_survived_and_said() {
    let anvil = Anvil::start().await;
    let proxy = Wire::to(anvil.port).await.expect("a port");
    let chain = Chain::connect(&[proxy.url()], CHAIN).await.expect("up");
    let mut running = Running::start(chain, &anvil, &Memory::default(), 100);
    anvil.log(1).await;
    running.synced(&anvil).await;
    proxy.cut();
    anvil.log(2).await;
    anvil.reorg(1, &[3]).await;
    running.until(|status, _| status.error.is_some()).await;
    proxy.mend();
    running.synced(&anvil).await;
    running.until(|status, _| status.error.is_none()).await;
}

#[tokio::test]
async fn another_endpoint_takes_over() {
    let anvil = Anvil::start().await;
    let proxies = [Wire::to(anvil.port).await.expect("a port"), Wire::to(anvil.port).await.expect("a port")];
    let urls = [proxies[0].url(), proxies[1].url()];
    proxies[0].cut();
    let chain = Chain::connect(&urls, CHAIN).await.expect("one is up");
    let mut running = Running::start(chain, &anvil, &Memory::default(), 100);
    anvil.log(1).await;
    running.synced(&anvil).await;
    proxies[0].mend();
    proxies[1].cut();
    anvil.log(2).await;
    running.synced(&anvil).await;
}

#[tokio::test]
async fn a_failing_sink_loses_and_doubles_nothing() {
    let anvil = Anvil::start().await;
    let sink = Memory::default();
    sink.lock().failures = (2, 2);
    let mut running = Running::start(anvil.chain().await, &anvil, &sink, 100);
    for topic in 0..4 {
        anvil.log(topic).await;
        running.synced(&anvil).await;
    }
    sink.lock().failures = (1, 1);
    anvil.reorg(2, &[9]).await;
    running.synced(&anvil).await;
}

#[tokio::test]
async fn a_window_whose_logs_are_too_large_is_halved() {
    let anvil = Anvil::start().await;
    for topic in 0..20 {
        anvil.log(topic).await;
    }
    anvil.mine(TAIL + 10).await;
    // A log takes some 500 bytes: a few fit, twenty don't.
    let limits = AnswerLimits { bulk: 4 << 10, ..AnswerLimits::default() };
    let chain = Chain::with_limits(&[anvil.url()], CHAIN, limits).expect("a URL");
    let sink = Memory::default();
    let mut running = Running::start(chain, &anvil, &sink, 1000);
    running.synced(&anvil).await;
    assert!(sink.lock().settled > 20);
}

/// An endpoint that calls the newest block final as long as it lies.
async fn liar(anvil: &Anvil) -> (FaultyRpc, Arc<AtomicBool>) {
    let lies = Arc::new(AtomicBool::new(true));
    let lying = lies.clone();
    let server = FaultyRpc::with(anvil.port, move |request| {
        let lie = lying.load(Ordering::Relaxed);
        Answer::Forward(if lie { request.replace("\"finalized\"", "\"latest\"") } else { request })
    });
    (server.await.expect("a port"), lies)
}

#[tokio::test]
async fn a_reorg_after_a_false_word_about_finality_is_followed() {
    for restart in [false, true] {
        let anvil = Anvil::start().await;
        let (server, lies) = liar(&anvil).await;
        let chain = Chain::connect(&[server.url()], CHAIN).await.expect("up");
        let sink = Memory::default();
        for topic in 0..10 {
            anvil.log(topic).await;
            anvil.mine(topic % 3).await;
        }
        let mut running = Running::start(chain.clone(), &anvil, &sink, 100);
        running.synced(&anvil).await;
        let head = anvil.height().await;
        running.until(|status, _| status.finalized == head).await;
        lies.store(false, Ordering::Relaxed);
        if restart {
            running.stop().await;
            // A new run asks anew what is final.
            sink.lock().finalized = 0;
            running = Running::start(chain, &anvil, &sink, 100);
        }
        anvil.reorg(6, &[99]).await;
        running.synced(&anvil).await;
        anvil.log(100).await;
        running.synced(&anvil).await;
    }
}

#[tokio::test]
async fn a_reorg_of_settled_blocks_is_not_followed() {
    let anvil = Anvil::with(&["--slots-in-an-epoch", "1"]).await;
    for topic in 0..10 {
        anvil.log(topic).await;
    }
    anvil.mine(TAIL + 10).await;
    let sink = Memory::default();
    let mut running = Running::start(anvil.chain().await, &anvil, &sink, 100);
    running.synced(&anvil).await;
    let seen = || {
        let table = sink.lock();
        (table.steps, table.logs.clone())
    };
    let before = seen();
    anvil.reorg(TAIL + 6, &[99]).await;
    running.until(|status, _| status.error.as_ref().is_some_and(|error| error.contains("was finalized"))).await;
    assert_eq!(seen(), before);
    // A restart does not forget.
    running.stop().await;
    let mut running = Running::start(anvil.chain().await, &anvil, &sink, 100);
    running.until(|status, _| status.error.as_ref().is_some_and(|error| error.contains("was finalized"))).await;
    assert_eq!(seen(), before);
}

#[tokio::test]
async fn new_heads_wake_the_follower_over_a_websocket() {
    let anvil = Anvil::start().await;
    let chain = Chain::connect(&[anvil.ws_url()], CHAIN).await.expect("up");
    let sink = Memory::default();
    let config = FollowerConfig {
        addresses: vec![anvil.logger],
        start_block: 1,
        max_window: 100,
        // Without a push, nothing would be seen within any test's patience.
        tick: Duration::from_secs(100_000),
    };
    let follower = Follower::new(chain, config, sink.clone());
    let (status, cancel) = (follower.status(), CancellationToken::new());
    let task = tokio::spawn(follower.run(cancel.clone()));
    let mut running = Running { sink, status, cancel, task };
    running.until(|status, _| status.rounds > 0).await;
    // The subscription begins some time after the first round: blocks come until one is seen.
    while running.sink.lock().steps < 2 {
        anvil.log(1).await;
    }
    anvil.log(2).await;
    running.synced(&anvil).await;
    running.stop().await;
}

#[tokio::test]
async fn any_sequence_of_events_ends_in_the_canonical_logs() {
    for seed in 1..=3u64 {
        let anvil = Anvil::start().await;
        let proxy = Wire::to(anvil.port).await.expect("a port");
        let urls = [proxy.url(), anvil.url()];
        let sink = Memory::default();
        let mut chain = Chain::connect(&urls, CHAIN).await.expect("up");
        let mut running = Running::start(chain.clone(), &anvil, &sink, 5);
        let mut state = seed;
        for topic in 0..60 {
            // A linear congruential generator: the same events for a seed, at different moments of the follower.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let draw = state >> 33;
            match draw % 12 {
                0..=4 => anvil.log(topic).await,
                5 => anvil.mine(draw % 5).await,
                6 | 7 => {
                    let height = anvil.height().await;
                    if height > 1 {
                        anvil.reorg((1 + draw % 6).min(height - 1), &[1000 + topic]).await;
                    }
                }
                8 => proxy.cut(),
                9 => proxy.mend(),
                10 => sink.lock().failures = (1, 1),
                _ => {
                    running.stop().await;
                    chain = Chain::connect(&urls, CHAIN).await.expect("one is up");
                    running = Running::start(chain.clone(), &anvil, &sink, 5);
                }
            }
        }
        proxy.mend();
        running.synced(&anvil).await;
        running.stop().await;
    }
}
