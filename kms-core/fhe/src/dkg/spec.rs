//! The numbers of a key.

use kms_encoding::key_spec::{Component, KeySpec, Secret, Shape, Width};
use kms_encoding::{ParamsId, SecretKeyKind};
use tfhe::core_crypto::prelude::{DecompositionBaseLog, DecompositionLevelCount, DynamicDistribution, UnsignedInteger};
use tfhe::shortint::EncryptionKeyChoice;

use crate::params::{Numbers, numbers};

// Positions of the secrets; the last two only with compression.
const PKE: usize = 0;
const LWE: usize = 1;
const GLWE: usize = 2;
const SQUASHING: usize = 3;
const COMPRESSION: usize = 4;
const SQUASHED_COMPRESSION: usize = 5;

/// Which part of tfhe's key a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    PublicKey,
    Compression,
    Decompression,
    KeySwitching,
    Bootstrapping,
    Squashing,
    Casting,
    SquashedCompression,
}

/// Parts in the order of tfhe's stream.
const ORDER: [Part; 8] = [
    Part::PublicKey,
    Part::Compression,
    Part::Decompression,
    Part::KeySwitching,
    Part::Bootstrapping,
    Part::Squashing,
    Part::Casting,
    Part::SquashedCompression,
];

/// The parts of a key, in the order of its components.
pub(super) fn parts(with_compression: bool) -> impl Iterator<Item = Part> {
    let optional = [Part::Compression, Part::Decompression, Part::SquashedCompression];
    ORDER.into_iter().filter(move |part| with_compression || !optional.contains(part))
}

/// What a key of this parameter set consists of: the keys to encrypt, compute, cast and squash with; with compression also
/// those to compress and decompress ciphertexts that one can compute on, and to compress squashed ones.
///
/// Secrets in the order pke, lwe, glwe, squashing [, compression, squashed compression].
#[must_use]
pub fn key_spec(params: ParamsId, with_compression: bool) -> KeySpec {
    let n = numbers(params);
    let mut secrets = vec![
        Secret { name: "pke", bits: n.pke.encryption_lwe_dimension.0 },
        Secret { name: "lwe", bits: n.compute.lwe_dimension.0 },
        Secret { name: "glwe", bits: n.compute.glwe_dimension.0 * n.compute.polynomial_size.0 },
        Secret { name: "squashing", bits: n.squashing.glwe_dimension.0 * n.squashing.polynomial_size.0 },
    ];
    if with_compression {
        let (narrow, wide) = (&n.compression, &n.squashed_compression);
        secrets.push(Secret {
            name: "compression",
            bits: narrow.packing_ks_glwe_dimension.0 * narrow.packing_ks_polynomial_size.0,
        });
        secrets.push(Secret {
            name: "squashed compression",
            bits: wide.packing_ks_glwe_dimension.0 * wide.packing_ks_polynomial_size.0,
        });
    }
    KeySpec { secrets, components: parts(with_compression).map(|part| component(part, &n)).collect() }
}

/// The secrets whose shares decrypt, and their positions in [`key_spec`]. The shares of the others are of no use once the
/// bodies are opened.
pub fn shared_secrets(with_compression: bool) -> impl Iterator<Item = (SecretKeyKind, usize)> {
    let all = [(SecretKeyKind::Squashing, SQUASHING), (SecretKeyKind::SquashedCompression, SQUASHED_COMPRESSION)];
    all.into_iter().take(if with_compression { 2 } else { 1 })
}

fn component(part: Part, n: &Numbers) -> Component {
    let (compute, squashing) = (&n.compute, &n.squashing);
    let (narrow, wide) = (&n.compression, &n.squashed_compression);
    // Noise under the key that ciphertexts of the bootstrapping have, and under the one that key switching leads to.
    let (big, small) = (noise(compute.glwe_noise_distribution), noise(compute.lwe_noise_distribution));
    match part {
        Part::PublicKey => Component {
            name: "compact public key",
            width: Width::W64,
            noise: noise(n.pke.encryption_noise_distribution),
            shape: Shape::CompactPublic { secret: PKE },
        },
        Part::Compression => Component {
            name: "compression key",
            width: Width::W64,
            noise: noise(narrow.packing_ks_key_noise_distribution),
            shape: packing(
                (GLWE, COMPRESSION),
                narrow.packing_ks_polynomial_size.0,
                (narrow.packing_ks_base_log, narrow.packing_ks_level),
            ),
        },
        Part::Decompression => Component {
            name: "decompression key",
            width: Width::W64,
            noise: big,
            shape: bootstrap((COMPRESSION, GLWE), compute.polynomial_size.0, (narrow.br_base_log, narrow.br_level)),
        },
        Part::KeySwitching => Component {
            name: "key-switching key",
            width: Width::W64,
            noise: small,
            shape: key_switch((GLWE, LWE), (compute.ks_base_log, compute.ks_level)),
        },
        Part::Bootstrapping => Component {
            name: "bootstrapping key",
            width: Width::W64,
            noise: big,
            shape: bootstrap((LWE, GLWE), compute.polynomial_size.0, (compute.pbs_base_log, compute.pbs_level)),
        },
        Part::Squashing => Component {
            name: "squashing key",
            width: Width::W128,
            noise: noise(squashing.glwe_noise_distribution),
            shape: bootstrap(
                (LWE, SQUASHING),
                squashing.polynomial_size.0,
                (squashing.decomp_base_log, squashing.decomp_level_count),
            ),
        },
        Part::Casting => {
            let (to, noise) = match n.cast.destination_key {
                EncryptionKeyChoice::Big => (GLWE, big),
                EncryptionKeyChoice::Small => (LWE, small),
            };
            Component {
                name: "casting key",
                width: Width::W64,
                noise,
                shape: key_switch((PKE, to), (n.cast.ks_base_log, n.cast.ks_level)),
            }
        }
        Part::SquashedCompression => Component {
            name: "squashed-compression key",
            width: Width::W128,
            noise: noise(wide.packing_ks_key_noise_distribution),
            shape: packing(
                (SQUASHING, SQUASHED_COMPRESSION),
                wide.packing_ks_polynomial_size.0,
                (wide.packing_ks_base_log, wide.packing_ks_level),
            ),
        },
    }
}

