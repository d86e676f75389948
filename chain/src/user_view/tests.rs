use super::*;
use crate::{
    FheType,
    eip712::{sign_digest, signer_address},
    permit::{HandleContract, Permit},
};
use k256::ecdsa::SigningKey;
use kms_encoding::user::{Kem, KeyPair, SEED_BYTES};

const CHAIN: u64 = 31337;
const START: u64 = 1_700_000_000;
const NOW: u64 = START + 1000;
const END: u64 = START + 10 * 86_400;
const CONTEXT: B256 = B256::repeat_byte(7);
const DOMAIN: Address = Address::repeat_byte(8);
const CONTRACT: Address = Address::repeat_byte(2);
const DELEGATOR: Address = Address::repeat_byte(9);

fn request(change: impl FnOnce(&mut UserRequest)) -> UserRequest {
    let key = KeyPair::from_seed(Kem::MlKem768, &[1; SEED_BYTES]);
    let wallet = SigningKey::from_slice(&[5; 32]).unwrap();
    let handle = |seed| Handle::new([seed; 21], 0xff, CHAIN, FheType::Uint64).raw();
    let mut request = UserRequest {
        host_chain_id: CHAIN,
        permit: Permit {
            user: signer_address(&wallet),
            delegator: None,
            public_key: key.public_key().as_bytes().to_vec().into(),
            contracts: vec![CONTRACT],
            start: START,
            days: 10,
            extra_data: [&[1][..], CONTEXT.as_slice()].concat().into(),
        },
        signature: Bytes::new(),
        pairs: [1, 2].map(|seed| HandleContract { handle: handle(seed), contract: CONTRACT }).to_vec(),
    };
    // Signed as it is without the change: a test that changes the permit changes who may have signed it.
    request.signature = sign_digest(&wallet, request.permit.digest(CHAIN, DOMAIN)).to_vec().into();
    change(&mut request);
    if request.permit.delegator.is_some() || request.permit.extra_data.is_empty() {
        request.signature = sign_digest(&wallet, request.permit.digest(CHAIN, DOMAIN)).to_vec().into();
    }
    request
}

fn question(change: impl FnOnce(&mut UserRequest)) -> UserQuestion {
    UserQuestion::new(request(change), CONTEXT, DOMAIN).unwrap()
}

fn view(change: impl FnOnce(&mut UserView)) -> UserView {
    let pair = |seed| IGuardLens::PairView {
        userAllowed: true,
        contractAllowed: true,
        delegated: true,
        delegatedUntil: u64::MAX,
        keyId: B256::repeat_byte(3),
        digest: B256::repeat_byte(seed),
        keyState: 2,
    };
    let mut view = UserView {
        blockTimestamp: NOW,
        blockNumber: 100,
        currentContextId: CONTEXT,
        contextLive: true,
        signaturesInvalidBefore: 0,
        signature: 0,
        pairs: vec![pair(1), pair(2)],
    };
    change(&mut view);
    view
}

/// `allowed`, a reason to wait, or a refusal with a mark whether it lasts.
fn said(verdict: &UserVerdict) -> String {
    match verdict {
        UserVerdict::Allowed(_) => "allowed".into(),
        UserVerdict::NotYet { reason, .. } => reason.label().into(),
        UserVerdict::Refused { refusal, lasts } => format!("{}{}", refusal.label(), if *lasts { "!" } else { "" }),
    }
}

type Change = fn(&mut UserView);

/// One row: the view is changed at the latest block only, at both, at the final one only.
fn row(question: &UserQuestion, change: Change) -> [String; 3] {
    let (plain, changed) = (view(|_| {}), view(change));
    [(&plain, &changed), (&changed, &changed), (&changed, &plain)]
        .map(|(at_final, at_latest)| said(&question.judge(at_final, at_latest)))
}

