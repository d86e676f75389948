//! Parameter sets.

use kms_encoding::ParamsId;
use tfhe::core_crypto::prelude::CiphertextModulusLog;
use tfhe::shortint::parameters::current_params::meta::cpu::V1_8_META_PARAM_CPU_2_2_KS_PBS_PKE_TO_SMALL_ZKV2_TUNIFORM_2M128 as PRODUCTION;
use tfhe::shortint::parameters::list_compression::ClassicCompressionParameters;
use tfhe::shortint::parameters::meta::{DedicatedCompactPublicKeyParameters, MetaParameters};
use tfhe::shortint::parameters::noise_squashing::NoiseSquashingClassicParameters;
use tfhe::shortint::parameters::{
    Backend, CarryModulus, CiphertextModulus, CompactCiphertextListExpansionKind, CompactPublicKeyEncryptionParameters,
    CompressionParameters, CoreCiphertextModulus, DecompositionBaseLog, DecompositionLevelCount, DynamicDistribution,
    EncryptionKeyChoice, GlweDimension, LweCiphertextCount, LweDimension, MaxNoiseLevel, MessageModulus,
    MetaNoiseSquashingParameters, ModulusSwitchType, NoiseSquashingCompressionParameters, NoiseSquashingParameters,
    PolynomialSize, ShortintKeySwitchingParameters, SupportedCompactPkeZkScheme,
};
use tfhe::shortint::{AtomicPatternParameters, ClassicPBSParameters, PBSParameters};

/// Message modulus and carry modulus of a block, in both sets.
pub(crate) const BLOCK_MODULUS: u64 = 4;

/// The numbers of a set.
pub(crate) struct Numbers {
    pub(crate) compute: ClassicPBSParameters,
    pub(crate) pke: CompactPublicKeyEncryptionParameters,
    pub(crate) cast: ShortintKeySwitchingParameters,
    pub(crate) squashing: NoiseSquashingClassicParameters,
    /// Of ciphertexts that one can compute on.
    pub(crate) compression: ClassicCompressionParameters,
    /// Of squashed ciphertexts.
    pub(crate) squashed_compression: NoiseSquashingCompressionParameters,
    /// Bits that one proof can cover.
    pub(crate) crs_bits: usize,
}

/// The numbers of the set with this id.
pub(crate) fn numbers(id: ParamsId) -> Numbers {
    match id {
        ParamsId::Production => production(),
        ParamsId::InsecureTest => insecure_test(),
    }
}

/// tfhe-rs's default 2_2 TUniform set with failure probability at most 2^-128, without the keys that nothing here uses
/// (re-randomisation, OPRF, transciphering).
fn production() -> Numbers {
    from_meta(&PRODUCTION, 2048).expect("tfhe's own set has all parts")
}

fn from_meta(meta: &MetaParameters, crs_bits: usize) -> Option<Numbers> {
    let AtomicPatternParameters::Standard(PBSParameters::PBS(compute)) = meta.compute_parameters else { return None };
    let pke = meta.dedicated_compact_public_key_parameters?;
    let CompressionParameters::Classic(compression) = meta.compression_parameters? else { return None };
    let wide = meta.noise_squashing_parameters?;
    let NoiseSquashingParameters::Classic(squashing) = wide.parameters else { return None };
    Some(Numbers {
        compute,
        pke: pke.pke_params,
        cast: pke.ksk_params,
        squashing,
        compression,
        squashed_compression: wide.compression_parameters?,
        crs_bits,
    })
}

