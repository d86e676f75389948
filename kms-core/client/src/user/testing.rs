//! A committee whose parties share, seal and sign, without any cryptography of the engine: partial decryptions are shares of
//! m·Δ + noise. Sealing is written here a second time, from the specification, with given randomness.

use super::{HandleContract, Kem, KeyPair, Parties, Permit, UserDecryption, UserRequest, UserResponse};
use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use alloy_primitives::{Address, B256, Bytes, keccak256};
use hkdf::Hkdf;
use k256::ecdsa::SigningKey;
use kms_algebra::{Gr, packing, shamir};
use kms_chain::{
    eip712::{self, signer_address},
    extra_data::ExtraData,
    handle::Handle,
    manifest::DecryptionDomain,
};
use kms_encoding::{
    FheType, FloodBound, Plaintext, Word,
    rounding::DELTA_LOG2,
    user::{Header, SharePayload},
};
use ml_kem::{EncapsulationKey, MlKem512, MlKem768};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};
use sha2::{Digest, Sha256};

pub(crate) const CHAIN: u64 = 31337;
pub(crate) const START: u64 = 1_700_000_000;

pub(crate) fn word(seed: &str) -> B256 {
    keccak256(seed)
}

pub(crate) fn signing_key(number: u8) -> SigningKey {
    SigningKey::from_slice(&[number; 32]).expect("a small scalar")
}

pub(crate) fn domain() -> DecryptionDomain {
    DecryptionDomain { chain_id: 1, verifying_contract: Address::repeat_byte(0x22) }
}

pub(crate) fn handle(seed: u8, ty: FheType) -> B256 {
    Handle::new([seed; 21], 0xff, CHAIN, ty).raw()
}

/// What one committee answers to one request.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) n: usize,
    pub(crate) parties: Parties,
    pub(crate) request: UserRequest,
    pub(crate) kem: Kem,
    pub(crate) seed: [u8; 64],
    pub(crate) values: Vec<Plaintext>,
    pub(crate) epoch: B256,
    pub(crate) digests: Vec<B256>,
    /// Packed words of each party.
    pub(crate) words: Vec<Vec<u128>>,
}

fn share<const D: usize>(secrets: &[u128], n: usize, t: usize, rng: &mut ChaCha20Rng) -> Vec<Vec<u128>> {
    shamir::share_words::<u128, D>(secrets, n, t, rng)
        .iter()
        .map(|vector| packing::pack(&vector.iter().collect::<Vec<Gr<u128, D>>>()).words().to_vec())
        .collect()
}

pub(crate) fn random_word(rng: &mut ChaCha20Rng) -> u128 {
    u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())
}

impl Scene {
    pub(crate) fn new(n: usize, t: usize, kem: Kem, values: &[(FheType, Word)], seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let values: Vec<Plaintext> = values.iter().map(|(ty, value)| Plaintext::truncated(*ty, *value)).collect();
        let bound = FloodBound::new(n as u32, t as u32).expect("a committee").get();
        let noise = |rng: &mut ChaCha20Rng| (random_word(rng) % (2 * bound + 1)).wrapping_sub(bound);
        let blocks: Vec<u128> = values
            .iter()
            .flat_map(|value| value.block_messages().collect::<Vec<_>>())
            .map(|m| (u128::from(m) << DELTA_LOG2).wrapping_add(noise(&mut rng)))
            .collect();
        let mut key_seed = [0; 64];
        rng.fill_bytes(&mut key_seed);
        let contract = Address::repeat_byte(0x33);
        let pair = KeyPair::from_seed(kem, &key_seed);
        let permit = Permit {
            user: signer_address(&signing_key(99)),
            delegator: None,
            public_key: pair.public_key().as_bytes().to_vec().into(),
            contracts: vec![contract, Address::repeat_byte(0x44)],
            start: START,
            days: 10,
            extra_data: ExtraData::V1 { context: word("context") }.encode(),
        };
        let pairs: Vec<_> =
            (1u8..).zip(&values).map(|(i, v)| HandleContract { handle: handle(i, v.ty()), contract }).collect();
        let signers = (1..=n as u8).map(|i| signer_address(&signing_key(i))).collect();
        let mut scene = Self {
            n,
            parties: Parties { context_id: word("context"), signers, t: t as u32 },
            digests: pairs.iter().map(|pair| keccak256(pair.handle)).collect(),
            request: UserRequest { host_chain_id: CHAIN, permit, signature: Bytes::new(), pairs },
            kem,
            seed: key_seed,
            values,
            epoch: word("epoch"),
            words: Vec::new(),
        };
        scene.share(&blocks, &mut rng);
        scene.sign_permit();
        scene
    }

    /// The same for another committee of these parties.
    pub(crate) fn in_context(mut self, context_id: B256) -> Self {
        self.parties.context_id = context_id;
        self.request.permit.extra_data = ExtraData::V1 { context: context_id }.encode();
        self.sign_permit();
        self
    }

    /// Shares other blocks.
    pub(crate) fn share(&mut self, blocks: &[u128], rng: &mut ChaCha20Rng) {
        let t = self.parties.t as usize;
        self.words =
            if self.degree() == 4 { share::<4>(blocks, self.n, t, rng) } else { share::<5>(blocks, self.n, t, rng) };
    }

    pub(crate) fn sign_permit(&mut self) {
        let digest = self.request.permit.digest(CHAIN, domain().verifying_contract);
        self.request.signature = eip712::sign_digest(&signing_key(99), digest).to_vec().into();
    }

    pub(crate) fn degree(&self) -> u8 {
        if self.n <= 15 { 4 } else { 5 }
    }

