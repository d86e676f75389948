use proptest::prelude::*;

use super::*;
use crate::user::SEED_BYTES;

const HANDLES: [[u8; 32]; 2] = [handle(1, 5), handle(2, 0)];

const fn handle(seed: u8, ty: u8) -> [u8; 32] {
    let mut handle = [seed; 32];
    handle[30] = ty;
    handle[31] = 0;
    handle
}

fn header() -> Header {
    Header {
        party: 3,
        context_id: [1; 32],
        epoch_id: [2; 32],
        key_id: [3; 32],
        user: [4; 20],
        permit_hash: [5; 32],
        digests: vec![[6; 32], [7; 32]],
    }
}

fn binding() -> Binding<'static> {
    Binding {
        host_chain_id: 31337,
        domain_chain_id: 1,
        verifying_contract: [9; 20],
        extra_data: &[0],
        handles: &HANDLES,
    }
}

fn payload() -> SharePayload {
    // 16 blocks and one: five elements.
    SharePayload::new(4, &binding().types().unwrap(), (100..120).collect()).unwrap()
}

fn pair(kem: Kem) -> KeyPair {
    KeyPair::from_seed(kem, &[8; SEED_BYTES])
}

fn sealed(kem: Kem) -> Vec<u8> {
    seal(pair(kem).public_key(), &header(), &binding(), &payload()).unwrap()
}

#[test]
fn envelopes_open_for_their_key_only() {
    for kem in [Kem::MlKem768, Kem::MlKem512] {
        let bytes = sealed(kem);
        assert_eq!(bytes.len(), 157 + 64 + kem.ciphertext_bytes() + 12 + 5 * 4 * 16 + 16);
        assert_eq!(bytes[..7], [b'K', b'M', b'S', b'E', 1, kem.to_u8(), 3]);
        let envelope = Envelope::parse(&bytes).unwrap();
        assert_eq!((&envelope.header, envelope.kem), (&header(), kem));
        assert_eq!(open(&pair(kem), &envelope, &binding(), 4), Ok(payload()));
        let stranger = KeyPair::from_seed(kem, &[9; SEED_BYTES]);
        assert_eq!(open(&stranger, &envelope, &binding(), 4), Err(OpenError::Sealed));
        let ring = open(&pair(kem), &envelope, &binding(), 5);
        assert!(matches!(ring, Err(OpenError::Payload(_))), "{ring:?}");
    }
    let bytes = sealed(Kem::MlKem512);
    let envelope = Envelope::parse(&bytes).unwrap();
    let expected = OpenError::Kem { expected: Kem::MlKem768, found: Kem::MlKem512 };
    assert_eq!(open(&pair(Kem::MlKem768), &envelope, &binding(), 4), Err(expected));
}

#[test]
fn sealing_is_randomised_and_a_function_of_its_randomness() {
    let pair = pair(Kem::MlKem768);
    assert_ne!(sealed(Kem::MlKem768), sealed(Kem::MlKem768));
    let with = |m| seal_with(pair.public_key(), &header(), &binding(), &payload(), &m).unwrap();
    assert_eq!(with([1; 32]), with([1; 32]));
    assert_ne!(with([1; 32]), with([2; 32]));
}

#[test]
fn every_bound_field_matters() {
    let pair = pair(Kem::MlKem768);
    let bytes = sealed(Kem::MlKem768);
    let good = Envelope::parse(&bytes).unwrap();
    let headers: [fn(&mut Header); 8] = [
        |h| h.party = 4,
        |h| h.context_id[0] ^= 1,
        |h| h.epoch_id[31] ^= 1,
        |h| h.key_id[0] ^= 1,
        |h| h.user[19] ^= 1,
        |h| h.permit_hash[0] ^= 1,
        |h| h.digests[1][0] ^= 1,
        |h| h.digests.swap(0, 1),
    ];
    for (i, change) in headers.iter().enumerate() {
        let mut envelope = good.clone();
        change(&mut envelope.header);
        assert_eq!(open(&pair, &envelope, &binding(), 4), Err(OpenError::Sealed), "header {i}");
    }
    let swapped = [HANDLES[1], HANDLES[0]];
    let other = [handle(3, 5), HANDLES[1]];
    let wider = [HANDLES[0], handle(2, 2)];
    let bindings = [
        Binding { host_chain_id: 1, ..binding() },
        Binding { domain_chain_id: 2, ..binding() },
        Binding { verifying_contract: [8; 20], ..binding() },
        Binding { extra_data: &[], ..binding() },
        Binding { handles: &swapped, ..binding() },
        Binding { handles: &other, ..binding() },
        Binding { handles: &wider, ..binding() },
    ];
    for (i, binding) in bindings.iter().enumerate() {
        assert_eq!(open(&pair, &good, binding, 4), Err(OpenError::Sealed), "binding {i}");
    }
    let one = Binding { handles: &HANDLES[..1], ..binding() };
    let digests = EnvelopeError::Digests { handles: 1, digests: 2 };
    assert_eq!(open(&pair, &good, &one, 4), Err(OpenError::Envelope(digests)));
}

