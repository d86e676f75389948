use alloy_primitives::{Address, FixedBytes};
use kms_encoding::FheType;

use super::*;

const DEADLINE: u64 = 1000;

fn handle() -> Handle {
    Handle::new([7; 21], 0xff, 1, FheType::Bool)
}

fn request() -> Request {
    Request {
        requester: Address::repeat_byte(1),
        nonce: 0,
        handles: vec![handle().raw()],
        selector: FixedBytes::ZERO,
        gasLimit: 0,
        finality: 0,
        deadline: DEADLINE,
        contextId: B256::repeat_byte(3),
    }
}

fn good_handle() -> HandleView {
    HandleView {
        persist_allowed: true,
        public: false,
        key_id: B256::repeat_byte(4),
        digest: B256::repeat_byte(5),
        key_state: 2,
    }
}

fn open() -> RequestView {
    RequestView {
        state: 1,
        effective_deadline: DEADLINE,
        timestamp: 500,
        context_live: true,
        handles: vec![good_handle()],
    }
}

fn at_latest(view: &RequestView) -> Result<(), Stop> {
    open_at_latest(&request(), &[handle()], view)
}

fn at_final(view: &RequestView) -> Result<Vec<HandleGrant>, Stop> {
    grants_at_final(&request(), &[handle()], view)
}

#[track_caller]
fn waits(outcome: Result<impl std::fmt::Debug, Stop>, expected: NotYetReason) {
    match outcome.unwrap_err() {
        Stop::Wait(reason, _) => assert_eq!(reason, expected),
        Stop::Refuse(refusal) => panic!("refused: {refusal}"),
    }
}

#[track_caller]
fn refuses(outcome: Result<impl std::fmt::Debug, Stop>, expected: &str) {
    match outcome.unwrap_err() {
        Stop::Refuse(refusal) => assert_eq!(refusal.name(), expected),
        Stop::Wait(_, detail) => panic!("waits: {detail}"),
    }
}

#[test]
fn an_open_permitted_committed_request_is_granted() {
    at_latest(&open()).unwrap();
    let grants = at_final(&open()).unwrap();
    assert_eq!(grants, [HandleGrant { handle: handle(), key_id: B256::repeat_byte(4), digest: B256::repeat_byte(5) }]);
}

#[test]
fn nothing_starts_at_or_after_the_deadline() {
    at_latest(&RequestView { timestamp: DEADLINE - 1, ..open() }).unwrap();
    refuses(at_latest(&RequestView { timestamp: DEADLINE, ..open() }), "deadline_passed");
    refuses(at_latest(&RequestView { timestamp: DEADLINE, state: 0, ..open() }), "deadline_passed");
    refuses(at_latest(&RequestView { effective_deadline: 400, ..open() }), "cancelled");
}

#[test]
fn a_request_that_has_ended_is_refused() {
    for state in [2, 3, 4, 5, 99] {
        refuses(at_latest(&RequestView { state, ..open() }), "not_open");
    }
}

#[test]
fn an_unknown_request_waits_whatever_its_requester_may_do_so_far() {
    let mut unknown = RequestView { state: 0, effective_deadline: 0, ..open() };
    waits(at_latest(&unknown), NotYetReason::Behind);
    unknown.handles[0].persist_allowed = false;
    waits(at_latest(&unknown), NotYetReason::Behind);
    unknown.context_live = false;
    waits(at_latest(&unknown), NotYetReason::Behind);
    unknown.timestamp = DEADLINE;
    refuses(at_latest(&unknown), "deadline_passed");
}

#[test]
fn what_a_later_block_may_allow_does_not_last() {
    let (requested, own) = (B256::ZERO, B256::repeat_byte(3));
    let fleeting = [
        Refusal::NotPermitted { account: Address::ZERO, handle: handle().raw() },
        Refusal::WrongContext { requested, own },
        Refusal::UnknownChain(1),
    ];
    assert!(fleeting.iter().all(|refusal| !refusal.lasts()));
    let lasting = [
        Refusal::Cancelled,
        Refusal::NotOpen("fulfilled"),
        Refusal::DeadlinePassed { deadline: 1, now: 1 },
        Refusal::ContextDestroyed(own),
        Refusal::KeyState { handle: handle().raw(), key_id: own, state: "destroyed" },
    ];
    assert!(lasting.iter().all(Refusal::lasts));
}

