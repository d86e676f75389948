//! A key as a key generation makes it, written down a second time and in the simplest way.

use std::path::Path;
use std::sync::OnceLock;

use kms_algebra::Word;
use kms_encoding::key_spec::{KeySpec, Masks, Shape, Width};
use kms_encoding::{FheType, LweBlocks, SecretKeyKind, decode};
use kms_fhe::crs::{self, Crs};
use kms_fhe::dkg::{XofMasks, assemble, key_spec, shared_secrets};
use kms_fhe::{KeyInfo, bundle};
use kms_mpc::Committee;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use crate::fixture::PARAMS;

pub(crate) const SEED: [u8; 32] = [0xc3; 32];

/// Everything about a key.
pub(crate) struct Key {
    pub(crate) with_compression: bool,
    pub(crate) spec: KeySpec,
    pub(crate) secrets: Vec<Vec<u128>>,
    /// By component, sign-extended.
    pub(crate) noise: Vec<Vec<u128>>,
    /// By component, as assembly takes them.
    pub(crate) bodies: Vec<Vec<u8>>,
}

impl Key {
    pub(crate) fn new(with_compression: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(7);
        let spec = key_spec(PARAMS, with_compression);
        let secrets: Vec<Vec<u128>> =
            spec.secrets.iter().map(|s| (0..s.bits).map(|_| u128::from(rng.random::<bool>())).collect()).collect();
        let noise: Vec<Vec<u128>> = (0..spec.components.len())
            .map(|c| {
                let b = spec.components[c].noise;
                // TUniform(b) of b + 2 bits.
                let mut sample = || {
                    let high: u128 = rng.random_range(0..1 << (b + 1));
                    (high + u128::from(rng.random::<bool>())).wrapping_sub(1 << b)
                };
                (0..spec.rows(c) * spec.row_len(c)).map(|_| sample()).collect()
            })
            .collect();
        let masks = XofMasks::new(&spec, &SEED);
        let bodies = (0..spec.components.len())
            .map(|c| match spec.components[c].width {
                Width::W64 => {
                    let masks = masks.words64(c, 0, spec.rows(c));
                    to_bytes(&Inputs::<u64>::new(&spec, c, &secrets, &noise[c]).bodies(&spec, c, &masks))
                }
                Width::W128 => {
                    let masks = masks.words128(c, 0, spec.rows(c));
                    to_bytes(&Inputs::<u128>::new(&spec, c, &secrets, &noise[c]).bodies(&spec, c, &masks))
                }
            })
            .collect();
        Self { with_compression, spec, secrets, noise, bodies }
    }

    /// The bundle of these bodies.
    pub(crate) fn write(&self, bodies: &[Vec<u8>]) -> (TempDir, KeyInfo) {
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let folder = TempDir::new_in(tmp).unwrap();
        let keys = assemble(PARAMS, self.with_compression, &SEED, |c| Ok(&bodies[c][..])).unwrap();
        assert_eq!((keys.params(), keys.has_compression()), (PARAMS, self.with_compression));
        // Checking it takes longer than everything else here.
        static CRS: OnceLock<Crs> = OnceLock::new();
        let crs = CRS.get_or_init(|| crs::load_or_make_insecure(PARAMS, Some(tmp)).unwrap());
        let info = bundle::write(folder.path(), &keys, crs, [7; 32]).unwrap();
        (folder, info)
    }

    /// The secret that opens blocks of this kind.
    pub(crate) fn opening(&self, kind: SecretKeyKind) -> &[u128] {
        let (_, at) = shared_secrets(self.with_compression).find(|(k, _)| *k == kind).unwrap();
        &self.secrets[at]
    }

    /// The value of blocks, if their noise is as small as it must be.
    pub(crate) fn open(&self, ty: FheType, blocks: &LweBlocks) -> Option<u64> {
        let key = self.opening(blocks.key());
        let phase = |(a, b): (&[u128], u128)| b.minus(dot(a, key));
        let mut opened: Vec<u128> = blocks.iter().map(phase).collect();
        let value = decode(ty, &mut opened, Committee::new(4, 1).unwrap().flood_bound()).ok()?;
        Some(u64::from_be_bytes(value.value().0[24..].try_into().unwrap()))
    }
}

/// What the bodies of a component are linear in: a secret key, or one coefficient of a party's shares of one.
pub(crate) struct Inputs<W> {
    pub(crate) from: Vec<W>,
    pub(crate) to: Vec<W>,
    /// from\[i\]·to\[r\], i-major; only for GGSWs.
    pub(crate) products: Vec<W>,
    pub(crate) noise: Vec<W>,
}

