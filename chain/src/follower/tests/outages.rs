//! Endpoints that are away for long, or for good, while the chain goes on; and reorganisations of every depth.

use super::{faults::range, *};
use crate::rpc::Url;
use std::sync::atomic::AtomicU64;

async fn wire(anvil: &Anvil) -> Wire {
    Wire::to(anvil.port).await.expect("a port")
}

fn impatient(urls: &[Url]) -> Chain {
    let limits = AnswerLimits { patience: Duration::from_secs(2), ..AnswerLimits::default() };
    Chain::with_limits(urls, CHAIN, limits).expect("URLs")
}

#[tokio::test]
async fn ten_minutes_of_blocks_are_caught_up_with_in_bounded_windows() {
    const WINDOW: u64 = 64;
    let anvil = Anvil::with(&["--slots-in-an-epoch", "1"]).await;
    let (down, widest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (off, wide) = (down.clone(), widest.clone());
    let rpc = FaultyRpc::with(anvil.port, move |request| {
        if off.load(Ordering::Relaxed) {
            return Answer::Drop;
        }
        if let Some((from, to)) = range(&request) {
            wide.fetch_max(to - from + 1, Ordering::Relaxed);
        }
        Answer::Forward(request)
    });
    let rpc = rpc.await.expect("a port");
    let mut running = Running::start(impatient(&[rpc.url()]), &anvil, &Memory::default(), WINDOW);
    anvil.log(1).await;
    running.synced(&anvil).await;
    down.store(true, Ordering::Relaxed);
    running.until(|status, _| status.error.is_some()).await;
    // Ten minutes at a block per second, and a reorganisation of what was seen before.
    anvil.reorg(1, &[2]).await;
    for topic in 0..12 {
        anvil.mine(49).await;
        anvil.log(100 + topic).await;
    }
    down.store(false, Ordering::Relaxed);
    running.synced(&anvil).await;
    assert!(running.sink.lock().settled > 300, "part of it came in windows");
    assert!((2..=WINDOW).contains(&widest.load(Ordering::Relaxed)), "{widest:?}");
}

#[tokio::test]
async fn without_the_first_endpoint_everything_goes_on_for_good() {
    for frozen in [false, true] {
        let anvil = Anvil::with(&["--slots-in-an-epoch", "1"]).await;
        let first = wire(&anvil).await;
        let mut running = Running::start(impatient(&[first.url(), anvil.url()]), &anvil, &Memory::default(), 100);
        anvil.log(1).await;
        running.synced(&anvil).await;
        // Closed connections, and connections that say nothing any more.
        if frozen {
            first.freeze()
        } else {
            first.cut()
        }
        for topic in 2..6 {
            anvil.log(topic).await;
        }
        running.synced(&anvil).await;
        if !frozen {
            // Nobody is left who could confirm what is final; that does not hold up requests for ever.
            anvil.mine(10).await;
            running.until(|status, _| status.finalized > 6).await;
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn all_endpoints_are_gone_and_come_back() {
    let anvil = Anvil::start().await;
    let (first, second) = (wire(&anvil).await, wire(&anvil).await);
    let mut running = Running::start(impatient(&[first.url(), second.url()]), &anvil, &Memory::default(), 100);
    anvil.log(1).await;
    running.synced(&anvil).await;
    for (mended, reorg) in [(&first, 1), (&second, 2)] {
        first.cut();
        second.cut();
        running.until(|status, _| status.error.is_some()).await;
        anvil.log(10).await;
        anvil.reorg(reorg, &[20]).await;
        anvil.log(30).await;
        mended.mend();
        running.synced(&anvil).await;
    }
}

#[tokio::test]
async fn a_websocket_that_falls_silent_is_replaced() {
    let anvil = Anvil::start().await;
    let silent = wire(&anvil).await;
    let mut running = Running::start(impatient(&[silent.ws_url(), anvil.url()]), &anvil, &Memory::default(), 100);
    anvil.log(1).await;
    running.synced(&anvil).await;
    silent.freeze();
    anvil.log(2).await;
    anvil.reorg(1, &[3]).await;
    running.synced(&anvil).await;
}

#[tokio::test]
async fn a_websocket_that_breaks_wakes_again_when_it_is_back() {
    let anvil = Anvil::start().await;
    let line = wire(&anvil).await;
    let mut running = Running::start(impatient(&[line.ws_url()]), &anvil, &Memory::default(), 100);
    for topic in 0..3 {
        anvil.log(topic).await;
        running.synced(&anvil).await;
        line.cut();
        running.until(|status, _| status.error.is_some()).await;
        anvil.reorg(1, &[10 + topic]).await;
        line.mend();
        running.synced(&anvil).await;
    }
}

#[tokio::test]
async fn reorganisations_of_every_depth_with_logs_dropped_kept_and_moved() {
    let anvil = Anvil::start().await;
    let sink = Memory::default();
    let mut running = Running::start(anvil.chain().await, &anvil, &sink, 100);
    for depth in 1..=8 {
        for topic in 0..8 {
            anvil.log(100 * depth + topic).await;
        }
        running.synced(&anvil).await;
        // The first of the logs that are taken back stays where it was, the last comes in the first block, the others not at all.
        let mut logs = vec![(100 * depth + 8 - depth, 0)];
        if depth > 1 {
            logs.push((100 * depth + 7, depth - 1));
        }
        anvil.reorg_at(depth, &logs).await;
        running.synced(&anvil).await;
        // And while nobody looks.
        running.stop().await;
        anvil.log(50).await;
        anvil.reorg_at(depth, &[(60, depth - 1), (61, 0)]).await;
        running = Running::start(anvil.chain().await, &anvil, &sink, 100);
        running.synced(&anvil).await;
    }
}
