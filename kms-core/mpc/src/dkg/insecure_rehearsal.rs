//! What a run costs a party of a committee of any size, without running the committee: bytes from the plan, and processor
//! time from one chunk of each kind, computed by one party among frames of all others. For benchmarks only: **one process
//! deals and knows every key.**

use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kms_algebra::{GrVec, PartyId};
use rand::CryptoRng;
use sha2::{Digest, Sha256};

use super::error::RunError;
use super::plan::{self, Chunk, Plan, Work};
use super::work::{self, Decoders, Inputs, KeyWord, Opened, Prepared, Secrets};
use crate::prss::Prss;
use crate::{Committee, KeygenRun, SessionId, SetupError, insecure_dealt};
use kms_encoding::PrssKey;
use kms_encoding::key_spec::{KeySpec, Masks, Width};

/// What the chunks of one kind cost a party.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Position of the component in the specification; `None`: the secrets.
    pub component: Option<usize>,
    /// Width of its words.
    pub width: Width,
    /// Chunks.
    pub chunks: usize,
    /// Random bits of all of them.
    pub bits: u64,
    /// Bytes of all frames to one peer. Signatures, votes and headers come on top: some hundred bytes per chunk.
    pub bytes_per_peer: u64,
    /// Time of one thread for all of them, computed from the first one's by the number of samples.
    pub time: Duration,
}

/// Rehearses a key: one [`Cost`] for the secrets, then one per component.
///
/// # Errors
/// The specification is none of a key, or there is no thread to be had.
pub fn rehearse(
    committee: &Committee,
    spec: &KeySpec,
    masks: &dyn Masks,
    rng: &mut impl CryptoRng,
) -> Result<Vec<Cost>, RunError> {
    let keys = insecure_dealt::prss_keys(committee, rng);
    match committee.degree() {
        4 => in_ring_of_4(committee, spec, masks, &keys),
        _ => in_ring_of_5(committee, spec, masks, &keys),
    }
}

// Not generic, so that the arithmetic is compiled here and as optimised as this crate is, not as its caller.

#[inline(never)]
fn in_ring_of_4(
    c: &Committee,
    spec: &KeySpec,
    masks: &dyn Masks,
    keys: &[Vec<PrssKey>],
) -> Result<Vec<Cost>, RunError> {
    in_ring::<4>(c, spec, masks, keys)
}

#[inline(never)]
fn in_ring_of_5(
    c: &Committee,
    spec: &KeySpec,
    masks: &dyn Masks,
    keys: &[Vec<PrssKey>],
) -> Result<Vec<Cost>, RunError> {
    in_ring::<5>(c, spec, masks, keys)
}

fn in_ring<const D: usize>(
    committee: &Committee,
    spec: &KeySpec,
    masks: &dyn Masks,
    keys: &[Vec<PrssKey>],
) -> Result<Vec<Cost>, RunError> {
    let plan = Plan::new::<D>(spec)?;
    let parties = Parties::deal(committee, spec, masks, keys)?;
    let (made, rest) = plan.chunks.split_at(plan.secret_chunks as usize);
    // All secrets are made, since the rows are made with them.
    let mut vectors: Vec<Vec<GrVec<u128, D>>> = parties.all.iter().map(|_| Vec::new()).collect();
    let mut spent = Vec::new();
    for chunk in made {
        let (time, shares) = parties.secret(chunk)?;
        spent.push(time);
        for (vectors, share) in vectors.iter_mut().zip(shares) {
            match chunk.work {
                Work::Bits { first: 1.., .. } => {
                    let before = vectors.pop().ok_or(failed("a secret that does not begin"))?;
                    vectors.push(work::join(&[before, share]));
                }
                _ => vectors.push(share),
            }
        }
    }
    let secrets: Vec<Secrets<D>> = vectors.into_iter().map(Secrets::new).collect();
    let mut costs = vec![cost::<D>(made, spent.into_iter().sum(), 1.0)];
    for chunks in rest.chunk_by(|a, b| a.component() == b.component()) {
        let Some(first) = chunks.first() else { continue };
        let time = match first.width {
            Width::W64 => parties.rows::<u64>(first, &secrets)?,
            Width::W128 => parties.rows::<u128>(first, &secrets)?,
        };
        let samples: usize = chunks.iter().map(|chunk| chunk.samples).sum();
        #[expect(clippy::cast_precision_loss, reason = "millions")]
        let times = samples as f64 / first.samples as f64;
        costs.push(cost::<D>(chunks, time, times));
    }
    Ok(costs)
}

