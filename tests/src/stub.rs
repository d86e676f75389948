//! Parties at the gRPC boundary: real sockets, real mutual TLS, real signatures; no key and no computation behind them.
//!
//! What a handle "decrypts" to follows from the handle alone ([`cleartext`]), so that everybody can check an answer.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use alloy::primitives::{Address, B256, FixedBytes, U256};
use anyhow::{Context, Result};
use k256::ecdsa::SigningKey;
use kms_chain::{
    FheType,
    eip712::{DecryptionReceipt, receipt_digest, sign_digest, signer_address},
    handle::Handle,
    manifest::{Card, Manifest},
    request::Request,
};
use kms_client::Question;
use kms_proto::node::{
    self, NotYetReason, RefusedReason,
    decrypt_response::Outcome,
    node_server::{Node, NodeServer},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Response, Status, transport::server::Connected};

/// The epoch that all stub parties hold.
pub const EPOCH: B256 = B256::repeat_byte(0xee);
/// The key that their ciphertexts are under.
pub const KEY: B256 = B256::repeat_byte(0x6e);

/// What a party does when it is asked.
#[derive(Debug, Clone)]
pub enum Manner {
    /// Answers at once.
    Honest,
    /// Answers after this time.
    Slow(Duration),
    /// Says so the first times that it is asked about a request, then answers.
    NotYet {
        /// How often.
        times: u64,
        /// Why.
        reason: NotYetReason,
        /// When to ask again, in milliseconds.
        retry_after_ms: u32,
    },
    /// Signs another cleartext.
    Lying,
    /// Answers with a signature that is not its own.
    Forging,
    /// Says no.
    Refusing(RefusedReason),
    /// Holds the call and never answers.
    Silent,
    /// Breaks the call off.
    Broken,
    /// Holds these epochs only.
    Elsewhere(Vec<B256>),
}

/// A certificate authority.
pub struct Authority {
    /// Its certificate.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// The certificate can't be made.
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// Certificate and key for a name, both PEM.
    ///
    /// # Errors
    /// The name is no name, or the certificate can't be made.
    pub fn issue(&self, name: &str) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([name.to_owned()])?.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// What a handle decrypts to: a word that fits its type.
pub fn cleartext(handle: &Handle) -> U256 {
    let raw = handle.raw();
    U256::from(if handle.fhe_type() == FheType::Bool { raw[0] & 1 } else { raw[0] })
}

/// A party's identity and socket, before there is a manifest.
#[derive(Debug)]
pub struct Seat {
    key: SigningKey,
    root: Authority,
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl Seat {
    /// Takes a port. Equal indices have equal signing keys, so that deployments can be used again.
    ///
    /// # Errors
    /// No port is free.
    pub fn take(index: u32) -> Result<Self> {
        let key = SigningKey::from_slice(B256::from(U256::from(0x5eed_0000_u64 + u64::from(index))).as_slice())?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        Ok(Self { key, root: Authority::new()?, listener, address })
    }

    /// What its operator would publish.
    pub fn card(&self, index: u32) -> Card {
        let url = format!("https://{}", self.address);
        Card {
            version: 1,
            name: format!("stub-{index}"),
            signer: signer_address(&self.key),
            tls_root: self.root.pem.clone(),
            peer_url: url.clone(),
            client_url: url,
        }
    }

    /// Begins to serve whoever has a certificate of `clients`.
    ///
    /// # Errors
    /// The certificate or the socket can't be used.
    pub fn open(self, index: u32, manifest: Arc<Manifest>, clients: &Authority) -> Result<Stub> {
        let name = manifest.committee.party_name(index).to_string();
        let (certificate, key) = self.root.issue(&name)?;
        let tls = server_tls(&certificate, &key, &clients.pem)?;
        let party = Arc::new(Party {
            index,
            key: self.key,
            manifest,
            manner: Mutex::new(Manner::Honest),
            asked: AtomicU64::new(0),
            receipts: AtomicU64::new(0),
            by_request: Mutex::default(),
        });
        let mut stub = Stub { party, tls, address: self.address, gone: CancellationToken::new() };
        self.listener.set_nonblocking(true)?;
        stub.serve(TcpListener::from_std(self.listener)?);
        Ok(stub)
    }
}

/// A running stub party. Ends when dropped.
pub struct Stub {
    party: Arc<Party>,
    tls: TlsAcceptor,
    address: SocketAddr,
    gone: CancellationToken,
}

impl std::fmt::Debug for Stub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stub").field("party", &self.party).field("address", &self.address).finish_non_exhaustive()
    }
}

impl Stub {
    /// What it does from now on.
    pub fn set(&self, manner: Manner) {
        *self.party.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
    }

    /// How often it was asked for an answer.
    pub fn asked(&self) -> u64 {
        self.party.asked.load(Ordering::Relaxed)
    }

    /// How often it was asked for a receipt.
    pub fn asked_for_receipts(&self) -> u64 {
        self.party.receipts.load(Ordering::Relaxed)
    }

