//! Four parties in one process, over real mutual TLS, decrypt real blocks; the chain and the object store are tables.

use alloy_primitives::U256;
use kms_chain::eip712::{DecryptionReceipt, receipt_digest, recover};
use kms_chain::extra_data::ExtraData;
use kms_encoding::FheType;
use kms_proto::node::{DecryptRequest, NotYetReason, RefusedReason, decrypt_request};

mod faults;
mod links;
mod load;
mod user;

use super::*;
use crate::guard::Refusal;
use crate::misbehave::Misbehave;
use crate::store::NewRequest;
use crate::testkit::cluster::{Cluster, EPOCH, KEY, Node, WAIT};
use crate::testkit::{CHAIN, until};

fn bits(bitmap: &[u8]) -> u64 {
    U256::from_be_slice(bitmap).to()
}

fn metric(node: &Node, name: &str) -> f64 {
    let text = node.metrics.render();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().parse().unwrap()
}

/// What must come in time if at all: the limit only keeps a broken test from hanging.
async fn settled(node: &Node, call: Call) -> Outcome {
    node.engine.decrypt(call, WAIT, ()).await.unwrap()
}

fn values() -> Vec<(FheType, u64)> {
    vec![(FheType::Uint64, 0xdead_beef_0123_4567), (FheType::Bool, 1), (FheType::Uint8, 200)]
}

