//! Signing with a key in AWS KMS: its HTTP API in this process, with a real key behind it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use alloy::primitives::{Address, B256, U256, hex, keccak256};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use k256::ecdsa::signature::hazmat::PrehashSigner;
use k256::ecdsa::{Signature, SigningKey};
use kms_relayer::tx::{AwsKms, Fees, Signer};
use object_store::StaticCredentialProvider;
use object_store::aws::AwsCredential;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Anvil, CHAIN};

pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const KEY_ID: &str = "alias/relayer";
pub(crate) const ACCESS: (&str, &str) = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");

/// The service.
pub(crate) struct FakeKms {
    pub(crate) url: String,
    pub(crate) address: Address,
    inner: Arc<Inner>,
}

struct Inner {
    key: SigningKey,
    /// What the next calls are answered with instead.
    script: Mutex<Vec<(u16, Value)>>,
    /// Targets of the calls so far.
    calls: Mutex<Vec<String>>,
    spec: Mutex<&'static str>,
    /// Whether it signs with the higher of the two s.
    high: Mutex<bool>,
}

impl FakeKms {
    pub(crate) async fn start() -> Self {
        let key = SigningKey::from_slice(&[7; 32]).unwrap();
        let address = Address::from_public_key(key.verifying_key());
        let inner = Arc::new(Inner {
            key,
            script: Mutex::default(),
            calls: Mutex::default(),
            spec: Mutex::new("ECC_SECG_P256K1"),
            high: Mutex::new(false),
        });
        let router = axum::Router::new().route("/", axum::routing::post(answer)).with_state(inner.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, address, inner }
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.inner.calls.lock().unwrap().clone()
    }

    fn next(&self, status: u16, body: Value) {
        self.inner.script.lock().unwrap().push((status, body));
    }

    async fn signer(&self) -> Result<AwsKms, kms_relayer::tx::AwsError> {
        let (key_id, secret_key) = (ACCESS.0.to_owned(), ACCESS.1.to_owned());
        let credential = AwsCredential { key_id, secret_key, token: Some("session".into()) };
        let credentials = Arc::new(StaticCredentialProvider::new(credential));
        AwsKms::connect(KEY_ID, REGION, Some(&self.url.parse().unwrap()), credentials).await
    }
}

async fn answer(State(kms): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    assert_eq!(headers["content-type"], "application/x-amz-json-1.1");
    let target = headers["x-amz-target"].to_str().unwrap().to_owned();
    if headers["authorization"].to_str().unwrap() != authorization(&headers, &body) {
        return (StatusCode::FORBIDDEN, json!({ "__type": "SignatureDoesNotMatch", "message": "no" }).to_string());
    }
    kms.calls.lock().unwrap().push(target.clone());
    if let Some((status, body)) = kms.script.lock().unwrap().pop() {
        return (StatusCode::from_u16(status).unwrap(), body.to_string());
    }
    let asked: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(asked["KeyId"], KEY_ID);
    let answer = match target.as_str() {
        "TrentService.GetPublicKey" => {
            // SubjectPublicKeyInfo of RFC 5480, whose head is the same for every key of the curve.
            let head = hex!("3056301006072a8648ce3d020106052b8104000a034200");
            let point = kms.key.verifying_key().to_encoded_point(false);
            let der = [&head[..], point.as_bytes()].concat();
            let spec = *kms.spec.lock().unwrap();
            json!({ "KeyId": "arn", "PublicKey": BASE64.encode(der), "KeySpec": spec, "KeyUsage": "SIGN_VERIFY" })
        }
        "TrentService.Sign" => {
            assert_eq!(
                (&asked["MessageType"], &asked["SigningAlgorithm"]),
                (&json!("DIGEST"), &json!("ECDSA_SHA_256"))
            );
            let digest = BASE64.decode(asked["Message"].as_str().unwrap()).unwrap();
            let signature: Signature = kms.key.sign_prehash(&digest).unwrap();
            let signature = if *kms.high.lock().unwrap() {
                Signature::from_scalars(signature.r().to_bytes(), (-*signature.s()).to_bytes()).unwrap()
            } else {
                signature
            };
            json!({ "KeyId": "arn", "Signature": BASE64.encode(signature.to_der().as_bytes()), "SigningAlgorithm": "ECDSA_SHA_256" })
        }
        other => panic!("{other}"),
    };
    (StatusCode::OK, answer.to_string())
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let pad = |byte: u8| (0..64).map(|i| key.get(i).copied().unwrap_or(0) ^ byte).collect::<Vec<u8>>();
    let inner = Sha256::digest([pad(0x36), message.to_vec()].concat());
    Sha256::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
}