/// What chunks cost of which the measured ones are one of so many parts.
fn cost<const D: usize>(chunks: &[Chunk], measured: Duration, times: f64) -> Cost {
    let bytes = |chunk: &Chunk| chunk.bytes_a::<D>() + chunk.bytes_b::<D>() + chunk.bytes_c::<D>();
    Cost {
        component: chunks.first().and_then(Chunk::component),
        width: chunks.first().map_or(Width::W128, |chunk| chunk.width),
        chunks: chunks.len(),
        bits: chunks.iter().map(|chunk| chunk.bits() as u64).sum(),
        bytes_per_peer: chunks.iter().map(|chunk| bytes(chunk) as u64).sum(),
        time: measured.mul_f64(times),
    }
}

/// The parties, all in one process.
struct Parties<'a, const D: usize> {
    all: Vec<(PartyId, Prss<D>)>,
    decoders: Decoders<D>,
    spec: &'a KeySpec,
    masks: &'a dyn Masks,
    /// Pool of one thread, for what is timed.
    one: rayon::ThreadPool,
    t: usize,
}

impl<'a, const D: usize> Parties<'a, D> {
    fn deal(
        committee: &Committee,
        spec: &'a KeySpec,
        masks: &'a dyn Masks,
        keys: &[Vec<PrssKey>],
    ) -> Result<Self, RunError> {
        let prss = |(own, keys): (PartyId, &Vec<_>)| Ok((own, Prss::new(committee, own, keys)?));
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        Ok(Self {
            all: committee.parties().zip(keys).map(prss).collect::<Result<_, SetupError>>()?,
            decoders: Decoders::new(committee)?,
            spec,
            masks,
            one: one.map_err(|_| failed("there is no thread"))?,
            t: committee.t(),
        })
    }

    /// Time of the first party, and everybody's shares of the bits.
    fn secret(&self, chunk: &Chunk) -> Result<(Duration, Vec<GrVec<u128, D>>), RunError> {
        let (mut time, prepared) = self.prepare::<u128>(chunk);
        let opened = self.timed(&mut time, || self.open(chunk, &prepared))?;
        let solve = |prepared: Prepared<u128, D>| work::solve(prepared.a, &opened).map_err(|_| failed("odd"));
        let mut prepared = prepared.into_iter();
        let own = prepared.next().ok_or(failed("nobody"))?;
        let own = self.timed(&mut time, || solve(own))?;
        let shares = core::iter::once(Ok(own)).chain(prepared.map(&solve)).collect::<Result<_, _>>()?;
        Ok((time, shares))
    }

    /// Time of the first party for a chunk of rows, bodies included.
    fn rows<W: KeyWord>(&self, chunk: &Chunk, secrets: &[Secrets<D>]) -> Result<Duration, RunError> {
        let session = session(chunk);
        let (mut time, prepared) = self.prepare::<W>(chunk);
        let opened = Arc::new(self.timed(&mut time, || self.open(chunk, &prepared))?);
        let b = |i: usize| work::share_b::<W, D>(&self.all[i].1, self.spec, &secrets[i], chunk, &session);
        let masked = if chunk.products == 0 {
            Vec::new()
        } else {
            let mut frames = vec![(self.all[0].0, self.timed(&mut time, || b(0)))];
            frames.extend((1..self.all.len()).map(|i| (self.all[i].0, b(i))));
            self.decode::<W>(&mut time, chunk, &[chunk.products + 1], &frames)?
        };
        let c = |i: usize, a: Vec<GrVec<W, D>>| {
            let (prss, secrets, opened, masked) = (&self.all[i].1, &secrets[i], opened.clone(), masked.clone());
            let (spec, masks) = (self.spec, self.masks);
            let inputs = Inputs { prss, spec, secrets, masks, chunk, session: &session, opened, masked };
            work::share_c(a, &inputs).map_err(|_| failed("odd"))
        };
        let mut frames = Vec::new();
        for (i, prepared) in prepared.into_iter().enumerate() {
            let frame = if i == 0 { self.timed(&mut time, || c(i, prepared.a))? } else { c(i, prepared.a)? };
            frames.push((self.all[i].0, frame));
        }
        let parts: Vec<usize> = chunk.parts_c().collect();
        let values = self.decode::<W>(&mut time, chunk, &parts, &frames)?;
        self.timed(&mut time, || Sha256::digest(work::to_bytes(&values)));
        Ok(time)
    }

