//! `kms dealer`: key shares from one machine, for development.
//!
//! A dealer makes the whole secret key, shares it and erases it. Until then it knew the key, and nobody can prove that it
//! forgot; so what it deals is good for tests only. `kms keygen` is how keys are made. Signing
//! keys and pseudorandom keys are never dealt: parties make their own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use alloy_primitives::B256;
use anyhow::{Context, Result, bail};
use clap::Args;
use kms_encoding::{ParamsId, SecretKeyKind, ShareFile};
use kms_fhe::{KeyInfo, bundle, crs, keygen};
use kms_mpc::{Committee, insecure_dealt};
use serde::Serialize;

use crate::manifest;

/// Printed before and after, and meant to be in the way.
const WARNING: &str = "\
************************************************************************
* INSECURE: this dealer knows the whole secret key while it runs.      *
* For development only. Never use a dealt key for anything that counts. *
************************************************************************";

/// What to deal, and where to.
#[derive(Clone, Debug, Args)]
pub struct DealArgs {
    /// The manifest with the committee; chains are not needed yet.
    #[arg(long)]
    pub manifest: PathBuf,
    /// Parameter set: production or insecure-test.
    #[arg(long, value_parser = parse_params)]
    pub params: ParamsId,
    /// Folder for `public/` and `party-<i>.share`; must not hold a key already.
    #[arg(long)]
    pub out: PathBuf,
    /// Folder that keeps the (locally made, insecure) CRS between runs.
    #[arg(long)]
    pub crs_cache: Option<PathBuf>,
    /// Make the keys to compress and decompress with too: half a minute and 180 MB with production parameters.
    #[arg(long)]
    pub with_compression: bool,
}

/// What was dealt.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DealReport {
    /// The key.
    pub key_id: B256,
    /// The epoch of its first sharing.
    pub epoch_id: B256,
    /// The committee.
    pub context_id: B256,
    /// Parameter set.
    pub params: &'static str,
    /// The public bundle.
    pub public: PathBuf,
    /// One share file per party, in order.
    pub shares: Vec<PathBuf>,
    /// Always true: the dealer knew the key.
    pub insecure: bool,
}

/// Deals a key for the committee of the manifest.
///
/// # Errors
/// The manifest is not valid, the folder holds a key already, or a file can't be written.
pub fn run(args: &DealArgs) -> Result<DealReport> {
    let committee = manifest::read(&args.manifest)?.committee;
    let (n, t) = (committee.n as usize, committee.t as usize);
    deal(args, committee.context_id.0, &Committee::new(n, t)?)
}

/// Runs the command and returns what to print.
///
/// # Errors
/// See [`run`].
pub fn command(args: &DealArgs, json: bool) -> Result<String> {
    let report = run(args)?;
    if json {
        return Ok(format!("{}\n", serde_json::to_string(&report)?));
    }
    Ok(format!(
        "key     {}\nepoch   {}\ncontext {}\nparams  {}\npublic  {}\nshares  {} files in {}\n",
        report.key_id,
        report.epoch_id,
        report.context_id,
        report.params,
        report.public.display(),
        report.shares.len(),
        args.out.display(),
    ))
}

fn deal(args: &DealArgs, context_id: [u8; 32], committee: &Committee) -> Result<DealReport> {
    eprintln!("{WARNING}");
    let public = args.out.join("public");
    if public.exists() {
        bail!("{} exists already: a dealt key is never overwritten", public.display());
    }
    // The folder gets its name when everything is there, so that an interrupted run does not look like a key.
    let partial = args.out.join("public.partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("remove {}", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("create {}", partial.display()))?;

    let crs = crs::load_or_make_insecure(args.params, args.crs_cache.as_deref())?;
    let (keys, secrets) = keygen::generate(args.params, args.with_compression);
    let info = bundle::write(&partial, &keys, &crs, context_id)?;
    let files = share(&info, committee, |kind| secrets.bits(kind));
    drop(secrets);
    let mut shares = Vec::with_capacity(files.len());
    for file in &files {
        let path = args.out.join(format!("party-{}.share", file.index));
        write_secret(&path, &file.to_bytes()?).with_context(|| format!("write {}", path.display()))?;
        shares.push(path);
    }
    drop(files);
    fs::rename(&partial, &public).with_context(|| format!("rename to {}", public.display()))?;
    eprintln!("The whole key is erased from memory as far as this program reaches. {} shares dealt.", shares.len());
    eprintln!("{WARNING}");
    Ok(DealReport {
        key_id: info.key_id().into(),
        epoch_id: info.epoch_id().into(),
        context_id: context_id.into(),
        params: args.params.name(),
        public,
        shares,
        insecure: true,
    })
}

/// Shares the secret keys: one file per party, in order.
fn share<'a>(
    info: &KeyInfo,
    committee: &Committee,
    bits: impl Fn(SecretKeyKind) -> Option<&'a [u8]>,
) -> Vec<ShareFile> {
    let mut rng = rand::rng();
    // At most 31 parties.
    let mut files: Vec<_> = (1..=committee.n() as u16)
        .map(|index| ShareFile {
            params: info.params(),
            context_id: info.context_id(),
            key_id: info.key_id(),
            epoch_id: info.epoch_id(),
            // The degree is 4 or 5.
            n: committee.n() as u16,
            t: committee.t() as u16,
            index,
            degree: committee.degree() as u8,
            vectors: Vec::new(),
        })
        .collect();
    for kind in [SecretKeyKind::Squashing, SecretKeyKind::SquashedCompression] {
        let Some(bits) = bits(kind) else { continue };
        let secret = zeroize::Zeroizing::new(bits.iter().map(|bit| u128::from(*bit)).collect::<Vec<_>>());
        for (file, vector) in files.iter_mut().zip(insecure_dealt::key_shares(committee, kind, &secret, &mut rng)) {
            file.vectors.push(vector);
        }
    }
    files
}

