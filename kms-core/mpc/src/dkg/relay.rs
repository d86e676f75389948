//! Complaints: all honest parties come to know the same signed frames.
//!
//! Whoever sees a syndrome other than zero, or misses a frame for longer than the patience, freezes what it holds and
//! relays it in t rounds. An item (a signed frame, or a proof that somebody signed two) is accepted in round r only with
//! the signatures of r parties beside the one it is about; whoever accepts it adds its own and relays it in round r + 1.
//! After t rounds all honest parties in the complaint have accepted the same items: one that comes in the last round
//! carries an honest signature, and that party has relayed it to all. Who has no accepted frame is late, who has two is an
//! equivocator; the others' frames are the word that is judged: FINAL if its syndrome is zero, else REVEAL.
//!
//! A party that voted FINAL before shows what it holds and needs no rounds: its word is complete and right, and whoever
//! hears it comes to the same. The first frame of a sender is accepted only with its bytes, which are fetched from whoever
//! relays it; further ones only prove.
//!
//! Rounds end when all parties are heard whose frame is here, at the latest three times the patience after each other
//! (absolute deadlines, see [`crate::lockstep`]): an honest party enters a complaint at most one patience later than another,
//! and a round that ended early does not shorten the next one.
//!
//! Decisions are made in the order of chunks, so that all honest parties exclude the same parties from the same chunk on.
//! Who was away when an exclusion was decided, or took a chunk over, may lack it: a relay names those that hold for the
//! attempt, and what t + 1 parties name is right. And t + 1 equal votes FINAL contain an honest one: whoever knows them does
//! not vote otherwise, whatever its own word is.
//!
//! Source: Dolev and Strong, SIAM J. Comput. 12(4), 1983 (authenticated broadcast).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use futures::future::{Either, select};
use futures::stream::{FuturesOrdered, FuturesUnordered, StreamExt};
use kms_algebra::{PartyId, PartySet};

use super::agree::Try;
use super::error::RunError;
use super::evidence::{self, Misdeed};
use super::exchange::{Exchange, Signer};
use super::journal::Journal;
use super::message::{Ask, Exclusion, SignedFrame, take_exclusions};
use super::reader::Reader;
use super::record::Record;
use super::run::Inner;
use super::state::Attempt;
use super::statement::{self, Signature, Vote};
use super::work::{KeyWord, Opened};
use crate::Committee;

/// Length of a round in patiences.
const ROUND: u32 = 3;

/// What is relayed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// u8 1 ‖ u8 sender ‖ hash (32) ‖ signature (65)
    Frame { hash: [u8; 32], signature: Signature },
    /// u8 2 ‖ u8 party ‖ u32 length ‖ evidence of an equivocation, of whatever chunk
    Proof(Bytes),
}

/// An item and those who relayed it.
#[derive(Clone, Debug)]
struct Item {
    about: PartyId,
    what: What,
    chain: Vec<(PartyId, Signature)>,
}

impl Item {
    fn encode_what(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        match &self.what {
            What::Frame { hash, signature } => {
                bytes.extend_from_slice(&[1, self.about.index()]);
                bytes.extend_from_slice(hash);
                bytes.extend_from_slice(signature);
            }
            What::Proof(evidence) => {
                bytes.extend_from_slice(&[2, self.about.index()]);
                bytes.put_u32(evidence.len() as u32);
                bytes.extend_from_slice(evidence);
            }
        }
        bytes
    }

    fn take(r: &mut Reader<'_>, committee: &Committee) -> Option<Self> {
        let kind = r.u8()?;
        let about = r.party().filter(|party| committee.contains(*party))?;
        let what = match kind {
            1 => What::Frame { hash: r.array()?, signature: r.signature()? },
            2 => {
                let len = r.u32()? as usize;
                (len <= evidence::EQUIVOCATION_BYTES).then_some(())?;
                What::Proof(Bytes::copy_from_slice(r.take(len)?))
            }
            _ => return None,
        };
        let count = usize::from(r.u8()?);
        (count <= committee.n()).then_some(())?;
        let chain = (0..count).map(|_| Some((r.party()?, r.signature()?))).collect::<Option<_>>()?;
        Some(Self { about, what, chain })
    }
}

/// What a party relays in a round.
#[derive(Clone, Debug, Default)]
struct Relay {
    /// Exclusions that hold for the attempt.
    exclusions: Vec<Exclusion>,
    items: Vec<Item>,
}

