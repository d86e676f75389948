//! Two and more transports over real mutual TLS on the loopback interface.

use kms_mpc::Network;
use kms_proto::peer::{KeygenAbsence, KeygenOutcome, KeygenStage};

use super::*;
use crate::testkit::{Fixture, until};

struct Fixed(Vec<u8>);

#[tonic::async_trait]
impl Recompute for Fixed {
    async fn messages(&self, _peer: u16, session: SessionId) -> Vec<(u8, Bytes)> {
        if session == [7; 32] { vec![(1, self.0.clone().into())] } else { Vec::new() }
    }
}

async fn hub(fixture: &Fixture, party: Party, options: HubOptions) -> (Hub, CancellationToken) {
    let cancel = CancellationToken::new();
    let metrics = Arc::new(Metrics::new().unwrap());
    let index = party.index;
    let hub = Hub::new(&party, fixture.leaf(index), metrics, options, cancel.clone()).unwrap();
    hub.recompute_with(Arc::new(Fixed(vec![index as u8; 3])));
    hub.start(fixture.listen(index).await).unwrap();
    (hub, cancel)
}

async fn linked(hub: &Hub, peers: usize) {
    until(async || (hub.connected() == peers).then_some(())).await;
}

/// What must come; the limit only keeps a broken test from hanging.
async fn within<T>(coming: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), coming).await.expect("it never came")
}

fn job(byte: u8) -> JobId {
    JobId::from_bytes([byte; 32])
}

fn party(index: u8) -> PartyId {
    PartyId::new(index).unwrap()
}

#[tokio::test]
async fn messages_reach_sessions_whenever_they_are_opened() {
    let fixture = Fixture::new(4).await;
    let (one, end_one) = hub(&fixture, fixture.party(1), HubOptions::default()).await;
    let (two, end_two) = hub(&fixture, fixture.party(2), HubOptions::default()).await;
    linked(&one, 1).await;
    linked(&two, 1).await;
    let first = one.open(job(1), 1).unwrap();
    assert!(one.open(job(1), 1).is_none(), "a session is open once");
    first.send(job(1), 1, party(2), Bytes::from_static(b"early"));
    // Frames of a stream keep their order: when this has come, the early one has too.
    let (other_one, other_two) = (one.open(job(2), 1).unwrap(), two.open(job(2), 1).unwrap());
    other_one.send(job(2), 1, party(2), Bytes::from_static(b"live"));
    assert_eq!(within(other_two.recv(job(2), 1)).await.unwrap(), (party(1), Bytes::from_static(b"live")));
    let second = two.open(job(1), 1).unwrap();
    assert_eq!(within(second.recv(job(1), 1)).await.unwrap(), (party(1), Bytes::from_static(b"early")));
    assert_eq!(second.frames(1).len(), 1);
    end_two.cancel();
    assert!(within(second.recv(job(1), 1)).await.is_err(), "a shutdown closes sessions");
    two.stopped().await;
    end_one.cancel();
    one.stopped().await;
}

#[tokio::test]
async fn messages_that_leave_together_share_a_frame() {
    let fixture = Fixture::new(4).await;
    let (one, end_one) = hub(&fixture, fixture.party(1), HubOptions::default()).await;
    let (two, end_two) = hub(&fixture, fixture.party(2), HubOptions::default()).await;
    linked(&one, 1).await;
    linked(&two, 1).await;
    let open = |hub: &Hub| (0..100).map(|byte| hub.open(job(byte), 1).unwrap()).collect::<Vec<_>>();
    let (sending, receiving) = (open(&one), open(&two));
    // No other task runs in between: they are all there when the first frame is made.
    for (byte, session) in (0..).zip(&sending) {
        session.send(job(byte), 1, party(2), vec![byte; 9].into());
    }
    let signer = fixture.manifest.committee.parties[0].signer;
    let committee = fixture.manifest.committee_hash();
    let mut shared = 0;
    for (byte, session) in (0..).zip(&receiving) {
        assert_eq!(within(session.recv(job(byte), 1)).await.unwrap(), (party(1), vec![byte; 9].into()));
        let frames = session.frames(1);
        assert!(frames[0].is_signed_by(signer, &committee, 1, job(byte).as_bytes()), "each is proved alone");
        shared += usize::from(!frames[0].path.is_empty());
    }
    assert_eq!(shared, 100, "two frames, of 64 and 36");
    for (hub, end) in [(one, end_one), (two, end_two)] {
        end.cancel();
        hub.stopped().await;
    }
}

