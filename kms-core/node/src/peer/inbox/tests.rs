use super::*;

fn message(from: u16, session: u8, payload: &[u8]) -> Message {
    let mut payload_hash = [0; 32];
    payload_hash[..payload.len().min(32)].copy_from_slice(&payload[..payload.len().min(32)]);
    let proof = FrameProof { round: 1, payload_hash, path: Vec::new(), signature: [0; 65] };
    Message { from, session: [session; 32], round: 1, payload: payload.to_vec().into(), proof }
}

fn limits() -> InboxLimits {
    InboxLimits { bytes: 1000, messages: 3, per_second: 2, burst: 4, age: Duration::from_secs(10) }
}

#[test]
fn early_messages_wait_for_their_session() {
    let now = Instant::now();
    let mut inbox = Inbox::new(limits());
    assert_eq!(inbox.deliver(message(2, 1, b"a"), now), Delivery::Kept);
    assert_eq!(inbox.deliver(message(2, 1, b"a"), now), Delivery::Ignored);
    let mut from = inbox.open([1; 32], 1, now).unwrap().remove(0);
    assert_eq!(from.try_recv().unwrap().payload, b"a"[..]);
    assert_eq!(held(&inbox), 0);
    assert_eq!(inbox.deliver(message(3, 1, b"b"), now), Delivery::Delivered);
    assert_eq!(from.try_recv().unwrap().from, 3);
    assert!(inbox.open([1; 32], 1, now).is_none(), "opened twice");
}

#[test]
fn a_second_message_is_a_repetition_or_a_proof() {
    let now = Instant::now();
    let mut inbox = Inbox::new(limits());
    let mut from = inbox.open([1; 32], 1, now).unwrap().remove(0);
    assert_eq!(inbox.deliver(message(2, 1, b"a"), now), Delivery::Delivered);
    assert_eq!(inbox.deliver(message(2, 1, b"a"), now), Delivery::Ignored);
    assert_eq!(inbox.frames(&[1; 32], 2).len(), 1);
    assert_eq!(inbox.deliver(message(2, 1, b"b"), now), Delivery::Conflict);
    assert_eq!(inbox.frames(&[1; 32], 2).len(), 2);
    assert_eq!(inbox.deliver(message(2, 1, b"c"), now), Delivery::Ignored, "two prove enough");
    assert!(from.try_recv().is_ok() && from.try_recv().is_ok() && from.try_recv().is_err());
    for round in [0, 2] {
        let mut far = message(3, 1, b"c");
        far.round = round;
        assert_eq!(inbox.deliver(far, now), Delivery::Ignored, "a round that the session does not have");
    }
}

#[test]
fn stragglers_of_ended_sessions_cost_nothing() {
    let now = Instant::now();
    let mut inbox = Inbox::new(limits());
    let from = inbox.open([1; 32], 1, now).unwrap();
    drop(from);
    inbox.close(&[1; 32]);
    assert_eq!(inbox.deliver(message(2, 1, b"a"), now), Delivery::Ignored);
    assert_eq!(held(&inbox), 0);
    assert!(inbox.open([1; 32], 1, now).is_some(), "a session can be opened again");
}

/// Bytes that count against anybody.
fn held(inbox: &Inbox) -> usize {
    inbox.usage.values().map(|usage| usage.bytes).sum()
}

#[test]
fn a_peer_has_so_many_bytes_and_messages() {
    let now = Instant::now();
    let mut inbox = Inbox::new(limits());
    for i in 0..3 {
        assert_eq!(inbox.deliver(message(2, i, b"x"), now), Delivery::Kept);
    }
    assert_eq!(inbox.deliver(message(2, 9, b"x"), now), Delivery::TooMany);
    assert_eq!(inbox.deliver(message(3, 9, &[1; 500]), now), Delivery::Kept);
    assert_eq!(inbox.deliver(message(3, 8, &[1; 500]), now), Delivery::TooMany);
    assert_eq!(inbox.deliver(message(5, 9, &[1; 900]), now), Delivery::TooMany);
}

