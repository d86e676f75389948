//! An endpoint that fails or lies in every way that we could think of.

use super::*;
use crate::{faults::Fault, rpc::Url};

/// So short that a test does not wait for long, and long enough for a busy machine.
const PATIENCE_OF_CALLS: Duration = Duration::from_secs(2);

fn impatient(urls: &[Url]) -> Chain {
    let limits = AnswerLimits { patience: PATIENCE_OF_CALLS, ..AnswerLimits::default() };
    Chain::with_limits(urls, CHAIN, limits).expect("URLs")
}

async fn faulty(anvil: &Anvil) -> FaultyRpc {
    FaultyRpc::start(anvil.port).await.expect("a port")
}

/// The follower stands still and says why; what happened meanwhile is all there when the fault is over.
async fn stands_still(fault: Fault) {
    let anvil = Anvil::start().await;
    let rpc = faulty(&anvil).await;
    let mut running = Running::start(impatient(&[rpc.url()]), &anvil, &Memory::default(), 100);
    anvil.log(1).await;
    anvil.log(2).await;
    running.synced(&anvil).await;
    let before = running.sink.lock().logs.clone();
    rpc.set(fault.clone());
    anvil.log(3).await;
    anvil.reorg(2, &[4, 5]).await;
    running.until(|status, _| status.error.is_some()).await;
    assert_eq!(running.sink.lock().logs, before, "{fault:?}");
    rpc.set(Fault::None);
    running.synced(&anvil).await;
}

#[tokio::test]
async fn connections_that_are_dropped() {
    stands_still(Fault::Drop).await;
}

#[tokio::test]
async fn answers_that_are_lost() {
    stands_still(Fault::Lose).await;
}

#[tokio::test]
async fn answers_that_are_cut_short() {
    stands_still(Fault::Cut).await;
}

#[tokio::test]
async fn answers_that_never_come() {
    stands_still(Fault::Silence).await;
}

#[tokio::test]
async fn a_rate_limit_with_and_without_a_time_to_come_again() {
    stands_still(Fault::Status(429, None)).await;
    stands_still(Fault::Status(429, Some(1))).await;
    stands_still(Fault::Error(-32005, "daily request count exceeded, request rate limited")).await;
}

#[tokio::test]
async fn a_node_that_answers_nothing_but_errors() {
    stands_still(Fault::Error(-32603, "internal error")).await;
    stands_still(Fault::Status(502, None)).await;
}

#[tokio::test]
async fn an_endpoint_that_becomes_another_chains() {
    // Longer, and shorter, than the right one.
    for blocks in [20, 1] {
        let other = Anvil::with(&["--chain-id", "5"]).await;
        other.mine(blocks).await;
        stands_still(Fault::Elsewhere(other.port)).await;
    }
}

#[tokio::test]
async fn slow_and_doubled_answers_change_nothing() {
    let anvil = Anvil::start().await;
    let rpc = faulty(&anvil).await;
    let mut running = Running::start(impatient(&[rpc.url()]), &anvil, &Memory::default(), 100);
    for fault in [Fault::Delay(Duration::from_millis(30)), Fault::Twice, Fault::DoubleLogs] {
        rpc.set(fault);
        anvil.log(1).await;
        anvil.log(2).await;
        anvil.reorg(1, &[3, 4]).await;
        running.synced(&anvil).await;
    }
    // The same for settled blocks, which come in windows.
    anvil.mine(TAIL + 10).await;
    let mut running = Running::start(impatient(&[rpc.url()]), &anvil, &Memory::default(), 100);
    running.synced(&anvil).await;
    assert!(running.sink.lock().settled > 0);
}

#[tokio::test]
async fn a_stale_head_undoes_nothing_and_is_left_for_a_better_endpoint() {
    let anvil = Anvil::start().await;
    let rpc = faulty(&anvil).await;
    let mut running = Running::start(impatient(&[rpc.url()]), &anvil, &Memory::default(), 100);
    for topic in 0..6 {
        anvil.log(topic).await;
    }
    running.synced(&anvil).await;
    rpc.set(Fault::StaleHead(2));
    let rounds = running.status.borrow().rounds;
    running.until(|status, _| status.rounds > rounds + 3 && status.head == 2).await;
    let logs = anvil.logs().await;
    assert_eq!(running.sink.lock().logs, logs);
    running.stop().await;
    // Of two, the one that is behind is noticed.
    let mut running = Running::start(impatient(&[rpc.url(), anvil.url()]), &anvil, &Memory::default(), 100);
    running.synced(&anvil).await;
    for topic in 10..20 {
        anvil.log(topic).await;
    }
    running.synced(&anvil).await;
    let behind = |status: &FollowerStatus| status.endpoints[0].head.as_ref().is_ok_and(|head| head.number == 2);
    running.until(|status, _| status.endpoints.len() == 2 && behind(status)).await;
}

#[tokio::test]
async fn logs_that_are_left_out_are_missed() {
    let anvil = Anvil::start().await;
    let rpc = faulty(&anvil).await;
    rpc.set(Fault::NoLogs);
    let mut running = Running::start(impatient(&[rpc.url(), anvil.url()]), &anvil, &Memory::default(), 100);
    for topic in 0..5 {
        anvil.log(topic).await;
        running.synced(&anvil).await;
    }
}

#[tokio::test]
async fn a_node_that_has_the_block_before_its_logs_is_asked_again() {
    let anvil = Anvil::start().await;
    let asked = Mutex::new(std::collections::HashSet::new());
    let rpc = FaultyRpc::with(anvil.port, move |request| {
        let call: serde_json::Value = serde_json::from_str(&request).expect("a request");
        let is_new = asked.lock().expect("asked").insert(call["params"].to_string());
        if call["method"] == "eth_getLogs" && is_new {
            Answer::Result("[]".to_owned())
        } else {
            Answer::Forward(request)
        }
    });
    let rpc = rpc.await.expect("a port");
    let mut running = Running::start(impatient(&[rpc.url()]), &anvil, &Memory::default(), 100);
    for topic in 0..5 {
        anvil.log(topic).await;
        running.synced(&anvil).await;
    }
}

#[tokio::test]
async fn a_refusal_of_too_many_results_is_no_rate_limit() {
    let anvil = Anvil::start().await;
    for topic in 0..20 {
        anvil.log(topic).await;
    }
    anvil.mine(TAIL + 10).await;
    // In the words, and with the code, of a large provider.
    let rpc = FaultyRpc::with(anvil.port, |request| {
        let Some((from, to)) = range(&request) else { return Answer::Forward(request) };
        if to - from < 8 {
            return Answer::Forward(request);
        }
        Answer::Error(
            -32005,
            "query returned more than 10000 results. Try with this block range [0x1, 0x2].".to_owned(),
        )
    });
    let rpc = rpc.await.expect("a port");
    let mut running = Running::start(impatient(&[rpc.url()]), &anvil, &Memory::default(), 1000);
    running.synced(&anvil).await;
}

/// First and last block of a question for a window of logs.
pub(super) fn range(request: &str) -> Option<(u64, u64)> {
    let request: serde_json::Value = serde_json::from_str(request).ok()?;
    let number = |value: &serde_json::Value| u64::from_str_radix(value.as_str()?.trim_start_matches("0x"), 16).ok();
    let filter = &request["params"][0];
    (request["method"] == "eth_getLogs").then(|| Some((number(&filter["fromBlock"])?, number(&filter["toBlock"])?)))?
}
