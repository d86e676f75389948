//! `kms crs`: a reference string of input proofs, put where the parties fetch it by its digest.

use std::{
    fs,
    path::{Path, PathBuf},
};

use alloy_primitives::B256;
use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;
use kms_encoding::ParamsId;
use kms_fhe::crs;
use sha2::{Digest, Sha256};

use crate::dealer::parse_params;

/// Arguments of `kms crs`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// DEVELOPMENT ONLY: make it on this machine, which could keep what forges proofs.
    #[arg(long)]
    insecure_local: bool,
    /// Parameter set: production or insecure-test.
    #[arg(long, value_parser = parse_params)]
    params: ParamsId,
    /// Folder of an object store of the parties: it becomes `crs/<digest>` there.
    #[arg(long)]
    store: PathBuf,
    /// Folder that keeps it between runs.
    #[arg(long)]
    cache: Option<PathBuf>,
}

/// Makes and stores it; returns what to print.
///
/// # Errors
/// It is not to be made insecurely, and there is no other way; or it can't be written.
pub fn run(args: &Args, json: bool) -> Result<String> {
    ensure!(args.insecure_local, "there is no ceremony: only --insecure-local makes a reference string");
    let digest = insecure_local(args.params, &args.store, args.cache.as_deref())?;
    if json {
        return Ok(format!("{}\n", serde_json::json!({ "crsDigest": digest, "insecure": true })));
    }
    Ok(format!("crs {digest}  INSECURE: whoever made it could forge proofs of encryptions\n"))
}

fn insecure_local(params: ParamsId, store: &Path, cache: Option<&Path>) -> Result<B256> {
    let crs = crs::load_or_make_insecure(params, cache)?;
    let digest = B256::from_slice(&Sha256::digest(crs.bytes()));
    let folder = store.join("crs");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let path = folder.join(hex::encode(digest));
    if !path.exists() {
        let partial = folder.join(format!("{}.partial", hex::encode(digest)));
        fs::write(&partial, crs.bytes()).with_context(|| format!("write {}", partial.display()))?;
        fs::rename(&partial, &path).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(digest)
}
