//! The guard against a real chain.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use alloy_primitives::B256;
use axum::Json;
use axum::extract::State;
use kms_chain::request::{Finality, Request, request_id};
use kms_node::config::ChainEndpoints;
use kms_node::guard::{Grant, Guard, NotYetReason, Refusal, Verdict};
use kms_node::metrics::Metrics;
use serde_json::{Value, json};

use crate::chain::{CHAIN_ID, DIGEST, KEY, World};

pub(crate) fn guard(world: &World, urls: &[String]) -> Guard {
    let endpoints = ChainEndpoints { chain_id: CHAIN_ID, rpc: urls.to_vec() };
    Guard::new(world.manifest.clone(), &[endpoints], Arc::new(Metrics::new().unwrap())).unwrap()
}

/// A world with one request for one committed handle.
async fn asked(finality: u16) -> (World, Request) {
    let world = World::new().await;
    let handle = world.handle(0).await;
    world.commit(handle).await;
    let request = world.ask(handle, finality).await;
    (world, request)
}

async fn check(world: &World, request: &Request) -> Verdict {
    guard(world, &[world.anvil.url()]).check_request(CHAIN_ID, request).await
}

#[track_caller]
pub(crate) fn allowed(verdict: Verdict) -> Grant {
    match verdict {
        Verdict::Allowed(grant) => grant,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn waits(verdict: Verdict, reason: NotYetReason) {
    match verdict {
        Verdict::NotYet(not_yet) => {
            assert_eq!(not_yet.reason, reason, "{}", not_yet.detail);
            assert!(not_yet.retry_after > Duration::ZERO);
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn refused(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_open_request_for_a_committed_handle_is_allowed() {
    let (world, request) = asked(0).await;
    let grant = allowed(check(&world, &request).await);
    let gateway = world.manifest.chains[0].contracts.decryption_gateway;
    assert_eq!(grant.request_id, Some(request_id(CHAIN_ID, gateway, &request)));
    assert_eq!(grant.context, world.manifest.committee.context_id);
    assert_eq!(
        (grant.handles[0].handle.raw(), grant.handles[0].key_id, grant.handles[0].digest),
        (request.handles[0], KEY, DIGEST)
    );
}

#[tokio::test]
async fn a_request_waits_for_the_finality_it_names() {
    let (world, request) = asked(3).await;
    waits(check(&world, &request).await, NotYetReason::NotFinal);
    world.anvil.mine(2).await;
    waits(check(&world, &request).await, NotYetReason::NotFinal);
    world.anvil.mine(1).await;
    allowed(check(&world, &request).await);
}

#[tokio::test]
async fn the_floor_of_the_chain_delays_and_never_refuses() {
    let world = World::with_floor(Finality::FINALIZED).await;
    let handle = world.handle(0).await;
    world.commit(handle).await;
    let request = world.ask(handle, 0).await;
    waits(check(&world, &request).await, NotYetReason::NotFinal);
    world.anvil.mine(5).await;
    allowed(check(&world, &request).await);
}

#[tokio::test]
async fn a_request_waits_for_its_commitments() {
    let world = World::new().await;
    let handle = world.handle(0).await;
    let request = world.ask(handle, 0).await;
    waits(check(&world, &request).await, NotYetReason::NotCommitted);
    world.commit(handle).await;
    allowed(check(&world, &request).await);
}

#[tokio::test]
async fn a_changed_request_is_another_request() {
    let (world, request) = asked(0).await;
    let variants: [fn(&mut Request); 4] =
        [|r| r.nonce += 1, |r| r.gasLimit += 1, |r| r.deadline += 1, |r| r.selector = [9; 4].into()];
    for change in variants {
        let mut other = request.clone();
        change(&mut other);
        waits(check(&world, &other).await, NotYetReason::Behind);
    }
}

#[tokio::test]
async fn a_forged_request_for_somebody_elses_handle_gets_nowhere() {
    let (world, request) = asked(0).await;
    // For all this party's endpoint knows, the right may be given in the transaction that makes the request.
    let forged = Request { requester: alloy_primitives::Address::repeat_byte(0xAB), ..request };
    waits(check(&world, &forged).await, NotYetReason::Behind);
    world.anvil.rpc("evm_increaseTime", json!([3601])).await;
    world.anvil.mine(1).await;
    assert!(matches!(refused(check(&world, &forged).await), Refusal::DeadlinePassed { .. }));
}

#[tokio::test]
async fn requests_that_can_not_be_good_are_refused_before_anything_is_asked() {
    let (world, request) = asked(0).await;
    // No endpoint answers there.
    let guard = guard(&world, &["http://127.0.0.1:1".into()]);
    let check = async |request: &Request| refused(guard.check_request(CHAIN_ID, request).await);
    let with = |change: &dyn Fn(&mut Request)| {
        let mut other = request.clone();
        change(&mut other);
        other
    };
    assert_eq!(refused(guard.check_request(1, &request).await), Refusal::UnknownChain(1));
    assert_eq!(check(&with(&|r| r.finality = 2000)).await, Refusal::UnknownFinality(2000));
    let foreign = with(&|r| r.contextId = B256::ZERO);
    assert!(matches!(check(&foreign).await, Refusal::WrongContext { .. }));
    for spoil in [
        |r: &mut Request| r.handles.clear(),
        |r: &mut Request| r.handles[0][30] = 1,
        |r: &mut Request| r.handles[0][29] ^= 1,
        |r: &mut Request| r.handles[0][31] = 1,
        |r: &mut Request| r.handles = vec![r.handles[0]; 257],
    ] {
        assert!(matches!(check(&with(&spoil)).await, Refusal::Handles(_)));
    }
    waits(guard.check_request(CHAIN_ID, &request).await, NotYetReason::ChainUnavailable);
}

#[tokio::test]
async fn a_cancelled_request_is_refused() {
    let (world, request) = asked(0).await;
    world.cancel(&request).await;
    assert_eq!(refused(check(&world, &request).await), Refusal::Cancelled);
}

#[tokio::test]
async fn a_cancellation_that_a_fork_may_undo_ends_nothing_for_good() {
    // Final two blocks down, and cancelled in the latest one.
    let (world, request) = asked(2).await;
    world.anvil.mine(2).await;
    allowed(check(&world, &request).await);
    world.cancel(&request).await;
    let refusal = refused(check(&world, &request).await);
    assert_eq!((refusal.reason(), refusal.lasts()), (&Refusal::Cancelled, false));
    world.anvil.mine(2).await;
    let refusal = refused(check(&world, &request).await);
    assert_eq!((refusal.reason(), refusal.lasts()), (&Refusal::Cancelled, true));
}

#[tokio::test]
async fn nothing_starts_after_the_deadline() {
    let (world, request) = asked(0).await;
    world.anvil.rpc("evm_increaseTime", json!([3601])).await;
    world.anvil.mine(1).await;
    assert!(matches!(refused(check(&world, &request).await), Refusal::DeadlinePassed { .. }));
    // Neither on a request that was never made.
    let other = Request { nonce: 99, ..request };
    assert!(matches!(refused(check(&world, &other).await).reason(), Refusal::DeadlinePassed { .. }));
}

#[tokio::test]
async fn a_request_that_existed_on_a_fork_only_is_not_answered() {
    let world = World::new().await;
    let handle = world.handle(0).await;
    world.commit(handle).await;
    let request = world.ask(handle, 0).await;
    allowed(check(&world, &request).await);
    // The block of the request is replaced by an empty one of the same height.
    world.anvil.rpc("anvil_reorg", json!([1, []])).await;
    waits(check(&world, &request).await, NotYetReason::Behind);
    world.anvil.mine(10).await;
    waits(check(&world, &request).await, NotYetReason::Behind);
}

#[tokio::test]
async fn endpoints_that_follow_different_chains_get_no_share_out() {
    let (world, request) = asked(0).await;
    let twin = world.twin().await;
    // The twin has the same height with other blocks, and no request.
    twin.mine(3).await;
    let both = [world.anvil.url(), twin.url()];
    for urls in [both.clone(), {
        let mut b = both.clone();
        b.reverse();
        b
    }] {
        waits(guard(&world, &urls).check_request(CHAIN_ID, &request).await, NotYetReason::BlockUnknown);
    }
    // An endpoint that agrees changes nothing.
    let same = [world.anvil.url(), world.anvil.url()];
    allowed(guard(&world, &same).check_request(CHAIN_ID, &request).await);
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_not_believed() {
    let (world, request) = asked(0).await;
    let stranger = World::stranger().await;
    let alone = guard(&world, &[stranger.url()]);
    waits(alone.check_request(CHAIN_ID, &request).await, NotYetReason::ChainUnavailable);
    let both = guard(&world, &[world.anvil.url(), stranger.url()]);
    waits(both.check_request(CHAIN_ID, &request).await, NotYetReason::ChainUnavailable);
}

#[tokio::test]
async fn one_lying_endpoint_can_not_invent_a_request() {
    let (world, request) = asked(0).await;
    let liar = liar(world.anvil.url()).await;
    // From here on the liar gives the answer for this good request to every question.
    allowed(guard(&world, std::slice::from_ref(&liar)).check_request(CHAIN_ID, &request).await);
    let forged = Request { nonce: 99, ..request.clone() };
    let urls = [world.anvil.url(), liar.clone()];
    waits(guard(&world, &urls).check_request(CHAIN_ID, &forged).await, NotYetReason::BlockUnknown);
    allowed(guard(&world, &urls).check_request(CHAIN_ID, &request).await);
    // Alone it would be believed: that is why operators configure more than one.
    allowed(guard(&world, &[liar]).check_request(CHAIN_ID, &forged).await);
}

#[tokio::test]
async fn public_handles_are_read_at_the_floor() {
    let world = World::with_floor(2).await;
    let handle = world.handle(0).await;
    world.commit(handle).await;
    let guard = guard(&world, &[world.anvil.url()]);
    assert!(matches!(refused(guard.check_public(CHAIN_ID, &[handle]).await), Refusal::NotPermitted { .. }));
    world.publish(handle).await;
    waits(guard.check_public(CHAIN_ID, &[handle]).await, NotYetReason::NotFinal);
    world.anvil.mine(2).await;
    let grant = allowed(guard.check_public(CHAIN_ID, &[handle]).await);
    assert_eq!((grant.request_id, grant.handles[0].digest), (None, DIGEST));
}

/// An endpoint that passes everything on and counts the messages.
async fn counted(upstream: String) -> (String, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counting = count.clone();
    let pass = axum::routing::post(async move |Json(question): Json<Value>| {
        counting.fetch_add(1, SeqCst);
        let answer = reqwest::Client::new().post(&upstream).json(&question).send().await.unwrap();
        Json(answer.json::<Value>().await.unwrap())
    });
    let app = axum::Router::new().route("/", pass);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, count)
}

#[tokio::test]
async fn requests_that_come_together_are_read_together() {
    let (world, request) = asked(0).await;
    let (url, count) = counted(world.anvil.url()).await;
    let guard = guard(&world, &[url]);
    allowed(guard.check_request(CHAIN_ID, &request).await);
    let alone = count.swap(0, SeqCst);
    // Forty of the good one, and forty that nobody has made: each gets its own answer.
    let forged = |nonce| Request { nonce, ..request.clone() };
    let all = (0..40).flat_map(|i| [request.clone(), forged(1000 + i)]);
    let checks = all.map(|request| {
        let guard = &guard;
        async move { guard.check_request(CHAIN_ID, &request).await }
    });
    let verdicts = futures::future::join_all(checks).await;
    for pair in verdicts.chunks(2) {
        let [good, bad] = pair else { unreachable!() };
        allowed(good.clone());
        waits(bad.clone(), NotYetReason::Behind);
    }
    let together = count.load(SeqCst);
    assert!(together <= 4 * alone, "{together} messages for 80 requests, {alone} for one");
}

#[tokio::test]
async fn the_active_key_is_known() {
    let world = World::new().await;
    let key = guard(&world, &[world.anvil.url()]).active_key(CHAIN_ID).await.unwrap().unwrap();
    assert_eq!((key.key_id, key.context_id), (KEY, world.manifest.committee.context_id));
}

type Canned = Arc<parking_lot::Mutex<Option<Value>>>;

/// An endpoint that passes everything on, but answers every `eth_call` as it answered the first.
async fn liar(upstream: String) -> String {
    let app = axum::Router::new().route("/", axum::routing::post(pass)).with_state((upstream, Canned::default()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

async fn pass(State((upstream, canned)): State<(String, Canned)>, Json(question): Json<Value>) -> Json<Value> {
    let is_call = question["method"] == "eth_call";
    if let Some(result) = canned.lock().clone().filter(|_| is_call) {
        return Json(json!({ "jsonrpc": "2.0", "id": question["id"], "result": result }));
    }
    let answer = reqwest::Client::new().post(upstream).json(&question).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    if is_call {
        *canned.lock() = Some(answer["result"].clone());
    }
    Json(answer)
}