#[test]
fn a_request_has_to_be_in_a_final_block() {
    waits(at_final(&RequestView { state: 0, ..open() }), NotYetReason::NotFinal);
    waits(at_final(&RequestView { state: 2, ..open() }), NotYetReason::BlockUnknown);
}

#[test]
fn a_destroyed_context_answers_nothing() {
    refuses(at_latest(&RequestView { context_live: false, ..open() }), "context_destroyed");
    refuses(at_final(&RequestView { context_live: false, ..open() }), "context_destroyed");
}

#[test]
fn rights_are_read_again_at_the_final_block() {
    let mut view = open();
    view.handles[0].persist_allowed = false;
    refuses(at_final(&view), "not_permitted");
    view.handles[0].public = true;
    at_final(&view).unwrap();
}

#[test]
fn a_missing_commitment_waits() {
    let mut view = open();
    view.handles[0].key_id = B256::ZERO;
    view.handles[0].key_state = 0;
    at_latest(&view).unwrap();
    waits(at_final(&view), NotYetReason::NotCommitted);
}

#[test]
fn key_states_count_at_both_blocks() {
    for (state, expected) in [
        (0, Err(None)),
        (1, Err(None)),
        (2, Ok(())),
        (3, Err(None)),
        (4, Ok(())),
        (5, Err(Some("key_state"))),
        (6, Err(Some("key_state"))),
        (7, Err(Some("key_state"))),
    ] {
        let mut view = open();
        view.handles[0].key_state = state;
        for outcome in [at_latest(&view), at_final(&view).map(drop)] {
            match expected {
                Ok(()) => outcome.unwrap(),
                Err(None) => waits(outcome, NotYetReason::NotCommitted),
                Err(Some(name)) => refuses(outcome, name),
            }
        }
    }
}

#[test]
fn a_lens_that_answers_for_other_handles_is_not_believed() {
    let view = RequestView { handles: vec![good_handle(); 2], ..open() };
    waits(at_latest(&view), NotYetReason::ChainUnavailable);
    waits(at_final(&view), NotYetReason::ChainUnavailable);
}

#[test]
fn public_handles_need_the_mark_at_a_final_block_and_the_current_context() {
    let own = B256::repeat_byte(3);
    let mut view = PublicView { current_context: own, handles: vec![good_handle()] };
    refuses(public_at_latest(own, &[handle()], &view), "not_permitted");
    waits(public_grants_at_final(&[handle()], &view), NotYetReason::NotFinal);
    view.handles[0].public = true;
    public_at_latest(own, &[handle()], &view).unwrap();
    assert_eq!(public_grants_at_final(&[handle()], &view).unwrap().len(), 1);
    refuses(public_at_latest(B256::ZERO, &[handle()], &view), "wrong_context");
    view.handles[0].key_id = B256::ZERO;
    waits(public_grants_at_final(&[handle()], &view), NotYetReason::NotCommitted);
}

#[test]
fn endpoints_may_differ_in_times_but_not_in_kind() {
    let refusal = |now| Stop::from(Refusal::DeadlinePassed { deadline: 1, now });
    assert!(refusal(5).same_kind(&refusal(6)));
    assert!(!refusal(5).same_kind(&Refusal::Cancelled.into()));
    assert!(!refusal(5).same_kind(&Stop::Wait(NotYetReason::Behind, String::new())));
}

#[test]
fn a_refusal_of_the_latest_block_is_for_good_when_the_final_one_says_the_same() {
    let cancelled = || Stop::Refuse(Refusal::Cancelled);
    assert_eq!(cancelled().confirmed_by(Err(cancelled())), cancelled());
    let unconfirmed = Stop::Refuse(Refusal::Unconfirmed(Box::new(Refusal::Cancelled)));
    let deadline = Stop::Refuse(Refusal::DeadlinePassed { deadline: 1, now: 2 });
    let unknown = Stop::Wait(NotYetReason::Behind, String::new());
    for at_final in [Ok(()), Err(deadline), Err(unknown.clone())] {
        assert_eq!(cancelled().confirmed_by(at_final), unconfirmed);
    }
    let Stop::Refuse(refusal) = unconfirmed else { unreachable!() };
    assert!(!refusal.lasts() && Refusal::Cancelled.lasts());
    assert_eq!((refusal.name(), refusal.to_string()), ("cancelled", Refusal::Cancelled.to_string()));
    assert_eq!(unknown.clone().confirmed_by(Ok(())), unknown);
}