/// u8 number ‖ exclusions ‖ u16 number ‖ per item: item ‖ u8 length of the chain ‖ per link u8 party ‖ signature.
fn encode(relay: &Relay) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(relay.exclusions.len() as u8);
    relay.exclusions.iter().for_each(|exclusion| exclusion.put(&mut bytes));
    bytes.put_u16(relay.items.len() as u16);
    for item in &relay.items {
        bytes.put_slice(&item.encode_what());
        bytes.put_u8(item.chain.len() as u8);
        for (party, signature) in &item.chain {
            bytes.put_u8(party.index());
            bytes.put_slice(signature);
        }
    }
    bytes.freeze()
}

/// A relay of nothing: what liars tell.
pub(super) fn nothing() -> Bytes {
    encode(&Relay::default())
}

/// At most one exclusion of each party, and three items about it: two frames and a proof.
fn decode(bytes: &[u8], committee: &Committee) -> Option<Relay> {
    let mut r = Reader::new(bytes);
    let exclusions = take_exclusions(&mut r, committee)?;
    let count = usize::from(r.u16()?);
    if count > 3 * committee.n() {
        return None;
    }
    let items = (0..count).map(|_| Item::take(&mut r, committee)).collect::<Option<_>>()?;
    r.end(Relay { exclusions, items })
}

/// What a party has accepted.
#[derive(Default)]
struct Accepted {
    /// At most two frames of each sender.
    frames: BTreeMap<PartyId, Vec<([u8; 32], Signature)>>,
    proofs: BTreeMap<PartyId, Bytes>,
    /// Who names which exclusions.
    exclusions: BTreeMap<Exclusion, PartySet>,
}

impl Accepted {
    /// Takes an item; whether it is new. `here`: whether the bytes of the frame are.
    fn accept(&mut self, item: &Item, here: bool) -> bool {
        match &item.what {
            What::Frame { hash, signature } => {
                let frames = self.frames.entry(item.about).or_default();
                let room = if frames.is_empty() { here } else { frames.len() < 2 };
                let new = room && frames.iter().all(|(known, _)| known != hash);
                if new {
                    frames.push((*hash, *signature));
                }
                new
            }
            What::Proof(evidence) => match self.proofs.entry(item.about) {
                Entry::Vacant(entry) => {
                    entry.insert(evidence.clone());
                    true
                }
                Entry::Occupied(_) => false,
            },
        }
    }
}

impl<const D: usize, S: Signer + 'static, J: Journal + 'static> Inner<D, S, J> {
    /// What this party holds, signed, as it is relayed in the first round of an instance.
    fn own_items(&self, at: &Try, instance: u32) -> Vec<Item> {
        let mut items = Vec::new();
        {
            let state = self.state();
            if let Some(attempt) = state.attempts.get(&at.key()) {
                let here = attempt.word.iter().map(|(party, frame)| (*party, frame.hash, frame.signature));
                let was = attempt.signed.iter().filter(|(party, _)| !attempt.word.contains_key(party));
                for (about, hash, signature) in here.chain(was.map(|(party, (hash, s))| (*party, *hash, *s))) {
                    items.push(Item { about, what: What::Frame { hash, signature }, chain: Vec::new() });
                }
            }
            for (party, proof) in &state.proofs {
                items.push(Item { about: *party, what: What::Proof(proof.clone()), chain: Vec::new() });
            }
        }
        items.iter_mut().for_each(|item| self.countersign(at, instance, item));
        items
    }

    fn countersign(&self, at: &Try, instance: u32, item: &mut Item) {
        let signature = self.signer.sign(&statement::relay(&at.session, instance, &item.encode_what()));
        item.chain.push((self.config.own, signature));
    }

    /// A relay of these items.
    fn relay(&self, at: &Try, items: Vec<Item>) -> Bytes {
        encode(&Relay { exclusions: self.state().exclusions_before(at.key()), items })
    }

    fn publish(&self, at: &Try, instance: u32, round: u8, items: Vec<Item>) {
        let relay = self.relay(at, items);
        self.change(|state| {
            let relays = &mut state.attempts.entry(at.key()).or_default().relays;
            relays.entry((instance, round)).or_insert(relay);
        });
    }