    /// How often it was asked about one request.
    pub fn asked_about(&self, id: B256) -> u64 {
        self.party.by_request.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied().unwrap_or(0)
    }

    /// The party is gone: its connections break, and nobody listens.
    pub fn stop(&self) {
        self.gone.cancel();
    }

    /// It listens again, at the same address.
    ///
    /// # Errors
    /// Somebody else has taken the port.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop();
        let listener = TcpListener::bind(self.address).await.context("the port of a stub party")?;
        self.serve(listener);
        Ok(())
    }

    fn serve(&mut self, listener: TcpListener) {
        let (party, tls) = (self.party.clone(), self.tls.clone());
        self.gone = CancellationToken::new();
        let gone = self.gone.clone();
        tokio::spawn(self.gone.clone().run_until_cancelled_owned(async move {
            let (sender, incoming) = mpsc::channel(16);
            let accepting = async move {
                while let Ok((tcp, _)) = listener.accept().await {
                    let (tls, sender, gone) = (tls.clone(), sender.clone(), gone.clone().cancelled_owned());
                    // A handshake that hangs holds up nobody else; it ends with the task that serves.
                    tokio::spawn(async move {
                        let _ = tcp.set_nodelay(true);
                        if let Ok(stream) = tls.accept(tcp).await {
                            let _ = sender.send(Ok::<_, io::Error>(Io { stream, gone: Box::pin(gone) })).await;
                        }
                    });
                }
            };
            let server = tonic::transport::Server::builder().add_service(NodeServer::from_arc(party));
            tokio::select! {
                () = accepting => {}
                _ = server.serve_with_incoming(ReceiverStream::new(incoming)) => {}
            }
        }));
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop();
    }
}

fn server_tls(certificate: &str, key: &str, clients: &str) -> Result<TlsAcceptor> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(clients.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes())?],
            PrivateKeyDer::from_pem_slice(key.as_bytes())?,
        )?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A connection that ends when its party does.
