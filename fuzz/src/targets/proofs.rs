//! Extra data, both proofs, and signatures (`kms_chain`): what goes to contracts, and what relayers and parties read of it.

use alloy_primitives::B256;
use kms_chain::eip712::{SignatureError, recover};
use kms_chain::extra_data::{ExtraData, ExtraDataError};
use kms_chain::proof::{DecryptionProof, InputProof, ProofError, SignatureBytes};

use crate::budget::{FACTOR, bounded};

/// Any bytes, read as each of them.
pub fn check(data: &[u8]) {
    extra_data(data);
    decryption(data);
    input(data);
    if let Some((digest, rest)) = data.split_first_chunk::<32>()
        && let Some((signature, _)) = rest.split_first_chunk::<65>()
    {
        signer((*digest).into(), signature);
    }
}

fn extra_data(data: &[u8]) {
    match bounded(data.len(), FACTOR, || ExtraData::parse(data)) {
        Ok(parsed) => {
            assert!(data.len() <= ExtraData::MAX_LENGTH);
            let written = parsed.encode();
            // The one exception: 0x00 means the same as nothing, and is signed as nothing.
            assert!(written[..] == *data || (parsed == ExtraData::Current && data == [0] && written.is_empty()));
            assert_eq!(ExtraData::parse(&written), Ok(parsed));
            assert_eq!(parsed.request_id().is_some(), data.len() == 97);
            assert!(parsed.context().is_some() || parsed.epoch().is_none());
        }
        Err(ExtraDataError::UnknownVersion(version)) => assert!(version > 3 && data.first() == Some(&version)),
        Err(ExtraDataError::BadLength { version, length }) => {
            assert_eq!((length, data.first()), (data.len(), Some(&version)));
            assert_ne!(length, 1 + 32 * usize::from(version));
        }
    }
}

fn decryption(data: &[u8]) {
    match bounded(data.len(), FACTOR, || DecryptionProof::parse(data)) {
        Ok(proof) => {
            assert_eq!(proof.signatures.len(), usize::from(data[0]));
            assert!(ExtraData::parse(&proof.extra_data).is_ok());
            assert_eq!(proof.encode().expect("what was read is writable")[..], *data);
        }
        Err(error) => faithful(error, data, data.first().map(|n| 1 + 65 * usize::from(*n))),
    }
}

fn input(data: &[u8]) {
    match bounded(data.len(), FACTOR, || InputProof::parse(data)) {
        Ok(proof) => {
            assert_eq!((proof.handles.len(), proof.signatures.len()), (data[0].into(), data[1].into()));
            assert!(ExtraData::parse(&proof.extra_data).is_ok());
            assert_eq!(proof.encode().expect("what was read is writable")[..], *data);
        }
        Err(error) => {
            let fixed = data.first_chunk().map(|[h, s]| 2 + 32 * usize::from(*h) + 65 * usize::from(*s));
            faithful(error, data, fixed.or(Some(2)));
        }
    }
}

/// The error says what is wrong with these bytes; `fixed` is the length of all before the extra data.
fn faithful(error: ProofError, data: &[u8], fixed: Option<usize>) {
    match error {
        ProofError::Empty => assert!(data.is_empty()),
        ProofError::Truncated => assert!(fixed.is_some_and(|fixed| data.len() < fixed)),
        ProofError::NoSignatures => assert!(data[..data.len().min(2)].contains(&0)),
        ProofError::NoHandles => assert_eq!(data[0], 0),
        ProofError::ExtraData(inner) => {
            assert_eq!(ExtraData::parse(&data[fixed.expect("it has a length")..]), Err(inner));
        }
        other => panic!("bytes can't be {other}"),
    }
}

/// Whatever recovers is the only form of its signature.
fn signer(digest: B256, signature: &SignatureBytes) {
    match recover(digest, signature) {
        Ok(address) => {
            assert!(signature[64] == 27 || signature[64] == 28);
            let mut other = *signature;
            other[64] ^= 27 ^ 28;
            assert_ne!(recover(digest, &other), Ok(address));
            let (s, mut twin) = (alloy_primitives::U256::from_be_slice(&signature[32..64]), other);
            twin[32..64].copy_from_slice(&(ORDER - s).to_be_bytes::<32>());
            assert_eq!(recover(digest, &twin), Err(SignatureError::HighS), "the twin with high s");
        }
        Err(SignatureError::BadV(v)) => assert!(v == signature[64] && v != 27 && v != 28),
        Err(_) => {}
    }
}

/// Order of secp256k1.
const ORDER: alloy_primitives::U256 = alloy_primitives::U256::from_limbs([
    0xbfd2_5e8c_d036_4141,
    0xbaae_dce6_af48_a03b,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
]);
