//! Cards and the cluster manifest: who the parties are and where they and the contracts live.
//!
//! The committee part is equal at all parties and its hash travels in every handshake; the rest may differ while a change
//! is rolled out.

mod committee;
mod names;

pub use committee::{Committee, CommitteeParty, tls_root_der};
pub use names::{NameError, PartyName};

use crate::{context::ContextError, request::Finality};
use alloy_primitives::{Address, B256};
use kms_encoding::FloodBoundError;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Largest manifest file that is read.
pub const MAX_MANIFEST_BYTES: usize = 1 << 20;
/// Longest URL in a manifest or card.
pub const MAX_URL_LENGTH: usize = 512;

/// What one operator publishes about its party before a committee exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Card {
    /// Format, 1.
    pub version: u32,
    /// Name for people.
    pub name: String,
    /// Address of the party's signing key.
    pub signer: Address,
    /// Certificate (PEM) of the party's own root.
    pub tls_root: String,
    /// Where other parties connect, `https://host:port`.
    pub peer_url: String,
    /// Where relayers and operators connect, `https://host:port`.
    pub client_url: String,
}

/// Where one party listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PartyEndpoints {
    /// Index, from 1.
    pub index: u32,
    /// Where other parties connect.
    pub peer_url: String,
    /// Where relayers and operators connect.
    pub client_url: String,
}

/// Addresses of the deployed contracts; names as in the deployment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contracts {
    /// ACL.
    pub access_control: Address,
    /// Symbolic executor.
    pub fhe_executor: Address,
    /// Verifier of encrypted inputs.
    pub input_verifier: Address,
    /// Ciphertext digests.
    pub ciphertext_registry: Address,
    /// Contexts and signatures.
    pub kms_verifier: Address,
    /// Requests.
    pub decryption_gateway: Address,
    /// Read-only checks for parties.
    pub guard_lens: Address,
    /// Keys.
    pub key_management: Address,
}

/// One host chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostChain {
    /// Chain id.
    pub chain_id: u64,
    /// Contract addresses.
    pub contracts: Contracts,
    /// First block to look at.
    pub deployment_block: u64,
    /// Least finality that the parties accept: code as in requests.
    pub finality_floor: u16,
}

impl HostChain {
    /// The floor as a [`Finality`]; a checked manifest has a valid one, so anything else counts as the strictest.
    #[must_use]
    pub fn floor(&self) -> Finality {
        Finality::parse(self.finality_floor).unwrap_or(Finality::Finalized)
    }
}

/// Chain and contract of the EIP-712 domain of decryption answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DecryptionDomain {
    /// Chain id.
    pub chain_id: u64,
    /// Contract.
    pub verifying_contract: Address,
}

impl DecryptionDomain {
    /// As EIP-712 domain.
    #[must_use]
    pub fn eip712(&self) -> crate::eip712::Eip712Domain {
        crate::eip712::decryption_domain(self.chain_id, self.verifying_contract)
    }
}

/// What `script/deploy` writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deployment {
    /// Chain id.
    pub chain_id: u64,
    /// Block of the first contract.
    pub deployment_block: u64,
    /// Contract addresses.
    pub contracts: Contracts,
    /// Canonical decryption domain.
    pub decryption_domain: DecryptionDomain,
    /// Genesis context.
    pub context_id: B256,
}

/// The cluster manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// Format, 1.
    pub version: u32,
    /// The part that is equal at all parties.
    pub committee: Committee,
    /// Where the parties listen, in order of index.
    pub parties: Vec<PartyEndpoints>,
    /// Host chains.
    pub chains: Vec<HostChain>,
    /// Canonical decryption domain.
    pub decryption_domain: DecryptionDomain,
}

/// A card or manifest that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Larger than [`MAX_MANIFEST_BYTES`].
    #[error("the manifest is too large ({0} bytes)")]
    TooLarge(usize),
    /// Not the JSON it should be.
    #[error("not a manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// Of another version.
    #[error("unknown version {0}")]
    UnknownVersion(u32),
    /// The committee breaks the rules of contexts.
    #[error("committee: {0}")]
    Context(#[from] ContextError),
    /// The committee can be a context, but it can't decrypt: its masks would not fit.
    #[error("committee: {0}")]
    Flooding(#[from] FloodBoundError),
    /// `n` is not the number of parties.
    #[error("n is {n} but {parties} parties are listed")]
    PartyCount {
        /// Stated n.
        n: u32,
        /// Parties listed.
        parties: usize,
    },
    /// Parties must be listed in order of index, from 1.
    #[error("party {index} stands at place {place}")]
    PartyOrder {
        /// Index found.
        index: u32,
        /// Place in the list, from 1.
        place: usize,
    },
    /// The stated context id is not the hash of the committee.
    #[error("context id is {stated} but the committee's is {computed}")]
    ContextId {
        /// In the file.
        stated: B256,
        /// By the committee's content.
        computed: B256,
    },
    /// A TLS root is not exactly one PEM certificate.
    #[error("TLS root of party {0} is not one PEM certificate")]
    TlsRoot(u32),
    /// Two parties have the same TLS root.
    #[error("party {0} has the TLS root of another party")]
    SharedTlsRoot(u32),
    /// A URL is not `https://host:port`.
    #[error("party {index}: {url:?} is not https://host:port")]
    Url {
        /// Party.
        index: u32,
        /// The URL.
        url: String,
    },
    /// A chain is listed twice.
    #[error("chain {0} is listed twice")]
    DuplicateChain(u64),
    /// A finality floor is no finality code.
    #[error("chain {chain_id}: unknown finality floor {floor}")]
    FinalityFloor {
        /// Chain.
        chain_id: u64,
        /// Code.
        floor: u16,
    },
}

impl ManifestError {
    /// Stable label, the same in the golden files.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "TooLarge",
            Self::Json(_) => "Json",
            Self::UnknownVersion(_) => "UnknownVersion",
            Self::Context(error) => error.label(),
            Self::Flooding(_) => "Flooding",
            Self::PartyCount { .. } => "PartyCount",
            Self::PartyOrder { .. } => "PartyOrder",
            Self::ContextId { .. } => "ContextId",
            Self::TlsRoot(_) => "TlsRoot",
            Self::SharedTlsRoot(_) => "SharedTlsRoot",
            Self::Url { .. } => "Url",
            Self::DuplicateChain(_) => "DuplicateChain",
            Self::FinalityFloor { .. } => "FinalityFloor",
        }
    }
}

