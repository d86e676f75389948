//! What is computed for a chunk: frames from streams and secrets, values from frames. Synchronous, on rayon's threads.
//!
//! Formulas: [`Shape`]; products of secrets from triples: y and x_j, v_j out of the chunk's streams, d_j = x_j·y + v_j opened
//! in frame A, ε_j = s_j + x_j and ρ = m + y in frame B; then
//! s_j·m = ε_j·ρ − ε_j·y − ρ·x_j + d_j − v_j, which is of degree t: every body opens at degree t.
//!
//! Source: ePrint 2023/815 (key generation); Beaver, CRYPTO 1991 (products from triples).

use core::fmt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use kms_algebra::negacyclic::{SharePoly, add_products};
use kms_algebra::{Codec, Gr, GrVec, PartyId, PartySet, Word, packing};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::bits::{self, OddValue};
use super::double::{self, Double};
use super::noise;
use super::plan::{Chunk, Work};
use super::statement;
use crate::prss::Prss;
use crate::{Committee, SessionId, SetupError};
use kms_encoding::key_spec::{KeySpec, Masks, Shape};

/// Shares of the secrets in words of one width.
pub(super) struct Shares<W: Word, const D: usize> {
    vectors: Vec<GrVec<W, D>>,
    polynomials: Mutex<BTreeMap<(usize, usize, bool), Arc<Vec<SharePoly<W, D>>>>>,
}

impl<W: Word, const D: usize> Shares<W, D> {
    fn new(vectors: Vec<GrVec<W, D>>) -> Self {
        Self { vectors, polynomials: Mutex::default() }
    }

    /// The polynomials of `n` coefficients that a secret consists of, or of the reversed secret. Kept.
    fn polynomials(&self, secret: usize, n: usize, reversed: bool) -> Arc<Vec<SharePoly<W, D>>> {
        let mut kept = self.polynomials.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = kept.entry((secret, n, reversed)).or_insert_with(|| {
            let vector = &self.vectors[secret];
            let make = |first: usize| {
                let mut polynomial = slice(vector, first, n);
                if reversed {
                    (0..D).for_each(|c| polynomial.coefficient_mut(c).reverse());
                }
                SharePoly::new(&polynomial)
            };
            Arc::new((0..vector.len()).step_by(n).map(make).collect())
        });
        Arc::clone(entry)
    }
}

/// Shares of all secrets.
pub(super) struct Secrets<const D: usize> {
    wide: Shares<u128, D>,
    narrow: Shares<u64, D>,
}

impl<const D: usize> Secrets<D> {
    pub(super) fn new(vectors: Vec<GrVec<u128, D>>) -> Self {
        let narrow = vectors
            .iter()
            .map(|v| {
                let mut out = GrVec::zeros(v.len());
                for c in 0..D {
                    let words = out.coefficient_mut(c).iter_mut().zip(v.coefficient(c));
                    words.for_each(|(out, word)| *out = *word as u64);
                }
                out
            })
            .collect();
        Self { wide: Shares::new(vectors), narrow: Shares::new(narrow) }
    }

    /// Shares over GR(2^128).
    pub(super) fn vectors(&self) -> &[GrVec<u128, D>] {
        &self.wide.vectors
    }
}

impl<const D: usize> fmt::Debug for Secrets<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.wide.vectors.len())
    }
}

/// Decoders of both widths, and the opener of degree 2t.
#[derive(Debug)]
pub(super) struct Decoders<const D: usize> {
    pub(super) wide: Codec<u128, D>,
    pub(super) narrow: Codec<u64, D>,
    pub(super) double: Double<D>,
}

impl<const D: usize> Decoders<D> {
    pub(super) fn new(committee: &Committee) -> Result<Self, SetupError> {
        let (n, t) = (committee.n(), committee.t());
        Ok(Self { wide: Codec::new(n, t)?, narrow: Codec::new(n, t)?, double: Double::new(committee)? })
    }
}