#[test]
fn whatever_four_of_thirteen_send_the_honest_ones_have_their_places() {
    let now = Instant::now();
    let limits = InboxLimits::default();
    let mut inbox = Inbox::new(limits);
    let session = |number: usize| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        id
    };
    let large = vec![0; kms_proto::bounds::MAX_PAYLOAD];
    for from in 2..=5 {
        for number in 0.. {
            let flood = Message { session: session(number), ..message(from, 0, &large) };
            let delivery = inbox.deliver(flood, now);
            if delivery != Delivery::Kept {
                assert_eq!(delivery, Delivery::TooMany);
                break;
            }
        }
    }
    // The largest messages of dozens of jobs, of each of the others.
    for from in 6..=13 {
        for number in 0..24 {
            let honest = Message { session: session(number), ..message(from, 0, &large[..64 << 10]) };
            assert_eq!(inbox.screen(&honest, now), None);
            assert_eq!(inbox.deliver(honest, now), Delivery::Kept, "message {number} of party {from}");
        }
    }
    assert!(held(&inbox) <= 12 * limits.bytes);
}

#[test]
fn a_peer_has_so_many_checks_for_sessions_that_are_not_open() {
    let now = Instant::now();
    let mut inbox = Inbox::new(limits());
    let _from = inbox.open([1; 32], 1, now).unwrap();
    for i in 10..14 {
        assert_eq!(inbox.screen(&message(2, i, b"x"), now), None);
    }
    assert_eq!(inbox.screen(&message(2, 14, b"x"), now), Some(Delivery::TooOften));
    assert_eq!(inbox.screen(&message(3, 14, b"x"), now), None, "another peer's is its own");
    assert_eq!(inbox.screen(&message(2, 1, b"x"), now), None, "a session that is open");
    let later = now + Duration::from_secs(1);
    assert_eq!(inbox.screen(&message(2, 14, b"x"), later), None);
    assert_eq!(inbox.screen(&message(2, 15, b"x"), later), None);
    assert_eq!(inbox.screen(&message(2, 16, b"x"), later), Some(Delivery::TooOften), "two per second");
}

#[test]
fn what_is_of_no_use_is_not_checked() {
    let now = Instant::now();
    let mut inbox = Inbox::new(limits());
    let _from = inbox.open([1; 32], 1, now).unwrap();
    drop(inbox.open([2; 32], 1, now).unwrap());
    inbox.close(&[2; 32]);
    assert_eq!(inbox.screen(&message(2, 2, b"a"), now), Some(Delivery::Ignored), "a session that has ended");
    let far = Message { round: 2, ..message(2, 1, b"a") };
    assert_eq!(inbox.screen(&far, now), Some(Delivery::Ignored), "a round that the session does not have");
    assert_eq!(inbox.screen(&message(2, 1, b"a"), now), None);
    inbox.deliver(message(2, 1, b"a"), now);
    let mut again = message(2, 1, b"a");
    again.proof.signature[0] ^= 1;
    assert_eq!(inbox.screen(&again, now), Some(Delivery::Ignored), "a repetition, differently signed");
    assert_eq!(inbox.screen(&message(2, 1, b"b"), now), None, "it may be evidence");
    inbox.deliver(message(2, 1, b"b"), now);
    assert_eq!(inbox.screen(&message(2, 1, b"c"), now), Some(Delivery::Ignored), "two prove enough");
    inbox.deliver(message(2, 3, b"a"), now);
    again.session = [3; 32];
    assert_eq!(inbox.screen(&again, now), Some(Delivery::Ignored), "an early repetition");
    inbox.deliver(message(2, 4, b"a"), now);
    inbox.deliver(message(2, 5, b"a"), now);
    assert_eq!(inbox.screen(&message(2, 6, b"a"), now), Some(Delivery::TooMany), "no place is left");
}

#[test]
fn old_messages_are_dropped_and_named() {
    let now = Instant::now();
    let mut inbox = Inbox::new(limits());
    inbox.deliver(message(2, 1, b"x"), now);
    inbox.deliver(message(3, 1, b"y"), now + Duration::from_secs(5));
    assert_eq!(inbox.expire(now + Duration::from_secs(9)), []);
    assert_eq!(inbox.expire(now + Duration::from_secs(10)), [(2, [1; 32])]);
    assert_eq!(inbox.expire(now + Duration::from_secs(15)), [(3, [1; 32])]);
    assert_eq!((held(&inbox), inbox.early.len(), inbox.order.len()), (0, 0, 0));
}

#[test]
fn missing_names_the_sessions_to_ask_for() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let mut inbox = Inbox::new(limits());
    let _from = inbox.open([1; 32], 1, now).unwrap();
    assert!(inbox.missing(2, Duration::from_secs(1), now).is_empty(), "too young");
    inbox.deliver(message(3, 1, b"a"), now);
    assert_eq!(inbox.missing(2, Duration::from_secs(1), later), [[1; 32]]);
    assert!(inbox.missing(3, Duration::from_secs(1), later).is_empty());
}