impl Card {
    /// Reads and checks a card.
    ///
    /// # Errors
    /// Any fault of size, JSON, version, URL (reported as party 0) or TLS root.
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        let card: Self = parse_json(json)?;
        if card.version != 1 {
            return Err(ManifestError::UnknownVersion(card.version));
        }
        tls_root_der(&card.tls_root).ok_or(ManifestError::TlsRoot(0))?;
        check_url(0, &card.peer_url)?;
        check_url(0, &card.client_url)?;
        Ok(card)
    }
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// Any [`ManifestError`].
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = parse_json(json)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Joins cards (party i is the i-th) to a manifest without chains, whose committee is checked.
    ///
    /// # Errors
    /// Any fault of the committee.
    pub fn from_cards(
        cards: &[Card],
        t: u32,
        threshold: u32,
        salt: B256,
        decryption_domain: DecryptionDomain,
    ) -> Result<Self, ManifestError> {
        let committee = Committee::from_cards(cards, t, threshold, salt);
        let parties = (1u32..)
            .zip(cards)
            .map(|(index, card)| PartyEndpoints {
                index,
                peer_url: card.peer_url.clone(),
                client_url: card.client_url.clone(),
            })
            .collect();
        let manifest = Self { version: 1, committee, parties, chains: Vec::new(), decryption_domain };
        manifest.check()?;
        Ok(manifest)
    }

    /// All rules of a manifest.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.version != 1 {
            return Err(ManifestError::UnknownVersion(self.version));
        }
        self.committee.check()?;
        if self.parties.len() != self.committee.parties.len() {
            return Err(ManifestError::PartyCount { n: self.committee.n, parties: self.parties.len() });
        }
        for (place, party) in (1usize..).zip(&self.parties) {
            if party.index as usize != place {
                return Err(ManifestError::PartyOrder { index: party.index, place });
            }
            check_url(party.index, &party.peer_url)?;
            check_url(party.index, &party.client_url)?;
        }
        let mut seen = HashSet::new();
        for chain in &self.chains {
            if !seen.insert(chain.chain_id) {
                return Err(ManifestError::DuplicateChain(chain.chain_id));
            }
            Finality::parse(chain.finality_floor)
                .map_err(|_| ManifestError::FinalityFloor { chain_id: chain.chain_id, floor: chain.finality_floor })?;
        }
        Ok(())
    }

    /// Hash of the committee part.
    #[must_use]
    pub fn committee_hash(&self) -> [u8; 32] {
        self.committee.hash()
    }

    /// The host chain with this id.
    #[must_use]
    pub fn chain(&self, chain_id: u64) -> Option<&HostChain> {
        self.chains.iter().find(|chain| chain.chain_id == chain_id)
    }

    /// Where party `index` listens.
    #[must_use]
    pub fn endpoints(&self, index: u32) -> Option<&PartyEndpoints> {
        self.parties.iter().find(|party| party.index == index)
    }

    /// As JSON for a file.
    ///
    /// # Errors
    /// Never in practice: all fields serialise.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}

fn parse_json<T: for<'a> Deserialize<'a>>(json: &[u8]) -> Result<T, ManifestError> {
    if json.len() > MAX_MANIFEST_BYTES {
        return Err(ManifestError::TooLarge(json.len()));
    }
    Ok(serde_json::from_slice(json)?)
}

fn check_url(index: u32, url: &str) -> Result<(), ManifestError> {
    let well_formed = url.len() <= MAX_URL_LENGTH
        && url.strip_prefix("https://").and_then(|rest| rest.rsplit_once(':')).is_some_and(|(host, port)| {
            let host_ok = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-[]:".contains(&b));
            host_ok && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
    if well_formed { Ok(()) } else { Err(ManifestError::Url { index, url: url.to_owned() }) }
}
