//! User decryptions over a real socket: what is asked, and what is refused before anybody is bothered with it.

use alloy::primitives::{Address, B256};
use kms_chain::FheType;
use kms_chain::permit::{HandleContract, UserRequest};
use kms_chain::user_view::UserView;
use serde_json::{Value, json};

use crate::support::{CHAIN, handle};
use crate::user_parties::Stub;
use crate::user_support::{
    DELEGATOR, DOMAIN, FakeView, Relayer, START, USER_CONTRACT, body, request, signature, user_handle,
};

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
    let allowed = header(&preflight, "access-control-allow-headers");
    assert_eq!(allowed, "content-type, authorization, x-api-key, last-event-id");
    // Errors are read by pages, too, and so is when to come again.
    let refused = client.post(&url).header("content-type", "application/json").body("{}").send().await.unwrap();
    assert_eq!((refused.status().as_u16(), header(&refused, "access-control-allow-origin")), (400, "*".into()));
    assert_eq!(header(&refused, "access-control-expose-headers"), "retry-after");
    assert_eq!(header(&refused, "cross-origin-resource-policy"), "cross-origin");
    let metrics = client.get(format!("{}/metrics", relayer.url)).send().await.unwrap();
    assert_eq!(header(&metrics, "access-control-allow-origin"), "");
}
