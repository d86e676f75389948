//! Certificates of clients, and what each group of them may do.
//!
//! Nobody issues client certificates but the operators' own authorities: each stands in the party's configuration with
//! permissions, a rate and a cap. A client is whoever holds a certificate of one of them; each certificate has a rate and a
//! cap of its own within those of its authority.

use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use lru::LruCache;
use parking_lot::Mutex;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{TlsError, one_root_verifier, root_store};
use crate::config::Permission;

/// Certificates of one group whose rates are remembered.
const CERTIFICATES: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// What the configuration says about one group of clients.
#[derive(Debug)]
pub struct ClientRules {
    /// Name for logs and metrics.
    pub name: String,
    /// Certificate of the authority.
    pub ca: CertificateDer<'static>,
    /// What its certificates may do.
    pub permissions: Vec<Permission>,
    /// Of all its certificates together.
    pub group: Limit,
    /// Of each of them.
    pub each: Limit,
}

/// How much a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Calls per second; as many may come at once.
    pub requests_per_second: u32,
    /// Decryptions open at the same time.
    pub max_open: u32,
}

/// What is left of a limit.
#[derive(Debug)]
struct Allowance {
    rate: f64,
    bucket: Mutex<(f64, Instant)>,
    open: Arc<Semaphore>,
}

impl Allowance {
    fn new(limit: Limit) -> Self {
        let rate = f64::from(limit.requests_per_second);
        let open = Arc::new(Semaphore::new(limit.max_open as usize));
        Self { rate, bucket: Mutex::new((rate, Instant::now())), open }
    }

    /// Takes one call out of the rate, if there is one left: a bucket of one second's worth.
    fn take(&self) -> bool {
        let now = Instant::now();
        let mut bucket = self.bucket.lock();
        let refilled = bucket.0 + now.duration_since(bucket.1).as_secs_f64() * self.rate;
        let left = refilled.min(self.rate.max(1.0));
        let granted = left >= 1.0;
        *bucket = (if granted { left - 1.0 } else { left }, now);
        granted
    }

    fn open(&self) -> Option<OwnedSemaphorePermit> {
        self.open.clone().try_acquire_owned().ok()
    }
}

/// One group of clients.
#[derive(Debug)]
struct Group {
    name: String,
    permissions: Vec<Permission>,
    verifier: Arc<dyn ClientCertVerifier>,
    allowance: Allowance,
    each: Limit,
    /// What is left to certificates that were seen lately, by SHA-256. One that is forgotten starts afresh, still within
    /// what is left to the group.
    certificates: Mutex<LruCache<[u8; 32], Arc<Allowance>>>,
}

/// The holder of one certificate.
#[derive(Clone, Debug)]
pub struct Client {
    group: Arc<Group>,
    own: Arc<Allowance>,
}

/// Certificates of one group are one identity where places of connections are counted; groups are told apart by their
/// names, which the configuration lists once each.
impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        self.group.name == other.group.name
    }
}

impl Eq for Client {}

impl Hash for Client {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.group.name.hash(state);
    }
}

/// A place among the open decryptions, of the certificate and of its group; free again when dropped.
#[derive(Debug)]
pub struct OpenPlace {
    _own: OwnedSemaphorePermit,
    _group: OwnedSemaphorePermit,
}

impl Client {
    /// Name of the group for logs and metrics.
    pub fn name(&self) -> &str {
        &self.group.name
    }

    /// Whether the configuration allows it.
    pub fn may(&self, permission: Permission) -> bool {
        self.group.permissions.contains(&permission)
    }

    /// Takes one call out of both rates, if there is one left. A certificate that has none left takes nothing from the
    /// others of its group.
    pub fn take(&self) -> bool {
        self.own.take() && self.group.allowance.take()
    }

    /// A place among the open decryptions, if there is one left.
    pub fn open(&self) -> Option<OpenPlace> {
        Some(OpenPlace { _own: self.own.open()?, _group: self.group.allowance.open()? })
    }
}

/// All groups of clients.
#[derive(Debug)]
pub struct Clients {
    groups: Vec<Arc<Group>>,
}

impl Clients {
    /// The clients of the configuration.
    ///
    /// # Errors
    /// An authority's certificate can't be a root.
    pub fn new(rules: Vec<ClientRules>) -> Result<Self, TlsError> {
        let groups = rules
            .into_iter()
            .map(|r| {
                Ok(Arc::new(Group {
                    verifier: one_root_verifier(root_store(&r.name, r.ca)?)?,
                    name: r.name,
                    permissions: r.permissions,
                    allowance: Allowance::new(r.group),
                    each: r.each,
                    certificates: Mutex::new(LruCache::new(CERTIFICATES)),
                }))
            })
            .collect::<Result<_, TlsError>>()?;
        Ok(Self { groups })
    }

    /// Who holds the certificate, if one of the authorities has issued it.
    pub fn identify(&self, chain: &[CertificateDer<'_>]) -> Option<Client> {
        let (end_entity, intermediates) = chain.split_first()?;
        let (group, _) = self.verify(end_entity, intermediates, UnixTime::now()).ok()?;
        let fingerprint: [u8; 32] = Sha256::digest(end_entity).into();
        let own = {
            let mut certificates = group.certificates.lock();
            certificates.get_or_insert(fingerprint, || Arc::new(Allowance::new(group.each))).clone()
        };
        Some(Client { group, own })
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(Arc<Group>, ClientCertVerified), Error> {
        let mut problem = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for group in &self.groups {
            match group.verifier.verify_client_cert(end_entity, intermediates, now) {
                Ok(verified) => return Ok((group.clone(), verified)),
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {}
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now).map(|(_, verified)| verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = super::provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        super::provider().signature_verification_algorithms.supported_schemes()
    }
}
