//! Committees and shares for the tests of this crate.

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use k256::ecdsa::SigningKey;
use kms_chain::eip712::signer_address;
use kms_chain::ids::epoch_id;
use kms_chain::manifest::{Card, Contracts, DecryptionDomain, HostChain, Manifest};
use kms_encoding::prss_keys::{PrssRun, sets};
use kms_encoding::{ParamsId, PrssKey, PrssKeys, SecretKeyKind, ShareFile, ShareVector};

use crate::identity;
use crate::party::{Party, TlsRoot};

/// Chain of the test manifests.
pub(crate) const CHAIN_ID: u64 = 31337;

/// All parties of a committee of `n` on one chain.
pub(crate) fn committee(n: u8, t: u32) -> Vec<Party> {
    let secrets: Vec<(SigningKey, TlsRoot)> = (1..=n)
        .map(|i| (SigningKey::from_slice(&[i; 32]).unwrap(), identity::new_root(&format!("party-{i}")).unwrap()))
        .collect();
    let cards: Vec<_> = secrets
        .iter()
        .zip(1u16..)
        .map(|((key, root), i)| Card {
            version: 1,
            name: format!("party-{i}"),
            signer: signer_address(key),
            tls_root: root.certificate_pem.clone(),
            peer_url: format!("https://127.0.0.1:{}", 20000 + i),
            client_url: format!("https://127.0.0.1:{}", 21000 + i),
        })
        .collect();
    let domain = DecryptionDomain { chain_id: CHAIN_ID, verifying_contract: Address::repeat_byte(9) };
    let mut manifest = Manifest::from_cards(&cards, t, 2 * t + 1, B256::ZERO, domain).unwrap();
    let address = Address::repeat_byte;
    manifest.chains.push(HostChain {
        chain_id: CHAIN_ID,
        contracts: Contracts {
            access_control: address(1),
            fhe_executor: address(2),
            input_verifier: address(3),
            ciphertext_registry: address(4),
            kms_verifier: address(5),
            decryption_gateway: address(6),
            guard_lens: address(7),
            key_management: address(8),
        },
        deployment_block: 0,
        finality_floor: 0,
    });
    let manifest = Arc::new(manifest);
    secrets
        .into_iter()
        .zip(1u16..)
        .map(|((key, root), index)| Party::new(index, manifest.clone(), key, root).unwrap())
        .collect()
}

/// A share file of the right form for `party`; its numbers mean nothing.
pub(crate) fn share(party: &Party, key_id: B256) -> ShareFile {
    let params = ParamsId::InsecureTest;
    let kind = SecretKeyKind::Squashing;
    let words = (0..4 * params.dimension(kind) as u128).collect();
    let (n, t) = (party.n(), party.t());
    ShareFile {
        params,
        context_id: party.context().0,
        key_id: key_id.0,
        epoch_id: epoch_id(&party.context(), &key_id, 1),
        n: n as u16,
        t: t as u16,
        index: party.index,
        degree: 4,
        vectors: vec![ShareVector::new(kind, 4, words).unwrap()],
    }
}

/// Pseudorandom keys for `party` that its committee has agreed on; everybody can guess them.
pub(crate) fn prss(party: &Party, epoch_id: B256, attempt: u32) -> PrssKeys {
    let run = PrssRun { context_id: party.context().0, epoch_id: epoch_id.0, attempt };
    let (n, t) = (party.n() as u16, party.t() as u16);
    let all: Vec<_> = sets(n, t).map(|set| PrssKey { set, key: [set as u8; 16] }).collect();
    let commitments = all.iter().map(|key| run.commitment(key)).collect();
    let keys = all.into_iter().filter(|key| key.set >> (party.index - 1) & 1 == 1).collect();
    PrssKeys { run, n, t, index: party.index, commitments, keys }
}
