//! Many transactions at once: room, gas and fees.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{B256, Bytes};
use kms_relayer::state::State;
use kms_relayer::store::Mined;
use kms_relayer::tx::{NodeError, Submission, TxRules};

use crate::outbox::{TARGET, at_quorum, counted, manager, patient, rows, state};
use crate::support::{Anvil, FakeNode, TempStore, store, tx_rules};

#[tokio::test]
async fn whoever_finds_no_room_waits_for_it_on_the_spot() {
    let TempStore { store, dir: _dir } = store().await;
    let node = Arc::new(FakeNode::default());
    let rules = TxRules { max_in_flight: 1, wait_for_room: Duration::from_secs(3600), ..patient() };
    let hurried = manager(&store, node.clone(), TxRules { wait_for_room: Duration::from_millis(10), ..rules });
    let manager = Arc::new(manager(&store, node.clone(), rules));
    let (first, second) = (at_quorum(&store, 1).await, at_quorum(&store, 2).await);
    let Submission::Stored { hash, .. } = manager.submit(first, TARGET, Bytes::new(), 0).await.unwrap() else {
        panic!("not stored");
    };
    let waiting = tokio::spawn({
        let manager = manager.clone();
        async move { manager.submit(second, TARGET, Bytes::new(), 0).await.unwrap() }
    });
    manager.tick().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(manager.is_full() && !waiting.is_finished(), "it waits");
    assert_eq!(state(&store, second).await, State::Quorum);
    {
        let mut node = node.state.lock().unwrap();
        node.counted = 1;
        let mined = Mined { hash, block: 5, block_hash: B256::ZERO, succeeded: true, gas_used: 1, gas_price: 1 };
        node.receipts.insert(hash, mined);
    }
    manager.tick().await.unwrap();
    let submission = waiting.await.unwrap();
    assert!(matches!(submission, Submission::Stored { nonce: 1, .. }), "{submission:?}");
    // Nobody waits for ever.
    hurried.tick().await.unwrap();
    let third = at_quorum(&store, 3).await;
    assert_eq!(hurried.submit(third, TARGET, Bytes::new(), 0).await.unwrap(), Submission::Full);
    assert!(hurried.is_full());
}

#[tokio::test]
async fn an_account_that_cannot_pay_takes_no_more() {
    let TempStore { store, dir: _dir } = store().await;
    let node = Arc::new(FakeNode::default());
    let manager = manager(&store, node.clone(), patient());
    let (first, second) = (at_quorum(&store, 1).await, at_quorum(&store, 2).await);
    let no_money = || node.state.lock().unwrap().refuse.push_back("insufficient funds for gas * price + value".into());
    no_money();
    let submission = manager.submit(first, TARGET, Bytes::new(), 0).await.unwrap();
    assert!(matches!(submission, Submission::Stored { nonce: 0, .. }), "{submission:?}");
    // Rounds try again; the second job is anybody's meanwhile.
    no_money();
    manager.tick().await.unwrap();
    assert!(manager.is_broke() && manager.is_full());
    assert_eq!(manager.submit(second, TARGET, Bytes::new(), 0).await.unwrap(), Submission::Full);
    assert_eq!(state(&store, second).await, State::Quorum);
    // Somebody pays in.
    manager.tick().await.unwrap();
    assert!(!manager.is_broke() && !manager.is_full());
    let submission = manager.submit(second, TARGET, Bytes::new(), 0).await.unwrap();
    assert!(matches!(submission, Submission::Stored { nonce: 1, .. }), "{submission:?}");
}

#[tokio::test]
async fn a_gas_limit_that_was_enough_is_tried_before_it_is_used_again() {
    let TempStore { store, dir: _dir } = store().await;
    let node = Arc::new(FakeNode::default());
    let manager = manager(&store, node.clone(), patient());
    let mut n = 0;
    let mut submit = async |data: &[u8]| {
        n += 1;
        let job = at_quorum(&store, n).await;
        let submission = manager.submit(job, TARGET, Bytes::copy_from_slice(data), 0).await.unwrap();
        let gas = store.pending(manager.account()).await.unwrap().last().map(|last| last.gas_limit);
        (submission, gas, node.state.lock().unwrap().estimates)
    };
    let takes = |gas| node.state.lock().unwrap().takes = Some(gas);
    takes(80_000);
    assert!(matches!(submit(&[1]).await, (Submission::Stored { .. }, Some(90_000), 1)));
    takes(84_000);
    assert!(matches!(submit(&[2]).await, (Submission::Stored { .. }, Some(90_000), 1)), "it was enough");
    assert!(
        matches!(submit(&[1, 2]).await, (Submission::Stored { .. }, Some(94_500), 2)),
        "calldata of another length"
    );
    takes(85_000);
    assert!(
        matches!(submit(&[3]).await, (Submission::Stored { .. }, Some(95_625), 3)),
        "it is enough without a margin"
    );
    let revert = NodeError { revert: Some(Bytes::new()), ..NodeError::refused("execution reverted") };
    node.state.lock().unwrap().estimate = Some(revert);
    assert!(matches!(submit(&[4]).await, (Submission::WouldRevert(_), _, 4)), "a call that reverts is not sent");
}

#[tokio::test]
async fn a_base_fee_that_rises_strands_nothing() {
    const JOBS: u8 = 9;
    let anvil = Anvil::start().await;
    let TempStore { store, dir: _dir } = store().await;
    let manager = manager(&store, Arc::new(anvil.chain.clone()), tx_rules());
    let mut jobs = Vec::new();
    for n in 1..=JOBS {
        let job = at_quorum(&store, n).await;
        let submission = manager.submit(job, TARGET, Bytes::new(), 0).await.unwrap();
        assert!(matches!(submission, Submission::Stored { .. }), "{submission:?}");
        jobs.push(job);
    }
    // Far above what was offered, and the block stays empty.
    anvil.rpc("anvil_setNextBlockBaseFeePerGas", serde_json::json!(["0x174876e800"])).await;
    anvil.mine(1).await;
    assert_eq!(counted(&anvil).await, 0);
    // What is recommended is held for a moment.
    tokio::time::sleep(Duration::from_millis(600)).await;
    manager.tick().await.unwrap();
    anvil.mine(1).await;
    manager.tick().await.unwrap();
    assert_eq!(counted(&anvil).await, u64::from(JOBS), "all at once, not one after the other");
    for job in jobs {
        let rows = rows(&store, job).await;
        assert_eq!((rows.len(), rows[1].state.as_str()), (2, "mined"), "{rows:?}");
    }
}
