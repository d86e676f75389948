//! `kms keygen`: all parties make a key together; nobody ever has it. Starts it everywhere, shows how far it is, collects
//! the parties' signatures and registers the key. The parties need nobody for their work: whoever runs this may go away,
//! and the same command with the same `--run-id` watches on.

mod collect;
mod show;

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use alloy_primitives::B256;
use anyhow::{Context, Result, bail, ensure};
use clap::{Args as ClapArgs, Subcommand};
use kms_chain::manifest::Manifest;
use kms_client::transport::{KeyGenState, Parties, PartyError};
use kms_encoding::ParamsId;
use kms_node::{dkg::proof, keys::KeygenSignature};
use kms_proto::node::{KeyGenRequest, KeyGenResponse};
use tokio::time::Instant;

use crate::{clients, dealer::parse_params, manifest, register_key};
use show::Screen;

/// How often the parties are asked.
const LOOK: Duration = Duration::from_millis(500);
/// How long the slowest parties are waited for once enough have the key.
const TAIL: Duration = Duration::from_secs(60);

/// Arguments of `kms keygen`.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    make: Option<MakeArgs>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show where a run is, at every party.
    Status(StatusArgs),
    /// End a run at all parties, for good.
    Abort(AbortArgs),
    /// Check a proof that a party was wrong in a run, from a party's folder "evidence". Needs nobody's word.
    CheckProof(CheckProofArgs),
}

/// How the parties are reached.
#[derive(Debug, ClapArgs)]
struct Reach {
    /// The cluster manifest.
    #[arg(long)]
    manifest: PathBuf,
    /// Folder with cert.pem and key.pem that all parties admit; to abort with the permission "keygen".
    #[arg(long)]
    client: PathBuf,
}

fn reach(manifest: &Path, client: &Path) -> Result<(Manifest, Parties)> {
    let manifest = manifest::read(manifest)?;
    let parties = clients::parties(&manifest, client)?;
    Ok((manifest, parties))
}

#[derive(Debug, ClapArgs)]
struct MakeArgs {
    // Not flattened: clap takes an optional group with a group in it for absent.
    /// The cluster manifest.
    #[arg(long)]
    manifest: PathBuf,
    /// Folder with cert.pem and key.pem that all parties admit, with the permission "keygen".
    #[arg(long)]
    client: PathBuf,
    /// Parameter set: production or insecure-test.
    #[arg(long, value_parser = parse_params)]
    params: ParamsId,
    /// Make compression, decompression and squashed-compression keys too.
    #[arg(long)]
    with_compression: bool,
    /// SHA-256 of the reference string of the input proofs; the parties fetch it from their object stores.
    #[arg(long)]
    crs_digest: B256,
    /// Id of the run, to go on watching one; without it a new one.
    #[arg(long)]
    run_id: Option<B256>,
    /// Folder for the public keys and the parties' signatures.
    #[arg(long)]
    out: Option<PathBuf>,
    /// JSON-RPC endpoint of the chain to register the key on; without it, it is not registered.
    #[arg(long, requires = "sender_key")]
    rpc: Option<String>,
    /// Private key of the sender of the registration, hex. Anyone may send it.
    #[arg(long, env = "KMS_SENDER_KEY", hide_env_values = true)]
    sender_key: Option<String>,
}

#[derive(Debug, ClapArgs)]
struct StatusArgs {
    #[command(flatten)]
    reach: Reach,
    /// Id of the run; without it each party's last one.
    #[arg(long)]
    run_id: Option<B256>,
}

#[derive(Debug, ClapArgs)]
struct AbortArgs {
    #[command(flatten)]
    reach: Reach,
    /// Id of the run.
    #[arg(long)]
    run_id: B256,
}

#[derive(Debug, ClapArgs)]
struct CheckProofArgs {
    /// The cluster manifest.
    #[arg(long)]
    manifest: PathBuf,
    /// The file.
    file: PathBuf,
}

/// Runs the command and returns what to print at the end.
///
/// # Errors
/// Too few parties take part, the run fails, or the key can't be registered.
pub async fn run(args: &Args, json: bool) -> Result<String> {
    match (&args.command, &args.make) {
        (Some(Command::Status(args)), _) => status(args, json).await,
        (Some(Command::Abort(args)), _) => abort(args, json).await,
        (Some(Command::CheckProof(args)), _) => check_proof(args, json),
        (None, Some(args)) => make(args, json).await,
        (None, None) => bail!("what to make is missing: kms keygen --help"),
    }
}

