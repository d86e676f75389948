//! What can be lied in the synchronous protocols, and who sees it.

use std::collections::BTreeMap;

use rand::Rng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand_chacha::ChaCha20Rng;

use crate::broadcast::malicious::BroadcastLie;
use crate::lockstep::malicious::Tamper;
use crate::malicious::{Behaviour, LIES, Stage};
use crate::prss_setup::malicious::{SetupLie, Which, first_channel};
use crate::sim::{Cast, Run};
use crate::vss::malicious::SharingLie;
use crate::{Committee, PartyId, PartySet, broadcast, vss};

use super::FIRST;

/// Which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::scenarios) enum Kind {
    Broadcast,
    Sharing,
    Coin,
    Setup,
}

/// A lie with its details.
#[derive(Clone, Debug)]
pub(super) enum SyncLie {
    /// One that needs to know nothing of the protocol.
    Bytes(Behaviour),
    /// In the broadcast with this first channel.
    Broadcast(u8, BroadcastLie),
    /// In the sharing.
    Sharing(SharingLie),
    /// In the set-up.
    Setup(SetupLie),
}

/// Who must name a liar. Everybody else may, and nobody need; honest parties are never named.
pub(super) enum Named {
    ByAll,
    By(PartySet),
    Perhaps,
}

impl SyncLie {
    pub(super) fn tamper(&self, committee: &Committee) -> Tamper {
        match *self {
            Self::Bytes(_) => Box::new(|_, _, message| vec![message]),
            Self::Broadcast(first, lie) => broadcast::malicious::tamper(committee, first, lie),
            Self::Sharing(lie) => vss::malicious::tamper(committee, FIRST, lie),
            Self::Setup(lie) => lie.tamper(committee),
        }
    }

    /// Who of the parties that stay must name somebody who tells this lie.
    pub(super) fn named(&self, committee: &Committee, honest: PartySet) -> Named {
        let t = committee.t();
        let among = |set: PartySet| set.without(set.without(honest));
        match *self {
            Self::Bytes(Behaviour::Garbage | Behaviour::Truncated | Behaviour::Empty | Behaviour::Oversized { .. })
            | Self::Broadcast(_, BroadcastLie::Garbage | BroadcastLie::Oversized)
            | Self::Sharing(SharingLie::GarbageTable)
            | Self::Setup(SetupLie::Garbage | SetupLie::Oversized) => Named::ByAll,
            // Whoever is echoed wrongly sees it: every honest party.
            Self::Broadcast(_, BroadcastLie::FalseEcho) => Named::ByAll,
            // Two messages that t + 1 honest parties each echo.
            Self::Broadcast(_, BroadcastLie::Equivocate { to })
                if among(to).len() > t && honest.without(to).len() > t =>
            {
                Named::ByAll
            }
            // With more than t unhappy parties there is nothing to reveal; only the victims saw something wrong then. Other
            // faulty parties may be unhappy, too.
            Self::Sharing(SharingLie::WrongReveal { to })
                if among(to).len() + committee.n() - honest.len() <= t + 1 =>
            {
                Named::ByAll
            }
            Self::Sharing(SharingLie::Deny { dealers }) if dealers.len() > t => Named::ByAll,
            Self::Sharing(
                SharingLie::WrongRows { to }
                | SharingLie::GarbageRows { to }
                | SharingLie::WrongReveal { to }
                | SharingLie::NoReveal { to },
            )
            | Self::Sharing(SharingLie::Deny { dealers: to })
            | Self::Setup(SetupLie::WrongShares { to }) => Named::By(to),
            Self::Sharing(SharingLie::WrongPair { pair: (i, j) }) => Named::By([i, j].into_iter().collect()),
            _ => Named::Perhaps,
        }
    }
}

pub(super) struct NamedLie {
    pub(super) name: &'static str,
    draw: fn(&Draw<'_>, &mut ChaCha20Rng) -> SyncLie,
    of: &'static [Kind],
}

/// What a lie is drawn for.
struct Draw<'a> {
    committee: &'a Committee,
    kind: Kind,
    stage: Stage,
    cast: &'a Cast,
}

