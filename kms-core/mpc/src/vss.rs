//! Verifiable secret sharing over GR(2^k, d), many values per dealing and all parties dealing at once.
//!
//! At the end all honest parties agree on the set of *qualified* dealers. The shares of a qualified dealer that honest
//! parties hold lie on one polynomial of degree t per value, also if the dealer lies; an honest dealer is qualified, its
//! secrets are shared, and t parties learn nothing about them.
//!
//! # Assumptions
//! n ≥ 3t + 1, at most t parties wrong or late, synchronous rounds ([`crate::lockstep`]), private authenticated channels,
//! [`crate::broadcast`]; SHA3-256 collision resistant, and for secrecy a random oracle.
//!
//! # Protocol
//! 1. *Rows* (1 round): dealer D takes for each value a random symmetric F(x, y) of degree t with F(0, 0) the secret, and
//!    for one random value more, and sends party i the row f_i = F(·, α_i) of each.
//! 2. *Table* (1 broadcast): D publishes the hash of F(α_i, α_j) of all its values together, for all pairs i < j. In the
//!    same message every party publishes, for every dealer, the digest of the hashes that *its* row gives, or that it has
//!    no row. Now all see who is *unhappy* with D: whose digest is not that of D's table. More than t parties unhappy or
//!    absent: D is disqualified.
//! 3. *Reveal* (1 broadcast, only if somebody is unhappy): D publishes the rows of the unhappy. It is disqualified unless
//!    every one gives the hashes of its table. The unhappy take the public row.
//!
//! The share of party i is f_i(0).
//!
//! Source: Gennaro, Ishai, Kushilevitz and Rabin, *The round complexity of verifiable secret sharing* (STOC 2001),
//! §4 (four rounds, n ≥ 3t + 1); bivariate sharing from Ben-Or, Goldwasser and Wigderson (STOC 1988). There parties
//! publish values under one-time pads that they exchanged, and dealer and parties publish what the pads differ in; here
//! hashes of a whole batch stand for the values, so pads, one round and all traffic per value fall away.
//!
//! # Proof
//! *Honest dealer.* Honest parties that are on time hold its rows, which give its table; at most t are unhappy or absent,
//! and all rows it reveals give its table: qualified. Public are hashes and the rows of the unhappy, at most t of them, all
//! wrong or late. t rows of a symmetric F leave F(0, 0) uniform; the hashes are of values with at least k·d bits of entropy
//! beyond that, those of the extra value.
//!
//! *Qualified dealer.* At least n − t parties are present and happy, of which n − 2t ≥ t + 1 honest ones, H. For i, j in H
//! both rows give the hash that D's table has for (i, j), so f_i(α_j) = f_j(α_i). Then there is one symmetric F of degree t
//! with f_i = F(·, α_i) for all i in H (BGW; differences of points are units). A revealed row f gives D's hash, which is
//! that of f_j, at the pair with each j in H: f(α_j) = f_j(α_i) = F(α_j, α_i) at t + 1 points, so f = F(·, α_i). So
//! all honest parties with a share hold F(0, α_i). ∎
//!
//! # Who is named
//! A dealer whose row contradicts its own table, by the party that got it ([`Misdeed::BadRow`]); whose table contradicts
//! the rows of more than t parties ([`Misdeed::BadTable`]), or whose revealed row contradicts it ([`Misdeed::BadReveal`]),
//! by all. A party that denies a row, by its dealer; one that denies those of more than t dealers, by all
//! ([`Misdeed::FalseComplaint`]). Other denials are [disputes](Dispute): one of two is wrong, all know which two. Who says
//! that no row came may be right about a late dealer: nobody is named for it.
//!
//! # Bytes
//! Rows: 12 + (values + 1)·(t + 1)·d·k/8 to each party. Table: at most 17 + 32n + 16n(n − 1). Reveal: one row per unhappy
//! party. Rounds: t + 4, or 2t + 7 with a reveal.
//!
//! # Failure modes
//! Those of the broadcast. Outside the model secrecy may suffer: if more than t parties are wrong or late, an honest dealer
//! may publish the row of an honest party that its message did not reach.
//!
//! # Channels
//! `first` + i − 1: rows to party i; then two broadcasts.

pub mod dealing;
pub mod malicious;
pub mod wire;

use core::marker::PhantomData;

use bytes::Bytes;
use kms_algebra::{GrVec, PartyId, PartySet, Word};
use rayon::prelude::*;
use sha3::{Digest, Sha3_256};

