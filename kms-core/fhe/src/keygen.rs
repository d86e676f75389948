//! Whole keys, made by one machine.
//!
//! Only for a trusted dealer in development and for tests: whoever runs this knows the secret key. Distributed key
//! generation replaces it. The secret bits are erased as far as we can reach: copies that tfhe made inside (on the stack,
//! in freed buffers) stay until the memory is reused. That is one more reason why a dealt key is not a real one.

use kms_encoding::{FheType, LweBlocks, ParamsId, Plaintext, PlaintextError, SecretKeyKind, Word};
use tfhe::integer::ciphertext::CompressedNoiseSquashingCompressionKey;
use tfhe::integer::noise_squashing::CompressedNoiseSquashingKey;
use tfhe::shortint::client_key::atomic_pattern::AtomicPatternClientKey;
use tfhe::{ClientKey, CompactPublicKey, CompressedServerKey};
use zeroize::{Zeroize, Zeroizing};

use crate::params::config;

/// The public part of a new key.
pub struct PublicKeySet {
    pub(crate) params: ParamsId,
    pub(crate) public_key: CompactPublicKey,
    /// Compute key and casting key alone.
    pub(crate) server_key: CompressedServerKey,
    pub(crate) squashing_key: CompressedNoiseSquashingKey,
    pub(crate) compression_key: Option<CompressedNoiseSquashingCompressionKey>,
}

impl std::fmt::Debug for PublicKeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicKeySet").field("params", &self.params).finish_non_exhaustive()
    }
}

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

/// Makes a key. Seconds with test parameters, under a minute of two cores with production ones; the
/// squashed-compression key doubles that.
#[must_use]
pub fn generate(params: ParamsId, with_compression: bool) -> (PublicKeySet, SecretBits) {
    let client = ClientKey::generate(config(params, with_compression));
    let (server, cast, _, _, squashing, compression, _, _, _, tag) =
        client.generate_compressed_server_key().into_raw_parts();
    let public = PublicKeySet {
        params,
        public_key: CompactPublicKey::new(&client),
        server_key: CompressedServerKey::from_raw_parts(server, cast, None, None, None, None, None, None, None, tag),
        squashing_key: squashing.expect("the configuration has noise squashing"),
        compression_key: compression,
    };
    (public, explode(client, params))
}

/// Takes a client key apart: keeps the squashing bits, erases the rest.
fn explode(client: ClientKey, params: ParamsId) -> SecretBits {
    let (compute, pke, _, squashing, compression, _, _, _, _) = client.into_raw_parts();
    if let AtomicPatternClientKey::Standard(standard) = compute.into_raw_parts().atomic_pattern {
        let (glwe, lwe, _, _) = standard.into_raw_parts();
        glwe.into_container().zeroize();
        lwe.into_container().zeroize();
    }
    if let Some((key, _)) = pke {
        key.into_raw_parts().into_raw_parts().0.into_container().zeroize();
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
        compression: compression.map(|key| narrow(key.into_raw_parts().into_raw_parts().0.into_container())),
    }
}