#[test]
fn what_does_not_fit_is_not_sealed() {
    let pair = pair(Kem::MlKem768);
    let seal = |header: &Header, binding: &Binding<'_>, payload: &SharePayload| {
        seal(pair.public_key(), header, binding, payload)
    };
    for party in [0, 32] {
        let header = Header { party, ..header() };
        assert_eq!(seal(&header, &binding(), &payload()), Err(EnvelopeError::Party(party).into()));
    }
    let none = Binding { handles: &[], ..binding() };
    assert_eq!(seal(&header(), &none, &payload()), Err(EnvelopeError::Handles(0).into()));
    let many = vec![HANDLES[1]; MAX_HANDLES + 1];
    let many = Binding { handles: &many, ..binding() };
    assert_eq!(seal(&header(), &many, &payload()), Err(EnvelopeError::Handles(1025).into()));
    let unknown = [handle(1, 1), HANDLES[1]];
    let unknown = Binding { handles: &unknown, ..binding() };
    assert_eq!(seal(&header(), &unknown, &payload()), Err(EnvelopeError::Type(1).into()));
    let long = vec![0; 256];
    let long = Binding { extra_data: &long, ..binding() };
    assert_eq!(seal(&header(), &long, &payload()), Err(EnvelopeError::ExtraData(256).into()));
    let swapped = [HANDLES[1], HANDLES[0]];
    let swapped = Binding { handles: &swapped, ..binding() };
    assert_eq!(seal(&header(), &swapped, &payload()), Err(PayloadError::Header.into()));
}

#[test]
fn the_largest_request_fits_the_bound() {
    let handles: Vec<[u8; 32]> = (0..MAX_HANDLES).map(|i| handle(i as u8, 0)).collect();
    let binding = Binding { handles: &handles, ..binding() };
    let header = Header { digests: vec![[6; 32]; MAX_HANDLES], ..header() };
    for degree in [4u8, 5] {
        let types = binding.types().unwrap();
        let words = super::super::packed_elements(degree, &types) * usize::from(degree);
        let payload = SharePayload::new(degree, &types, vec![1; words]).unwrap();
        let pair = pair(Kem::MlKem768);
        let bytes = seal(pair.public_key(), &header, &binding, &payload).unwrap();
        assert!(bytes.len() <= MAX_ENVELOPE_BYTES);
        assert_eq!(open(&pair, &Envelope::parse(&bytes).unwrap(), &binding, degree), Ok(payload));
    }
}

#[test]
fn every_truncation_and_every_flipped_bit_fails() {
    let pair = pair(Kem::MlKem512);
    let bytes = sealed(Kem::MlKem512);
    let opens = |bytes: &[u8]| {
        Envelope::parse(bytes).map_err(OpenError::from).and_then(|envelope| open(&pair, &envelope, &binding(), 4))
    };
    assert!(opens(&bytes).is_ok());
    for cut in 0..bytes.len() {
        assert!(opens(&bytes[..cut]).is_err());
    }
    for bit in (0..bytes.len() * 8).step_by(3) {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(opens(&bad).is_err(), "bit {bit}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(opens(&longer), Err(OpenError::Sealed));
}

#[test]
fn headers_are_parsed_strictly() {
    let bytes = sealed(Kem::MlKem768);
    let with = |at: usize, byte: u8| {
        let mut bad = bytes.clone();
        bad[at] = byte;
        Envelope::parse(&bad).map(|e| e.header).unwrap_err()
    };
    assert_eq!(with(0, b'X'), EnvelopeError::Magic);
    assert_eq!(with(4, 2), EnvelopeError::Version(2));
    assert_eq!(with(5, 3), EnvelopeError::Kem(3));
    assert_eq!(with(6, 0), EnvelopeError::Party(0));
    assert_eq!(with(6, 32), EnvelopeError::Party(32));
    assert_eq!(with(156, 0), EnvelopeError::Handles(0));
    assert_eq!(with(155, 0xff), EnvelopeError::Handles(0xff02));
    assert_eq!(with(155, 3), EnvelopeError::Truncated);
    let large = vec![0; MAX_ENVELOPE_BYTES + 1];
    assert_eq!(Envelope::parse(&large).unwrap_err(), EnvelopeError::TooLarge(large.len()));
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..3000), prefix in 0usize..8) {
        let mut bytes = bytes;
        let good = [b'K', b'M', b'S', b'E', 1, 1, 3, 0];
        let prefix = prefix.min(bytes.len());
        bytes[..prefix].copy_from_slice(&good[..prefix]);
        if let Ok(envelope) = Envelope::parse(&bytes) {
            prop_assert!(open(&pair(Kem::MlKem768), &envelope, &binding(), 4).is_err());
        }
    }
}
