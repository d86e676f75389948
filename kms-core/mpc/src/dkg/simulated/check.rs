//! Puts a key together, which nobody may ever do with a real one, and computes everything anew.

use kms_algebra::{Detector, GrVec, PartyId, Word};

use super::journal::MemoryJournal;
use super::world::masks_of;
use crate::Committee;
use crate::dkg::{Finished, Seed};
use kms_encoding::key_spec::{KeySpec, Shape, Width};

/// Checks that all these parties have one key and that it is right; the secrets.
///
/// # Errors
/// What is not.
pub(crate) fn check_key<const D: usize>(
    committee: &Committee,
    spec: &KeySpec,
    parties: &[(PartyId, &Finished<D>, &MemoryJournal)],
) -> Result<Vec<Vec<u128>>, String> {
    let (_, first, journal) = parties.first().ok_or("nobody has a key")?;
    for (party, finished, other) in parties {
        if finished.seed != first.seed {
            return Err(format!("P{party} has another seed"));
        }
        for component in 0..spec.components.len() {
            let bodies = other.bodies(component);
            if bodies.len() != spec.body_bytes(component) || bodies != journal.bodies(component) {
                return Err(format!("P{party} has other bodies of component {component}"));
            }
        }
    }
    let mut secrets = Vec::new();
    for (secret, s) in spec.secrets.iter().enumerate() {
        let bits = reconstruct(committee, parties, secret)?;
        if bits.len() != s.bits || bits.iter().any(|bit| *bit > 1) {
            return Err(format!("secret {secret} is no vector of bits"));
        }
        secrets.push(bits);
    }
    for (component, c) in spec.components.iter().enumerate() {
        let bodies = journal.bodies(component);
        match c.width {
            Width::W64 => check_component::<u64>(spec, component, &first.seed, &secrets, &bodies)?,
            Width::W128 => check_component::<u128>(spec, component, &first.seed, &secrets, &bodies)?,
        }
    }
    Ok(secrets)
}

/// From any t + 1 shares, which all others have to agree with.
fn reconstruct<const D: usize>(
    committee: &Committee,
    parties: &[(PartyId, &Finished<D>, &MemoryJournal)],
    secret: usize,
) -> Result<Vec<u128>, String> {
    let shares: Vec<(PartyId, &GrVec<u128, D>)> = parties.iter().map(|(p, f, _)| (*p, &f.secrets[secret])).collect();
    // Nothing is corrected: fewer than 2t + 1 parties may have a key when the bound is violated.
    let detector =
        Detector::<D>::new(committee.n(), committee.t(), committee.t()).map_err(|error| error.to_string())?;
    let opener = detector.of(shares.iter().map(|(party, _)| *party).collect()).ok_or("too few shares")?;
    let mut values = GrVec::<u128, D>::zeros(shares.first().map_or(0, |(_, share)| share.len()));
    let len = values.len();
    if !values.tiles_mut(len).all(|mut values| opener.open(&shares, 0, &mut values)) {
        return Err(format!("shares of secret {secret} contradict each other"));
    }
    if values.iter().any(|value| value.0[1..].iter().any(|c| *c != 0)) {
        return Err(format!("secret {secret} is not in Z"));
    }
    Ok(values.coefficient(0).to_vec())
}

/// a·b mod X^N + 1.
fn negacyclic<W: Word>(a: &[W], b: &[W]) -> Vec<W> {
    let n = a.len();
    let mut out = vec![W::ZERO; n];
    for (i, a) in a.iter().enumerate() {
        for (j, b) in b.iter().enumerate() {
            let product = a.times(*b);
            let place = &mut out[(i + j) % n];
            *place = if i + j < n { place.plus(product) } else { place.minus(product) };
        }
    }
    out
}

