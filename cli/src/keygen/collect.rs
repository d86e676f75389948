//! What the parties sign of a new key, checked, and the public files of it.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
};

use alloy_primitives::{B256, Bytes, U256};
use anyhow::{Context, Result, ensure};
use kms_chain::{
    eip712::{KeyDigest, key_management_domain, keygen_digest, recover},
    manifest::Manifest,
};
use kms_client::transport::{KeyGenState, Parties};
use kms_fhe::{KeyInfo, bundle};
use kms_node::keys::{KeygenSignature, SignedDigest, check_files};
use kms_proto::node::{KeyGenResponse, KeySignature};

use super::{Views, id, name, show};

/// A key that enough parties have signed.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) key_id: B256,
    pub(super) epoch_id: B256,
    /// Parties with a right signature.
    pub(super) signers: Vec<u32>,
    /// All right signatures, for all chains.
    pub(super) signatures: Vec<KeygenSignature>,
    /// Parties that some signer calls late.
    pub(super) late: Vec<u32>,
    /// Parties that more than t signers call wrong.
    pub(super) wrong: Vec<u32>,
}

/// Takes the key that a quorum has signed.
///
/// # Errors
/// Too few have signed the same.
pub(super) fn collect(manifest: &Manifest, run_id: B256, views: &Views) -> Result<Collected> {
    let done = views.iter().filter_map(|(index, view)| Some((*index, view.as_ref().ok()?)));
    let done: Vec<(u32, &KeyGenResponse)> = done.filter(|(_, view)| view.state() == KeyGenState::Finished).collect();
    let t = manifest.committee.t as usize;
    let quorum = (manifest.committee.n as usize) - t;
    let same = |a: &KeyGenResponse, b: &KeyGenResponse| a.key_id == b.key_id && a.epoch_id == b.epoch_id;
    let agreed = done.iter().find(|(_, a)| done.iter().filter(|(_, b)| same(a, b)).count() >= quorum);
    let (_, agreed) = agreed.context("the parties have come to different keys: compare their journals")?;
    let (key_id, epoch_id) = (id(&agreed.key_id)?, id(&agreed.epoch_id)?);
    let (mut signers, mut signatures) = (Vec::new(), Vec::new());
    for (index, view) in done.iter().filter(|(_, view)| same(view, agreed)) {
        match view.signatures.iter().map(|signed| check(manifest, *index, run_id, view, signed)).collect() {
            Ok(own) => {
                let own: Vec<KeygenSignature> = own;
                signers.push(*index);
                signatures.extend(own);
            }
            Err(error) => eprintln!("warning: the signature of party {index} does not count: {error:#}"),
        }
    }
    ensure!(signers.len() >= quorum, "only parties {signers:?} have signed key {key_id} rightly");
    let named = |bitmap: fn(&KeyGenResponse) -> &Vec<u8>, least: usize| {
        let mut counts = std::collections::BTreeMap::<u32, usize>::new();
        for (_, view) in &done {
            for party in show::parties(bitmap(view)) {
                *counts.entry(party).or_default() += 1;
            }
        }
        counts.into_iter().filter(|(_, count)| *count >= least).map(|(party, _)| party).collect()
    };
    let (late, wrong) = (named(|view| &view.late, 1), named(|view| &view.wrong, t + 1));
    Ok(Collected { key_id, epoch_id, signers, signatures, late, wrong })
}

/// A party's signature as a file would hold it, if it is that party's over this key.
fn check(
    manifest: &Manifest,
    index: u32,
    run_id: B256,
    view: &KeyGenResponse,
    signed: &KeySignature,
) -> Result<KeygenSignature> {
    let (key_id, epoch_id) = (id(&view.key_id)?, id(&view.epoch_id)?);
    let digests = signed
        .digests
        .iter()
        .map(|part| Ok(SignedDigest { key_type: u8::try_from(part.key_type)?, digest: id(&part.digest)? }))
        .collect::<Result<Vec<_>>>()?;
    let chain = manifest.chain(signed.chain_id).context("it is for a chain that is not in the manifest")?;
    let domain = key_management_domain(signed.chain_id, chain.contracts.key_management);
    let statement: Vec<_> = digests
        .iter()
        .map(|d| KeyDigest { keyType: d.key_type, digest: Bytes::copy_from_slice(&d.digest[..]) })
        .collect();
    let prep_keygen_id = U256::from_be_bytes(run_id.0);
    let digest = keygen_digest(&domain, prep_keygen_id, key_id, &statement, &signed.extra_data);
    let bytes = signed.signature.as_slice().try_into().context("it has not 65 bytes")?;
    let signer = manifest.committee.party(index).context("no such party")?.signer;
    ensure!(recover(digest, &bytes)? == signer, "it is not the signer's of party {index}");
    Ok(KeygenSignature {
        version: 1,
        party: u16::try_from(index)?,
        chain_id: signed.chain_id,
        context_id: manifest.committee.context_id,
        key_id,
        epoch_id,
        prep_keygen_id,
        digests,
        extra_data: signed.extra_data.clone().into(),
        signature: signed.signature.clone().into(),
    })
}

/// Writes `keygen-signature-<chain id>-party-<i>.json`, as `kms register-key` reads them.
pub(super) fn write_signatures(folder: &Path, signatures: &[KeygenSignature]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    for signature in signatures {
        let path = folder.join(format!("keygen-signature-{}-party-{}.json", signature.chain_id, signature.party));
        fs::write(&path, serde_json::to_vec_pretty(signature)?).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Fetches the public keys from whichever signer gives them, into `public/` of the folder, and checks all of it against
/// the key id.
pub(super) async fn fetch_public(parties: &Parties, collected: &Collected, folder: &Path) -> Result<()> {
    let target = folder.join("public");
    if KeyInfo::load(&target).is_ok_and(|info| info.key_id() == collected.key_id.0) {
        return Ok(());
    }
    ensure!(!target.exists(), "{} holds something else already", target.display());
    let partial = folder.join("public.partial");
    let mut problems = Vec::new();
    for party in &collected.signers {
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir_all(&partial)?;
        match fetch(parties, *party, collected.key_id, &partial).await {
            Ok(()) => {
                fs::rename(&partial, &target).with_context(|| format!("write {}", target.display()))?;
                return Ok(());
            }
            Err(error) => problems.push(format!("party {party}: {error:#}")),
        }
    }
    anyhow::bail!("nobody gave the public files of key {}: {}", name(&collected.key_id), problems.join("; "))
}

/// Largest description.
const MAX_INFO: u64 = 16 << 10;

async fn fetch(parties: &Parties, party: u32, key_id: B256, folder: &Path) -> Result<()> {
    let mut description = Vec::new();
    parties.key_file(party, key_id, bundle::INFO, MAX_INFO, &mut description).await?;
    let info = KeyInfo::parse(&description)?;
    ensure!(info.key_id() == key_id.0, "its description is that of another key");
    for (file, listed) in info.files() {
        let mut out = BufWriter::new(File::create(folder.join(file))?);
        parties.key_file(party, key_id, file, listed.bytes, &mut out).await?;
        out.flush()?;
    }
    check_files(folder, &info)?;
    fs::write(folder.join(bundle::INFO), description)?;
    Ok(())
}
