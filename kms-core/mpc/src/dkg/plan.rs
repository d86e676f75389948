//! The work of a run, cut in chunks: the same list at every party, a function of the specification only.
//!
//! First all secret bits, then the components in the order of the specification. A chunk has a session of its own per
//! attempt, so its streams can be revealed without touching any other chunk.

use kms_algebra::packing;

use super::bits;
use super::error::RunError;
use super::noise::bits_of_sample;
use crate::{KeygenRun, SessionId};
use kms_encoding::key_spec::{KeySpec, Shape, Width};

/// Phase of the coin in session ids.
const PHASE_COIN: u32 = 0;
/// Random bits of a chunk of rows, about. A GGSW is one chunk whatever its size.
const CHUNK_BITS: usize = 1 << 17;
/// Words of mask of a chunk of rows, at most, unless one row has more.
const CHUNK_MASKS: usize = 1 << 20;
/// Random bits of a piece, about: what one thread does at a time.
const PIECE_BITS: usize = 1 << 14;
/// Bodies of a piece of rows with one body each.
const PIECE_ROWS: usize = 1 << 6;

/// What a chunk makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Bits of a secret.
    Bits { secret: usize, first: usize, count: usize },
    /// Rows of a component without products of secrets.
    Rows { component: usize, first: usize, rows: usize },
    /// All rows of one encrypted bit of a bootstrapping key.
    Ggsw { component: usize, bit: usize },
}

/// One chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Position in the plan.
    pub(super) index: u32,
    /// Phase in session ids.
    pub(super) phase: u32,
    /// What it makes.
    pub(super) work: Work,
    /// Width of its words.
    pub(super) width: Width,
    /// b of its noise; `None` for secret bits.
    pub(super) noise: Option<u32>,
    /// Samples of noise, or secret bits.
    pub(super) samples: usize,
    /// Products of secrets.
    pub(super) products: usize,
    /// Bodies of a row.
    pub(super) row_len: usize,
    /// Offset of its bodies in the component, in bytes.
    pub(super) offset: usize,
}

impl Chunk {
    /// Random bits of a sample.
    pub(super) const fn sample_bits(&self) -> usize {
        match self.noise {
            Some(b) => bits_of_sample(b),
            None => 1,
        }
    }

    /// Random bits.
    pub(super) const fn bits(&self) -> usize {
        self.samples * self.sample_bits()
    }

    /// Samples of all pieces but the last: a multiple of four, so that openings don't straddle pieces.
    const fn piece_samples(&self) -> usize {
        let groups = PIECE_BITS / bits::PER_OPENING / self.sample_bits();
        if groups == 0 { bits::PER_OPENING } else { groups * bits::PER_OPENING }
    }

    /// The pieces of its random bits: (first bit, number of bits).
    pub(super) fn pieces(&self) -> impl ExactSizeIterator<Item = (usize, usize)> + use<> {
        let (samples, step, width) = (self.samples, self.piece_samples(), self.sample_bits());
        (0..samples.div_ceil(step)).map(move |p| (p * step * width, step.min(samples - p * step) * width))
    }

    /// Position of the first sharing of zero that its bits leave free.
    pub(super) const fn free_zeros(&self) -> usize {
        bits::packed_len(self.bits())
    }

    /// Elements of each part of frame A: one part per piece, then the products.
    pub(super) fn parts_a<const D: usize>(&self) -> Vec<usize> {
        let mut parts: Vec<usize> = self.pieces().map(|(_, bits)| bits::packed_len(bits)).collect();
        if self.products > 0 {
            parts.push(packing::packed_len::<D>(self.products));
        }
        parts
    }

    /// Elements of frame B: the masked secrets, then the masked bit. 0 if there is none.
    pub(super) const fn elements_b<const D: usize>(&self) -> usize {
        if self.products == 0 { 0 } else { packing::packed_len::<D>(self.products + 1) }
    }

    /// Bodies of each part of frame C but the last.
    pub(super) const fn part_bodies(&self) -> usize {
        if self.row_len == 1 { PIECE_ROWS } else { self.row_len }
    }

    /// Bodies of each part of frame C. None for secret bits.
    pub(super) fn parts_c(&self) -> impl ExactSizeIterator<Item = usize> + use<> {
        let bodies = if self.noise.is_some() { self.samples } else { 0 };
        let step = self.part_bodies();
        (0..bodies.div_ceil(step)).map(move |p| step.min(bodies - p * step))
    }

    /// Bytes of a frame with parts of so many elements.
    pub(super) fn frame_bytes<const D: usize>(&self, elements: usize) -> usize {
        elements * D * self.width.bytes()
    }