/// The width of a component's words, for generic code.
pub(super) trait KeyWord: Word {
    fn masks(masks: &dyn Masks, component: usize, first: usize, rows: usize) -> Vec<Self>;
    fn shares<const D: usize>(secrets: &Secrets<D>) -> &Shares<Self, D>;
    fn codec<const D: usize>(decoders: &Decoders<D>) -> &Codec<Self, D>;
}

impl KeyWord for u64 {
    fn masks(masks: &dyn Masks, component: usize, first: usize, rows: usize) -> Vec<Self> {
        masks.words64(component, first, rows)
    }
    fn shares<const D: usize>(secrets: &Secrets<D>) -> &Shares<Self, D> {
        &secrets.narrow
    }
    fn codec<const D: usize>(decoders: &Decoders<D>) -> &Codec<Self, D> {
        &decoders.narrow
    }
}

impl KeyWord for u128 {
    fn masks(masks: &dyn Masks, component: usize, first: usize, rows: usize) -> Vec<Self> {
        masks.words128(component, first, rows)
    }
    fn shares<const D: usize>(secrets: &Secrets<D>) -> &Shares<Self, D> {
        &secrets.wide
    }
    fn codec<const D: usize>(decoders: &Decoders<D>) -> &Codec<Self, D> {
        &decoders.wide
    }
}

/// A party's frame A, and its shares of the random a that its bits come from.
pub(super) struct Prepared<W: Word, const D: usize> {
    pub(super) a: Vec<GrVec<W, D>>,
    pub(super) frame: Bytes,
    pub(super) hash: [u8; 32],
}

/// The values that frame A opens to.
pub(super) struct Opened<W> {
    /// v of the bits, by piece.
    pub(super) v: Vec<Vec<W>>,
    /// d of the products.
    pub(super) d: Vec<W>,
    /// Hash that is voted on.
    pub(super) hash: [u8; 32],
}

impl<W: KeyWord> Opened<W> {
    /// From bytes as [`Values::to_bytes`] makes them; `None` if their length is another one.
    pub(super) fn from_bytes(chunk: &Chunk, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != (chunk.bits() + chunk.products) * W::BYTES {
            return None;
        }
        let mut rest = bytes;
        let mut parts: Vec<Vec<W>> = chunk
            .pieces()
            .map(|(_, bits)| bits)
            .chain((chunk.products > 0).then_some(chunk.products))
            .filter_map(|values| {
                let (part, after) = rest.split_at_checked(values * W::BYTES)?;
                rest = after;
                Some(words(part))
            })
            .collect();
        let hashes: Vec<_> = parts.par_iter().map(|values| Sha256::digest(to_bytes(values)).into()).collect();
        let d = if chunk.products > 0 { parts.pop().unwrap_or_default() } else { Vec::new() };
        Some(Self { v: parts, d, hash: statement::hash_of_parts(&hashes) })
    }
}

/// Opened values, whatever their width.
pub(super) trait Values: Send + Sync {
    /// v of all bits, then d of all products.
    fn to_bytes(&self) -> Bytes;
}

impl<W: KeyWord> Values for Opened<W> {
    fn to_bytes(&self) -> Bytes {
        let parts: Vec<_> = self.v.iter().chain([&self.d]).map(|part| to_bytes(part)).collect();
        concat(parts.iter())
    }
}

impl fmt::Debug for dyn Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Values")
    }
}

/// One part of frame A of whoever has these keys. Panics if there is no such part.
pub(super) fn part_a<W: KeyWord, const D: usize>(
    prss: &Prss<D>,
    chunk: &Chunk,
    session: &SessionId,
    part: usize,
) -> (Option<GrVec<W, D>>, GrVec<W, D>) {
    if let Some((first, count)) = chunk.pieces().nth(part) {
        let (a, packed) = bits::square::<W, D>(prss, session, first as u64, count);
        return (Some(a), packed);
    }
    let n = chunk.products;
    let triple = prss.triple::<W>(session, 0, 1 + 2 * n);
    let y = triple.get(0);
    let d = Zeroizing::new((0..n).map(|j| triple.get(1 + j) * y + triple.get(1 + n + j)).collect::<Vec<_>>());
    let mut packed = packing::pack(&d);
    let zeros = prss.zero::<W>(session, chunk.free_zeros() as u64, packed.len());
    add(&mut packed, &zeros);
    (None, packed)
}

