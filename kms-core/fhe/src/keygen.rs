//! Whole keys, made by one machine.
//!
//! Only for a trusted dealer in development and for tests: whoever runs this knows the secret key. Distributed key
//! generation replaces it. The secret bits are erased as far as we can reach: copies that tfhe made inside (on the stack,
//! in freed buffers) stay until the memory is reused. That is one more reason why a dealt key is not a real one.

use kms_encoding::{FheType, LweBlocks, ParamsId, Plaintext, PlaintextError, SecretKeyKind, Word};
use rand::RngCore;
use tfhe::core_crypto::prelude::NormalizedHammingWeightBound;
use tfhe::shortint::client_key::atomic_pattern::AtomicPatternClientKey;
use tfhe::xof_key_set::CompressedXofKeySet;
use tfhe::{ClientKey, Tag};
use zeroize::{Zeroize, Zeroizing};

pub use crate::keyset::PublicKeySet;
use crate::keyset::SEED_BYTES;
use crate::params::config;

/// tfhe draws keys anew whose share of ones is above this or below its complement. With so wide a bound that never happens
/// to real ones (a deviation of 18 standard deviations in the shortest), and keys that nobody may look at are as good.
const HAMMING_WEIGHT: f64 = 0.8;
/// Size of the seeds, secret and public.
const SEED_BITS: u32 = 8 * SEED_BYTES as u32;

/// The bits, 0 or 1 each, of the secret keys that threshold decryption needs. Erased on drop.
pub struct SecretBits {
    params: ParamsId,
    squashing: Zeroizing<Vec<u8>>,
    compression: Option<Zeroizing<Vec<u8>>>,
}

impl std::fmt::Debug for SecretBits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretBits").field("params", &self.params).finish_non_exhaustive()
    }
}

impl SecretBits {
    /// The bits of one key; `None` if the key was made without it.
    #[must_use]
    pub fn bits(&self, kind: SecretKeyKind) -> Option<&[u8]> {
        match kind {
            SecretKeyKind::Squashing => Some(&self.squashing),
            SecretKeyKind::SquashedCompression => self.compression.as_ref().map(|bits| bits.as_slice()),
        }
    }

    /// Decrypts with the whole key: for tests that need to know a plaintext without running the protocol.
    ///
    /// `None` with a key of real parameters (an unflooded value of a real key is never opened), a missing key, or a
    /// wrong number of blocks.
    #[must_use]
    pub fn insecure_test_decrypt(&self, ty: FheType, blocks: &LweBlocks) -> Option<Result<Plaintext, PlaintextError>> {
        let bits = self.bits(blocks.key())?;
        if self.params != ParamsId::InsecureTest
            || bits.len() != blocks.dimension()
            || blocks.len() != ty.squashed_blocks()
        {
            return None;
        }
        let mut word = Word::ZERO;
        for (j, (mask, body)) in blocks.iter().enumerate() {
            let dot = mask.iter().zip(bits).fold(0u128, |sum, (a, s)| sum.wrapping_add(a.wrapping_mul((*s).into())));
            let m = body.wrapping_sub(dot).wrapping_add(1 << 122) >> 123;
            word.0[31 - j / 2] |= (m as u8 & 15) << (4 * (j % 2));
        }
        Some(Plaintext::new(ty, word))
    }
}

/// Makes a key. Seconds with test parameters, half a minute of two cores with production ones; the keys to compress with
/// double that.
///
/// # Panics
/// If tfhe refuses our own parameters.
#[must_use]
pub fn generate(params: ParamsId, with_compression: bool) -> (PublicKeySet, SecretBits) {
    let mut seed = vec![0; SEED_BYTES];
    rand::rng().fill_bytes(&mut seed);
    let bound = NormalizedHammingWeightBound::new(HAMMING_WEIGHT).expect("above one half, at most one");
    let (client, keyset) =
        CompressedXofKeySet::generate(config(params, with_compression), seed, SEED_BITS, bound, Tag::default())
            .expect("the configuration has a compact public key of its own");
    let public = PublicKeySet::new(params, keyset).expect("made for this configuration");
    (public, explode(client, params))
}

/// Takes a client key apart: keeps the bits that decrypt squashed ciphertexts, erases the rest.
fn explode(client: ClientKey, params: ParamsId) -> SecretBits {
    let (compute, pke, compression, squashing, squashed_compression, _, _, _, _) = client.into_raw_parts();
    if let AtomicPatternClientKey::Standard(standard) = compute.into_raw_parts().atomic_pattern {
        let (glwe, lwe, _, _) = standard.into_raw_parts();
        glwe.into_container().zeroize();
        lwe.into_container().zeroize();
    }
    if let Some((key, _)) = pke {
        key.into_raw_parts().into_raw_parts().0.into_container().zeroize();
    }
    if let Some(key) = compression {
        key.into_raw_parts().post_packing_ks_key.into_container().zeroize();
    }
    let narrow = |mut wide: Vec<u128>| {
        let bits = Zeroizing::new(wide.iter().map(|bit| u8::from(*bit == 1)).collect::<Vec<u8>>());
        wide.zeroize();
        bits
    };
    let squashing = squashing.expect("the configuration has noise squashing");
    SecretBits {
        params,
        squashing: narrow(squashing.into_raw_parts().into_raw_parts().0.into_container()),
        compression: squashed_compression.map(|key| narrow(key.into_raw_parts().into_raw_parts().0.into_container())),
    }
}
