//! The public bundle.

use std::fs;
use std::path::{Path, PathBuf};

use kms_encoding::ids;
use kms_fhe::{BundleError, EvalKeys, FormatError, KeyInfo, PublicKeys, bundle};

use crate::fixture::{PARAMS, fixture};

/// A copy that a test may spoil.
fn copy(name: &str) -> PathBuf {
    let to = fixture().folder.with_extension(name);
    fs::create_dir_all(&to).unwrap();
    for file in fs::read_dir(&fixture().folder).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
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
    assert_eq!(
        names,
        ["crs.bin", "public_key.bin", "server_key.bin", "squashed_compression_key.bin", "squashing_key.bin"]
    );
    for (name, file) in info.files() {
        let bytes = fs::read(fixture().folder.join(name)).unwrap();
        assert_eq!((bytes.len() as u64, kms_fhe::object::digest(&bytes)), (file.bytes, file.sha256));
    }
}

#[test]
fn a_changed_file_is_found_before_it_is_parsed() {
    let folder = copy("changed");
    for file in [bundle::PUBLIC_KEY, bundle::SERVER_KEY, bundle::SQUASHING_KEY, bundle::CRS, bundle::COMPRESSION_KEY] {
        let honest = fs::read(folder.join(file)).unwrap();
        let load = || match file {
            bundle::PUBLIC_KEY | bundle::CRS => PublicKeys::load(&folder).map(|_| ()),
            _ => EvalKeys::load(&folder).map(|_| ()),
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
    PublicKeys::load(&folder).unwrap();
    EvalKeys::load(&folder).unwrap();
}

#[test]
fn a_changed_description_is_refused() {
    let folder = copy("described");
    let honest = fs::read(folder.join(bundle::INFO)).unwrap();
    let edits: [fn(&mut serde_json::Value); 7] = [
        |i| i["version"] = 2.into(),
        |i| i["params"] = "production".into(),
        |i| i["params"] = "unknown".into(),
        |i| i["keyId"] = format!("0x{}", "00".repeat(32)).into(),
        |i| i["keyId"] = "0x00".into(),
        |i| i["more"] = 1.into(),
        |i| drop(i["files"].as_object_mut().unwrap().remove(bundle::CRS)),
    ];
    for edit in edits {
        edit_info(&folder, edit);
        assert!(matches!(KeyInfo::load(&folder), Err(BundleError::Info(_))));
        fs::write(folder.join(bundle::INFO), &honest).unwrap();
    }
    fs::write(folder.join(bundle::INFO), vec![b' '; 1 << 20]).unwrap();
    assert!(matches!(KeyInfo::load(&folder), Err(BundleError::Io { .. })));
}

/// A bundle that adds up, of files that don't belong there.
#[test]
fn well_described_files_of_the_wrong_kind_are_refused() {
    let folder = copy("swapped");
    let swap = |to: &str, bytes: &[u8]| {
        fs::write(folder.join(to), bytes).unwrap();
        edit_info(&folder, |info| {
            info["files"][to]["sha256"] = hex32(kms_fhe::object::digest(bytes));
            info["files"][to]["bytes"] = bytes.len().into();
            let digest = bundle_digest(info);
            info["keyId"] = hex32(ids::key_id(&digest));
        });
    };
    let read = |file: &str| fs::read(fixture().folder.join(file)).unwrap();
    for file in [bundle::SERVER_KEY, bundle::SQUASHING_KEY, bundle::COMPRESSION_KEY] {
        swap(file, &read(bundle::PUBLIC_KEY));
        assert!(matches!(EvalKeys::load(&folder), Err(BundleError::Format { source: FormatError::Malformed(_), .. })));
        let mut longer = read(file);
        longer.push(0);
        swap(file, &longer);
        let refused = EvalKeys::load(&folder).unwrap_err();
        assert!(matches!(refused, BundleError::Format { source: FormatError::Trailing { bytes: 1 }, .. }));
        swap(file, &read(file));
    }
    for file in [bundle::PUBLIC_KEY, bundle::CRS] {
        swap(file, &read(bundle::SERVER_KEY));
        assert!(matches!(PublicKeys::load(&folder), Err(BundleError::Format { .. })));
        swap(file, &read(file));
    }
    PublicKeys::load(&folder).unwrap();
}

fn hex32(bytes: [u8; 32]) -> serde_json::Value {
    format!("0x{}", hex::encode(bytes)).into()
}

/// The digest of the bundle, written down a second time.
fn bundle_digest(info: &serde_json::Value) -> [u8; 32] {
    let mut all = vec![0xF1];
    for file in ["public_key.bin", "server_key.bin", "squashing_key.bin", "crs.bin", "squashed_compression_key.bin"] {
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
