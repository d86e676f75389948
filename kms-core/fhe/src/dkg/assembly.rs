//! tfhe's key set of a seed and opened bodies.

use std::io::{self, Read};

use kms_algebra::Word;
use kms_encoding::ParamsId;
use kms_encoding::key_spec::KeySpec;
use tfhe::core_crypto::prelude::{
    CiphertextModulus, LweDimension, SeededLweBootstrapKeyOwned, SeededLweCompactPublicKeyOwned,
    SeededLweKeyswitchKeyOwned, SeededLwePackingKeyswitchKeyOwned,
};
use tfhe::integer::ciphertext::CompressedNoiseSquashingCompressionKey;
use tfhe::integer::compression_keys::{CompressedCompressionKey, CompressedDecompressionKey};
use tfhe::integer::key_switching_key::CompressedKeySwitchingKeyMaterial;
use tfhe::integer::noise_squashing::CompressedNoiseSquashingKey;
use tfhe::shortint::atomic_pattern::compressed::{
    CompressedAtomicPatternServerKey, CompressedStandardAtomicPatternServerKey,
};
use tfhe::shortint::ciphertext::MaxDegree;
use tfhe::shortint::key_switching_key::KeySwitchingKeyDestinationAtomicPattern;
use tfhe::shortint::noise_squashing::CompressedShortint128BootstrappingKey;
use tfhe::shortint::noise_squashing::atomic_pattern::compressed::CompressedAtomicPatternNoiseSquashingKey;
use tfhe::shortint::noise_squashing::atomic_pattern::compressed::standard::CompressedStandardAtomicPatternNoiseSquashingKey;
use tfhe::shortint::server_key::{CompressedModulusSwitchConfiguration, ShortintCompressedBootstrappingKey};
use tfhe::xof_key_set::CompressedXofKeySet;
use tfhe::{CompressedCompactPublicKey, CompressedServerKey, Tag, integer, shortint};

use super::masks::Stream;
use super::spec::{Part, key_spec, parts};
use crate::FormatError;
use crate::keygen::PublicKeySet;
use crate::params::{BLOCK_MODULUS, Numbers, numbers};

/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;

/// Why bodies are not those of a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssemblyError {
    /// They can't be read.
    #[error("reading the bodies of the {component}: {source}")]
    Read {
        /// Of which component.
        component: &'static str,
        /// Why.
        source: io::Error,
    },
    /// There are fewer or more.
    #[error("the bodies of the {component} have not {expected} bytes")]
    Size {
        /// Of which component.
        component: &'static str,
        /// How many there should be.
        expected: usize,
    },
    /// tfhe refuses the finished key.
    #[error("the finished key: {0}")]
    Key(#[from] FormatError),
}

/// Puts a key together from the seed of its masks and its opened bodies. Equal input gives a key with equal bytes.
///
/// `bodies` opens the bodies of a component of [`key_spec`]: its words, little endian, in the order of the spec and nothing
/// behind them. The key is kept in memory (300 MB with production parameters, 480 MB with compression); of the bodies only a
/// buffer.
///
/// That the bodies *belong* to one secret key can't be seen here: it follows from how they were opened.
///
/// # Errors
/// Bodies are missing, or too many.
pub fn assemble<R: Read>(
    params: ParamsId,
    with_compression: bool,
    seed: &[u8; 32],
    bodies: impl FnMut(usize) -> io::Result<R>,
) -> Result<PublicKeySet, AssemblyError> {
    let spec = key_spec(params, with_compression);
    let stream = Stream::new(&spec, seed);
    let order: Vec<_> = parts(with_compression).collect();
    let mut parts = Parts { stream, spec, order, numbers: numbers(params), bodies };
    let public_key = parts.public_key()?;
    // In the order of the components, so that the bodies are read front to back.
    let (compression, decompression) =
        if with_compression { (Some(parts.compression()?), Some(parts.decompression()?)) } else { (None, None) };
    let compute = parts.compute()?;
    let squashing = parts.squashing()?;
    let casting = parts.casting()?;
    let squashed_compression = if with_compression { Some(parts.squashed_compression()?) } else { None };
    let server_key = CompressedServerKey::from_raw_parts(
        compute,
        Some(casting),
        compression,
        decompression,
        Some(squashing),
        squashed_compression,
        None,
        None,
        None,
        Tag::default(),
    );
    let keyset = CompressedXofKeySet::from_raw_parts(parts.stream.seed(), public_key, server_key);
    Ok(PublicKeySet::new(params, keyset)?)
}