#[tokio::test]
async fn a_party_that_was_away_gets_what_it_lacks() {
    let fixture = Fixture::new(4).await;
    let (one, end_one) = hub(&fixture, fixture.party(1), HubOptions::default()).await;
    // Party 1 sends into nothing and forgets.
    let session = one.open(job(7), 1).unwrap();
    session.send(job(7), 1, party(2), Bytes::from_static(&[1; 3]));
    drop(session);
    // Party 2 has the session open before there is a stream: listed at once.
    for round in 0..2 {
        let (two, end_two) = hub(&fixture, fixture.party(2), HubOptions::default()).await;
        if round == 1 {
            // Opened after the stream is up: asked for a little later.
            linked(&two, 1).await;
        }
        let session = two.open(job(7), 1).unwrap();
        assert_eq!(within(session.recv(job(7), 1)).await.unwrap(), (party(1), Bytes::from_static(&[1; 3])));
        drop(session);
        end_two.cancel();
        two.stopped().await;
        until(async || (one.connected() == 0).then_some(())).await;
    }
    end_one.cancel();
    one.stopped().await;
}

#[tokio::test]
async fn another_committee_is_refused_and_named() {
    let fixture = Fixture::new(4).await;
    let mut stranger = fixture.party(1);
    stranger.committee_hash[0] ^= 1;
    let (ours, theirs) = (hex::encode(fixture.party(2).committee_hash), hex::encode(stranger.committee_hash));
    let (one, end_one) = hub(&fixture, stranger, HubOptions::default()).await;
    let (two, end_two) = hub(&fixture, fixture.party(2), HubOptions::default()).await;
    for (hub, peer) in [(&one, 2), (&two, 1)] {
        let problem = until(async || {
            let status = hub.peers().into_iter().find(|p| p.index == peer)?;
            assert!(!status.connected);
            status.problem.filter(|p| p.contains("committee"))
        });
        let problem = problem.await;
        assert!(problem.contains(&ours) && problem.contains(&theirs), "{problem}");
    }
    assert_eq!((one.connected(), two.connected()), (0, 0));
    end_one.cancel();
    end_two.cancel();
    one.stopped().await;
    two.stopped().await;
}

/// Dials party `to` with the certificate of party 1.
async fn connection(fixture: &Fixture, to: u16) -> tonic::transport::Channel {
    let parties = Parties::new(&fixture.manifest.committee, 1).unwrap();
    let (config, name) = crate::tls::client_config(fixture.leaf(1), &parties, to).unwrap();
    let url = format!("https://{}", fixture.addresses[usize::from(to) - 1]);
    dial::connect(&url, tokio_rustls::TlsConnector::from(config), name).await.unwrap()
}

/// Says `frames` to party 2 in the name of party 1; how party 2 ends the stream.
async fn say(fixture: &Fixture, frames: Vec<Frame>) -> tonic::Status {
    let channel = connection(fixture, 2).await;
    let mut client = kms_proto::peer::peer_client::PeerClient::new(channel);
    let (out, queued) = mpsc::channel(8);
    for frame in frames {
        out.send(frame).await.unwrap();
    }
    let mut stream = client.link(tokio_stream::wrappers::ReceiverStream::new(queued)).await.unwrap().into_inner();
    loop {
        if let Err(status) = within(stream.message()).await {
            return status;
        }
    }
}

#[tokio::test]
async fn connections_of_one_party_keep_nobody_else_out() {
    let fixture = Fixture::new(4).await;
    let (three, end_three) = hub(&fixture, fixture.party(3), HubOptions::default()).await;
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(connection(&fixture, 3).await);
    }
    let (two, end_two) = hub(&fixture, fixture.party(2), HubOptions::default()).await;
    linked(&three, 1).await;
    // The party that has too many gets in as well.
    let (one, end_one) = hub(&fixture, fixture.party(1), HubOptions::default()).await;
    linked(&three, 2).await;
    for (hub, end) in [(one, end_one), (two, end_two), (three, end_three)] {
        end.cancel();
        hub.stopped().await;
    }
}

