//! The client API over real mutual TLS.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;

use alloy_primitives::B256;
use hyper_util::rt::TokioIo;
use kms_client::user::Kem;
use kms_client::verify::user_message;
use kms_encoding::FheType;
use kms_proto::node::node_client::NodeClient;
use rustls::ClientConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Uri};

use super::*;
use crate::chains::{ActiveKeys, Pace};
use crate::ciphertexts::Ciphertexts;
use crate::dkg::{DkgOptions, DkgParts, PUBLIC};
use crate::guard::ActiveKey;
use crate::identity::{issue, new_root};
use crate::lifecycle::Phase;
use crate::party::TlsRoot;
use crate::sealed::{Cost, Vault};
use crate::setup::{Setup, SetupOptions, SetupParts};
use crate::testkit::cluster::{Cluster, EPOCH, Node};
use crate::testkit::user::User;
use crate::testkit::{CHAIN, until};
use crate::tls::{ClientRules, Limit};

fn rules(name: &str, root: &TlsRoot, permissions: Vec<Permission>, requests_per_second: u32) -> ClientRules {
    let ca = CertificateDer::from_pem_slice(root.certificate_pem.as_bytes()).unwrap();
    let limit = Limit { requests_per_second, max_open: 4 };
    ClientRules { name: name.into(), ca, permissions, group: limit, each: limit }
}

fn leaf(root: &TlsRoot) -> CertifiedKey {
    issue(root, "client.example", Duration::from_secs(3600)).unwrap()
}

async fn client(cluster: &Cluster, address: SocketAddr, shows: CertifiedKey) -> NodeClient<Channel> {
    let name = cluster.fixture.name(1);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(cluster.fixture.roots[0].certificate_pem.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shows)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let connect = tower::service_fn(move |_: Uri| {
        let (connector, name) = (connector.clone(), ServerName::try_from(name.clone()).unwrap());
        async move {
            let tcp = TcpStream::connect(address).await?;
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, tcp).await?))
        }
    });
    NodeClient::new(Endpoint::from_static("http://party").connect_with_connector_lazy(connect))
}

const DEAD_CHAIN: u64 = 77;

/// The endpoints of [`CHAIN`] only.
struct OneChain;

#[tonic::async_trait]
impl ActiveKeys for OneChain {
    async fn active_key(&self, chain_id: u64) -> Result<Option<ActiveKey>, String> {
        if chain_id == CHAIN { Ok(None) } else { Err("no endpoint answers".into()) }
    }
}

/// The generations of keys of party 1.
async fn dkg(cluster: &Cluster, node: &Node) -> Dkg {
    let (party, store) = (Arc::new(cluster.fixture.party(1)), cluster.store(1).await);
    let sealed = cluster.dir(1).join("sealed");
    let vault = Arc::new(Vault::create(&sealed, b"insecure test", Cost::INSECURE_TEST).unwrap());
    let parts = SetupParts {
        party: party.clone(),
        keys: node.keys.clone(),
        vault: vault.clone(),
        store: store.clone(),
        hub: node.hub.clone(),
        metrics: node.metrics.clone(),
        cancel: node.cancel.clone(),
    };
    let setup = Setup::start(parts, SetupOptions::default()).await.unwrap();
    let parts = DkgParts {
        party,
        keys: node.keys.clone(),
        vault,
        store,
        hub: node.hub.clone(),
        setup,
        ciphertexts: Arc::new(Ciphertexts::new(&[], node.metrics.clone()).unwrap()),
        metrics: node.metrics.clone(),
        data_dir: cluster.dir(1).to_owned(),
        cancel: node.cancel.clone(),
    };
    Dkg::start(parts, DkgOptions::default()).await.unwrap()
}