pub use self::dealing::Dealing;
use self::dealing::{Binding, Hash};
use self::wire::{Kind, Table, VssWireError};
use crate::broadcast::{self, BroadcastError, broadcast};
use crate::lockstep::{Dispute, Lockstep, Misdeed, Report};
use crate::{Committee, Network, SessionId};

/// Rounds of a sharing at most: one and two broadcasts.
#[must_use]
pub const fn rounds(committee: &Committee) -> u32 {
    1 + 2 * broadcast::rounds(committee)
}

/// Channels of a sharing.
#[must_use]
pub const fn channels(committee: &Committee) -> u8 {
    committee.n() as u8 + 2 * broadcast::channels(committee)
}

/// Length of the longest message of a sharing of this many values.
#[must_use]
pub const fn max_message_len<W: Word, const D: usize>(committee: &Committee, values: usize) -> usize {
    let table = wire::max_table_len(committee);
    let reveal = max_reveal_len::<W, D>(committee, values);
    if table > reveal { table } else { reveal }
}

const fn max_reveal_len<W: Word, const D: usize>(committee: &Committee, values: usize) -> usize {
    wire::VIEW_BYTES + wire::vector_len::<W, D>(committee.t() * dealing::row_len(committee, values))
}

/// What a sharing has come to at one party.
#[derive(Debug)]
pub struct Shared<W: Word, const D: usize> {
    /// The qualified dealers: the same at every honest party.
    pub qualified: PartySet,
    /// By dealer: this party's shares of its values. `None` for those not qualified, and for those whose row this party
    /// never got, which happens to late parties only.
    pub shares: Vec<Option<GrVec<W, D>>>,
    /// SHA3-256 of all that was broadcast: the same at every honest party.
    pub transcript: [u8; 32],
}

/// Shares `values` values of each party. `dealing` is this party's own, bound to this session, channel and party;
/// `None`: it deals nothing.
///
/// # Errors
/// Those of the broadcast.
pub async fn share<N: Network, W: Word, const D: usize>(
    run: &mut Lockstep<'_, N>,
    first: u8,
    values: usize,
    dealing: Option<Dealing<W, D>>,
) -> Result<Shared<W, D>, BroadcastError> {
    let committee = run.committee();
    let case = Case::<W, D> { committee, session: run.session(), own: run.own(), first, values, ring: PhantomData };

    run.next_round();
    for (party, row) in committee.parties().zip(dealing.iter().flat_map(|d| &d.rows)) {
        run.send(case.row_channel(party), party, wire::encode_vector(Kind::Row, row));
    }
    let channel = case.row_channel(run.own());
    let mut messages = run.collect(channel).await?;
    messages[run.own().slot()] = dealing.as_ref().map(|d| wire::encode_vector(Kind::Row, &d.rows[run.own().slot()]));
    let (mut rows, malformed) = run.net().compute(move || case.read_rows(messages)).await;
    for (party, message) in malformed {
        run.malformed(channel, party, &message);
    }

    let digests = rows.iter().map(|row| row.as_ref().map(|row| row.digest)).collect();
    let table = Table { digests, pairs: dealing.as_ref().map(|d| d.table.clone()) };
    let first = first + committee.n() as u8;
    let message = wire::encode_table::<W, D>(&committee, &table);
    let tables = broadcast(run, first, message, wire::max_table_len(&committee)).await?;
    let mut transcript = Transcript::new(&run.session(), first);
    transcript.absorb(&tables);
    let tables: Vec<Option<Table>> = read(run, first, tables, |_, m| wire::decode_table::<W, D>(&committee, m));
    let mut verdicts = case.judge(&tables, &mut rows, &mut run.report);

    if verdicts.iter().any(|v| matches!(v, Verdict::Reveal(unhappy) if !unhappy.is_empty())) {
        let first = first + broadcast::channels(&committee);
        let mine = match (&verdicts[run.own().slot()], &dealing) {
            (Verdict::Reveal(unhappy), Some(dealing)) => unhappy.iter().map(|p| &dealing.rows[p.slot()]).collect(),
            _ => Vec::new(),
        };
        let view = transcript.clone().finish();
        let message = wire::with_view(&view, &wire::encode_reveal(&mine));
        let reveals = broadcast(run, first, message, max_reveal_len::<W, D>(&committee, values)).await?;
        transcript.absorb(&reveals);
        let elements = dealing::row_len(&committee, values);
        let revealed = read(run, first, reveals, |dealer, m| {
            let Some(m) = wire::without_view(&view, m)? else { return Ok(None) };
            let count = if let Verdict::Reveal(unhappy) = &verdicts[dealer.slot()] { unhappy.len() } else { 0 };
            wire::decode_reveal::<W, D>(m, count, elements).map(Some)
        });
        let revealed = revealed.into_iter().map(Option::flatten).collect();
        let (checked, taken) = run.net().compute(move || case.check_reveals(&tables, verdicts, revealed)).await;
        verdicts = checked;
        for (dealer, verdict) in committee.parties().zip(&verdicts) {
            match verdict {
                Verdict::Contradicted => run.report.blame(dealer, Misdeed::BadReveal),
                Verdict::Late => {
                    run.report.late.insert(dealer);
                }
                _ => {}
            }
        }
        for (place, row) in rows.iter_mut().zip(taken) {
            *place = row.or(place.take());
        }
    }

    let qualified = committee.parties().zip(&verdicts).filter(|(_, v)| matches!(v, Verdict::Reveal(_))).map(|(p, _)| p);
    let qualified: PartySet = qualified.collect();
    let shares = committee
        .parties()
        .zip(rows)
        .map(|(dealer, row)| {
            let row = row.filter(|row| qualified.contains(dealer) && row.valid)?;
            Some(dealing::shares(&committee, &row.row))
        })
        .collect();
    Ok(Shared { qualified, shares, transcript: transcript.finish() })
}