    /// What this party, which has voted, relays: all that it holds, in the first round.
    pub(super) fn relay_of_voter(&self, (chunk, attempt): (u32, u32), instance: u32, round: u8) -> Bytes {
        let chunk = self.plan.get(chunk).copied();
        match chunk.and_then(|chunk| self.try_of(chunk, attempt)).filter(|_| round == 1) {
            Some(at) => self.relay(&at, self.own_items(&at, instance)),
            None => nothing(),
        }
    }

    /// Goes through a complaint and casts the vote that it leads to. `None`: no vote, because there is a certificate or
    /// because more than t parties are away.
    pub(super) async fn complain<W: KeyWord, E: Exchange>(
        &self,
        ex: &E,
        at: &Try,
        instance: u32,
    ) -> Result<Option<Option<Opened<W>>>, RunError> {
        let rounds = self.config.committee.t() as u32;
        let mut deadlines: FuturesOrdered<_> =
            (1..=rounds).map(|r| ex.sleep(self.config.patience * ROUND * r)).collect();
        // The first poll of a future sets its clock.
        let mut passed = u8::from(deadlines.next().now_or_never().is_some());
        let mut changes = self.version.subscribe();
        let mut accepted = Accepted::default();
        let mut fresh = self.own_items(at, instance);
        fresh.iter().for_each(|item| _ = accepted.accept(item, true));
        let heard: PartySet = accepted.frames.keys().copied().filter(|party| *party != self.config.own).collect();
        for round in 1..=rounds as u8 {
            self.publish(at, instance, round, core::mem::take(&mut fresh));
            let asked = at.question(Ask::Relay { instance, round });
            let mut relays: FuturesUnordered<_> =
                self.peers().map(|peer| self.relay_of(ex, at, peer, asked, instance, round)).collect();
            let mut missing = heard;
            loop {
                changes.borrow_and_update();
                if self.certified(at) {
                    return Ok(None);
                }
                let (peer, relay) = if missing.is_empty() {
                    // What is here already, also of parties that are not waited for.
                    match relays.next().now_or_never().flatten() {
                        Some(relay) => relay?,
                        None => break,
                    }
                } else {
                    let change = core::pin::pin!(changes.changed());
                    match select(select(deadlines.next(), relays.next()), change).await {
                        Either::Left((Either::Right((Some(relay), _)), _)) => relay?,
                        Either::Left((Either::Right((None, _)), _)) => break,
                        Either::Left((Either::Left(_), _)) => {
                            passed += 1;
                            if passed >= round {
                                break;
                            }
                            continue;
                        }
                        Either::Right(_) => continue,
                    }
                };
                missing.remove(peer);
                for exclusion in relay.exclusions {
                    accepted.exclusions.entry(exclusion).or_default().insert(peer);
                }
                for mut item in relay.items {
                    let here = self.holds(at, &item);
                    if accepted.accept(&item, here) {
                        self.countersign(at, instance, &mut item);
                        fresh.push(item);
                    }
                }
            }
        }
        self.judge(ex, at, accepted).await
    }

    /// A peer's relay of a round with the items that are signed as they have to be; frames that are not here are fetched
    /// from it, unless there are two of their sender.
    async fn relay_of<E: Exchange>(
        &self,
        ex: &E,
        at: &Try,
        peer: PartyId,
        asked: super::message::Question,
        instance: u32,
        round: u8,
    ) -> Result<(PartyId, Relay), RunError> {
        let committee = self.config.committee;
        let mut relay = self.ask(ex, peer, asked, |answer| decode(answer, &committee)).await?;
        relay.items.retain(|item| self.check_item(at, instance, usize::from(round), item));
        for item in &relay.items {
            let What::Frame { hash, .. } = item.what else { continue };
            let enough =
                |attempt: &Attempt| attempt.frame(item.about, &hash).is_some() || attempt.frames_of(item.about) > 1;
            if self.state().attempts.get(&at.key()).is_some_and(enough) {
                continue;
            }
            // Once: who relays an item has its bytes, or had its chance.
            let asked = at.question(Ask::Held { sender: item.about, hash: Some(hash) });
            let Ok(answer) = ex.ask(peer, asked.encode()).await else { continue };
            let Some(frame) = SignedFrame::decode(&answer, at.chunk.bytes_a::<D>()) else { continue };
            if frame.hash == hash && self.check_frame(ex, at, item.about, &frame).await {
                self.keep_frame(at, item.about, frame);
            }
        }
        Ok((peer, relay))
    }

