//! The public part of a key, in the one form that dealer and key generation make and that `keyset.bin` holds.

use std::io::{Read, Write};

use kms_encoding::ParamsId;
use tfhe::conformance::ParameterSetConformant;
use tfhe::integer::ciphertext::NoiseSquashingCompressionKey;
use tfhe::integer::key_switching_key::KeySwitchingKeyMaterial;
use tfhe::integer::noise_squashing::NoiseSquashingKey;
use tfhe::prelude::Tagged;
use tfhe::xof_key_set::{CompressedXofKeySet, XofSeedStart};
use tfhe::{CompactPublicKey, ServerKey, Tag, integer};

use crate::params::config;
use crate::{FormatError, serial};

/// No key set is larger: production has 301 MB, with compression 481 MB.
pub(crate) const MAX_BYTES: usize = 512 << 20;

/// Domain separator of the stream of masks.
pub(crate) const SEPARATOR: [u8; 8] = *b"TFHE_GEN";
/// Size of the seed of that stream.
pub(crate) const SEED_BYTES: usize = 32;

/// All public keys of one key, compressed: masks as a seed, bodies in full.
pub struct PublicKeySet {
    params: ParamsId,
    keyset: CompressedXofKeySet,
}

impl std::fmt::Debug for PublicKeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicKeySet").field("params", &self.params).finish_non_exhaustive()
    }
}

impl PublicKeySet {
    /// Wraps tfhe's key set if it consists of what a key of these parameters consists of, with or without compression, and
    /// of nothing else.
    pub(crate) fn new(params: ParamsId, keyset: CompressedXofKeySet) -> Result<Self, FormatError> {
        let with_compression = keyset.has_noise_squashing_compression_key();
        if *keyset.tag() != Tag::default() || !keyset.is_conformant(&config(params, with_compression)) {
            return Err(FormatError::OtherParameters);
        }
        // tfhe says nothing about the seed.
        let (seed, public_key, server_key) = keyset.into_raw_parts();
        match &seed {
            XofSeedStart::FirstByte(xof)
                if xof.bytes().len() == SEPARATOR.len() + SEED_BYTES && xof.domain_separator() == SEPARATOR => {}
            _ => return Err(FormatError::OtherParameters),
        }
        Ok(Self { params, keyset: CompressedXofKeySet::from_raw_parts(seed, public_key, server_key) })
    }

    /// Reads one of `size` bytes that fills the reader exactly. What is held grows with what was read.
    pub(crate) fn read(params: ParamsId, reader: impl Read, size: u64) -> Result<Self, FormatError> {
        Self::new(params, serial::read_from(reader, size)?)
    }

    pub(crate) fn write(&self, writer: impl Write) -> Result<(), FormatError> {
        serial::write_to(&self.keyset, writer, MAX_BYTES)
    }

    /// Parameter set.
    #[must_use]
    pub const fn params(&self) -> ParamsId {
        self.params
    }

    /// Whether it has the keys to compress with.
    #[must_use]
    pub fn has_compression(&self) -> bool {
        self.keyset.has_noise_squashing_compression_key()
    }

    /// What users encrypt with.
    pub(crate) fn public_key(&self) -> CompactPublicKey {
        self.keyset.decompress_parts()
    }

    /// The keys to compute, cast and squash with, ready for use, and if asked for (and there) the one to make compressed
    /// squashed lists with.
    pub(crate) fn server_key(&self, with_lists: bool) -> ServerKey {
        // The largest first: while it is made it is there twice.
        let squashing: Option<NoiseSquashingKey> = self.keyset.decompress_parts();
        let lists =
            with_lists.then(|| self.keyset.decompress_parts::<Option<NoiseSquashingCompressionKey>>()).flatten();
        let (compute, casting): (integer::ServerKey, Option<KeySwitchingKeyMaterial>) = self.keyset.decompress_parts();
        ServerKey::from_raw_parts(compute, casting, None, None, squashing, lists, None, None, None, Tag::default())
    }
}