    /// Bytes of frame A.
    pub(super) fn bytes_a<const D: usize>(&self) -> usize {
        self.frame_bytes::<D>(self.parts_a::<D>().into_iter().sum())
    }

    /// Bytes of frame B.
    pub(super) fn bytes_b<const D: usize>(&self) -> usize {
        self.frame_bytes::<D>(self.elements_b::<D>())
    }

    /// Bytes of frame C.
    pub(super) fn bytes_c<const D: usize>(&self) -> usize {
        self.frame_bytes::<D>(self.parts_c().map(packing::packed_len::<D>).sum())
    }

    /// Bytes of what is to be known of it in the end: its bodies, or the opened values of secret bits.
    pub(super) const fn result_bytes(&self) -> usize {
        self.samples * self.width.bytes()
    }

    /// The component whose bodies it makes.
    pub(super) const fn component(&self) -> Option<usize> {
        match self.work {
            Work::Bits { .. } => None,
            Work::Rows { component, .. } | Work::Ggsw { component, .. } => Some(component),
        }
    }
}

/// All chunks of a run, in order.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The chunks; chunk i has index i.
    pub(super) chunks: Vec<Chunk>,
    /// How many of them make secret bits: the first ones.
    pub(super) secret_chunks: u32,
    /// Random bits in all.
    pub(super) bits: u64,
    /// Bytes of the largest frame C.
    pub(super) largest_c: usize,
}

impl Plan {
    /// Cuts a key.
    ///
    /// # Errors
    /// The specification is none of a key.
    pub(super) fn new<const D: usize>(spec: &KeySpec) -> Result<Self, RunError> {
        let mut chunks = Vec::new();
        for (secret, s) in spec.secrets.iter().enumerate() {
            let phase = PHASE_COIN + 1 + secret as u32;
            for first in (0..s.bits).step_by(CHUNK_BITS) {
                let count = CHUNK_BITS.min(s.bits - first);
                let work = Work::Bits { secret, first, count };
                let width = Width::W128;
                let (noise, samples, products, row_len, offset) = (None, count, 0, 1, 0);
                chunks.push(Chunk { index: 0, phase, work, width, noise, samples, products, row_len, offset });
            }
        }
        let secret_chunks = chunks.len() as u32;
        for component in 0..spec.components.len() {
            check(spec, component)?;
            cut(spec, component, PHASE_COIN + 1 + (spec.secrets.len() + component) as u32, &mut chunks);
        }
        for (chunk, index) in chunks.iter_mut().zip(0..) {
            chunk.index = index;
        }
        let bits = chunks.iter().map(|chunk| chunk.bits() as u64).sum();
        let largest_c = chunks.iter().map(Chunk::bytes_c::<D>).max().unwrap_or(0);
        Ok(Self { chunks, secret_chunks, bits, largest_c })
    }

    /// A chunk by its number.
    pub(super) fn get(&self, index: u32) -> Option<&Chunk> {
        self.chunks.get(index as usize)
    }
}

/// Session of an attempt at a chunk.
pub(super) fn session(run: &KeygenRun, seed: &[u8; 32], chunk: &Chunk, attempt: u32) -> SessionId {
    SessionId::keygen(run, seed, chunk.phase, chunk.index, attempt)
}

/// Session of the coin: there is no seed yet.
pub(super) fn coin_session(run: &KeygenRun) -> SessionId {
    SessionId::keygen(run, &[0; 32], PHASE_COIN, 0, 0)
}

fn cut(spec: &KeySpec, component: usize, phase: u32, chunks: &mut Vec<Chunk>) {
    let c = &spec.components[component];
    let (width, noise, row_len) = (c.width, Some(c.noise), spec.row_len(component));
    let rows = spec.rows(component);
    let mut push = |work, first: usize, rows: usize, products| {
        let (samples, offset) = (rows * row_len, first * row_len * width.bytes());
        chunks.push(Chunk { index: 0, phase, work, width, noise, samples, products, row_len, offset });
    };
    if let Shape::Bootstrap { from, to, .. } = c.shape {
        let (bits, products) = (spec.secrets[from].bits, spec.secrets[to].bits);
        for bit in 0..bits {
            push(Work::Ggsw { component, bit }, bit * (rows / bits), rows / bits, products);
        }
        return;
    }
    let by_bits = CHUNK_BITS / (row_len * bits_of_sample(c.noise));
    let step = by_bits.min(CHUNK_MASKS / spec.mask_len(component)).max(1);
    for first in (0..rows).step_by(step) {
        let rows = step.min(rows - first);
        push(Work::Rows { component, first, rows }, first, rows, 0);
    }
}