struct Io {
    stream: TlsStream<TcpStream>,
    gone: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connected for Io {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.gone.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[derive(Debug)]
struct Party {
    index: u32,
    key: SigningKey,
    manifest: Arc<Manifest>,
    manner: Mutex<Manner>,
    asked: AtomicU64,
    receipts: AtomicU64,
    by_request: Mutex<HashMap<B256, u64>>,
}

type Answered = Result<Response<node::DecryptResponse>, Status>;

impl Party {
    fn question(&self, asked: &node::DecryptRequest) -> Result<Question> {
        let committee = &self.manifest.committee;
        let epoch = B256::try_from(asked.epoch_id.as_slice())?;
        let hashes =
            |list: &[Vec<u8>]| list.iter().map(|raw| Ok(B256::try_from(raw.as_slice())?)).collect::<Result<Vec<_>>>();
        Ok(match asked.source.as_ref().context("no source")? {
            node::decrypt_request::Source::Request(request) => {
                let gateway =
                    self.manifest.chain(asked.chain_id).context("unknown chain")?.contracts.decryption_gateway;
                let request = Request {
                    requester: Address::try_from(request.requester.as_slice())?,
                    nonce: request.nonce,
                    handles: hashes(&request.handles)?,
                    selector: FixedBytes::try_from(request.selector.as_slice())?,
                    gasLimit: request.gas_limit,
                    finality: request.finality.try_into()?,
                    deadline: request.deadline,
                    contextId: B256::try_from(request.context_id.as_slice())?,
                };
                Question::on_chain(committee, asked.chain_id, gateway, &request, epoch)?
            }
            node::decrypt_request::Source::Public(public) => {
                Question::public(committee, asked.chain_id, &hashes(&public.handles)?, &public.extra_data, epoch)?
            }
        })
    }

    fn sign(&self, question: &Question, lie: bool) -> Result<node::Answer> {
        let words = question.handles().iter().map(|handle| {
            // Another value of the same type: the other boolean, or the next number.
            let flipped = if lie { cleartext(handle) ^ U256::ONE } else { cleartext(handle) };
            flipped.to_be_bytes::<32>()
        });
        let cleartexts = words.collect::<Vec<_>>().concat();
        let digest = question.digest(&self.manifest.decryption_domain.eip712(), &cleartexts)?;
        Ok(node::Answer {
            request_id: question.id().to_vec(),
            cleartexts,
            signature: sign_digest(&self.key, digest).to_vec(),
            extra_data: question.extra_data().to_vec(),
            signer: signer_address(&self.key).to_vec(),
        })
    }

    async fn answer(&self, asked: node::DecryptRequest) -> Answered {
        let reply = |outcome| Ok(Response::new(node::DecryptResponse { outcome: Some(outcome) }));
        let question = self.question(&asked).map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.asked.fetch_add(1, Ordering::Relaxed);
        let times = {
            let mut counts = self.by_request.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(question.id()).or_insert(0);
            *count += 1;
            *count
        };
        let manner = self.manner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let not_live = |live: &[B256]| {
            Outcome::EpochNotLive(node::EpochNotLive { live: live.iter().map(|epoch| epoch.to_vec()).collect() })
        };
        match &manner {
            Manner::Elsewhere(live) => return reply(not_live(live)),
            _ if question.epoch() != EPOCH => return reply(not_live(&[EPOCH])),
            Manner::NotYet { times: first, reason, retry_after_ms } if times <= *first => {
                return reply(Outcome::NotYet(node::NotYet {
                    reason: (*reason).into(),
                    detail: "a stub was told to wait".to_owned(),
                    retry_after_ms: *retry_after_ms,
                }));
            }
            Manner::Refusing(reason) => {
                let detail = "a stub was told to refuse".to_owned();
                return reply(Outcome::Refused(node::Refused { reason: (*reason).into(), detail }));
            }
            Manner::Silent => std::future::pending::<()>().await,
            Manner::Broken => return Err(Status::unavailable("a stub was told to break off")),
            Manner::Slow(time) => tokio::time::sleep(*time).await,
            Manner::Honest | Manner::NotYet { .. } | Manner::Lying | Manner::Forging => {}
        }
        let internal = |error: anyhow::Error| Status::internal(error.to_string());
        let mut answer = self.sign(&question, matches!(manner, Manner::Lying)).map_err(internal)?;
        if matches!(manner, Manner::Forging)
            && let Some(byte) = answer.signature.first_mut()
        {
            *byte ^= 1;
        }
        reply(Outcome::Answer(answer))
    }

    /// What it saw of a request: all shares came.
    fn receipt(&self, request: B256) -> node::Receipt {
        let n = self.manifest.committee.n as usize;
        let statement = DecryptionReceipt {
            requestId: request,
            contextId: self.manifest.committee.context_id,
            epochId: EPOCH,
            keyId: KEY,
            arrived: (U256::ONE << n) - U256::ONE,
            late: U256::ZERO,
            wrong: U256::ZERO,
            mpcMicros: 1,
        };
        let digest = receipt_digest(&self.manifest.decryption_domain.eip712(), &statement);
        node::Receipt {
            request_id: request.to_vec(),
            context_id: statement.contextId.to_vec(),
            epoch_id: statement.epochId.to_vec(),
            key_id: statement.keyId.to_vec(),
            arrived: statement.arrived.to_be_bytes_vec(),
            late: statement.late.to_be_bytes_vec(),
            wrong: statement.wrong.to_be_bytes_vec(),
            mpc_micros: statement.mpcMicros,
            signature: sign_digest(&self.key, digest).to_vec(),
            evidence: Vec::new(),
        }
    }
}

type Asked<T> = tonic::Request<T>;

#[tonic::async_trait]
impl Node for Party {
    type GetKeyFileStream = futures::stream::Empty<Result<node::KeyFilePiece, Status>>;

    async fn decrypt(&self, request: Asked<node::DecryptRequest>) -> Answered {
        self.answer(request.into_inner()).await
    }

    async fn get_status(
        &self,
        request: Asked<node::GetStatusRequest>,
    ) -> Result<Response<node::GetStatusResponse>, Status> {
        self.receipts.fetch_add(1, Ordering::Relaxed);
        let id = B256::try_from(request.into_inner().request_id.as_slice())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let answered = self.by_request.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id);
        let mut status = node::GetStatusResponse::default();
        if answered {
            status.stage = node::Stage::Final.into();
            status.receipt = Some(self.receipt(id));
        }
        Ok(Response::new(status))
    }

    async fn health(&self, _: Asked<node::HealthRequest>) -> Result<Response<node::HealthResponse>, Status> {
        let committee_hash = self.manifest.committee_hash().to_vec();
        Ok(Response::new(node::HealthResponse { index: self.index, committee_hash, ..Default::default() }))
    }

    async fn user_decrypt(
        &self,
        _: Asked<node::UserDecryptRequest>,
    ) -> Result<Response<node::UserDecryptResponse>, Status> {
        Err(no_such())
    }

    async fn get_keys(&self, _: Asked<node::GetKeysRequest>) -> Result<Response<node::GetKeysResponse>, Status> {
        Err(no_such())
    }

    async fn key_gen(&self, _: Asked<node::KeyGenRequest>) -> Result<Response<node::KeyGenResponse>, Status> {
        Err(no_such())
    }

    async fn key_gen_status(
        &self,
        _: Asked<node::KeyGenStatusRequest>,
    ) -> Result<Response<node::KeyGenResponse>, Status> {
        Err(no_such())
    }

    async fn key_gen_abort(
        &self,
        _: Asked<node::KeyGenAbortRequest>,
    ) -> Result<Response<node::KeyGenResponse>, Status> {
        Err(no_such())
    }

    async fn get_key_file(
        &self,
        _: Asked<node::GetKeyFileRequest>,
    ) -> Result<Response<Self::GetKeyFileStream>, Status> {
        Err(no_such())
    }
}

fn no_such() -> Status {
    Status::unimplemented("a stub opens ciphertexts to the public only")
}
