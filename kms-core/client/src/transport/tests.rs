//! Against real parties' sockets: TCP, TLS 1.3 with client certificates, HTTP/2, gRPC.

use super::*;
use crate::testing::{Authority, TestCommittee};
use crate::user::{ReconstructError, UserResponse};
use kms_proto::node::node_server::{Node, NodeServer};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, crypto::aws_lc_rs, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicU32, Ordering},
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::server::Connected;

struct Io(TlsStream<TcpStream>);

impl Connected for Io {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// What a test party does.
#[derive(Clone, Copy)]
enum Manner {
    Honest,
    /// Says NotYet to the first calls.
    Slow(u32),
    /// Signs another cleartext.
    Dissent,
    /// Gives the answer of party 1.
    Copy,
    Refuse,
}

struct TestParty {
    index: u32,
    manner: Manner,
    committee: Arc<TestCommittee>,
    calls: AtomicU32,
}

#[tonic::async_trait]
impl Node for TestParty {
    type GetKeyFileStream = futures::stream::Iter<std::vec::IntoIter<Result<node::KeyFilePiece, Status>>>;

    async fn key_gen(&self, request: Request<node::KeyGenRequest>) -> Result<Response<node::KeyGenResponse>, Status> {
        match self.manner {
            Manner::Refuse => Err(Status::failed_precondition("run 0x02 is open: one at a time")),
            // A signature without its bytes.
            Manner::Dissent => {
                let signatures = vec![node::KeySignature::default()];
                Ok(Response::new(node::KeyGenResponse { signatures, ..Default::default() }))
            }
            _ => Ok(Response::new(node::KeyGenResponse { run_id: request.into_inner().run_id, ..Default::default() })),
        }
    }

    async fn key_gen_status(
        &self,
        _: Request<node::KeyGenStatusRequest>,
    ) -> Result<Response<node::KeyGenResponse>, Status> {
        Ok(Response::new(node::KeyGenResponse { state: KeyGenState::Running.into(), ..Default::default() }))
    }

    async fn key_gen_abort(
        &self,
        _: Request<node::KeyGenAbortRequest>,
    ) -> Result<Response<node::KeyGenResponse>, Status> {
        Err(Status::not_found("this party knows no run 0x02"))
    }

    async fn get_key_file(
        &self,
        _: Request<node::GetKeyFileRequest>,
    ) -> Result<Response<Self::GetKeyFileStream>, Status> {
        let piece = |byte| Ok(node::KeyFilePiece { bytes: vec![byte; 3] });
        Ok(Response::new(futures::stream::iter(vec![piece(1), piece(2)])))
    }

    async fn decrypt(&self, _: Request<node::DecryptRequest>) -> Result<Response<node::DecryptResponse>, Status> {
        use node::decrypt_response::Outcome;
        let question = self.committee.question();
        let answer = |index, value| Outcome::Answer(self.committee.answer(index, &question, value));
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        let outcome = match self.manner {
            Manner::Slow(times) if calls < times => Outcome::NotYet(node::NotYet {
                reason: NotYetReason::NotFinal.into(),
                detail: "two more blocks".to_owned(),
                retry_after_ms: 1,
            }),
            Manner::Honest | Manner::Slow(_) => answer(self.index, 42),
            Manner::Dissent => answer(self.index, 41),
            Manner::Copy => answer(1, 42),
            Manner::Refuse => Outcome::Refused(node::Refused {
                reason: RefusedReason::NotPermitted.into(),
                detail: "no right".to_owned(),
            }),
        };
        Ok(Response::new(node::DecryptResponse { outcome: Some(outcome) }))
    }