/// Whether a component can be made.
fn check(spec: &KeySpec, component: usize) -> Result<(), RunError> {
    let c = &spec.components[component];
    let word = c.width.bits();
    let bits = |secret: usize| spec.secrets.get(secret).map_or(0, |s| s.bits);
    let ring = |n: usize| n >= 64 && n.is_power_of_two();
    let gadget = |base_log: u32, levels: usize| {
        base_log > 0 && levels > 0 && (levels as u64).saturating_mul(base_log.into()) <= word.into()
    };
    let fits = match c.shape {
        Shape::CompactPublic { secret } => ring(bits(secret)),
        Shape::KeySwitch { from, to, base_log, levels } => bits(from) > 0 && bits(to) > 0 && gadget(base_log, levels),
        Shape::Packing { from, to, polynomial, base_log, levels }
        | Shape::Bootstrap { from, to, polynomial, base_log, levels } => {
            let to = bits(to);
            bits(from) > 0 && ring(polynomial) && to > 0 && to.is_multiple_of(polynomial) && gadget(base_log, levels)
        }
    };
    if fits && c.noise + 1 < word { Ok(()) } else { Err(RunError::Spec { component }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kms_encoding::key_spec::{Component, Secret};

    fn spec() -> KeySpec {
        let shape = |shape, width, noise| Component { name: "", width, noise, shape };
        KeySpec {
            secrets: [("a", 918), ("b", 2048), ("c", 4096)].map(|(name, bits)| Secret { name, bits }).to_vec(),
            components: vec![
                shape(Shape::CompactPublic { secret: 1 }, Width::W64, 17),
                shape(Shape::KeySwitch { from: 1, to: 0, base_log: 4, levels: 4 }, Width::W64, 45),
                shape(Shape::Packing { from: 1, to: 2, polynomial: 1024, base_log: 41, levels: 2 }, Width::W128, 3),
                shape(Shape::Bootstrap { from: 0, to: 2, polynomial: 2048, base_log: 24, levels: 3 }, Width::W128, 30),
            ],
        }
    }

    #[test]
    fn chunks_cover_every_body_once_and_in_order() {
        let spec = spec();
        let plan = Plan::new::<4>(&spec).unwrap();
        assert_eq!(plan.secret_chunks, 3);
        for component in 0..spec.components.len() {
            let mut next = 0;
            for chunk in plan.chunks.iter().filter(|chunk| chunk.component() == Some(component)) {
                assert_eq!(chunk.offset, next);
                assert_eq!(chunk.parts_c().sum::<usize>() * chunk.width.bytes(), chunk.result_bytes());
                let mut bits = 0;
                for (first, count) in chunk.pieces() {
                    assert!(first == bits && first % bits::PER_OPENING == 0 && count % chunk.sample_bits() == 0);
                    bits += count;
                }
                assert_eq!(bits, chunk.bits());
                next += chunk.result_bytes();
            }
            assert_eq!(next, spec.body_bytes(component));
        }
        assert!(plan.chunks.iter().zip(0..).all(|(chunk, index)| chunk.index == index));
        // One GGSW of the squashing key.
        let last = plan.chunks.last().unwrap();
        assert_eq!((last.bits(), last.products), (589_824, 4096));
    }

    /// A mask that is used twice would show a secret, and no result would look wrong.
    #[test]
    fn no_sharing_of_zero_masks_two_openings() {
        for chunk in Plan::new::<4>(&spec()).unwrap().chunks {
            let mut next = 0;
            let (parts, mut firsts) =
                (chunk.parts_a::<4>(), chunk.pieces().map(|(first, _)| first / bits::PER_OPENING));
            for elements in parts {
                assert_eq!(firsts.next().unwrap_or_else(|| chunk.free_zeros()), next);
                next += elements;
            }
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let mut shapes = vec![
            Shape::CompactPublic { secret: 0 },
            Shape::CompactPublic { secret: 9 },
            Shape::KeySwitch { from: 9, to: 0, base_log: 4, levels: 4 },
            Shape::KeySwitch { from: 1, to: 0, base_log: 33, levels: 2 },
            Shape::KeySwitch { from: 1, to: 0, base_log: 4, levels: usize::MAX },
        ];
        for (to, polynomial) in [(0, 512), (2, 0), (2, 8192), (2, 48)] {
            shapes.push(Shape::Packing { from: 1, to, polynomial, base_log: 4, levels: 1 });
        }
        for shape in shapes {
            let mut spec = spec();
            spec.components[0].shape = shape;
            assert!(matches!(Plan::new::<4>(&spec), Err(RunError::Spec { component: 0 })), "{shape:?}");
        }
        let mut noisy = spec();
        noisy.components[1].noise = 63;
        assert!(matches!(Plan::new::<4>(&noisy), Err(RunError::Spec { component: 1 })));
    }
}