/// What was broadcast, decoded. Everybody sees the same bytes, so everybody names the same senders of malformed ones.
fn read<N: Network, T>(
    run: &mut Lockstep<'_, N>,
    channel: u8,
    messages: Vec<Option<Bytes>>,
    decode: impl Fn(PartyId, &[u8]) -> Result<T, VssWireError>,
) -> Vec<Option<T>> {
    let parties = run.committee().parties();
    let decoded = parties.zip(messages).map(|(party, message)| {
        let message = message?;
        let decoded = decode(party, &message).ok();
        if decoded.is_none() {
            run.malformed(channel, party, &message);
        }
        decoded
    });
    decoded.collect()
}

/// Everything that was agreed on, under one hash.
#[derive(Clone)]
pub(crate) struct Transcript(Sha3_256);

impl Transcript {
    pub(crate) fn new(session: &SessionId, first: u8) -> Self {
        Self(Sha3_256::new().chain_update(b"KMS-TRANSCRIPT-1").chain_update(session.as_bytes()).chain_update([first]))
    }

    /// The outcome of a broadcast.
    pub(crate) fn absorb(&mut self, messages: &[Option<Bytes>]) {
        for message in messages {
            self.0.update([u8::from(message.is_some())]);
            self.0.update(message.as_ref().map_or([0; 32], |m| Sha3_256::digest(m).into()));
        }
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// The row of one dealer at this party.
struct Row<W: Word, const D: usize> {
    row: GrVec<W, D>,
    /// Digest of the hashes that it gives.
    digest: Hash,
    /// Whether these are those of the dealer's table.
    valid: bool,
}

/// What becomes of a dealer.
enum Verdict {
    /// It is qualified if it publishes the rows of these parties; at once, if there are none.
    Reveal(Vec<PartyId>),
    /// It is out, and late or wrong.
    Out,
    /// It is out because it has not revealed what it had to.
    Late,
    /// It is out because what it revealed contradicts its table.
    Contradicted,
}

/// What all steps of a sharing refer to.
struct Case<W, const D: usize> {
    committee: Committee,
    session: SessionId,
    own: PartyId,
    first: u8,
    values: usize,
    ring: PhantomData<W>,
}

impl<W, const D: usize> Clone for Case<W, D> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<W, const D: usize> Copy for Case<W, D> {}

impl<W: Word, const D: usize> Case<W, D> {
    const fn row_channel(&self, party: PartyId) -> u8 {
        self.first + party.slot() as u8
    }

    const fn binding(&self, dealer: PartyId) -> Binding {
        Binding { session: self.session, first: self.first, dealer }
    }

    /// Decodes the rows of all dealers and hashes them. Heavy. Also the messages that are no rows.
    fn read_rows(&self, messages: Vec<Option<Bytes>>) -> (Vec<Option<Row<W, D>>>, Vec<(PartyId, Bytes)>) {
        let elements = dealing::row_len(&self.committee, self.values);
        let parties: Vec<PartyId> = self.committee.parties().collect();
        let rows = parties
            .par_iter()
            .zip(&messages)
            .map(|(dealer, message)| {
                let row = wire::decode_vector(Kind::Row, message.as_ref()?, elements).ok()?;
                let hashes = dealing::row_hashes(&self.committee, &self.binding(*dealer), self.own, &row);
                Some(Row { row, digest: dealing::digest(&hashes), valid: false })
            })
            .collect::<Vec<_>>();
        let malformed = parties.into_iter().zip(messages).zip(&rows);
        let malformed = malformed.filter(|(_, row)| row.is_none()).filter_map(|((p, m), _)| Some((p, m?))).collect();
        (rows, malformed)
    }

    /// Compares digests with tables. What it decides is the same at every honest party.
    fn judge(&self, tables: &[Option<Table>], rows: &mut [Option<Row<W, D>>], report: &mut Report) -> Vec<Verdict> {
        let (n, t) = (self.committee.n(), self.committee.t());
        let mut denials = vec![0; n];
        let mut verdicts = Vec::with_capacity(n);
        for dealer in self.committee.parties() {
            let Some(pairs) = tables[dealer.slot()].as_ref().and_then(|table| table.pairs.as_ref()) else {
                report.late.insert(dealer);
                verdicts.push(Verdict::Out);
                continue;
            };
            let (mut unhappy, mut absent, mut contradicted) = (Vec::new(), 0, 0);
            for party in self.committee.parties().filter(|p| *p != dealer) {
                let expected = dealing::digest(&dealing::table_hashes(&self.committee, pairs, party));
                let said = tables[party.slot()].as_ref().map(|table| table.digests[dealer.slot()]);
                match said {
                    None => absent += 1,
                    Some(Some(digest)) if digest == expected => {}
                    Some(other) => {
                        unhappy.push(party);
                        report.disputes.push(Dispute { dealer, party, rows: other.is_some() });
                        if other.is_some() {
                            contradicted += 1;
                            denials[party.slot()] += 1;
                            if dealer == self.own {
                                report.blame(party, Misdeed::FalseComplaint);
                            }
                        }
                    }
                }
            }
            if let Some(row) = &mut rows[dealer.slot()] {
                row.valid = row.digest == dealing::digest(&dealing::table_hashes(&self.committee, pairs, self.own));
                if !row.valid && dealer != self.own {
                    report.blame(dealer, Misdeed::BadRow);
                }
            }
            if contradicted > t {
                report.blame(dealer, Misdeed::BadTable);
            }
            if unhappy.len() > t {
                report.late.insert(dealer);
            }
            if unhappy.len() + absent > t {
                verdicts.push(Verdict::Out);
            } else {
                verdicts.push(Verdict::Reveal(unhappy));
            }
        }
        for party in self.committee.parties().filter(|p| denials[p.slot()] > t) {
            report.blame(party, Misdeed::FalseComplaint);
        }
        verdicts
    }

    /// Compares revealed rows with tables: heavy. The verdicts are the same at every honest party; with them, by dealer,
    /// the row that was revealed for this party.
    fn check_reveals(
        &self,
        tables: &[Option<Table>],
        verdicts: Vec<Verdict>,
        revealed: Vec<Option<Vec<GrVec<W, D>>>>,
    ) -> (Vec<Verdict>, Vec<Option<Row<W, D>>>) {
        let dealers: Vec<PartyId> = self.committee.parties().collect();
        let cases: Vec<_> = dealers.into_iter().zip(tables).zip(verdicts).zip(revealed).collect();
        let checked = cases.into_par_iter().map(|(((dealer, table), verdict), rows)| {
            let pairs = table.as_ref().and_then(|table| table.pairs.as_ref());
            let (Verdict::Reveal(unhappy), Some(pairs)) = (&verdict, pairs) else { return (verdict, None) };
            if unhappy.is_empty() {
                return (verdict, None);
            }
            let Some(rows) = rows else { return (Verdict::Late, None) };
            let mut mine = None;
            for (party, row) in unhappy.iter().zip(rows) {
                let hashes = dealing::row_hashes(&self.committee, &self.binding(dealer), *party, &row);
                if hashes != dealing::table_hashes(&self.committee, pairs, *party) {
                    return (Verdict::Contradicted, None);
                }
                if *party == self.own {
                    mine = Some(Row { row, digest: dealing::digest(&hashes), valid: true });
                }
            }
            (verdict, mine)
        });
        checked.unzip()
    }
}

#[cfg(test)]
mod tests;
