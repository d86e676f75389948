//! One-round threshold decryption.
//!
//! Party i computes p_i = b − ⟨a, s_i⟩ for every block, adds its share of the flooding mask, and all open the sum
//! robustly; the message is round(c / Δ). One job opens many ciphertexts with one message per party, whose shares are
//! packed D blocks per ring element. Rounds: 1. Bytes sent to each peer: 12 + 16·D·⌈blocks / D⌉. Fails only by waiting:
//! with 2t + 1 honest parties it ends.
//! **No unflooded value is ever opened**: [`OwnShare`] is made only with the mask in it.
//!
//! A party's message is a function of its keys and the job, so it can be recomputed for whoever missed it.
//!
//! Source: ePrint 2023/815, §5 (protocol) and §6 (bounds).

mod dot;

use core::fmt;
use core::pin::pin;
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{Either, select};
use kms_algebra::{Codec, Gr, PartyId, packing};
use kms_encoding::{FheType, LweBlocks, Plaintext, PrssKey, ShareVector};
use rayon::prelude::*;
use zeroize::Zeroizing;

use crate::opening::{BoxedOpening, Opening, Outcome};
use crate::prss::Prss;
use crate::{Committee, DecryptError, JobId, Network, Part, Refusal, SessionId, SetupError, wire};

/// Most blocks of a job. A request has at most 2048 bits, so at most 1024 blocks (all booleans).
pub const MAX_BLOCKS: usize = 4096;
/// The only round of a decryption.
pub const ROUND: u8 = 1;
/// Blocks whose masks are made together: one key derivation per set for all of them.
const MASK_TILE: usize = 64;
/// Blocks that go over a key together: preparing it costs as much as two of them, and their sums must fit the cache.
const MIN_GROUP: usize = 16;
/// See [`MIN_GROUP`].
const MAX_GROUP: usize = 64;

/// One ciphertext of a job.
#[derive(Clone, Debug)]
pub struct Item {
    /// Session of the object that the ciphertext is in: must be derived from the digest of exactly these bytes.
    pub session: SessionId,
    /// Type of the handle.
    pub ty: FheType,
    /// The ciphertext; knows its absolute position in the object and its key.
    pub blocks: Arc<LweBlocks>,
}

/// One party's PRSS and decoder of one epoch. Keys are erased on drop.
#[derive(Clone)]
pub struct Epoch {
    committee: Committee,
    own: PartyId,
    ring: Arc<dyn Ring>,
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoch").field("committee", &self.committee).field("own", &self.own).finish_non_exhaustive()
    }
}

impl Epoch {
    /// Party `own`'s keys of an epoch. Computes weights and key schedules; keep it for the life of the epoch.
    ///
    /// # Errors
    /// The keys are not those of this party in this committee.
    pub fn new(committee: Committee, own: PartyId, keys: &[PrssKey]) -> Result<Self, SetupError> {
        let ring: Arc<dyn Ring> = match committee.degree() {
            4 => Arc::new(RingOf::<4>::new(&committee, own, keys)?),
            _ => Arc::new(RingOf::<5>::new(&committee, own, keys)?),
        };
        Ok(Self { committee, own, ring })
    }

    /// The committee.
    #[must_use]
    pub const fn committee(&self) -> &Committee {
        &self.committee
    }

    /// This party.
    #[must_use]
    pub const fn own(&self) -> PartyId {
        self.own
    }

    /// This party's message of a job: partial decryptions plus masks, packed. Deterministic. Heavy: call it on rayon's
    /// pool or a blocking thread; it uses all threads of rayon's pool. The ciphertexts are not needed afterwards.
    ///
    /// `shares` are this party's shares of the secret keys, found by kind.
    ///
    /// # Errors
    /// [`DecryptError::JobSize`], [`DecryptError::BlockCount`], [`DecryptError::NoShare`].
    pub fn partial_decrypt(&self, shares: &[ShareVector], items: &[Item]) -> Result<OwnShare, DecryptError> {
        let blocks: usize = items.iter().map(|item| item.blocks.len()).sum();
        if !(1..=MAX_BLOCKS).contains(&blocks) {
            return Err(DecryptError::JobSize { got: blocks });
        }
        let mut inputs = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let (expected, got) = (item.ty.squashed_blocks(), item.blocks.len());
            if expected != got {
                return Err(DecryptError::BlockCount { item: index, expected, got });
            }
            let (kind, dimension) = (item.blocks.key(), item.blocks.dimension());
            let share = shares
                .iter()
                .find(|s| s.kind() == kind && s.len() == dimension && s.degree() == self.committee.degree())
                .ok_or(DecryptError::NoShare { item: index, kind, dimension })?;
            inputs.push((item, share));
        }
        Ok(OwnShare {
            job: job_id(items),
            types: items.iter().map(|item| item.ty).collect(),
            message: self.ring.partial_decrypt(&inputs, blocks),
        })
    }
}