fn check_proof(args: &CheckProofArgs, json: bool) -> Result<String> {
    let (manifest, path) = (manifest::read(&args.manifest)?, args.file.display());
    let mut bytes = Vec::new();
    let file = File::open(&args.file).with_context(|| format!("read {path}"))?;
    file.take(proof::MAX_BYTES as u64 + 1).read_to_end(&mut bytes).with_context(|| format!("read {path}"))?;
    let proved = proof::check(&manifest, &bytes).with_context(|| format!("{path}"))?;
    let (party, run_id, what) = (proved.party.index(), proved.run_id, proved.what());
    if json {
        return Ok(serde_json::json!({ "party": party, "runId": run_id, "proved": what }).to_string());
    }
    Ok(format!("proved: party {party} was wrong in run {run_id}: {what}"))
}

/// What all parties say about a run, or why they say nothing.
type Views = Vec<(u32, Result<KeyGenResponse, PartyError>)>;

async fn make(args: &MakeArgs, json: bool) -> Result<String> {
    let (manifest, parties) = reach(&args.manifest, &args.client)?;
    let run_id = args.run_id.unwrap_or_else(|| B256::from(rand::random::<[u8; 32]>()));
    let request = KeyGenRequest {
        run_id: run_id.to_vec(),
        params: args.params.to_u8().into(),
        with_compression: args.with_compression,
        crs_digest: args.crs_digest.to_vec(),
    };
    let screen = Screen::new(json);
    screen.say("run", &format!("{run_id}, parameters {}", args.params.name()), &serde_json::json!({ "runId": run_id }));
    let views = drive(&manifest, &parties, &request, run_id, &screen).await?;
    let collected = collect::collect(&manifest, run_id, &views)?;
    screen.finish();
    if let Some(out) = &args.out {
        collect::write_signatures(out, &collected.signatures)?;
        collect::fetch_public(&parties, &collected, out).await?;
    }
    let mut registered = Vec::new();
    if let (Some(rpc), Some(sender)) = (&args.rpc, &args.sender_key) {
        let chain_id = clients::chain_id(rpc).await?;
        let signed: Vec<KeygenSignature> =
            collected.signatures.iter().filter(|signed| signed.chain_id == chain_id).cloned().collect();
        ensure!(!signed.is_empty(), "chain {chain_id} ({rpc}) is not in the manifest");
        registered.push(register_key::register(&manifest, rpc, sender, &signed).await?.chain_id);
    }
    Ok(summary(&collected, run_id, &registered, json))
}

fn summary(collected: &collect::Collected, run_id: B256, registered: &[u64], json: bool) -> String {
    let collect::Collected { key_id, epoch_id, signers, late, wrong, .. } = collected;
    if json {
        let value = serde_json::json!({
            "event": "finished", "runId": run_id, "keyId": key_id, "epochId": epoch_id, "signers": signers,
            "late": late, "wrong": wrong, "registered": registered,
        });
        return format!("{value}\n");
    }
    let list = |parties: &[u32]| parties.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut text =
        format!("key     {key_id}\nepoch   {epoch_id}\nrun     {run_id}\nsigned by parties {}\n", list(signers));
    if !late.is_empty() {
        text += &format!("late: parties {}\n", list(late));
    }
    if !wrong.is_empty() {
        text += &format!(
            "WRONG: parties {} (their operators must look; proofs are in the parties' journals)\n",
            list(wrong)
        );
    }
    for chain in registered {
        text += &format!("registered and active on chain {chain}\n");
    }
    text
}

