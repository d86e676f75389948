//! Certificates of clients, and what each group of them may do.
//!
//! Nobody issues client certificates but the operators' own authorities: each stands in the party's configuration with
//! permissions, a rate and a cap. A client is whoever holds a certificate of one of them.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{TlsError, one_root_verifier, root_store};
use crate::config::Permission;

/// What the configuration says about one group of clients.
#[derive(Debug)]
pub struct ClientRules {
    /// Name for logs and metrics.
    pub name: String,
    /// Certificate of the authority.
    pub ca: CertificateDer<'static>,
    /// What its certificates may do.
    pub permissions: Vec<Permission>,
    /// Calls per second; as many may come at once.
    pub requests_per_second: u32,
    /// Decryptions open at the same time.
    pub max_open: u32,
}

/// One group of clients.
#[derive(Debug)]
pub struct Client {
    name: String,
    permissions: Vec<Permission>,
    verifier: Arc<dyn ClientCertVerifier>,
    rate: f64,
    bucket: Mutex<(f64, Instant)>,
    open: Arc<Semaphore>,
}

/// Groups are told apart by their names, which the configuration lists once each.
impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Client {}

impl Hash for Client {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl Client {
    /// Name for logs and metrics.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the configuration allows it.
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }

    /// Takes one call out of the rate, if there is one left: a bucket of one second's worth.
    pub fn take(&self) -> bool {
        let now = Instant::now();
        let mut bucket = self.bucket.lock();
        let refilled = bucket.0 + now.duration_since(bucket.1).as_secs_f64() * self.rate;
        let left = refilled.min(self.rate.max(1.0));
        let granted = left >= 1.0;
        *bucket = (if granted { left - 1.0 } else { left }, now);
        granted
    }

    /// A place among the open decryptions, if there is one left.
    pub fn open(&self) -> Option<OwnedSemaphorePermit> {
        self.open.clone().try_acquire_owned().ok()
    }
}

/// All groups of clients.
#[derive(Debug)]
pub struct Clients {
    groups: Vec<Arc<Client>>,
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
                let rate = f64::from(r.requests_per_second);
                Ok(Arc::new(Client {
                    verifier: one_root_verifier(root_store(&r.name, r.ca)?)?,
                    name: r.name,
                    permissions: r.permissions,
                    rate,
                    bucket: Mutex::new((rate, Instant::now())),
                    open: Arc::new(Semaphore::new(r.max_open as usize)),
                }))
            })
            .collect::<Result<_, TlsError>>()?;
        Ok(Self { groups })
    }

    /// The group whose authority issued the certificate.
    pub fn identify(&self, chain: &[CertificateDer<'_>]) -> Option<Arc<Client>> {
        let (end_entity, intermediates) = chain.split_first()?;
        self.verify(end_entity, intermediates, UnixTime::now()).ok().map(|(client, _)| client)
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(Arc<Client>, ClientCertVerified), Error> {
        let mut problem = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for client in &self.groups {
            match client.verifier.verify_client_cert(end_entity, intermediates, now) {
                Ok(verified) => return Ok((client.clone(), verified)),
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
