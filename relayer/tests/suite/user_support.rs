//! A user, a chain that says what it is told to, and a relayer between them and the parties.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes};
use k256::ecdsa::SigningKey;
use kms_chain::FheType;
use kms_chain::abi::{GuardLens, IGuardLens};
use kms_chain::eip712::{sign_digest, signer_address};
use kms_chain::follower::FollowerStatus;
use kms_chain::handle::Handle;
use kms_chain::manifest::DecryptionDomain;
use kms_chain::permit::{HandleContract, Permit, UserRequest};
use kms_chain::user_view::UserView;
use kms_client::user::UserResponse;
use kms_encoding::user::{Kem, KeyPair, SEED_BYTES};
use kms_relayer::dispatch::DispatchRules;
use kms_relayer::feed::Feed;
use kms_relayer::http::{Access, Api, RateLimit, Seats, router};
use kms_relayer::pipeline::{Pipeline, PipelineRules};
use kms_relayer::ranks::Ranks;
use kms_relayer::store::Store;
use kms_relayer::views::{Judge, Views};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::{CHAIN, CONTEXT, desk, open};
use crate::user_parties::Stub;

pub(crate) const START: u64 = 1_700_000_000;
pub(crate) const USER_CONTRACT: Address = Address::repeat_byte(0x33);
pub(crate) const DELEGATOR: Address = Address::repeat_byte(0x44);
pub(crate) const DOMAIN: DecryptionDomain =
    DecryptionDomain { chain_id: 1, verifying_contract: Address::repeat_byte(0x0d) };

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).expect("key")
}

/// The user's wallet.
const WALLET: u8 = 99;

pub(crate) fn user_handle(seed: u8, ty: FheType) -> B256 {
    Handle::new([seed; 21], 0xff, CHAIN, ty).raw()
}

/// A good request, changed and then signed.
pub(crate) fn request(change: impl FnOnce(&mut UserRequest)) -> UserRequest {
    let pair = KeyPair::from_seed(Kem::MlKem768, &[1; SEED_BYTES]);
    let mut request = UserRequest {
        host_chain_id: CHAIN,
        permit: Permit {
            user: signer_address(&key(WALLET)),
            delegator: None,
            public_key: pair.public_key().as_bytes().to_vec().into(),
            contracts: vec![USER_CONTRACT],
            start: START,
            days: 10,
            extra_data: [&[1][..], CONTEXT.as_slice()].concat().into(),
        },
        signature: Bytes::new(),
        pairs: vec![HandleContract { handle: user_handle(1, FheType::Uint64), contract: USER_CONTRACT }],
    };
    change(&mut request);
    if request.signature.is_empty() {
        request.signature = signature(&request, WALLET);
    }
    request
}

pub(crate) fn signature(request: &UserRequest, wallet: u8) -> Bytes {
    let digest = request.permit.digest(request.host_chain_id, DOMAIN.verifying_contract);
    sign_digest(&key(wallet), digest).to_vec().into()
}

/// The body, as a client writes it.
pub(crate) fn body(request: &UserRequest) -> Value {
    let permit = &request.permit;
    let pairs: Vec<Value> =
        request.pairs.iter().map(|pair| json!({ "handle": pair.handle, "contractAddress": pair.contract })).collect();
    let mut body = json!({
        "handleContractPairs": pairs,
        "requestValidity": { "startTimestamp": permit.start.to_string(), "durationDays": permit.days.to_string() },
        "contractsChainId": request.host_chain_id.to_string(),
        "contractAddresses": permit.contracts,
        "userAddress": permit.user,
        "signature": request.signature,
        "publicKey": permit.public_key,
        "extraData": permit.extra_data,
    });
    if let Some(delegator) = permit.delegator {
        body["delegatorAddress"] = json!(delegator);
    }
    body
}

/// What the chain says: everything is permitted, but for a change.
#[derive(Debug, Default)]
pub(crate) struct FakeViews {
    pub(crate) state: Mutex<FakeView>,
}

