//! User decryptions over a real socket: permits are refused early, shares are collected from parties that sign for real.

use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes};
use kms_chain::FheType;
use kms_chain::permit::{HandleContract, UserRequest};
use kms_chain::user_view::UserView;
use kms_client::transport::RefusedReason;
use kms_relayer::clock::now_ms;
use kms_relayer::state::State;
use serde_json::{Value, json};

use crate::support::{CHAIN, handle, open};
use crate::user_support::{
    DELEGATOR, DOMAIN, FakeView, Line, Relayer, START, Stub, USER_CONTRACT, body, request, signature, user_handle,
};

#[tokio::test]
async fn shares_are_shown_from_2t_plus_1_on_and_more_come_until_all_are_in() {
    let mut relayer = Relayer::start(Stub::new([Line::Share(1), Line::Share(1), Line::NotYet, Line::Silent])).await;
    let request = request(|_| {});
    let queued = relayer.post(&request).await;
    let id = request.id(DOMAIN.verifying_contract);
    assert_eq!((queued.status, queued.body["status"].as_str()), (202, Some("queued")));
    assert_eq!(queued.body["result"]["jobId"].as_str(), Some(id.to_string().as_str()));
    assert_eq!(queued.body["requestId"], queued.body["result"]["jobId"]);
    assert!(queued.retry_after.is_some_and(|s| (1..=300).contains(&s)));
    relayer.work();
    while relayer.parties.times_asked(3) < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let running = relayer.get(&request).await;
    assert_eq!((running.status, running.body["status"].as_str()), (202, Some("queued")), "two are not enough");
    assert!(running.retry_after.is_some());

    relayer.parties.set(3, [Line::Share(1)]);
    let first = relayer.until(&request, |reply| reply.status == 200).await;
    assert_eq!(first.body["status"].as_str(), Some("succeeded"));
    assert_eq!((relayer.authors(&request, &first), first.collecting()), (vec![1, 2, 3], true));
    assert!(first.retry_after.is_some(), "while it collects it says when to come again");
    assert!(first.shares().iter().all(|share| share.extra_data == request.permit.extra_data));
    let asked = relayer.parties.times_asked(1);

    relayer.parties.set(4, [Line::Share(1)]);
    let last = relayer.until(&request, |reply| !reply.collecting()).await;
    assert_eq!(relayer.authors(&request, &last), [1, 2, 3, 4]);
    assert_eq!(last.shares()[..3], first.shares(), "what was shown stays");
    assert_eq!(relayer.parties.times_asked(1), asked, "who has answered is not asked again");
    assert_eq!(relayer.statuses(&request).await, ["answered"; 4]);
    let timeline = relayer.get_path(&format!("/requests/{id}")).await.body;
    assert_eq!((timeline["kind"].as_str(), timeline["stage"].as_str()), (Some("user-decrypt"), Some("done")));
}

#[tokio::test]
async fn only_a_partys_own_answer_to_this_request_counts() {
    let mut relayer =
        Relayer::start(Stub::new([Line::Tampered, Line::Of(3), Line::Share(1), Line::OtherRequest])).await;
    let request = request(|_| {});
    relayer.post(&request).await;
    relayer.work();
    while (1..=4).any(|party| party != 3 && relayer.parties.times_asked(party) < 3) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // They are asked again and again; between question and answer they are `asked`.
    while relayer.statuses(&request).await != ["invalid", "invalid", "answered", "invalid"] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(relayer.get(&request).await.status, 202, "two copies of one party's answer are one");
    let stored = relayer.store.shares(request.id(DOMAIN.verifying_contract)).await.unwrap();
    assert_eq!(stored.iter().map(|share| share.party).collect::<Vec<_>>(), [3]);
    relayer.parties.set(1, [Line::Share(1)]);
    relayer.parties.set(2, [Line::Share(1)]);
    let reply = relayer.until(&request, |reply| reply.status == 200).await;
    assert_eq!((relayer.authors(&request, &reply), reply.collecting()), (vec![1, 2, 3], true));
}