impl Draw<'_> {
    /// Some of the parties that stay.
    fn victims(&self, rng: &mut ChaCha20Rng) -> PartySet {
        let most = self.cast.honest.len().max(1);
        let size = rng.random_range(1..=most);
        self.cast.honest.iter().choose_multiple(rng, size).into_iter().collect()
    }

    fn pair(&self, rng: &mut ChaCha20Rng) -> (PartyId, PartyId) {
        // Outside the model there may be nobody left to be a victim.
        let pool = if self.cast.honest.len() < 2 { PartySet::all(self.committee.n()) } else { self.cast.honest };
        let mut pair = pool.iter().choose_multiple(rng, 2).into_iter();
        match (pair.next(), pair.next()) {
            (Some(i), Some(j)) => (i, j),
            _ => unreachable!("a committee has at least four parties"),
        }
    }

    /// First channel of one of the broadcasts.
    fn broadcast(&self, rng: &mut ChaCha20Rng) -> u8 {
        match self.kind {
            Kind::Broadcast => FIRST,
            Kind::Setup => {
                let which = [Which::Table, Which::Reveal, Which::Ready];
                first_channel(self.committee, *which.choose(rng).unwrap_or(&Which::Table))
            }
            Kind::Sharing | Kind::Coin => FIRST + self.committee.n() as u8,
        }
    }

    /// The broadcast that always takes place.
    fn first_broadcast(&self) -> u8 {
        if self.kind == Kind::Broadcast { FIRST } else { FIRST + self.committee.n() as u8 }
    }
}

use Kind::{Broadcast, Coin, Setup, Sharing};

const ALL: &[Kind] = &[Broadcast, Sharing, Coin, Setup];
const DEALING: &[Kind] = &[Sharing, Coin, Setup];
const ONLY_SETUP: &[Kind] = &[Setup];

/// A lie of the library for openings, which knows nothing of the protocol.
const fn bytes(name: &'static str, draw: fn(&Draw<'_>, &mut ChaCha20Rng) -> SyncLie) -> NamedLie {
    NamedLie { name, draw, of: ALL }
}

const fn in_broadcast(name: &'static str, draw: fn(&Draw<'_>, &mut ChaCha20Rng) -> SyncLie) -> NamedLie {
    NamedLie { name, draw, of: ALL }
}

const fn in_sharing(name: &'static str, draw: fn(&Draw<'_>, &mut ChaCha20Rng) -> SyncLie) -> NamedLie {
    NamedLie { name, draw, of: DEALING }
}

const fn in_setup(name: &'static str, draw: fn(&Draw<'_>, &mut ChaCha20Rng) -> SyncLie) -> NamedLie {
    NamedLie { name, draw, of: ONLY_SETUP }
}

/// The lie of this name in the library for openings.
fn library(name: &str, draw: &Draw<'_>, rng: &mut ChaCha20Rng) -> SyncLie {
    let lie = LIES.iter().find(|lie| lie.name == name);
    SyncLie::Bytes(lie.map_or(Behaviour::Silent, |lie| (lie.draw)(&draw.stage, rng)))
}