/// Frame A.
pub(super) fn prepare<W: KeyWord, const D: usize>(
    prss: &Prss<D>,
    chunk: &Chunk,
    session: &SessionId,
) -> Prepared<W, D> {
    let made: Vec<_> = (0..chunk.parts_a::<D>().len())
        .into_par_iter()
        .map(|part| {
            let (a, packed) = part_a::<W, D>(prss, chunk, session, part);
            let bytes = to_bytes(packed.words());
            let hash: [u8; 32] = Sha256::digest(&bytes).into();
            (a, bytes, hash)
        })
        .collect();
    let hash = statement::hash_of_parts(&made.iter().map(|(_, _, hash)| *hash).collect::<Vec<_>>());
    let frame = concat(made.iter().map(|(_, bytes, _)| bytes));
    Prepared { a: made.into_iter().filter_map(|(a, ..)| a).collect(), frame, hash }
}

/// Hashes of the parts of a frame A of the right length.
pub(super) fn part_hashes<const D: usize>(chunk: &Chunk, frame: &[u8]) -> Vec<[u8; 32]> {
    parts_of_a::<D>(chunk, frame).into_par_iter().map(|part| Sha256::digest(part).into()).collect()
}

/// The parts of a frame A of the right length.
pub(super) fn parts_of_a<'a, const D: usize>(chunk: &Chunk, frame: &'a [u8]) -> Vec<&'a [u8]> {
    split::<D>(chunk, &chunk.parts_a::<D>(), frame).collect()
}

/// Opens frames A; `None` unless they all lie on polynomials of degree ≤ 2t.
pub(super) fn open<W: KeyWord, const D: usize>(
    double: &Double<D>,
    chunk: &Chunk,
    frames: &[(PartyId, Bytes)],
) -> Option<Opened<W>> {
    let parts = chunk.parts_a::<D>();
    let pieces: Vec<usize> = chunk.pieces().map(|(_, bits)| bits).collect();
    let by_party: Vec<(PartyId, Vec<&[u8]>)> =
        frames.iter().map(|(party, frame)| (*party, split::<D>(chunk, &parts, frame).collect())).collect();
    let mut opened = (0..parts.len())
        .into_par_iter()
        .map(|part| {
            let shares: Vec<(PartyId, GrVec<W, D>)> =
                by_party.iter().map(|(party, frame)| (*party, read(frame[part]))).collect();
            let list: Vec<_> = shares.iter().map(|(party, share)| (*party, share)).collect();
            let elements = double.open(&list)?;
            let values = match pieces.get(part) {
                Some(bits) => double::unpack(&elements, *bits),
                None => packing::unpack(&elements, chunk.products),
            };
            let hash: [u8; 32] = Sha256::digest(to_bytes(&values)).into();
            Some((values, hash))
        })
        .collect::<Option<Vec<_>>>()?;
    let hash = statement::hash_of_parts(&opened.iter().map(|(_, hash)| *hash).collect::<Vec<_>>());
    let d = if chunk.products > 0 { opened.pop().map(|(d, _)| d).unwrap_or_default() } else { Vec::new() };
    Some(Opened { v: opened.into_iter().map(|(v, _)| v).collect(), d, hash })
}

/// Shares of bits from shares of a and the opened values, all pieces in one.
pub(super) fn solve<W: KeyWord, const D: usize>(
    a: Vec<GrVec<W, D>>,
    opened: &Opened<W>,
) -> Result<GrVec<W, D>, OddValue> {
    let pieces: Vec<_> = a.into_par_iter().zip(&opened.v).map(|(a, v)| bits::solve(a, v)).collect::<Result<_, _>>()?;
    Ok(join(&pieces))
}

