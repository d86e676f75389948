//! User decryptions: real keys and blocks; the chain and the object store are tables.

use std::sync::atomic::Ordering::SeqCst;

use alloy_primitives::Address;
use k256::ecdsa::SigningKey;
use kms_chain::eip712::sign_digest;
use kms_chain::handle::Handle;
use kms_chain::permit::{Permit, UserRequest};
use kms_chain::user_view::UserRefusal;
use kms_client::user::{Kem, UserResponse};
use kms_client::verify::user_message;
use kms_proto::node::user_decrypt_response::Outcome as UserOutcome;

use super::*;
use crate::store::UserAnswer;
use crate::testkit::user::{CONTRACT, START, User};

async fn ask(node: &Node, request: &UserRequest) -> UserOutcome {
    let outcome = node.engine.user_decrypt(user_message(request), WAIT, None).await.unwrap();
    let response = node::UserDecryptResponse { outcome: Some(outcome) };
    kms_proto::bounds::check_user_decrypt_response(&response).unwrap();
    response.outcome.unwrap()
}

async fn answer(node: &Node, request: &UserRequest) -> UserResponse {
    match ask(node, request).await {
        UserOutcome::Answer(a) => {
            UserResponse { share: a.share.into(), signature: a.signature.into(), extra_data: a.extra_data.into() }
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refusal(outcome: UserOutcome, reason: RefusedReason) -> String {
    match outcome {
        UserOutcome::Refused(refused) => {
            assert_eq!(refused.reason(), reason, "{}", refused.detail);
            refused.detail
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn waiting(outcome: UserOutcome, reason: NotYetReason) {
    match outcome {
        UserOutcome::NotYet(not_yet) => assert_eq!(not_yet.reason(), reason, "{}", not_yet.detail),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_reads_what_three_parties_seal_that_never_meet() {
    for kem in [Kem::MlKem768, Kem::MlKem512] {
        let cluster = Cluster::new(&values()).await;
        let user = User::new(9, kem);
        let request = user.request(&cluster, &cluster.handles);
        let mut reader = user.reader(&cluster, &request);
        for index in 1..=3 {
            // Alone: when the next one starts this one is gone.
            let node = cluster.start(index, None).await;
            reader.add(&answer(&node, &request).await).unwrap();
            node.stop().await;
        }
        let result = reader.reconstruct().unwrap();
        let got: Vec<_> = result.values.iter().map(|(_, value)| (value.ty(), value.value())).collect();
        let expected: Vec<_> = values().into_iter().map(|(ty, value)| (ty, kms_encoding::Word::from(value))).collect();
        assert_eq!(got, expected);
        assert_eq!((result.group.epoch, result.group.key), (EPOCH, KEY));
        assert!(result.progress.wrong.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_a_function_of_keys_and_ciphertexts() {
    let cluster = Cluster::new(&values()).await;
    let node = cluster.start(1, None).await;
    let (alice, bob) = (User::new(9, Kem::MlKem768), User::new(10, Kem::MlKem512));
    let (first, second) = (alice.request(&cluster, &cluster.handles), bob.request(&cluster, &cluster.handles));
    let [once, again] = [answer(&node, &first).await, answer(&node, &first).await];
    assert_ne!(once.share, again.share, "every envelope is new");
    let words = alice.words(&cluster, &first, &once);
    assert_eq!(words, alice.words(&cluster, &first, &again));
    assert_eq!(words, bob.words(&cluster, &second, &answer(&node, &second).await));
    assert_eq!(cluster.world.fetches.begun.load(SeqCst), 3, "who reads again costs no fetching");
    // They are the words that the parties send each other to open the same ciphertexts in public.
    let pull = cluster.call_for(1, &cluster.handles);
    node.engine.decrypt(pull.clone(), Duration::from_millis(1), ()).await.unwrap();
    let opening = async || {
        let jobs = node.engine.inner.jobs.lock();
        jobs.values().next().map(|job| job.own().words())
    };
    assert_eq!(words.words(), until(opening).await);
    // While that job waits for the other parties its share is not computed again, and it is the same.
    assert_eq!(words, alice.words(&cluster, &first, &answer(&node, &first).await));
    // A share that is sealed for a user is not there for peers: only what is opened in public is sent to them.
    let reversed: Vec<_> = cluster.handles.iter().rev().copied().collect();
    answer(&node, &alice.request(&cluster, &reversed)).await;
    assert_eq!((node.engine.inner.shares.lock().len(), node.engine.inner.jobs.lock().len()), (0, 1));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_need_no_chain_are_applied_before_it_is_asked() {
    type Change = fn(&mut UserRequest);
    let cluster = Cluster::new(&values()).await;
    let node = cluster.start(1, None).await;
    let user = User::new(9, Kem::MlKem768);
    let broken: [(&str, RefusedReason, Change); 14] = [
        ("Days", RefusedReason::Permit, |r| r.permit.days = 0),
        ("Days", RefusedReason::Permit, |r| r.permit.days = 366),
        ("ContractCount", RefusedReason::Permit, |r| r.permit.contracts.clear()),
        ("UserInContracts", RefusedReason::Permit, |r| r.permit.contracts.push(r.permit.user)),
        ("DelegatorInContracts", RefusedReason::Permit, |r| r.permit.delegator = Some(CONTRACT)),
        ("OwnDelegate", RefusedReason::Permit, |r| r.permit.delegator = Some(r.permit.user)),
        ("ContractNotInPermit", RefusedReason::Permit, |r| r.pairs[1].contract = Address::ZERO),
        ("PublicKey", RefusedReason::Permit, |r| r.permit.public_key = vec![0; 1183].into()),
        // Coefficients of 12 ones each: not below the modulus.
        ("PublicKey", RefusedReason::Permit, |r| r.permit.public_key = vec![0xff; 1184].into()),
        ("UnknownExtraDataVersion", RefusedReason::Permit, |r| r.permit.extra_data = vec![9].into()),
        ("BoundToRequest", RefusedReason::Permit, |r| r.permit.extra_data = [vec![3], vec![0; 96]].concat().into()),
        ("RepeatedHandle", RefusedReason::Malformed, |r| r.pairs[1] = r.pairs[0]),
        ("EmptyHandles", RefusedReason::Malformed, |r| r.pairs.clear()),
        ("this party does not serve chain 5", RefusedReason::UnknownChain, |r| r.host_chain_id = 5),
    ];
    for (label, reason, change) in broken {
        let request = user.request_with(&cluster, &cluster.handles, change);
        let detail = refusal(ask(&node, &request).await, reason);
        assert!(detail.starts_with(label), "{label}: {detail}");
    }
    let ten = user.request_with(&cluster, &cluster.handles, |r| r.permit.contracts = vec![CONTRACT; 10]);
    answer(&node, &ten).await;
    let eleven = user.request_with(&cluster, &cluster.handles, |r| r.permit.contracts = vec![CONTRACT; 11]);
    refusal(ask(&node, &eleven).await, RefusedReason::Malformed);
    let elsewhere = ExtraData::V1 { context: KEY }.encode();
    let foreign = user.request_with(&cluster, &cluster.handles, |r| r.permit.extra_data = elsewhere);
    assert!(refusal(ask(&node, &foreign).await, RefusedReason::Context).starts_with("WrongContext: "));
    let unsigned = UserRequest { signature: Default::default(), ..ten.clone() };
    refusal(ask(&node, &unsigned).await, RefusedReason::Signature);
    // Another signer, another statement, another chain's domain: not this user's wallet, and it has no contract.
    let contract = cluster.fixture.manifest.decryption_domain.verifying_contract;
    let sign = |key: &SigningKey, chain| sign_digest(key, ten.permit.digest(chain, contract)).to_vec().into();
    let other = UserRequest { permit: Permit { days: 364, ..ten.permit.clone() }, ..ten.clone() };
    let foreign = UserRequest { signature: sign(&user.wallet, CHAIN + 1), ..ten.clone() };
    let stranger = UserRequest { signature: sign(&User::new(10, Kem::MlKem512).wallet, CHAIN), ..ten.clone() };
    for request in [other, foreign, stranger] {
        refusal(ask(&node, &request).await, RefusedReason::Signature);
    }
    let text = node.metrics.render();
    for line in [
        "kms_node_user_decryptions_total{outcome=\"refused\",reason=\"permit\"} 11",
        "kms_node_user_decryptions_total{outcome=\"refused\",reason=\"signature\"} 4",
        "kms_node_user_decryptions_total{outcome=\"refused\",reason=\"malformed\"} 3",
        "kms_node_user_decryptions_total{outcome=\"answered\",reason=\"\"} 1",
        "kms_node_user_decrypt_seconds_count 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} not in\n{text}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_epoch_is_the_one_whose_shares_are_used() {
    let cluster = Cluster::new(&values()).await;
    let node = cluster.start(1, None).await;
    let (user, context) = (User::new(9, Kem::MlKem768), cluster.world.context);
    let naming = |epoch| {
        let extra_data = ExtraData::V2 { context, epoch }.encode();
        user.request_with(&cluster, &cluster.handles, |r| r.permit.extra_data = extra_data)
    };
    assert_eq!(answer(&node, &naming(EPOCH)).await.extra_data, naming(EPOCH).permit.extra_data);
    let other = B256::repeat_byte(0x77);
    let UserOutcome::EpochNotLive(epochs) = ask(&node, &naming(other)).await else { panic!() };
    assert_eq!(epochs.live, [EPOCH.to_vec()]);
    // It holds that one too, but for another key.
    node.keys.insert(cluster.other_share(B256::repeat_byte(0x66), other));
    let UserOutcome::EpochNotLive(epochs) = ask(&node, &naming(other)).await else { panic!() };
    assert_eq!(epochs.live, [EPOCH.to_vec()]);
    // 0x00 and nothing are one meaning, and travel as they are.
    for extra_data in [vec![], vec![0]] {
        let request = user.request_with(&cluster, &cluster.handles, |r| r.permit.extra_data = extra_data.into());
        assert_eq!(answer(&node, &request).await.extra_data, request.permit.extra_data);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_request_is_checked_like_a_new_one_and_every_answer_is_audited() {
    let cluster = Cluster::new(&values()).await;
    let node = cluster.start(1, None).await;
    let user = User::new(9, Kem::MlKem768);
    let request = user.request(&cluster, &cluster.handles);
    for _ in 0..2 {
        answer(&node, &request).await;
    }
    let says = |verdict| *cluster.world.says.lock() = Some(verdict);
    says(Verdict::Refused(Refusal::User(UserRefusal::PermitInvalidated { start: START, before: START + 1 })));
    refusal(ask(&node, &request).await, RefusedReason::Permit);
    let delegator = Address::repeat_byte(1);
    let none = UserRefusal::NotDelegated { delegator, delegate: request.permit.user, contract: CONTRACT };
    says(Verdict::Refused(Refusal::User(none)));
    assert!(refusal(ask(&node, &request).await, RefusedReason::Delegation).contains(&delegator.to_string()));
    // The guard has granted something else than was asked: a fault, and no share.
    says(cluster.world.allows(CHAIN, cluster.handles.iter().skip(1).map(|handle| (*handle, KEY))));
    waiting(ask(&node, &request).await, NotYetReason::Internal);
    // Keys that this party does not hold, or two of them.
    let other = B256::repeat_byte(0x66);
    says(cluster.world.allows(CHAIN, cluster.handles.iter().map(|handle| (*handle, other))));
    refusal(ask(&node, &request).await, RefusedReason::Key);
    node.keys.insert(cluster.other_share(other, EPOCH));
    says(
        cluster.world.allows(CHAIN, cluster.handles.iter().zip([KEY, other, KEY]).map(|(handle, key)| (*handle, key))),
    );
    refusal(ask(&node, &request).await, RefusedReason::Key);
    *cluster.world.says.lock() = None;
    let unsigned = UserRequest { signature: vec![1; 65].into(), ..request.clone() };
    refusal(ask(&node, &unsigned).await, RefusedReason::Signature);

    let contract = cluster.fixture.manifest.decryption_domain.verifying_contract;
    let rows = node.engine.inner.parts.store.user_answers(10).await.unwrap();
    let expected = UserAnswer {
        id: request.id(contract),
        epoch_id: EPOCH,
        key_id: KEY,
        chain_id: CHAIN,
        user: request.permit.user,
        delegator: None,
        permit_hash: request.permit.digest(CHAIN, contract),
        handles: cluster.handles.clone(),
        block_number: 1,
    };
    assert_eq!(rows.iter().map(|row| (row.answer.clone(), row.times)).collect::<Vec<_>>(), [(expected, 2)]);
    assert!(rows[0].first_at > 0 && rows[0].first_at <= rows[0].last_at);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_verdict_is_asked_for_again_before_a_share_is_sealed() {
    let cluster = Cluster::new(&values()).await;
    let options = EngineOptions { verdict_age: Duration::ZERO, ..EngineOptions::default() };
    let node = cluster.start_with(1, None, options).await;
    let user = User::new(9, Kem::MlKem768);
    let request = user.request(&cluster, &cluster.handles);
    answer(&node, &request).await;
    // The right is taken away while the ciphertexts are fetched.
    let taken = Refusal::User(UserRefusal::PermitInvalidated { start: START, before: START + 1 });
    *cluster.world.says_next.lock() = Some(Verdict::Refused(taken));
    let other = user.request(&cluster, &cluster.handles[..1]);
    refusal(ask(&node, &other).await, RefusedReason::Permit);
    assert_eq!(node.engine.inner.parts.store.user_answers(10).await.unwrap().len(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_is_named_by_the_user_and_a_silent_party_is_missing() {
    let cluster = Cluster::new(&values()).await;
    let user = User::new(9, Kem::MlKem768);
    let request = user.request(&cluster, &cluster.handles);
    for lie in [Misbehave::WrongShare, Misbehave::Garbage] {
        let mut reader = user.reader(&cluster, &request);
        for index in 1..=4 {
            let node = cluster.start(index, (index == 2).then_some(lie)).await;
            reader.add(&answer(&node, &request).await).unwrap();
            node.stop().await;
        }
        let result = reader.reconstruct().unwrap();
        assert_eq!(
            (result.agreeing.to_string(), result.progress.culprits().to_string()),
            ("1, 3, 4".into(), "2".into())
        );
    }
    let silent = cluster.start(2, Some(Misbehave::Silent)).await;
    waiting(ask(&silent, &request).await, NotYetReason::InProgress);
    silent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_ciphertexts_wait_for_room_and_for_the_object_store() {
    let cluster = Cluster::new(&[(FheType::Uint64, 5); 6]).await;
    let dimension = kms_encoding::ParamsId::InsecureTest.dimension(kms_encoding::SecretKeyKind::Squashing);
    let in_flight = 2 * 2 * (crate::engine::weight::bytes_of(FheType::Uint64, dimension) + 1024);
    let node = cluster.start_with(1, None, EngineOptions { in_flight, ..EngineOptions::default() }).await;
    let fetches = &cluster.world.fetches;
    fetches.hold();
    let user = User::new(9, Kem::MlKem768);
    let requests: Vec<_> = cluster.handles.iter().map(|handle| user.request(&cluster, &[*handle])).collect();
    let asking = futures::future::join_all(requests.iter().map(|request| answer(&node, request)));
    let watching = async {
        until(async || (fetches.now.load(SeqCst) == 2).then_some(())).await;
        for done in 0..6 {
            assert!(fetches.now.load(SeqCst) <= 2);
            fetches.let_go(1);
            until(async || (fetches.begun.load(SeqCst) >= (done + 3).min(6)).then_some(())).await;
        }
    };
    let (answers, ()) = tokio::join!(asking, watching);
    assert_eq!((answers.len(), node.engine.inner.scales.taken()), (6, 0));
    // Who asks for what takes too long is told to come again, and gives up its room.
    let message = user_message(&user.request(&cluster, &cluster.handles[..2]));
    waiting(node.engine.user_decrypt(message, Duration::from_millis(1), None).await.unwrap(), NotYetReason::InProgress);
    assert_eq!(node.engine.inner.scales.taken(), 0);
    // A digest that no store knows, and a ciphertext of another size than its type.
    fetches.let_go(100);
    let missing = Handle::new([99; 21], 0xff, CHAIN, FheType::Bool).raw();
    waiting(ask(&node, &user.request(&cluster, &[missing])).await, NotYetReason::CiphertextUnavailable);
    node.stop().await;
}
