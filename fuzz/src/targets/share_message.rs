//! The share message of a job (`kms_mpc::wire`): the receiver knows degree and number of elements.

use kms_mpc::wire::{self, HEADER_BYTES, MAGIC, VERSION, WireError};

use crate::budget::{FACTOR, bounded};

/// First byte: degree 4 or 5 and the number of elements that the job has; then the message.
pub fn check(data: &[u8]) {
    let Some((head, message)) = data.split_first() else { return };
    let elements = usize::from(head >> 1);
    if head & 1 == 0 { degree::<4>(message, elements) } else { degree::<5>(message, elements) }
}

fn degree<const D: usize>(message: &[u8], elements: usize) {
    let expected = HEADER_BYTES + 16 * D * elements;
    assert_eq!(wire::message_len::<D>(elements), expected);
    match bounded(message.len(), FACTOR, || wire::decode::<D>(message, elements)) {
        Ok(shares) => {
            assert_eq!((message.len(), shares.len()), (expected, elements));
            assert_eq!(wire::encode(&shares), message);
        }
        Err(WireError::Length { expected: want, got }) => {
            assert_eq!((want, got), (expected, message.len()));
            assert_ne!(want, got);
        }
        Err(_) => {
            assert_eq!(message.len(), expected);
            let honest = [&MAGIC[..], &[VERSION, D as u8, 16, 0], &(elements as u32).to_be_bytes()].concat();
            assert_ne!(message[..HEADER_BYTES], honest[..]);
        }
    }
    // Whatever the words are, written with the header of the job they are read back.
    if let Some(words) = message.get(HEADER_BYTES..).filter(|words| words.len() + HEADER_BYTES == expected) {
        let header = [&MAGIC[..], &[VERSION, D as u8, 16, 0], &(elements as u32).to_be_bytes()].concat();
        let message = [&header[..], words].concat();
        assert_eq!(wire::encode(&wire::decode::<D>(&message, elements).expect("the header is right")), message);
    }
}