    /// Names who gave this party another frame than others: its word is bad, and there was no complaint, for the others had
    /// agreed before. Not for long.
    pub(super) async fn compare<E: Exchange>(&self, ex: &E, at: &Try) -> Result<(), RunError> {
        let asked = at.question(Ask::Relay { instance: 1, round: 1 });
        let mut relays: FuturesUnordered<_> =
            self.peers().map(|peer| self.relay_of(ex, at, peer, asked, 1, 1)).collect();
        let mut soon = core::pin::pin!(ex.sleep(self.config.patience / 128));
        while let Either::Left((Some(relay), _)) = select(relays.next(), soon.as_mut()).await {
            for item in relay?.1.items {
                let What::Frame { hash, signature } = item.what else { continue };
                let mine = |attempt: &Attempt| attempt.word.get(&item.about).map(|frame| (frame.hash, frame.signature));
                let mine = self.state().attempts.get(&at.key()).and_then(mine);
                if let Some(mine) = mine.filter(|(mine, _)| *mine != hash) {
                    let proof = evidence::equivocation(at.key(), item.about, mine, (hash, signature));
                    self.prove(at.chunk.index, item.about, Misdeed::Equivocated, proof);
                }
            }
        }
        Ok(())
    }

    /// Whether the bytes of a frame are here.
    fn holds(&self, at: &Try, item: &Item) -> bool {
        let What::Frame { hash, .. } = item.what else { return true };
        self.state().attempts.get(&at.key()).is_some_and(|attempt| attempt.frame(item.about, &hash).is_some())
    }

    /// Whether an item carries enough signatures, and right ones.
    fn check_item(&self, at: &Try, instance: u32, round: usize, item: &Item) -> bool {
        let committee = &self.config.committee;
        let links: PartySet = item.chain.iter().map(|(party, _)| *party).filter(|p| *p != item.about).collect();
        if item.about == self.config.own || links.len() != item.chain.len() || links.len() < round {
            return false;
        }
        let right = match &item.what {
            What::Frame { hash, signature } => {
                self.signer.verify(item.about, &statement::frame(&at.session, item.about, hash), signature)
            }
            What::Proof(proof) => self.seed().is_some_and(|seed| {
                let public = self.public(seed);
                evidence::verify(&public, &*self.signer, proof) == Ok((item.about, Misdeed::Equivocated))
            }),
        };
        let digest = statement::relay(&at.session, instance, &item.encode_what());
        right && item.chain.iter().all(|(p, s)| committee.contains(*p) && self.signer.verify(*p, &digest, s))
    }

    fn certified(&self, at: &Try) -> bool {
        self.state().attempts.get(&at.key()).is_none_or(|attempt| attempt.certificate.is_some())
    }

    /// Votes on the word that a complaint ended with.
    async fn judge<W: KeyWord, E: Exchange>(
        &self,
        ex: &E,
        at: &Try,
        accepted: Accepted,
    ) -> Result<Option<Option<Opened<W>>>, RunError> {
        for (party, frames) in &accepted.frames {
            if let [first, second] = frames[..] {
                let proof = evidence::equivocation(at.key(), *party, first, second);
                self.prove(at.chunk.index, *party, Misdeed::Equivocated, proof);
            }
        }
        for (party, proof) in &accepted.proofs {
            self.prove(at.chunk.index, *party, Misdeed::Equivocated, proof.clone());
        }
        // In the order of chunks.
        let mut changes = self.version.subscribe();
        loop {
            changes.borrow_and_update();
            if self.certified(at) {
                return Ok(None);
            }
            if (0..at.chunk.index).rev().take_while(|c| *c + 64 > at.chunk.index).all(|c| self.state().settled(c)) {
                break;
            }
            let _ = changes.changed().await;
        }
        let (n, t) = (self.config.committee.n(), self.config.committee.t());
        let agreed = accepted.exclusions.iter().filter(|(_, by)| by.len() > t).map(|(exclusion, _)| *exclusion);
        self.adopt(agreed.filter(|e| (e.chunk, e.attempt) < at.key())).await?;
        let excluded = self.state().excluded(at.chunk.index, at.attempt);
        let proved: PartySet = accepted.proofs.keys().copied().collect();
        let gone = excluded.union(proved);
        let one = |party: PartyId| match accepted.frames.get(&party).map(Vec::as_slice) {
            Some([(hash, _)]) => Some((party, *hash)),
            _ => None,
        };
        let rest: BTreeMap<PartyId, [u8; 32]> = PartySet::all(n).without(gone).iter().filter_map(one).collect();
        if n - rest.len() > t {
            return Ok(None);
        }
        let late = PartySet::all(n).without(gone).iter().filter(|p| !accepted.frames.contains_key(p));
        self.exclude(at, late, true).await?;
        let frames = self.change(|state| {
            let attempt = state.attempts.entry(at.key()).or_default();
            let frames: Vec<_> =
                rest.iter().filter_map(|(p, hash)| Some((*p, attempt.frame(*p, hash)?.frame.clone()))).collect();
            attempt.judged = Some(rest);
            frames
        });
        let opened = self.open(ex, at, frames).await;
        let known = |attempt: &Attempt| attempt.vouched_final(t);
        let vote = match &opened {
            Some(Opened { hash, .. }) => Vote::Final(*hash),
            None => self.state().attempts.get(&at.key()).and_then(known).map_or(Vote::Reveal, Vote::Final),
        };
        self.vote(at, vote).await?;
        Ok(Some(opened))
    }