#[derive(Debug, Default)]
pub(crate) struct FakeView {
    pub(crate) change: Option<fn(&mut UserView)>,
    /// Times that the change is seen; for ever if there is none.
    pub(crate) times: Option<u32>,
    pub(crate) down: bool,
    pub(crate) asked: u32,
}

impl FakeViews {
    pub(crate) fn say(&self, change: fn(&mut UserView)) {
        *self.state.lock().expect("view") = FakeView { change: Some(change), ..FakeView::default() };
    }
}

#[async_trait::async_trait]
impl Views for FakeViews {
    async fn user(&self, chain: u64, call: GuardLens::viewUserDecryptionCall) -> Result<UserView, String> {
        assert_eq!(chain, CHAIN);
        let mut state = self.state.lock().expect("view");
        state.asked += 1;
        if state.down {
            return Err("no endpoint answers".into());
        }
        let pair = IGuardLens::PairView {
            userAllowed: true,
            contractAllowed: true,
            delegated: true,
            delegatedUntil: u64::MAX,
            keyId: B256::repeat_byte(7),
            digest: B256::repeat_byte(8),
            keyState: 2,
        };
        let mut view = UserView {
            blockTimestamp: START + 100,
            blockNumber: 5,
            currentContextId: CONTEXT,
            contextLive: true,
            signaturesInvalidBefore: 0,
            signature: if call.query.askSigner { 5 } else { 0 },
            pairs: vec![pair; call.query.pairs.len()],
        };
        if let Some(change) = state.change
            && state.times.is_none_or(|times| state.asked <= times)
        {
            change(&mut view);
        }
        Ok(view)
    }
}

/// A relayer's API and pipeline over one database.
pub(crate) struct Relayer {
    pub(crate) url: String,
    pub(crate) api: Arc<Api>,
    pub(crate) store: Store,
    pub(crate) parties: Arc<Stub>,
    pub(crate) views: Arc<FakeViews>,
    pub(crate) dir: tempfile::TempDir,
    serving: tokio::task::JoinHandle<()>,
    working: Option<tokio::task::JoinHandle<()>>,
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn label(&self) -> &str {
        self.body["error"]["label"].as_str().unwrap_or_default()
    }

    /// The shares, as a client reads them.
    pub(crate) fn shares(&self) -> Vec<UserResponse> {
        let field = |share: &Value, name: &str| -> Bytes { share[name].as_str().expect(name).parse().expect("hex") };
        let shares = self.body["result"]["shares"].as_array().expect("shares");
        shares
            .iter()
            .map(|s| UserResponse {
                share: field(s, "share"),
                signature: field(s, "signature"),
                extra_data: field(s, "extraData"),
            })
            .collect()
    }

    pub(crate) fn collecting(&self) -> bool {
        self.body["result"]["collecting"].as_bool().expect("collecting")
    }
}

/// How long a test's relayer collects when it is to collect until all are there.
const LONG: Duration = Duration::from_secs(3600);

pub(crate) fn pipeline(store: &Store, parties: &Arc<Stub>, change: impl FnOnce(&mut DispatchRules)) -> Arc<Pipeline> {
    let mut dispatch = DispatchRules {
        patience: Duration::from_secs(5),
        tail: Duration::from_millis(20),
        longest_pause: Duration::from_millis(20),
        grace: Duration::ZERO,
        last_call: Duration::from_millis(20),
        collect: LONG,
    };
    change(&mut dispatch);
    let rules = PipelineRules {
        concurrency: 8,
        reserved: 2,
        lease: Duration::from_secs(60),
        dispatch,
        ranks: Ranks::default(),
        tick: Duration::from_millis(5),
    };
    Pipeline::new(store.clone(), parties.clone(), BTreeMap::new(), rules)
}

