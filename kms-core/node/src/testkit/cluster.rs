//! A cluster of real engines over real mutual TLS; the chain and the object store are tables.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use alloy_primitives::{B256, U256};
use kms_chain::eip712::{public_decrypt_digest, recover};
use kms_chain::extra_data::ExtraData;
use kms_chain::handle::Handle;
use kms_chain::request::Request;
use kms_chain::user_view::{UserQuestion, UserRefusal};
use kms_encoding::{FheType, LweBlocks, ParamsId, SecretKeyKind, ShareFile};
use kms_mpc::{Committee, insecure_dealt};
use kms_proto::node::{self, DecryptRequest, PublicRequest, decrypt_request, decrypt_response::Outcome};
use parking_lot::Mutex;
use rand::Rng;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{CHAIN, Fixture, until};
use crate::engine::{Call, Engine, EngineOptions, Objects, Parts, Permission};
use crate::error::CiphertextError;
use crate::guard::{Grant, HandleGrant, Refusal, Verdict};
use crate::keys::{KeyMaterial, Keys};
use crate::metrics::Metrics;
use crate::misbehave::Misbehave;
use crate::peer::{Hub, HubOptions, InboxLimits};
use crate::store::Store;
use crate::test_support::prss;

pub(crate) const KEY: B256 = B256::repeat_byte(0x11);
pub(crate) const EPOCH: B256 = B256::repeat_byte(0x22);
pub(crate) const WAIT: Duration = Duration::from_secs(60);

/// The chain and the object store: what exists may be decrypted, unless a test says otherwise.
pub(crate) struct World {
    pub(crate) context: B256,
    pub(crate) says: Mutex<Option<Verdict>>,
    /// What the chain says from the next fetch on.
    pub(crate) says_next: Mutex<Option<Verdict>>,
    pub(crate) fetches: Fetches,
    blocks: HashMap<B256, Arc<LweBlocks>>,
}

/// What is fetched from the object store.
pub(crate) struct Fetches {
    /// So many may go on; without bound unless a test takes them away.
    pub(crate) gate: Semaphore,
    /// So many panic.
    pub(crate) panics: AtomicUsize,
    /// Under way now.
    pub(crate) now: AtomicUsize,
    /// Begun since the start.
    pub(crate) begun: AtomicUsize,
}

impl Default for Fetches {
    fn default() -> Self {
        let gate = Semaphore::new(Semaphore::MAX_PERMITS);
        Self { gate, panics: AtomicUsize::new(0), now: AtomicUsize::new(0), begun: AtomicUsize::new(0) }
    }
}

impl Fetches {
    /// From now on nothing is fetched but what [`Self::let_go`] lets through.
    pub(crate) fn hold(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn let_go(&self, fetches: usize) {
        self.gate.add_permits(fetches);
    }
}

impl World {
    /// The verdict that allows these handles, each under a key.
    pub(crate) fn allows(&self, chain_id: u64, handles: impl IntoIterator<Item = (B256, B256)>) -> Verdict {
        let handles = handles.into_iter().map(|(handle, key_id)| (Handle::parse(handle).unwrap(), key_id));
        let grants = handles.map(|(handle, key_id)| HandleGrant { handle, key_id, digest: digest(handle) });
        Verdict::Allowed(Grant {
            chain_id,
            context: self.context,
            request_id: None,
            handles: grants.collect(),
            block_number: 1,
            block_hash: B256::ZERO,
        })
    }
}

fn digest(handle: Handle) -> B256 {
    alloy_primitives::keccak256(handle.raw())
}

#[tonic::async_trait]
impl Permission for World {
    async fn check_request(&self, chain_id: u64, request: &Request) -> Verdict {
        self.check_public(chain_id, &request.handles).await
    }

    async fn check_public(&self, chain_id: u64, handles: &[B256]) -> Verdict {
        let says = self.says.lock().clone();
        says.unwrap_or_else(|| self.allows(chain_id, handles.iter().map(|handle| (*handle, KEY))))
    }

