//! Echoes, votes and bits of the reliable broadcast (`kms_mpc::broadcast::wire`).

use kms_mpc::Committee;
use kms_mpc::broadcast::wire::{self, BroadcastWireError, HEADER_BYTES, Kind, QUESTION_BYTES};

use crate::budget::{FACTOR, bounded};

/// Committees of the protocol tests and the smallest that need another ring.
pub(crate) const COMMITTEES: [(usize, usize); 4] = [(4, 1), (7, 2), (13, 4), (16, 3)];

/// A committee that the first byte of an input chooses.
pub(crate) fn committee(byte: u8) -> Committee {
    let (n, t) = COMMITTEES[usize::from(byte) % COMMITTEES.len()];
    Committee::new(n, t).expect("listed committees are possible")
}

/// First byte: committee and kind; second: round and number of bits; then the message.
pub fn check(data: &[u8]) {
    let [first, second, message @ ..] = data else { return };
    let c = committee(*first);
    match first >> 2 & 3 {
        0 => hashes(Kind::Echo, c, message),
        1 => hashes(Kind::Vote, c, message),
        2 => votes(c, message),
        _ => bits(c, usize::from(second & 7), usize::from(second >> 3) * (c.n() - 1), message),
    }
}

fn hashes(kind: Kind, c: Committee, message: &[u8]) {
    let expected = HEADER_BYTES + 4 + 32 * c.n();
    match bounded(message.len(), FACTOR, || wire::decode_hashes(kind, c, message)) {
        Ok(hashes) => {
            assert_eq!((message.len(), hashes.len()), (expected, c.n()));
            assert_eq!(wire::encode_hashes(kind, c, &hashes), message);
        }
        Err(error) => length(error, message, |want| want == expected),
    }
}

fn votes(c: Committee, message: &[u8]) {
    let least = HEADER_BYTES + 4 + 32 * c.n() + 1;
    match bounded(message.len(), FACTOR, || wire::decode_votes(c, message)) {
        Ok(votes) => {
            assert!(votes.hashes.len() == c.n() && votes.questions.len() <= 2 * c.t());
            assert!(votes.questions.iter().all(|q| c.contains(q.sender) && q.askees.iter().all(|p| c.contains(p))));
            assert_eq!(wire::encode_votes(c, &votes), message);
        }
        Err(error) => length(error, message, |want| {
            (least..=least + 2 * c.t() * QUESTION_BYTES).contains(&want) || want == least - 1
        }),
    }
}

fn bits(c: Committee, round: usize, count: usize, message: &[u8]) {
    match bounded(message.len(), FACTOR, || wire::decode_bits(c, round, count, message)) {
        Ok(bits) => {
            assert_eq!(bits.len(), count);
            assert_eq!(wire::encode_bits(c, round, &bits), message);
        }
        Err(error) => length(error, message, |want| want == HEADER_BYTES + count.div_ceil(8)),
    }
}

fn length(error: BroadcastWireError, message: &[u8], possible: impl Fn(usize) -> bool) {
    if let BroadcastWireError::Length { expected, got } = error {
        assert!(got == message.len() && got != expected && possible(expected), "{error}");
    }
}