type Decomposition = (DecompositionBaseLog, DecompositionLevelCount);

fn key_switch((from, to): (usize, usize), (base, levels): Decomposition) -> Shape {
    Shape::KeySwitch { from, to, base_log: log(base), levels: levels.0 }
}

fn packing((from, to): (usize, usize), polynomial: usize, (base, levels): Decomposition) -> Shape {
    Shape::Packing { from, to, polynomial, base_log: log(base), levels: levels.0 }
}

fn bootstrap((from, to): (usize, usize), polynomial: usize, (base, levels): Decomposition) -> Shape {
    Shape::Bootstrap { from, to, polynomial, base_log: log(base), levels: levels.0 }
}

fn log(base: DecompositionBaseLog) -> u32 {
    // At most the width of a word.
    base.0 as u32
}

/// b of TUniform(b).
fn noise<W: UnsignedInteger>(distribution: DynamicDistribution<W>) -> u32 {
    match distribution {
        DynamicDistribution::TUniform(uniform) => uniform.bound_log2(),
        DynamicDistribution::Gaussian(_) => unreachable!("both parameter sets have TUniform noise"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples, bits of noise and products of secrets in all components.
    fn counts(spec: &KeySpec) -> (usize, usize, usize) {
        let samples = |c: usize| spec.rows(c) * spec.row_len(c);
        let bits = |c: usize| samples(c) * (spec.components[c].noise as usize + 2);
        let products = |c: usize| match spec.components[c].shape {
            Shape::Bootstrap { from, to, .. } => spec.secrets[from].bits * spec.secrets[to].bits,
            _ => 0,
        };
        let all = || 0..spec.components.len();
        (all().map(samples).sum(), all().map(bits).sum(), all().map(products).sum())
    }

    fn secret_bits(spec: &KeySpec) -> Vec<usize> {
        spec.secrets.iter().map(|secret| secret.bits).collect()
    }

    /// Counted once by a program that made whole keys of these parameters.
    #[test]
    fn production_keys_have_the_counts_that_were_measured() {
        let spec = key_spec(ParamsId::Production, false);
        assert_eq!(secret_bits(&spec), [2048, 918, 2048, 4096]);
        assert_eq!(counts(&spec), (20_699_136, 613_709_824, 5_640_192));
        let spec = key_spec(ParamsId::Production, true);
        assert_eq!(secret_bits(&spec), [2048, 918, 2048, 4096, 1024, 6144]);
        // That program also made a re-randomisation key: 2,048 samples of 19 bits.
        assert_eq!(counts(&spec), (34_856_960 - 2048, 806_162_432 - 38_912, 7_737_344));
        let squashing = spec.components.iter().position(|c| c.name == "squashing key").unwrap();
        assert_eq!(spec.body_bytes(squashing), 270_729_216);
        // One GGSW.
        assert_eq!(9 * spec.row_len(squashing), 18_432);
    }

    #[test]
    fn shared_secrets_have_the_dimensions_of_ciphertexts() {
        for params in [ParamsId::Production, ParamsId::InsecureTest] {
            for with_compression in [false, true] {
                let spec = key_spec(params, with_compression);
                let kinds: Vec<_> = shared_secrets(with_compression)
                    .map(|(kind, at)| {
                        assert_eq!(spec.secrets[at].bits, params.dimension(kind));
                        kind
                    })
                    .collect();
                assert_eq!(kinds.len(), 1 + usize::from(with_compression));
                assert_eq!(kinds[0], SecretKeyKind::Squashing);
            }
        }
    }
}