    async fn user_decrypt(
        &self,
        request: Request<node::UserDecryptRequest>,
    ) -> Result<Response<node::UserDecryptResponse>, Status> {
        use node::user_decrypt_response::Outcome;
        let scene = self.committee.scene();
        assert_eq!(request.get_ref().permit.as_ref().map(|p| p.start), Some(scene.request.permit.start));
        let answer = |response: UserResponse| {
            let (share, signature) = (response.share.to_vec(), response.signature.to_vec());
            Outcome::Answer(node::UserAnswer { share, signature, extra_data: response.extra_data.to_vec() })
        };
        let index = self.index as usize;
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        let outcome = match self.manner {
            Manner::Slow(times) if calls < times => Outcome::NotYet(node::NotYet {
                reason: NotYetReason::Behind.into(),
                detail: "the permit begins in a second".to_owned(),
                retry_after_ms: 1,
            }),
            Manner::Honest | Manner::Slow(_) => answer(scene.response(index)),
            Manner::Dissent => answer(scene.wrong(index, 1)),
            Manner::Copy => answer(scene.response(1)),
            Manner::Refuse => Outcome::Refused(node::Refused {
                reason: RefusedReason::Delegation.into(),
                detail: "no delegation".to_owned(),
            }),
        };
        Ok(Response::new(node::UserDecryptResponse { outcome: Some(outcome) }))
    }

    async fn get_status(
        &self,
        _: Request<node::GetStatusRequest>,
    ) -> Result<Response<node::GetStatusResponse>, Status> {
        Ok(Response::new(node::GetStatusResponse::default()))
    }

    async fn get_keys(&self, _: Request<node::GetKeysRequest>) -> Result<Response<node::GetKeysResponse>, Status> {
        Err(Status::permission_denied("not for you"))
    }

    async fn health(&self, _: Request<node::HealthRequest>) -> Result<Response<node::HealthResponse>, Status> {
        let committee_hash = self.committee.manifest.committee_hash().to_vec();
        Ok(Response::new(node::HealthResponse { index: self.index, committee_hash, ..Default::default() }))
    }
}

/// How a test party presents itself.
struct Face {
    /// Its certificate is issued by this party's root,
    root: usize,
    /// with this party's name.
    name: u32,
    version: &'static SupportedProtocolVersion,
}

struct Cluster {
    committee: Arc<TestCommittee>,
    listeners: Vec<Option<TcpListener>>,
    client_authority: Authority,
}

impl Cluster {
    async fn new() -> Self {
        let mut listeners = Vec::new();
        for _ in 0..4 {
            listeners.push(Some(TcpListener::bind("127.0.0.1:0").await.expect("bind")));
        }
        let address = |i: usize| listeners[i].as_ref().expect("bound").local_addr().expect("address").to_string();
        let committee = Arc::new(TestCommittee::new(std::array::from_fn(address)));
        Self { committee, listeners, client_authority: Authority::new() }
    }

    fn identity(&self) -> Identity {
        let (certificate, key) = self.client_authority.issue("relayer.test");
        Identity::from_pem(certificate.as_bytes(), key.as_bytes()).expect("identity")
    }

    fn parties(&self) -> Parties {
        Parties::connect(&self.committee.manifest, &self.identity()).expect("parties")
    }

    fn start(&mut self, index: u32, manner: Manner) {
        self.start_as(index, manner, Face { root: index as usize, name: index, version: &rustls::version::TLS13 });
    }

    fn start_as(&mut self, index: u32, manner: Manner, face: Face) {
        let listener = self.listeners[index as usize - 1].take().expect("started once");
        let name = self.committee.manifest.committee.party_name(face.name).to_string();
        let (certificate, key) = self.committee.roots[face.root - 1].issue(&name);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.client_authority.pem.as_bytes()).expect("pem")).expect("root");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[face.version])
            .expect("versions")
            .with_client_cert_verifier(verifier.expect("verifier"))
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("pem")],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("pem"),
            )
            .expect("certificate");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (sender, incoming) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(tcp).await {
                    let _ = sender.send(Ok::<_, io::Error>(Io(stream)));
                }
            }
        });
        let party = TestParty { index, manner, committee: self.committee.clone(), calls: AtomicU32::new(0) };
        let server = tonic::transport::Server::builder().add_service(NodeServer::new(party));
        tokio::spawn(server.serve_with_incoming(UnboundedReceiverStream::new(incoming)));
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[tokio::test]
async fn all_are_asked_and_every_outcome_is_typed() {
    let mut cluster = Cluster::new().await;
    cluster.start(1, Manner::Honest);
    cluster.start(2, Manner::Copy);
    cluster.start(3, Manner::Slow(1));
    cluster.start(4, Manner::Refuse);
    let parties = cluster.parties();
    let outcomes: BTreeMap<_, _> = parties.decrypt_all(&cluster.committee.question()).collect().await;
    assert!(matches!(outcomes[&1], Ok(Outcome::Answer(_))), "{outcomes:?}");
    assert!(matches!(outcomes[&2], Err(PartyError::Bad(verify::AnswerError::Signer { index: 2, .. }))), "{outcomes:?}");
    assert!(matches!(outcomes[&3], Ok(Outcome::NotYet { reason: NotYetReason::NotFinal, .. })), "{outcomes:?}");
    assert!(matches!(outcomes[&4], Ok(Outcome::Refused { reason: RefusedReason::NotPermitted, .. })), "{outcomes:?}");
    assert!(matches!(parties.get_keys(1).await, Err(PartyError::NotAdmitted(_))));
    assert_eq!(parties.health(1).await.expect("healthy").index, 1);
}

