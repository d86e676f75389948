//! Messages of the node API (`kms_proto::node`): calls of clients at a party, and answers of parties at a client.

use kms_proto::bounds::{self, BoundsError};
use kms_proto::node;
use prost::Message;

use crate::budget::bounded;

/// An empty entry of a list has two bytes on the wire and up to 80 in memory; while a vector grows, the old one and the
/// new one exist together. This is what the limit of a whole message is multiplied with.
pub(crate) const PROTO: usize = 128;

/// First byte: which message; then its bytes.
pub fn check(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    match which % 7 {
        0 => each(bytes, bounds::check_decrypt, |call: &node::DecryptRequest| {
            use node::decrypt_request::Source;
            assert_eq!(call.epoch_id.len(), bounds::ID);
            let handles = match call.source.as_ref().expect("a checked call has a source") {
                Source::Request(request) => {
                    assert!(u16::try_from(request.finality).is_ok());
                    assert_eq!(
                        (request.requester.len(), request.selector.len(), request.context_id.len()),
                        (20, 4, 32)
                    );
                    &request.handles
                }
                Source::Public(request) => {
                    assert!(request.extra_data.len() <= bounds::MAX_EXTRA_DATA);
                    &request.handles
                }
            };
            ids(handles, bounds::MAX_HANDLES);
        }),
        1 => each(bytes, bounds::check_decrypt_response, |response: &node::DecryptResponse| {
            use node::decrypt_response::Outcome;
            match response.outcome.as_ref().expect("a checked response has an outcome") {
                Outcome::Answer(answer) => bounded_answer(answer),
                Outcome::NotYet(not_yet) => text(&not_yet.detail),
                Outcome::Refused(refused) => text(&refused.detail),
                Outcome::EpochNotLive(other) => ids(&other.live, bounds::MAX_EPOCHS),
            }
        }),
        2 => each(bytes, bounds::check_status, |status: &node::GetStatusResponse| {
            text(&status.waiting_for);
            status.answer.iter().for_each(bounded_answer);
            status.receipt.iter().for_each(bounded_receipt);
            status.refused.iter().for_each(|refused| text(&refused.detail));
        }),
        3 => each(bytes, bounds::check_keys, |keys: &node::GetKeysResponse| {
            assert!(keys.keys.len() <= bounds::MAX_KEYS);
            for key in &keys.keys {
                assert_eq!((key.key_id.len(), key.epoch_id.len(), key.context_id.len()), (32, 32, 32));
                text(&key.params);
                text(&key.state);
            }
        }),
        4 => each(bytes, bounds::check_health, |health: &node::HealthResponse| {
            text(&health.phase);
            text(&health.version);
            assert!(health.committee_hash.len() == bounds::ID && health.peers.len() <= bounds::MAX_PARTIES);
            health.peers.iter().for_each(|peer| text(&peer.problem));
            ids(&health.usable_keys, bounds::MAX_KEYS);
        }),
        5 => each(bytes, bounds::check_receipt, bounded_receipt),
        _ => each(
            bytes,
            |status: &node::GetStatusRequest| bounds::id("request_id", &status.request_id).map(|_| ()),
            |status| assert_eq!(status.request_id.len(), bounds::ID),
        ),
    }
}

/// Decodes; what a message means survives being written and read; a message that passes its check keeps its bounds.
pub(crate) fn each<M: Message + Default + PartialEq>(
    bytes: &[u8],
    check: impl Fn(&M) -> Result<(), BoundsError>,
    holds: impl Fn(&M),
) {
    let Ok(message) = bounded(bytes.len(), PROTO, || M::decode(bytes)) else { return };
    let written = message.encode_to_vec();
    let again = M::decode(&written[..]).expect("what was read is readable when written");
    assert!(again == message && again.encode_to_vec() == written);
    match bounded(bytes.len(), 1, || check(&message)) {
        Ok(()) => holds(&message),
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 200, "{text}");
            match error {
                BoundsError::Missing(field) => assert!(!field.is_empty()),
                BoundsError::Length { expected, got, .. } => assert_ne!(expected, got),
                BoundsError::TooLong { max, got, .. } => assert!(got > max),
            }
        }
    }
}

fn text(sentence: &str) {
    assert!(sentence.len() <= bounds::MAX_TEXT);
}

fn ids(list: &[Vec<u8>], max: usize) {
    assert!(list.len() <= max && list.iter().all(|id| id.len() == bounds::ID));
}

fn bounded_answer(answer: &node::Answer) {
    assert!(answer.cleartexts.len() <= bounds::MAX_HANDLES * 32 && answer.extra_data.len() <= bounds::MAX_EXTRA_DATA);
    assert_eq!((answer.request_id.len(), answer.signature.len(), answer.signer.len()), (32, 65, 20));
}

fn bounded_receipt(receipt: &node::Receipt) {
    for id in [&receipt.request_id, &receipt.context_id, &receipt.epoch_id, &receipt.key_id] {
        assert_eq!(id.len(), 32);
    }
    for bitmap in [&receipt.arrived, &receipt.late, &receipt.wrong] {
        assert_eq!(bitmap.len(), 32);
    }
    assert!(receipt.signature.len() == 65 && receipt.evidence.len() <= bounds::MAX_PARTIES);
    for evidence in &receipt.evidence {
        text(&evidence.detail);
        assert!(evidence.frames.len() <= bounds::MAX_EVIDENCE_FRAMES);
        for frame in &evidence.frames {
            assert_eq!((frame.session.len(), frame.payload_hash.len(), frame.signature.len()), (32, 32, 65));
        }
    }
}
