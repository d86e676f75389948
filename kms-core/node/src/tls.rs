//! TLS: own configurations, TLS 1.3 only, provider aws-lc-rs chosen explicitly.
//!
//! Who is party i is decided by two facts together: the certificate chains to root i, **and** its one name is
//! `party-i.<context>`. All roots in one store would let the authority of one party issue the name of another, so each
//! name is checked against its own root only.

mod accept;
mod clients;
mod parties;
mod places;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};

pub use accept::{Accepted, Limits, incoming};
pub use clients::{Client, ClientRules, Clients, Limit, OpenPlace};
pub use parties::{Parties, party_of};

use crate::identity::{IdentityError, Leaf};

/// A TLS configuration can't be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// rustls refuses it.
    #[error("TLS configuration: {0}")]
    Rustls(#[from] rustls::Error),
    /// A root can't be a root.
    #[error("TLS root of {whose}: {problem}")]
    Root {
        /// Party or client.
        whose: String,
        /// What is wrong.
        problem: String,
    },
    /// A verifier can't be built.
    #[error("TLS verifier: {0}")]
    Verifier(#[from] VerifierBuilderError),
    /// This party's identity can't be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There is no such party.
    #[error("no party {0} in the manifest")]
    NoParty(u16),
}

/// The one provider of this process.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

pub(crate) fn root_store(whose: &str, root: CertificateDer<'static>) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    store.add(root).map_err(|e| TlsError::Root { whose: whose.into(), problem: e.to_string() })?;
    Ok(Arc::new(store))
}

pub(crate) fn one_root_verifier(roots: Arc<RootCertStore>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    Ok(WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?)
}

/// A listener that shows `leaf` and asks `verifier` about whoever comes.
///
/// # Errors
/// rustls refuses the combination.
pub fn server_config(leaf: Arc<Leaf>, verifier: Arc<dyn ClientCertVerifier>) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(leaf);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Every connection proves its identity anew: no tickets, no early data.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// A dialler that shows `leaf` and accepts exactly party `index`: its name under its own root. Returns the name to
/// connect to as well.
///
/// # Errors
/// There is no such party, or its root can't be a root.
pub fn client_config(
    leaf: Arc<Leaf>,
    parties: &Parties,
    index: u16,
) -> Result<(Arc<ClientConfig>, ServerName<'static>), TlsError> {
    let (roots, name) = parties.trust(index).ok_or(TlsError::NoParty(index))?;
    let server =
        ServerName::try_from(name.clone()).map_err(|e| TlsError::Root { whose: name, problem: e.to_string() })?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_cert_resolver(leaf);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    Ok((Arc::new(config), server))
}

#[cfg(test)]
mod tests;