#[tokio::test]
async fn a_quorum_is_collected_past_slow_and_dissenting_parties() {
    let mut cluster = Cluster::new().await;
    cluster.start(1, Manner::Honest);
    cluster.start(2, Manner::Dissent);
    cluster.start(3, Manner::Slow(2));
    cluster.start(4, Manner::Slow(1));
    let collected = cluster.parties().collect(&cluster.committee.question(), soon()).await;
    let decryption = collected.decryption.expect("a quorum");
    assert_eq!(decryption.indices, [1, 3, 4]);
    assert_eq!(collected.dissenters, [2]);
}

#[tokio::test]
async fn one_party_down_is_not_missed() {
    let mut cluster = Cluster::new().await;
    for index in [1, 2, 4] {
        cluster.start(index, Manner::Honest);
    }
    cluster.listeners[2] = None;
    let collected = cluster.parties().collect(&cluster.committee.question(), soon()).await;
    assert_eq!(collected.decryption.expect("a quorum").indices, [1, 2, 4]);
    let health = cluster.parties().health(3).await;
    assert!(matches!(health, Err(PartyError::Unreachable(_))), "{health:?}");
}

#[tokio::test]
async fn no_quorum_and_nobody_left_to_ask_ends_the_question() {
    let mut cluster = Cluster::new().await;
    cluster.start(1, Manner::Honest);
    cluster.start(2, Manner::Honest);
    cluster.start(3, Manner::Refuse);
    cluster.start(4, Manner::Refuse);
    let collected = cluster.parties().collect(&cluster.committee.question(), soon()).await;
    assert_eq!((collected.decryption, collected.outcomes.len()), (None, 4));
}

#[tokio::test]
async fn a_user_decryption_is_read_past_a_liar_and_a_slow_party() {
    let mut cluster = Cluster::new().await;
    cluster.start(1, Manner::Honest);
    cluster.start(2, Manner::Dissent);
    cluster.start(3, Manner::Slow(2));
    cluster.start(4, Manner::Honest);
    let scene = cluster.committee.scene();
    let mut reader = scene.reader();
    let read = cluster.parties().read(&mut reader, soon(), Duration::from_secs(60)).await;
    let result = read.result.expect("decided");
    assert_eq!(result.values.iter().map(|(_, value)| *value).collect::<Vec<_>>(), scene.values);
    assert_eq!(result.progress.culprits().to_string(), "2");
    assert!(matches!(read.outcomes[&2], Ok(Outcome::Answer(_))), "a lying share is signed like any other");
}

#[tokio::test]
async fn who_answers_for_another_or_not_at_all_is_named() {
    let mut cluster = Cluster::new().await;
    cluster.start(1, Manner::Honest);
    cluster.start(2, Manner::Copy);
    cluster.start(3, Manner::Refuse);
    cluster.start(4, Manner::Refuse);
    let scene = cluster.committee.scene();
    let read = cluster.parties().read(&mut scene.reader(), soon(), Duration::ZERO).await;
    let Err(ReconstructError::Undecided(progress)) = read.result else { panic!("{:?}", read.result) };
    assert_eq!((progress.shares.to_string(), progress.missing.to_string()), ("1".into(), "2, 3, 4".into()));
    let bad = &read.outcomes[&2];
    assert!(matches!(bad, Err(PartyError::Bad(verify::AnswerError::Signer { index: 2, .. }))), "{bad:?}");
    let refused = &read.outcomes[&3];
    assert!(matches!(refused, Ok(Outcome::Refused { reason: RefusedReason::Delegation, .. })), "{refused:?}");
}

