//! A key that never leaves AWS KMS, as one of alloy's transaction signers.
//!
//! Two calls of its HTTP API (`GetPublicKey`, `Sign`), authorised by AWS Signature Version 4 with the credentials that AWS's
//! own tools would find: environment, web identity, container or instance metadata. It needs the permissions
//! `kms:GetPublicKey` and `kms:Sign` on a key of the spec `ECC_SECG_P256K1`.

use std::time::Duration;

use alloy::consensus::SignableTransaction;
use alloy::network::TxSigner;
use alloy::primitives::{Address, B256, Signature};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use k256::ecdsa::{Signature as Ecdsa, VerifyingKey};
use k256::pkcs8::DecodePublicKey;
use object_store::aws::{AmazonS3Builder, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::HttpRequest;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::clock::backoff_ms;

/// One call may take so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Times that a call is made when the service is busy or not there. After that whoever wants a signature tries again later.
const TRIES: u32 = 3;
/// Largest answer that is read.
const ANSWER_BYTES: usize = 64 * 1024;

/// A key that can't be reached or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AwsError {
    /// No credentials, or none that can sign.
    #[error("AWS credentials: {0}")]
    Credentials(#[from] object_store::Error),
    /// The service is not there.
    #[error("AWS KMS does not answer: {0}")]
    Unreachable(#[from] reqwest::Error),
    /// The service refuses.
    #[error("AWS KMS refuses ({status}): {kind} {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Name of its exception.
        kind: String,
        /// Its words.
        message: String,
    },
    /// The service says something that is none of its answers.
    #[error("AWS KMS: {0}")]
    Answer(String),
    /// The key is not one for Ethereum.
    #[error("the key is {spec} for {usage}; ECC_SECG_P256K1 for SIGN_VERIFY is needed")]
    OtherKey {
        /// Its spec.
        spec: String,
        /// What it is for.
        usage: String,
    },
}

impl AwsError {
    /// Whether the same call may succeed in a moment.
    fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { status, kind, .. } => *status >= 500 || kind.starts_with("Throttling"),
            _ => false,
        }
    }
}

/// A key in AWS KMS.
#[derive(Debug)]
pub struct AwsKms {
    service: Service,
    key: VerifyingKey,
    address: Address,
}

