//! The node's own sources for the frames between peers: they need nothing of the node, and the node needs tfhe, which is
//! too much to build for a fuzz target.

#[allow(dead_code, unreachable_pub, reason = "the node uses all of it")]
#[path = "../../kms-core/node/src/peer/frame.rs"]
pub mod frame;

#[allow(dead_code, unreachable_pub, reason = "the node uses all of it")]
#[path = "../../kms-core/node/src/peer/inbox.rs"]
pub mod inbox;

use alloy_primitives::Address;
use k256::ecdsa::SigningKey;
use kms_proto::peer::{Share, Shares};

pub use frame::{Message, SessionId};

/// A frame that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// The frame of a sender.
pub fn sign(
    key: &SigningKey,
    committee: &[u8; 32],
    sender: u16,
    session: &SessionId,
    round: u8,
    payload: Vec<u8>,
) -> Share {
    frame::sign(key, committee, sender, session, round, payload.into())
}

/// What a frame claims to be, before its signature is checked.
///
/// # Errors
/// Fields of wrong lengths, or an impossible round.
pub fn claim(share: Share, sender: u16) -> Result<Message, Refused> {
    frame::Unchecked::read(share, sender).map(|read| read.claim().clone()).map_err(|_| Refused)
}

/// The message of a frame, its signature checked.
///
/// # Errors
/// It is not `signer`'s.
pub fn verify(share: Share, sender: u16, committee: &[u8; 32], signer: Address) -> Result<Message, Refused> {
    let read = frame::Unchecked::read(share, sender).map_err(|_| Refused)?;
    read.check(committee, signer).map_err(|_| Refused)
}

/// The messages of a frame that holds several, its signature checked.
///
/// # Errors
/// Fields of wrong lengths, an impossible round, or not `signer`'s.
pub fn verify_all(shares: Shares, sender: u16, committee: &[u8; 32], signer: Address) -> Result<Vec<Message>, Refused> {
    let signature = shares.signature.clone().try_into().map_err(|_| Refused)?;
    let (list, root) = frame::Unchecked::read_all(shares, sender, committee).map_err(|_| Refused)?;
    frame::check(root, &signature, signer).map_err(|_| Refused)?;
    Ok(list.into_iter().map(frame::Unchecked::checked).collect())
}

/// The frame of a sender whose messages leave together.
pub fn sign_all(key: &SigningKey, committee: &[u8; 32], sender: u16, messages: &[Message]) -> Shares {
    let outgoing =
        messages.iter().map(|m| frame::Outgoing { session: m.session, round: m.round, payload: m.payload.clone() });
    frame::sign_all(key, committee, sender, outgoing)
}

/// The inbox of a party, as its links use it.
#[derive(Debug)]
pub struct Inbox(inbox::Inbox);

/// What the inbox did with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Handed to an open session; with or without being a second, different one.
    Handed,
    /// Kept for a session to come.
    Kept,
    /// Not taken.
    Dropped,
}

impl Inbox {
    /// An empty one.
    #[must_use]
    pub fn new(limits: inbox::InboxLimits) -> Self {
        Self(inbox::Inbox::new(limits))
    }

    /// Decides before the signature is checked; `None` if it has to be checked.
    pub fn screen(&mut self, claim: &Message, now: std::time::Instant) -> Option<Fate> {
        self.0.screen(claim, now).map(fate)
    }

    /// Takes a checked message.
    pub fn deliver(&mut self, message: Message, now: std::time::Instant) -> Fate {
        fate(self.0.deliver(message, now))
    }

    /// Opens a session.
    pub fn open(
        &mut self,
        id: SessionId,
        rounds: u8,
        now: std::time::Instant,
    ) -> Option<Vec<tokio::sync::mpsc::UnboundedReceiver<Message>>> {
        self.0.open(id, rounds, now)
    }

    /// Ends a session.
    pub fn close(&mut self, id: &SessionId) {
        self.0.close(id);
    }

    /// Drops what is too old: sender and session of each.
    pub fn expire(&mut self, now: std::time::Instant) -> Vec<(u16, SessionId)> {
        self.0.expire(now)
    }
}

fn fate(delivery: inbox::Delivery) -> Fate {
    use inbox::Delivery;
    match delivery {
        Delivery::Delivered | Delivery::Conflict => Fate::Handed,
        Delivery::Kept => Fate::Kept,
        Delivery::Ignored | Delivery::TooMany | Delivery::TooOften => Fate::Dropped,
    }
}
