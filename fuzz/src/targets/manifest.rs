//! JSON of other operators: cluster manifests, cards, deployments; and the names in parties' certificates (`kms_chain`).

use kms_chain::manifest::{Card, Deployment, MAX_MANIFEST_BYTES, Manifest, ManifestError, PartyName};

use crate::budget::bounded;

/// What is taken from a text as JSON may be held about thrice: as it is, in parts, and in an error that quotes it.
const JSON: usize = 24;

/// Any bytes, read as each of them.
pub fn check(data: &[u8]) {
    match bounded(data.len(), JSON, || Manifest::parse(data)) {
        Ok(manifest) => {
            assert!(data.len() <= MAX_MANIFEST_BYTES);
            let json = manifest.to_json().expect("a manifest is JSON");
            let again = Manifest::parse(json.as_bytes()).expect("what was read is readable when written");
            assert_eq!((again.committee_hash(), &again), (manifest.committee_hash(), &manifest));
            assert_eq!(manifest.committee.context().id(), manifest.committee.context_id);
            assert_eq!(manifest.parties.len(), manifest.committee.parties.len());
            for party in &manifest.committee.parties {
                let name = manifest.committee.party_name(party.index);
                assert_eq!(name.to_string().parse(), Ok(name));
                assert!(manifest.endpoints(party.index).is_some());
            }
        }
        Err(ManifestError::TooLarge(size)) => assert!(size > MAX_MANIFEST_BYTES),
        // A quoted string grows sixfold if all of it is control characters.
        Err(error) => assert!(!error.label().is_empty() && error.to_string().len() < 8 * data.len() + 400),
    }
    if let Ok(card) = bounded(data.len(), JSON, || Card::parse(data)) {
        let json = serde_json::to_vec(&card).expect("a card is JSON");
        assert_eq!(Card::parse(&json).expect("what was read is readable when written"), card);
    }
    if let Ok(deployment) = bounded(data.len(), JSON, || serde_json::from_slice::<Deployment>(data)) {
        let json = serde_json::to_vec(&deployment).expect("a deployment is JSON");
        assert_eq!(serde_json::from_slice::<Deployment>(&json).expect("it was written"), deployment);
    }
    if let Ok(text) = core::str::from_utf8(data) {
        match bounded(data.len(), JSON, || text.parse::<PartyName>()) {
            Ok(name) => assert!(name.to_string() == text && (1..=255).contains(&name.index)),
            Err(error) => assert!(error.0.chars().count() <= 128),
        }
    }
}