/// Identity of the job that opens these ciphertexts in this order.
#[must_use]
pub fn job_id(items: &[Item]) -> JobId {
    let parts: Vec<Part> = items
        .iter()
        .map(|item| Part { session: item.session, first: item.blocks.first(), blocks: item.blocks.len() as u32 })
        .collect();
    JobId::new(&parts)
}

/// This party's side of a job, ready to be opened. Holds no secret: peers may see the message.
#[derive(Clone, Debug)]
pub struct OwnShare {
    job: JobId,
    types: Vec<FheType>,
    message: Bytes,
}

impl OwnShare {
    /// The job.
    #[must_use]
    pub const fn job(&self) -> JobId {
        self.job
    }

    /// The message that goes to every other party, in round [`ROUND`]; also when one asks for it again.
    #[must_use]
    pub const fn message(&self) -> &Bytes {
        &self.message
    }

    /// The words of the message: the constant coefficients of all packed elements, then those of X, and so on. They are what
    /// a user decryption seals, and have the mask in them like the message.
    #[must_use]
    pub fn words(&self) -> Vec<u128> {
        let body = self.message.get(wire::HEADER_BYTES..).unwrap_or_default();
        body.as_chunks().0.iter().map(|word| u128::from_le_bytes(*word)).collect()
    }
}

/// The result of a job at this party.
#[derive(Debug)]
pub struct Decryption {
    /// The values in the order of the items, or the final refusal of the whole job.
    pub values: Result<Vec<Plaintext>, Refusal>,
    /// The rest of the opening: late shares, to learn who was late and who was wrong.
    pub tail: Tail,
}

/// An opening whose result is out but whose receipt is not.
pub struct Tail {
    job: JobId,
    opening: BoxedOpening,
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("job", &self.job).finish_non_exhaustive()
    }
}

/// Sends this party's share, opens the job, and returns as soon as it is decided. Waits as long as it takes: dropping
/// the future gives up, and starting again with the same `own` is safe.
///
/// # Errors
/// [`DecryptError::Closed`]; [`DecryptError::TooManyWrong`] if all shares are in and more than t are wrong.
pub async fn decrypt<N: Network>(net: &N, epoch: &Epoch, own: &OwnShare) -> Result<Decryption, DecryptError> {
    let job = own.job;
    for party in epoch.committee.parties().filter(|p| *p != epoch.own) {
        net.send(job, ROUND, party, own.message.clone());
    }
    let blocks = own.types.iter().map(|ty| ty.squashed_blocks()).sum();
    let mut opening = epoch.ring.opening(epoch.committee, blocks);
    opening.0.insert(epoch.own, &own.message);
    loop {
        if opening.0.ready() {
            let (types, bound) = (own.types.clone(), epoch.committee.flood_bound());
            let (back, values) = net
                .compute(move || {
                    let mut opening = opening;
                    let values = opening.0.attempt().map(|opened| plaintexts(&types, opened, bound));
                    (opening, values)
                })
                .await;
            opening = back;
            if let Some(values) = values {
                return Ok(Decryption { values, tail: Tail { job, opening } });
            }
        }
        if opening.0.complete() {
            return Err(DecryptError::TooManyWrong);
        }
        let (from, message) = net.recv(job, ROUND).await?;
        opening.0.insert(from, &message);
    }
}

impl Tail {
    /// Takes late shares until all are in, or until `patience` is over, or until the network closes; then says who was
    /// there and who was wrong.
    pub async fn collect<N: Network>(self, net: &N, patience: Duration) -> Outcome {
        let Self { job, mut opening } = self;
        let mut timeout = pin!(net.sleep(patience));
        while !opening.0.complete() {
            let next = pin!(net.recv(job, ROUND));
            match select(next, timeout.as_mut()).await {
                Either::Left((Ok((from, message)), _)) => opening.0.insert(from, &message),
                Either::Left((Err(_), _)) | Either::Right(_) => break,
            }
        }
        net.compute(move || {
            let mut opening = opening;
            opening.0.outcome()
        })
        .await
    }
}