#[tokio::test]
async fn shares_of_different_epochs_are_not_counted_together() {
    let lines = [Line::Share(1), Line::Share(1), Line::Share(2), Line::Share(2)];
    let mut relayer = Relayer::start(Stub::new(lines)).await;
    let request = request(|_| {});
    relayer.post(&request).await;
    relayer.work();
    while relayer.statuses(&request).await != ["answered"; 4] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(relayer.get(&request).await.status, 202, "two and two");
    // The first one moves on.
    relayer.parties.set(1, [Line::Share(2)]);
    let reply = relayer.until(&request, |reply| reply.status == 200).await;
    let authors = relayer.authors(&request, &reply);
    assert_eq!(authors[..3], [1, 3, 4], "the group that is enough comes first");
    assert_eq!(authors.len(), 5, "the others' shares are shown too");
    // And so does the second.
    relayer.parties.set(2, [Line::Share(2)]);
    let reply = relayer.until(&request, |reply| !reply.collecting()).await;
    assert_eq!(relayer.authors(&request, &reply)[..4], [1, 2, 3, 4]);
}

#[tokio::test]
async fn so_many_refusals_that_too_few_are_left_end_it_and_fewer_do_not() {
    let refuses = || Line::Refuse(RefusedReason::Permit, "Expired: the permit was valid until 5, it is 6");
    let few = Stub::new([refuses(), Line::Share(1), Line::Share(1), Line::Share(1)]);
    let mut relayer = Relayer::start(few).await;
    let asked = request(|_| {});
    relayer.post(&asked).await;
    relayer.work();
    let reply = relayer.until(&asked, |reply| reply.status == 200 && !reply.collecting()).await;
    assert_eq!(relayer.authors(&asked, &reply), [2, 3, 4], "nobody else can come");

    relayer.parties.set(2, [refuses()]);
    let asked = request(|r| r.permit.days = 11);
    relayer.post(&asked).await;
    let reply = loop {
        let reply = relayer.get(&asked).await;
        if reply.status != 202 {
            break reply;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!((reply.status, reply.body["status"].as_str(), reply.label()), (400, Some("failed"), "Expired"));
    assert!(reply.body["error"]["message"].as_str().unwrap().starts_with("2 parties refuse"));
    // It may be asked for again, and what was collected is not lost.
    relayer.parties.set(1, [Line::Share(1)]);
    let times = relayer.parties.times_asked(3);
    assert_eq!(relayer.post(&asked).await.status, 202);
    relayer.until(&asked, |reply| reply.status == 200).await;
    assert_eq!(relayer.parties.times_asked(3), times);
}

#[tokio::test]
async fn a_party_that_does_not_see_a_right_yet_is_asked_again_for_a_while() {
    let behind = Line::Refuse(RefusedReason::NotPermitted, "UserNotAllowed: not here");
    let mut relayer = Relayer::start(Stub::new([Line::Silent, Line::Share(1), Line::Share(1), behind])).await;
    let request = request(|_| {});
    relayer.post(&request).await;
    relayer.work_with(|rules| rules.grace = Duration::from_secs(3_600));
    while relayer.parties.times_asked(4) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    relayer.parties.set(4, [Line::Share(1)]);
    let reply = relayer.until(&request, |reply| reply.status == 200).await;
    assert_eq!(relayer.authors(&request, &reply), [2, 3, 4]);
}

#[tokio::test]
async fn what_was_collected_survives_a_kill_before_and_after_there_is_enough() {
    let lines = [Line::Share(1), Line::Share(1), Line::NotYet, Line::Silent];
    let relayer = Relayer::start(Stub::new(lines)).await;
    let request = request(|_| {});
    relayer.post(&request).await;
    let mut relayer = relayer.killed().await;
    assert_eq!(relayer.get(&request).await.status, 202, "recorded and not begun");
    relayer.work();
    while relayer.parties.times_asked(3) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut relayer = relayer.killed().await;
    relayer.parties.set(3, [Line::Share(1)]);
    relayer.work();
    let before = relayer.until(&request, |reply| reply.status == 200).await;
    assert_eq!(relayer.parties.times_asked(1), 1, "its share was stored");
    let mut relayer = relayer.killed().await;
    let after = relayer.get(&request).await;
    assert_eq!((after.shares(), after.collecting()), (before.shares(), true));
    relayer.parties.set(4, [Line::Share(1)]);
    relayer.work();
    let last = relayer.until(&request, |reply| !reply.collecting()).await;
    assert_eq!(relayer.authors(&request, &last), [1, 2, 3, 4]);
    let relayer = relayer.killed().await;
    assert_eq!(relayer.get(&request).await.shares(), last.shares());
}

#[tokio::test]
async fn a_collection_ends_when_its_time_is_over_and_goes_on_when_it_is_asked_for_again() {
    let mut relayer = Relayer::start(Stub::new([Line::Silent, Line::Share(1), Line::Share(1), Line::Share(1)])).await;
    let request = request(|_| {});
    relayer.post(&request).await;
    relayer.work_with(|rules| rules.collect = Duration::ZERO);
    let reply = relayer.until(&request, |reply| reply.status == 200 && !reply.collecting()).await;
    assert_eq!((reply.shares().len(), reply.retry_after), (3, None));
    let mut relayer = relayer.killed().await;
    relayer.parties.set(1, [Line::Share(1)]);
    assert_eq!(relayer.post(&request).await.status, 202);
    let reply = relayer.get(&request).await;
    assert_eq!((reply.shares().len(), reply.collecting()), (3, true), "what is there is shown meanwhile");
    relayer.work();
    let reply = relayer.until(&request, |reply| !reply.collecting()).await;
    assert_eq!(relayer.authors(&request, &reply), [1, 2, 3, 4]);
    assert_eq!(relayer.parties.times_asked(2), 1);
    // Now it is complete: asking again is free.
    relayer.post(&request).await;
    assert!(!relayer.get(&request).await.collecting());
}

#[tokio::test]
async fn equal_requests_are_one_job_and_every_post_shows_its_signature() {
    let relayer = Relayer::start(Stub::honest()).await;
    let request = request(|_| {});
    let id = relayer.post(&request).await.body["result"]["jobId"].clone();
    let looks = || relayer.views.state.lock().unwrap().asked;
    let before = looks();
    // Without 0x, and with fields that we don't know.
    let bare = body(&request)
        .to_string()
        .replace("0x", "")
        .replace("{\"handleContractPairs\"", "{\"x\":1,\"handleContractPairs\"");
    let bare: Value = serde_json::from_str(&bare).unwrap();
    let again = relayer.post_to("/v2/user-decrypt", &bare).await;
    assert_eq!((again.status, &again.body["result"]["jobId"]), (202, &id));
    assert_eq!(looks(), before, "a wallet's signature needs no chain");

    let mut forged = request.clone();
    forged.signature = signature(&request, 98);
    let refused = relayer.post(&forged).await;
    assert_eq!((refused.status, refused.label()), (400, "WrongSigner"), "a known job is no way around the signature");
    forged.signature = vec![1; 65].into();
    assert_eq!(relayer.post(&forged).await.label(), "BadV");
    // The user is a contract, and accepts what is no wallet's signature.
    forged.signature = vec![2; 100].into();
    relayer.views.say(|view| view.signature = 1);
    assert_eq!(relayer.post(&forged).await.body["result"]["jobId"], id);
    relayer.views.say(|view| view.signature = 2);
    assert_eq!(relayer.post(&forged).await.label(), "SignatureRejected");
    // Nobody can tell.
    *relayer.views.state.lock().unwrap() = FakeView { down: true, ..FakeView::default() };
    let unknown = relayer.post(&forged).await;
    assert_eq!((unknown.status, unknown.label(), unknown.retry_after.is_some()), (503, "chain_unavailable", true));
    assert_eq!(relayer.post(&request).await.status, 202, "a wallet's needs no chain");
    let stored = relayer.store.job(request.id(DOMAIN.verifying_contract)).await.unwrap().unwrap();
    let text = stored.payload.to_text().unwrap();
    assert!(text.contains(&request.signature.to_string()), "the first one stays");
}

#[tokio::test]
async fn a_permit_that_breaks_a_rule_is_refused_before_anybody_is_asked() {
    type Change = fn(&mut UserRequest);
    let relayer = Relayer::start(Stub::honest()).await;
    let rules: [(Change, &str); 18] = [
        (|r| r.permit.public_key = vec![0; 32].into(), "PublicKey"),
        (|r| r.permit.public_key = vec![0xff; 1184].into(), "PublicKey"),
        (|r| r.permit.contracts.clear(), "ContractCount"),
        (|r| r.permit.contracts = vec![USER_CONTRACT; 11], "ContractCount"),
        (|r| r.permit.contracts.push(r.permit.user), "UserInContracts"),
        (|r| r.permit.days = 0, "Days"),
        (|r| r.permit.days = 366, "Days"),
        (|r| r.permit.start = u64::MAX, "Start"),
        (|r| r.permit.extra_data = vec![9].into(), "UnknownExtraDataVersion"),
        (|r| r.permit.extra_data = vec![1, 2].into(), "InvalidExtraDataLength"),
        (|r| r.permit.extra_data = [vec![3], vec![0; 96]].concat().into(), "BoundToRequest"),
        (|r| r.permit.extra_data = [vec![1], vec![0; 32]].concat().into(), "unknown_context"),
        (|r| r.pairs.clear(), "EmptyHandles"),
        (|r| r.pairs.push(r.pairs[0]), "RepeatedHandle"),
        (|r| r.pairs[0].contract = Address::repeat_byte(0x66), "ContractNotInPermit"),
        (|r| r.host_chain_id = 1, "ForeignChain"),
        (|r| r.signature = vec![0; 4097].into(), "SignatureLength"),
        (
            |r| {
                r.host_chain_id = 5;
                r.pairs[0].handle.0[22..30].copy_from_slice(&5u64.to_be_bytes());
            },
            "unknown_chain",
        ),
    ];
    for (i, (change, label)) in rules.into_iter().enumerate() {
        let reply = relayer.post(&request(change)).await;
        assert_eq!((reply.status, reply.label()), (400, label), "row {i}: {}", reply.body);
    }
    let delegated: [(Change, &str); 2] = [
        (|r| r.permit.delegator = Some(USER_CONTRACT), "DelegatorInContracts"),
        (|r| r.permit.delegator = Some(r.permit.user), "OwnDelegate"),
    ];
    for (change, label) in delegated {
        assert_eq!(relayer.post(&request(change)).await.label(), label);
    }
    // Fields.
    let good = body(&request(|_| {}));
    let fields: [(&str, Value, &str); 14] = [
        ("/handleContractPairs/0/handle", json!("0x12"), "malformed_handle"),
        ("/handleContractPairs/0/contractAddress", json!("0x12"), "malformed_address"),
        ("/handleContractPairs", json!("none"), "malformed_json"),
        ("/requestValidity/startTimestamp", json!("0x1"), "malformed_number"),
        ("/requestValidity/startTimestamp", json!(5), "malformed_json"),
        ("/requestValidity/startTimestamp", json!("18446744073709551616"), "Start"),
        ("/requestValidity/durationDays", json!("-1"), "malformed_number"),
        ("/requestValidity/durationDays", json!("18446744073709551616"), "Days"),
        ("/contractsChainId", json!("18446744073709551616"), "unknown_chain"),
        ("/contractAddresses/0", json!(""), "malformed_address"),
        ("/userAddress", json!("é".repeat(20)), "malformed_address"),
        ("/signature", json!("0xzz"), "malformed_signature"),
        ("/publicKey", json!("0x1"), "malformed_public_key"),
        ("/extraData", json!("00 "), "malformed_extra_data"),
    ];
    for (path, value, label) in fields {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = value;
        let reply = relayer.post_to("/v2/user-decrypt", &bad).await;
        assert_eq!((reply.status, reply.label()), (400, label), "{path}");
    }
    assert_eq!(relayer.post_to("/v2/user-decrypt", &json!({})).await.label(), "malformed_json");
    assert_eq!(relayer.post_to("/v2/delegated-user-decrypt", &good).await.label(), "malformed_json");
    let delegated = body(&request(|r| r.permit.delegator = Some(DELEGATOR)));
    assert_eq!(relayer.post_to("/v2/user-decrypt", &delegated).await.label(), "malformed_json");
    assert_eq!(relayer.views.state.lock().unwrap().asked, 0, "none of it was worth a question to the chain");
    assert!(relayer.store.count_by_state().await.unwrap().is_empty(), "nothing is recorded");
}

#[tokio::test]
async fn what_the_chain_does_not_permit_is_refused_before_the_parties_are_asked() {
    type Change = fn(&mut UserView);
    let relayer = Relayer::start(Stub::honest()).await;
    let end = START + 10 * 86_400;
    assert_eq!(end, 1_700_864_000);
    let rows: [(Change, &str); 12] = [
        (|v| v.blockTimestamp = START - 61, "NotYetValid"),
        (|v| v.blockTimestamp = 1_700_864_001, "Expired"),
        (|v| v.signaturesInvalidBefore = START + 1, "PermitInvalidated"),
        (|v| v.contextLive = false, "ContextNotLive"),
        (|v| v.pairs[0].userAllowed = false, "UserNotAllowed"),
        (|v| v.pairs[0].contractAllowed = false, "ContractNotAllowed"),
        (|v| v.pairs[0].keyState = 5, "KeyState"),
        (|v| v.pairs[0].keyState = 6, "KeyState"),
        (|v| v.blockTimestamp = START, ""),
        (|v| v.blockTimestamp = 1_700_864_000, ""),
        // Not final, not committed, about to start: the parties will say when.
        (|v| v.blockTimestamp = START - 60, ""),
        (|v| v.pairs[0].keyId = B256::ZERO, ""),
    ];
    for (i, (change, label)) in rows.into_iter().enumerate() {
        relayer.views.say(change);
        // Each another request: a known one would not be looked at again.
        let reply = relayer.post(&request(|r| r.pairs[0].handle = user_handle(i as u8 + 1, FheType::Uint8))).await;
        let status = if label.is_empty() { 202 } else { 400 };
        assert_eq!((reply.status, reply.label()), (status, label), "row {i}");
    }
    let delegated: [(Change, &str); 3] = [
        (|v| (v.pairs[0].delegated, v.pairs[0].delegatedUntil) = (false, 0), "NotDelegated"),
        (|v| (v.pairs[0].delegated, v.pairs[0].delegatedUntil) = (false, START), "DelegationExpired"),
        (|_| {}, ""),
    ];
    for (change, label) in delegated {
        relayer.views.say(change);
        assert_eq!(relayer.post(&request(|r| r.permit.delegator = Some(DELEGATOR))).await.label(), label);
    }
    let signatures: [(Change, &str); 4] = [
        (|v| v.signature = 2, "SignatureRejected"),
        (|v| v.signature = 3, "SignatureReverted"),
        (|v| v.signature = 4, "SignatureAnswer"),
        (|v| v.signature = 6, "chain_unavailable"),
    ];
    for (change, label) in signatures {
        relayer.views.say(change);
        assert_eq!(relayer.post(&request(|r| r.signature = vec![1; 99].into())).await.label(), label);
    }
    // Another chain's domain: the signature is for something else.
    relayer.views.say(|_| {});
    let foreign = request(|r| {
        let digest = r.permit.digest(CHAIN + 1, DOMAIN.verifying_contract);
        r.signature = kms_chain::eip712::sign_digest(&crate::user_support::key(99), digest).to_vec().into();
    });
    assert_eq!(relayer.post(&foreign).await.label(), "WrongSigner");
    assert_eq!(relayer.parties.times_asked(1), 0);
}

#[tokio::test]
async fn a_right_that_was_given_in_the_newest_block_is_looked_for_more_than_once() {
    let relayer = Relayer::start(Stub::honest()).await;
    relayer.views.say(|view| view.pairs[0].userAllowed = false);
    relayer.views.state.lock().unwrap().times = Some(2);
    assert_eq!(relayer.post(&request(|_| {})).await.status, 202);
    assert_eq!(relayer.views.state.lock().unwrap().asked, 3);
}

#[tokio::test]
async fn the_largest_request_fits_and_a_larger_body_does_not() {
    let relayer = Relayer::start(Stub::honest()).await;
    let booleans = |count: u16| -> Vec<HandleContract> {
        (0..count)
            .map(|i| {
                let mut handle = user_handle(0, FheType::Bool);
                handle.0[..2].copy_from_slice(&i.to_be_bytes());
                HandleContract { handle, contract: USER_CONTRACT }
            })
            .collect()
    };
    let most = request(|r| {
        r.pairs = booleans(1024);
        r.permit.contracts = (1..=10).map(Address::repeat_byte).collect();
        r.permit.contracts[0] = USER_CONTRACT;
    });
    assert_eq!(relayer.post(&most).await.status, 202);
    assert_eq!(relayer.post(&request(|r| r.pairs = booleans(1025))).await.label(), "TooManyBits");
    let mut large = body(&most);
    large["more"] = json!("x".repeat(256 * 1024));
    let reply = relayer.post_to("/v2/user-decrypt", &large).await;
    assert_eq!((reply.status, reply.label()), (413, "body_too_large"));
}

#[tokio::test]
async fn a_job_stands_on_its_own_route_only() {
    let relayer = Relayer::start(Stub::honest()).await;
    let (own, delegated) = (request(|_| {}), request(|r| r.permit.delegator = Some(DELEGATOR)));
    assert_eq!((relayer.post(&own).await.status, relayer.post(&delegated).await.status), (202, 202));
    assert_eq!((relayer.get(&own).await.status, relayer.get(&delegated).await.status), (202, 202));
    let id = |request: &UserRequest| request.id(DOMAIN.verifying_contract);
    for path in [
        format!("/v2/delegated-user-decrypt/{}", id(&own)),
        format!("/v2/user-decrypt/{}", id(&delegated)),
        format!("/v2/public-decrypt/{}", id(&own)),
        format!("/v2/user-decrypt/{}", handle(9)),
    ] {
        let reply = relayer.get_path(&path).await;
        assert_eq!((reply.status, reply.label()), (404, "not_found"), "{path}");
    }
    assert_eq!(relayer.get_path("/v2/user-decrypt/0x12").await.label(), "malformed_job_id");
}

#[tokio::test]
async fn pages_of_any_origin_may_ask() {
    let relayer = Relayer::start(Stub::honest()).await;
    let url = format!("{}/v2/user-decrypt", relayer.url);
    let client = reqwest::Client::new();
    let preflight = client
        .request(reqwest::Method::OPTIONS, &url)
        .header("origin", "http://localhost:5173")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type");
    let preflight = preflight.send().await.unwrap();
    let header = |response: &reqwest::Response, name: &str| {
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    assert_eq!(preflight.status().as_u16(), 204);
    assert_eq!(header(&preflight, "access-control-allow-origin"), "*");
    assert!(header(&preflight, "access-control-allow-methods").contains("POST"));
    assert_eq!(header(&preflight, "access-control-allow-headers"), "content-type");
    // Errors are read by pages, too, and so is when to come again.
    let refused = client.post(&url).header("content-type", "application/json").body("{}").send().await.unwrap();
    assert_eq!((refused.status().as_u16(), header(&refused, "access-control-allow-origin")), (400, "*".into()));
    assert_eq!(header(&refused, "access-control-expose-headers"), "retry-after");
    assert_eq!(header(&refused, "cross-origin-resource-policy"), "cross-origin");
    let metrics = client.get(format!("{}/metrics", relayer.url)).send().await.unwrap();
    assert_eq!(header(&metrics, "access-control-allow-origin"), "");
}

#[tokio::test]
async fn too_many_are_pushed_back_but_not_those_that_only_collect_the_rest() {
    let lines = [Line::Silent, Line::Share(1), Line::Share(1), Line::Share(1)];
    let dir = tempfile::tempdir().unwrap();
    let limits = |api: &mut kms_relayer::http::Api| (api.open_pulls, api.open_pulls_per_client) = (3, 2);
    let mut relayer = Relayer::over(dir, Stub::new(lines), limits).await;
    let nth = |n: u64| request(|r| r.permit.days = n);
    assert_eq!((relayer.post(&nth(1)).await.status, relayer.post(&nth(2)).await.status), (202, 202));
    let mine = relayer.post(&nth(3)).await;
    assert_eq!((mine.status, mine.label(), mine.retry_after.is_some()), (429, "too_many_pulls", true));
    assert_eq!(relayer.post(&nth(1)).await.status, 202, "a known one is not a new one");
    relayer.work();
    relayer.until(&nth(1), |reply| reply.status == 200).await;
    relayer.until(&nth(2), |reply| reply.status == 200).await;
    assert_eq!(relayer.post(&nth(3)).await.status, 202);
    relayer.until(&nth(3), |reply| reply.status == 200).await;
    let full = relayer.post(&nth(4)).await;
    assert_eq!((full.status, full.label()), (503, "overloaded"), "collecting is work too");
    relayer.api.draining.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(relayer.post(&nth(1)).await.status, 503);
}

#[tokio::test]
async fn shares_are_forgotten_after_a_while_or_when_there_are_too_many_and_a_later_post_starts_anew() {
    let mut relayer = Relayer::start(Stub::honest()).await;
    let nth = |n: u64| request(|r| r.permit.days = n);
    relayer.work();
    for n in 1..=3 {
        relayer.post(&nth(n)).await;
        relayer.until(&nth(n), |reply| reply.status == 200 && !reply.collecting()).await;
    }
    let store = &relayer.store;
    assert_eq!(store.prune_users(0, 10, 100).await.unwrap(), 0, "young and few");
    assert_eq!(store.prune_pulls(i64::MAX, 100).await.unwrap(), 0, "of another kind");
    assert!(store.prune_users(0, 1, 100).await.unwrap() >= 2, "the newest stays, unless two ended in one millisecond");
    assert_eq!(relayer.get(&nth(1)).await.status, 404);
    assert!(store.shares(nth(1).id(DOMAIN.verifying_contract)).await.unwrap().is_empty());
    store.prune_users(now_ms() + 1, 10, 100).await.unwrap();
    assert_eq!(relayer.get(&nth(3)).await.status, 404);
    let asked = relayer.parties.times_asked(1);
    assert_eq!(relayer.post(&nth(3)).await.status, 202);
    relayer.until(&nth(3), |reply| reply.status == 200).await;
    assert_eq!(relayer.parties.times_asked(1), asked + 1);
}

#[tokio::test]
async fn a_user_decryption_that_nobody_answers_in_time_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let relayer = Relayer::over(dir, Stub::new([const { Line::Silent }; 4]), |api| api.pull_timeout_s = 0).await;
    let request = request(|_| {});
    relayer.post(&request).await;
    assert_eq!(relayer.store.expire_pulls().await.unwrap(), 1);
    let reply = relayer.get(&request).await;
    assert_eq!((reply.status, reply.label()), (504, "timeout"));
    // Another relayer of the same database sees the same.
    let other = open(relayer.path(), "other").await;
    let job = other.job(request.id(DOMAIN.verifying_contract)).await.unwrap().unwrap();
    assert_eq!(job.state, State::Expired);
}

#[tokio::test]
async fn a_party_stands_in_two_groups_at_most() {
    let relayer = Relayer::start(Stub::honest()).await;
    let request = request(|_| {});
    relayer.post(&request).await;
    let id = request.id(DOMAIN.verifying_contract);
    relayer.store.shift(id, State::Final, State::Dispatched, "", "").await.unwrap();
    for epoch in 1..=5 {
        let response = relayer.parties.answer(1, &request, epoch);
        let share = kms_relayer::store::NewShare {
            group: B256::repeat_byte(epoch),
            share: response.share,
            signature: response.signature,
            extra_data: Bytes::new(),
        };
        let report = kms_relayer::store::Report {
            party: 1,
            status: kms_relayer::store::PartyStatus::Answered,
            detail: String::new(),
            retry_at: 0,
            answer: Some(share.into()),
        };
        assert_eq!(relayer.store.record(id, &[report], 3).await.unwrap().agreeing, 1);
        let stored = relayer.store.shares(id).await.unwrap();
        assert!(stored.len() <= 2 && stored.iter().any(|s| s.share.group == B256::repeat_byte(epoch)));
    }
}