/// Writes a file that only its owner can read, atomically.
fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file in a folder")?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

pub(crate) fn parse_params(name: &str) -> Result<ParamsId, String> {
    ParamsId::from_name(name).ok_or_else(|| "production or insecure-test".to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use kms_algebra::{Gr, PartyId, shamir};
    use kms_encoding::{FheType, Plaintext, decode};
    use kms_fhe::{EvalKeys, Object, object};

    use super::*;

    fn deal_into(folder: &Path) -> Result<DealReport> {
        let args = DealArgs {
            manifest: PathBuf::new(),
            params: ParamsId::InsecureTest,
            out: folder.join("dealt"),
            crs_cache: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp")),
            with_compression: true,
        };
        deal(&args, [9; 32], &Committee::new(4, 1)?)
    }

    /// What t + 1 parties together would know: f(0) of each element of the key.
    fn reconstruct(files: [&ShareFile; 2], kind: SecretKeyKind) -> Vec<u128> {
        let parties = files.map(|f| PartyId::new(f.index as u8).unwrap());
        let weights = shamir::lagrange::<u128, 4>(&parties, Gr::ZERO);
        let vectors = files.map(|f| f.vectors.iter().find(|v| v.kind() == kind).unwrap());
        (0..vectors[0].len())
            .map(|i| {
                let share = |v: usize| Gr::<u128, 4>(std::array::from_fn(|c| vectors[v].coordinate(c)[i]));
                let secret = weights[0] * share(0) + weights[1] * share(1);
                assert!(secret.0[1..].iter().all(|c| *c == 0) && secret.0[0] < 2);
                secret.0[0]
            })
            .collect()
    }

    #[test]
    fn shares_of_any_two_parties_decrypt_what_the_public_keys_encrypt() {
        let folder = tempfile::tempdir().unwrap();
        let report = deal_into(folder.path()).unwrap();
        assert!(deal_into(folder.path()).unwrap_err().to_string().contains("never overwritten"));
        let files: Vec<_> = report
            .shares
            .iter()
            .map(|path| {
                assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
                ShareFile::from_bytes(&fs::read(path).unwrap()).unwrap()
            })
            .collect();
        assert_eq!(files.iter().map(|f| f.index).collect::<Vec<_>>(), [1, 2, 3, 4]);
        let key_id = report.key_id.0;
        assert!(files.iter().all(|f| (f.key_id, f.epoch_id, f.context_id) == (key_id, report.epoch_id.0, [9; 32])));

        let eval = EvalKeys::load_with_lists(&report.public).unwrap();
        let plain = Plaintext::new(FheType::Uint32, 0xdead_beef_u64).unwrap();
        let value = eval.squash(&eval.cast(&eval.trivial(plain).unwrap(), FheType::Uint64).unwrap()).unwrap();
        let mut handle = [1; 32];
        handle[30] = FheType::Uint64.to_u8();
        let list = object::encode_list(&eval, &key_id, &[(handle, &value)]).unwrap();
        let single = object::encode_integer(ParamsId::InsecureTest, &key_id, &handle, &value).unwrap();
        for bytes in [single, list] {
            let object = Object::parse(&bytes, ParamsId::InsecureTest, &key_id).unwrap();
            let blocks = object.blocks(&handle).unwrap();
            let key = reconstruct([&files[3], &files[1]], blocks.key());
            let mut opened: Vec<u128> = blocks
                .iter()
                .map(|(a, b)| a.iter().zip(&key).fold(b, |x, (a, s)| x.wrapping_sub(a.wrapping_mul(*s))))
                .collect();
            let bound = Committee::new(4, 1).unwrap().flood_bound();
            assert_eq!(decode(FheType::Uint64, &mut opened, bound).unwrap().value(), plain.value());
        }
    }
}