impl Relayer {
    pub(crate) async fn start(parties: Arc<Stub>) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        Self::over(dir, parties, |_| {}).await
    }

    /// The API alone.
    pub(crate) async fn over(dir: tempfile::TempDir, parties: Arc<Stub>, change: impl FnOnce(&mut Api)) -> Self {
        let store = open(dir.path(), "test").await;
        let (_, status) = watch::channel(FollowerStatus { rounds: 1, ..FollowerStatus::default() });
        let views = Arc::new(FakeViews::default());
        let mut api = Api {
            store: store.clone(),
            committee: parties.clone(),
            followers: BTreeMap::from([(CHAIN, status)]),
            access: Access::default(),
            seats: Seats::new(4, 2),
            feed: Feed::start(store.clone()),
            desk: desk(),
            rate: RateLimit::new(1_000.0, 10_000.0),
            body_bytes: 256 * 1024,
            open_pulls: 1_000,
            open_pulls_per_client: 1_000,
            pull_timeout_s: 3_600,
            decryption_contract: DOMAIN.verifying_contract,
            judge: Judge::new(views.clone(), 3, Duration::from_millis(1)),
            collect: LONG,
            draining: AtomicBool::new(false),
        };
        change(&mut api);
        let api = Arc::new(api);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let service = router(api.clone()).into_make_service_with_connect_info::<SocketAddr>();
        let serving = tokio::spawn(async move { axum::serve(listener, service).await.expect("served") });
        Self { url, api, store, parties, views, dir, serving, working: None }
    }

    /// Starts the workers.
    pub(crate) fn work(&mut self) {
        self.work_with(|_| {});
    }

    pub(crate) fn work_with(&mut self, change: impl FnOnce(&mut DispatchRules)) {
        let pipeline = pipeline(&self.store, &self.parties, change);
        self.working = Some(tokio::spawn(pipeline.run(CancellationToken::new())));
    }

    /// The process is killed in the middle of whatever it does, and another one starts over the same database.
    pub(crate) async fn killed(self) -> Self {
        self.serving.abort();
        if let Some(working) = self.working {
            working.abort();
            let _ = working.await;
        }
        self.store.close().await;
        Self::over(self.dir, self.parties, |_| {}).await
    }

    pub(crate) async fn post_to(&self, path: &str, body: &Value) -> Reply {
        let client = reqwest::Client::new();
        let post = client.post(format!("{}{path}", self.url)).header("content-type", "application/json");
        reply(post.body(body.to_string())).await
    }

    pub(crate) async fn post(&self, request: &UserRequest) -> Reply {
        self.post_to(route(request), &body(request)).await
    }

    pub(crate) async fn get(&self, request: &UserRequest) -> Reply {
        let id = request.id(DOMAIN.verifying_contract);
        self.get_path(&format!("{}/{id}", route(request))).await
    }

    pub(crate) async fn get_path(&self, path: &str) -> Reply {
        reply(reqwest::Client::new().get(format!("{}{path}", self.url))).await
    }

    /// Reads until it is as wanted.
    pub(crate) async fn until(&self, request: &UserRequest, wanted: impl Fn(&Reply) -> bool) -> Reply {
        loop {
            let reply = self.get(request).await;
            if wanted(&reply) {
                return reply;
            }
            assert!(matches!(reply.status, 200 | 202), "{}", reply.body);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Parties by the shares of an answer, in its order.
    pub(crate) fn authors(&self, request: &UserRequest, reply: &Reply) -> Vec<u32> {
        reply.shares().iter().map(|share| self.parties.author(request, share)).collect()
    }

    /// What the timeline says of each party.
    pub(crate) async fn statuses(&self, request: &UserRequest) -> Vec<String> {
        let id = request.id(DOMAIN.verifying_contract);
        let timeline = self.get_path(&format!("/requests/{id}")).await.body;
        let parties = timeline["parties"].as_array().cloned().unwrap_or_default();
        parties.iter().map(|party| party["status"].as_str().expect("status").to_owned()).collect()
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

fn route(request: &UserRequest) -> &'static str {
    if request.permit.delegator.is_some() { "/v2/delegated-user-decrypt" } else { "/v2/user-decrypt" }
}

async fn reply(request: reqwest::RequestBuilder) -> Reply {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let retry_after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
    let text = response.text().await.expect("text");
    Reply { status, retry_after, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
}
