//! What requests cost, and what is done about it.

use std::sync::atomic::Ordering::SeqCst;

use super::*;
use crate::engine::weight::bytes_of;

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| U256::from(*value).to_be_bytes::<32>()).collect()
}

fn cleartexts(outcome: Outcome) -> Vec<u8> {
    let Outcome::Answer(answer) = outcome else { panic!("{outcome:?}") };
    answer.cleartexts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_named_often_is_fetched_and_opened_once() {
    let cluster = Cluster::new(&[(FheType::Uint64, 77), (FheType::Bool, 1)]).await;
    let nodes = cluster.start_all(&[]).await;
    let [a, b] = cluster.handles[..] else { unreachable!() };
    let ask = async |handles: &[B256]| {
        let asking = (1u16..).zip(&nodes).map(|(index, node)| settled(node, cluster.call_for(index, handles)));
        futures::future::join_all(asking).await.into_iter().map(cleartexts).collect::<Vec<_>>()
    };
    let many: Vec<_> = [a, b].into_iter().chain([a; 30]).collect();
    for got in ask(&many).await {
        assert_eq!(got, words(&[&[77, 1][..], &[77; 30][..]].concat()));
    }
    assert_eq!(cluster.world.fetches.begun.load(SeqCst), 2 * 4);
    // The same ciphertexts in another form are the same job, and its values find their places again.
    for (handles, expected) in [([a, b, b], [77, 1, 1]), ([a, a, b], [77, 77, 1])] {
        for got in ask(&handles).await {
            assert_eq!(got, words(&expected));
        }
    }
    for node in &nodes {
        assert!((metric(node, "kms_node_mpc_seconds_count") - 1.0).abs() < f64::EPSILON);
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ciphertexts_wait_for_room_and_are_gone_once_the_share_is_there() {
    let cluster = Cluster::new(&[(FheType::Uint64, 5); 6]).await;
    let dimension = ParamsId::InsecureTest.dimension(kms_encoding::SecretKeyKind::Squashing);
    // Pulls have half of the room: two of these at a time.
    let in_flight = 2 * 2 * (bytes_of(FheType::Uint64, dimension) + 1024);
    let options = EngineOptions { in_flight, ..EngineOptions::default() };
    let one = cluster.start_with(1, None, options).await;
    let fetches = &cluster.world.fetches;
    fetches.hold();
    let calls = cluster.handles.iter().map(|handle| cluster.call_for(1, &[*handle]));
    for call in calls.clone() {
        let outcome = one.engine.decrypt(call, Duration::from_millis(1), ()).await.unwrap();
        assert!(matches!(outcome, Outcome::NotYet(_)), "{outcome:?}");
    }
    until(async || (fetches.now.load(SeqCst) == 2).then_some(())).await;
    for done in 0..4 {
        fetches.let_go(1);
        // The next one comes in although no other party is there and nothing is decided.
        until(async || (fetches.begun.load(SeqCst) == done + 3).then_some(())).await;
        assert!(fetches.now.load(SeqCst) <= 2);
    }
    fetches.let_go(2);
    for call in calls {
        let opening = async || one.engine.status(call.id()).await.unwrap().stage() == node::Stage::Opening;
        until(async || opening().await.then_some(())).await;
    }
    assert_eq!((one.engine.running(), one.engine.inner.scales.taken()), (6, 0));
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_takes_up_a_few_requests_at_a_time() {
    let cluster = Cluster::new(&[(FheType::Bool, 1); 12]).await;
    let one = cluster.start(1, None).await;
    for handle in &cluster.handles {
        let call = cluster.call_for(1, &[*handle]);
        one.engine.decrypt(call.clone(), Duration::from_millis(1), ()).await.unwrap();
        let opening = async || one.engine.status(call.id()).await.unwrap().stage() == node::Stage::Opening;
        until(async || opening().await.then_some(())).await;
    }
    one.stop().await;
    let fetches = &cluster.world.fetches;
    let before = fetches.begun.load(SeqCst);
    fetches.hold();
    let one = cluster.start(1, None).await;
    assert_eq!(one.engine.resume().await.unwrap(), 12);
    for done in 0..12 {
        let expected = (done + RESUMING).min(12);
        until(async || (fetches.begun.load(SeqCst) - before >= expected).then_some(())).await;
        assert_eq!(fetches.begun.load(SeqCst) - before, expected);
        fetches.let_go(1);
    }
    // The other parties come back: all of it is answered, without anybody asking.
    fetches.let_go(1000);
    let (two, three) = (cluster.start(2, None).await, cluster.start(3, None).await);
    for handle in &cluster.handles {
        let asking = [(2, &two), (3, &three)].map(|(i, node)| settled(node, cluster.call_for(i, &[*handle])));
        for outcome in futures::future::join_all(asking).await {
            assert_eq!(cleartexts(outcome), words(&[1]));
        }
        let id = cluster.call_for(1, &[*handle]).id();
        until(async || one.engine.status(id).await.unwrap().answer).await;
    }
    for node in [one, two, three] {
        node.stop().await;
    }
}
