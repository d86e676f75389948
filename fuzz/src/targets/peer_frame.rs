//! Frames between parties (`kms_proto::peer`), and what their signature covers.

use alloy_primitives::Address;
use kms_proto::bounds::{self, MAX_PAYLOAD, MAX_SESSIONS};
use kms_proto::peer::{Frame, Share, Shares, frame::Body, setup};

use super::node_api::each;
use crate::committee::{KEYS, SIGNERS};
use crate::peer;

/// The bytes of a frame, as they come on the link of party 2.
pub fn check(data: &[u8]) {
    each(data, bounds::check_frame, |frame: &Frame| match frame.body.as_ref().expect("a checked frame has a body") {
        Body::Hello(hello) => assert_eq!((hello.committee_hash.len(), hello.manifest_hash.len()), (32, 32)),
        Body::Share(share) => {
            assert!(share.payload.len() <= MAX_PAYLOAD);
            match peer::claim(share.clone(), 2) {
                Ok(message) => {
                    assert_eq!((message.from, &message.session[..]), (2, &share.session[..]));
                    assert_eq!((u32::from(message.round), &message.payload), (share.round, &share.payload));
                    // Nobody else's signature, whatever it is, makes it a frame of party 2 of another committee.
                    let read = peer::verify(share.clone(), 2, &[1; 32], SIGNERS[1]);
                    if read.is_ok() {
                        assert_eq!(peer::verify(share.clone(), 2, &[2; 32], SIGNERS[1]).err(), Some(peer::Refused));
                        assert_eq!(peer::verify(share.clone(), 3, &[1; 32], SIGNERS[1]).err(), Some(peer::Refused));
                        assert_eq!(peer::verify(share.clone(), 2, &[1; 32], Address::ZERO).err(), Some(peer::Refused));
                    }
                    let own =
                        peer::sign(&KEYS[1], &[1; 32], 2, &message.session, message.round, share.payload.to_vec());
                    let same = peer::verify(own, 2, &[1; 32], SIGNERS[1]).expect("its own frame");
                    assert_eq!(
                        (same.session, same.round, same.payload),
                        (message.session, message.round, message.payload)
                    );
                }
                Err(_) => assert!(share.round > 255, "all its lengths are right"),
            }
        }
        Body::Open(open) => sessions(&open.sessions),
        Body::Resend(resend) => sessions(&resend.sessions),
        Body::Dropped(dropped) => assert_eq!(dropped.session.len(), bounds::ID),
        Body::Shares(shares) => together(shares),
        Body::Setup(setup) => {
            assert_eq!(setup.epoch_id.len(), bounds::ID);
            match setup.body.as_ref().expect("a checked notice has a body") {
                setup::Body::Report(report) => assert!(report.claim.len() <= bounds::MAX_PRSS_SETS * bounds::ID),
                setup::Body::Want(want) => assert_eq!(want.digest.len(), bounds::ID),
                setup::Body::Keys(keys) => assert!(keys.commitments.len() <= bounds::MAX_PRSS_SETS * bounds::ID),
            }
        }
        Body::Ping(_) => {}
    });
}

/// Several messages under one signature: what their sender signs is read as it was, and each can be shown alone.
fn together(shares: &Shares) {
    assert!(shares.messages.len() <= bounds::MAX_BUNDLE);
    let bytes: usize = shares.messages.iter().map(|message| message.payload.len()).sum();
    assert!(bytes <= MAX_PAYLOAD);
    assert!(peer::verify_all(shares.clone(), 2, &[1; 32], Address::ZERO).is_err());
    let read = shares.messages.iter().map(|message| {
        let alone = Share {
            session: message.session.clone(),
            round: message.round,
            payload: message.payload.clone(),
            signature: shares.signature.clone(),
        };
        peer::claim(alone, 2)
    });
    let Ok(messages) = read.collect::<Result<Vec<_>, _>>() else { return };
    let own = peer::sign_all(&KEYS[1], &[1; 32], 2, &messages);
    let same = peer::verify_all(own.clone(), 2, &[1; 32], SIGNERS[1]).expect("its own frame");
    assert_eq!(same.len(), messages.len());
    for (is, was) in same.iter().zip(&messages) {
        assert_eq!((is.session, is.round, &is.payload), (was.session, was.round, &was.payload));
        assert!(is.proof.is_signed_by(SIGNERS[1], &[1; 32], 2, &is.session));
        assert!(!is.proof.is_signed_by(SIGNERS[1], &[2; 32], 2, &is.session));
    }
    assert!(messages.is_empty() || peer::verify_all(own, 3, &[1; 32], SIGNERS[1]).is_err());
}

fn sessions(list: &[Vec<u8>]) {
    assert!(list.len() <= MAX_SESSIONS && list.iter().all(|id| id.len() == bounds::ID));
}