#[tokio::test(flavor = "multi_thread")]
async fn four_parties_answer_and_repeat_their_answer() {
    let cluster = Cluster::new(&values()).await;
    let nodes = cluster.start_all(&[]).await;
    let all: Vec<_> = (1u16..).zip(&nodes).collect();
    let id = cluster.ask(&all, &cluster.v1()).await;
    for (index, node) in &all {
        let (index, receipt) = (*index, node.receipt(id).await);
        assert_eq!((bits(&receipt.arrived), bits(&receipt.late), bits(&receipt.wrong)), (15, 0, 0));
        kms_proto::bounds::check_receipt(&receipt).unwrap();
        let statement = DecryptionReceipt {
            requestId: id,
            contextId: cluster.world.context,
            epochId: EPOCH,
            keyId: KEY,
            arrived: U256::from(15),
            late: U256::ZERO,
            wrong: U256::ZERO,
            mpcMicros: receipt.mpc_micros,
        };
        let digest = receipt_digest(&cluster.fixture.manifest.decryption_domain.eip712(), &statement);
        let signature = receipt.signature.as_slice().try_into().unwrap();
        assert_eq!(recover(digest, &signature).unwrap(), cluster.fixture.party(index).address());
        // Signing comes after the opening, and its time is in the receipt.
        let opening = metric(node, "kms_node_mpc_seconds_sum");
        assert!(receipt.mpc_micros as f64 / 1e6 > opening, "{} us, opened in {opening} s", receipt.mpc_micros);
    }
    // The same request again, now from the store; then the same ciphertexts for another request.
    cluster.ask(&all, &cluster.v1()).await;
    let other = cluster.ask(&all, &[]).await;
    assert_ne!(id, other);
    assert_eq!(bits(&nodes[0].receipt(other).await.arrived), 15);
    assert_eq!(nodes[0].engine.running(), 0);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_party_is_outvoted_and_named() {
    for (lie, expected) in [
        (Misbehave::WrongShare, (0b0111, 0, 0b1000)),
        (Misbehave::Garbage, (0b0111, 0, 0b1000)),
        (Misbehave::Silent, (0b0111, 0b1000, 0)),
    ] {
        let cluster = Cluster::new(&values()).await;
        let nodes = cluster.start_all(&[(4, lie)]).await;
        let honest: Vec<_> = (1u16..).zip(&nodes[..3]).collect();
        let id = cluster.call(4, cluster.v1()).id();
        let liar = nodes[3].engine.decrypt(cluster.call(4, cluster.v1()), WAIT, ());
        let extra_data = cluster.v1();
        let (_, asked) = tokio::join!(liar, cluster.ask(&honest, &extra_data));
        assert_eq!(asked, id);
        for (_, node) in &honest {
            let receipt = node.receipt(id).await;
            let got = (bits(&receipt.arrived), bits(&receipt.late), bits(&receipt.wrong));
            assert_eq!(got, expected, "{lie:?}");
            let count = node.engine.count(4);
            assert_eq!((count.wrong, count.late), (u64::from(expected.2 != 0), u64::from(expected.1 != 0)), "{lie:?}");
            if expected.2 != 0 {
                assert_eq!((receipt.evidence.len(), receipt.evidence[0].party), (1, 4), "{lie:?}");
                assert!(!receipt.evidence[0].frames.is_empty());
                assert!(node.metrics.render().contains("kms_node_peer_wrong_total{peer=\"4\"} 1"), "{lie:?}");
            }
        }
        for node in nodes {
            node.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_party_that_was_away_catches_up() {
    let cluster = Cluster::new(&values()).await;
    let mut nodes = Vec::new();
    for index in 1..=3 {
        nodes.push(cluster.start(index, None).await);
    }
    let three: Vec<_> = (1u16..).zip(&nodes).collect();
    let id = cluster.ask(&three, &cluster.v1()).await;
    assert_eq!(bits(&nodes[0].receipt(id).await.late), 0b1000);
    // Their jobs have ended, and one of them has even forgotten everything but its database.
    let third = nodes.pop().unwrap();
    third.stop().await;
    nodes.push(cluster.start(3, None).await);
    nodes.push(cluster.start(4, None).await);
    cluster.ask(&[(4, &nodes[3])], &cluster.v1()).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_parties_wait_and_finish_by_themselves_when_one_returns() {
    let cluster = Cluster::new(&values()).await;
    let (one, two) = (cluster.start(1, None).await, cluster.start(2, None).await);
    let three = cluster.start(3, None).await;
    let id = cluster.call(1, cluster.v1()).id();
    for (index, node) in [(1, &one), (2, &two)] {
        let outcome =
            node.engine.decrypt(cluster.call(index, cluster.v1()), Duration::from_millis(1), ()).await.unwrap();
        assert!(matches!(outcome, Outcome::NotYet(_)), "{outcome:?}");
    }
    // The third takes part and dies before anything is decided, and so does the second.
    three.stop().await;
    until(async || {
        let status = two.engine.status(id).await.unwrap();
        (status.stage() == node::Stage::Opening).then_some(())
    })
    .await;
    two.stop().await;
    let (two, three) = (cluster.start(2, None).await, cluster.start(3, None).await);
    assert_eq!(two.engine.resume().await.unwrap(), 1);
    let outcome = three.engine.decrypt(cluster.call(3, cluster.v1()), WAIT, ()).await.unwrap();
    cluster.check(3, &cluster.v1(), &outcome);
    // Nobody asks the first two: they have it all the same.
    for (index, node) in [(1, &one), (2, &two)] {
        let answer = until(async || node.engine.status(id).await.unwrap().answer).await;
        cluster.check(index, &cluster.v1(), &Outcome::Answer(answer));
        node.receipt(id).await;
    }
    for node in [one, two, three] {
        node.stop().await;
    }
}

#[tokio::test]
async fn calls_that_can_not_be_answered_say_why() {
    let cluster = Cluster::new(&[(FheType::Bool, 1)]).await;
    let party = cluster.fixture.party(1);
    let good = || cluster.raw(Vec::new());
    let context = cluster.world.context;
    let with_extra = |extra: ExtraData| cluster.raw(extra.encode().to_vec());
    let handle = |spoil: &dyn Fn(&mut Vec<u8>)| {
        let mut raw = good();
        if let Some(decrypt_request::Source::Public(r)) = &mut raw.source {
            spoil(&mut r.handles[0]);
        }
        raw
    };
    let rows = [
        ("no source", DecryptRequest { source: None, ..good() }, RefusedReason::Malformed),
        ("short epoch", DecryptRequest { epoch_id: vec![1], ..good() }, RefusedReason::Malformed),
        ("unknown chain", DecryptRequest { chain_id: 5, ..good() }, RefusedReason::UnknownChain),
        ("foreign chain in a handle", handle(&|h| h[29] ^= 1), RefusedReason::Malformed),
        ("unknown type", handle(&|h| h[30] = 99), RefusedReason::Malformed),
        ("extra data of another context", with_extra(ExtraData::V1 { context: KEY }), RefusedReason::Context),
        ("extra data of another epoch", with_extra(ExtraData::V2 { context, epoch: KEY }), RefusedReason::Malformed),
        (
            "extra data of a gateway request",
            with_extra(ExtraData::V3 { context, epoch: EPOCH, request_id: KEY }),
            RefusedReason::Malformed,
        ),
        ("bad extra data", cluster.raw(vec![9]), RefusedReason::Malformed),
    ];
    for (row, raw, reason) in rows {
        let refused = Call::parse(&party, raw).map(drop).expect_err(row);
        assert_eq!(refused.reason(), reason, "{row}: {}", refused.detail);
    }
    let node = cluster.start(1, None).await;
    let other = DecryptRequest { epoch_id: KEY.to_vec(), ..good() };
    let outcome = node.engine.decrypt(Call::parse(&party, other).unwrap(), WAIT, ()).await.unwrap();
    let Outcome::EpochNotLive(live) = outcome else { panic!("{outcome:?}") };
    assert_eq!(live.live, [EPOCH.to_vec()]);
    assert_eq!(node.engine.status(KEY).await.unwrap().stage(), node::Stage::Unknown);
    node.stop().await;
}

#[tokio::test]
async fn handles_that_no_share_here_opens_are_refused_by_their_key() {
    const OTHER: B256 = B256::repeat_byte(0x33);
    let cluster = Cluster::new(&[(FheType::Bool, 1), (FheType::Bool, 0)]).await;
    let node = cluster.start(1, None).await;
    let under = |first, second| cluster.world.allows(CHAIN, cluster.handles.iter().copied().zip([first, second]));
    for (verdict, expected) in [(under(KEY, OTHER), "two keys"), (under(OTHER, OTHER), "no usable share")] {
        *cluster.world.says.lock() = Some(verdict);
        let outcome = settled(&node, cluster.call(1, Vec::new())).await;
        let Outcome::Refused(refused) = outcome else { panic!("{outcome:?}") };
        assert_eq!(refused.reason(), RefusedReason::Key);
        assert!(refused.detail.contains(expected), "{}", refused.detail);
    }
    // Held, but in another epoch than the one that is named: that of some other key.
    node.keys.insert(cluster.other_share(OTHER, OTHER));
    let outcome = settled(&node, cluster.call(1, Vec::new())).await;
    assert_eq!(outcome, Outcome::EpochNotLive(node::EpochNotLive { live: vec![OTHER.to_vec()] }));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_a_later_block_may_take_back_ends_nothing() {
    let cluster = Cluster::new(&values()).await;
    let call = || cluster.call(1, cluster.v1());
    let key = call().key();
    let store = cluster.store(1).await;
    let one = cluster.start(1, None).await;
    let outcome = one.engine.decrypt(call(), Duration::from_millis(1), ()).await.unwrap();
    assert!(matches!(outcome, Outcome::NotYet(_)), "{outcome:?}");
    until(async || store.request(key).await.unwrap().filter(|row| row.stage == Stage::Opening)).await;
    one.stop().await;
    // After the restart its endpoint lags behind, or the chain was reorganised.
    let (account, handle) = (alloy_primitives::Address::ZERO, cluster.handles[0]);
    let (requested, own) = (KEY, cluster.world.context);
    let one = cluster.start(1, None).await;
    for fleeting in [Refusal::NotPermitted { account, handle }, Refusal::WrongContext { requested, own }] {
        *cluster.world.says.lock() = Some(Verdict::Refused(fleeting));
        let outcome = settled(&one, call()).await;
        assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        assert_eq!(store.request(key).await.unwrap().unwrap().stage, Stage::Opening);
    }
    *cluster.world.says.lock() = None;
    let (two, three) = (cluster.start(2, None).await, cluster.start(3, None).await);
    cluster.ask(&[(1, &one), (2, &two), (3, &three)], &cluster.v1()).await;
    // One that lasts ends what was recorded.
    let other = cluster.call(1, Vec::new());
    let recorded = NewRequest { id: other.id, chain_id: CHAIN, epoch_id: EPOCH, payload: Vec::new() };
    store.insert_request(recorded).await.unwrap();
    *cluster.world.says.lock() = Some(Verdict::Refused(Refusal::Cancelled));
    settled(&one, other.clone()).await;
    assert_eq!(store.request(other.key()).await.unwrap().unwrap().stage, Stage::Refused);
    for node in [one, two, three] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_party_reaches_the_refusal_of_the_others() {
    // Half a step more noise: no value is there.
    let cluster = Cluster::with_noise(&values(), 1 << 122).await;
    let mut nodes = Vec::new();
    for index in 1..=3 {
        nodes.push(cluster.start(index, None).await);
    }
    let asking = (1u16..).zip(&nodes).map(|(index, node)| settled(node, cluster.call(index, cluster.v1())));
    let outcomes = futures::future::join_all(asking).await;
    // Two of them stay, and remember nothing but their databases.
    for node in nodes {
        node.stop().await;
    }
    let mut nodes = Vec::new();
    for index in [1, 3, 4] {
        nodes.push(cluster.start(index, None).await);
    }
    let late = settled(&nodes[2], cluster.call(4, cluster.v1())).await;
    for outcome in [&outcomes[0], &outcomes[1], &outcomes[2], &late] {
        let Outcome::Refused(refused) = outcome else { panic!("{outcome:?}") };
        assert_eq!(refused.reason(), RefusedReason::Ciphertext);
    }
    assert_eq!(outcomes[0], late);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_refusal_hides_neither_share_nor_answer_of_the_job() {
    let cluster = Cluster::new(&values()).await;
    let mut nodes = Vec::new();
    for index in 1..=3 {
        nodes.push(cluster.start(index, None).await);
    }
    let three: Vec<_> = (1u16..).zip(&nodes).collect();
    cluster.ask(&three, &cluster.v1()).await;
    for node in nodes {
        node.stop().await;
    }
    let answered = cluster.call(1, cluster.v1()).key();
    let refused = cluster.call(1, Vec::new()).key();
    for index in [1, 3] {
        let store = cluster.store(index).await;
        let row = store.request(answered).await.unwrap().unwrap();
        let newer = NewRequest { id: refused.id, chain_id: CHAIN, epoch_id: EPOCH, payload: Vec::new() };
        store.insert_request(newer).await.unwrap();
        assert!(store.open_request(refused, row.job_id, row.payload).await.unwrap());
        assert!(store.refuse(refused, Vec::new(), "cancelled".into()).await.unwrap());
    }
    let mut nodes = Vec::new();
    for index in [1, 3, 4] {
        nodes.push(cluster.start(index, None).await);
    }
    cluster.ask(&[(4, &nodes[2])], &cluster.v1()).await;
    // The answer is used again without another opening.
    let context = cluster.world.context;
    let third = ExtraData::V2 { context, epoch: EPOCH }.encode();
    cluster.ask(&[(1, &nodes[0])], &third).await;
    assert!((metric(&nodes[0], "kms_node_mpc_seconds_count")).abs() < f64::EPSILON);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_one_epoch_is_none_of_another() {
    const NEXT: B256 = B256::repeat_byte(0x44);
    let cluster = Cluster::new(&values()).await;
    let nodes = cluster.start_all(&[]).await;
    let all: Vec<_> = (1u16..).zip(&nodes).collect();
    let id = cluster.ask(&all, &cluster.v1()).await;
    nodes[0].receipt(id).await;
    // The epoch changes at party 1; a call for it starts anew, and the old answer stays what it was.
    nodes[0].keys.insert(cluster.other_share(KEY, NEXT));
    let raw = DecryptRequest { epoch_id: NEXT.to_vec(), ..cluster.raw(cluster.v1()) };
    let call = Call::parse(&cluster.fixture.party(1), raw).unwrap();
    assert_eq!(call.id(), id);
    let outcome = nodes[0].engine.decrypt(call, Duration::from_millis(1), ()).await.unwrap();
    let Outcome::NotYet(waits) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(waits.reason(), NotYetReason::InProgress);
    cluster.check(1, &cluster.v1(), &settled(&nodes[0], cluster.call(1, cluster.v1())).await);
    until(async || (nodes[0].engine.status(id).await.unwrap().stage() == node::Stage::Opening).then_some(())).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_keeps_asking_keeps_nobody_else_waiting() {
    let cluster = Cluster::new(&values()).await;
    let nodes = cluster.start_all(&[]).await;
    let all: Vec<_> = (1u16..).zip(&nodes).collect();
    let id = cluster.ask(&all, &cluster.v1()).await;
    nodes[0].receipt(id).await;
    for node in nodes {
        node.stop().await;
    }
    let one = cluster.start(1, None).await;
    let row = cluster.store(1).await.latest_request(id).await.unwrap().unwrap();
    let job = JobId::from_bytes(row.job_id.0);
    {
        let inner = &one.engine.inner;
        let busy = inner.turns.of(4).await;
        let mut flood = std::pin::pin!(inner.message(4, job));
        tokio::select! {
            biased;
            _ = &mut flood => panic!("two questions of one peer at the same time"),
            message = inner.message(3, job) => assert!(message.unwrap().is_some()),
        }
        drop(busy);
        assert!(flood.await.unwrap().is_some());
    }
    one.stop().await;
}