struct Parts<F> {
    numbers: Numbers,
    spec: KeySpec,
    order: Vec<Part>,
    stream: Stream,
    bodies: F,
}

impl<R: Read, F: FnMut(usize) -> io::Result<R>> Parts<F> {
    fn index(&self, part: Part) -> usize {
        self.order.iter().position(|p| *p == part).expect("asked only for parts that the key has")
    }

    /// All bodies of a component.
    fn words<W: Word>(&mut self, part: Part) -> Result<Vec<W>, AssemblyError> {
        let index = self.index(part);
        let component = self.spec.components[index].name;
        let expected = self.spec.body_bytes(index);
        let failed = |source| AssemblyError::Read { component, source };
        let mut reader = (self.bodies)(index).map_err(failed)?;
        let mut words = Vec::with_capacity(expected / W::BYTES);
        let mut buffer = vec![0; BUFFER.min(expected)];
        let mut left = expected;
        while left > 0 {
            let piece = &mut buffer[..left.min(BUFFER)];
            reader.read_exact(piece).map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => AssemblyError::Size { component, expected },
                _ => failed(e),
            })?;
            words.extend(piece.chunks_exact(W::BYTES).map(W::read_le));
            left -= piece.len();
        }
        match io::copy(&mut reader.take(1), &mut io::sink()).map_err(failed)? {
            0 => Ok(words),
            _ => Err(AssemblyError::Size { component, expected }),
        }
    }

    fn public_key(&mut self) -> Result<CompressedCompactPublicKey, AssemblyError> {
        let part = Part::PublicKey;
        let pke = self.numbers.pke;
        let seed = self.stream.component_seed(self.index(part));
        let key = SeededLweCompactPublicKeyOwned::from_container(self.words(part)?, seed, pke.ciphertext_modulus);
        let key = shortint::CompressedCompactPublicKey::from_raw_parts(key, pke);
        let key = integer::CompressedCompactPublicKey::from_raw_parts(key);
        Ok(CompressedCompactPublicKey::from_raw_parts(key, Tag::default()))
    }

    fn compression(&mut self) -> Result<CompressedCompressionKey, AssemblyError> {
        let part = Part::Compression;
        let p = self.numbers.compression;
        let seed = self.stream.component_seed(self.index(part));
        let key = SeededLwePackingKeyswitchKeyOwned::from_container(
            self.words(part)?,
            p.packing_ks_base_log,
            p.packing_ks_level,
            p.packing_ks_glwe_dimension.to_glwe_size(),
            p.packing_ks_polynomial_size,
            seed,
            self.numbers.compute.ciphertext_modulus,
        );
        Ok(CompressedCompressionKey::from_raw_parts(shortint::list_compression::CompressedCompressionKey {
            packing_key_switching_key: key,
            lwe_per_glwe: p.lwe_per_glwe,
            storage_log_modulus: p.storage_log_modulus,
        }))
    }

    fn decompression(&mut self) -> Result<CompressedDecompressionKey, AssemblyError> {
        let part = Part::Decompression;
        let (p, compute) = (self.numbers.compression, self.numbers.compute);
        let seed = self.stream.component_seed(self.index(part));
        let bsk = SeededLweBootstrapKeyOwned::from_container(
            self.words(part)?,
            compute.glwe_dimension.to_glwe_size(),
            compute.polynomial_size,
            p.br_base_log,
            p.br_level,
            seed,
            compute.ciphertext_modulus,
        );
        let key = ShortintCompressedBootstrappingKey::Classic {
            bsk,
            modulus_switch_noise_reduction_key: CompressedModulusSwitchConfiguration::Standard,
        };
        let key = shortint::list_compression::CompressedDecompressionKey::from_raw_parts(key, p.lwe_per_glwe);
        Ok(CompressedDecompressionKey::from_raw_parts(key))
    }

    fn compute(&mut self) -> Result<integer::CompressedServerKey, AssemblyError> {
        let p = self.numbers.compute;
        let seed = self.stream.component_seed(self.index(Part::KeySwitching));
        let ksk = SeededLweKeyswitchKeyOwned::from_container(
            self.words(Part::KeySwitching)?,
            p.ks_base_log,
            p.ks_level,
            p.lwe_dimension.to_lwe_size(),
            seed,
            p.ciphertext_modulus,
        );
        let seed = self.stream.component_seed(self.index(Part::Bootstrapping));
        let bsk = SeededLweBootstrapKeyOwned::from_container(
            self.words(Part::Bootstrapping)?,
            p.glwe_dimension.to_glwe_size(),
            p.polynomial_size,
            p.pbs_base_log,
            p.pbs_level,
            seed,
            p.ciphertext_modulus,
        );
        let bsk = ShortintCompressedBootstrappingKey::Classic {
            bsk,
            modulus_switch_noise_reduction_key: CompressedModulusSwitchConfiguration::CenteredMeanNoiseReduction,
        };
        let key = CompressedStandardAtomicPatternServerKey::from_raw_parts(ksk, bsk, p.encryption_key_choice.into());
        // As tfhe's own radix keys have it: the largest degree that leaves room to propagate a carry.
        let max_degree = MaxDegree::new(BLOCK_MODULUS * BLOCK_MODULUS - 1 - (BLOCK_MODULUS - 1));
        let key = shortint::CompressedServerKey::from_raw_parts(
            CompressedAtomicPatternServerKey::Standard(key),
            p.message_modulus,
            p.carry_modulus,
            max_degree,
            p.max_noise_level,
        );
        Ok(integer::CompressedServerKey::from_raw_parts(key))
    }

    fn squashing(&mut self) -> Result<CompressedNoiseSquashingKey, AssemblyError> {
        let part = Part::Squashing;
        let p = self.numbers.squashing;
        let seed = self.stream.component_seed(self.index(part));
        let bsk = SeededLweBootstrapKeyOwned::from_container(
            self.words(part)?,
            p.glwe_dimension.to_glwe_size(),
            p.polynomial_size,
            p.decomp_base_log,
            p.decomp_level_count,
            seed,
            p.ciphertext_modulus,
        );
        let key = CompressedStandardAtomicPatternNoiseSquashingKey::from_raw_parts(
            CompressedShortint128BootstrappingKey::Classic {
                bsk,
                modulus_switch_noise_reduction_key: CompressedModulusSwitchConfiguration::CenteredMeanNoiseReduction,
            },
        );
        let key = shortint::noise_squashing::CompressedNoiseSquashingKey::from_raw_parts(
            CompressedAtomicPatternNoiseSquashingKey::Standard(key),
            p.message_modulus,
            p.carry_modulus,
            p.ciphertext_modulus,
        );
        Ok(CompressedNoiseSquashingKey::from_raw_parts(key))
    }

    fn casting(&mut self) -> Result<CompressedKeySwitchingKeyMaterial, AssemblyError> {
        let part = Part::Casting;
        let p = self.numbers.cast;
        let index = self.index(part);
        let seed = self.stream.component_seed(index);
        let ksk = SeededLweKeyswitchKeyOwned::from_container(
            self.words(part)?,
            p.ks_base_log,
            p.ks_level,
            LweDimension(self.spec.mask_len(index)).to_lwe_size(),
            seed,
            CiphertextModulus::new_native(),
        );
        let key = shortint::key_switching_key::CompressedKeySwitchingKeyMaterial::from_raw_parts(
            ksk,
            0,
            p.destination_key,
            KeySwitchingKeyDestinationAtomicPattern::Standard,
        );
        Ok(CompressedKeySwitchingKeyMaterial::from_raw_parts(key))
    }

    fn squashed_compression(&mut self) -> Result<CompressedNoiseSquashingCompressionKey, AssemblyError> {
        let part = Part::SquashedCompression;
        let p = self.numbers.squashed_compression;
        let seed = self.stream.component_seed(self.index(part));
        let key = SeededLwePackingKeyswitchKeyOwned::from_container(
            self.words(part)?,
            p.packing_ks_base_log,
            p.packing_ks_level,
            p.packing_ks_glwe_dimension.to_glwe_size(),
            p.packing_ks_polynomial_size,
            seed,
            p.ciphertext_modulus,
        );
        let key =
            shortint::list_compression::CompressedNoiseSquashingCompressionKey::from_raw_parts(key, p.lwe_per_glwe);
        Ok(CompressedNoiseSquashingCompressionKey::from_raw_parts(key))
    }
}
