use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

const PASSPHRASE: &[u8] = b"correct horse battery staple";

fn vault() -> (tempfile::TempDir, Vault) {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::create(&dir.path().join("sealed"), PASSPHRASE, Cost::INSECURE_TEST).unwrap();
    (dir, vault)
}

#[test]
fn objects_come_back_after_a_restart() {
    let (_dir, vault) = vault();
    vault.put("signing-key", b"secret").unwrap();
    vault.put("empty", b"").unwrap();
    let again = Vault::open(&vault.dir, PASSPHRASE).unwrap();
    assert_eq!(&again.get("signing-key").unwrap()[..], b"secret");
    assert_eq!(again.get("empty").unwrap().len(), 0);
    assert_eq!(again.names().unwrap(), ["empty", "signing-key"]);
    assert!(matches!(again.get("other"), Err(SealedError::Missing(_))));
}

#[test]
fn nothing_readable_is_left_on_disk() {
    let (_dir, vault) = vault();
    vault.put("key", b"a very secret secret").unwrap();
    for entry in fs::read_dir(&vault.dir).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(6).any(|w| w == b"secret"), "{}", path.display());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
        assert!(!path.file_name().unwrap().to_str().unwrap().starts_with('.'), "{}", path.display());
    }
    assert_eq!(fs::metadata(&vault.dir).unwrap().permissions().mode() & 0o077, 0);
}

#[test]
fn the_wrong_passphrase_is_named_as_such() {
    let (_dir, vault) = vault();
    vault.put("key", b"secret").unwrap();
    assert!(matches!(Vault::open(&vault.dir, b"wrong"), Err(SealedError::Passphrase(_))));
    assert!(matches!(Vault::create(&vault.dir, PASSPHRASE, Cost::INSECURE_TEST), Err(SealedError::Exists(_))));
}

#[test]
fn any_changed_byte_of_any_file_is_noticed() {
    let (_dir, vault) = vault();
    vault.put("key", b"secret").unwrap();
    for name in ["key.obj", "key.key", "sealer"] {
        let path = vault.dir.join(name);
        let good = fs::read(&path).unwrap();
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 1;
            fs::write(&path, &bad).unwrap();
            let outcome = Vault::open(&vault.dir, PASSPHRASE).and_then(|v| v.get("key"));
            assert!(outcome.is_err(), "byte {i} of {name}");
        }
        fs::write(&path, &good).unwrap();
    }
    vault.get("key").unwrap();
}

#[test]
fn truncated_and_extended_files_are_noticed() {
    let (_dir, vault) = vault();
    vault.put("key", b"secret").unwrap();
    for name in ["key.obj", "key.key", "sealer"] {
        let path = vault.dir.join(name);
        let good = fs::read(&path).unwrap();
        for length in 0..good.len() {
            fs::write(&path, &good[..length]).unwrap();
            let outcome = Vault::open(&vault.dir, PASSPHRASE).and_then(|v| v.get("key"));
            assert!(outcome.is_err(), "{length} bytes of {name}");
        }
        fs::write(&path, [&good[..], &[0]].concat()).unwrap();
        assert!(Vault::open(&vault.dir, PASSPHRASE).and_then(|v| v.get("key")).is_err(), "{name} with a byte more");
        fs::write(&path, &good).unwrap();
    }
}

#[test]
fn swapped_and_renamed_objects_do_not_open() {
    let (_dir, vault) = vault();
    vault.put("one", b"first").unwrap();
    vault.put("two", b"second").unwrap();
    let swap = |extension: &str| {
        let [one, two, hold] = ["one", "two", "hold"].map(|n| vault.dir.join(format!("{n}.{extension}")));
        fs::rename(&one, &hold).unwrap();
        fs::rename(&two, &one).unwrap();
        fs::rename(&hold, &two).unwrap();
    };
    swap("obj");
    assert!(matches!(vault.get("one"), Err(SealedError::Tampered(_))));
    // Both files together under the other's name: the name is part of what is authenticated.
    swap("key");
    assert!(matches!(vault.get("one"), Err(SealedError::Tampered(_))));
    assert!(matches!(vault.get("two"), Err(SealedError::Tampered(_))));
    swap("obj");
    swap("key");
    assert_eq!(&vault.get("one").unwrap()[..], b"first");
}

#[test]
fn objects_are_never_overwritten() {
    let (_dir, vault) = vault();
    vault.put("key", b"first").unwrap();
    assert!(matches!(vault.put("key", b"second"), Err(SealedError::Exists(_))));
    assert_eq!(&vault.get("key").unwrap()[..], b"first");
}

#[test]
fn a_destroyed_object_stays_destroyed() {
    let (_dir, vault) = vault();
    vault.put("key", b"first").unwrap();
    vault.destroy("key").unwrap();
    assert!(matches!(vault.get("key"), Err(SealedError::Destroyed(_))));
    assert!(matches!(vault.destroy("key"), Err(SealedError::Destroyed(_))));
    assert!(matches!(vault.put("key", b"second"), Err(SealedError::Exists(_))));
    assert!(matches!(vault.destroy("other"), Err(SealedError::Missing(_))));
}

#[test]
fn a_kill_between_the_two_writes_is_repaired() {
    let (_dir, vault) = vault();
    vault.put("key", b"first").unwrap();
    fs::remove_file(vault.object_path("key")).unwrap();
    vault.put("key", b"again").unwrap();
    assert_eq!(&vault.get("key").unwrap()[..], b"again");
}

#[test]
fn names_can_not_leave_the_folder() {
    let (_dir, vault) = vault();
    for name in ["", "..", "a/b", "a.b", "A", &"a".repeat(MAX_NAME + 1)] {
        assert!(matches!(vault.put(name, b""), Err(SealedError::Name(_))), "{name}");
        assert!(matches!(vault.get(name), Err(SealedError::Name(_))), "{name}");
        assert!(!vault.contains(name));
    }
}

#[test]
fn unknown_versions_are_a_clear_error() {
    let (_dir, vault) = vault();
    vault.put("key", b"secret").unwrap();
    for name in ["key.obj", "key.key"] {
        let path = vault.dir.join(name);
        let good = fs::read(&path).unwrap();
        let mut newer = good.clone();
        newer[4] = 2;
        fs::write(&path, newer).unwrap();
        assert!(matches!(vault.get("key"), Err(SealedError::Version { version: 2, .. })), "{name}");
        fs::write(&path, good).unwrap();
    }
}

#[test]
fn passphrases_are_read_without_their_line_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("passphrase");
    fs::write(&path, b"long enough for this\n").unwrap();
    assert_eq!(&read_passphrase(&path).unwrap()[..], b"long enough for this");
    fs::write(&path, b"short\n").unwrap();
    assert!(matches!(read_passphrase(&path), Err(SealedError::WeakPassphrase { chars: 5, .. })));
    fs::write(&path, vec![b'x'; 5000]).unwrap();
    assert!(matches!(read_passphrase(&path), Err(SealedError::TooLarge { .. })));
    assert!(matches!(read_passphrase(&dir.path().join("none")), Err(SealedError::Io { .. })));
}
