use alloy_primitives::{Address, B256, keccak256};
use kms_chain::{eip712, ids, proof::InputProof};
use kms_coprocessor::{config::InputsConfig, store::Progress};
use kms_encoding::FheType;

use crate::fixture::{ACL, Bench, CHAIN, Recipient, VERIFIER, client, handles, key, post, post_raw, signer};

const TWO: [(FheType, u64); 2] = [(FheType::Bool, 1), (FheType::Uint64, 77)];

fn label(answer: &serde_json::Value) -> &str {
    answer["error"]["label"].as_str().unwrap_or("none")
}

#[tokio::test]
async fn a_proven_list_gets_handles_and_a_signature_that_the_contract_accepts() {
    let bench = Bench::start().await;
    let to = Recipient::default();
    let list = key().encrypt(&TWO, &to);
    let (status, answer) = post(&bench.url("/v1/inputs"), &to, &list).await;
    assert_eq!(status, 200, "{answer}");

    let expected: Vec<B256> = (0u8..)
        .zip(TWO)
        .map(|(index, (fhe_type, _))| ids::input_handle(keccak256(&list), ACL, CHAIN, index, fhe_type).raw())
        .collect();
    assert_eq!(handles(&answer), expected);
    let proof = hex::decode(answer["inputProof"].as_str().unwrap().strip_prefix("0x").unwrap()).unwrap();
    let proof = InputProof::parse(&proof).unwrap();
    assert_eq!(proof.handles, expected);
    let domain = eip712::input_domain(CHAIN, VERIFIER);
    let digest = eip712::input_digest(&domain, &expected, to.user, to.contract, CHAIN, &proof.extra_data);
    assert_eq!(eip712::recover(digest, &proof.signatures[0]).unwrap(), signer().address());

    let stored = bench.store.input(CHAIN, keccak256(&list)).await.unwrap().unwrap();
    assert_eq!(stored.input.ciphertext, list, "it is on disk");
    assert_eq!(bench.store.handle_status(expected[0]).await.unwrap().progress, Progress::Pending);

    let (status, again) = post(&bench.url("/v1/inputs"), &to, &list).await;
    assert_eq!((status, again), (200, answer), "the same post gets the same answer");
    let counted = client().get(bench.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(counted.contains("kms_coprocessor_inputs_total{outcome=\"accepted\"} 2"), "{counted}");
}

#[tokio::test]
async fn a_list_of_somebody_else_is_refused() {
    let bench = Bench::start().await;
    let to = Recipient::default();
    let list = key().encrypt(&TWO, &to);
    let other = Address::repeat_byte(0x66);
    for thief in [Recipient { user: other, ..to }, Recipient { contract: other, ..to }] {
        let (status, answer) = post(&bench.url("/v1/inputs"), &thief, &list).await;
        assert_eq!((status, label(&answer)), (400, "invalid_proof"));
    }
    let (status, _) = post(&bench.url("/v1/inputs"), &to, &list).await;
    assert_eq!(status, 200);
    let (status, answer) = post(&bench.url("/v1/inputs"), &Recipient { user: other, ..to }, &list).await;
    assert_eq!((status, label(&answer)), (400, "invalid_proof"), "also when it is known here");

    for bound in [Recipient { chain_id: 1, ..to }, Recipient { acl: other, ..to }] {
        let foreign = key().encrypt(&TWO, &bound);
        let (status, answer) = post(&bench.url("/v1/inputs"), &to, &foreign).await;
        assert_eq!((status, label(&answer)), (400, "invalid_proof"));
    }
    let (status, answer) = post(&bench.url("/v1/inputs"), &Recipient { chain_id: 1, ..to }, &list).await;
    assert_eq!((status, label(&answer)), (400, "unknown_chain"));
}

#[tokio::test]
async fn malformed_lists_are_refused_in_words() {
    let bench = Bench::start().await;
    let to = Recipient::default();
    let list = key().encrypt(&TWO, &to);
    let url = bench.url("/v1/inputs");
    let mut trailing = list.clone();
    trailing.push(0);
    for bytes in [&[][..], &[7; 300], &list[..list.len() / 2], &list[..list.len() - 1], &trailing] {
        let (status, answer) = post(&url, &to, bytes).await;
        assert_eq!((status, label(&answer)), (400, "malformed_ciphertext"), "{} bytes", bytes.len());
    }
    for position in (0..list.len()).step_by(list.len() / 24) {
        let mut flipped = list.clone();
        flipped[position] ^= 1 << (position % 8);
        let (status, answer) = post(&url, &to, &flipped).await;
        assert_eq!(status, 400, "bit flipped in byte {position}: {answer}");
    }
    let (status, _) = post(&url, &to, &list).await;
    assert_eq!(status, 200, "and it still works");
}

#[tokio::test]
async fn malformed_and_oversized_bodies_are_refused_in_words() {
    let bench = Bench::start().await;
    let to = Recipient::default();
    let url = bench.url("/v1/inputs");
    for body in ["", "{", "[]", r#"{"chainId":1}"#] {
        let (status, answer) = post_raw(&url, body.to_owned()).await;
        assert_eq!((status, label(&answer)), (400, "malformed_request"), "{body}");
    }
    let body = |ciphertext: &str| {
        serde_json::json!({ "chainId": CHAIN, "contract": to.contract, "user": to.user, "ciphertext": ciphertext })
            .to_string()
    };
    for ciphertext in ["0x0", "0xzz", "no hex"] {
        let (status, answer) = post_raw(&url, body(ciphertext)).await;
        assert_eq!((status, label(&answer)), (400, "malformed_request"), "{ciphertext}");
    }
    let limit = kms_fhe::inputs::MAX_BYTES;
    let (status, answer) = post(&url, &to, &vec![0; limit]).await;
    assert_eq!((status, label(&answer)), (400, "malformed_ciphertext"), "the longest that is read");
    for size in [limit + 1, limit + 10_000, 1 << 20] {
        let (status, answer) = post(&url, &to, &vec![0; size]).await;
        assert_eq!((status, label(&answer)), (413, "too_large"), "{size} bytes");
    }
}

#[tokio::test]
async fn whoever_finds_no_place_is_told_to_come_back() {
    let limits = InputsConfig { workers: 1, queue: 1, per_client: 1, ..InputsConfig::default() };
    let bench = Bench::start_with(limits).await;
    let to = Recipient::default();
    let url = bench.url("/v1/inputs");
    // A client that never finishes its body holds its place.
    let (sender, body) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let stream = futures::stream::unfold(body, |mut body| async move { body.recv().await.map(|part| (part, body)) });
    let slow = client().post(&url).body(reqwest::Body::wrap_stream(stream));
    let slow = tokio::spawn(slow.send());
    sender.send(Ok(b"{".to_vec())).await.unwrap();
    let response = loop {
        let response = client().post(&url).body("{").send().await.unwrap();
        if response.status().as_u16() != 400 {
            break response;
        }
    };
    assert_eq!(response.status().as_u16(), 429);
    assert!(response.headers().contains_key("retry-after"));
    drop(sender);
    assert_eq!(slow.await.unwrap().unwrap().status().as_u16(), 400);
    let (status, answer) = post(&url, &to, &key().encrypt(&TWO, &to)).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn inputs_that_wait_for_their_chain_leave_no_room_for_more() {
    let to = Recipient::default();
    let (first, second) = (key().encrypt(&TWO, &to), key().encrypt(&TWO, &to));
    // Room for one list; the bounds of a real configuration are never as tight.
    let limits = InputsConfig { max_bytes: 1 << 20, max_client_bytes: first.len() as u64 + 500, ..Default::default() };
    let bench = Bench::start_with(limits.clone()).await;
    let url = bench.url("/v1/inputs");
    assert_eq!(post(&url, &to, &first).await.0, 200);
    let (status, answer) = post(&url, &to, &second).await;
    assert_eq!((status, label(&answer)), (429, "too_many_bytes"), "{answer}");
    assert_eq!(post(&url, &to, &first).await.0, 200, "what is stored takes no more room");

    let bench = Bench::start_with(InputsConfig { max_bytes: limits.max_client_bytes, ..limits }).await;
    let url = bench.url("/v1/inputs");
    assert_eq!(post(&url, &to, &first).await.0, 200);
    let (status, answer) = post(&url, &to, &second).await;
    assert_eq!((status, label(&answer)), (503, "storage_full"), "{answer}");
}

#[tokio::test]
async fn keys_are_served_as_the_bundle_lists_them() {
    let bench = Bench::start().await;
    let get = |path: &str| client().get(bench.url(path)).send();
    let description: serde_json::Value = get("/v1/keys").await.unwrap().json().await.unwrap();
    let files = description["files"].as_object().unwrap();
    assert!(files.len() >= 3);
    for name in files.keys() {
        let response = get(&format!("/v1/keys/{name}")).await.unwrap();
        let tag = response.headers()["etag"].clone();
        let bytes = response.bytes().await.unwrap();
        assert_eq!(bytes, std::fs::read(key().folder().join(name)).unwrap(), "{name}");
        let cached = client().get(bench.url(&format!("/v1/keys/{name}"))).header("if-none-match", tag).send().await;
        assert_eq!(cached.unwrap().status().as_u16(), 304);
    }
    for name in ["key.json", "other.bin", "..%2F..%2Fetc%2Fpasswd"] {
        assert_eq!(get(&format!("/v1/keys/{name}")).await.unwrap().status().as_u16(), 404, "{name}");
    }
}

#[tokio::test]
async fn a_page_of_any_origin_may_call() {
    let bench = Bench::start().await;
    let preflight = client().request("OPTIONS".parse().unwrap(), bench.url("/v1/inputs")).send().await.unwrap();
    assert_eq!(preflight.status().as_u16(), 204);
    assert_eq!(preflight.headers()["access-control-allow-methods"], "GET, POST");
    for path in ["/v1/keys", "/v1/keys/crs.bin", "/v1/keys/none", "/nowhere"] {
        let answer = client().get(bench.url(path)).send().await.unwrap();
        assert_eq!(answer.headers()["access-control-allow-origin"], "*", "{path}");
        assert_eq!(answer.headers()["cross-origin-resource-policy"], "cross-origin", "{path}");
    }
}
