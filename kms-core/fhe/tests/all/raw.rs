//! A bundle's key set as a program reads it that knows tfhe only.

use std::fs;
use std::path::Path;

use kms_fhe::bundle;
use tfhe::safe_serialization::safe_deserialize;
use tfhe::shortint::atomic_pattern::compressed::CompressedAtomicPatternServerKey;
use tfhe::shortint::noise_squashing::CompressedShortint128BootstrappingKey;
use tfhe::shortint::noise_squashing::atomic_pattern::compressed::CompressedAtomicPatternNoiseSquashingKey;
use tfhe::shortint::server_key::ShortintCompressedBootstrappingKey;
use tfhe::xof_key_set::{CompressedXofKeySet, XofSeedStart};

pub(crate) fn keyset(folder: &Path) -> CompressedXofKeySet {
    let bytes = fs::read(folder.join(bundle::KEYSET)).unwrap();
    safe_deserialize(bytes.as_slice(), bytes.len() as u64).unwrap()
}

/// The seed of all masks.
pub(crate) fn seed(keyset: &CompressedXofKeySet) -> [u8; 32] {
    match keyset.clone().into_raw_parts().0 {
        XofSeedStart::FirstByte(seed) => seed.seed().try_into().unwrap(),
        XofSeedStart::SecondByte(_) => panic!("of an old version"),
    }
}

/// A component that tfhe has decompressed from its own seed: rows of mask and bodies.
pub(crate) enum Rows {
    W64(Vec<u64>),
    W128(Vec<u128>),
}

/// All components, in the order of the stream.
pub(crate) fn components(keyset: CompressedXofKeySet) -> Vec<Rows> {
    let (_, public_key, server_key) = keyset.into_raw_parts();
    let (compute, casting, compression, decompression, squashing, squashed_compression, ..) =
        server_key.into_raw_parts();

    let (public_key, _) = public_key.into_raw_parts().0.into_raw_parts().into_raw_parts();
    let mut rows = vec![Rows::W64(public_key.decompress_into_lwe_compact_public_key().into_container())];
    if let (Some(compression), Some(decompression)) = (compression, decompression) {
        let key = compression.into_raw_parts().packing_key_switching_key;
        rows.push(Rows::W64(key.decompress_into_lwe_packing_keyswitch_key().into_container()));
        rows.push(bootstrapping(decompression.into_raw_parts().into_raw_parts().0));
    }
    let CompressedAtomicPatternServerKey::Standard(compute) = compute.into_raw_parts().into_raw_parts().0 else {
        panic!("another atomic pattern")
    };
    let (key_switching, bsk, _) = compute.into_raw_parts();
    rows.push(Rows::W64(key_switching.decompress_into_lwe_keyswitch_key().into_container()));
    rows.push(bootstrapping(bsk));
    let CompressedAtomicPatternNoiseSquashingKey::Standard(squashing) =
        squashing.unwrap().into_raw_parts().into_raw_parts().0
    else {
        panic!("another atomic pattern")
    };
    let CompressedShortint128BootstrappingKey::Classic { bsk, .. } = squashing.into_raw_parts() else {
        panic!("another kind of key")
    };
    rows.push(Rows::W128(bsk.par_decompress_into_lwe_bootstrap_key().into_container()));
    let (casting, ..) = casting.unwrap().into_raw_parts().into_raw_parts();
    rows.push(Rows::W64(casting.decompress_into_lwe_keyswitch_key().into_container()));
    if let Some(key) = squashed_compression {
        let (key, _) = key.into_raw_parts().into_raw_parts();
        rows.push(Rows::W128(key.decompress_into_lwe_packing_keyswitch_key().into_container()));
    }
    rows
}

fn bootstrapping(key: ShortintCompressedBootstrappingKey<u64>) -> Rows {
    let ShortintCompressedBootstrappingKey::Classic { bsk, .. } = key else { panic!("another kind of key") };
    Rows::W64(bsk.par_decompress_into_lwe_bootstrap_key().into_container())
}