/// Numbers without any security: no noise worth the name, dimensions of a toy. Everything works on them, in milliseconds.
///
/// LWE 16, GLWE 1×256, squashing GLWE 1×256, compact PKE 256, TUniform(0); key switch 2^16×1, bootstrap 2^23×1, squashing
/// 2^33×2; compression 1×64, 2^8×2, 9 bits stored; squashed compression 3×128, so that its LWE dimension (384) differs from
/// the squashing key's (256).
fn insecure_test() -> Numbers {
    let noise = DynamicDistribution::new_t_uniform(0);
    let wide_noise = DynamicDistribution::<u128>::new_t_uniform(0);
    let meta = MetaParameters {
        backend: Backend::Cpu,
        compute_parameters: AtomicPatternParameters::Standard(PBSParameters::PBS(ClassicPBSParameters {
            lwe_dimension: LweDimension(16),
            glwe_dimension: GlweDimension(1),
            polynomial_size: PolynomialSize(256),
            lwe_noise_distribution: noise,
            glwe_noise_distribution: noise,
            pbs_base_log: DecompositionBaseLog(23),
            pbs_level: DecompositionLevelCount(1),
            ks_base_log: DecompositionBaseLog(16),
            ks_level: DecompositionLevelCount(1),
            message_modulus: MessageModulus(BLOCK_MODULUS),
            carry_modulus: CarryModulus(BLOCK_MODULUS),
            max_noise_level: MaxNoiseLevel::new(5),
            log2_p_fail: -40.0,
            ciphertext_modulus: CiphertextModulus::new_native(),
            encryption_key_choice: EncryptionKeyChoice::Big,
            modulus_switch_noise_reduction_params: ModulusSwitchType::CenteredMeanNoiseReduction,
        })),
        dedicated_compact_public_key_parameters: Some(DedicatedCompactPublicKeyParameters {
            pke_params: CompactPublicKeyEncryptionParameters {
                encryption_lwe_dimension: LweDimension(256),
                encryption_noise_distribution: noise,
                message_modulus: MessageModulus(BLOCK_MODULUS),
                carry_modulus: CarryModulus(BLOCK_MODULUS),
                ciphertext_modulus: CiphertextModulus::new_native(),
                expansion_kind: CompactCiphertextListExpansionKind::RequiresCasting,
                zk_scheme: SupportedCompactPkeZkScheme::V2,
            },
            ksk_params: ShortintKeySwitchingParameters {
                ks_level: DecompositionLevelCount(1),
                ks_base_log: DecompositionBaseLog(16),
                destination_key: EncryptionKeyChoice::Small,
            },
            re_randomization_parameters: None,
        }),
        compression_parameters: Some(CompressionParameters::Classic(ClassicCompressionParameters {
            br_level: DecompositionLevelCount(1),
            br_base_log: DecompositionBaseLog(23),
            packing_ks_level: DecompositionLevelCount(2),
            packing_ks_base_log: DecompositionBaseLog(8),
            packing_ks_polynomial_size: PolynomialSize(64),
            packing_ks_glwe_dimension: GlweDimension(1),
            lwe_per_glwe: LweCiphertextCount(64),
            storage_log_modulus: CiphertextModulusLog(9),
            packing_ks_key_noise_distribution: noise,
        })),
        noise_squashing_parameters: Some(MetaNoiseSquashingParameters {
            parameters: NoiseSquashingParameters::Classic(NoiseSquashingClassicParameters {
                glwe_dimension: GlweDimension(1),
                polynomial_size: PolynomialSize(256),
                glwe_noise_distribution: wide_noise,
                decomp_base_log: DecompositionBaseLog(33),
                decomp_level_count: DecompositionLevelCount(2),
                modulus_switch_noise_reduction_params: ModulusSwitchType::CenteredMeanNoiseReduction,
                message_modulus: MessageModulus(BLOCK_MODULUS),
                carry_modulus: CarryModulus(BLOCK_MODULUS),
                ciphertext_modulus: CoreCiphertextModulus::<u128>::new_native(),
            }),
            compression_parameters: Some(NoiseSquashingCompressionParameters {
                packing_ks_level: DecompositionLevelCount(1),
                packing_ks_base_log: DecompositionBaseLog(61),
                packing_ks_polynomial_size: PolynomialSize(128),
                packing_ks_glwe_dimension: GlweDimension(3),
                lwe_per_glwe: LweCiphertextCount(128),
                packing_ks_key_noise_distribution: wide_noise,
                ciphertext_modulus: CoreCiphertextModulus::<u128>::new_native(),
                message_modulus: MessageModulus(BLOCK_MODULUS),
                carry_modulus: CarryModulus(BLOCK_MODULUS),
            }),
        }),
        rerand_configuration: None,
        transciphering_parameters: None,
    };
    from_meta(&meta, 512).expect("all parts are written above")
}

/// tfhe's configuration: compute key, compact public key and squashing key; if asked for also compression of ciphertexts
/// that one can compute on, and of squashed ones.
pub(crate) fn config(id: ParamsId, with_compression: bool) -> tfhe::Config {
    let n = numbers(id);
    let builder = tfhe::ConfigBuilder::with_custom_parameters(PBSParameters::PBS(n.compute))
        .use_dedicated_compact_public_key_parameters((n.pke, n.cast))
        .use_dedicated_oprf_key(false)
        .enable_noise_squashing(NoiseSquashingParameters::Classic(n.squashing));
    if !with_compression {
        return builder.build();
    }
    builder
        .enable_compression(CompressionParameters::Classic(n.compression))
        .enable_noise_squashing_compression(n.squashed_compression)
        .build()
}

/// Bits that the proof of one encrypted input can cover: 2,048, as many as a decryption request may have; with the test
/// parameters 512.
#[must_use]
pub fn input_bits(id: ParamsId) -> usize {
    numbers(id).crs_bits
}