#[tokio::test]
async fn a_party_is_its_own_root_and_its_own_name_in_tls_1_3() {
    let mut cluster = Cluster::new().await;
    let tls13 = &rustls::version::TLS13;
    cluster.start_as(1, Manner::Honest, Face { root: 2, name: 1, version: tls13 });
    cluster.start_as(2, Manner::Honest, Face { root: 2, name: 1, version: tls13 });
    cluster.start_as(3, Manner::Honest, Face { root: 3, name: 3, version: &rustls::version::TLS12 });
    cluster.start(4, Manner::Honest);
    let outcomes = cluster.parties().health_all().await;
    for (index, expected) in [(1, "BadSignature"), (2, "not valid for name"), (3, "ProtocolVersion")] {
        let Err(PartyError::Unreachable(reason)) = &outcomes[index - 1].1 else { panic!("{:?}", outcomes[index - 1]) };
        assert!(reason.contains(expected), "party {index}: {reason}");
    }
    assert!(outcomes[3].1.is_ok());
}

#[tokio::test]
async fn a_client_of_another_authority_is_not_let_in() {
    let mut cluster = Cluster::new().await;
    cluster.start(1, Manner::Honest);
    let (certificate, key) = Authority::new().issue("relayer.test");
    let stranger = Identity::from_pem(certificate.as_bytes(), key.as_bytes()).expect("identity");
    let parties = Parties::connect(&cluster.committee.manifest, &stranger).expect("parties");
    let outcome = parties.health(1).await;
    assert!(matches!(outcome, Err(PartyError::Unreachable(_))), "{outcome:?}");
    assert!(cluster.parties().health(1).await.is_ok());
}

#[tokio::test]
async fn a_run_is_asked_for_party_by_party_and_refusals_are_in_the_partys_words() {
    let mut cluster = Cluster::new().await;
    cluster.start(1, Manner::Honest);
    cluster.start(2, Manner::Refuse);
    cluster.start(3, Manner::Dissent);
    let parties = cluster.parties();
    let run_id = B256::repeat_byte(2);
    let request = || node::KeyGenRequest { run_id: run_id.to_vec(), crs_digest: vec![3; 32], ..Default::default() };
    assert_eq!(parties.key_gen(1, request()).await.expect("started").run_id, run_id.to_vec());
    let refused = parties.key_gen(2, request()).await;
    assert!(
        matches!(&refused, Err(PartyError::Status { message, .. }) if message.contains("one at a time")),
        "{refused:?}"
    );
    assert!(matches!(parties.key_gen(3, request()).await, Err(PartyError::Bad(verify::AnswerError::Bounds(_)))));
    let all = parties.key_gen_status_all(Some(run_id)).await;
    assert!(all[..3].iter().all(|(_, status)| status.as_ref().is_ok_and(|s| s.state() == KeyGenState::Running)));
    let aborted = parties.key_gen_abort(1, run_id).await;
    assert!(matches!(&aborted, Err(PartyError::Status { code, .. }) if code == "NotFound"), "{aborted:?}");
    let mut file = Vec::new();
    parties.key_file(1, run_id, "crs.bin", 6, &mut file).await.expect("whole");
    assert_eq!(file, [1, 1, 1, 2, 2, 2]);
    let long = parties.key_file(1, run_id, "crs.bin", 5, &mut Vec::new()).await;
    assert!(matches!(long, Err(FileError::TooLarge(5))), "{long:?}");
}

#[test]
fn identities_that_are_no_pem_are_refused() {
    let (certificate, key) = Authority::new().issue("relayer.test");
    assert!(matches!(Identity::from_pem(b"", key.as_bytes()), Err(TlsError::NoCertificate)));
    assert!(matches!(Identity::from_pem(certificate.as_bytes(), b"x"), Err(TlsError::Pem { what: "key", .. })));
    let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes()).expect("identity");
    assert_eq!(format!("{identity:?}"), "Identity { certificates: 1, .. }");
}
