//! The keys of pseudorandom secret sharing without a dealer.
//!
//! At the end each honest party holds, for every set A of n − t parties that it is a member of, a 16-byte key r_A, the same
//! at all members, uniformly random to everybody else: what [`crate::prss::Prss::new`] takes. Nobody deals a key.
//!
//! # Assumptions
//! n ≥ 3t + 1, at most t parties wrong or late, synchronous rounds ([`crate::lockstep`]), private authenticated channels;
//! SHA3-256 collision resistant, SHA3-256 and SHAKE256 random oracles for secrecy. The start of the run and its session are
//! agreed on: by the chain, or by the operators.
//!
//! # Protocol
//! Let m = ⌈C(n, t) / (n − 2t)⌉ (143 at (13, 4)).
//! 1. Every party shares m uniformly random elements of GR(2^64, d) verifiably ([`vss::share`]), all in parallel. At least
//!    n − t dealers are qualified.
//! 2. *Extraction*: with s_(D,l) value l of dealer D, x_(l,r) = Σ_D α_D^r·s_(D,l) for r = 0 … n − 2t − 1, the sum over
//!    the qualified dealers, computed on shares. Local.
//! 3. *Private opening* (1 round): the q-th set A, by ascending bitmap, has x_A = x_(l,r), q = l·(n − 2t) + r. Every party
//!    sends its share of x_A to the members of A and to nobody else. They decode, correcting up to t wrong shares.
//! 4. r_A = SHAKE256("KMS-PRSS-KEY-1" ‖ session ‖ u32 A ‖ x_A), 16 bytes.
//! 5. *Ready* (1 broadcast): every party says whether it has all its keys, with the hash of all broadcasts. With fewer than
//!    n − t ready parties all abort.
//!
//! Sources: Cramer, Damgård and Ishai (TCC 2005) §4 for the keys; ePrint 2023/815 §4 (set-up by VSS and randomness
//! extraction); Damgård and Nielsen, *Scalable and unconditionally secure multiparty computation* (CRYPTO 2007), §3, for
//! extraction with a Vandermonde matrix.
//!
//! # Proof
//! *Agreement*: shares of qualified dealers that honest parties hold lie on polynomials of degree t, so do their sums, and
//! n − t ≥ 2t + 1 right shares arrive: members decode the same x_A. *Secrecy*: of the at least n − t qualified dealers at
//! most t are wrong, so n − 2t of them are honest: not n − t, for others may be late, and whoever is wrong may help that on.
//! The columns of n − 2t honest ones in the matrix (α_D^r) are a square Vandermonde matrix whose points differ by units,
//! so invertible: whatever the others have shared, (x_(l,0), …, x_(l,n−2t−1)) is uniform, and
//! the key of a set without a wrong member is uniform given all other keys. Nobody outside A gets a share of x_A. With t
//! wrong parties exactly one set has no wrong member; its key is what hides all that PRSS makes. A set with a wrong member
//! is as good as public; that is how PRSS is meant.
//!
//! # Randomness, restart
//! Only dealing is random, and comes out of a [`DealingSeed`], the session and the party by SHAKE256. Seal the seed before
//! the run and erase it after: with the same seed a party deals the same. A party that restarts in the middle *listens*
//! ([`rejoin`]; or [`run`] without a seed, if that is lost): it sends nothing, so it can contradict nothing that it sent
//! before, the others count it as late, and it still ends with its keys if their messages reach it. Only if nothing but its
//! rows (channels 1 … n) has left it, it may [`run`] again with its seed. A run that aborted is never resumed: next attempt, other session, new seed.
//!
//! # Rounds, bytes, time
//! 2·(t + 3) + 2 rounds without misbehaviour, t + 3 more with unhappy parties, at most [`rounds`]; each is one delay when
//! all are on time. At (13, 4) every party sends each other one about 23 KB of rows, 3 KB of table, 16 KB of shares, and
//! 8 KB for the broadcasts. [`max_message_bytes`] bounds every message of every committee by less than 256 KiB.
//!
//! # Failure modes
//! [`SetupRunError`], with a [`Report`] of who was wrong and who late. In the model a run does not fail. Outside it
//! (more than t wrong or late parties) it may, also at some parties only: then compare [`PrssSetup::transcript`] and
//! [`PrssSetup::ready`], which honest parties should sign, before anybody uses a key.
//!
//! # Channels
//! All messages of a party on one channel are equal (private ones have a channel per receiver), so two different signed
//! frames of one channel always prove an equivocation. 1 …: the sharing; then n of the opening, by receiver; then the
//! last broadcast.

pub mod malicious;
mod seed;

