//! Public masks from a seed, at any position and without the rest.

use kms_encoding::key_spec::{KeySpec, Masks, Width};
use rayon::prelude::*;
use tfhe::core_crypto::commons::generators::MaskRandomGenerator;
use tfhe::core_crypto::commons::math::random::{
    CompressionSeed, DefaultRandomGenerator, RandomGenerable, RandomGenerator, Uniform, XofSeed,
};
use tfhe::core_crypto::commons::parameters::EncryptionMaskByteCount;

use crate::keyset::{SEED_BYTES, SEPARATOR};

/// Words that one thread makes at once.
const PIECE: usize = 8192;

/// Where the masks of each component stand in the stream of a seed.
pub(super) struct Stream {
    seed: XofSeed,
    /// First byte of each component.
    starts: Vec<usize>,
}

impl Stream {
    pub(super) fn new(spec: &KeySpec, seed: &[u8; SEED_BYTES]) -> Self {
        let sizes =
            (0..spec.components.len()).map(|i| spec.rows(i) * spec.mask_len(i) * spec.components[i].width.bytes());
        let starts = sizes.scan(0, |next, size| Some(std::mem::replace(next, *next + size))).collect();
        Self { seed: XofSeed::new(seed.to_vec(), SEPARATOR), starts }
    }

    pub(super) fn seed(&self) -> XofSeed {
        self.seed.clone()
    }

    /// The seed that tfhe stores in a component of its own.
    pub(super) fn component_seed(&self, component: usize) -> CompressionSeed {
        let mut generator = MaskRandomGenerator::<DefaultRandomGenerator>::new(self.seed());
        // Skipping nothing is an error to tfhe.
        if self.starts[component] > 0 {
            generator.skip(EncryptionMaskByteCount(self.starts[component]));
        }
        generator.current_compression_seed()
    }

    /// Fills words with the stream from a byte on.
    fn fill<W: RandomGenerable<Uniform>>(&self, byte: usize, words: &mut [W]) {
        let mut generator = RandomGenerator::<DefaultRandomGenerator>::new(self.seed());
        if byte > 0 {
            // Forking moves the parent; nobody needs the child.
            drop(generator.try_fork(1, byte).expect("the stream has 2^128 blocks"));
        }
        generator.fill_slice_with_random_uniform(words);
    }
}

/// The public masks of a key. Holds the seed only; what is asked for is made then, on all threads of rayon's pool.
pub struct XofMasks {
    spec: KeySpec,
    stream: Stream,
}

impl std::fmt::Debug for XofMasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("XofMasks").field("seed", &hex::encode(self.stream.seed.seed())).finish_non_exhaustive()
    }
}

impl XofMasks {
    /// Masks of a key from the seed of its stream.
    #[must_use]
    pub fn new(spec: &KeySpec, seed: &[u8; SEED_BYTES]) -> Self {
        Self { spec: spec.clone(), stream: Stream::new(spec, seed) }
    }

    fn words<W>(&self, width: Width, component: usize, first: usize, rows: usize) -> Vec<W>
    where
        W: RandomGenerable<Uniform> + Default + Clone + Send,
    {
        assert_eq!(self.spec.components[component].width, width, "words of another width");
        assert!(first + rows <= self.spec.rows(component), "rows behind the last one");
        let row = self.spec.mask_len(component);
        let start = self.stream.starts[component] + first * row * width.bytes();
        let mut words = vec![W::default(); rows * row];
        words.par_chunks_mut(PIECE).enumerate().for_each(|(piece, words)| {
            self.stream.fill(start + piece * PIECE * width.bytes(), words);
        });
        words
    }
}

/// # Panics
/// Both functions panic if the words of the component have another width, or it has fewer rows.
impl Masks for XofMasks {
    fn words64(&self, component: usize, first: usize, rows: usize) -> Vec<u64> {
        self.words(Width::W64, component, first, rows)
    }

    fn words128(&self, component: usize, first: usize, rows: usize) -> Vec<u128> {
        self.words(Width::W128, component, first, rows)
    }
}