/// Starts the run wherever it is not started, and watches it to its end. Parties that can't be reached are asked again.
async fn drive(
    manifest: &Manifest,
    parties: &Parties,
    request: &KeyGenRequest,
    run_id: B256,
    screen: &Screen,
) -> Result<Views> {
    let (n, t) = (manifest.committee.n as usize, manifest.committee.t as usize);
    let mut refusals: BTreeMap<u32, String> = BTreeMap::new();
    let mut enough_since: Option<Instant> = None;
    loop {
        let mut views = parties.key_gen_status_all(Some(run_id)).await;
        for (index, view) in &mut views {
            let unknown = view.as_ref().is_ok_and(|view| view.state() == KeyGenState::Unknown);
            if unknown && !refusals.contains_key(index) {
                *view = parties.key_gen(*index, request.clone()).await;
                if let Err(refusal @ (PartyError::Status { .. } | PartyError::NotAdmitted(_))) = view {
                    screen.warn(&format!("party {index} takes no part: {refusal}"));
                    refusals.insert(*index, refusal.to_string());
                }
            }
        }
        ensure!(refusals.len() <= t, "too few parties take part: {}", words(&refusals));
        let ended: BTreeMap<u32, String> = views
            .iter()
            .filter_map(|(index, view)| Some((*index, view.as_ref().ok()?)))
            .filter(|(_, view)| matches!(view.state(), KeyGenState::Aborted | KeyGenState::Failed))
            .map(|(index, view)| (index, format!("{}: {}", view.phase, view.problem)))
            .collect();
        ensure!(ended.len() <= t, "run {run_id} has ended without a key: {}. A new run needs a new id.", words(&ended));
        screen.show(&views, n - t);
        let finished = |view: &KeyGenResponse| view.state() == KeyGenState::Finished;
        let with_key = views.iter().filter(|(_, view)| view.as_ref().is_ok_and(finished)).count();
        let at_work = |view: &KeyGenResponse| matches!(view.state(), KeyGenState::Running | KeyGenState::Finishing);
        let slow = views.iter().any(|(_, view)| view.as_ref().is_ok_and(at_work));
        if with_key >= n - t {
            let since = *enough_since.get_or_insert_with(Instant::now);
            if with_key == n || !slow || since.elapsed() > TAIL {
                return Ok(views);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn words(parties: &BTreeMap<u32, String>) -> String {
    parties.iter().map(|(index, why)| format!("party {index}: {why}")).collect::<Vec<_>>().join("; ")
}

async fn status(args: &StatusArgs, json: bool) -> Result<String> {
    let (_, parties) = reach(&args.reach.manifest, &args.reach.client)?;
    Ok(show::table(&parties.key_gen_status_all(args.run_id).await, json))
}

async fn abort(args: &AbortArgs, json: bool) -> Result<String> {
    let (_, parties) = reach(&args.reach.manifest, &args.reach.client)?;
    let mut views = Vec::new();
    for index in parties.indices() {
        views.push((index, parties.key_gen_abort(index, args.run_id).await));
    }
    let open: Vec<String> =
        views.iter().filter(|(_, view)| view.is_err()).map(|(index, _)| index.to_string()).collect();
    let text = show::table(&views, json);
    if !open.is_empty() {
        print!("{text}");
        bail!("not ended at parties {}: repeat it when they are there", open.join(", "));
    }
    Ok(text)
}

/// The key as its id in hex, for file names.
fn name(key_id: &B256) -> String {
    hex::encode(key_id)
}

/// A 32-byte id of a message.
fn id(bytes: &[u8]) -> Result<B256> {
    B256::try_from(bytes).context("an id has not 32 bytes")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Tool {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Tool::try_parse_from(line.split(' ')).map(|tool| tool.args)
    }

    #[test]
    fn a_run_is_made_watched_and_ended() {
        let digest = B256::repeat_byte(7);
        let line = format!("kms --manifest m --client c --params insecure-test --crs-digest {digest}");
        let args = parse(&line).unwrap();
        let make = args.make.filter(|_| args.command.is_none()).unwrap();
        assert_eq!((make.crs_digest, make.run_id, make.with_compression), (digest, None, false));
        assert!(parse("kms --manifest m --client c --params insecure-test").is_err());
        assert!(parse(&format!("{line} --rpc http://x")).is_err(), "nobody to pay for the registration");
        let abort = parse(&format!("kms abort --manifest m --client c --run-id {digest}")).unwrap();
        assert!(matches!(abort.command, Some(Command::Abort(args)) if args.run_id == digest));
        assert!(matches!(parse("kms status --manifest m --client c").unwrap().command, Some(Command::Status(_))));
        assert!(parse("kms abort --manifest m --client c").is_err());
    }
}
