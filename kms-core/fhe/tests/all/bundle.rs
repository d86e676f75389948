//! The public bundle.

use std::fs;
use std::path::Path;

use kms_encoding::ids;
use kms_fhe::{BundleError, EvalKeys, FormatError, KeyInfo, PublicKeys, bundle, keygen};
use tempfile::TempDir;
use tfhe::core_crypto::commons::math::random::XofSeed;
use tfhe::prelude::Tagged;
use tfhe::safe_serialization::safe_serialize;
use tfhe::xof_key_set::{CompressedXofKeySet, XofSeedStart};
use tfhe::{CompressedCompactPublicKey, CompressedServerKey};

use crate::budget::bounded;
use crate::fixture::{PARAMS, fixture};
use crate::mutate::mutations;
use crate::raw;

/// A copy that a test may spoil.
fn copy() -> TempDir {
    let to = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for file in fs::read_dir(&fixture().folder).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

fn edit_info(folder: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let path = folder.join(bundle::INFO);
    let mut info = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut info);
    fs::write(path, serde_json::to_vec(&info).unwrap()).unwrap();
}

#[test]
fn ids_follow_from_the_files() {
    let info = &fixture().info;
    assert_eq!(KeyInfo::load(&fixture().folder).unwrap(), *info);
    assert_eq!(info.params(), PARAMS);
    assert_eq!(info.key_id(), ids::key_id(&info.digest()));
    assert_eq!(info.epoch_id(), ids::epoch_id(&[7; 32], &info.key_id(), 1));
    let names: Vec<_> = info.files().map(|(name, _)| name).collect();
    assert_eq!(names, ["crs.bin", "keyset.bin", "public_key.bin"]);
    for (name, file) in info.files() {
        let bytes = fs::read(fixture().folder.join(name)).unwrap();
        assert_eq!((bytes.len() as u64, kms_fhe::object::digest(&bytes)), (file.bytes, file.sha256));
    }
}

#[test]
fn a_changed_file_is_found_before_it_is_parsed() {
    let copy = copy();
    let folder = copy.path();
    for file in [bundle::PUBLIC_KEY, bundle::KEYSET, bundle::CRS] {
        let honest = fs::read(folder.join(file)).unwrap();
        let load = || match file {
            bundle::PUBLIC_KEY | bundle::CRS => PublicKeys::load(folder).map(|_| ()),
            _ => EvalKeys::load(folder).map(|_| ()),
        };
        let mut flipped = honest.clone();
        flipped[honest.len() / 2] ^= 1;
        for (spoilt, what) in [(&flipped[..], "digest"), (&honest[..honest.len() - 1], "size")] {
            fs::write(folder.join(file), spoilt).unwrap();
            match load().unwrap_err() {
                BundleError::File { file: named, what: found } => assert_eq!((named, found), (file, what)),
                other => panic!("{other}"),
            }
        }
        fs::remove_file(folder.join(file)).unwrap();
        assert!(matches!(load().unwrap_err(), BundleError::Io { .. }));
        fs::write(folder.join(file), honest).unwrap();
    }
    PublicKeys::load(folder).unwrap();
    EvalKeys::load(folder).unwrap();
}

#[test]
fn a_changed_description_is_refused() {
    let copy = copy();
    let folder = copy.path();
    let honest = fs::read(folder.join(bundle::INFO)).unwrap();
    let edits: [fn(&mut serde_json::Value); 8] = [
        |i| i["version"] = 1.into(),
        |i| i["params"] = "production".into(),
        |i| i["params"] = "unknown".into(),
        |i| i["keyId"] = format!("0x{}", "00".repeat(32)).into(),
        |i| i["keyId"] = "0x00".into(),
        |i| i["more"] = 1.into(),
        |i| drop(i["files"].as_object_mut().unwrap().remove(bundle::CRS)),
        |i| i["files"]["more.bin"] = i["files"][bundle::CRS].clone(),
    ];
    for edit in edits {
        edit_info(folder, edit);
        assert!(matches!(KeyInfo::load(folder), Err(BundleError::Info(_))));
        fs::write(folder.join(bundle::INFO), &honest).unwrap();
    }
    fs::write(folder.join(bundle::INFO), vec![b' '; 1 << 20]).unwrap();
    assert!(matches!(KeyInfo::load(folder), Err(BundleError::Io { .. })));
}

/// Puts other bytes in the place of a file, in a bundle that adds up again.
fn swap(folder: &Path, to: &str, bytes: &[u8]) {
    fs::write(folder.join(to), bytes).unwrap();
    edit_info(folder, |info| {
        info["files"][to]["sha256"] = hex32(kms_fhe::object::digest(bytes));
        info["files"][to]["bytes"] = bytes.len().into();
        let digest = bundle_digest(info);
        info["keyId"] = hex32(ids::key_id(&digest));
    });
}