use core::time::Duration;

use bytes::Bytes;
use kms_algebra::{Codec, Gr, GrVec, PartyId, PartySet};
use kms_encoding::PrssKey;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use sha3::Shake256;
use sha3::digest::{ExtendableOutput, Update, XofReader};

pub use self::seed::DealingSeed;
use crate::broadcast::{self, BroadcastError, broadcast};
use crate::lockstep::{Lockstep, Misdeed, Report};
use crate::vss::{self, Dealing, Shared, Transcript, dealing::Binding, wire};
use crate::{Closed, Committee, Network, SessionId};

pub use crate::lockstep::DEFAULT_BOUND;

/// First channel of the sharing.
const SHARING: u8 = 1;
/// Length of the message of the last broadcast: whether all keys are there, and the transcript so far.
const READY_BYTES: usize = 33;

/// The keys of one party and what all agree on.
pub struct PrssSetup {
    /// The keys of this party's sets, by ascending bitmap. Erased on drop.
    pub keys: Vec<PrssKey>,
    /// Parties that say they hold all their keys: at least n − t, the same at every honest party.
    pub ready: PartySet,
    /// The qualified dealers: the same at every honest party.
    pub dealers: PartySet,
    /// Hash of everything that was broadcast: the same at every honest party.
    pub transcript: [u8; 32],
    /// Who was wrong and who late, as this party saw it.
    pub report: Report,
}

impl core::fmt::Debug for PrssSetup {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PrssSetup")
            .field("ready", &self.ready)
            .field("dealers", &self.dealers)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

/// Why a run has given no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AbortReason {
    /// The network was closed.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// A broadcast came to no end.
    #[error(transparent)]
    Broadcast(#[from] BroadcastError),
    /// Fewer than n − t dealers are qualified.
    #[error("only {qualified} dealers are qualified")]
    TooFewDealers {
        /// How many.
        qualified: usize,
    },
    /// This party could not decode all its keys.
    #[error("too few right shares of the keys")]
    TooFewShares,
    /// Fewer than n − t parties say that they have their keys.
    #[error("only {ready} parties have their keys")]
    TooFewReady {
        /// How many.
        ready: usize,
    },
    /// The network is not that of the committee.
    #[error("the network has {got} parties, the committee {expected}")]
    Network {
        /// Parties of the committee.
        expected: usize,
        /// Parties of the network.
        got: usize,
    },
}

/// A run that has given no keys, and who was to blame.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct SetupRunError {
    /// Why.
    pub reason: AbortReason,
    /// Who was wrong and who late, as this party saw it.
    pub report: Report,
}

/// Elements that are extracted from one value of every dealer: as many as honest dealers are sure to be qualified.
const fn outputs(committee: &Committee) -> usize {
    committee.n() - 2 * committee.t()
}

/// Values that each party deals: ⌈C(n, t) / (n − 2t)⌉.
#[must_use]
pub fn values_per_dealer(committee: &Committee) -> usize {
    committee.prss_sets().count().div_ceil(outputs(committee))
}

/// Rounds at most.
#[must_use]
pub const fn rounds(committee: &Committee) -> u32 {
    vss::rounds(committee) + 1 + broadcast::rounds(committee)
}

/// Channels: a run uses 1 … this.
#[must_use]
pub const fn channels(committee: &Committee) -> u8 {
    ready_channel(committee) + broadcast::channels(committee) - 1
}

const fn opening_channel(committee: &Committee, receiver: PartyId) -> u8 {
    SHARING + vss::channels(committee) + receiver.slot() as u8
}

const fn ready_channel(committee: &Committee) -> u8 {
    SHARING + vss::channels(committee) + committee.n() as u8
}

/// Length of the longest message of a run: below 256 KiB for every committee.
#[must_use]
pub fn max_message_bytes(committee: &Committee) -> usize {
    let (values, sets) = (values_per_dealer(committee), committee.prss_sets().count());
    match committee.degree() {
        4 => vss::max_message_len::<u64, 4>(committee, values).max(wire::VIEW_BYTES + wire::vector_len::<u64, 4>(sets)),
        _ => vss::max_message_len::<u64, 5>(committee, values).max(wire::VIEW_BYTES + wire::vector_len::<u64, 5>(sets)),
    }
}