/// Bodies without noise, by the definitions of [`Shape`].
fn plain<W: Word>(spec: &KeySpec, component: usize, row: usize, mask: &[W], secrets: &[Vec<u128>]) -> Vec<W> {
    let bit = |secret: usize, i: usize| W::truncate(secrets[secret][i]);
    let words = |secret: usize| secrets[secret].iter().map(|bit| W::truncate(*bit)).collect::<Vec<W>>();
    let power = |base_log: u32, level: usize| W::truncate(1 << (W::BITS - base_log * level as u32));
    let linear = |to: usize, n: usize| {
        let mut sum = vec![W::ZERO; n];
        for (a, s) in mask.chunks(n).zip(words(to).chunks(n)) {
            sum.iter_mut().zip(negacyclic(a, s)).for_each(|(sum, product)| *sum = sum.plus(product));
        }
        sum
    };
    match spec.components[component].shape {
        Shape::CompactPublic { secret } => {
            let mut reversed = words(secret);
            reversed.reverse();
            negacyclic(mask, &reversed)
        }
        Shape::KeySwitch { from, to, base_log, levels } => {
            let dot = mask.iter().zip(words(to)).fold(W::ZERO, |sum, (a, s)| sum.plus(a.times(s)));
            let level = levels - row % levels;
            vec![dot.plus(bit(from, row / levels).times(power(base_log, level)))]
        }
        Shape::Packing { from, to, polynomial, base_log, levels } => {
            let mut body = linear(to, polynomial);
            body[0] = body[0].plus(bit(from, row / levels).times(power(base_log, levels - row % levels)));
            body
        }
        Shape::Bootstrap { from, to, polynomial, base_log, levels } => {
            let k = secrets[to].len() / polynomial;
            let (index, r) = (row / (k + 1), row % (k + 1));
            let scale = bit(from, index / levels).times(power(base_log, levels - index % levels));
            let mut body = linear(to, polynomial);
            if r == k {
                body[0] = body[0].plus(scale);
            } else {
                let s = words(to);
                let part = &s[r * polynomial..(r + 1) * polynomial];
                body.iter_mut().zip(part).for_each(|(body, s)| *body = body.minus(s.times(scale)));
            }
            body
        }
    }
}

fn check_component<W: Word>(
    spec: &KeySpec,
    component: usize,
    seed: &Seed,
    secrets: &[Vec<u128>],
    bodies: &[u8],
) -> Result<(), String> {
    let c = &spec.components[component];
    let (rows, row_len, mask_len) = (spec.rows(component), spec.row_len(component), spec.mask_len(component));
    let bound = W::truncate(1 << c.noise);
    let mut sample = Sample::default();
    for row in 0..rows {
        let mask: Vec<W> = masks_of(seed, component, row, mask_len);
        let body = bodies[row * row_len * W::BYTES..].chunks_exact(W::BYTES).map(W::read_le);
        for (body, plain) in body.zip(plain(spec, component, row, &mask, secrets)) {
            // In −2^b..=2^b, moved to 0..=2^(b+1).
            let noise = body.minus(plain).plus(bound).widen();
            if noise > 2 << c.noise {
                return Err(format!("noise of component {component}, row {row} is out of bounds"));
            }
            sample.add(noise as f64 - (1_u128 << c.noise) as f64);
        }
    }
    sample.check(c.noise).map_err(|what| format!("noise of component {component}: {what}"))
}

/// Noise of one component.
#[derive(Default)]
struct Sample {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Sample {
    fn add(&mut self, noise: f64) {
        self.count += 1.0;
        self.sum += noise;
        self.squares += noise * noise;
    }

    /// Mean and variance of TUniform(b): 0 and (2^(2b+1) + 1)/6, within six standard errors. The fourth moment of the
    /// distribution is below twice the squared variance.
    fn check(&self, b: u32) -> Result<(), String> {
        let variance = ((2.0_f64).powi(2 * b as i32 + 1) + 1.0) / 6.0;
        let mean = self.sum / self.count;
        let ratio = self.squares / self.count / variance;
        if mean.abs() > 6.0 * (variance / self.count).sqrt() {
            return Err(format!("a mean of {mean} over {} samples", self.count));
        }
        if (ratio - 1.0).abs() > 6.0 / self.count.sqrt() {
            return Err(format!("{ratio} times the variance of TUniform({b}) over {} samples", self.count));
        }
        Ok(())
    }
}
