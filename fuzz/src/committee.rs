//! A committee of four whose keys are known here.

use std::sync::LazyLock;

use alloy_primitives::{Address, B256};
use k256::ecdsa::SigningKey;
use kms_chain::eip712::signer_address;
use kms_chain::manifest::{Committee, CommitteeParty, DecryptionDomain};

/// Host chain of all requests.
pub const CHAIN: u64 = 31337;

/// Signing keys of the parties 1 to 4.
pub static KEYS: LazyLock<[SigningKey; 4]> =
    LazyLock::new(|| [1, 2, 3, 4].map(|i| SigningKey::from_slice(&[i; 32]).expect("small numbers are keys")));

/// Their addresses.
pub static SIGNERS: LazyLock<[Address; 4]> = LazyLock::new(|| KEYS.each_ref().map(signer_address));

/// The committee; without certificates, which nothing here looks at.
pub static COMMITTEE: LazyLock<Committee> = LazyLock::new(|| {
    let parties = (1u32..)
        .zip(*SIGNERS)
        .map(|(index, signer)| CommitteeParty { index, signer, tls_root: String::new() })
        .collect();
    let zero = B256::ZERO;
    let mut committee = Committee { context_id: zero, previous: zero, salt: zero, n: 4, t: 1, threshold: 3, parties };
    committee.context_id = committee.context().id();
    committee
});

/// Domain of its answers.
pub static DOMAIN: DecryptionDomain =
    DecryptionDomain { chain_id: CHAIN, verifying_contract: Address::repeat_byte(0x22) };
