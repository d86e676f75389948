//! Sealed shares of a user decryption and the user's keys (`kms_encoding::user`).

use kms_encoding::FheType;
use kms_encoding::user::{
    Binding, Envelope, Kem, KeyPair, MAX_ENVELOPE_BYTES, MAX_HANDLES, PublicKey, SharePayload, open,
};

use crate::budget::{FACTOR, bounded};

/// Any bytes as an envelope, as a payload, and as a public key.
pub fn check(data: &[u8]) {
    envelope(data);
    payload(data);
    if let Ok(key) = PublicKey::parse(data) {
        assert_eq!((key.as_bytes(), key.kem().public_key_bytes()), (data, data.len()));
    }
}

fn envelope(data: &[u8]) {
    let Ok(envelope) = bounded(data.len(), FACTOR, || Envelope::parse(data)) else { return };
    let header = &envelope.header;
    assert!(data.len() <= MAX_ENVELOPE_BYTES && (1..=31).contains(&header.party));
    assert!((1..=MAX_HANDLES).contains(&header.digests.len()));
    let mut head = b"KMSE\x01".to_vec();
    head.extend([envelope.kem.to_u8(), header.party]);
    head.extend([header.context_id, header.epoch_id, header.key_id].concat());
    head.extend(header.user);
    head.extend(header.permit_hash);
    head.extend((header.digests.len() as u16).to_be_bytes());
    head.extend(header.digests.concat());
    assert!(data.starts_with(&head), "the header is what the bytes say");

    // Nobody seals for this key: whatever it is, it does not open.
    let handles = vec![[0; 32]; header.digests.len()];
    let binding = Binding {
        host_chain_id: 1,
        domain_chain_id: 1,
        verifying_contract: [0; 20],
        extra_data: &[],
        handles: &handles,
    };
    for kem in [Kem::MlKem768, Kem::MlKem512] {
        let pair = KeyPair::from_seed(kem, &[1; 64]);
        assert!(open(&pair, &envelope, &binding, 4).is_err());
    }
}

/// The request is read off the first bytes, so that a payload can fit it.
fn payload(data: &[u8]) {
    let Some(([degree, count], rest)) = data.split_first_chunk::<2>() else { return };
    let degree = 4 + degree % 2;
    let Some((types, bytes)) = rest.split_at_checked(usize::from(count % 32)) else { return };
    let types: Vec<FheType> = types.iter().map(|byte| FheType::ALL[usize::from(byte % 8)]).collect();
    if let Ok(payload) = SharePayload::from_bytes(bytes, degree, &types) {
        assert_eq!(payload.to_bytes()[..], *bytes, "one encoding per payload");
    }
}
