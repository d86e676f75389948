use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use alloy_primitives::{Address, B256};
use kms_chain::manifest::{Card, DecryptionDomain, Manifest};

use super::*;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::party::Party;
use crate::startup::Level;
use crate::{secrets, test_support};

/// Four parties as `init` makes them, and their manifest.
struct Cluster {
    dir: tempfile::TempDir,
    manifest: Manifest,
}

fn init(dir: &Path, name: &str) -> Result<Card, CommandError> {
    init::run(&init::Args {
        dir: dir.join(name),
        name: name.into(),
        peer_url: "https://127.0.0.1:7001".into(),
        client_url: "https://127.0.0.1:7002".into(),
        seal: None,
    })
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cards: Vec<_> = (1..=4).map(|i| init(dir.path(), &format!("party-{i}")).unwrap()).collect();
        let domain = DecryptionDomain { chain_id: 1, verifying_contract: Address::ZERO };
        let manifest = Manifest::from_cards(&cards, 1, 3, B256::ZERO, domain).unwrap();
        fs::write(dir.path().join("manifest.json"), manifest.to_json().unwrap()).unwrap();
        Self { dir, manifest }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn party(&self, index: u16) -> Party {
        let dir = self.path(&format!("party-{index}"));
        let vault = open_vault(&dir, &dir.join(PASSPHRASE)).unwrap();
        let (key, root) = (secrets::load_signing_key(&vault).unwrap(), secrets::load_tls_root(&vault).unwrap());
        Party::new(index, Arc::new(self.manifest.clone()), key, root).unwrap()
    }

    async fn import(&self, index: u16) -> Result<crate::keys::Imported, CommandError> {
        import::run(&import::Args {
            dir: self.path(&format!("party-{index}")),
            manifest: self.path("manifest.json"),
            share: self.path("party.share"),
            public: None,
            seal: None,
        })
        .await
    }

    fn config(&self, index: u16) -> Config {
        let text = format!(
            "data_dir = 'party-{index}'\nmanifest = 'manifest.json'\nindex = {index}\nlisten_peer = '127.0.0.1:0'\n\
             listen_client = '127.0.0.1:0'\nlisten_metrics = '127.0.0.1:0'\n\
             [sealing]\nkind = 'passphrase-file'\npath = 'party-{index}/passphrase'\n"
        );
        let path = self.path("node.toml");
        fs::write(&path, text).unwrap();
        Config::read(&path).unwrap()
    }
}

#[test]
fn a_party_is_born_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = init(dir.path(), "a").unwrap();
    // Repeated: the same keys, also after a kill before the card was written.
    fs::remove_file(dir.path().join("a/card.json")).unwrap();
    assert_eq!(init(dir.path(), "a").unwrap(), first);
    assert_eq!(Card::parse(&fs::read(dir.path().join("a/card.json")).unwrap()).unwrap(), first);
    // Another passphrase replaces nothing.
    fs::write(dir.path().join("a/passphrase"), "another passphrase").unwrap();
    let error = init(dir.path(), "a").unwrap_err();
    assert!(matches!(error, CommandError::Sealed(SealedError::Passphrase(_))), "{error}");
    assert_ne!(init(dir.path(), "b").unwrap().signer, first.signer);
}

#[tokio::test]
async fn an_import_ends_without_the_share_file() {
    let cluster = Cluster::new();
    let share = test_support::share(&cluster.party(2), B256::repeat_byte(7));
    fs::write(cluster.path("party.share"), &share.to_bytes().unwrap()[..]).unwrap();
    // Not this party's: the file stays where it is.
    let error = cluster.import(3).await.unwrap_err();
    assert!(matches!(error, CommandError::Keys(KeysError::Foreign { .. })), "{error}");
    assert!(cluster.path("party.share").exists());
    cluster.import(2).await.unwrap();
    assert!(!cluster.path("party.share").exists());

    let metrics = Arc::new(Metrics::new().unwrap());
    let booted = boot(&cluster.config(2), metrics).await.unwrap();
    assert!(booted.keys.waits(B256::repeat_byte(7)));
    let object_stores = booted.table.findings.iter().find(|f| f.subject == "object stores").unwrap();
    assert_eq!(object_stores.level, Level::Broken);
}

#[tokio::test]
async fn a_party_at_anothers_place_does_not_start() {
    let cluster = Cluster::new();
    let mut config = cluster.config(2);
    config.index = 3;
    let error = boot(&config, Arc::new(Metrics::new().unwrap())).await.unwrap_err();
    assert!(matches!(error, CommandError::Config(ConfigError::Value { .. })), "{error}");
}

#[tokio::test]
async fn two_processes_can_not_be_one_party() {
    let cluster = Cluster::new();
    let _first = run::lock(&cluster.path("party-1")).unwrap();
    let error = run::run(&cluster.config(1), None).await.unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
}
