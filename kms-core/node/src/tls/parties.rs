//! Certificates of parties.

use std::sync::Arc;

use kms_chain::manifest::{Committee, PartyName, tls_root_der};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{TlsError, one_root_verifier, root_store};

/// Largest certificate that is looked at.
const MAX_CERTIFICATE: usize = 16 * 1024;

/// One party's trust.
#[derive(Debug)]
struct Trust {
    name: PartyName,
    roots: Arc<RootCertStore>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Verifies that a certificate is that of a party of the committee: root i and name i.
#[derive(Debug)]
pub struct Parties {
    own: u16,
    trust: Vec<Trust>,
}

impl Parties {
    /// Trust in the parties of `committee`; `own` is this party, which never connects to itself.
    ///
    /// # Errors
    /// A root is not a certificate that can be a root.
    pub fn new(committee: &Committee, own: u16) -> Result<Self, TlsError> {
        let trust = committee
            .parties
            .iter()
            .map(|party| {
                let name = committee.party_name(party.index);
                let root = tls_root_der(&party.tls_root).ok_or_else(|| TlsError::Root {
                    whose: name.to_string(),
                    problem: "not one PEM certificate".into(),
                })?;
                let roots = root_store(&name.to_string(), root)?;
                Ok(Trust { name, verifier: one_root_verifier(roots.clone())?, roots })
            })
            .collect::<Result<_, TlsError>>()?;
        Ok(Self { own, trust })
    }

    pub(super) fn trust(&self, index: u16) -> Option<(Arc<RootCertStore>, String)> {
        let trust = self.trust.get(usize::from(index).checked_sub(1)?)?;
        Some((trust.roots.clone(), trust.name.to_string()))
    }

    fn named(&self, certificate: &CertificateDer<'_>) -> Result<&Trust, Error> {
        let name = party_of(certificate).ok_or(Error::InvalidCertificate(CertificateError::NotValidForName))?;
        // The name must be one of this committee, context included, and not this party's own.
        self.trust
            .iter()
            .find(|t| t.name == name && name.index != u32::from(self.own))
            .ok_or(Error::InvalidCertificate(CertificateError::NotValidForName))
    }
}

/// The party that a certificate names: its one and only subject alternative name. Says nothing about who issued it.
pub fn party_of(certificate: &CertificateDer<'_>) -> Option<PartyName> {
    if certificate.len() > MAX_CERTIFICATE {
        return None;
    }
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    match names.value.general_names.as_slice() {
        [GeneralName::DNSName(name)] => name.parse().ok(),
        _ => None,
    }
}

impl ClientCertVerifier for Parties {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.named(end_entity)?.verifier.verify_client_cert(end_entity, intermediates, now)
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
        self.named(cert)?.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.first().map(|t| t.verifier.supported_verify_schemes()).unwrap_or_default()
    }
}