/// Makes the PRSS keys of a committee: run by all its parties at about the same time, with the same session, on a network
/// of its job, [`crate::JobId::of_session`].
///
/// `seed`: what this party deals from; `None`: it listens (see the module on restarts). `bound`: longest time of a round,
/// at least the difference of the parties' starts plus the delay of a message.
///
/// # Errors
/// The network was closed, or more than t parties were wrong or late.
pub async fn run<N: Network>(
    net: &N,
    committee: Committee,
    session: SessionId,
    seed: Option<DealingSeed>,
    bound: Duration,
) -> Result<PrssSetup, SetupRunError> {
    let speaks = seed.is_some();
    run_as(net, committee, session, seed, speaks, bound).await
}

/// Listens to a run: for a party that restarts in the middle. It sends nothing, but computes what it dealt, so that it can
/// do without what it had sent itself.
///
/// # Errors
/// Those of [`run`], also in the model: a listener can't ask for messages that did not reach it.
pub async fn rejoin<N: Network>(
    net: &N,
    committee: Committee,
    session: SessionId,
    seed: DealingSeed,
    bound: Duration,
) -> Result<PrssSetup, SetupRunError> {
    run_as(net, committee, session, Some(seed), false, bound).await
}

async fn run_as<N: Network>(
    net: &N,
    committee: Committee,
    session: SessionId,
    seed: Option<DealingSeed>,
    speaks: bool,
    bound: Duration,
) -> Result<PrssSetup, SetupRunError> {
    let mut run = Lockstep::start(net, committee, session, speaks, rounds(&committee), bound);
    let result = match committee.degree() {
        _ if net.n() != committee.n() => Err(AbortReason::Network { expected: committee.n(), got: net.n() }),
        4 => run_in::<N, 4>(&mut run, seed).await,
        _ => run_in::<N, 5>(&mut run, seed).await,
    };
    let mut report = core::mem::take(&mut run.report);
    report.late = report.late.without(report.wrong());
    report.late.remove(net.own());
    match result {
        Ok(setup) => Ok(PrssSetup { report, ..setup }),
        Err(reason) => Err(SetupRunError { reason, report }),
    }
}

async fn run_in<N: Network, const D: usize>(
    run: &mut Lockstep<'_, N>,
    seed: Option<DealingSeed>,
) -> Result<PrssSetup, AbortReason> {
    let committee = run.committee();
    let (own, session) = (run.own(), run.session());
    let values = values_per_dealer(&committee);
    let binding = Binding { session, first: SHARING, dealer: own };
    let dealing = match seed {
        Some(seed) => Some(run.net().compute(move || deal::<D>(&committee, &binding, values, &seed)).await),
        None => None,
    };
    let shared = vss::share::<N, u64, D>(run, SHARING, values, dealing).await?;
    let (dealers, sharing) = (shared.qualified, shared.transcript);
    if dealers.len() < committee.n() - committee.t() {
        return Err(AbortReason::TooFewDealers { qualified: dealers.len() });
    }

    run.next_round();
    let (mine, messages) = run.net().compute(move || shares_for_all(&committee, own, &shared)).await;
    for (receiver, message) in committee.parties().zip(messages) {
        run.send(opening_channel(&committee, receiver), receiver, message);
    }
    let channel = opening_channel(&committee, own);
    let received = run.collect(channel).await?;
    let opened = run.net().compute(move || open::<D>(&committee, &binding, &sharing, mine, &received)).await;
    for (party, message) in &opened.malformed {
        run.malformed(channel, *party, message);
    }
    run.report.late = run.report.late.union(opened.elsewhere);
    opened.wrong.iter().for_each(|party| run.report.blame(party, Misdeed::WrongShare));

    let mut message = [0; READY_BYTES];
    message[0] = opened.keys.is_some().into();
    message[1..].copy_from_slice(&sharing);
    let first = ready_channel(&committee);
    let said = broadcast(run, first, Bytes::copy_from_slice(&message), READY_BYTES).await?;
    let mut transcript = Transcript::new(&session, first);
    transcript.absorb(&said);
    message[0] = 1;
    let ready: PartySet =
        committee.parties().zip(&said).filter(|(_, m)| m.as_deref() == Some(&message)).map(|(p, _)| p).collect();
    let keys = opened.keys.ok_or(AbortReason::TooFewShares)?;
    if ready.len() < committee.n() - committee.t() {
        return Err(AbortReason::TooFewReady { ready: ready.len() });
    }
    Ok(PrssSetup { keys, ready, dealers, transcript: transcript.finish(), report: Report::default() })
}

/// This party's dealing: uniformly random elements.
fn deal<const D: usize>(
    committee: &Committee,
    binding: &Binding,
    values: usize,
    seed: &DealingSeed,
) -> Dealing<u64, D> {
    let mut rng = ChaCha20Rng::from_seed(*seed.expand(binding));
    let secrets: GrVec<u64, D> = (0..values).map(|_| Gr::random(&mut rng)).collect();
    Dealing::new(committee, binding, &secrets, &mut rng)
}

