//! One key for all tests, and a coprocessor without a chain.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{Address, B256, U256};
use kms_chain::eip712;
use kms_coprocessor::{
    admission::Admission,
    compute::Compute,
    config::InputsConfig,
    crew,
    fhe::{Engine, input_metadata},
    http::{self, Api},
    inputs::{InputChain, Inputs},
    keys::Bundle,
    metrics::Metrics,
    objects::Objects,
    signals::Signals,
    squash::Squash,
    store::Store,
};
use kms_encoding::{FheType, ParamsId, Plaintext, Word};
use kms_fhe::{Object, PublicKeys, bundle, crs, inputs, keygen};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Id of the chain that the chainless tests name.
pub(crate) const CHAIN: u64 = 31337;
/// Its ACL.
pub(crate) const ACL: Address = Address::repeat_byte(0xac);
/// Its input verifier.
pub(crate) const VERIFIER: Address = Address::repeat_byte(0x1f);
/// The coprocessor's key: anvil's third development key.
pub(crate) const INSECURE_SIGNER: &str = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";

/// A key, all of it.
pub(crate) struct Key {
    folder: TempDir,
    pub(crate) public: PublicKeys,
    secret: keygen::SecretBits,
}

/// The key of this test run.
pub(crate) fn key() -> &'static Key {
    static KEY: OnceLock<Key> = OnceLock::new();
    KEY.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let (public, secret) = keygen::generate(ParamsId::InsecureTest, false);
        let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let crs = crs::load_or_make_insecure(ParamsId::InsecureTest, Some(&cache)).unwrap();
        bundle::write(folder.path(), &public, &crs, [7; 32]).unwrap();
        let public = PublicKeys::load(folder.path()).unwrap();
        Key { folder, public, secret }
    })
}

impl Key {
    /// Folder of the bundle.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A proven list of `values`.
    pub(crate) fn encrypt(&self, values: &[(FheType, u64)], to: &Recipient) -> Vec<u8> {
        let values: Vec<Plaintext> =
            values.iter().map(|(fhe_type, value)| Plaintext::new(*fhe_type, *value).unwrap()).collect();
        let metadata = input_metadata(to.chain_id, to.acl, to.contract, to.user);
        inputs::build(&self.public, &values, &metadata).unwrap()
    }

    /// The plaintext of an object.
    pub(crate) fn decrypt(&self, object: &[u8], handle: B256) -> U256 {
        let object = Object::parse(object, ParamsId::InsecureTest, &self.public.info().key_id()).unwrap();
        let blocks = object.blocks(&handle.0).unwrap();
        let fhe_type = FheType::from_u8(handle[30]).unwrap();
        let plaintext = self.secret.insecure_test_decrypt(fhe_type, &blocks).unwrap().unwrap();
        let Word(bytes) = plaintext.value();
        U256::from_be_bytes(bytes)
    }
}

/// Whom a list is encrypted for.
#[derive(Clone, Copy)]
pub(crate) struct Recipient {
    pub(crate) chain_id: u64,
    pub(crate) acl: Address,
    pub(crate) contract: Address,
    pub(crate) user: Address,
}

impl Default for Recipient {
    fn default() -> Self {
        Self { chain_id: CHAIN, acl: ACL, contract: Address::repeat_byte(0xc0), user: Address::repeat_byte(0x05) }
    }
}

/// The coprocessor's signing key.
pub(crate) fn signer() -> PrivateKeySigner {
    INSECURE_SIGNER.parse().unwrap()
}

/// All of a coprocessor but follower and committer.
pub(crate) struct Bench {
    _folder: TempDir,
    pub(crate) store: Store,
    pub(crate) objects: Objects,
    pub(crate) signals: Arc<Signals>,
    pub(crate) address: SocketAddr,
    cancel: CancellationToken,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::start_with(InputsConfig::default()).await
    }

    pub(crate) async fn start_with(limits: InputsConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite://{}/db", folder.path().display())).await.unwrap();
        let objects = Objects::open(&format!("file://{}/objects", folder.path().display())).unwrap();
        let engine = Arc::new(tokio::task::spawn_blocking(|| Engine::load(key().folder()).unwrap()).await.unwrap());
        let signals = Arc::new(Signals::default());
        let metrics = Arc::new(Metrics::new().unwrap());
        let domain = eip712::input_domain(CHAIN, VERIFIER);
        let chains = BTreeMap::from([(CHAIN, InputChain { access_control: ACL, domain })]);
        let cancel = CancellationToken::new();

        let compute = Compute {
            store: store.clone(),
            engine: engine.clone(),
            chains: chains.clone(),
            signals: signals.clone(),
            metrics: metrics.clone(),
        };
        let (wake, stop) = (signals.clone(), cancel.clone());
        tokio::spawn(async move { crew::drive(Arc::new(compute), 2, &wake.compute, stop).await });
        let squash = Squash::new(store.clone(), engine.clone(), objects.clone(), signals.clone(), metrics.clone());
        let (wake, stop) = (signals.clone(), cancel.clone());
        tokio::spawn(async move { crew::drive(Arc::new(squash), 2, &wake.squash, stop).await });

        let api = Api {
            inputs: Inputs::new(chains, store.clone(), engine, signer(), signals.clone(), limits.waiting()),
            admission: Admission::new(limits.workers, limits.queue, limits.per_client),
            bundle: Bundle::open(key().folder()).unwrap(),
            objects: objects.clone(),
            store: store.clone(),
            chains: Vec::new(),
            metrics,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = http::router(Arc::new(api)).into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { _folder: folder, store, objects, signals, address, cancel }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Posts a list; returns status and JSON body.
pub(crate) async fn post(url: &str, to: &Recipient, ciphertext: &[u8]) -> (u16, serde_json::Value) {
    let body = serde_json::json!({
        "chainId": to.chain_id, "contract": to.contract, "user": to.user,
        "ciphertext": format!("0x{}", hex::encode(ciphertext)),
    });
    post_raw(url, body.to_string()).await
}

/// Posts any body.
pub(crate) async fn post_raw(url: &str, body: String) -> (u16, serde_json::Value) {
    let response = client().post(url).body(body).send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}

/// An HTTP client.
pub(crate) fn client() -> reqwest::Client {
    // The process may hold one TLS provider only; whoever comes first installs it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::new()
}

/// The handles of an answer.
pub(crate) fn handles(answer: &serde_json::Value) -> Vec<B256> {
    serde_json::from_value(answer["handles"].clone()).unwrap()
}