#[tokio::test]
async fn signatures_beyond_a_peers_rate_are_not_checked() {
    let fixture = Fixture::new(4).await;
    let inbox = InboxLimits { per_second: 0, burst: 1, ..InboxLimits::default() };
    let (two, end_two) = hub(&fixture, fixture.party(2), HubOptions { inbox, misbehave: None }).await;
    let frame = |body| Frame { body: Some(body) };
    let hello = peer::Hello {
        version: 1,
        index: 1,
        committee_hash: fixture.manifest.committee_hash().to_vec(),
        manifest_hash: vec![0; 32],
    };
    let forged = |session: u8| {
        let key = SigningKey::from_slice(&[3; 32]).unwrap();
        frame(Body::Share(frame::sign(&key, &fixture.manifest.committee_hash(), 1, &[session; 32], 1, Bytes::new())))
    };
    let good = |session: u8| {
        let key = SigningKey::from_slice(&[1; 32]).unwrap();
        frame(Body::Share(frame::sign(&key, &fixture.manifest.committee_hash(), 1, &[session; 32], 1, Bytes::new())))
    };
    // One check is left for session 1, none for session 2; that of session 3 is open and always has one.
    let open = two.open(job(3), 1).unwrap();
    let frames = vec![frame(Body::Hello(hello)), good(1), forged(2), good(3), forged(2), Frame { body: None }];
    let status = say(&fixture, frames).await;
    assert!(status.message().contains("body is missing"), "{status:?}");
    assert_eq!(within(open.recv(job(3), 1)).await.unwrap(), (party(1), Bytes::new()));
    end_two.cancel();
    two.stopped().await;
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_cut_off() {
    let fixture = Fixture::new(4).await;
    let (two, end_two) = hub(&fixture, fixture.party(2), HubOptions::default()).await;
    let body = |body| Frame { body: Some(body) };
    let hello = |spoil: &dyn Fn(&mut peer::Hello)| {
        let mut hello = peer::Hello {
            version: 1,
            index: 1,
            committee_hash: fixture.manifest.committee_hash().to_vec(),
            manifest_hash: vec![0; 32],
        };
        spoil(&mut hello);
        body(Body::Hello(hello))
    };
    let good = || hello(&|_| {});
    let share = |signer: u8, payload: usize| {
        let key = SigningKey::from_slice(&[signer; 32]).unwrap();
        let payload = Bytes::from(vec![0; payload]);
        body(Body::Share(frame::sign(&key, &fixture.manifest.committee_hash(), 1, &[1; 32], 1, payload)))
    };
    let shares = |signer: u8, count: usize| {
        let key = SigningKey::from_slice(&[signer; 32]).unwrap();
        let message = |i: usize| Outgoing { session: [1; 32], round: 1, payload: vec![i as u8].into() };
        body(Body::Shares(frame::sign_all(&key, &fixture.manifest.committee_hash(), 1, (0..count).map(message))))
    };
    let session = || vec![0; 31];
    let rows = [
        ("no hello", vec![share(1, 1)], "no hello"),
        ("a version from the future", vec![hello(&|h| h.version = 2)], "version 2"),
        ("the hello of another party", vec![hello(&|h| h.index = 3)], "hello says 3"),
        ("another committee", vec![hello(&|h| h.committee_hash[0] ^= 1)], "is of committee"),
        ("two hellos", vec![good(), good()], "second hello"),
        ("an empty frame", vec![good(), Frame { body: None }], "body is missing"),
        ("a message signed by somebody else", vec![good(), share(3, 1)], "not signed by its sender"),
        ("several messages, signed by somebody else", vec![good(), shares(3, 2)], "not signed by its sender"),
        ("too many messages", vec![good(), shares(1, kms_proto::bounds::MAX_BUNDLE + 1)], "shares.messages"),
        (
            "a short session id",
            vec![good(), body(Body::Resend(peer::Resend { sessions: vec![session()] }))],
            "31 bytes",
        ),
        ("a message over its bound", vec![good(), share(1, kms_proto::bounds::MAX_PAYLOAD + 1)], "payload"),
        ("a frame over all bounds", vec![good(), share(1, 2 * kms_proto::bounds::MAX_PEER_MESSAGE)], "too large"),
    ];
    for (row, frames, expected) in rows {
        let status = say(&fixture, frames).await;
        assert!(status.message().contains(expected), "{row}: {status:?}");
    }
    end_two.cancel();
    two.stopped().await;
}

/// Answers one run: 7 with the question and who asked, 8 never.
struct Answering;

#[tonic::async_trait]
impl KeygenAnswers for Answering {
    async fn answer(&self, peer: u16, run: [u8; 32], question: Bytes) -> Result<Bytes, KeygenAbsence> {
        match run[0] {
            7 => Ok([&[peer as u8], &question[..]].concat().into()),
            // A frame is megabytes.
            6 => Ok([&question[..], &vec![0; 4 << 20]].concat().into()),
            8 => std::future::pending().await,
            9 => Err(KeygenAbsence::Over),
            _ => Err(KeygenAbsence::NotYet),
        }
    }

    fn outcome(&self, run: [u8; 32]) -> KeygenOutcome {
        KeygenOutcome { stage: KeygenStage::Sealed.into(), key_id: run.to_vec() }
    }
}

#[tokio::test]
async fn questions_of_key_generations_go_both_ways_and_name_who_asks() {
    let fixture = Fixture::new(4).await;
    let (one, end_one) = hub(&fixture, fixture.party(1), HubOptions::default()).await;
    let (two, end_two) = hub(&fixture, fixture.party(2), HubOptions::default()).await;
    let question = Bytes::from_static(b"what");
    // Nobody answers yet.
    assert_eq!(within(one.ask(2, [7; 32], question.clone())).await, Err(Unanswered::NotYet));
    one.keygen_answers(Arc::new(Answering));
    two.keygen_answers(Arc::new(Answering));
    assert_eq!(within(one.ask(2, [7; 32], question.clone())).await.unwrap(), b"\x01what"[..]);
    assert_eq!(within(two.ask(1, [7; 32], question.clone())).await.unwrap(), b"\x02what"[..]);
    assert_eq!(within(one.ask(2, [9; 32], question.clone())).await, Err(Unanswered::Over));
    assert_eq!(within(one.ask(2, [1; 32], question.clone())).await, Err(Unanswered::NotYet));
    // More of them than are worked on at a time, and answers of megabytes.
    let large = Bytes::from(vec![5; kms_proto::bounds::MAX_KEYGEN_QUESTION]);
    let asking = (0..40).map(|_| one.ask(2, [6; 32], large.clone()));
    let answers = within(futures::future::try_join_all(asking)).await.unwrap();
    assert!(answers.iter().all(|answer| answer.len() == large.len() + (4 << 20)));
    let beyond = Bytes::from(vec![5; kms_proto::bounds::MAX_KEYGEN_QUESTION + 1]);
    assert_eq!(within(one.ask(2, [7; 32], beyond)).await, Err(Unanswered::Refused));
    let outcome = within(one.keygen_outcome(2, [3; 32])).await.unwrap();
    assert_eq!((outcome.stage(), outcome.key_id), (KeygenStage::Sealed, vec![3; 32]));
    // Those that are not there.
    assert_eq!(within(one.ask(3, [7; 32], question.clone())).await, Err(Unanswered::Unreachable));
    assert_eq!(within(one.ask(9, [7; 32], question.clone())).await, Err(Unanswered::Unreachable));
    // A held question ends with the party.
    let held = one.ask(2, [8; 32], question);
    let ended = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        end_two.cancel();
    };
    let (outcome, ()) = within(futures::future::join(held, ended)).await;
    assert_eq!(outcome, Err(Unanswered::Unreachable));
    two.stopped().await;
    end_one.cancel();
    one.stopped().await;
}
