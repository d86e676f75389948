//! Robust asynchronous opening of degree-t sharings.
//!
//! Everybody sends its share to everybody; a party decodes as shares arrive, from the 2t + 1st on, and is done as soon as
//! that many lie on one polynomial. Shares that come later are only judged: they name culprits and never change the
//! result. One round, n − 1 messages out and at most n − 1 in; ends when the shares of all honest parties have arrived.
//!
//! Source: ePrint 2023/815 §4 (robust opening); Choudhury and Patra (online error correction).

use std::sync::Arc;

use bytes::Bytes;
use kms_algebra::{Codec, GrVec, PartyId, PartySet, packing};
use sha3::{Digest, Sha3_256};
use zeroize::Zeroizing;

use crate::Committee;
use crate::wire::{self, WireError};

/// What speaks against a party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Evidence {
    /// Its share differs from the polynomial on which 2t + 1 others lie. Observed, not proved: a proof would need the
    /// shares themselves, which are erased.
    WrongShare {
        /// First packed element that differs.
        element: usize,
        /// SHA3-256 of its message.
        message: [u8; 32],
    },
    /// Its message is no share of this job.
    Malformed {
        /// What is wrong with it.
        reason: WireError,
        /// SHA3-256 of its message.
        message: [u8; 32],
    },
    /// It sent two different messages. With both signed frames this is proved to third parties.
    Conflicting {
        /// SHA3-256 of the first message, which counted.
        first: [u8; 32],
        /// SHA3-256 of the second.
        second: [u8; 32],
    },
}

/// A party that was wrong, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Who.
    pub party: PartyId,
    /// Why.
    pub evidence: Evidence,
}

/// Who took part in an opening. Every party is in exactly one of `arrived` and `late`; wrong ones are in `arrived`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Parties whose message came, this party included.
    pub arrived: PartySet,
    /// Parties whose message had not come when the outcome was taken. Absent is not wrong.
    pub late: PartySet,
    /// Wrong parties, at most one fault each, in the order of discovery.
    pub wrong: Vec<Fault>,
}

impl Outcome {
    /// The wrong parties as a set.
    #[must_use]
    pub fn culprits(&self) -> PartySet {
        self.wrong.iter().map(|fault| fault.party).collect()
    }
}

/// State of one opening of values of Z_2^128, packed D per ring element. Synchronous: the driver feeds it.
#[derive(Debug)]
pub struct Opening<const D: usize> {
    committee: Committee,
    codec: Arc<Codec<u128, D>>,
    values: usize,
    shares: Vec<Option<GrVec<u128, D>>>,
    digests: Vec<[u8; 32]>,
    arrived: PartySet,
    /// Well-formed shares at the last attempt.
    tried: usize,
    /// Parties on the accepted polynomial, once there is one.
    agreeing: Option<PartySet>,
    /// Parties whose share was compared with the accepted polynomial.
    judged: PartySet,
    faults: Vec<Fault>,
}

impl<const D: usize> Opening<D> {
    /// An opening of this many values.
    #[must_use]
    pub fn new(committee: Committee, codec: Arc<Codec<u128, D>>, values: usize) -> Self {
        Self {
            committee,
            codec,
            values,
            shares: (0..committee.n()).map(|_| None).collect(),
            digests: vec![[0; 32]; committee.n()],
            arrived: PartySet::EMPTY,
            tried: 0,
            agreeing: None,
            judged: PartySet::EMPTY,
            faults: Vec::new(),
        }
    }

    /// Takes the message of a party; of several from one party the first counts. Cheap: parses, doesn't decode.
    pub fn insert(&mut self, from: PartyId, message: &Bytes) {
        if !self.committee.contains(from) {
            return;
        }
        let digest: [u8; 32] = Sha3_256::digest(message).into();
        let slot = from.slot();
        if !self.arrived.insert(from) {
            let first = self.digests[slot];
            if first != digest {
                self.blame(from, Evidence::Conflicting { first, second: digest });
            }
            return;
        }
        self.digests[slot] = digest;
        match wire::decode(message, packing::packed_len::<D>(self.values)) {
            Ok(share) => self.shares[slot] = Some(share),
            Err(reason) => self.blame(from, Evidence::Malformed { reason, message: digest }),
        }
    }

    fn blame(&mut self, party: PartyId, evidence: Evidence) {
        if self.faults.iter().all(|fault| fault.party != party) {
            self.faults.push(Fault { party, evidence });
        }
    }

    fn list(&self) -> Vec<(PartyId, &GrVec<u128, D>)> {
        self.committee.parties().zip(&self.shares).filter_map(|(p, s)| Some((p, s.as_ref()?))).collect()
    }

    /// Whether an attempt to decode has a chance: undecided, at least 2t + 1 shares, and more than at the last attempt.
    #[must_use]
    pub fn ready(&self) -> bool {
        let shares = self.shares.iter().flatten().count();
        self.agreeing.is_none() && shares >= self.codec.needed() && shares > self.tried
    }