/// This party's shares of the elements of its own sets, and the messages to the others with those of theirs, by slot.
/// Without a share of every qualified dealer there is nothing to send: that happens to late parties only.
fn shares_for_all<const D: usize>(
    committee: &Committee,
    own: PartyId,
    shared: &Shared<u64, D>,
) -> (Option<GrVec<u64, D>>, Vec<Bytes>) {
    let Some(all) = extract(committee, shared) else { return (None, Vec::new()) };
    let of = |receiver: PartyId| -> GrVec<u64, D> {
        let sets = committee.prss_sets().zip(all.iter());
        sets.filter(|(set, _)| set.contains(receiver)).map(|(_, share)| share).collect()
    };
    let with_view = |message: Bytes| wire::with_view(&shared.transcript, &message);
    let message = |p| if p == own { Bytes::new() } else { with_view(wire::encode_vector(wire::Kind::Share, &of(p))) };

    (Some(of(own)), committee.parties().map(message).collect())
}

/// Σ_D α_D^r·[s_D,l] for all l and r, in the order of the sets.
fn extract<const D: usize>(committee: &Committee, shared: &Shared<u64, D>) -> Option<GrVec<u64, D>> {
    let (sets, outputs) = (committee.prss_sets().count(), outputs(committee));
    let mut all = GrVec::zeros(sets);
    for dealer in shared.qualified.iter() {
        let (point, shares) = (Gr::point(dealer), shared.shares[dealer.slot()].as_ref()?);
        for (value, share) in shares.iter().enumerate() {
            let mut term = share;
            for set in (value * outputs..sets).take(outputs) {
                let sum = all.get(set) + term;
                all.set(set, sum);
                term = term * point;
            }
        }
    }
    Some(all)
}

/// What the private opening has come to.
struct Opened {
    keys: Option<Vec<PrssKey>>,
    wrong: PartySet,
    malformed: Vec<(PartyId, Bytes)>,
    /// Parties that have seen other broadcasts, or say so: no honest one in the model.
    elsewhere: PartySet,
}

fn open<const D: usize>(
    committee: &Committee,
    binding: &Binding,
    view: &[u8; 32],
    mine: Option<GrVec<u64, D>>,
    received: &[Option<Bytes>],
) -> Opened {
    let own = binding.dealer;
    let sets: Vec<PartySet> = committee.prss_sets().filter(|set| set.contains(own)).collect();
    let mut shares: Vec<(PartyId, GrVec<u64, D>)> = Vec::with_capacity(committee.n());
    shares.extend(mine.map(|mine| (own, mine)));
    let (mut malformed, mut elsewhere) = (Vec::new(), PartySet::EMPTY);
    for (party, message) in committee.parties().zip(received) {
        let Some(message) = message else { continue };
        let share = match wire::without_view(view, message) {
            Ok(Some(message)) => wire::decode_vector(wire::Kind::Share, message, sets.len()),
            Ok(None) => {
                elsewhere.insert(party);
                continue;
            }
            Err(error) => Err(error),
        };
        match share {
            Ok(share) => shares.push((party, share)),
            Err(_) => malformed.push((party, message.clone())),
        }
    }
    let list: Vec<_> = shares.iter().map(|(party, share)| (*party, share)).collect();
    let decoded = Codec::new(committee.n(), committee.t()).ok().and_then(|codec| codec.decode(&list).ok());
    let Some(decoded) = decoded else {
        return Opened { keys: None, wrong: PartySet::EMPTY, malformed, elsewhere };
    };
    let keys = sets.iter().zip(decoded.values.iter()).map(|(set, x)| key(&binding.session, *set, &x)).collect();
    Opened { keys: Some(keys), wrong: decoded.culprits, malformed, elsewhere }
}

/// r_A = SHAKE256("KMS-PRSS-KEY-1" ‖ session ‖ u32 BE A ‖ words of x_A, little-endian), 16 bytes.
fn key<const D: usize>(session: &SessionId, set: PartySet, x: &Gr<u64, D>) -> PrssKey {
    let mut hash = Shake256::default();
    hash.update(b"KMS-PRSS-KEY-1");
    hash.update(session.as_bytes());
    hash.update(&set.bits().to_be_bytes());
    x.0.iter().for_each(|word| hash.update(&word.to_le_bytes()));
    let mut key = PrssKey { set: set.bits(), key: [0; 16] };
    hash.finalize_xof().read(&mut key.key);
    key
}

#[cfg(test)]
mod tests;
