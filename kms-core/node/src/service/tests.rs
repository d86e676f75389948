//! The client API over real mutual TLS.

use std::net::SocketAddr;

use alloy_primitives::B256;
use hyper_util::rt::TokioIo;
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
use crate::guard::ActiveKey;
use crate::identity::{issue, new_root};
use crate::lifecycle::Phase;
use crate::party::TlsRoot;
use crate::testkit::cluster::{Cluster, EPOCH, Node};
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
