//! Rows, tables, revealed rows and shares of the verifiable secret sharing (`kms_mpc::vss::wire`), which coins and the
//! set-up of the pseudorandom keys use too.

use kms_algebra::Word;
use kms_mpc::vss::wire::{self, Kind, VssWireError};

use super::broadcast::committee;
use crate::budget::{FACTOR, bounded};

/// First byte: committee, kind and ring; second: number of elements; then the message.
pub fn check(data: &[u8]) {
    let [first, elements, message @ ..] = data else { return };
    let elements = 1 + usize::from(elements % 64);
    match first >> 4 & 3 {
        0 => ring::<u64, 4>(*first, elements, message),
        1 => ring::<u64, 5>(*first, elements, message),
        2 => ring::<u128, 4>(*first, elements, message),
        _ => ring::<u128, 5>(*first, elements, message),
    }
}

fn ring<W: Word, const D: usize>(first: u8, elements: usize, message: &[u8]) {
    match first >> 2 & 3 {
        0 => vector::<W, D>(Kind::Row, elements, message),
        1 => vector::<W, D>(Kind::Share, elements, message),
        2 => table::<W, D>(first, message),
        _ => reveal::<W, D>(usize::from(first >> 6), elements, message),
    }
}

fn vector<W: Word, const D: usize>(kind: Kind, elements: usize, message: &[u8]) {
    let expected = wire::vector_len::<W, D>(elements);
    match bounded(message.len(), FACTOR, || wire::decode_vector::<W, D>(kind, message, elements)) {
        Ok(vector) => {
            assert_eq!((message.len(), vector.len()), (expected, elements));
            assert_eq!(wire::encode_vector(kind, &vector), message);
        }
        Err(error) => length(error, message, expected..=expected),
    }
}

fn table<W: Word, const D: usize>(first: u8, message: &[u8]) {
    let c = committee(first);
    let longest = wire::max_table_len(&c);
    match bounded(message.len(), FACTOR, || wire::decode_table::<W, D>(&c, message)) {
        Ok(table) => {
            assert_eq!(table.digests.len(), c.n());
            assert!(table.pairs.as_ref().is_none_or(|pairs| pairs.len() == c.n() * (c.n() - 1) / 2));
            assert!(message.len() <= longest);
            assert_eq!(wire::encode_table::<W, D>(&c, &table), message);
        }
        Err(error) => length(error, message, longest - 16 * c.n() * (c.n() - 1)..=longest),
    }
}

fn reveal<W: Word, const D: usize>(rows: usize, elements: usize, message: &[u8]) {
    let expected = wire::vector_len::<W, D>(rows * elements);
    match bounded(message.len(), FACTOR, || wire::decode_reveal::<W, D>(message, rows, elements)) {
        Ok(read) => {
            assert!(read.len() == rows && read.iter().all(|row| row.len() == elements));
            assert_eq!(wire::encode_reveal(&read.iter().collect::<Vec<_>>()), message);
        }
        Err(error) => length(error, message, expected..=expected),
    }
}

fn length(error: VssWireError, message: &[u8], possible: core::ops::RangeInclusive<usize>) {
    if let VssWireError::Length { expected, got } = error {
        assert!(got == message.len() && got != expected && possible.contains(&expected), "{error}");
    }
}
