//! `kms-node init`: a party comes into being. Its signing key and TLS root are made here, sealed here, and stay here.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use kms_chain::eip712::signer_address;
use kms_chain::manifest::Card;
use rand::TryRngCore;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

use super::{CommandError, PASSPHRASE, SEALED, write_file};
use crate::error::SealedError;
use crate::sealed::{Cost, Vault, read_passphrase};
use crate::{identity, secrets};

/// Arguments of `kms-node init`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Data folder of the party; made if it is not there.
    #[arg(long)]
    pub dir: PathBuf,
    /// Name for people.
    #[arg(long)]
    pub name: String,
    /// Where other parties will connect, `https://host:port`.
    #[arg(long)]
    pub peer_url: String,
    /// Where relayers and operators will connect, `https://host:port`.
    #[arg(long)]
    pub client_url: String,
    /// File with the passphrase that seals the party's secrets; without it one is made in the data folder.
    #[arg(long)]
    pub seal: Option<PathBuf>,
}

/// Makes what is not there yet and writes `card.json`: it can be repeated, with other URLs too, and never replaces a key.
///
/// # Errors
/// A URL is malformed, the passphrase is another one than before, or a file can't be written.
pub fn run(args: &Args) -> Result<Card, CommandError> {
    std::fs::create_dir_all(&args.dir).map_err(|source| CommandError::Io { path: args.dir.clone(), source })?;
    let passphrase = match &args.seal {
        Some(path) => read_passphrase(path)?,
        None => own_passphrase(&args.dir.join(PASSPHRASE))?,
    };
    let vault = open_or_create(&args.dir.join(SEALED), &passphrase)?;
    let signing_key = match secrets::load_signing_key(&vault) {
        Err(SealedError::Missing(_)) => secrets::create_signing_key(&vault)?,
        other => other?,
    };
    let tls_root = match secrets::load_tls_root(&vault) {
        Err(SealedError::Missing(_)) => {
            let root = identity::new_root(&args.name)?;
            secrets::store_tls_root(&vault, &root)?;
            root
        }
        other => other?,
    };
    let card = Card {
        version: 1,
        name: args.name.clone(),
        signer: signer_address(&signing_key),
        tls_root: tls_root.certificate_pem,
        peer_url: args.peer_url.clone(),
        client_url: args.client_url.clone(),
    };
    let json = serde_json::to_vec_pretty(&card).map_err(|e| CommandError::Internal(e.to_string()))?;
    // Its own parser decides whether it is a good card.
    Card::parse(&json).map_err(|e| CommandError::Internal(format!("the card would not be accepted: {e}")))?;
    write_file(&args.dir.join("card.json"), &json)?;
    Ok(card)
}

fn open_or_create(dir: &Path, passphrase: &[u8]) -> Result<Vault, SealedError> {
    match Vault::open(dir, passphrase) {
        Err(SealedError::Missing(_)) => Vault::create(dir, passphrase, Cost::PARTY),
        other => other,
    }
}

/// The passphrase in the data folder, made of 256 random bits if there is none.
fn own_passphrase(path: &Path) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let io = |source| CommandError::Io { path: path.to_owned(), source };
    if !path.exists() {
        let mut bytes = Zeroizing::new([0; 32]);
        OsRng.try_fill_bytes(&mut *bytes).map_err(|e| CommandError::Internal(e.to_string()))?;
        let text = Zeroizing::new(hex::encode(*bytes));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        tracing::warn!(path = %path.display(), "made a passphrase next to what it seals: good for development only");
    }
    Ok(read_passphrase(path)?)
}