    /// Everybody's frame A, and the time that the first party took for its own.
    fn prepare<W: KeyWord>(&self, chunk: &Chunk) -> (Duration, Vec<Prepared<W, D>>) {
        let session = session(chunk);
        let mut time = Duration::ZERO;
        let mut all = vec![self.timed(&mut time, || work::prepare::<W, D>(&self.all[0].1, chunk, &session))];
        all.extend(self.all[1..].iter().map(|(_, prss)| work::prepare(prss, chunk, &session)));
        (time, all)
    }

    /// What a party does with the frames A of all: it checks what was signed, and opens.
    fn open<W: KeyWord>(&self, chunk: &Chunk, prepared: &[Prepared<W, D>]) -> Result<Opened<W>, RunError> {
        let frames: Vec<(PartyId, Bytes)> =
            self.all.iter().zip(prepared).map(|((party, _), prepared)| (*party, prepared.frame.clone())).collect();
        for (_, frame) in &frames[1..] {
            core::hint::black_box(work::part_hashes::<D>(chunk, frame));
        }
        work::open(&self.decoders.double, chunk, &frames).ok_or(failed("frames A don't open"))
    }

    /// What a party does with frames of degree t: decodes 2t + 1 of them, and the others as they come.
    fn decode<W: KeyWord>(
        &self,
        time: &mut Duration,
        chunk: &Chunk,
        parts: &[usize],
        frames: &[(PartyId, Bytes)],
    ) -> Result<Vec<W>, RunError> {
        let needed = 2 * self.t + 1;
        let decode = |frames: &[(PartyId, Bytes)]| {
            let decoded = work::decode::<W, D>(W::codec(&self.decoders), chunk, parts, frames);
            decoded.map(|(values, _)| values).ok_or(failed("frames don't decode"))
        };
        let values = self.timed(time, || decode(&frames[..needed]))?;
        for late in &frames[needed..] {
            let mut with = frames[..needed].to_vec();
            with.push(late.clone());
            self.timed(time, || decode(&with))?;
        }
        Ok(values)
    }

    /// Runs on one thread and adds the time.
    fn timed<T: Send>(&self, time: &mut Duration, work: impl FnOnce() -> T + Send) -> T {
        let start = Instant::now();
        let out = self.one.install(work);
        *time += start.elapsed();
        out
    }
}

fn session(chunk: &Chunk) -> SessionId {
    let run = KeygenRun { context_id: [1; 32], run_id: [2; 32], params_hash: [3; 32], manifest_hash: [4; 32] };
    plan::session(&run, &[5; 32], chunk, 0)
}

const fn failed(what: &'static str) -> RunError {
    RunError::Internal { chunk: 0, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dkg::simulated::small_spec;
    use rand::{SeedableRng, rngs::StdRng};

    struct NoMasks(KeySpec);

    impl Masks for NoMasks {
        fn words64(&self, component: usize, _: usize, rows: usize) -> Vec<u64> {
            vec![3; rows * self.0.mask_len(component)]
        }

        fn words128(&self, component: usize, _: usize, rows: usize) -> Vec<u128> {
            vec![5; rows * self.0.mask_len(component)]
        }
    }

    #[test]
    fn costs_cover_the_whole_plan() {
        let spec = small_spec();
        for (n, t) in [(4, 1), (7, 2)] {
            let committee = Committee::new(n, t).unwrap();
            let masks = NoMasks(spec.clone());
            let costs = rehearse(&committee, &spec, &masks, &mut StdRng::seed_from_u64(1)).unwrap();
            let plan = Plan::new::<4>(&spec).unwrap();
            assert_eq!(costs.iter().map(|cost| cost.bits).sum::<u64>(), plan.bits);
            assert_eq!(costs.iter().map(|cost| cost.chunks).sum::<usize>(), plan.chunks.len());
            assert_eq!(costs.len(), 1 + spec.components.len());
            assert!(costs.iter().all(|cost| !cost.time.is_zero() && cost.bytes_per_peer > 0));
        }
    }
}
