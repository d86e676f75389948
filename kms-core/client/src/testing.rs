//! A committee of four with real keys and certificates, for tests.

use crate::{
    user::{
        Kem,
        testing::{Scene, domain},
    },
    verify::Question,
};
use alloy_primitives::{Address, B256, FixedBytes, U256};
use k256::ecdsa::SigningKey;
use kms_chain::{
    FheType,
    eip712::{DecryptionReceipt, receipt_digest, sign_digest, signer_address},
    handle::Handle,
    manifest::{Card, Manifest},
    request::Request,
};
use kms_encoding::Word;
use kms_proto::node;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

pub(crate) const CHAIN: u64 = 31337;
pub(crate) const GATEWAY: Address = Address::repeat_byte(0x11);
pub(crate) const EPOCH: B256 = B256::repeat_byte(0xee);

/// A certificate authority.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let pem = params.self_signed(&key).expect("root").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key, both PEM.
    pub(crate) fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new([name.to_owned()]).expect("name");
        let certificate = params.signed_by(&key, &self.issuer).expect("leaf");
        (certificate.pem(), key.serialize_pem())
    }
}

/// The parties' secrets and what everybody knows.
pub(crate) struct TestCommittee {
    pub(crate) manifest: Manifest,
    pub(crate) roots: Vec<Authority>,
    keys: Vec<SigningKey>,
}

impl TestCommittee {
    /// Party i listens at the i-th address.
    pub(crate) fn new(addresses: [String; 4]) -> Self {
        let roots: Vec<_> = (0..4).map(|_| Authority::new()).collect();
        let keys: Vec<_> = (1..=4u8).map(|i| SigningKey::from_slice(&[i; 32]).expect("key")).collect();
        let cards: Vec<_> = addresses
            .into_iter()
            .zip(keys.iter().zip(&roots))
            .map(|(address, (key, root))| Card {
                version: 1,
                name: "test".to_owned(),
                signer: signer_address(key),
                tls_root: root.pem.clone(),
                peer_url: format!("https://{address}"),
                client_url: format!("https://{address}"),
            })
            .collect();
        let manifest = Manifest::from_cards(&cards, 1, 3, B256::ZERO, domain()).expect("manifest");
        Self { manifest, roots, keys }
    }

    pub(crate) fn offline() -> Self {
        Self::new(std::array::from_fn(|i| format!("127.0.0.1:{}", i + 1)))
    }

    /// A request for a uint64 and a boolean.
    pub(crate) fn request(&self) -> Request {
        let handle = |seed: u8, ty| Handle::new([seed; 21], 0xff, CHAIN, ty).raw();
        Request {
            requester: Address::repeat_byte(0x33),
            nonce: 7,
            handles: vec![handle(1, FheType::Uint64), handle(2, FheType::Bool)],
            selector: FixedBytes([1, 2, 3, 4]),
            gasLimit: 100_000,
            finality: 0,
            deadline: 1_800_000_000,
            contextId: self.manifest.committee.context_id,
        }
    }

    /// A user decryption of this committee.
    pub(crate) fn scene(&self) -> Scene {
        let values = [(FheType::Uint64, Word::from(42u64)), (FheType::Bool, Word::from(true))];
        Scene::new(4, 1, Kem::MlKem768, &values, 1).in_context(self.manifest.committee.context_id)
    }

    pub(crate) fn question(&self) -> Question {
        Question::on_chain(&self.manifest.committee, CHAIN, GATEWAY, &self.request(), EPOCH).expect("question")
    }

    /// What party `index` answers if it decrypted `value` and true.
    pub(crate) fn answer(&self, index: u32, question: &Question, value: u64) -> node::Answer {
        let cleartexts = [U256::from(value).to_be_bytes::<32>(), U256::ONE.to_be_bytes::<32>()].concat();
        self.sign(index, question, cleartexts)
    }

    /// A receipt of party `index` over this statement.
    pub(crate) fn receipt(&self, index: u32, statement: &DecryptionReceipt) -> node::Receipt {
        let digest = receipt_digest(&self.manifest.decryption_domain.eip712(), statement);
        node::Receipt {
            request_id: statement.requestId.to_vec(),
            context_id: statement.contextId.to_vec(),
            epoch_id: statement.epochId.to_vec(),
            key_id: statement.keyId.to_vec(),
            arrived: statement.arrived.to_be_bytes_vec(),
            late: statement.late.to_be_bytes_vec(),
            wrong: statement.wrong.to_be_bytes_vec(),
            mpc_micros: statement.mpcMicros,
            signature: sign_digest(&self.keys[index as usize - 1], digest).to_vec(),
            evidence: vec![],
        }
    }

    pub(crate) fn sign(&self, index: u32, question: &Question, cleartexts: Vec<u8>) -> node::Answer {
        let key = &self.keys[index as usize - 1];
        let digest = question.digest(&self.manifest.decryption_domain.eip712(), &cleartexts).expect("digest");
        node::Answer {
            request_id: question.id().to_vec(),
            cleartexts,
            signature: sign_digest(key, digest).to_vec(),
            extra_data: question.extra_data().to_vec(),
            signer: signer_address(key).to_vec(),
        }
    }
}