    pub(crate) fn pair(&self) -> KeyPair {
        KeyPair::from_seed(self.kem, &self.seed)
    }

    pub(crate) fn reader(&self) -> UserDecryption {
        UserDecryption::new(self.parties.clone(), &domain(), self.request.clone(), self.pair()).expect("a good request")
    }

    pub(crate) fn header(&self, party: usize) -> Header {
        Header {
            party: party as u8,
            context_id: self.parties.context_id.0,
            epoch_id: self.epoch.0,
            key_id: word("key").0,
            user: self.request.permit.user.into(),
            permit_hash: self.request.permit.digest(CHAIN, domain().verifying_contract).0,
            digests: self.digests.iter().map(|digest| digest.0).collect(),
        }
    }

    pub(crate) fn payload(&self, words: Vec<u128>) -> Vec<u8> {
        let types: Vec<FheType> = self.values.iter().map(Plaintext::ty).collect();
        SharePayload::new(self.degree(), &types, words).expect("words of the request").to_bytes().to_vec()
    }

    /// The associated data, written from the specification.
    pub(crate) fn associated_data(&self, header: &Header) -> Vec<u8> {
        let public_key = &self.request.permit.public_key;
        let extra_data = &self.request.permit.extra_data;
        let mut out = b"KMS-USER-AAD-1".to_vec();
        out.extend([self.kem.to_u8(), header.party]);
        out.extend([header.context_id, header.epoch_id, header.key_id].concat());
        out.extend(header.user);
        out.extend(header.permit_hash);
        out.extend(CHAIN.to_be_bytes());
        out.extend(domain().chain_id.to_be_bytes());
        out.extend(domain().verifying_contract);
        out.extend(Sha256::digest(public_key));
        out.push(extra_data.len() as u8);
        out.extend(extra_data);
        out.extend((self.values.len() as u16).to_be_bytes());
        for ((pair, digest), value) in self.request.pairs.iter().zip(&header.digests).zip(&self.values) {
            out.extend(pair.handle);
            out.extend(digest);
            out.extend((value.ty().squashed_blocks() as u16).to_be_bytes());
        }
        out
    }

    /// An envelope with the KEM randomness `m`.
    pub(crate) fn seal(&self, header: &Header, payload: &[u8], m: [u8; 32]) -> Vec<u8> {
        let public_key = self.request.permit.public_key.as_ref();
        let (ciphertext, secret) = match self.kem {
            Kem::MlKem768 => {
                let key = EncapsulationKey::<MlKem768>::new(&public_key.try_into().expect("length")).expect("key");
                let (ciphertext, secret) = key.encapsulate_deterministic(&m.into());
                (ciphertext.to_vec(), secret)
            }
            Kem::MlKem512 => {
                let key = EncapsulationKey::<MlKem512>::new(&public_key.try_into().expect("length")).expect("key");
                let (ciphertext, secret) = key.encapsulate_deterministic(&m.into());
                (ciphertext.to_vec(), secret)
            }
        };
        let info = [b"KMS-USER-KEY-1".as_slice(), &Sha256::digest(public_key), &ciphertext].concat();
        let mut key = [0; 32];
        Hkdf::<Sha256>::new(None, &secret).expand(&info, &mut key).expect("32 bytes");
        let aad = self.associated_data(header);
        let sealed = Aes256Gcm::new(&key.into())
            .encrypt(&Nonce::default(), Payload { msg: payload, aad: &aad })
            .expect("a short payload");
        let mut out = b"KMSE".to_vec();
        out.extend([1, self.kem.to_u8(), header.party]);
        out.extend([header.context_id, header.epoch_id, header.key_id].concat());
        out.extend(header.user);
        out.extend(header.permit_hash);
        out.extend((header.digests.len() as u16).to_be_bytes());
        out.extend(header.digests.concat());
        out.extend(ciphertext);
        out.extend(sealed);
        out
    }

    /// The response of the party that signs as `signer`.
    pub(crate) fn signed(&self, signer: usize, share: Vec<u8>) -> UserResponse {
        let digest = eip712::user_decrypt_response_digest(
            &domain().eip712(),
            &self.request.permit.public_key,
            &self.request.handles(),
            &share,
            &self.request.permit.extra_data,
        )
        .expect("good extra data");
        let signature = eip712::sign_digest(&signing_key(signer as u8), digest).to_vec().into();
        UserResponse { share: share.into(), signature, extra_data: self.request.permit.extra_data.clone() }
    }

    /// A response with another header.
    pub(crate) fn with_header(&self, party: usize, change: impl FnOnce(&mut Header)) -> UserResponse {
        let mut header = self.header(party);
        change(&mut header);
        let payload = self.payload(self.words[party - 1].clone());
        self.signed(party, self.seal(&header, &payload, [party as u8; 32]))
    }

    /// What party `party` answers.
    pub(crate) fn response(&self, party: usize) -> UserResponse {
        self.with_header(party, |_| ())
    }

    /// A signed response whose share is wrong in the first and in some other words.
    pub(crate) fn wrong(&self, party: usize, seed: u64) -> UserResponse {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut words = self.words[party - 1].clone();
        words[0] ^= 1 << (rng.next_u32() % 128);
        for word in words.iter_mut().skip(1) {
            if rng.next_u32().is_multiple_of(3) {
                *word = word.wrapping_add(random_word(&mut rng) << (rng.next_u32() % 128));
            }
        }
        self.signed(party, self.seal(&self.header(party), &self.payload(words), [party as u8; 32]))
    }
}
