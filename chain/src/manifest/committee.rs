//! The part of the manifest that all parties must have byte for byte alike.

use super::{Card, ManifestError, PartyName};
use crate::context::Context;
use alloy_primitives::{Address, B256};
use kms_encoding::FloodBound;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use sha3::{Digest, Sha3_256};

/// The committee of one context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Committee {
    /// Context id; must be the hash of the rest.
    pub context_id: B256,
    /// The context before, zero for the first.
    pub previous: B256,
    /// Salt.
    pub salt: B256,
    /// Parties.
    pub n: u32,
    /// Parties that may be malicious.
    pub t: u32,
    /// Signatures that make an answer.
    pub threshold: u32,
    /// The parties, in order of index.
    pub parties: Vec<CommitteeParty>,
}

/// One party's lasting identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommitteeParty {
    /// Index, from 1.
    pub index: u32,
    /// Address of its signing key.
    pub signer: Address,
    /// Certificate (PEM) of its own TLS root.
    pub tls_root: String,
}

/// DER of the one certificate in a PEM text; `None` if there is none, more than one, or another kind of item.
#[must_use]
pub fn tls_root_der(pem: &str) -> Option<CertificateDer<'static>> {
    if pem.matches("-----BEGIN").count() != 1 {
        return None;
    }
    CertificateDer::from_pem_slice(pem.as_bytes()).ok()
}

impl Committee {
    pub(super) fn from_cards(cards: &[Card], t: u32, threshold: u32, salt: B256) -> Self {
        let parties: Vec<_> = (1u32..)
            .zip(cards)
            .map(|(index, card)| CommitteeParty { index, signer: card.signer, tls_root: card.tls_root.clone() })
            .collect();
        let n = u32::try_from(parties.len()).unwrap_or(u32::MAX);
        let mut committee = Self { context_id: B256::ZERO, previous: B256::ZERO, salt, n, t, threshold, parties };
        committee.context_id = committee.context().id();
        committee
    }

    /// The on-chain context of this committee.
    #[must_use]
    pub fn context(&self) -> Context {
        Context {
            previous: self.previous,
            signers: self.parties.iter().map(|party| party.signer).collect(),
            t: self.t,
            threshold: self.threshold,
            salt: self.salt,
        }
    }

    /// The party with this index.
    #[must_use]
    pub fn party(&self, index: u32) -> Option<&CommitteeParty> {
        self.parties.iter().find(|party| party.index == index)
    }

    /// The certificate name of party `index`.
    #[must_use]
    pub fn party_name(&self, index: u32) -> PartyName {
        PartyName { index, context: self.context_id }
    }

    /// All rules of a committee: those of its context, and those of decryption, which the contracts don't know.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.n as usize != self.parties.len() {
            return Err(ManifestError::PartyCount { n: self.n, parties: self.parties.len() });
        }
        for (place, party) in (1usize..).zip(&self.parties) {
            if party.index as usize != place {
                return Err(ManifestError::PartyOrder { index: party.index, place });
            }
        }
        let context = self.context();
        context.check()?;
        FloodBound::new(self.n, self.t)?;
        if context.id() != self.context_id {
            return Err(ManifestError::ContextId { stated: self.context_id, computed: context.id() });
        }
        let mut roots = std::collections::HashSet::new();
        for party in &self.parties {
            let root = tls_root_der(&party.tls_root).ok_or(ManifestError::TlsRoot(party.index))?;
            if !roots.insert(root) {
                return Err(ManifestError::SharedTlsRoot(party.index));
            }
        }
        Ok(())
    }

    /// SHA3-256 over "KMS-COMMITTEE-1" ‖ context id ‖ previous ‖ salt ‖ u32 n ‖ u32 t ‖ u32 threshold ‖ per party:
    /// u32 index ‖ signer ‖ SHA3-256(TLS root DER). Integers are big-endian; a root that is no certificate counts as empty
    /// (a checked committee has none).
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = Sha3_256::new();
        hash.update(b"KMS-COMMITTEE-1");
        for id in [&self.context_id, &self.previous, &self.salt] {
            hash.update(id);
        }
        for number in [self.n, self.t, self.threshold] {
            hash.update(number.to_be_bytes());
        }
        for party in &self.parties {
            let root = tls_root_der(&party.tls_root);
            hash.update(party.index.to_be_bytes());
            hash.update(party.signer);
            hash.update(Sha3_256::digest(root.as_deref().unwrap_or_default()));
        }
        hash.finalize().into()
    }
}
