//! The party's TLS identity.
//!
//! Each party is its own certificate authority: the root stands in the card and, through the manifest, in every other
//! party's trust; it issues nothing but the leaf that this process shows, on both listeners and when it dials. Leafs
//! are short-lived, kept in memory only, and renewed while the process runs.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureScheme, pki_types};
use rustls_pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

use crate::party::TlsRoot;

/// Lifetime of a root. Its party is replaced by a new context long before.
const ROOT_DAYS: u64 = 20 * 365;
/// Lifetime of a leaf.
const LEAF: Duration = Duration::from_secs(30 * 24 * 3600);
/// Age at which a leaf is replaced.
const RENEW: Duration = Duration::from_secs(7 * 24 * 3600);
/// How far in the past certificates start, for clocks that are not quite equal.
const SKEW: Duration = Duration::from_secs(24 * 3600);

/// The identity can't be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A certificate can't be issued.
    #[error("issuing a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// A key can't be used.
    #[error("using a TLS key: {0}")]
    Key(#[from] rustls::Error),
}

/// Makes a root for a new party. `name` is for people.
///
/// # Errors
/// The key generator fails, or the name can't stand in a certificate.
pub fn new_root(name: &str) -> Result<TlsRoot, IdentityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = SystemTime::now();
    params.not_before = (now - SKEW).into();
    params.not_after = (now + Duration::from_secs(ROOT_DAYS * 24 * 3600)).into();
    let certificate = params.self_signed(&key)?;
    Ok(TlsRoot { certificate_pem: certificate.pem(), key_der: Zeroizing::new(key.serialize_der()) })
}

/// Issues a certificate and its key for `dns_name`, valid from a day ago for `lifetime` from now.
///
/// # Errors
/// The root is damaged or the name is not one.
pub fn issue(root: &TlsRoot, dns_name: &str, lifetime: Duration) -> Result<CertifiedKey, IdentityError> {
    issue_until(root, dns_name, SystemTime::now() + lifetime)
}

fn issue_until(root: &TlsRoot, dns_name: &str, not_after: SystemTime) -> Result<CertifiedKey, IdentityError> {
    let root_key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(root.key_der.as_slice()))?;
    let issuer = Issuer::from_ca_cert_pem(&root.certificate_pem, root_key)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new([dns_name.to_owned()])?;
    params.distinguished_name = common_name(dns_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = (SystemTime::now().min(not_after) - SKEW).into();
    params.not_after = not_after.into();
    let certificate = params.signed_by(&key, &issuer)?;
    let key_der = Zeroizing::new(key.serialize_der());
    let der = pki_types::PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key_der.as_slice()));
    Ok(CertifiedKey::new(vec![certificate.der().clone()], any_ecdsa_type(&der)?))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    // A common name has at most 64 characters; the name that counts is the SAN.
    distinguished.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    distinguished
}

/// The party's current leaf, renewed when it is asked for and getting old.
pub struct Leaf {
    root: TlsRoot,
    name: String,
    current: Mutex<(Arc<CertifiedKey>, Instant)>,
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Leaf {
    /// A leaf for `name`, issued now.
    ///
    /// # Errors
    /// The root is damaged.
    pub fn new(root: TlsRoot, name: String) -> Result<Self, IdentityError> {
        let key = Arc::new(issue(&root, &name, LEAF)?);
        Ok(Self { root, name, current: Mutex::new((key, Instant::now())) })
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let mut current = self.current.lock();
        if current.1.elapsed() > RENEW {
            match issue(&self.root, &self.name, LEAF) {
                Ok(key) => *current = (Arc::new(key), Instant::now()),
                Err(error) => tracing::error!(%error, "the TLS certificate can't be renewed"),
            }
        }
        current.0.clone()
    }
}

impl ResolvesServerCert for Leaf {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl ResolvesClientCert for Leaf {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A leaf that has expired an hour ago.
#[cfg(test)]
pub(crate) fn issue_expired(root: &TlsRoot, dns_name: &str) -> Result<CertifiedKey, IdentityError> {
    issue_until(root, dns_name, SystemTime::now() - Duration::from_secs(3600))
}
