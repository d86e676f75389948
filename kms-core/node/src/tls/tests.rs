//! Every row of bad certificates, over real TLS on the loopback interface.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::Permission;
use crate::identity::{issue, issue_expired, new_root};
use crate::party::TlsRoot;
use crate::testkit::Fixture;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
struct Shows(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// Connects to party 1's listener with a certificate or none. What the listener says it is, or how it ended.
async fn knock(
    fixture: &Fixture,
    verifier: Arc<dyn ClientCertVerifier>,
    identify: impl Fn(&[CertificateDer<'_>]) -> Option<u8> + Send + Sync + 'static,
    shows: Option<CertifiedKey>,
) -> Result<u8, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let config = server_config(fixture.leaf(1), verifier).unwrap();
    let mut connections = incoming(listener, config, Limits::default(), identify, cancel.clone());
    let server = tokio::spawn(async move {
        while let Some(Ok(mut connection)) = connections.next().await {
            let who = tonic::transport::server::Connected::connect_info(&connection);
            connection.write_all(&[who]).await.unwrap();
            connection.shutdown().await.unwrap();
        }
    });
    let parties = Parties::new(&fixture.manifest.committee, 2).unwrap();
    let (roots, name) = parties.trust(1).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(Shows(shows.map(Arc::new))));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    let outcome = async {
        let mut tls = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name).unwrap(), tcp).await?;
        tls.read_to_end(&mut answer).await
    };
    let outcome = outcome.await;
    cancel.cancel();
    server.await.unwrap();
    match (outcome, answer.as_slice()) {
        (_, [who]) => Ok(*who),
        (Ok(_), _) => Err("closed".into()),
        (Err(error), _) => Err(error.to_string()),
    }
}