    /// Whether everybody's message is in.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.arrived.len() == self.committee.n()
    }

    /// Tries to decode. Heavy. `None`: wait for more shares.
    #[must_use]
    pub fn attempt(&mut self) -> Option<Zeroizing<Vec<u128>>> {
        let list = self.list();
        let tried = list.len();
        let decoded = self.codec.decode(&list).ok();
        self.tried = tried;
        let decoded = decoded?;
        self.agreeing = Some(decoded.agreeing);
        self.judged = decoded.agreeing;
        Some(Zeroizing::new(packing::unpack(&decoded.values, self.values)))
    }

    /// Who was there and who was wrong, so far. Judges shares that were not judged yet: heavy when there are some.
    pub fn outcome(&mut self) -> Outcome {
        if let Some(agreeing) = self.agreeing {
            let list = self.list();
            let wrong: Vec<(PartyId, usize)> = list
                .iter()
                .filter(|(party, _)| !self.judged.contains(*party))
                .filter_map(|(p, share)| Some((*p, self.codec.first_difference(&list, agreeing, *p, share)?)))
                .collect();
            self.judged = list.iter().map(|(party, _)| *party).collect();
            for (party, element) in wrong {
                self.blame(party, Evidence::WrongShare { element, message: self.digests[party.slot()] });
            }
        }
        Outcome {
            arrived: self.arrived,
            late: PartySet::all(self.committee.n()).without(self.arrived),
            wrong: self.faults.clone(),
        }
    }
}

/// An [`Opening`] whatever the degree of its ring. A type of its own, because futures that hold a bare `Box<dyn …>`
/// across an await of a generic function can't be shown to be `Send`.
pub(crate) struct BoxedOpening(pub(crate) Box<dyn AnyOpening>);

/// What can be done with an [`Opening`].
pub(crate) trait AnyOpening: Send {
    fn insert(&mut self, from: PartyId, message: &Bytes);
    fn ready(&self) -> bool;
    fn complete(&self) -> bool;
    fn attempt(&mut self) -> Option<Zeroizing<Vec<u128>>>;
    fn outcome(&mut self) -> Outcome;
}

impl<const D: usize> AnyOpening for Opening<D> {
    fn insert(&mut self, from: PartyId, message: &Bytes) {
        Self::insert(self, from, message);
    }
    fn ready(&self) -> bool {
        Self::ready(self)
    }
    fn complete(&self) -> bool {
        Self::complete(self)
    }
    fn attempt(&mut self) -> Option<Zeroizing<Vec<u128>>> {
        Self::attempt(self)
    }
    fn outcome(&mut self) -> Outcome {
        Self::outcome(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message in which every share is `value`: a sharing of it with a constant polynomial.
    fn message(value: u128) -> Bytes {
        wire::encode(&[kms_algebra::Gr::<u128, 4>::constant(value)].into_iter().collect())
    }

    fn party(index: u8) -> PartyId {
        PartyId::new(index).unwrap()
    }

    fn opening() -> Opening<4> {
        Opening::new(Committee::new(4, 1).unwrap(), Arc::new(Codec::new(4, 1).unwrap()), 1)
    }

    #[test]
    fn decodes_as_shares_arrive_and_judges_the_late() {
        let mut o = opening();
        for (index, value, ready) in [(1, 7, false), (2, 9, false), (3, 7, true)] {
            o.insert(party(index), &message(value));
            assert_eq!(o.ready(), ready);
        }
        // Three shares, one wrong: nothing can be said yet, and nobody is blamed.
        assert!(o.attempt().is_none() && !o.ready() && !o.complete());
        assert!(o.outcome().wrong.is_empty());
        o.insert(party(4), &message(7));
        assert!(o.ready() && o.complete());
        assert_eq!(o.attempt().unwrap().as_slice(), [7]);
        assert!(!o.ready());
        assert_eq!(o.outcome().culprits().iter().collect::<Vec<_>>(), [party(2)]);

        let mut o = opening();
        (1..4).for_each(|index| o.insert(party(index), &message(7)));
        assert_eq!(o.attempt().unwrap().as_slice(), [7]);
        assert_eq!(o.outcome().late.iter().collect::<Vec<_>>(), [party(4)]);
        o.insert(party(4), &message(8));
        let outcome = o.outcome();
        assert_eq!((outcome.late, outcome.arrived), (PartySet::EMPTY, PartySet::all(4)));
        assert!(matches!(outcome.wrong[..], [Fault { evidence: Evidence::WrongShare { element: 0, .. }, .. }]));
    }

    #[test]
    fn repeated_messages_are_nothing_and_different_ones_are_evidence() {
        let mut o = opening();
        (1..4).for_each(|index| (0..2).for_each(|_| o.insert(party(index), &message(7))));
        assert!(o.outcome().wrong.is_empty());
        (0..2).for_each(|_| o.insert(party(2), &message(8)));
        // The first message counts.
        assert_eq!(o.attempt().unwrap().as_slice(), [7]);
        let [first, second] = [7, 8].map(|v| Sha3_256::digest(message(v)).into());
        let fault = Fault { party: party(2), evidence: Evidence::Conflicting { first, second } };
        assert_eq!(o.outcome().wrong, [fault]);
    }

    #[test]
    fn strangers_are_ignored() {
        let mut o = opening();
        o.insert(party(5), &message(7));
        assert_eq!(o.outcome().arrived, PartySet::EMPTY);
    }
}
