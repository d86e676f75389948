use std::fs;
use std::path::Path;

use kms_chain::eip712::{KeyDigest, key_management_domain, keygen_digest, recover};
use kms_chain::ids::epoch_id;
use kms_fhe::bundle;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::*;
use crate::error::SealedError;
use crate::metrics::Metrics;
use crate::sealed::{Cost, Vault};
use crate::setup;
use crate::startup::{Level, Table};
use crate::store::Store;
use crate::test_support::{committee, prss, share};

struct Home {
    dir: tempfile::TempDir,
    party: Party,
    vault: Vault,
    store: Store,
}

async fn home() -> Home {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::create(&dir.path().join("sealed"), b"insecure test", Cost::INSECURE_TEST).unwrap();
    let store = Store::open(&dir.path().join("node.db")).await.unwrap();
    Home { party: committee(4, 1).remove(1), dir, vault, store }
}

impl Home {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn write_share(&self, share: &ShareFile) -> std::path::PathBuf {
        let path = self.path("party.share");
        fs::write(&path, &share.to_bytes().unwrap()[..]).unwrap();
        path
    }

    async fn import(&self, public: Option<&Path>) -> Result<Imported, KeysError> {
        import(&self.party, &self.vault, &self.store, &self.path("party.share"), public).await
    }

    /// Seals pseudorandom keys for the first epoch of a key.
    fn seal_prss(&self, key_id: B256) {
        let epoch = B256::from(epoch_id(&self.party.context(), &key_id, 1));
        let keys = prss(&self.party, epoch, 1);
        self.vault.put(&setup::object_name(epoch), &keys.to_bytes().unwrap()).unwrap();
    }

    async fn load(&self) -> (Keys, Table) {
        let mut table = Table::default();
        let metrics = Metrics::new().unwrap();
        let keys = Keys::load(&self.party, &self.vault, &self.store, &metrics, &mut table).await.unwrap();
        (keys, table)
    }
}

/// The shares with one word changed.
fn changed(share: &ShareFile) -> Vec<ShareVector> {
    let mut words: Vec<u128> = (0..4).flat_map(|c| share.vectors[0].coordinate(c).to_vec()).collect();
    words[0] ^= 1;
    vec![ShareVector::new(share.vectors[0].kind(), 4, words).unwrap()]
}

/// A bundle of files that hash to what `key.json` says; nothing parses them here.
fn write_bundle(folder: &Path, party: &Party) -> B256 {
    fs::create_dir_all(folder).unwrap();
    let names = [bundle::PUBLIC_KEY, bundle::KEYSET, bundle::CRS];
    let mut digest = Sha256::new().chain_update([0xF1]);
    let mut files = serde_json::Map::new();
    for name in names {
        fs::write(folder.join(name), name).unwrap();
        let hash = Sha256::digest(name);
        digest.update(hash);
        files.insert(name.into(), json!({ "sha256": B256::from_slice(&hash), "bytes": name.len() }));
    }
    let key_id = B256::from(kms_chain::ids::key_id(&digest.finalize().into()));
    let epoch = B256::from(kms_chain::ids::epoch_id(&party.context(), &key_id, 1));
    let info = json!({
        "version": 2, "keyId": key_id, "params": "insecure-test", "epochId": epoch,
        "contextId": party.context(), "files": files,
    });
    fs::write(folder.join(bundle::INFO), info.to_string()).unwrap();
    key_id
}

#[tokio::test]
async fn an_imported_share_is_usable_after_a_restart() {
    let home = home().await;
    let key_id = B256::repeat_byte(7);
    home.write_share(&share(&home.party, key_id));
    home.import(None).await.unwrap();
    home.seal_prss(key_id);
    let (keys, table) = home.load().await;
    let material = keys.usable(key_id).unwrap();
    assert_eq!(*material.share(), share(&home.party, key_id));
    assert_eq!(keys.live_epochs(), [material.epoch_id]);
    assert_eq!(table.worst(), Level::Good, "{table}");
    assert!(keys.usable(B256::ZERO).is_none());
}