/// Frame B: ε_j = s_j + x_j, then ρ = m + y.
pub(super) fn share_b<W: KeyWord, const D: usize>(
    prss: &Prss<D>,
    spec: &KeySpec,
    secrets: &Secrets<D>,
    chunk: &Chunk,
    session: &SessionId,
) -> Bytes {
    let Some((from, to, bit)) = factors(spec, chunk) else { return Bytes::new() };
    let shares = W::shares(secrets);
    let triple = prss.triple::<W>(session, 0, 1 + chunk.products);
    let s = &shares.vectors[to];
    let mut masked =
        Zeroizing::new((0..chunk.products).map(|j| s.get(j) + triple.get(1 + j)).collect::<Vec<Gr<W, D>>>());
    masked.push(shares.vectors[from].get(bit) + triple.get(0));
    to_bytes(packing::pack(&masked).words()).into()
}

/// Position of the bits, of the key they are multiplied with, and of the bit of a chunk of a bootstrapping key.
fn factors(spec: &KeySpec, chunk: &Chunk) -> Option<(usize, usize, usize)> {
    let Work::Ggsw { component, bit } = chunk.work else { return None };
    let Shape::Bootstrap { from, to, .. } = spec.components[component].shape else { return None };
    Some((from, to, bit))
}

/// What frame C is made of.
pub(super) struct Inputs<'a, W: Word, const D: usize> {
    pub(super) prss: &'a Prss<D>,
    pub(super) spec: &'a KeySpec,
    pub(super) secrets: &'a Secrets<D>,
    pub(super) masks: &'a dyn Masks,
    pub(super) chunk: &'a Chunk,
    pub(super) session: &'a SessionId,
    pub(super) opened: Arc<Opened<W>>,
    /// ε and ρ.
    pub(super) masked: Vec<W>,
}

/// Frame C: shares of the bodies.
pub(super) fn share_c<W: KeyWord, const D: usize>(
    a: Vec<GrVec<W, D>>,
    inputs: &Inputs<'_, W, D>,
) -> Result<Bytes, OddValue> {
    let chunk = inputs.chunk;
    let b = chunk.noise.unwrap_or(0);
    let noise: Vec<GrVec<W, D>> = a
        .into_par_iter()
        .zip(&inputs.opened.v)
        .map(|(a, v)| Ok(noise::tuniform(&bits::solve(a, v)?, b)))
        .collect::<Result<_, OddValue>>()?;
    let noise = join(&noise);
    let step = chunk.part_bodies();
    let row = Row::new(inputs);
    let parts: Vec<Vec<u8>> = (0..noise.len().div_ceil(step))
        .into_par_iter()
        .map(|part| {
            let mut bodies = slice(&noise, part * step, step.min(noise.len() - part * step));
            row.add(part * step / chunk.row_len, &mut bodies);
            let elements = Zeroizing::new(bodies.iter().collect::<Vec<_>>());
            to_bytes(packing::pack(&elements).words())
        })
        .collect();
    Ok(concat(parts.iter()))
}

/// The linear part of the rows of a chunk.
struct Row<'a, W: Word, const D: usize> {
    inputs: &'a Inputs<'a, W, D>,
    shape: Shape,
    /// First row of the chunk in its component.
    first: usize,
    masks: Vec<W>,
    mask_len: usize,
    polynomials: Arc<Vec<SharePoly<W, D>>>,
    /// s_j·m.
    products: GrVec<W, D>,
}

impl<'a, W: KeyWord, const D: usize> Row<'a, W, D> {
    fn new(inputs: &'a Inputs<'a, W, D>) -> Self {
        let (chunk, spec) = (inputs.chunk, inputs.spec);
        let component = chunk.component().unwrap_or_default();
        let (first, rows) = (chunk.offset / chunk.width.bytes() / chunk.row_len, chunk.samples / chunk.row_len);
        let shape = spec.components[component].shape;
        let shares = W::shares(inputs.secrets);
        let polynomials = match shape {
            Shape::CompactPublic { secret } => shares.polynomials(secret, spec.secrets[secret].bits, true),
            Shape::KeySwitch { .. } => Arc::default(),
            Shape::Packing { to, polynomial, .. } | Shape::Bootstrap { to, polynomial, .. } => {
                shares.polynomials(to, polynomial, false)
            }
        };
        let masks = W::masks(inputs.masks, component, first, rows);
        Self { inputs, shape, first, masks, mask_len: spec.mask_len(component), polynomials, products: product(inputs) }
    }