#[test]
fn what_is_permitted_is_granted_as_the_final_block_says() {
    let at_final = view(|v| v.blockTimestamp = START - 500);
    let verdict = question(|_| {}).judge(&at_final, &view(|_| {}));
    let UserVerdict::Allowed(grants) = verdict else { panic!("{verdict:?}") };
    assert_eq!(grants.iter().map(|g| g.digest[0]).collect::<Vec<_>>(), [1, 2]);
    assert!(grants.iter().all(|g| g.key_id == B256::repeat_byte(3)));
}

#[test]
fn the_table() {
    let own = question(|_| {});
    let rows: [(Change, [&str; 3]); 18] = [
        (|_| {}, ["allowed", "allowed", "allowed"]),
        (|v| v.pairs[1].userAllowed = false, ["UserNotAllowed", "UserNotAllowed", "not-final"]),
        (|v| v.pairs[1].contractAllowed = false, ["ContractNotAllowed", "ContractNotAllowed", "not-final"]),
        (|v| v.pairs[0].keyId = B256::ZERO, ["not-committed", "not-committed", "not-committed"]),
        (|v| v.pairs[0].keyState = 0, ["not-committed", "not-committed", "not-committed"]),
        (|v| v.pairs[0].keyState = 1, ["not-committed", "not-committed", "not-committed"]),
        (|v| v.pairs[0].keyState = 3, ["not-committed", "not-committed", "not-committed"]),
        (|v| v.pairs[0].keyState = 4, ["allowed", "allowed", "allowed"]),
        (|v| v.pairs[0].keyState = 5, ["KeyState", "KeyState!", "block-unknown"]),
        (|v| v.pairs[0].keyState = 6, ["KeyState", "KeyState!", "block-unknown"]),
        (|v| v.pairs[0].keyState = 7, ["KeyState", "KeyState!", "block-unknown"]),
        (|v| v.signaturesInvalidBefore = START, ["allowed", "allowed", "allowed"]),
        (|v| v.signaturesInvalidBefore = START + 1, ["PermitInvalidated", "PermitInvalidated!", "block-unknown"]),
        (|v| v.contextLive = false, ["ContextNotLive", "ContextNotLive", "not-final"]),
        // The extra data names the context: another one may be current.
        (|v| v.currentContextId = B256::ZERO, ["allowed", "allowed", "allowed"]),
        // A wallet has signed: what a contract says does not matter.
        (|v| v.signature = 3, ["allowed", "allowed", "allowed"]),
        (|v| v.pairs.truncate(1), ["chain-unavailable", "chain-unavailable", "chain-unavailable"]),
        (|v| v.blockTimestamp = END + 1, ["Expired", "Expired!", "allowed"]),
    ];
    for (i, (change, expected)) in rows.into_iter().enumerate() {
        assert_eq!(row(&own, change), expected, "row {i}");
    }
}

#[test]
fn time_is_that_of_the_latest_block() {
    let at = |time| said(&question(|_| {}).judge(&view(|_| {}), &view(|v| v.blockTimestamp = time)));
    for (time, expected) in [
        (START - START_AHEAD - 1, "NotYetValid"),
        (START - START_AHEAD, "not-started"),
        (START - 1, "not-started"),
        (START, "allowed"),
        (END, "allowed"),
        (END + 1, "Expired"),
    ] {
        assert_eq!(at(time), expected, "{time}");
    }
}

#[test]
fn a_delegation_must_hold_at_both_blocks() {
    let delegated = question(|r| r.permit.delegator = Some(DELEGATOR));
    assert_eq!(delegated.owner(), DELEGATOR);
    let query = delegated.call().query;
    assert_eq!((query.user, query.signer), (DELEGATOR, delegated.request().permit.user));
    let none: Change = |v| (v.pairs[1].delegated, v.pairs[1].delegatedUntil) = (false, 0);
    assert_eq!(row(&delegated, none), ["NotDelegated", "NotDelegated", "not-final"]);
    let over: Change = |v| (v.pairs[1].delegated, v.pairs[1].delegatedUntil) = (false, NOW);
    assert_eq!(row(&delegated, over), ["DelegationExpired", "DelegationExpired", "not-final"]);
}

