//! The HTTP API over a real socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy::primitives::{Address, U256};
use kms_chain::follower::FollowerStatus;
use kms_relayer::feed::Feed;
use kms_relayer::http::{Access, Api, RateLimit, Seats, router};
use kms_relayer::job::ChainEvent;
use kms_relayer::state::State;
use kms_relayer::store::{PartyStatus, Report, Store};
use kms_relayer::views::Judge;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::{CHAIN, FakeChain, Scripted, TempStore, answer, desk, handle, request, rules, store};
use crate::user_support::FakeViews;

pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) api: Arc<Api>,
    pub(crate) follower: watch::Sender<FollowerStatus>,
    pub(crate) store: Store,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) async fn server(burst: f64) -> Server {
    server_with(burst, |_| {}).await
}

pub(crate) async fn server_with(burst: f64, change: impl FnOnce(&mut Api)) -> Server {
    let TempStore { store, dir } = store().await;
    let (follower, status) = watch::channel(FollowerStatus { rounds: 1, ..FollowerStatus::default() });
    let mut api = Api {
        store: store.clone(),
        committee: Scripted::honest(),
        followers: BTreeMap::from([(CHAIN, status)]),
        access: Access::default(),
        seats: Seats::new(4, 2),
        feed: Feed::start(store.clone()),
        desk: desk(),
        rate: RateLimit::new(0.01, burst),
        body_bytes: 4096,
        open_pulls: 2,
        open_pulls_per_client: 100,
        pull_timeout_s: 60,
        decryption_contract: Address::ZERO,
        judge: Judge::new(Arc::new(FakeViews::default()), 1, Duration::ZERO),
        collect: Duration::ZERO,
        draining: AtomicBool::new(false),
    };
    change(&mut api);
    let api = Arc::new(api);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = router(api.clone()).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    Server { url, api, follower, store, dir }
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn label(&self) -> Option<&str> {
        self.body["error"]["label"].as_str()
    }
}