    /// Adds the linear part of rows from number `row` of the chunk to their noise.
    fn add(&self, row: usize, bodies: &mut GrVec<W, D>) {
        let (shares, row_len) = (W::shares(self.inputs.secrets), self.inputs.chunk.row_len);
        if let Shape::KeySwitch { from, to, base_log, levels } = self.shape {
            for index in 0..bodies.len() {
                let mask = self.mask(row + index);
                let (i, shift) = gadget::<W>(self.first + row + index, levels, base_log);
                let s = &shares.vectors[to];
                let product = Gr(core::array::from_fn(|c| dot(mask, s.coefficient(c))));
                bodies.set(index, bodies.get(index) + product + shares.vectors[from].get(i).scale(shift));
            }
            return;
        }
        let n = row_len;
        let masks: Vec<&[W]> = self.mask(row).chunks_exact(n).collect();
        let polynomials: Vec<&SharePoly<W, D>> = self.polynomials.iter().collect();
        add_products(&masks, &polynomials, bodies);
        match self.shape {
            Shape::Packing { from, base_log, levels, .. } => {
                let (i, shift) = gadget::<W>(self.first + row, levels, base_log);
                bodies.set(0, bodies.get(0) + shares.vectors[from].get(i).scale(shift));
            }
            Shape::Bootstrap { from, base_log, levels, .. } => {
                let k = polynomials.len();
                let (index, r) = ((self.first + row) / (k + 1), (self.first + row) % (k + 1));
                let (i, shift) = gadget::<W>(index, levels, base_log);
                if r == k {
                    bodies.set(0, bodies.get(0) + shares.vectors[from].get(i).scale(shift));
                } else {
                    for c in 0..D {
                        let products = &self.products.coefficient(c)[r * n..(r + 1) * n];
                        for (body, product) in bodies.coefficient_mut(c).iter_mut().zip(products) {
                            *body = body.minus(product.times(shift));
                        }
                    }
                }
            }
            Shape::CompactPublic { .. } | Shape::KeySwitch { .. } => {}
        }
    }

    fn mask(&self, row: usize) -> &[W] {
        &self.masks[row * self.mask_len..(row + 1) * self.mask_len]
    }
}

/// Which bit row (i, q) is about, and 2^(w − base·l), l = L − q.
fn gadget<W: Word>(row: usize, levels: usize, base_log: u32) -> (usize, W) {
    let level = (levels - row % levels) as u32;
    (row / levels, W::truncate(1 << (W::BITS - base_log * level)))
}

/// Shares of s_j·m; empty if the chunk has no products.
fn product<W: KeyWord, const D: usize>(inputs: &Inputs<'_, W, D>) -> GrVec<W, D> {
    let n = inputs.chunk.products;
    if n == 0 {
        return GrVec::zeros(0);
    }
    let triple = inputs.prss.triple::<W>(inputs.session, 0, 1 + 2 * n);
    let (y, rho) = (triple.get(0), inputs.masked[n]);
    let mut products = GrVec::zeros(n);
    for (j, (epsilon, d)) in inputs.masked.iter().zip(&inputs.opened.d).enumerate() {
        let public = Gr::constant(epsilon.times(rho).plus(*d));
        let secret = y.scale(*epsilon) + triple.get(1 + j).scale(rho) + triple.get(1 + n + j);
        products.set(j, public - secret);
    }
    products
}

