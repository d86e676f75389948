//! Lies in a broadcast. See [`crate::lockstep::malicious`] for how a party is started with one.

use bytes::{Bytes, BytesMut};
use kms_algebra::PartySet;

use super::{Channels, wire};
use crate::Committee;
use crate::lockstep::malicious::Tamper;

/// How a party misbehaves in one broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BroadcastLie {
    /// Sends another message to these parties.
    Equivocate {
        /// Who gets the other message.
        to: PartySet,
    },
    /// Sends its message to these parties only.
    SendTo {
        /// Who gets it.
        to: PartySet,
    },
    /// Echoes hashes that nobody has sent.
    FalseEcho,
    /// Votes for hashes that nobody has echoed.
    FalseVote,
    /// Tells these parties the opposite of every bit.
    TwoFacedBits {
        /// Who hears the opposite.
        to: PartySet,
    },
    /// Echoes messages, but answers no questions about them.
    NoAnswer,
    /// Answers questions with other bytes.
    FalseAnswer,
    /// Sends bytes that are no message in the second round and after.
    Garbage,
    /// Sends messages with 64 KiB more than they should have.
    Oversized,
}

/// The lie, in the broadcast whose first channel is this.
#[must_use]
pub fn tamper(committee: &Committee, first: u8, lie: BroadcastLie) -> Tamper {
    let channels = Channels { first, t: committee.t() as u8 };
    let end = first + super::channels(committee);
    let (answers, bits) = (first + 3 + committee.t() as u8, channels.bits(1));
    Box::new(move |channel, to, message| {
        if !(first..end).contains(&channel) {
            return vec![message];
        }
        let of_sender = channel == channels.send();
        match lie {
            BroadcastLie::Equivocate { to: others } if of_sender && others.contains(to) => vec![flipped(&message, 0)],
            BroadcastLie::SendTo { to: others } if of_sender && !others.contains(to) => Vec::new(),
            BroadcastLie::FalseEcho if channel == channels.echo() => {
                vec![false_hashes(committee_n(&message), &message)]
            }
            BroadcastLie::FalseVote if channel == channels.vote() => {
                vec![false_hashes(committee_n(&message), &message)]
            }
            BroadcastLie::TwoFacedBits { to: others } if (bits..answers).contains(&channel) && others.contains(to) => {
                vec![message.iter().enumerate().map(|(i, b)| if i < wire::HEADER_BYTES { *b } else { !b }).collect()]
            }
            BroadcastLie::NoAnswer if channel >= answers => Vec::new(),
            BroadcastLie::FalseAnswer if channel >= answers => vec![flipped(&message, 0)],
            BroadcastLie::Garbage if !of_sender => vec![message.iter().map(|b| b.wrapping_mul(167) ^ 0xA5).collect()],
            BroadcastLie::Oversized => {
                let mut longer = BytesMut::from(message);
                longer.resize(longer.len() + (1 << 16), 0);
                vec![longer.freeze()]
            }
            _ => vec![message],
        }
    })
}

/// The message with a bit of a byte changed; a byte more, if it has none.
pub(crate) fn flipped(message: &Bytes, at: usize) -> Bytes {
    let mut bytes = BytesMut::from(&message[..]);
    match bytes.get_mut(at) {
        Some(byte) => *byte ^= 1,
        None => bytes.extend_from_slice(&[1]),
    }
    bytes.freeze()
}

fn committee_n(message: &Bytes) -> usize {
    message.get(6).map_or(0, |n| usize::from(*n))
}

/// Claims a hash of its own for every sender.
fn false_hashes(n: usize, message: &Bytes) -> Bytes {
    let mut bytes = BytesMut::from(&message[..]);
    let start = wire::HEADER_BYTES + 4;
    bytes[wire::HEADER_BYTES..start].copy_from_slice(&((1u64 << n) as u32).wrapping_sub(1).to_be_bytes());
    bytes[start..start + 32 * n].fill(0xAB);
    bytes.freeze()
}