impl Server {
    pub(crate) async fn reply(&self, request: reqwest::RequestBuilder) -> Reply {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
        let text = response.text().await.unwrap();
        Reply { status, retry_after, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.reply(reqwest::Client::new().get(format!("{}{path}", self.url))).await
    }

    pub(crate) async fn post(&self, body: String) -> Reply {
        let request = reqwest::Client::new().post(format!("{}/v2/public-decrypt", self.url));
        self.reply(request.header("content-type", "application/json").body(body)).await
    }
}

pub(crate) fn body(handle: alloy::primitives::B256, extra_data: &str) -> String {
    json!({ "ciphertextHandles": [handle], "extraData": extra_data }).to_string()
}

#[tokio::test]
async fn a_pull_is_queued_shared_and_answered_as_existing_clients_expect() {
    let server = server(1_000.0).await;
    let queued = server.post(body(handle(1), "0x00")).await;
    assert_eq!((queued.status, queued.body["status"].as_str()), (202, Some("queued")));
    assert!(queued.retry_after.is_some_and(|s| (1..=300).contains(&s)));
    let id = queued.body["result"]["jobId"].as_str().unwrap().to_owned();
    // The same without 0x, and with fields that we don't know.
    let bare = json!({ "ciphertextHandles": [hex::encode(handle(1))], "extraData": "00", "more": 1 }).to_string();
    assert_eq!(server.post(bare).await.body["result"]["jobId"].as_str(), Some(id.as_str()));
    let running = server.get(&format!("/v2/public-decrypt/{id}")).await;
    assert_eq!((running.status, running.retry_after.is_some()), (202, true));

    let job = id.parse().unwrap();
    server.store.shift(job, State::Final, State::Dispatched, "", "").await.unwrap();
    let reports: Vec<Report> = (1..=3)
        .map(|party| Report {
            party,
            status: PartyStatus::Answered,
            detail: String::new(),
            retry_at: 0,
            answer: Some(answer(party, 7).into()),
        })
        .collect();
    server.store.record(job, &reports, 3).await.unwrap();
    server.store.shift(job, State::Quorum, State::Done, "", "").await.unwrap();
    let done = server.get(&format!("/v2/public-decrypt/{}", id.trim_start_matches("0x"))).await;
    assert_eq!((done.status, done.body["status"].as_str()), (200, Some("succeeded")));
    let result = &done.body["result"];
    assert_eq!(result["decryptedValue"].as_str().unwrap().len(), 128);
    assert_eq!(result["signatures"].as_array().unwrap().len(), 3);
    assert_eq!(result["signatures"][0].as_str().unwrap().len(), 130);
    assert!(result["extraData"].as_str().unwrap().starts_with("0x03"));
    assert_eq!(done.body["requestId"].as_str(), Some(id.as_str()));
}

#[tokio::test]
async fn mistakes_have_stable_labels() {
    let server = server(1_000.0).await;
    let mut foreign = handle(1);
    foreign.0[29] ^= 1;
    let mut unknown_type = handle(1);
    unknown_type.0[30] = 200;
    let many = json!({ "ciphertextHandles": vec![handle(1); 65], "extraData": "" }).to_string();
    let mut mixed = vec![handle(1), foreign];
    for (body, status, label) in [
        ("{".to_owned(), 400, "malformed_json"),
        ("{}".to_owned(), 400, "malformed_json"),
        (json!({ "ciphertextHandles": [] }).to_string(), 400, "EmptyHandles"),
        (json!({ "ciphertextHandles": ["0x12"] }).to_string(), 400, "malformed_handle"),
        (json!({ "ciphertextHandles": ["é".repeat(32)] }).to_string(), 400, "malformed_handle"),
        (body(foreign, ""), 400, "unknown_chain"),
        (json!({ "ciphertextHandles": std::mem::take(&mut mixed) }).to_string(), 400, "ForeignChain"),
        (body(unknown_type, ""), 400, "UnknownType"),
        (body(handle(1), "0xzz"), 400, "malformed_extra_data"),
        (body(handle(1), &"00".repeat(98)), 400, "malformed_extra_data"),
        (body(handle(1), &format!("01{}", "ab".repeat(32))), 400, "unknown_context"),
        (body(handle(1), &format!("03{}", "c0".repeat(96))), 400, "extra_data_of_a_request"),
        (many, 413, "body_too_large"),
    ] {
        let reply = server.post(body.clone()).await;
        let got = (reply.status, reply.body["error"]["label"].as_str());
        if label == "ForeignChain" {
            assert_eq!(reply.status, 400, "{body}");
            continue;
        }
        assert_eq!(got, (status, Some(label)), "{body}: {}", reply.body);
    }
    for (path, status, label) in [
        ("/v2/public-decrypt/0x12", 400, "malformed_job_id"),
        ("/requests/nothing", 400, "malformed_request_id"),
        ("/nowhere", 404, "not_found"),
    ] {
        let reply = server.get(path).await;
        assert_eq!((reply.status, reply.body["error"]["label"].as_str()), (status, Some(label)), "{path}");
    }
    let missing = format!("/requests/{}", handle(9));
    assert_eq!(server.get(&missing).await.status, 404);
}

#[tokio::test]
async fn too_much_is_pushed_back_and_says_when_to_come_again() {
    let server = server(5.0).await;
    assert_eq!(server.post(body(handle(1), "")).await.status, 202);
    assert_eq!(server.post(body(handle(2), "")).await.status, 202);
    let full = server.post(body(handle(3), "")).await;
    assert_eq!((full.status, full.body["error"]["label"].as_str()), (503, Some("overloaded")));
    assert!(full.retry_after.is_some());
    assert_eq!(server.post(body(handle(1), "")).await.status, 202, "a known question is not a new one");
    server.api.draining.store(true, Ordering::Relaxed);
    assert_eq!(server.post(body(handle(1), "")).await.status, 503);
    let limited = server.post(body(handle(1), "")).await;
    assert_eq!((limited.status, limited.body["error"]["label"].as_str()), (429, Some("rate_limited")));
    assert!(limited.retry_after.is_some_and(|s| s <= 300));
    // Health is never limited.
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn one_client_has_only_so_many_pulls_open() {
    let server = server_with(1_000.0, |api| {
        api.open_pulls = 100;
        api.open_pulls_per_client = 2;
    })
    .await;
    assert_eq!(server.post(body(handle(1), "")).await.status, 202);
    assert_eq!(server.post(body(handle(2), "")).await.status, 202);
    let more = server.post(body(handle(3), "")).await;
    assert_eq!((more.status, more.body["error"]["label"].as_str()), (429, Some("too_many_pulls")));
    assert!(more.retry_after.is_some());
    let again = server.post(body(handle(1), "")).await;
    assert_eq!(again.status, 202, "asking again costs nothing");
    // One that ended makes room.
    let job = again.body["result"]["jobId"].as_str().unwrap().parse().unwrap();
    server.store.shift(job, State::Final, State::Expired, "timeout", "").await.unwrap();
    assert_eq!(server.post(body(handle(3), "")).await.status, 202);
}

#[tokio::test]
async fn the_timeline_says_why_a_pull_waits() {
    let server = server(1_000.0).await;
    let queued = server.post(body(handle(1), "")).await;
    let id = queued.body["result"]["jobId"].as_str().unwrap().to_owned();
    let job = id.parse().unwrap();
    server.store.shift(job, State::Final, State::Dispatched, "", "").await.unwrap();
    let detail = "not-final: it is public, but not in a block that is final enough".to_owned();
    let report = Report { party: 1, status: PartyStatus::NotYet, detail: detail.clone(), retry_at: 0, answer: None };
    server.store.record(job, &[report], 3).await.unwrap();
    let waits = "0 of 3 answers; party 1 not-yet (not-final)";
    server.store.put_off(job, State::Dispatched, 0, "parties", waits).await.unwrap();
    let timeline = server.get(&format!("/requests/{id}")).await.body;
    assert_eq!((timeline["kind"].as_str(), timeline["stage"].as_str()), (Some("public-pull"), Some("dispatched")));
    assert_eq!(timeline["waitingFor"].as_str(), Some(waits));
    assert_eq!(timeline["parties"][0]["detail"].as_str(), Some(detail.as_str()));
    assert_eq!(server.get(&format!("/v2/public-decrypt/{id}")).await.status, 202, "and has not failed");
}

#[tokio::test]
async fn the_timeline_of_a_gateway_request_is_public() {
    let server = server(1_000.0).await;
    let (id, asked) = request(0, 5, 9_000);
    let mut chain = FakeChain::new();
    chain.mine(1, vec![(id, ChainEvent::Requested { request: asked, fee: U256::from(12) })]);
    server.store.apply(&rules(1), &chain.step(Vec::new(), 0)).await.unwrap();
    let reply = server.get(&format!("/requests/{id}")).await;
    let body = &reply.body;
    assert_eq!((reply.status, body["stage"].as_str(), body["fee"].as_str()), (200, Some("seen"), Some("12")));
    assert_eq!(body["requestId"].as_str(), Some(id.to_string().as_str()));
    assert_eq!((body["chainId"].as_u64(), body["deadline"].as_u64()), (Some(CHAIN), Some(9_000)));
    assert!(body["waitingFor"].as_str().unwrap().contains("finality"));
    assert_eq!(body["timeline"][0]["stage"].as_str(), Some("seen"));
    assert_eq!(body["timeline"][0]["detail"].as_str(), Some("block 1"));
    assert!(body["cleartexts"].is_null() && body["mpcMs"].is_null());
    // It is no job of the pull API.
    assert_eq!(server.get(&format!("/v2/public-decrypt/{id}")).await.status, 404);
}

#[tokio::test]
async fn readiness_follows_the_chains_and_ends_before_the_process() {
    let server = server(1_000.0).await;
    assert_eq!(server.get("/readyz").await.status, 200);
    server.follower.send_modify(|status| status.error = Some("no endpoint answers".into()));
    let reply = server.get("/readyz").await;
    assert_eq!(reply.status, 503);
    assert!(reply.body["problems"][0].as_str().unwrap().contains("no endpoint answers"));
    server.follower.send_modify(|status| status.error = None);
    server.api.draining.store(true, Ordering::Relaxed);
    assert_eq!(server.get("/readyz").await.status, 503);
    assert_eq!(server.get("/healthz").await.status, 200);
    let metrics = server.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    let text = metrics.body.as_str().unwrap().to_owned();
    assert!(text.contains("kms_relayer_http_total{route=\"/readyz\",status=\"503\"} 2"), "{text}");
}

/// Run with `KMS_UPDATE_GOLDEN=1` after a change that is meant.
#[tokio::test]
async fn the_openapi_document_in_the_repository_is_the_one_that_is_served() {
    let served = server(1_000.0).await.get("/openapi.json").await;
    assert_eq!(served.status, 200);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/spec/relayer-openapi.json");
    if std::env::var_os("KMS_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&served.body).unwrap() + "\n").unwrap();
    }
    let kept: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(served.body, kept, "docs/spec/relayer-openapi.json is not what the code says");
}
