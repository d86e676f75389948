//! What a party answers, and what it does not.

use bytes::Bytes;
use futures::future::{self, FutureExt};

use super::*;
use crate::dkg::Answerless;
use crate::dkg::exchange::{AskError, Exchange, Signer};
use crate::dkg::journal::Journal;
use crate::dkg::message::{Ask, Question, SignedFrame};
use crate::dkg::plan::Plan;
use crate::dkg::record::Record;
use crate::dkg::simulated::InsecureSigner;
use crate::dkg::statement;

/// Nobody answers, and time stands still.
struct Alone;

impl Exchange for Alone {
    async fn ask(&self, _: PartyId, _: Bytes) -> Result<Bytes, AskError> {
        future::pending().await
    }

    async fn sleep(&self, _: Duration) {
        future::pending().await
    }

    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        work()
    }
}

fn question(chunk: u32, attempt: u32, ask: Ask) -> Bytes {
    Question { chunk, attempt, ask }.encode()
}

fn last_chunk() -> u32 {
    Plan::new::<4>(&small_spec()).unwrap().chunks.len() as u32 - 1
}

/// Lets a party do what it can do without others.
fn go_on(life: &mut core::pin::Pin<&mut impl Future>) {
    for _ in 0..1000 {
        assert!(life.as_mut().now_or_never().is_none());
    }
}

/// What a party says at once, after a restart.
fn says(keygen: &Keygen, own: PartyId, asked: Bytes) -> Option<Result<Bytes, Answerless>> {
    let machine = keygen.restarted(own);
    let driven = machine.drive(&Alone).map(|_| ());
    let mut life = core::pin::pin!(driven.then(|()| machine.serve(&Alone)));
    go_on(&mut life);
    let mut answer = core::pin::pin!(machine.answer(party(3), asked));
    if let Some(answer) = answer.as_mut().now_or_never() {
        return Some(answer);
    }
    go_on(&mut life);
    answer.as_mut().now_or_never()
}

#[test]
fn after_a_restart_at_the_end_all_that_others_may_lack_is_there() {
    let (keygen, _, _) = run(4, 1, small_spec(), 20);
    let (own, last) = (party(1), last_chunk());
    let before = |ask| keygen.party(own).unwrap().answer(party(3), question(last, 0, ask)).now_or_never();
    for ask in [Ask::FrameA, Ask::FrameB, Ask::FrameC, Ask::Claim, Ask::Result] {
        let (before, after) = (before(ask).unwrap().unwrap(), says(&keygen, own, question(last, 0, ask)));
        assert_eq!(after, Some(Ok(before)), "{ask:?}");
    }
}

#[test]
fn frames_that_nobody_needs_are_not_made_again() {
    let (keygen, _, _) = run(4, 1, small_spec(), 21);
    for ask in [Ask::FrameA, Ask::FrameB, Ask::FrameC] {
        assert_eq!(says(&keygen, party(1), question(0, 0, ask)), Some(Err(Answerless::NotYet)), "{ask:?}");
    }
    assert!(matches!(says(&keygen, party(1), question(0, 0, Ask::Result)), Some(Ok(_))));
}

#[test]
fn a_frame_that_the_disk_has_spoiled_is_not_shown() {
    let (keygen, _, _) = run(4, 1, small_spec(), 22);
    let (own, scratch) = (party(1), small_spec().components.len());
    let bytes = keygen.journal(own).bodies(scratch);
    let asked = question(last_chunk(), 0, Ask::FrameC);
    let Some(Ok(frame)) = says(&keygen, own, asked.clone()) else { panic!("the frame is kept") };
    let at = bytes.windows(frame.len()).position(|window| *window == frame[..]).unwrap();
    let spoiled = Bytes::from(vec![bytes[at] ^ 1]);
    keygen.journal(own).write_bodies(scratch, at, spoiled).now_or_never().unwrap().unwrap();
    assert_eq!(says(&keygen, own, asked), Some(Err(Answerless::NotYet)));
}

#[test]
fn stream_keys_are_told_after_a_restart_if_and_only_if_the_attempt_was_dropped() {
    let (first, _, _) = run(4, 1, bits_spec(), 23);
    let keygen = Keygen::new(committee(4, 1), bits_spec(), 23);
    let journal = keygen.journal(party(1));
    // Start and seed.
    for record in first.journal(party(1)).all_records().into_iter().take(2) {
        journal.append(record, true).now_or_never().unwrap().unwrap();
    }
    journal.append(Record::Dropped { chunk: 0, attempt: 0 }.encode(), true).now_or_never().unwrap().unwrap();
    assert!(matches!(says(&keygen, party(1), question(0, 0, Ask::Keys)), Some(Ok(_))));
    for (chunk, attempt) in [(0, 1), (1, 0)] {
        assert_eq!(says(&keygen, party(1), question(chunk, attempt, Ask::Keys)), None);
    }
}

#[test]
fn two_frames_of_a_sender_are_kept_and_no_more() {
    let (first, _, _) = run(4, 1, bits_spec(), 24);
    let run = first.party(party(1)).unwrap();
    let at = run.0.try_of(*run.0.plan.get(0).unwrap(), 1).unwrap();
    for byte in 0..5 {
        let hash = [byte; 32];
        let signature = InsecureSigner(party(2)).sign(&statement::frame(&at.session, party(2), &hash));
        run.0.keep_frame(&at, party(2), SignedFrame { hash, signature, frame: Bytes::new() });
    }
    let state = run.0.state();
    let attempt = &state.attempts[&at.key()];
    assert_eq!((attempt.word.len(), attempt.others.len(), attempt.frames_of(party(2))), (1, 1, 2));
    assert!(state.proofs.contains_key(&party(2)));
}
