//! Requests as they stand in events, lists of handles, and cleartexts (`kms_chain`).

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolValue;
use kms_chain::FheType;
use kms_chain::cleartexts::{self, CleartextError};
use kms_chain::handle::{COMPUTED_INDEX, Handle, HandleError, MAX_REQUEST_BITS, check_request_handles};
use kms_chain::request::{Finality, Request, request_id};

use crate::budget::{FACTOR, bounded};

/// The ABI encoding of a request; and its words as handles, and as their cleartexts.
pub fn check(data: &[u8]) {
    request(data);
    let words: Vec<B256> = data.as_chunks::<32>().0.iter().map(B256::from).collect();
    let chain = words.first().map_or(0, |first| u64::from_be_bytes(first[22..30].try_into().expect("eight bytes")));
    handles(&words, chain);
    answer(data, &words);
    if let Some((code, _)) = data.split_first_chunk() {
        finality(u16::from_be_bytes(*code));
    }
}

fn request(data: &[u8]) {
    let Ok(request) = bounded(data.len(), FACTOR, || Request::abi_decode(data)) else { return };
    assert!(request.handles.len() * 32 <= data.len());
    let written = request.abi_encode();
    let again = Request::abi_decode(&written).expect("what was read is writable");
    assert_eq!(again, request);
    let id = request_id(1, Address::ZERO, &request);
    assert_eq!(request_id(1, Address::ZERO, &again), id);
    assert_ne!(request_id(2, Address::ZERO, &request), id);
    let other = Request { nonce: !request.nonce, ..request };
    assert_ne!(request_id(1, Address::ZERO, &other), id);
}

fn handles(words: &[B256], chain: u64) {
    for word in words {
        match Handle::parse(*word) {
            Ok(handle) => {
                let hash = word[..21].try_into().expect("21 bytes");
                let built = Handle::new(hash, handle.index(), handle.chain_id(), handle.fhe_type());
                assert_eq!((built, handle.raw()), (handle, *word));
                assert!(handle.index() != COMPUTED_INDEX || word[21] == 0xff);
            }
            Err(HandleError::UnknownVersion(raw, version)) => {
                assert!(raw == *word && version == word[31] && version > 0)
            }
            Err(HandleError::UnknownType(raw, ty)) => assert!(raw == *word && ty == word[30] && ty > 83),
            Err(HandleError::UnsupportedType(_, ty)) => assert!(ty <= 83 && FheType::from_u8(ty).is_none()),
            Err(error) => panic!("a handle alone can't be {error}"),
        }
    }
    let result = bounded(32 * words.len(), FACTOR, || check_request_handles(words, chain));
    let parsed: Option<Vec<Handle>> =
        words.iter().map(|w| Handle::parse(*w).ok().filter(|h| h.chain_id() == chain)).collect();
    let bits = |list: &[Handle]| list.iter().map(|h| h.fhe_type().bits()).sum::<u32>();
    let good = parsed.filter(|list| !list.is_empty() && bits(list) <= MAX_REQUEST_BITS);
    assert_eq!(result.as_ref().ok(), good.as_ref(), "{result:?}");
}

/// The words as cleartexts, with types from their own last bytes.
fn answer(data: &[u8], words: &[B256]) {
    let types: Vec<FheType> = words.iter().map(|w| FheType::ALL[usize::from(w[31]) % 8]).collect();
    match bounded(data.len(), FACTOR, || cleartexts::decode(data, &types)) {
        Ok(values) => {
            let pairs: Vec<(FheType, U256)> = types.into_iter().zip(values).collect();
            assert!(pairs.iter().all(|(ty, value)| value.bit_len() <= ty.value_bits() as usize));
            assert_eq!(cleartexts::encode(&pairs).expect("what was read is writable"), data);
        }
        Err(CleartextError::BadLength { length, words }) => assert_ne!(length, 32 * words),
        Err(CleartextError::OutOfRange(at)) => {
            assert!(!cleartexts::in_range(types[at], U256::from_be_bytes(words[at].0)));
        }
    }
}

fn finality(code: u16) {
    match Finality::parse(code) {
        Ok(finality) => assert_eq!(finality.code(), code),
        Err(unknown) => assert!(unknown.0 == code && code > Finality::MAX_BLOCKS && code < Finality::SAFE),
    }
}