/// Values of frames of degree t, and who was wrong; `None`: wait for more frames.
pub(super) fn decode<W: KeyWord, const D: usize>(
    codec: &Codec<W, D>,
    chunk: &Chunk,
    parts: &[usize],
    frames: &[(PartyId, Bytes)],
) -> Option<(Vec<W>, PartySet)> {
    let elements: Vec<usize> = parts.iter().map(|values| packing::packed_len::<D>(*values)).collect();
    let by_party: Vec<(PartyId, Vec<&[u8]>)> =
        frames.iter().map(|(party, frame)| (*party, split::<D>(chunk, &elements, frame).collect())).collect();
    let decoded: Vec<_> = parts
        .par_iter()
        .enumerate()
        .map(|(part, values)| {
            let shares: Vec<(PartyId, GrVec<W, D>)> =
                by_party.iter().map(|(party, frame)| (*party, read(frame[part]))).collect();
            let list: Vec<_> = shares.iter().map(|(party, share)| (*party, share)).collect();
            let decoded = codec.decode(&list).ok()?;
            Some((packing::unpack(&decoded.values, *values), decoded.culprits))
        })
        .collect::<Option<_>>()?;
    let culprits = decoded.iter().fold(PartySet::EMPTY, |all, (_, culprits)| all.union(*culprits));
    Some((decoded.into_iter().flat_map(|(values, _)| values).collect(), culprits))
}

/// The parts of a frame of the right length.
fn split<'a, const D: usize>(
    chunk: &Chunk,
    elements: &[usize],
    frame: &'a [u8],
) -> impl Iterator<Item = &'a [u8]> + use<'a, D> {
    let lengths: Vec<usize> = elements.iter().map(|elements| chunk.frame_bytes::<D>(*elements)).collect();
    let mut rest = frame;
    lengths.into_iter().map(move |len| {
        let (part, after) = rest.split_at(len);
        rest = after;
        part
    })
}

/// Words, little-endian.
pub(super) fn to_bytes<W: Word>(words: &[W]) -> Vec<u8> {
    let mut bytes = vec![0; words.len() * W::BYTES];
    bytes.chunks_exact_mut(W::BYTES).zip(words).for_each(|(bytes, word)| word.write_le(bytes));
    bytes
}

/// Words from bytes whose length is a multiple of theirs.
pub(super) fn words<W: Word>(bytes: &[u8]) -> Vec<W> {
    bytes.chunks_exact(W::BYTES).map(W::read_le).collect()
}

fn read<W: Word, const D: usize>(bytes: &[u8]) -> GrVec<W, D> {
    GrVec::from_words(words(bytes)).unwrap_or_else(|| GrVec::zeros(0))
}

fn concat<'a>(parts: impl Iterator<Item = &'a Vec<u8>> + Clone) -> Bytes {
    let mut bytes = BytesMut::with_capacity(parts.clone().map(Vec::len).sum());
    parts.for_each(|part| bytes.extend_from_slice(part));
    bytes.freeze()
}

fn dot<W: Word>(a: &[W], b: &[W]) -> W {
    a.iter().zip(b).fold(W::ZERO, |sum, (a, b)| sum.plus(a.times(*b)))
}

fn add<W: Word, const D: usize>(to: &mut GrVec<W, D>, what: &GrVec<W, D>) {
    for c in 0..D {
        to.coefficient_mut(c).iter_mut().zip(what.coefficient(c)).for_each(|(to, what)| *to = to.plus(*what));
    }
}

fn slice<W: Word, const D: usize>(vector: &GrVec<W, D>, first: usize, len: usize) -> GrVec<W, D> {
    let mut out = GrVec::zeros(len);
    for c in 0..D {
        out.coefficient_mut(c).copy_from_slice(&vector.coefficient(c)[first..first + len]);
    }
    out
}

pub(super) fn join<W: Word, const D: usize>(parts: &[GrVec<W, D>]) -> GrVec<W, D> {
    let mut out = GrVec::zeros(parts.iter().map(GrVec::len).sum());
    for c in 0..D {
        let mut rest = out.coefficient_mut(c);
        for part in parts {
            let (head, tail) = rest.split_at_mut(part.len());
            head.copy_from_slice(part.coefficient(c));
            rest = tail;
        }
    }
    out
}