#[derive(Debug)]
struct Service {
    client: reqwest::Client,
    credentials: AwsCredentialProvider,
    url: Url,
    region: String,
    key_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GetPublicKey<'a> {
    key_id: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PublicKey {
    public_key: String,
    key_spec: String,
    key_usage: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Sign<'a> {
    key_id: &'a str,
    message: String,
    message_type: &'a str,
    signing_algorithm: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Signed {
    signature: String,
}

#[derive(Default, Deserialize)]
struct Exception {
    #[serde(rename = "__type", default)]
    kind: String,
    #[serde(alias = "Message", default)]
    message: String,
}

impl AwsKms {
    /// Looks up the key. `endpoint` replaces the public one of the region, for a VPC endpoint.
    ///
    /// # Errors
    /// No credentials, no service, or a key that is of no use.
    pub async fn connect(
        key_id: &str,
        region: &str,
        endpoint: Option<&Url>,
        credentials: AwsCredentialProvider,
    ) -> Result<Self, AwsError> {
        let url = match endpoint {
            Some(url) => url.clone(),
            None => public_endpoint(region).map_err(|e| AwsError::Answer(format!("region {region:?}: {e}")))?,
        };
        let service = Service {
            client: reqwest::Client::builder().timeout(PATIENCE).build()?,
            credentials,
            url,
            region: region.to_owned(),
            key_id: key_id.to_owned(),
        };
        let found: PublicKey = service.call("GetPublicKey", &GetPublicKey { key_id }).await?;
        if found.key_spec != "ECC_SECG_P256K1" || found.key_usage != "SIGN_VERIFY" {
            return Err(AwsError::OtherKey { spec: found.key_spec, usage: found.key_usage });
        }
        let der = decoded("public key", &found.public_key)?;
        let key = VerifyingKey::from_public_key_der(&der).map_err(|e| AwsError::Answer(format!("public key: {e}")))?;
        Ok(Self { service, address: Address::from_public_key(&key), key })
    }

    /// Signs a hash.
    ///
    /// # Errors
    /// The service does not answer, refuses, or answers with what is no signature of the key over this hash.
    pub async fn sign_hash(&self, hash: B256) -> Result<Signature, AwsError> {
        let sign = Sign {
            key_id: &self.service.key_id,
            message: BASE64.encode(hash),
            message_type: "DIGEST",
            signing_algorithm: "ECDSA_SHA_256",
        };
        let signed: Signed = self.service.call("Sign", &sign).await?;
        let der = decoded("signature", &signed.signature)?;
        let signature = Ecdsa::from_der(&der).map_err(|e| AwsError::Answer(format!("signature: {e}")))?;
        // The service signs with either s; the chain takes the lower one only (EIP-2).
        let signature = signature.normalize_s().unwrap_or(signature);
        let ours = |signature: &Signature| signature.recover_from_prehash(&hash).is_ok_and(|key| key == self.key);
        [false, true]
            .map(|parity| Signature::from_signature_and_parity(signature, parity))
            .into_iter()
            .find(ours)
            .ok_or_else(|| AwsError::Answer("the signature is not the key's".into()))
    }
}

#[async_trait]
impl TxSigner<Signature> for AwsKms {
    fn address(&self) -> Address {
        self.address
    }

    async fn sign_transaction(&self, tx: &mut dyn SignableTransaction<Signature>) -> alloy::signers::Result<Signature> {
        self.sign_hash(tx.signature_hash()).await.map_err(alloy::signers::Error::other)
    }
}

impl Service {
    async fn call<T: for<'a> Deserialize<'a>>(&self, target: &str, body: &impl Serialize) -> Result<T, AwsError> {
        let body = serde_json::to_vec(body).map_err(|e| AwsError::Answer(e.to_string()))?;
        let mut tries = 0;
        loop {
            match self.once(target, &body).await {
                Err(error) if error.is_transient() && tries + 1 < TRIES => {
                    tokio::time::sleep(Duration::from_millis(backoff_ms(tries, 100, 2_000))).await;
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    async fn once<T: for<'a> Deserialize<'a>>(&self, target: &str, body: &[u8]) -> Result<T, AwsError> {
        let answer = |e: &dyn std::fmt::Display| AwsError::Answer(e.to_string());
        let mut request = HttpRequest::new(body.to_vec().into());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.url.as_str().parse().map_err(|e: http::uri::InvalidUri| answer(&e))?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
        let target = HeaderValue::from_str(&format!("TrentService.{target}")).map_err(|e| answer(&e))?;
        headers.insert("x-amz-target", target);
        let credential = self.credentials.get_credential().await?;
        AwsAuthorizer::new(&credential, "kms", &self.region).try_authorize(&mut request, None)?;
        let request = request.map(|_| reqwest::Body::from(body.to_vec()));
        let mut response = self.client.execute(request.try_into()?).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if bytes.len() + chunk.len() > ANSWER_BYTES {
                return Err(AwsError::Answer("it says too much".into()));
            }
            bytes.extend_from_slice(&chunk);
        }
        let status = response.status();
        if !status.is_success() {
            let Exception { kind, message } = serde_json::from_slice(&bytes).unwrap_or_default();
            // Some endpoints name the exception with its namespace.
            let kind = kind.rsplit('#').next().unwrap_or_default().to_owned();
            return Err(AwsError::Refused { status: status.as_u16(), kind, message });
        }
        serde_json::from_slice(&bytes).map_err(|e| answer(&e))
    }
}

fn public_endpoint(region: &str) -> Result<Url, String> {
    if region.is_empty() || !region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err("is not the name of a region".into());
    }
    format!("https://kms.{region}.amazonaws.com/").parse().map_err(|_| "is not the name of a region".into())
}

/// The credentials that AWS's own tools would find.
///
/// # Errors
/// Half of a pair, or an environment that contradicts itself.
pub fn credentials(region: &str) -> Result<AwsCredentialProvider, AwsError> {
    // The builder reads the environment as those tools do; of the store that comes out only the credentials are used.
    let store = AmazonS3Builder::from_env().with_bucket_name("none").with_region(region).build()?;
    Ok(store.credentials().clone())
}

/// Checks what can be checked without connecting.
///
/// # Errors
/// What is wrong.
pub fn check(key_id: &str, region: &str) -> Result<(), String> {
    if key_id.is_empty() || key_id.len() > 2_048 {
        return Err("key_id is not an id, ARN or alias of a key".into());
    }
    public_endpoint(region).map(drop).map_err(|e| format!("region {region:?} {e}"))
}

fn decoded(what: &str, text: &str) -> Result<Vec<u8>, AwsError> {
    BASE64.decode(text).map_err(|e| AwsError::Answer(format!("{what}: {e}")))
}
