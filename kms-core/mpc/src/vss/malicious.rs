//! Lies in a sharing. See [`crate::lockstep::malicious`] for how a party is started with one.

use bytes::BytesMut;
use kms_algebra::{PartyId, PartySet};

use super::{dealing, wire};
use crate::broadcast::malicious::flipped;
use crate::lockstep::malicious::Tamper;
use crate::{Committee, broadcast};

/// How a party misbehaves in one sharing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SharingLie {
    /// Deals rows to these parties that are not on its polynomials.
    WrongRows {
        /// Who gets them.
        to: PartySet,
    },
    /// Deals nothing to these parties.
    NoRows {
        /// Who gets nothing.
        to: PartySet,
    },
    /// Deals bytes that are no row to these parties.
    GarbageRows {
        /// Who gets them.
        to: PartySet,
    },
    /// Publishes a table that is wrong at the pairs of these two parties only.
    WrongPair {
        /// The pair.
        pair: (PartyId, PartyId),
    },
    /// Deals wrong rows to these parties and, when it has to publish them, wrong rows again.
    WrongReveal {
        /// Who gets them.
        to: PartySet,
    },
    /// Deals wrong rows to these parties and publishes none.
    NoReveal {
        /// Who gets them.
        to: PartySet,
    },
    /// Claims that the rows of these dealers were other ones.
    Deny {
        /// The dealers.
        dealers: PartySet,
    },
    /// Claims that no rows came from these dealers.
    DenyReceipt {
        /// The dealers.
        dealers: PartySet,
    },
    /// Broadcasts bytes that are no table.
    GarbageTable,
}

/// The lie, in the sharing whose first channel is this.
#[must_use]
pub fn tamper(committee: &Committee, first: u8, lie: SharingLie) -> Tamper {
    let n = committee.n();
    let table = first + n as u8;
    let reveal = table + broadcast::channels(committee);
    let digests = wire::HEADER_BYTES + 4;
    Box::new(move |channel, to, message| {
        let (row, table, reveal) = ((first..table).contains(&channel), channel == table, channel == reveal);
        match lie {
            SharingLie::WrongRows { to: victims }
            | SharingLie::WrongReveal { to: victims }
            | SharingLie::NoReveal { to: victims }
                if row && victims.contains(to) =>
            {
                vec![flipped(&message, wire::HEADER_BYTES)]
            }
            SharingLie::NoRows { to: victims } if row && victims.contains(to) => Vec::new(),
            SharingLie::GarbageRows { to: victims } if row && victims.contains(to) => {
                vec![message.iter().map(|b| b.wrapping_mul(167) ^ 0xA5).collect()]
            }
            SharingLie::WrongPair { pair: (i, j) } if table => {
                vec![flipped(&message, digests + 32 * n + 1 + 32 * dealing::pair(i, j))]
            }
            SharingLie::WrongReveal { .. } if reveal => {
                vec![flipped(&message, wire::VIEW_BYTES + wire::HEADER_BYTES)]
            }
            SharingLie::NoReveal { .. } if reveal => Vec::new(),
            SharingLie::Deny { dealers } if table => {
                vec![dealers.iter().fold(message, |m, dealer| flipped(&m, digests + 32 * dealer.slot()))]
            }
            SharingLie::DenyReceipt { dealers } if table => {
                let mut bytes = BytesMut::from(&message[..]);
                for dealer in dealers.iter() {
                    bytes[digests - 1 - dealer.slot() / 8] &= !(1 << (dealer.slot() % 8));
                    bytes[digests + 32 * dealer.slot()..][..32].fill(0);
                }
                vec![bytes.freeze()]
            }
            SharingLie::GarbageTable if table => vec![message.iter().map(|b| b.wrapping_mul(167) ^ 0xA5).collect()],
            _ => vec![message],
        }
    })
}