#[test]
fn well_described_files_of_the_wrong_kind_are_refused() {
    let copy = copy();
    let folder = copy.path();
    let swap = |to: &str, bytes: &[u8]| swap(folder, to, bytes);
    let read = |file: &str| fs::read(fixture().folder.join(file)).unwrap();
    let honest = read(bundle::KEYSET);
    swap(bundle::KEYSET, &read(bundle::PUBLIC_KEY));
    assert!(matches!(EvalKeys::load(folder), Err(BundleError::Format { source: FormatError::Malformed(_), .. })));
    let mut longer = honest.clone();
    longer.push(0);
    swap(bundle::KEYSET, &longer);
    let refused = EvalKeys::load(folder).unwrap_err();
    assert!(matches!(refused, BundleError::Format { source: FormatError::Trailing { bytes: 1 }, .. }));
    swap(bundle::KEYSET, &honest);
    for (file, other) in [(bundle::PUBLIC_KEY, &honest[..1000]), (bundle::CRS, &read(bundle::PUBLIC_KEY))] {
        swap(file, other);
        assert!(matches!(PublicKeys::load(folder), Err(BundleError::Format { .. })));
        swap(file, &read(file));
    }
    PublicKeys::load(folder).unwrap();
}

/// A key set put together from parts of the fixture's.
fn edited(
    edit: impl FnOnce(XofSeedStart, CompressedCompactPublicKey, CompressedServerKey) -> CompressedXofKeySet,
) -> Vec<u8> {
    let (seed, public_key, server_key) = raw::keyset(&fixture().folder).into_raw_parts();
    let mut bytes = Vec::new();
    safe_serialize(&edit(seed, public_key, server_key), &mut bytes, 1 << 30).unwrap();
    bytes
}

#[test]
fn key_sets_with_other_parts_are_refused() {
    let copy = copy();
    let folder = copy.path();
    let refused = |bytes: Vec<u8>| {
        swap(folder, bundle::KEYSET, &bytes);
        match EvalKeys::load(folder).unwrap_err() {
            BundleError::Format { file: bundle::KEYSET, source } => assert_eq!(source, FormatError::OtherParameters),
            other => panic!("{other}"),
        }
    };
    let without = |part: usize| {
        edited(|seed, public_key, server_key| {
            let (compute, mut cast, mut a, mut b, mut squashing, mut c, _, _, _, tag) = server_key.into_raw_parts();
            match part {
                0 => cast = None,
                1 => a = None,
                2 => b = None,
                3 => squashing = None,
                4 => c = None,
                _ => (a, b) = (None, None),
            }
            let all = CompressedServerKey::from_raw_parts(compute, cast, a, b, squashing, c, None, None, None, tag);
            CompressedXofKeySet::from_raw_parts(seed, public_key, all)
        })
    };
    (0..6).for_each(|part| refused(without(part)));
    refused(edited(|seed, public_key, server_key| {
        let mut tagged = CompressedXofKeySet::from_raw_parts(seed, public_key, server_key);
        tagged.tag_mut().set_u64(1);
        tagged
    }));
    for seed in [XofSeed::new(vec![1; 31], *b"TFHE_GEN"), XofSeed::new(vec![1; 32], *b"TFHE_gen")] {
        refused(edited(|_, public_key, server_key| CompressedXofKeySet::from_raw_parts(seed, public_key, server_key)));
    }
    refused(edited(|seed, public_key, server_key| {
        let XofSeedStart::FirstByte(seed) = seed else { panic!("of an old version") };
        CompressedXofKeySet::from_raw_parts(XofSeedStart::SecondByte(seed), public_key, server_key)
    }));
}

#[test]
fn a_public_key_of_another_key_is_refused() {
    let copy = copy();
    let folder = copy.path();
    let (other, _) = keygen::generate(PARAMS, false);
    let crs = kms_fhe::crs::load_or_make_insecure(PARAMS, fixture().folder.parent()).unwrap();
    let foreign = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    bundle::write(foreign.path(), &other, &crs, [7; 32]).unwrap();
    swap(folder, bundle::PUBLIC_KEY, &fs::read(foreign.path().join(bundle::PUBLIC_KEY)).unwrap());
    PublicKeys::load(folder).unwrap();
    assert!(matches!(EvalKeys::load(folder), Err(BundleError::OtherPublicKey)));
}

#[test]
fn mutants_of_a_key_set_are_refused_or_load() {
    let copy = copy();
    let folder = copy.path();
    let honest = fs::read(folder.join(bundle::KEYSET)).unwrap();
    let mut refused = 0;
    for mutant in mutations(&honest, 60, 11) {
        swap(folder, bundle::KEYSET, &mutant);
        match bounded(mutant.len(), || EvalKeys::load(folder)) {
            Ok(_) => {}
            Err(BundleError::Format { .. } | BundleError::OtherPublicKey) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 20);
}

fn hex32(bytes: [u8; 32]) -> serde_json::Value {
    format!("0x{}", hex::encode(bytes)).into()
}

/// The digest of the bundle, written down a second time.
fn bundle_digest(info: &serde_json::Value) -> [u8; 32] {
    let mut all = vec![0xF1];
    for file in ["public_key.bin", "keyset.bin", "crs.bin"] {
        all.extend(hex::decode(&info["files"][file]["sha256"].as_str().unwrap()[2..]).unwrap());
    }
    kms_fhe::object::digest(&all)
}

#[test]
fn the_crs_is_made_once() {
    let cache = fixture().folder.parent().unwrap();
    let path = kms_fhe::crs::cached(cache, PARAMS);
    assert!(path.file_name().unwrap().to_str().unwrap().contains("insecure-locally-made"));
    let before = fs::read(&path).unwrap();
    kms_fhe::crs::load_or_make_insecure(PARAMS, Some(cache)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
}
