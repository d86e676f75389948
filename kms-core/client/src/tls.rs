//! TLS towards a party: version 1.3, provider aws-lc-rs, and exactly one root.

use kms_chain::manifest::{Committee, tls_root_der};
use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::aws_lc_rs};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, ServerName,
    pem::{Error as PemError, PemObject},
};
use std::{fmt, sync::Arc};

/// A TLS configuration that can't be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The client's certificate or key is not PEM of the expected kind.
    #[error("client {what}: {source}")]
    Pem {
        /// "certificate" or "key".
        what: &'static str,
        /// What the parser says.
        source: PemError,
    },
    /// The client's PEM text holds no certificate.
    #[error("the client certificate file holds no certificate")]
    NoCertificate,
    /// The manifest's root of a party can't be a trust anchor.
    #[error("the TLS root of party {0} is not usable")]
    Root(u32),
    /// rustls refuses the combination, for instance a key of another certificate.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// The certificate (chain) and key by which this client is known to the parties.
pub struct Identity {
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.certificates.len()).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads PEM texts.
    ///
    /// # Errors
    /// Not PEM, no certificate, or no key.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let certificates = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| TlsError::Pem { what: "certificate", source })?;
        if certificates.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| TlsError::Pem { what: "key", source })?;
        Ok(Self { certificates, key })
    }
}

/// The configuration and the server name for party `index`: its certificate must chain to its own root and carry its name.
///
/// # Errors
/// No such party, an unusable root, or a client key that does not fit its certificate.
pub fn client_config(
    committee: &Committee,
    index: u32,
    identity: &Identity,
) -> Result<(Arc<ClientConfig>, ServerName<'static>), TlsError> {
    let root = committee.party(index).and_then(|party| tls_root_der(&party.tls_root)).ok_or(TlsError::Root(index))?;
    let mut roots = RootCertStore::empty();
    roots.add(root).map_err(|_| TlsError::Root(index))?;
    let name = ServerName::try_from(committee.party_name(index).to_string()).map_err(|_| TlsError::Root(index))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.certificates.clone(), identity.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    // The name holds the committee's context: nobody on the way needs to read it.
    config.enable_sni = false;
    Ok((Arc::new(config), name))
}
