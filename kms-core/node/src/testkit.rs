//! A committee in one process, for tests: real TLS identities, real listeners on the loopback interface.

pub(crate) mod cluster;
mod relay;
pub(crate) mod user;

use std::net::SocketAddr;
use std::sync::Arc;

use alloy_primitives::{Address, B256};
use k256::ecdsa::SigningKey;
use kms_chain::eip712::signer_address;
use kms_chain::manifest::{Card, Contracts, DecryptionDomain, HostChain, Manifest};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use self::relay::Relay;
use crate::identity::{Leaf, new_root};
use crate::party::{Party, TlsRoot};

/// Host chain of the tests.
pub(crate) const CHAIN: u64 = 31337;

/// A committee of n = 3t + 1 with addresses that were free a moment ago.
pub(crate) struct Fixture {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) roots: Vec<TlsRoot>,
    pub(crate) addresses: Vec<SocketAddr>,
    keys: Vec<SigningKey>,
    /// Listeners from the start, so that nobody else takes the ports.
    held: Mutex<Vec<Option<TcpListener>>>,
    /// Where a party behind a relay really listens, by index − 1.
    behind: Mutex<Vec<Option<SocketAddr>>>,
}

impl Fixture {
    pub(crate) async fn new(n: u8) -> Self {
        let mut cards = Vec::new();
        let (mut roots, mut keys, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
        let mut held = Vec::new();
        for i in 1..=n {
            let root = new_root(&format!("operator {i}")).unwrap();
            let key = SigningKey::from_slice(&[i; 32]).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            held.push(Some(listener));
            cards.push(Card {
                version: 1,
                name: format!("operator {i}"),
                signer: signer_address(&key),
                tls_root: root.certificate_pem.clone(),
                peer_url: format!("https://{address}"),
                client_url: "https://127.0.0.1:1".into(),
            });
            roots.push(root);
            keys.push(key);
            addresses.push(address);
        }
        let t = u32::from(n - 1) / 3;
        let domain = DecryptionDomain { chain_id: CHAIN, verifying_contract: Address::repeat_byte(0xd0) };
        let mut manifest = Manifest::from_cards(&cards, t, 2 * t + 1, B256::ZERO, domain).unwrap();
        let address = Address::repeat_byte(0xc0);
        manifest.chains.push(HostChain {
            chain_id: CHAIN,
            contracts: Contracts {
                access_control: address,
                fhe_executor: address,
                input_verifier: address,
                ciphertext_registry: address,
                kms_verifier: address,
                decryption_gateway: address,
                guard_lens: address,
                key_management: address,
            },
            deployment_block: 0,
            finality_floor: 0,
        });
        manifest.check().unwrap();
        Self {
            manifest: Arc::new(manifest),
            roots,
            addresses,
            keys,
            held: Mutex::new(held),
            behind: Mutex::new(vec![None; n.into()]),
        }
    }

    pub(crate) fn party(&self, index: u16) -> Party {
        let slot = usize::from(index) - 1;
        Party::new(index, self.manifest.clone(), self.keys[slot].clone(), self.roots[slot].clone()).unwrap()
    }

    pub(crate) fn name(&self, index: u16) -> String {
        self.manifest.committee.party_name(index.into()).to_string()
    }

    pub(crate) fn leaf(&self, index: u16) -> Arc<Leaf> {
        Arc::new(Leaf::new(self.roots[usize::from(index) - 1].clone(), self.name(index)).unwrap())
    }

    /// Puts a relay between a party and those that dial it, which a test can cut.
    pub(crate) async fn relay(&self, index: u16) -> Relay {
        let outside = self.listen(index).await;
        let inside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let slot = usize::from(index) - 1;
        self.behind.lock()[slot] = Some(inside.local_addr().unwrap());
        let relay = Relay::start(outside, inside.local_addr().unwrap());
        self.held.lock()[slot] = Some(inside);
        relay
    }

    pub(crate) async fn listen(&self, index: u16) -> TcpListener {
        let slot = usize::from(index) - 1;
        let address = self.behind.lock()[slot].unwrap_or(self.addresses[slot]);
        let held = self.held.lock()[slot].take();
        match held {
            Some(listener) => listener,
            None => TcpListener::bind(address).await.unwrap(),
        }
    }
}

/// Waits for something that must come; the limit only keeps a broken test from hanging.
pub(crate) async fn until<T>(mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), waiting).await.expect("it never came")
}