async fn knock_as_peer(fixture: &Fixture, shows: Option<CertifiedKey>) -> Result<u8, String> {
    let verifier = Arc::new(Parties::new(&fixture.manifest.committee, 1).unwrap());
    let identify = |chain: &[CertificateDer<'_>]| u8::try_from(party_of(chain.first()?)?.index).ok();
    knock(fixture, verifier, identify, shows).await
}

#[tokio::test]
async fn a_party_is_who_its_own_root_says() {
    let fixture = Fixture::new(4).await;
    for index in 2..=4u16 {
        let leaf = issue(&fixture.roots[usize::from(index) - 1], &fixture.name(index), DAY).unwrap();
        assert_eq!(knock_as_peer(&fixture, Some(leaf)).await, Ok(index as u8));
    }
}

#[tokio::test]
async fn bad_peer_certificates_are_refused() {
    let fixture = Fixture::new(4).await;
    let foreign = new_root("stranger").unwrap();
    let other_context = {
        let mut name = fixture.manifest.committee.party_name(3);
        name.context.0[0] ^= 1;
        name.to_string()
    };
    let leaf = |root: &TlsRoot, name: &str| Some(issue(root, name, DAY).unwrap());
    let root = |index: usize| &fixture.roots[index - 1];
    let rows = [
        ("none", None, "CertificateRequired"),
        ("foreign root", leaf(&foreign, &fixture.name(3)), "UnknownCA"),
        ("expired", Some(issue_expired(root(3), &fixture.name(3)).unwrap()), "CertificateExpired"),
        ("party 3 by the root of party 2", leaf(root(2), &fixture.name(3)), "UnknownCA"),
        ("another context", leaf(root(3), &other_context), "BadCertificate"),
        ("this party's own name", leaf(root(1), &fixture.name(1)), "BadCertificate"),
        ("a name of no party", leaf(root(3), "relayer.example"), "BadCertificate"),
        (
            "a party beyond the committee",
            leaf(root(3), &fixture.name(3).replace("party-3", "party-5")),
            "BadCertificate",
        ),
    ];
    for (row, shows, alert) in rows {
        let refusal = knock_as_peer(&fixture, shows).await.expect_err(row);
        assert!(refusal.contains(alert), "{row}: {refusal}");
    }
}

#[tokio::test]
async fn a_dialler_accepts_only_the_party_it_dialled() {
    let fixture = Fixture::new(4).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let verifier = Arc::new(Parties::new(&fixture.manifest.committee, 3).unwrap());
    let config = server_config(fixture.leaf(3), verifier).unwrap();
    let cancel = CancellationToken::new();
    let _connections = incoming(listener, config, Limits::default(), |_| Some(()), cancel.clone());
    let parties = Parties::new(&fixture.manifest.committee, 1).unwrap();
    for (index, accepted) in [(3, true), (2, false), (4, false)] {
        let (config, name) = client_config(fixture.leaf(1), &parties, index).unwrap();
        let tcp = TcpStream::connect(address).await.unwrap();
        let outcome = TlsConnector::from(config).connect(name, tcp).await;
        assert_eq!(outcome.is_ok(), accepted, "dialled {index}: {:?}", outcome.err());
    }
    assert!(matches!(client_config(fixture.leaf(1), &parties, 5), Err(TlsError::NoParty(5))));
    cancel.cancel();
}

fn client_rules(name: &str, root: &TlsRoot, requests_per_second: u32, max_open: u32) -> ClientRules {
    ClientRules {
        name: name.into(),
        ca: CertificateDer::from_pem_slice(root.certificate_pem.as_bytes()).unwrap(),
        permissions: vec![Permission::Status],
        group: Limit { requests_per_second, max_open },
        each: Limit { requests_per_second, max_open },
    }
}

#[tokio::test]
async fn clients_are_those_on_the_list() {
    let fixture = Fixture::new(4).await;
    let (relayer, operator, stranger) =
        (new_root("relayer").unwrap(), new_root("operator").unwrap(), new_root("stranger").unwrap());
    let rules = || vec![client_rules("relayer", &relayer, 9, 9), client_rules("operator", &operator, 9, 9)];
    let leaf = |root: &TlsRoot| Some(issue(root, "client.example", DAY).unwrap());
    let rows = [
        ("relayer", leaf(&relayer), Ok(b'r')),
        ("operator", leaf(&operator), Ok(b'o')),
        ("not on the list", leaf(&stranger), Err("UnknownCA")),
        ("a party of the committee", leaf(&fixture.roots[1]), Err("UnknownCA")),
        ("expired", Some(issue_expired(&relayer, "client.example").unwrap()), Err("CertificateExpired")),
        ("none", None, Err("CertificateRequired")),
    ];
    for (row, shows, expected) in rows {
        let clients = Arc::new(Clients::new(rules()).unwrap());
        let by = clients.clone();
        let identify = move |chain: &[CertificateDer<'_>]| by.identify(chain)?.name().bytes().next();
        match (knock(&fixture, clients, identify, shows).await, expected) {
            (Ok(who), Ok(expected)) => assert_eq!(who, expected, "{row}"),
            (Err(refusal), Err(alert)) => assert!(refusal.contains(alert), "{row}: {refusal}"),
            (got, _) => panic!("{row}: {got:?}"),
        }
    }
}

#[test]
fn a_client_has_permissions_a_rate_and_a_cap() {
    let root = new_root("relayer").unwrap();
    let clients = Clients::new(vec![client_rules("relayer", &root, 3, 2)]).unwrap();
    let leaf = issue(&root, "client.example", DAY).unwrap();
    let client = clients.identify(&leaf.cert).unwrap();
    assert!(client.may(Permission::Status) && !client.may(Permission::Decrypt));
    assert!((0..3).all(|_| client.take()));
    // A call takes far less than the third of a second that refills the bucket.
    assert!(!client.take());
    let (first, second) = (client.open(), client.open());
    assert!(first.is_some() && second.is_some() && client.open().is_none());
    drop(first);
    assert!(client.open().is_some());
}

#[test]
fn a_certificate_takes_no_more_than_its_part_of_the_group() {
    let root = new_root("relayer").unwrap();
    let each = Limit { requests_per_second: 2, max_open: 1 };
    let clients = Clients::new(vec![ClientRules { each, ..client_rules("relayer", &root, 3, 2) }]).unwrap();
    let client = || clients.identify(&issue(&root, "client.example", DAY).unwrap().cert).unwrap();
    let (first, second, third) = (client(), client(), client());
    let calls = |client: &Client| (0..10).filter(|_| client.take()).count();
    // The first has its two whatever it tries; the others share what is left of the group's three.
    assert_eq!([calls(&first), calls(&second), calls(&third)], [2, 1, 0]);
    let own = first.open();
    assert!(own.is_some() && first.open().is_none());
    let other = second.open();
    assert!(other.is_some() && third.open().is_none(), "more than the group has");
    drop(own);
    assert!(third.open().is_some());
    // The same certificate on another connection is the same client.
    let leaf = issue(&root, "client.example", DAY).unwrap();
    let twice = [clients.identify(&leaf.cert).unwrap(), clients.identify(&leaf.cert).unwrap()];
    let place = twice[0].open();
    assert!(place.is_some() && twice[1].open().is_none());
}

#[tokio::test]
async fn connections_that_say_nothing_give_their_place_back() {
    let fixture = Fixture::new(4).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let verifier = Arc::new(Parties::new(&fixture.manifest.committee, 1).unwrap());
    let config = server_config(fixture.leaf(1), verifier).unwrap();
    let cancel = CancellationToken::new();
    let limits = Limits { handshakes: 1, handshake: Duration::from_millis(500), ..Limits::default() };
    let mut connections = incoming(listener, config, limits, |_| Some(()), cancel.clone());
    let mut mute = Vec::new();
    for _ in 0..5 {
        mute.push(TcpStream::connect(address).await.unwrap());
    }
    // With one place for handshakes the good one waits for five limits, and then gets in.
    let parties = Parties::new(&fixture.manifest.committee, 2).unwrap();
    let (config, name) = client_config(fixture.leaf(2), &parties, 1).unwrap();
    let tcp = TcpStream::connect(address).await.unwrap();
    let (client, accepted) = tokio::join!(TlsConnector::from(config).connect(name, tcp), connections.next());
    assert!(client.is_ok() && accepted.is_some_and(|a| a.is_ok()));
    cancel.cancel();
}

type Tls = tokio_rustls::client::TlsStream<TcpStream>;

/// Connects to party 1 and keeps the connection.
async fn enter(fixture: &Fixture, address: std::net::SocketAddr, shows: CertifiedKey) -> Tls {
    let (roots, name) = Parties::new(&fixture.manifest.committee, 2).unwrap().trust(1).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(Shows(Some(Arc::new(shows)))));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name).unwrap(), tcp).await.unwrap()
}