/// Rounds the opened blocks of each item, erasing them.
fn plaintexts(
    types: &[FheType],
    mut opened: Zeroizing<Vec<u128>>,
    bound: kms_encoding::FloodBound,
) -> Result<Vec<Plaintext>, Refusal> {
    let mut rest = opened.as_mut_slice();
    let mut values = Vec::with_capacity(types.len());
    for (item, ty) in types.iter().enumerate() {
        let (blocks, tail) = rest.split_at_mut(ty.squashed_blocks());
        rest = tail;
        values.push(kms_encoding::decode(*ty, blocks, bound).map_err(|reason| Refusal { item, reason })?);
    }
    Ok(values)
}

/// What depends on the degree of the ring.
trait Ring: Send + Sync {
    fn partial_decrypt(&self, inputs: &[(&Item, &ShareVector)], blocks: usize) -> Bytes;
    fn opening(&self, committee: Committee, values: usize) -> BoxedOpening;
}

struct RingOf<const D: usize> {
    prss: Prss<D>,
    codec: Arc<Codec<u128, D>>,
}

impl<const D: usize> RingOf<D> {
    fn new(committee: &Committee, own: PartyId, keys: &[PrssKey]) -> Result<Self, SetupError> {
        Ok(Self { prss: Prss::new(committee, own, keys)?, codec: Arc::new(Codec::new(committee.n(), committee.t())?) })
    }
}

impl<const D: usize> Ring for RingOf<D> {
    fn partial_decrypt(&self, inputs: &[(&Item, &ShareVector)], blocks: usize) -> Bytes {
        let mut phases = Zeroizing::new(vec![Gr::<u128, D>::ZERO; blocks]);
        let mut rest = phases.as_mut_slice();
        let (mut masks, mut rows) = (Vec::new(), Vec::with_capacity(blocks));
        for (item, share) in inputs {
            let (own, tail) = rest.split_at_mut(item.blocks.len());
            rest = tail;
            for (tile, out) in own.chunks_mut(MASK_TILE).enumerate() {
                masks.push((item.session, item.blocks.first() + (tile * MASK_TILE) as u32, out));
            }
            rows.extend(item.blocks.iter().map(|(mask, body)| (*share, mask, body)));
        }
        // Masks first, so that an unflooded value never stands in memory alone.
        masks.into_par_iter().for_each(|(session, first, out)| self.prss.add_masks(&session, first, out));
        // Blocks under one key go over it together: a piece of the key is prepared once for all of them.
        let group = blocks.div_ceil(rayon::current_num_threads()).clamp(MIN_GROUP, MAX_GROUP);
        let mut groups = Vec::new();
        let mut rest = phases.as_mut_slice();
        for rows in rows.chunk_by(|a, b| core::ptr::eq(a.0, b.0)).flat_map(|same_key| same_key.chunks(group)) {
            let (own, tail) = rest.split_at_mut(rows.len());
            rest = tail;
            groups.push((rows, own));
        }
        groups.into_par_iter().for_each(|(rows, phases)| {
            let Some((share, ..)) = rows.first() else { return };
            let masks: Vec<&[u128]> = rows.iter().map(|(_, mask, _)| *mask).collect();
            phases.iter_mut().zip(rows).for_each(|(phase, (.., body))| *phase += Gr::constant(*body));
            dot::subtract(&masks, share, phases);
        });
        wire::encode(&packing::pack(&phases))
    }

    fn opening(&self, committee: Committee, values: usize) -> BoxedOpening {
        BoxedOpening(Box::new(Opening::new(committee, Arc::clone(&self.codec), values)))
    }
}

/// The dot products ⟨a, s_i⟩ of all blocks of a ciphertext, single-threaded: what dominates a partial decryption. For
/// measurements; it leaks nothing that the caller did not have. Panics if dimension or degree of the share differ.
pub fn dot_blocks<const D: usize>(ciphertext: &LweBlocks, share: &ShareVector, out: &mut [Gr<u128, D>]) {
    let rows: Vec<&[u128]> = ciphertext.iter().map(|(mask, _)| mask).collect();
    out.fill(Gr::ZERO);
    dot::subtract(&rows, share, out);
    out.iter_mut().for_each(|dot| *dot = -*dot);
}