    async fn check_user(&self, question: &UserQuestion) -> Verdict {
        let request = question.request();
        // There are no accounts here but wallets.
        if !question.is_signed_by_wallet() {
            return Verdict::Refused(Refusal::User(UserRefusal::WrongSigner(request.permit.user)));
        }
        self.check_public(request.host_chain_id, &request.handles()).await
    }
}

#[tonic::async_trait]
impl Objects for World {
    async fn fetch(&self, grant: &HandleGrant, _params: ParamsId) -> Result<Arc<LweBlocks>, CiphertextError> {
        let fetches = &self.fetches;
        fetches.begun.fetch_add(1, SeqCst);
        fetches.now.fetch_add(1, SeqCst);
        fetches.gate.acquire().await.unwrap().forget();
        fetches.now.fetch_sub(1, SeqCst);
        assert!(fetches.panics.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_err(), "as the test wants it");
        if let Some(next) = self.says_next.lock().take() {
            *self.says.lock() = Some(next);
        }
        self.blocks.get(&grant.digest).cloned().ok_or(CiphertextError::Missing { digest: grant.digest })
    }
}

pub(crate) struct Cluster {
    pub(crate) fixture: Fixture,
    pub(crate) world: Arc<World>,
    shares: Vec<ShareFile>,
    pub(crate) handles: Vec<B256>,
    cleartexts: Vec<u8>,
    /// What the parties keep of early messages.
    pub(crate) inbox: InboxLimits,
    dirs: Vec<TempDir>,
}

pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) hub: Hub,
    pub(crate) keys: Arc<Keys>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) cancel: CancellationToken,
}

impl Cluster {
    /// A dealt key and one ciphertext per value.
    pub(crate) async fn new(values: &[(FheType, u64)]) -> Self {
        Self::with_noise(values, 0).await
    }

    /// The same with that much more noise in every block.
    pub(crate) async fn with_noise(values: &[(FheType, u64)], more: u128) -> Self {
        let fixture = Fixture::new(4).await;
        let context = fixture.manifest.committee.context_id;
        let mut rng = rand::rng();
        let (params, kind) = (ParamsId::InsecureTest, SecretKeyKind::Squashing);
        let secret: Vec<u128> = (0..params.dimension(kind)).map(|_| rng.random_range(0..2u128)).collect();
        let committee = Committee::new(4, 1).unwrap();
        let vectors = insecure_dealt::key_shares(&committee, kind, &secret, &mut rng);
        let shares = (1u16..).zip(vectors).map(|(index, vector)| ShareFile {
            params,
            context_id: context.0,
            key_id: KEY.0,
            epoch_id: EPOCH.0,
            n: 4,
            t: 1,
            index,
            degree: 4,
            vectors: vec![vector],
        });
        let (mut handles, mut blocks, mut words) = (Vec::new(), HashMap::new(), Vec::new());
        for (i, (ty, value)) in (0u8..).zip(values) {
            let handle = Handle::new([i; 21], i, CHAIN, *ty);
            let (mut masks, mut bodies) = (Vec::new(), Vec::new());
            for block in 0..ty.squashed_blocks() {
                let mask: Vec<u128> = secret.iter().map(|_| rng.random()).collect();
                let message = u128::from((value >> (4 * block)) & 15) << 123;
                let noise = rng.random_range(0..1u128 << 64) + more;
                let dot = mask.iter().zip(&secret).fold(0u128, |sum, (a, s)| sum.wrapping_add(a.wrapping_mul(*s)));
                bodies.push(dot.wrapping_add(message).wrapping_add(noise));
                masks.extend(mask);
            }
            let ciphertext = LweBlocks::new(kind, secret.len(), 0, masks, bodies).unwrap();
            blocks.insert(digest(handle), Arc::new(ciphertext));
            handles.push(handle.raw());
            words.push((*ty, U256::from(*value)));
        }
        Self {
            world: Arc::new(World {
                context,
                says: Mutex::default(),
                says_next: Mutex::default(),
                fetches: Fetches::default(),
                blocks,
            }),
            shares: shares.collect(),
            handles,
            cleartexts: kms_chain::cleartexts::encode(&words).unwrap(),
            inbox: InboxLimits::default(),
            dirs: (0..4).map(|_| tempfile::tempdir().unwrap()).collect(),
            fixture,
        }
    }

    /// The share of party 1 as one of another key, or of another epoch.
    pub(crate) fn other_share(&self, key: B256, epoch: B256) -> KeyMaterial {
        let mut share = self.shares[0].clone();
        (share.key_id, share.epoch_id) = (key.0, epoch.0);
        KeyMaterial::new(share, Arc::new(prss(&self.fixture.party(1), epoch, 1)))
    }

    /// The share of a party, without pseudorandom keys.
    pub(crate) fn share(&self, index: u16) -> ShareFile {
        self.shares[usize::from(index) - 1].clone()
    }

    /// The data folder of a party.
    pub(crate) fn dir(&self, index: u16) -> &Path {
        self.dirs[usize::from(index) - 1].path()
    }

    /// The database of a party that is not running.
    pub(crate) async fn store(&self, index: u16) -> Store {
        Store::open(&self.dir(index).join("node.db")).await.unwrap()
    }

    pub(crate) async fn start(&self, index: u16, misbehave: Option<Misbehave>) -> Node {
        // On a busy machine a share may be a while behind the others and counts as late.
        let patient = EngineOptions { tail: Duration::from_secs(3), ..EngineOptions::default() };
        self.start_with(index, misbehave, patient).await
    }