/// What AWS computes from a call (Signature Version 4), to compare with what the call says.
fn authorization(headers: &HeaderMap, body: &[u8]) -> String {
    let given = headers["authorization"].to_str().unwrap();
    let names = given.split_once("SignedHeaders=").unwrap().1.split_once(',').unwrap().0;
    assert!(
        ["host", "x-amz-date", "x-amz-target", "x-amz-security-token"]
            .iter()
            .all(|n| names.split(';').any(|s| s == *n))
    );
    let values: BTreeMap<&str, &str> = names.split(';').map(|name| (name, headers[name].to_str().unwrap())).collect();
    let listed: String = values.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let hash = hex::encode(Sha256::digest(body));
    let canonical = format!("POST\n/\n\n{listed}\n{names}\n{hash}");
    let (time, date) = (values["x-amz-date"], &values["x-amz-date"][..8]);
    let scope = format!("{date}/{REGION}/kms/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
    let mut key = format!("AWS4{}", ACCESS.1).into_bytes();
    for part in [date, REGION, "kms", "aws4_request"] {
        key = hmac(&key, part.as_bytes());
    }
    let signature = hex::encode(hmac(&key, text.as_bytes()));
    format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", ACCESS.0)
}

#[tokio::test]
async fn the_chain_takes_what_it_signs() {
    let (kms, anvil) = (FakeKms::start().await, Anvil::start().await);
    let signer = Signer::new(kms.signer().await.unwrap());
    assert_eq!(signer.address(), kms.address);
    let rich = json!([kms.address, format!("{:#x}", U256::from(10).pow(U256::from(18)))]);
    anvil.rpc("anvil_setBalance", rich).await;
    let fees = Fees { max_fee: 3_000_000_000, priority_fee: 1_000_000_000 };
    let mut hashes = Vec::new();
    // Both forms of a signature, and so many hashes that both parities occur.
    for nonce in 0..8 {
        *kms.inner.high.lock().unwrap() = nonce % 2 == 1;
        let (hash, raw) = signer.sign(CHAIN, nonce, Address::ZERO, Default::default(), 21_000, fees).await.unwrap();
        assert_eq!(anvil.chain.send_raw(&raw).await.unwrap(), hash);
        hashes.push(hash);
    }
    anvil.mine(1).await;
    for hash in hashes {
        let receipt = anvil.chain.receipt(hash).await.unwrap().unwrap();
        assert!(receipt.status() && receipt.from == kms.address);
    }
}

#[tokio::test]
async fn a_busy_service_is_asked_again_and_a_refusal_is_told() {
    let kms = FakeKms::start().await;
    let key = kms.signer().await.unwrap();
    let hash = keccak256("a transaction");
    kms.next(400, json!({ "__type": "com.amazonaws.kms#ThrottlingException", "message": "slow down" }));
    kms.next(503, json!({}));
    let signature = key.sign_hash(hash).await.unwrap();
    assert_eq!(signature.recover_address_from_prehash(&hash).unwrap(), kms.address);
    assert_eq!(kms.calls().iter().filter(|call| *call == "TrentService.Sign").count(), 3);

    // It may not be used: nothing is gained by asking again.
    kms.next(400, json!({ "__type": "AccessDeniedException", "Message": "not authorized to perform kms:Sign" }));
    let error = key.sign_hash(hash).await.unwrap_err().to_string();
    assert!(error.contains("AccessDeniedException not authorized to perform kms:Sign"), "{error}");
    assert_eq!(kms.calls().iter().filter(|call| *call == "TrentService.Sign").count(), 4);

    // What is no signature of this key over this hash is never used.
    let other: Signature = SigningKey::from_slice(&[8; 32]).unwrap().sign_prehash(hash.as_slice()).unwrap();
    for signature in [BASE64.encode(other.to_der().as_bytes()), BASE64.encode([1, 2, 3]), "%".into()] {
        kms.next(200, json!({ "Signature": signature }));
        assert!(key.sign_hash(hash).await.is_err(), "{signature}");
    }
    kms.next(200, json!("what"));
    assert!(key.sign_hash(B256::ZERO).await.is_err());
}

#[tokio::test]
async fn a_key_of_another_kind_is_not_taken() {
    let kms = FakeKms::start().await;
    *kms.inner.spec.lock().unwrap() = "RSA_2048";
    let error = kms.signer().await.unwrap_err().to_string();
    assert!(error.contains("the key is RSA_2048"), "{error}");
}