#[tokio::test]
async fn an_import_signs_the_registration_of_the_key() {
    let home = home().await;
    let public = home.path("public");
    let key_id = write_bundle(&public, &home.party);
    home.write_share(&share(&home.party, key_id));
    let imported = home.import(Some(&public)).await.unwrap();
    let [signed] = &imported.signatures[..] else { panic!("one chain, one signature") };
    assert_eq!(signed.digests.iter().map(|d| d.key_type).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(signed.digests[1].digest, B256::from_slice(&Sha256::digest(bundle::PUBLIC_KEY)));
    let chain = &home.party.manifest.chains[0];
    let digests: Vec<_> =
        signed.digests.iter().map(|d| KeyDigest { keyType: d.key_type, digest: d.digest.0.into() }).collect();
    let domain = key_management_domain(chain.chain_id, chain.contracts.key_management);
    let digest = keygen_digest(&domain, signed.prep_keygen_id, key_id, &digests, &signed.extra_data);
    let signature = signed.signature[..].try_into().unwrap();
    assert_eq!(recover(digest, &signature).unwrap(), home.party.address());
    // The file is read by another program.
    let json = serde_json::to_value(signed).unwrap();
    assert_eq!(json["prepKeygenId"], "0x0");
    assert_eq!(json["digests"][0]["keyType"], 0);
}

#[tokio::test]
async fn an_import_can_be_repeated_but_never_replaced() {
    let home = home().await;
    let key_id = B256::repeat_byte(7);
    home.write_share(&share(&home.party, key_id));
    home.import(None).await.unwrap();
    home.import(None).await.unwrap();
    let mut other = share(&home.party, key_id);
    other.vectors = changed(&other);
    home.write_share(&other);
    assert!(matches!(home.import(None).await, Err(KeysError::Sealed(SealedError::Exists(_)))));
    assert_eq!(home.load().await.0.known().len(), 1);
}

#[tokio::test]
async fn foreign_shares_are_refused() {
    let home = home().await;
    let key_id = B256::repeat_byte(7);
    let mut others = committee(4, 1);
    home.write_share(&share(&others.remove(0), key_id));
    assert!(matches!(home.import(None).await, Err(KeysError::Foreign { .. })), "another index");

    let mut context = share(&home.party, key_id);
    context.context_id = [9; 32];
    home.write_share(&context);
    assert!(matches!(home.import(None).await, Err(KeysError::Foreign { .. })), "another committee");

    home.write_share(&share(&committee(7, 2).remove(1), key_id));
    assert!(matches!(home.import(None).await, Err(KeysError::Foreign { .. })), "another size");

    let mut epoch = share(&home.party, key_id);
    epoch.epoch_id = [9; 32];
    home.write_share(&epoch);
    assert!(matches!(home.import(None).await, Err(KeysError::Foreign { .. })), "another epoch");

    fs::write(home.path("party.share"), b"KMSS").unwrap();
    assert!(matches!(home.import(None).await, Err(KeysError::Share(_))));
    assert!(home.vault.names().unwrap().is_empty());
}

#[tokio::test]
async fn a_bundle_has_to_be_what_it_says_and_the_shares_own() {
    let home = home().await;
    let public = home.path("public");
    let key_id = write_bundle(&public, &home.party);
    home.write_share(&share(&home.party, B256::repeat_byte(7)));
    assert!(matches!(home.import(Some(&public)).await, Err(KeysError::Bundle(_))), "another key");

    home.write_share(&share(&home.party, key_id));
    fs::write(public.join(bundle::CRS), b"crs.bim").unwrap();
    assert!(matches!(home.import(Some(&public)).await, Err(KeysError::Bundle(_))), "another file");
    fs::remove_file(public.join(bundle::CRS)).unwrap();
    assert!(matches!(home.import(Some(&public)).await, Err(KeysError::Io { .. })), "a missing file");
    assert!(home.vault.names().unwrap().is_empty());
}

#[tokio::test]
async fn one_bad_object_is_quarantined_and_the_rest_is_used() {
    let home = home().await;
    let [good, bad] = [B256::repeat_byte(7), B256::repeat_byte(8)];
    for key in [good, bad] {
        home.write_share(&share(&home.party, key));
        home.import(None).await.unwrap();
        home.seal_prss(key);
    }
    let (keys, _) = home.load().await;
    let object = KeyMaterial::object_name(bad, keys.usable(bad).unwrap().epoch_id);
    let path = home.path(&format!("sealed/{object}.obj"));
    let original = fs::read(&path).unwrap();
    let mut spoiled = original.clone();
    *spoiled.last_mut().unwrap() ^= 1;
    fs::write(&path, spoiled).unwrap();

    let (keys, table) = home.load().await;
    assert!(keys.usable(good).is_some());
    assert!(keys.usable(bad).is_none());
    assert_eq!(table.worst(), Level::Broken);
    assert!(table.to_string().contains(&object), "{table}");
    let known = keys.known();
    assert_eq!(known.iter().find(|k| k.key_id == bad).unwrap().state, Condition::Quarantined);
    assert_eq!(home.store.journal_tail(1).await.unwrap()[0].kind, "quarantine");

    // A missing object is named too, and a restored one is used again.
    fs::remove_file(&path).unwrap();
    assert!(home.load().await.0.usable(bad).is_none());
    fs::write(&path, original).unwrap();
    let (keys, table) = home.load().await;
    assert!(keys.usable(bad).is_some());
    assert_eq!(table.worst(), Level::Good, "{table}");
}

#[tokio::test]
async fn a_share_sealed_by_an_interrupted_import_is_taken() {
    let home = home().await;
    let share = share(&home.party, B256::repeat_byte(7));
    let object = KeyMaterial::object_name(share.key_id.into(), share.epoch_id.into());
    home.vault.put(&object, &share.to_bytes().unwrap()).unwrap();
    home.seal_prss(share.key_id.into());
    assert!(home.load().await.0.usable(share.key_id.into()).is_some());
    assert_eq!(home.store.keys().await.unwrap()[0].object, object);
}

#[tokio::test]
async fn another_share_under_the_same_name_is_noticed() {
    let home = home().await;
    let key_id = B256::repeat_byte(7);
    home.write_share(&share(&home.party, key_id));
    let imported = home.import(None).await.unwrap();
    let object = KeyMaterial::object_name(key_id, imported.epoch_id);
    // Somebody with the passphrase seals another share in its place: the database remembers the first.
    for extension in ["obj", "key"] {
        fs::remove_file(home.path(&format!("sealed/{object}.{extension}"))).unwrap();
    }
    let mut other = share(&home.party, key_id);
    other.vectors = changed(&other);
    home.vault.put(&object, &other.to_bytes().unwrap()).unwrap();
    let (keys, table) = home.load().await;
    assert!(keys.usable(key_id).is_none());
    assert!(table.to_string().contains("was recorded at import"), "{table}");
}

#[tokio::test]
async fn a_share_waits_for_the_pseudorandom_keys_of_its_epoch() {
    let home = home().await;
    let key_id = B256::repeat_byte(7);
    home.write_share(&share(&home.party, key_id));
    let epoch = home.import(None).await.unwrap().epoch_id;
    let (keys, table) = home.load().await;
    assert!(keys.usable(key_id).is_none() && keys.waits(key_id));
    assert_eq!((keys.waiting(), keys.known()[0].state), (vec![epoch], Condition::Waiting));
    assert_eq!(table.worst(), Level::Warning, "{table}");

    let other = prss(&home.party, B256::repeat_byte(1), 1);
    assert!(keys.complete(&other.into()).is_empty(), "another epoch's");
    assert_eq!(keys.complete(&prss(&home.party, epoch, 1).into()), [key_id]);
    assert!(keys.usable(key_id).is_some() && keys.waiting().is_empty());
    assert_eq!(keys.known().len(), 1);
}

#[tokio::test]
async fn pseudorandom_keys_are_verified_like_shares() {
    let home = home().await;
    let key_id = B256::repeat_byte(7);
    home.write_share(&share(&home.party, key_id));
    let epoch = home.import(None).await.unwrap().epoch_id;
    let object = setup::object_name(epoch);
    let mut not_agreed = prss(&home.party, epoch, 1);
    not_agreed.commitments.clear();
    let foreign = prss(&committee(4, 1)[0], epoch, 1);
    let other_epoch = prss(&home.party, B256::repeat_byte(1), 1);
    for bad in [not_agreed, foreign, other_epoch] {
        home.vault.put(&object, &bad.to_bytes().unwrap()).unwrap();
        let (keys, table) = home.load().await;
        assert!(keys.usable(key_id).is_none() && keys.waiting().is_empty());
        assert!(table.worst() == Level::Broken && table.to_string().contains(&object), "{table}");
        assert_eq!(keys.known()[0].state, Condition::Quarantined);
        for extension in ["obj", "key"] {
            fs::remove_file(home.path(&format!("sealed/{object}.{extension}"))).unwrap();
        }
    }
    // Without the bad object the party comes to its keys again, from the others.
    assert_eq!(home.load().await.0.waiting(), [epoch]);
}
