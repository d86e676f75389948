//! What peers send, in any order and signed as it should be or not, against what a party keeps of it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use kms_proto::peer::Share;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::committee::{KEYS, SIGNERS};
use crate::peer::inbox::InboxLimits;
use crate::peer::{self, Fate, Inbox, Message, SessionId};

const COMMITTEE: [u8; 32] = [7; 32];
const LIMITS: InboxLimits =
    InboxLimits { bytes: 2048, messages: 6, per_second: 4, burst: 12, age: Duration::from_secs(3) };

/// One thing that happens at a party.
#[derive(Arbitrary, Debug)]
pub enum Event {
    /// The party starts a session.
    Open { session: u8, rounds: u8 },
    /// It ends one.
    Close { session: u8 },
    /// A frame comes.
    Frame { from: u8, session: u8, round: u8, payload: Vec<u8>, spoil: Option<Spoil> },
    /// Time passes, and old messages are dropped.
    Wait { tenths: u8 },
}

/// What is wrong with a frame.
#[derive(Arbitrary, Debug)]
pub enum Spoil {
    /// It came on the link of another party.
    Link(u8),
    /// One field has other bytes.
    Session(Vec<u8>),
    /// One field has other bytes.
    Payload(Vec<u8>),
    /// Another round.
    Round(u32),
    /// One bit of the signature.
    Bit { at: u8, bit: u8 },
    /// Another signature.
    Signature(Vec<u8>),
}

#[derive(Default)]
struct Model {
    /// Messages kept: sender, size, arrival.
    kept: HashMap<SessionId, Vec<(u16, usize, Instant)>>,
    open: HashMap<SessionId, Vec<UnboundedReceiver<Message>>>,
    /// What honest parties have signed: sender, session, round, payload.
    signed: Vec<(u16, SessionId, u8, Vec<u8>)>,
}

/// Plays the events; only signed messages are handed on, each at most once with one that conflicts, and what is kept stays
/// in its bounds.
pub fn check(events: &[Event]) {
    let mut now = Instant::now();
    let mut inbox = Inbox::new(LIMITS);
    let mut model = Model::default();
    for event in events.iter().take(40) {
        match event {
            Event::Open { session, rounds } => {
                let id = id(*session);
                let queues = inbox.open(id, 1 + rounds % 3, now);
                assert_eq!(queues.is_none(), model.open.contains_key(&id));
                if let Some(queues) = queues {
                    model.kept.remove(&id);
                    model.open.insert(id, queues);
                }
            }
            Event::Close { session } => {
                inbox.close(&id(*session));
                if let Some(queues) = model.open.remove(&id(*session)) {
                    judge(&id(*session), queues, &model.signed);
                }
            }
            Event::Frame { from, session, round, payload, spoil } => {
                let from = 1 + u16::from(from % 3);
                frame(&mut inbox, &mut model, now, from, &id(*session), 1 + round % 4, payload, spoil.as_ref());
            }
            Event::Wait { tenths } => {
                now += Duration::from_millis(100 * u64::from(*tenths));
                for (from, id) in inbox.expire(now) {
                    let kept = model.kept.get_mut(&id).expect("only what is kept is dropped");
                    let at = kept.iter().position(|(f, ..)| *f == from).expect("only what is kept is dropped");
                    assert!(now.duration_since(kept.remove(at).2) >= LIMITS.age, "dropped too early");
                }
                let old = model.kept.values().flatten().any(|(.., at)| now.duration_since(*at) >= LIMITS.age);
                assert!(!old, "kept for too long");
            }
        }
        for peer in 1..=3 {
            let of_peer = || model.kept.values().flatten().filter(|(from, ..)| *from == peer);
            assert!(of_peer().count() <= LIMITS.messages);
            assert!(of_peer().map(|(_, size, _)| size).sum::<usize>() <= LIMITS.bytes);
        }
    }
    for (id, queues) in model.open {
        judge(&id, queues, &model.signed);
    }
}

fn id(session: u8) -> SessionId {
    [session % 5; 32]
}

#[allow(clippy::too_many_arguments, reason = "the parts of one event")]
fn frame(
    inbox: &mut Inbox,
    model: &mut Model,
    now: Instant,
    from: u16,
    session: &SessionId,
    round: u8,
    payload: &[u8],
    spoil: Option<&Spoil>,
) {
    let key = usize::from(from) - 1;
    let honest = peer::sign(&KEYS[key], &COMMITTEE, from, session, round, payload.to_vec());
    let (share, link) = spoil.map_or_else(|| (honest.clone(), from), |spoil| spoiled(spoil, &honest, from));
    let intact = share == honest && link == from;
    let Ok(claim) = peer::claim(share.clone(), link) else {
        assert!(!intact, "an honest frame is read");
        return;
    };
    let fate = inbox.screen(&claim, now).unwrap_or_else(|| {
        match peer::verify(share, link, &COMMITTEE, SIGNERS[usize::from(link) - 1]) {
            Ok(message) => {
                assert!(intact, "a spoiled frame counts as signed");
                model.signed.push((from, *session, round, payload.to_vec()));
                inbox.deliver(message, now)
            }
            Err(_) => {
                assert!(!intact, "an honest frame is refused");
                Fate::Dropped
            }
        }
    });
    assert!(fate != Fate::Handed || model.open.contains_key(session));
    if fate == Fate::Kept {
        model.kept.entry(*session).or_default().push((from, payload.len(), now));
    }
}

fn spoiled(spoil: &Spoil, honest: &Share, from: u16) -> (Share, u16) {
    let mut share = honest.clone();
    match spoil {
        Spoil::Link(link) => return (share, 1 + u16::from(link % 3)),
        Spoil::Session(bytes) => share.session = bytes.clone(),
        Spoil::Payload(bytes) => share.payload = bytes.clone().into(),
        Spoil::Round(round) => share.round = *round,
        Spoil::Bit { at, bit } => share.signature[usize::from(*at) % 65] ^= 1 << (bit % 8),
        Spoil::Signature(bytes) => share.signature = bytes.clone(),
    }
    (share, from)
}

/// What a session got: signed by its sender for this session and round, at most two of one sender and round.
fn judge(id: &SessionId, queues: Vec<UnboundedReceiver<Message>>, signed: &[(u16, SessionId, u8, Vec<u8>)]) {
    for (round, mut queue) in (1u8..).zip(queues) {
        let mut count = HashMap::new();
        while let Ok(message) = queue.try_recv() {
            assert_eq!((message.session, message.round), (*id, round));
            let statement = (message.from, message.session, message.round, message.payload.to_vec());
            assert!(signed.contains(&statement), "nobody signed it");
            let count = count.entry(message.from).or_insert(0);
            *count += 1;
            assert!(*count <= 2, "three messages of one party in one round");
        }
    }
}
