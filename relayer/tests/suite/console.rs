//! The operator's console: what its API says, and what a real browser shows of it.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256};
use kms_relayer::clock::now_ms;
use kms_relayer::config::{AccessConfig, ConsoleAccess, KeyConfig};
use kms_relayer::http::{Access, Desk, Seats, new_key};
use kms_relayer::job::ChainEvent;
use kms_relayer::sight::{AccountSight, Answers, ChainSight, EndpointSight, Lookout, PartySight, PendingSight, Sight};
use kms_relayer::state::State;
use kms_relayer::store::{Account, Listed, Mined, NewAttempt, NewTransaction, PartyStatus, Purpose, Report, Store};
use serde_json::{Value, json};

use crate::api::{Server, body, server_with};
use crate::follow::Events;
use crate::support::{
    CHAIN, FakeChain, GATEWAY, Shown, TempStore, answer, cleartexts, fulfilled, handle, pull_of, request, rules, store,
    submit,
};

const SENDER: Address = Address::repeat_byte(0xf3);

/// What there is to see: a party that is down, an endpoint that is behind, an account with a transaction on its way.
fn sight() -> Sight {
    let party = |index, answers, problem: Option<&str>, cut_off_from: &[u32]| PartySight {
        index,
        answers,
        problem: problem.map(str::to_owned),
        version: (answers != Answers::Down).then(|| "0.1.0".to_owned()),
        cut_off_from: cut_off_from.to_vec(),
        millis: (answers != Answers::Down).then(|| 3 + u64::from(index)),
    };
    let endpoint = |name: &str, active, head, problem: Option<&str>| EndpointSight {
        endpoint: name.into(),
        active,
        head: Some(head),
        problem: problem.map(str::to_owned),
    };
    Sight {
        at: now_ms(),
        parties: vec![
            party(1, Answers::Ready, None, &[]),
            party(2, Answers::Ready, None, &[4]),
            party(3, Answers::Ready, None, &[]),
            party(4, Answers::Down, Some("unreachable: connection refused"), &[]),
        ],
        chains: vec![ChainSight {
            chain_id: CHAIN,
            endpoints: vec![
                endpoint("https://one.example", true, 1_234_567, None),
                endpoint("https://two.example", false, 1_234_558, Some("9 blocks behind")),
                endpoint("wss://three.example:8546", false, 1_234_567, None),
            ],
            account: Some(AccountSight {
                address: SENDER,
                balance: Some("1250750000000000000".into()),
                low: false,
                counted: Some(17),
                next_nonce: Some(18),
                pending: 1,
                max_pending: 64,
                first_pending: Some(PendingSight {
                    nonce: 17,
                    request_id: Some(B256::repeat_byte(0x5a)),
                    since: now_ms() - 8_000,
                    attempts: 2,
                    problem: Some("replacement transaction underpriced".into()),
                }),
                problem: None,
            }),
        }],
    }
}

fn desk(sight: Sight) -> Desk {
    Desk::new(Lookout::start(Arc::new(Shown(Mutex::new(sight)))))
}

fn says(party: u32, status: PartyStatus, detail: &str) -> Report {
    let given = (status == PartyStatus::Answered).then(|| answer(party, 7).into());
    Report { party, status, detail: detail.into(), retry_at: 0, answer: given }
}

/// Requests at several stages.
struct Scene {
    waiting: B256,
    done: B256,
}

impl Scene {
    async fn set(store: &Store) -> Self {
        let mut chain = FakeChain::new();
        let ids: Vec<_> = (0..5).map(|nonce| request(nonce, 0, 9_000_000_000)).collect();
        // The last one asks for five blocks on top of it.
        let late = request(9, 5, 9_000_000_000);
        let asked = |(id, request): &(B256, _)| {
            let fee = U256::from(40_000_000_000_000_000u64);
            (*id, ChainEvent::Requested { request: Clone::clone(request), fee })
        };
        chain.mine(12, ids.iter().map(asked).collect());
        store.apply(&rules(1), &chain.step(Vec::new(), 0)).await.unwrap();
        let [(done, _), (waiting, _), (refused, _), (sent, _), (cancelled, _)] = &ids[..] else { unreachable!() };
        for id in [done, waiting, refused, sent] {
            store.shift(*id, State::Final, State::Dispatched, "", "").await.unwrap();
        }
        for (nonce, id) in [(16, done), (17, sent)] {
            let answers: Vec<Report> = (1..=3).map(|party| says(party, PartyStatus::Answered, "")).collect();
            store.record(*id, &answers, 3).await.unwrap();
            send(store, *id, nonce).await;
        }
        let why = "2 of 4 parties refuse: not-permitted; a quorum is out of reach";
        store.shift(*refused, State::Dispatched, State::Refused, "not-permitted", why).await.unwrap();
        let said = [
            says(1, PartyStatus::Answered, ""),
            says(2, PartyStatus::NotYet, "not-committed: its digest is not on the chain yet"),
            says(3, PartyStatus::NotYet, "not-committed: its digest is not on the chain yet"),
            says(4, PartyStatus::Unreachable, "connection refused"),
        ];
        store.record(*waiting, &said, 3).await.unwrap();
        let waits = "1 of 3 answers; parties 2, 3 not-yet (not-committed), party 4 unreachable";
        store.put_off(*waiting, State::Dispatched, 0, "parties", waits).await.unwrap();
        chain.mine(12, vec![(*done, fulfilled()), (*done, ChainEvent::CallbackDelivered)]);
        chain.mine(12, vec![(*cancelled, ChainEvent::DeadlineShortened { deadline: 1 }), asked(&late)]);
        store.apply(&rules(1), &chain.step(Vec::new(), 2)).await.unwrap();
        let (hash, block) = (B256::with_last_byte(16), chain.blocks[2].0);
        let mined = Mined {
            hash,
            block: block.number,
            block_hash: block.hash,
            succeeded: true,
            gas_used: 143_210,
            gas_price: 1_000_000_000,
        };
        let account = Account { chain: CHAIN, sender: SENDER };
        store.mined(account, 16, &mined, 0).await.unwrap();
        store.confirm(account, 1).await.unwrap();
        submit(store, pull_of(1)).await;
        Self { waiting: *waiting, done: *done }
    }
}