/// The ends of the listener's side of all connections, each with its number and who it is.
async fn hold<W: Clone + Eq + std::hash::Hash + Send + Sync + Unpin + 'static>(
    fixture: &Fixture,
    limits: Limits,
    verifier: Arc<dyn ClientCertVerifier>,
    identify: impl Fn(&[CertificateDer<'_>]) -> Option<W> + Send + Sync + 'static,
) -> (std::net::SocketAddr, tokio::sync::mpsc::UnboundedReceiver<(usize, Option<W>)>, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let config = server_config(fixture.leaf(1), verifier).unwrap();
    let mut connections = incoming(listener, config, limits, identify, cancel.clone());
    let (said, events) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut number = 0;
        while let Some(Ok(mut connection)) = connections.next().await {
            let said = said.clone();
            said.send((number, Some(tonic::transport::server::Connected::connect_info(&connection)))).unwrap();
            tokio::spawn(async move {
                let ended = connection.read_u8().await.unwrap_err();
                assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionAborted, "{ended}");
                assert!(connection.write_u8(1).await.is_err() && connection.flush().await.is_err());
                drop(said.send((number, None)));
            });
            number += 1;
        }
    });
    (address, events, cancel)
}

#[tokio::test]
async fn an_authority_that_opens_too_many_connections_loses_its_own() {
    let fixture = Fixture::new(4).await;
    let (relayer, operator) = (new_root("relayer").unwrap(), new_root("operator").unwrap());
    let rules = vec![client_rules("relayer", &relayer, 9, 9), client_rules("operator", &operator, 9, 9)];
    let clients = Arc::new(Clients::new(rules).unwrap());
    let by = clients.clone();
    let limits = Limits { each: 2, ..Limits::default() };
    let (address, mut events, cancel) = hold(&fixture, limits, clients, move |chain| by.identify(chain)).await;
    let mut kept = Vec::new();
    // Many certificates of one authority are one identity.
    let rows = [(&operator, "operator", None), (&relayer, "relayer", None), (&relayer, "relayer", None)];
    let more = [(&relayer, "relayer", Some(1)), (&relayer, "relayer", Some(2)), (&operator, "operator", None)];
    for (number, (root, name, ended)) in rows.into_iter().chain(more).enumerate() {
        kept.push(enter(&fixture, address, issue(root, "client.example", DAY).unwrap()).await);
        let mut seen = vec![events.recv().await.unwrap()];
        if ended.is_some() {
            seen.push(events.recv().await.unwrap());
        }
        let came = seen.iter().find_map(|(n, who)| who.as_ref().map(|who| (*n, who.name())));
        let went = seen.iter().find_map(|(n, who)| who.is_none().then_some(*n));
        assert_eq!((came, went), (Some((number, name)), ended));
    }
    // What was evicted is closed on the client's side too.
    assert!(kept[1].read_u8().await.is_err() && kept[2].read_u8().await.is_err());
    cancel.cancel();
}

#[tokio::test]
async fn mute_connections_of_one_address_keep_no_other_address_out() {
    let fixture = Fixture::new(4).await;
    let verifier = Arc::new(Parties::new(&fixture.manifest.committee, 1).unwrap());
    let limits =
        Limits { handshakes: 4, handshakes_per_address: 2, handshake: Duration::from_secs(600), ..Limits::default() };
    let (address, mut events, cancel) = hold(&fixture, limits, verifier, |_| Some(())).await;
    let mut mute = Vec::new();
    for _ in 0..8 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        mute.push(socket.connect(address).await.unwrap());
    }
    // Beyond the second they are closed at once; the others may take ten minutes.
    for closed in &mut mute[2..] {
        assert!(matches!(closed.read(&mut [0]).await, Ok(0) | Err(_)));
    }
    let _good = enter(&fixture, address, issue(&fixture.roots[1], &fixture.name(2), DAY).unwrap()).await;
    assert_eq!(events.recv().await, Some((0, Some(()))));
    cancel.cancel();
}