    /// Excludes parties from what follows an attempt.
    pub(super) async fn exclude(
        &self,
        at: &Try,
        parties: impl Iterator<Item = PartyId> + Send,
        late: bool,
    ) -> Result<(), RunError> {
        let (chunk, attempt) = at.key();
        self.adopt(parties.map(|party| Exclusion { chunk, attempt, party, late })).await
    }

    /// Takes exclusions over that are new.
    pub(super) async fn adopt(&self, exclusions: impl Iterator<Item = Exclusion> + Send) -> Result<(), RunError> {
        for exclusion in exclusions.collect::<Vec<_>>() {
            if !self.state().excluded(exclusion.chunk, exclusion.attempt + 1).contains(exclusion.party) {
                self.journal.append(Record::Excluded(exclusion).encode(), false).await?;
                self.change(|state| state.exclusions.insert(exclusion));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn party(index: u8) -> PartyId {
        PartyId::new(index).unwrap()
    }

    #[test]
    fn relays_round_trip_and_are_bounded() {
        let committee = Committee::new(4, 1).unwrap();
        let frame = What::Frame { hash: [1; 32], signature: [2; 65] };
        let proof = What::Proof(Bytes::from(vec![3; evidence::EQUIVOCATION_BYTES]));
        let chain = vec![(party(2), [4; 65]), (party(4), [5; 65])];
        let items: Vec<Item> = [frame, proof].map(|what| Item { about: party(3), what, chain: chain.clone() }).to_vec();
        let exclusions = vec![Exclusion { chunk: 7, attempt: 1, party: party(1), late: false }];
        let bytes = encode(&Relay { exclusions: exclusions.clone(), items: items.clone() });
        let back = decode(&bytes, &committee).unwrap();
        assert_eq!((back.items.len(), &back.exclusions), (2, &exclusions));
        let same = |(a, b): (&Item, &Item)| (a.about, &a.what, &a.chain) == (b.about, &b.what, &b.chain);
        assert!(back.items.iter().zip(&items).all(same));
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut], &committee).is_none());
        }
        let many = encode(&Relay { items: vec![items[0].clone(); 13], ..Relay::default() });
        assert!(decode(&many, &committee).is_none());
        let many = encode(&Relay { exclusions: vec![exclusions[0]; 5], ..Relay::default() });
        assert!(decode(&many, &committee).is_none());
    }

    proptest! {
        #[test]
        fn garbage_is_refused_without_harm(bytes: Vec<u8>) {
            let _ = decode(&bytes, &Committee::new(4, 1).unwrap());
        }
    }

    #[test]
    fn the_first_frame_needs_its_bytes_and_two_are_enough() {
        let mut accepted = Accepted::default();
        let item = |hash: u8| Item {
            about: party(1),
            what: What::Frame { hash: [hash; 32], signature: [0; 65] },
            chain: Vec::new(),
        };
        assert!(!accepted.accept(&item(1), false));
        assert!(accepted.accept(&item(1), true));
        assert!(!accepted.accept(&item(1), true));
        assert!(accepted.accept(&item(2), false));
        assert!(!accepted.accept(&item(3), true));
    }
}