async fn serve_one(
    cluster: &Cluster,
    node: &Node,
    clients: Vec<ClientRules>,
) -> (SocketAddr, Arc<Lifecycle>, tokio::task::JoinHandle<Result<(), ServeError>>) {
    let lifecycle = Arc::new(Lifecycle::new());
    // The chain of the tests, and one whose endpoint is dead.
    let chains = Arc::new(Chains::new([CHAIN, DEAD_CHAIN], Pace::default()));
    let (following, keys, cancel) = (chains.clone(), node.keys.clone(), node.cancel.clone());
    tokio::spawn(async move { following.follow(Arc::new(OneChain), keys, cancel).await });
    until(async || chains.waits_for(CHAIN).is_none().then_some(())).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let api = Api {
        engine: node.engine.clone(),
        hub: node.hub.clone(),
        dkg: dkg(cluster, node).await,
        public: cluster.dir(1).join(PUBLIC),
        keys: node.keys.clone(),
        party: Arc::new(cluster.fixture.party(1)),
        lifecycle: lifecycle.clone(),
        clients: Arc::new(Clients::new(clients).unwrap()),
        chains: chains.clone(),
        leaf: cluster.fixture.leaf(1),
    };
    (address, lifecycle, tokio::spawn(serve(listener, api, node.cancel.clone())))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_what_its_certificate_allows() {
    let cluster = Cluster::new(&[(FheType::Uint8, 77)]).await;
    let nodes = cluster.start_all(&[]).await;
    let (relayer, monitor, stranger) =
        (new_root("relayer").unwrap(), new_root("monitor").unwrap(), new_root("stranger").unwrap());
    let both = vec![Permission::Decrypt, Permission::Status];
    let list = vec![rules("relayer", &relayer, both, 100), rules("monitor", &monitor, vec![Permission::Status], 1)];
    let (address, lifecycle, served) = serve_one(&cluster, &nodes[0], list).await;
    let mut relayer = client(&cluster, address, leaf(&relayer)).await;
    let mut monitor = client(&cluster, address, leaf(&monitor)).await;

    let mut stranger = client(&cluster, address, leaf(&stranger)).await;
    assert!(stranger.health(HealthRequest {}).await.is_err(), "a stranger got in");

    // A process that has just started serves health and nothing else.
    let health = relayer.health(HealthRequest {}).await.unwrap().into_inner();
    bounds::check_health(&health).unwrap();
    assert_eq!((health.index, health.phase.as_str(), health.peers.len()), (1, "booting", 3));
    assert!(health.peers.iter().all(|p| p.connected && p.last_seen_ms > 0));
    let status = relayer.get_keys(GetKeysRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let early = relayer.decrypt(cluster.raw(cluster.v1())).await.unwrap().into_inner();
    let Some(Outcome::NotYet(not_yet)) = early.outcome else { panic!("{early:?}") };
    assert_eq!(not_yet.reason(), NotYetReason::Phase);

    lifecycle.advance(Phase::Recovering).unwrap();
    lifecycle.advance(Phase::Ready).unwrap();
    // A chain without an endpoint waits, and says so; the other one is served.
    let waits = DecryptRequest { chain_id: DEAD_CHAIN, ..cluster.raw(cluster.v1()) };
    let outcome = relayer.decrypt(waits).await.unwrap().into_inner().outcome;
    let Some(Outcome::NotYet(not_yet)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(not_yet.reason(), NotYetReason::ChainUnavailable);
    assert!(not_yet.detail.contains("no endpoint answers"), "{}", not_yet.detail);
    let health = relayer.health(HealthRequest {}).await.unwrap().into_inner();
    let chains: Vec<_> = health.chains.iter().map(|c| (c.chain_id, c.ready, c.problem.as_str())).collect();
    assert_eq!(chains, [(DEAD_CHAIN, false, "no endpoint answers"), (CHAIN, true, "")]);
    let others: Vec<_> = (2u16..).zip(&nodes[1..]).collect();
    let asked = cluster.raw(cluster.v1());
    let extra_data = cluster.v1();
    let (id, answer) = tokio::join!(cluster.ask(&others, &extra_data), relayer.decrypt(asked));
    let answer = answer.unwrap().into_inner();
    bounds::check_decrypt_response(&answer).unwrap();
    cluster.check(1, &extra_data, &answer.outcome.unwrap());
    let mut asking = relayer.clone();
    let status = until(async || {
        let request = GetStatusRequest { request_id: id.to_vec() };
        let status = asking.get_status(request).await.unwrap().into_inner();
        (status.stage() == node::Stage::Final).then_some(status)
    });
    let status = status.await;
    bounds::check_status(&status).unwrap();
    assert!(status.answer.is_some() && status.receipt.is_some());
    let keys = relayer.get_keys(GetKeysRequest {}).await.unwrap().into_inner();
    bounds::check_keys(&keys).unwrap();
    assert_eq!((keys.keys.len(), keys.keys[0].params.as_str()), (1, "insecure-test"));

    for byte in 100..170 {
        nodes[0].keys.insert(cluster.other_share(B256::repeat_byte(byte), EPOCH));
    }
    let health = relayer.health(HealthRequest {}).await.unwrap().into_inner();
    bounds::check_health(&health).unwrap();
    assert_eq!(health.usable_keys.len(), 71, "as many as keys are listed");

    let denied = monitor.decrypt(cluster.raw(cluster.v1())).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let malformed = relayer.get_status(GetStatusRequest { request_id: vec![1] }).await.unwrap_err();
    assert_eq!(malformed.code(), Code::InvalidArgument);
    let huge = vec![0; 2 * MAX_CLIENT_MESSAGE];
    assert_eq!(relayer.get_status(GetStatusRequest { request_id: huge }).await.unwrap_err().code(), Code::OutOfRange);
    // One call per second: of many at once, some are too many.
    let calls = (0..20).map(|_| {
        let mut monitor = monitor.clone();
        async move { monitor.health(HealthRequest {}).await.err().map(|status| status.code()) }
    });
    let codes = futures::future::join_all(calls).await;
    assert!(codes.contains(&None) && codes.contains(&Some(Code::ResourceExhausted)), "{codes:?}");

    for node in nodes {
        node.stop().await;
    }
    served.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_decryption_has_a_permission_of_its_own_and_counts_as_open() {
    use node::user_decrypt_response::Outcome as UserOutcome;
    let cluster = Cluster::new(&[(FheType::Uint8, 77)]).await;
    let node = cluster.start(1, None).await;
    let (relayer, gate) = (new_root("relayer").unwrap(), new_root("gate").unwrap());
    let both = vec![Permission::Decrypt, Permission::Status];
    let list = vec![rules("relayer", &relayer, both, 100), rules("gate", &gate, vec![Permission::UserDecrypt], 100)];
    let (address, lifecycle, served) = serve_one(&cluster, &node, list).await;
    let mut relayer = client(&cluster, address, leaf(&relayer)).await;
    let gate = client(&cluster, address, leaf(&gate)).await;
    let good = user_message(&User::new(9, Kem::MlKem768).request(&cluster, &cluster.handles));
    let ask = async |call: &node::UserDecryptRequest| {
        let answer = gate.clone().user_decrypt(call.clone()).await.unwrap().into_inner();
        bounds::check_user_decrypt_response(&answer).unwrap();
        answer.outcome.unwrap()
    };
    let waits = |outcome: UserOutcome, reason| match outcome {
        UserOutcome::NotYet(not_yet) => assert_eq!(not_yet.reason(), reason, "{}", not_yet.detail),
        other => panic!("{other:?}"),
    };

    waits(ask(&good).await, NotYetReason::Phase);
    lifecycle.advance(Phase::Recovering).unwrap();
    lifecycle.advance(Phase::Ready).unwrap();
    assert_eq!(relayer.user_decrypt(good.clone()).await.unwrap_err().code(), Code::PermissionDenied);
    let pull = gate.clone().decrypt(cluster.raw(cluster.v1())).await.unwrap_err();
    assert_eq!(pull.code(), Code::PermissionDenied);
    waits(
        ask(&node::UserDecryptRequest { chain_id: DEAD_CHAIN, ..good.clone() }).await,
        NotYetReason::ChainUnavailable,
    );
    let outcome = ask(&node::UserDecryptRequest { permit: None, ..good.clone() }).await;
    let UserOutcome::Refused(refused) = outcome else { panic!("{outcome:?}") };
    assert_eq!((refused.reason(), refused.detail.as_str()), (node::RefusedReason::Malformed, "permit is missing"));

    // Four may be open: of five at once one is too many.
    let fetches = &cluster.world.fetches;
    fetches.hold();
    let busy = async {
        until(async || (fetches.now.load(SeqCst) == 4).then_some(())).await;
        waits(ask(&good).await, NotYetReason::Busy);
        fetches.let_go(4);
    };
    let (four, ()) = tokio::join!(futures::future::join_all((0..4).map(|_| ask(&good))), busy);
    assert!(four.iter().all(|outcome| matches!(outcome, UserOutcome::Answer(_))), "{four:?}");
    node.stop().await;
    served.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_opened_once_watched_and_ended_for_good() {
    use node::{KeyGenAbortRequest, KeyGenRequest, KeyGenState, KeyGenStatusRequest};
    let cluster = Cluster::new(&[]).await;
    let node = cluster.start(1, None).await;
    let (operator, monitor) = (new_root("operator").unwrap(), new_root("monitor").unwrap());
    let all = vec![Permission::Keygen, Permission::Status];
    let list = vec![rules("operator", &operator, all, 100), rules("monitor", &monitor, vec![Permission::Status], 100)];
    let (address, lifecycle, served) = serve_one(&cluster, &node, list).await;
    let mut operator = client(&cluster, address, leaf(&operator)).await;
    let mut monitor = client(&cluster, address, leaf(&monitor)).await;
    let call = |run: u8| KeyGenRequest {
        run_id: vec![run; 32],
        params: kms_encoding::ParamsId::InsecureTest.to_u8().into(),
        with_compression: false,
        crs_digest: vec![9; 32],
    };
    let early = operator.key_gen(call(1)).await.unwrap_err();
    assert_eq!(early.code(), Code::FailedPrecondition, "a process that has just started makes no keys");
    lifecycle.advance(Phase::Initialising).unwrap();

    assert_eq!(monitor.key_gen(call(1)).await.unwrap_err().code(), Code::PermissionDenied);
    let bad = [KeyGenRequest { params: 77, ..call(1) }, KeyGenRequest { crs_digest: vec![], ..call(1) }];
    for call in bad {
        assert_eq!(operator.key_gen(call).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let opened = operator.key_gen(call(1)).await.unwrap().into_inner();
    bounds::check_key_gen_response(&opened).unwrap();
    assert_eq!((opened.run_id, opened.state), (vec![1; 32], KeyGenState::Preparing.into()));
    assert!(operator.key_gen(call(1)).await.is_ok(), "the same call again is the same run");
    let mut watch =
        async |run_id: Vec<u8>| monitor.key_gen_status(KeyGenStatusRequest { run_id }).await.unwrap().into_inner();
    // Without its reference string it waits, and says for what.
    until(async || watch(vec![]).await.problem.contains("no object store has crs/0909").then_some(())).await;
    for refused in [KeyGenRequest { with_compression: true, ..call(1) }, call(2)] {
        assert_eq!(operator.key_gen(refused).await.unwrap_err().code(), Code::FailedPrecondition);
    }
    assert_eq!(watch(vec![2; 32]).await.state(), KeyGenState::Unknown);

    let abort = |run: u8| KeyGenAbortRequest { run_id: vec![run; 32] };
    assert_eq!(operator.key_gen_abort(abort(2)).await.unwrap_err().code(), Code::NotFound);
    for _ in 0..2 {
        assert_eq!(operator.key_gen_abort(abort(1)).await.unwrap().into_inner().state(), KeyGenState::Aborted);
    }
    let again = operator.key_gen(call(1)).await.unwrap_err();
    assert!(again.message().contains("never starts again"), "{again}");
    assert_eq!(operator.key_gen(call(2)).await.unwrap().into_inner().state(), KeyGenState::Preparing);
    let file = node::GetKeyFileRequest { key_id: vec![1; 32], file: "../sealed/sealer".into() };
    assert_eq!(operator.get_key_file(file).await.unwrap_err().code(), Code::NotFound);
    node.stop().await;
    served.await.unwrap().unwrap();
}