async fn send(store: &Store, job: B256, nonce: u64) {
    let account = Account { chain: CHAIN, sender: SENDER };
    store.raise_nonce(account, nonce).await.unwrap();
    let attempt = NewAttempt {
        hash: B256::with_last_byte(nonce as u8),
        purpose: Purpose::Fulfil,
        raw: Bytes::from(vec![nonce as u8]),
        max_fee: 2_000_000_000,
        priority_fee: 1_000_000_000,
    };
    let new = NewTransaction { job: Some(job), target: GATEWAY, data: cleartexts(7), gas_limit: 200_000 };
    store.reserve(account, nonce, &[(new, attempt)]).await.unwrap();
}

#[tokio::test]
async fn the_overview_says_how_everything_is() {
    let server = open_server().await;
    let get = || server.get("/console/api/overview");
    Scene::set(&server.store).await;
    // The first look around is under way.
    let seen = loop {
        let seen = get().await.body;
        if !seen["sight"].is_null() {
            break seen;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(
        seen["attention"],
        json!([
            { "level": "warn", "text": "3 of 4 parties are ready and all of them are needed" },
            { "level": "warn", "text": format!("chain {CHAIN}, https://two.example: 9 blocks behind") },
        ])
    );
    let counts: Vec<(&str, u64)> = seen["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| (stage["stage"].as_str().unwrap(), stage["count"].as_u64().unwrap()))
        .filter(|(_, count)| *count > 0)
        .collect();
    let expected = [
        ("seen", 1),
        ("final", 1),
        ("dispatched", 1),
        ("submitting", 1),
        ("done", 1),
        ("cancelled", 1),
        ("refused", 1),
    ];
    assert_eq!(counts, expected);
    assert_eq!(seen["stages"][1]["kinds"], json!([{ "kind": "public-pull", "count": 1 }]));
    assert_eq!(seen["committee"], json!({ "parties": 4, "signatures": 3, "shares": 3 }));
    assert_eq!((seen["ready"].as_bool(), seen["instance"].as_str()), (Some(true), Some("test")));
    server.follower.send_modify(|status| status.error = Some("no endpoint answers".into()));
    let broken = get().await.body;
    assert_eq!(broken["ready"], false);
    assert_eq!(broken["attention"][0]["text"], format!("chain {CHAIN}: no endpoint answers"));
    assert_eq!(broken["chains"][0]["problem"], "no endpoint answers");
}

#[tokio::test]
async fn requests_are_listed_page_by_page_and_found_by_their_first_digits() {
    let server = open_server().await;
    let scene = Scene::set(&server.store).await;
    let get = |query: String| {
        let path = format!("/console/api/requests?{query}");
        let server = &server;
        async move { server.get(&path).await }
    };
    let all = get(String::new()).await.body;
    let ids = |page: &Value| -> Vec<String> {
        page["requests"].as_array().unwrap().iter().map(|r| r["requestId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((ids(&all).len(), all["next"].is_null()), (7, true));
    let times: Vec<i64> =
        all["requests"].as_array().unwrap().iter().map(|request| request["since"].as_i64().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    // Many move at the same millisecond: none is skipped between two pages, and none is there twice.
    let (mut paged, mut before) = (Vec::new(), String::new());
    loop {
        let page = get(format!("limit=2{before}")).await.body;
        paged.extend(ids(&page));
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    assert_eq!(paged, ids(&all));

    let waiting = get("stage=dispatched".into()).await.body;
    assert_eq!(ids(&waiting), [scene.waiting.to_string()]);
    let row = &waiting["requests"][0];
    assert!(row["waitingFor"].as_str().unwrap().contains("not-committed"), "{row}");
    let way: Vec<&str> = row["timeline"].as_array().unwrap().iter().map(|e| e["stage"].as_str().unwrap()).collect();
    assert_eq!(way, ["seen", "final", "dispatched"]);
    let failed = get("stage=failed".into()).await.body;
    assert_eq!(ids(&failed).len(), 2);
    assert!(failed.to_string().contains("a quorum is out of reach"));
    assert_eq!(ids(&get("stage=open&limit=3".into()).await.body).len(), 3);

    let text = scene.done.to_string();
    assert_eq!(ids(&get(format!("search={}", &text[..12])).await.body), std::slice::from_ref(&text));
    assert_eq!(ids(&get(format!("search={}", &text[2..])).await.body), [text]);
    for wrong in ["search=0x1", "search=wxyz", "stage=gone", "limit=0", "limit=101", "before=1", "colour=red"] {
        let reply = get(wrong.into()).await;
        assert_eq!((reply.status, reply.label()), (400, Some("malformed_query")), "{wrong}");
    }
}

async fn open_server() -> Server {
    let open = AccessConfig { console: ConsoleAccess::Open, ..AccessConfig::default() };
    server_with(1_000.0, |api| {
        api.access = Access::new(&open);
        api.desk = desk(sight());
    })
    .await
}

#[tokio::test]
async fn operators_hear_of_every_move() {
    let server = open_server().await;
    let id = submit(&server.store, pull_of(1)).await.id;
    let mut events = Events::open(&server, "/console/api/events").await;
    assert_eq!(events.next().await.unwrap().0, "overview");
    // Moves are told from the first overview on, at the latest.
    while events.next().await.unwrap().0 != "overview" {}
    server.store.shift(id, State::Final, State::Dispatched, "", "").await.unwrap();
    loop {
        let (name, data) = events.next().await.unwrap();
        if name == "moves" {
            assert_eq!(
                (data[0]["requestId"].as_str(), data[0]["stage"].as_str()),
                (Some(id.to_string().as_str()), Some("dispatched"))
            );
            break;
        }
    }
    server.api.feed.stop();
    while events.next().await.is_some() {}
}

#[tokio::test]
async fn the_pending_transaction_that_others_wait_for_is_found() {
    let TempStore { store, dir: _dir } = store().await;
    let account = Account { chain: CHAIN, sender: SENDER };
    assert_eq!(store.first_pending(account).await.unwrap(), None);
    Scene::set(&store).await;
    store.not_sent(B256::with_last_byte(17), "underpriced").await.unwrap();
    let first = store.first_pending(account).await.unwrap().unwrap();
    assert_eq!((first.nonce, first.attempts, first.error.as_deref()), (17, 1, Some("underpriced")));
    assert!(first.job.is_some());
    assert_eq!(store.quarantined().await.unwrap(), 0);
}

/// Answers every pull after a moment, stage by stage.
async fn answer_pulls(store: Store, known: B256) {
    loop {
        let open = Listed { states: vec![State::Final], before: None, limit: 10 };
        for job in store.list(&open).await.unwrap() {
            if job.id == known || job.payload.kind() != "public-pull" {
                continue;
            }
            tokio::time::sleep(Duration::from_millis(800)).await;
            store.shift(job.id, State::Final, State::Dispatched, "", "").await.unwrap();
            let answers: Vec<Report> = (1..=3).map(|party| says(party, PartyStatus::Answered, "")).collect();
            store.record(job.id, &answers, 3).await.unwrap();
            store.shift(job.id, State::Quorum, State::Done, "", "").await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn every_view_works_in_a_real_browser() {
    let (operator, sha256) = new_key();
    let key = KeyConfig {
        name: "ops".into(),
        sha256,
        requests_per_second: 1_000.0,
        burst: 1_000.0,
        open_pulls: 10,
        operator: true,
    };
    let config = AccessConfig { keys: vec![key], ..AccessConfig::default() };
    let server = server_with(10_000.0, |api| {
        api.access = Access::new(&config);
        api.seats = Seats::new(64, 64);
        api.desk = desk(sight());
    })
    .await;
    let scene = Scene::set(&server.store).await;
    let pull = submit(&server.store, pull_of(1)).await.id;
    let parties = tokio::spawn(answer_pulls(server.store.clone(), pull));
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../console");
    let task = json!({
        "url": server.url,
        "out": pictures,
        "key": operator,
        "waiting": scene.waiting,
        "done": scene.done,
        "post": body(handle(2), ""),
    });
    let seen = browse(&task.to_string()).await;
    parties.abort();
    let pictures: Vec<_> = seen["pictures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| pictures.join(format!("{}.png", name.as_str().unwrap())))
        .collect();
    assert!(pictures.len() >= 15 && pictures.iter().all(|picture| picture.exists()), "{pictures:?}");
}

/// Runs the browser's program, and returns what it saw.
async fn browse(task: &str) -> Value {
    let task = task.to_owned();
    let run = move || {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/typescript");
        let mut child = std::process::Command::new("node")
            .arg("script/console.mjs")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("node");
        child.stdin.take().expect("standard input").write_all(task.as_bytes()).expect("its task");
        child.wait_with_output().expect("node")
    };
    let output = tokio::task::spawn_blocking(run).await.expect("node");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    serde_json::from_str(&stdout).expect("what it saw")
}