    pub(crate) async fn start_with(&self, index: u16, misbehave: Option<Misbehave>, engine: EngineOptions) -> Node {
        let keys = Arc::new(Keys::default());
        let prss = prss(&self.fixture.party(index), EPOCH, 1);
        keys.insert(KeyMaterial::new(self.share(index), Arc::new(prss)));
        self.start_keys(index, misbehave, engine, keys).await
    }

    /// Starts a party with these keys.
    pub(crate) async fn start_keys(
        &self,
        index: u16,
        misbehave: Option<Misbehave>,
        engine: EngineOptions,
        keys: Arc<Keys>,
    ) -> Node {
        let cancel = CancellationToken::new();
        let metrics = Arc::new(Metrics::new().unwrap());
        let party = Arc::new(self.fixture.party(index));
        let options = HubOptions { misbehave, inbox: self.inbox };
        let hub = Hub::new(&party, self.fixture.leaf(index), metrics.clone(), options, cancel.clone()).unwrap();
        let parts = Parts {
            party,
            keys: keys.clone(),
            permission: self.world.clone(),
            objects: self.world.clone(),
            store: self.store(index).await,
            hub: hub.clone(),
            metrics: metrics.clone(),
            misbehave,
            cancel: cancel.clone(),
        };
        let engine = Engine::new(parts, engine).unwrap();
        hub.start(self.fixture.listen(index).await).unwrap();
        Node { engine, hub, keys, metrics, cancel }
    }

    pub(crate) async fn start_all(&self, lies: &[(u16, Misbehave)]) -> Vec<Node> {
        let mut nodes = Vec::new();
        for index in 1..=4 {
            let lie = lies.iter().find(|(party, _)| *party == index).map(|(_, lie)| *lie);
            nodes.push(self.start(index, lie).await);
        }
        for node in &nodes {
            until(async || (node.hub.connected() == 3).then_some(())).await;
        }
        nodes
    }

    pub(crate) fn raw(&self, extra_data: Vec<u8>) -> DecryptRequest {
        self.raw_for(&self.handles, extra_data)
    }

    pub(crate) fn raw_for(&self, handles: &[B256], extra_data: Vec<u8>) -> DecryptRequest {
        let handles = handles.iter().map(|h| h.to_vec()).collect();
        DecryptRequest {
            chain_id: CHAIN,
            source: Some(decrypt_request::Source::Public(PublicRequest { handles, extra_data })),
            epoch_id: EPOCH.to_vec(),
            wait_ms: 0,
        }
    }

    pub(crate) fn call(&self, index: u16, extra_data: Vec<u8>) -> Call {
        Call::parse(&self.fixture.party(index), self.raw(extra_data)).unwrap()
    }

    /// A pull of some of the handles, named as often as one likes.
    pub(crate) fn call_for(&self, index: u16, handles: &[B256]) -> Call {
        Call::parse(&self.fixture.party(index), self.raw_for(handles, self.v1())).unwrap()
    }

    pub(crate) fn v1(&self) -> Vec<u8> {
        ExtraData::V1 { context: self.world.context }.encode().to_vec()
    }

    /// Asks the nodes with these indices at once and checks every answer.
    pub(crate) async fn ask(&self, nodes: &[(u16, &Node)], extra_data: &[u8]) -> B256 {
        let asking = nodes.iter().map(|(index, node)| async move {
            let outcome = node.engine.decrypt(self.call(*index, extra_data.to_vec()), WAIT, ()).await.unwrap();
            self.check(*index, extra_data, &outcome);
        });
        futures::future::join_all(asking).await;
        self.call(1, extra_data.to_vec()).id()
    }

    pub(crate) fn check(&self, index: u16, extra_data: &[u8], outcome: &Outcome) {
        let Outcome::Answer(answer) = outcome else { panic!("party {index}: {outcome:?}") };
        assert_eq!(answer.cleartexts, self.cleartexts, "party {index}");
        assert_eq!(answer.extra_data, extra_data);
        let domain = self.fixture.manifest.decryption_domain.eip712();
        let digest = public_decrypt_digest(&domain, &self.handles, &answer.cleartexts, extra_data).unwrap();
        let signature = answer.signature.as_slice().try_into().unwrap();
        assert_eq!(recover(digest, &signature).unwrap(), self.fixture.party(index).address());
    }
}

impl Node {
    pub(crate) async fn receipt(&self, id: B256) -> node::Receipt {
        until(async || self.engine.status(id).await.unwrap().receipt).await
    }

    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        self.engine.stopped().await;
        self.hub.stopped().await;
    }
}