#[test]
fn who_is_no_wallet_is_asked_on_chain() {
    let account = question(|r| r.signature = vec![1; 70].into());
    assert!(!account.is_signed_by_wallet());
    let query = account.call().query;
    assert!(query.askSigner && query.permitDigest == account.permit_hash() && query.signature.len() == 70);
    let rows: [(Change, [&str; 3]); 8] = [
        (|v| v.signature = 1, ["chain-unavailable", "allowed", "chain-unavailable"]),
        (|v| v.signature = 0, ["chain-unavailable"; 3]),
        (|v| v.signature = 2, ["SignatureRejected", "SignatureRejected", "chain-unavailable"]),
        (|v| v.signature = 3, ["SignatureReverted", "SignatureReverted", "chain-unavailable"]),
        (|v| v.signature = 4, ["SignatureAnswer", "SignatureAnswer", "chain-unavailable"]),
        (|v| v.signature = 5, ["WrongSigner", "WrongSigner", "chain-unavailable"]),
        (|v| v.signature = 6, ["chain-unavailable"; 3]),
        (|v| v.signature = 7, ["chain-unavailable"; 3]),
    ];
    for (i, (change, expected)) in rows.into_iter().enumerate() {
        assert_eq!(row(&account, change), expected, "row {i}");
    }
    // The account was deployed, or has named its new owner, in a block that is not final enough.
    for before in [2, 3, 5] {
        let verdict = account.judge(&view(|v| v.signature = before), &view(|v| v.signature = 1));
        assert_eq!(said(&verdict), "not-final");
    }
    let malformed = question(|r| r.signature = vec![1; 65].into());
    let nobody = view(|v| v.signature = 5);
    assert_eq!(said(&malformed.judge(&nobody, &nobody)), "BadV");
    assert!(!question(|_| {}).call().query.askSigner);
    let other = question(|r| r.permit.user = Address::repeat_byte(0x55));
    assert!(other.call().query.askSigner);
    assert_eq!(said(&other.judge(&nobody, &nobody)), "WrongSigner");
}

#[test]
fn whom_the_extra_data_does_not_name_the_chain_names() {
    let open = question(|r| r.permit.extra_data = Bytes::new());
    let other: Change = |v| v.currentContextId = B256::ZERO;
    assert_eq!(row(&open, other), ["WrongContext", "WrongContext", "not-final"]);
    // A permit that is to start soon is no excuse for what is refused anyway.
    let early = |v: &mut UserView| v.blockTimestamp = START - 1;
    let mut foreign_and_early = view(other);
    early(&mut foreign_and_early);
    assert_eq!(said(&open.judge(&view(|_| {}), &foreign_and_early)), "WrongContext");
    let foreign = request(|r| r.permit.extra_data = [&[1][..], &[6; 32]].concat().into());
    assert_eq!(UserQuestion::new(foreign, CONTEXT, DOMAIN).unwrap_err().label(), "WrongContext");
}

#[test]
fn a_malformed_request_is_never_a_question() {
    let label = |change: fn(&mut UserRequest)| UserQuestion::new(request(change), CONTEXT, DOMAIN).unwrap_err().label();
    assert_eq!(label(|r| r.permit.days = 366), "Days");
    assert_eq!(label(|r| r.pairs.clear()), "EmptyHandles");
    assert_eq!(label(|r| r.signature = Bytes::new()), "SignatureLength");
}

#[test]
fn endpoints_agree_by_kind() {
    let own = question(|_| {});
    let judge = |change: Change| own.judge(&view(|_| {}), &view(change));
    let early = judge(|v| v.blockTimestamp = END + 5);
    assert!(early.same_kind(&judge(|v| v.blockTimestamp = END + 6)));
    assert!(!early.same_kind(&judge(|v| v.contextLive = false)));
    assert!(!early.same_kind(&judge(|_| {})));
    assert!(judge(|_| {}).same_kind(&judge(|v| v.blockNumber = 7)));
}