const ALL_LIES: &[NamedLie] = &[
    bytes("silent", |d, rng| library("silent", d, rng)),
    bytes("late", |d, rng| library("late", d, rng)),
    bytes("selective", |d, rng| library("selective", d, rng)),
    bytes("wrong-round", |d, rng| library("wrong-round", d, rng)),
    bytes("wrong-job", |d, rng| library("wrong-job", d, rng)),
    bytes("repeat", |d, rng| library("repeat", d, rng)),
    bytes("garbage", |d, rng| library("garbage", d, rng)),
    bytes("header", |d, rng| library("header", d, rng)),
    bytes("oversized", |d, rng| library("oversized", d, rng)),
    bytes("truncated", |d, rng| library("truncated", d, rng)),
    bytes("empty", |d, rng| library("empty", d, rng)),
    bytes("replay", |_, _| SyncLie::Bytes(Behaviour::Replay)),
    in_broadcast("equivocate", |d, rng| {
        SyncLie::Broadcast(d.first_broadcast(), BroadcastLie::Equivocate { to: d.victims(rng) })
    }),
    in_broadcast("send-to", |d, rng| SyncLie::Broadcast(d.broadcast(rng), BroadcastLie::SendTo { to: d.victims(rng) })),
    in_broadcast("false-echo", |d, _| SyncLie::Broadcast(d.first_broadcast(), BroadcastLie::FalseEcho)),
    in_broadcast("false-vote", |d, rng| SyncLie::Broadcast(d.broadcast(rng), BroadcastLie::FalseVote)),
    in_broadcast("two-faced-bits", |d, rng| {
        SyncLie::Broadcast(d.broadcast(rng), BroadcastLie::TwoFacedBits { to: d.victims(rng) })
    }),
    in_broadcast("no-answer", |d, rng| SyncLie::Broadcast(d.broadcast(rng), BroadcastLie::NoAnswer)),
    in_broadcast("false-answer", |d, rng| SyncLie::Broadcast(d.broadcast(rng), BroadcastLie::FalseAnswer)),
    in_broadcast("garbage-echo", |d, _| SyncLie::Broadcast(d.first_broadcast(), BroadcastLie::Garbage)),
    in_broadcast("megabytes", |d, _| SyncLie::Broadcast(d.first_broadcast(), BroadcastLie::Oversized)),
    in_sharing("wrong-rows", |d, rng| SyncLie::Sharing(SharingLie::WrongRows { to: d.victims(rng) })),
    in_sharing("no-rows", |d, rng| SyncLie::Sharing(SharingLie::NoRows { to: d.victims(rng) })),
    in_sharing("garbage-rows", |d, rng| SyncLie::Sharing(SharingLie::GarbageRows { to: d.victims(rng) })),
    in_sharing("wrong-pair", |d, rng| SyncLie::Sharing(SharingLie::WrongPair { pair: d.pair(rng) })),
    in_sharing("wrong-reveal", |d, rng| SyncLie::Sharing(SharingLie::WrongReveal { to: d.victims(rng) })),
    in_sharing("no-reveal", |d, rng| SyncLie::Sharing(SharingLie::NoReveal { to: d.victims(rng) })),
    in_sharing("deny", |d, rng| SyncLie::Sharing(SharingLie::Deny { dealers: d.victims(rng) })),
    in_sharing("deny-receipt", |d, rng| SyncLie::Sharing(SharingLie::DenyReceipt { dealers: d.victims(rng) })),
    in_sharing("garbage-table", |_, _| SyncLie::Sharing(SharingLie::GarbageTable)),
    in_setup("silent-from", |_, rng| SyncLie::Setup(SetupLie::SilentFrom(rng.random_range(1..100)))),
    in_setup("no-shares", |_, _| SyncLie::Setup(SetupLie::NoShares)),
    in_setup("wrong-shares", |d, rng| SyncLie::Setup(SetupLie::WrongShares { to: d.victims(rng) })),
    in_setup("conflicting", |_, _| SyncLie::Setup(SetupLie::Conflicting)),
];

/// The lies that can be told in a protocol.
pub(super) fn of(kind: Kind) -> impl Iterator<Item = &'static NamedLie> {
    ALL_LIES.iter().filter(move |lie| lie.of.contains(&kind))
}

/// What each liar does: all the same, as colluders, or each something else.
pub(super) fn draw(
    kind: Kind,
    run: &Run,
    cast: &Cast,
    rng: &mut ChaCha20Rng,
) -> BTreeMap<PartyId, (&'static str, SyncLie)> {
    let stage = Stage { t: run.committee.t(), liars: cast.liars, others: cast.truthful() };
    let draw = Draw { committee: &run.committee, kind, stage, cast };
    let forced = run.lie.and_then(|name| of(kind).find(|lie| lie.name == name));
    let pick = |rng: &mut ChaCha20Rng| forced.or_else(|| of(kind).choose(rng)).unwrap_or(&ALL_LIES[0]);
    let all = pick(rng);
    let together = (all.name, (all.draw)(&draw, rng));
    let collude = forced.is_some() || rng.random_bool(0.5);
    let each = |rng: &mut ChaCha20Rng| {
        let lie = pick(rng);
        (lie.name, (lie.draw)(&draw, rng))
    };
    cast.liars.iter().map(|liar| (liar, if collude { together.clone() } else { each(rng) })).collect()
}
