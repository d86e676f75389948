//! Parties that misbehave in the set-up: a party that runs [`super::run`] on [`SetupLie::network`] does so.
//!
//! ```
//! use kms_mpc::prss_setup::malicious::SetupLie;
//! use kms_mpc::sim::{Profile, Sim};
//! use kms_mpc::vss::malicious::SharingLie;
//! use kms_mpc::{Committee, PartyId, PartySet};
//!
//! let sim = Sim::<()>::new(4, 1, Profile::default());
//! let victims = [PartyId::new(3).unwrap()].into_iter().collect::<PartySet>();
//! let lie = SetupLie::Sharing(SharingLie::WrongRows { to: victims });
//! let net = lie.network(sim.net(PartyId::new(2).unwrap()), &Committee::new(4, 1).unwrap());
//! ```

use bytes::BytesMut;
use kms_algebra::PartySet;

use super::{SHARING, opening_channel, ready_channel};
use crate::broadcast::malicious::{BroadcastLie, flipped};
use crate::lockstep::malicious::{Tamper, Tampering};
use crate::vss::malicious::SharingLie;
use crate::vss::wire;
use crate::{Committee, PartyId, broadcast, vss};

/// One of the broadcasts of a set-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// That of the tables.
    Table,
    /// That of the revealed rows.
    Reveal,
    /// The last one.
    Ready,
}

/// How a party misbehaves in a set-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetupLie {
    /// Sends nothing on this channel and after: 1 for nothing at all.
    SilentFrom(u8),
    /// Sends nothing in private after dealing: no share of any key.
    NoShares,
    /// Lies in the sharing.
    Sharing(SharingLie),
    /// Lies in a broadcast.
    Broadcast(Which, BroadcastLie),
    /// Sends these parties shares of their keys that are wrong in the first one.
    WrongShares {
        /// Who gets them.
        to: PartySet,
    },
    /// Sends bytes that are no message on every channel.
    Garbage,
    /// Sends 64 KiB more with every message.
    Oversized,
    /// Sends the same bytes twice, then other ones.
    Conflicting,
}

impl SetupLie {
    /// The network of a party that misbehaves so.
    pub fn network<N>(self, net: N, committee: &Committee) -> Tampering<N> {
        Tampering::new(net, self.tamper(committee))
    }

    /// The lie as a function of what goes out.
    #[must_use]
    pub fn tamper(self, committee: &Committee) -> Tamper {
        let opening = opening_channels(committee);
        match self {
            Self::SilentFrom(first) => {
                Box::new(move |channel, _, message| if channel < first { vec![message] } else { Vec::new() })
            }
            Self::NoShares => {
                Box::new(move |channel, _, message| if opening.contains(&channel) { Vec::new() } else { vec![message] })
            }
            Self::Sharing(lie) => vss::malicious::tamper(committee, SHARING, lie),
            Self::Broadcast(which, lie) => {
                broadcast::malicious::tamper(committee, first_channel(committee, which), lie)
            }
            Self::WrongShares { to: victims } => Box::new(move |channel, to, message| {
                let wrong = opening.contains(&channel) && victims.contains(to);
                vec![if wrong { flipped(&message, wire::VIEW_BYTES + wire::HEADER_BYTES) } else { message }]
            }),
            Self::Garbage => {
                Box::new(|_, _, message| vec![message.iter().map(|b| b.wrapping_mul(167) ^ 0xA5).collect()])
            }
            Self::Oversized => Box::new(|_, _, message| {
                let mut longer = BytesMut::from(message);
                longer.resize(longer.len() + (1 << 16), 0);
                vec![longer.freeze()]
            }),
            Self::Conflicting => {
                Box::new(|_, _, message| vec![message.clone(), message.clone(), flipped(&message, message.len() - 1)])
            }
        }
    }
}

/// First channel of a broadcast.
#[must_use]
pub const fn first_channel(committee: &Committee, which: Which) -> u8 {
    let table = SHARING + committee.n() as u8;
    match which {
        Which::Table => table,
        Which::Reveal => table + broadcast::channels(committee),
        Which::Ready => ready_channel(committee),
    }
}

fn opening_channels(committee: &Committee) -> core::ops::Range<u8> {
    let first = committee.parties().next().map_or(0, |p: PartyId| opening_channel(committee, p));
    first..ready_channel(committee)
}