impl<W: Word> Inputs<W> {
    pub(crate) fn new(spec: &KeySpec, component: usize, secrets: &[Vec<u128>], noise: &[u128]) -> Self {
        let (from, to) = keys(&spec.components[component].shape);
        let (from, to): (Vec<W>, Vec<W>) = (truncate(&secrets[from]), truncate(&secrets[to]));
        let products = match spec.components[component].shape {
            Shape::Bootstrap { .. } => from.iter().flat_map(|x| to.iter().map(|y| x.times(*y))).collect(),
            _ => Vec::new(),
        };
        Self { from, to, products, noise: truncate(noise) }
    }

    /// All bodies of a component, by the formulas of its shape.
    pub(crate) fn bodies(&self, spec: &KeySpec, component: usize, masks: &[W]) -> Vec<W> {
        let (row_len, mask_len) = (spec.row_len(component), spec.mask_len(component));
        let mut bodies = self.noise.clone();
        for (row, (body, mask)) in bodies.chunks_mut(row_len).zip(masks.chunks(mask_len)).enumerate() {
            match spec.components[component].shape {
                Shape::CompactPublic { .. } => {
                    let reversed: Vec<W> = self.to.iter().rev().copied().collect();
                    add_product(body, mask, &reversed);
                }
                Shape::KeySwitch { base_log, levels, .. } => {
                    body[0] = body[0].plus(dot(mask, &self.to));
                    self.add_message(body, row / levels, base_log, levels - row % levels);
                }
                Shape::Packing { polynomial, base_log, levels, .. } => {
                    add_products(body, mask, &self.to, polynomial);
                    self.add_message(body, row / levels, base_log, levels - row % levels);
                }
                Shape::Bootstrap { polynomial, base_log, levels, .. } => {
                    add_products(body, mask, &self.to, polynomial);
                    let k = self.to.len() / polynomial;
                    let (ggsw, r) = (row / (k + 1), row % (k + 1));
                    let (i, level) = (ggsw / levels, levels - ggsw % levels);
                    if r == k {
                        self.add_message(body, i, base_log, level);
                    } else {
                        let products = &self.products[(i * k + r) * polynomial..][..polynomial];
                        for (body, product) in body.iter_mut().zip(products) {
                            *body = body.minus(product.times(gadget(base_log, level)));
                        }
                    }
                }
            }
        }
        bodies
    }

    fn add_message(&self, body: &mut [W], i: usize, base_log: u32, level: usize) {
        body[0] = body[0].plus(self.from[i].times(gadget(base_log, level)));
    }
}

/// Positions of the two secrets of a component.
pub(crate) fn keys(shape: &Shape) -> (usize, usize) {
    match *shape {
        Shape::CompactPublic { secret } => (secret, secret),
        Shape::KeySwitch { from, to, .. } | Shape::Packing { from, to, .. } | Shape::Bootstrap { from, to, .. } => {
            (from, to)
        }
    }
}

/// 2^(w − base·level).
fn gadget<W: Word>(base_log: u32, level: usize) -> W {
    W::truncate(1 << (W::BITS - base_log * level as u32))
}

pub(crate) fn truncate<W: Word>(words: &[u128]) -> Vec<W> {
    words.iter().map(|word| W::truncate(*word)).collect()
}

pub(crate) fn to_bytes<W: Word>(words: &[W]) -> Vec<u8> {
    let mut bytes = vec![0; words.len() * W::BYTES];
    words.iter().zip(bytes.chunks_mut(W::BYTES)).for_each(|(word, bytes)| word.write_le(bytes));
    bytes
}

fn dot<W: Word>(a: &[W], b: &[W]) -> W {
    a.iter().zip(b).fold(W::ZERO, |sum, (x, y)| sum.plus(x.times(*y)))
}

/// out += Σ_j a_j·b_j mod X^N + 1.
fn add_products<W: Word>(out: &mut [W], a: &[W], b: &[W], polynomial: usize) {
    for (a, b) in a.chunks(polynomial).zip(b.chunks(polynomial)) {
        add_product(out, a, b);
    }
}

fn add_product<W: Word>(out: &mut [W], a: &[W], b: &[W]) {
    let size = out.len();
    for (i, x) in a.iter().enumerate() {
        let (straight, wrapped) = b.split_at(size - i);
        for (out, y) in out[i..].iter_mut().zip(straight) {
            *out = out.plus(x.times(*y));
        }
        for (out, y) in out[..i].iter_mut().zip(wrapped) {
            *out = out.minus(x.times(*y));
        }
    }
}
