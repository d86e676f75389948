//! Server-sent events over a real socket.

use alloy::primitives::B256;
use kms_relayer::state::State;
use kms_relayer::store::{PartyStatus, Report};
use serde_json::Value;

use crate::api::{Server, server, server_with};
use crate::support::{answer, pull_of, submit};

/// Reads events one by one.
pub(crate) struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    pub(crate) async fn open(server: &Server, path: &str) -> Self {
        let response = reqwest::get(format!("{}{path}", server.url)).await.unwrap();
        assert_eq!(response.status().as_u16(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// Name and data of the next event; none at the end.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let event = field("event: ").zip(field("data: "));
                self.text = rest.to_owned();
                if let Some((name, data)) = event {
                    return Some((name, serde_json::from_str(&data).unwrap()));
                }
            }
            self.text += std::str::from_utf8(&self.response.chunk().await.unwrap()?).unwrap();
        }
    }

    /// The next timeline that is at this stage.
    async fn until(&mut self, stage: &str) -> (String, Value) {
        loop {
            let (name, data) = self.next().await.expect("it goes on");
            if data["stage"] == stage {
                return (name, data);
            }
        }
    }
}

async fn asked(server: &Server) -> (B256, String) {
    let id = submit(&server.store, pull_of(1)).await.id;
    (id, format!("/requests/{id}/events"))
}

fn report(party: u32, status: PartyStatus) -> Report {
    let given = (status == PartyStatus::Answered).then(|| answer(party, 7).into());
    Report { party, status, detail: "not-final: wait".into(), retry_at: 0, answer: given }
}

#[tokio::test]
async fn a_request_is_followed_to_its_end() {
    let server = server(1_000.0).await;
    let (id, path) = asked(&server).await;
    let mut events = Events::open(&server, &path).await;
    let (name, first) = events.next().await.unwrap();
    assert_eq!((name.as_str(), first["stage"].as_str()), ("timeline", Some("final")));
    assert_eq!(first, server.get(&format!("/requests/{id}")).await.body, "the same as is read");

    server.store.shift(id, State::Final, State::Dispatched, "", "").await.unwrap();
    assert_eq!(events.until("dispatched").await.1["timeline"].as_array().unwrap().len(), 2);
    // What a party says moves nothing, and is told all the same.
    server.store.record(id, &[report(1, PartyStatus::NotYet)], 3).await.unwrap();
    assert_eq!(events.next().await.unwrap().1["parties"][0]["status"], "not-yet");
    let answers: Vec<Report> = (1..=3).map(|party| report(party, PartyStatus::Answered)).collect();
    server.store.record(id, &answers, 3).await.unwrap();
    server.store.shift(id, State::Quorum, State::Done, "", "").await.unwrap();
    let (name, last) = events.until("done").await;
    assert_eq!((name.as_str(), last["timeline"].as_array().unwrap().len()), ("end", 4));
    assert!(events.next().await.is_none(), "and then it is over");

    // A browser comes back by itself, until it is told not to.
    let again = server.get_with(&path, "last-event-id", "end").await;
    assert_eq!(again.status, 204);
    assert_eq!(Events::open(&server, &path).await.next().await.unwrap().0, "end");
}

#[tokio::test]
async fn moves_of_another_process_are_seen() {
    let server = server(1_000.0).await;
    let (id, path) = asked(&server).await;
    let mut events = Events::open(&server, &path).await;
    events.next().await.unwrap();
    let other = crate::support::open(server.dir.path(), "other").await;
    other.shift(id, State::Final, State::Dispatched, "", "").await.unwrap();
    events.until("dispatched").await;
}

#[tokio::test]
async fn followers_have_seats() {
    // Two per client, as the tests' relayer is set up.
    let server = server(1_000.0).await;
    let (_, path) = asked(&server).await;
    let mut first = Events::open(&server, &path).await;
    let second = Events::open(&server, &path).await;
    // A stream that is open is not waited for.
    let third = reqwest::get(format!("{}{path}", server.url)).await.unwrap();
    assert_eq!(third.status().as_u16(), 429);
    assert!(third.headers().contains_key("retry-after"));
    assert!(third.text().await.unwrap().contains("too_many_followers"));
    // Whoever hangs up makes room, at the latest when something is to be sent.
    drop(second);
    while reqwest::get(format!("{}{path}", server.url)).await.unwrap().status().as_u16() != 200 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    first.next().await.unwrap();

    let none = server_with(1_000.0, |api| api.seats = kms_relayer::http::Seats::new(0, 2)).await;
    let (_, path) = asked(&none).await;
    let full = reqwest::get(format!("{}{path}", none.url)).await.unwrap();
    assert_eq!(full.status().as_u16(), 503);
    assert!(full.text().await.unwrap().contains("overloaded"));
}

#[tokio::test]
async fn what_is_not_known_can_not_be_followed_and_an_end_of_the_process_ends_all() {
    let server = server(1_000.0).await;
    let missing = server.get(&format!("/requests/{}/events", B256::repeat_byte(9))).await;
    assert_eq!((missing.status, missing.label()), (404, Some("not_found")));
    assert_eq!(server.get("/requests/0x12/events").await.label(), Some("malformed_request_id"));
    let (_, path) = asked(&server).await;
    let mut events = Events::open(&server, &path).await;
    events.next().await.unwrap();
    server.api.feed.stop();
    assert!(events.next().await.is_none());
}
