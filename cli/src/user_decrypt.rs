//! `kms user-decrypt`: read encrypted values that a wallet has a right to. The values appear here and nowhere else.

use std::{fs, path::PathBuf, time::Duration};

use alloy::{
    primitives::{Address, B256, Bytes},
    providers::Provider,
    signers::{SignerSync, local::PrivateKeySigner},
};
use anyhow::{Context, Result, bail, ensure};
use clap::Args as ClapArgs;
use kms_chain::{
    abi::AccessControl,
    extra_data::ExtraData,
    handle::Handle,
    manifest::Manifest,
    permit::{HandleContract, Permit, UserRequest},
};
use kms_client::{
    transport::{Outcome, PartyError, Read},
    user::{Kem, KeyPair, Parties, Progress, ReconstructError, Reconstruction, UserDecryption},
    verify::VerifiedShare,
};
use zeroize::Zeroizing;

use crate::{access::Access, clients, manifest};

mod relayer;

/// A permit begins so long before the latest block, so that a party whose chain is a block behind does not wait.
const BEFORE: u64 = 60;

/// Arguments of `kms user-decrypt`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The cluster manifest.
    #[arg(long)]
    manifest: PathBuf,
    /// Folder with cert.pem and key.pem of a client that the parties admit; they are asked directly.
    #[arg(long, required_unless_present = "relayer", conflicts_with = "relayer")]
    client: Option<PathBuf>,
    /// Ask through this relayer instead.
    #[arg(long, value_name = "URL")]
    relayer: Option<String>,
    #[command(flatten)]
    access: Access,
    /// JSON-RPC endpoint of the handles' chain.
    #[arg(long)]
    rpc: String,
    /// Encrypted JSON file of the wallet that signs the permit.
    #[arg(long)]
    keystore: PathBuf,
    /// File with the password of the keystore; one line end at its end does not count.
    #[arg(long, required_unless_present = "password")]
    password_file: Option<PathBuf>,
    /// The password itself; only from the environment.
    #[arg(long, env = "KMS_KEYSTORE_PASSWORD", hide = true, hide_env_values = true)]
    password: Option<String>,
    /// A handle; give it once per value.
    #[arg(long = "handle", required = true)]
    handles: Vec<B256>,
    /// The contract that the handle is of: once for all of them, or once per handle.
    #[arg(long = "contract", required = true)]
    contracts: Vec<Address>,
    /// Read what this account may read; it must have delegated to the wallet.
    #[arg(long)]
    delegator: Option<Address>,
    /// The smart account that accepts the wallet's signatures (ERC-1271), if it is the one with the right.
    #[arg(long)]
    account: Option<Address>,
    /// Days that the permit is valid for. Its key is forgotten when the tool ends, so one is enough.
    #[arg(long, default_value_t = 1)]
    days: u64,
    /// Seconds to wait for enough shares.
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// Seconds that the rest of the parties have once the values are known, to tell who is wrong and who is missing.
    #[arg(long, default_value_t = 2)]
    tail: u64,
}

/// Signs a permit, collects shares, and returns what to print.
///
/// # Errors
/// The keystore does not open, or there are not enough shares that fit together; the error says what each party said.
pub async fn run(args: &Args, json: bool) -> Result<String> {
    let manifest = manifest::read(&args.manifest)?;
    let wallet = wallet(args)?;
    let pair = KeyPair::generate(Kem::MlKem768)?;
    let request = request(args, &manifest, &wallet, &pair).await?;
    let id = request.id(manifest.decryption_domain.verifying_contract);
    let parties = Parties::from(&manifest.committee);
    let mut reader = UserDecryption::new(parties, &manifest.decryption_domain, request, pair)?;
    let (patience, tail) = (Duration::from_secs(args.patience), Duration::from_secs(args.tail));
    let (result, words) = match (&args.relayer, &args.client) {
        (Some(url), _) => {
            (relayer::read(&args.access.client()?, url, &mut reader, patience, tail).await?, String::new())
        }
        (None, Some(client)) => {
            let parties = clients::parties(&manifest, client)?;
            let Read { result, outcomes } =
                parties.read(&mut reader, tokio::time::Instant::now() + patience, tail).await;
            (result, outcomes.iter().map(|(index, outcome)| said(*index, outcome)).collect())
        }
        (None, None) => bail!("give a relayer or a client certificate"),
    };
    let reconstruction = match result {
        Ok(reconstruction) => reconstruction,
        Err(ReconstructError::Undecided(progress)) => bail!("{}", undecided(id, &progress, &words)),
        Err(refused) => bail!("{id}: {refused}\n{words}"),
    };
    if json { Ok(format!("{}\n", as_json(id, &reconstruction))) } else { Ok(as_text(&reconstruction)) }
}

fn wallet(args: &Args) -> Result<PrivateKeySigner> {
    let password = match (&args.password_file, &args.password) {
        (Some(file), _) => {
            let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
            let text = Zeroizing::new(text);
            Zeroizing::new(text.strip_suffix('\n').unwrap_or(&text).trim_end_matches('\r').to_owned())
        }
        (None, Some(password)) => Zeroizing::new(password.clone()),
        (None, None) => bail!("the keystore needs a password"),
    };
    PrivateKeySigner::decrypt_keystore(&args.keystore, password.as_bytes())
        .with_context(|| format!("open the keystore {}", args.keystore.display()))
}

/// The signed request.
async fn request(args: &Args, manifest: &Manifest, wallet: &PrivateKeySigner, pair: &KeyPair) -> Result<UserRequest> {
    let contracts = match args.contracts.as_slice() {
        [one] => vec![*one; args.handles.len()],
        many => many.to_vec(),
    };
    let (handles, named) = (args.handles.len(), contracts.len());
    ensure!(handles == named, "{handles} handles, but {named} contracts: give one, or one per handle");
    let provider = clients::provider(&args.rpc)?;
    let chain_id = provider.get_chain_id().await.with_context(|| format!("ask {}", args.rpc))?;
    let chain = manifest.chain(chain_id).with_context(|| format!("chain {chain_id} is not in the manifest"))?;
    let user = args.account.unwrap_or_else(|| wallet.address());
    // Block time, not this machine's: the parties go by it. And not before the user's last word about older permits.
    let latest = provider.get_block_by_number(Default::default()).await?.context("the chain has no block")?;
    let acl = AccessControl::new(chain.contracts.access_control, &provider);
    let invalid_before = acl.decryptionSignaturesInvalidBefore(user).call().await.context("ask the ACL")?;
    let mut permitted = contracts.clone();
    permitted.sort_unstable();
    permitted.dedup();
    let permit = Permit {
        user,
        delegator: args.delegator,
        public_key: Bytes::copy_from_slice(pair.public_key().as_bytes()),
        contracts: permitted,
        start: latest.header.timestamp.saturating_sub(BEFORE).max(invalid_before),
        days: args.days,
        extra_data: ExtraData::V1 { context: manifest.committee.context_id }.encode(),
    };
    let digest = permit.digest(chain_id, manifest.decryption_domain.verifying_contract);
    let signature = wallet.sign_hash_sync(&digest).context("sign the permit")?.as_bytes();
    let pairs = args.handles.iter().zip(contracts);
    let request = UserRequest {
        host_chain_id: chain_id,
        permit,
        signature: Bytes::copy_from_slice(&signature),
        pairs: pairs.map(|(handle, contract)| HandleContract { handle: *handle, contract }).collect(),
    };
    request.check().map_err(|error| anyhow::anyhow!("{}: {error}", error.label()))?;
    Ok(request)
}

/// A line about what one party said.
fn said(index: u32, outcome: &Result<Outcome<VerifiedShare>, PartyError>) -> String {
    let said = match outcome {
        Ok(Outcome::Answer(_)) => "sealed a share".to_owned(),
        Ok(Outcome::NotYet { reason, detail, .. }) => format!("not yet ({}): {detail}", reason.as_str_name()),
        Ok(Outcome::Refused { reason, detail }) => format!("refused ({}): {detail}", reason.as_str_name()),
        Ok(Outcome::EpochNotLive { live }) => format!("holds other epochs: {live:?}"),
        Err(error) => error.to_string(),
    };
    format!("  party {index}: {said}\n")
}

fn undecided(id: B256, progress: &Progress, said: &str) -> String {
    let mut text = format!(
        "not enough shares of {id}: {} that fit together, {} are needed",
        progress.shares.len(),
        progress.needed
    );
    text += &notes(progress);
    text + "\n" + said
}

/// Who is wrong, elsewhere or missing, a line each.
fn notes(progress: &Progress) -> String {
    let mut text = String::new();
    for wrong in &progress.wrong {
        text += &format!("\nwrong      party {} ({})", wrong.party, wrong.fault.label());
    }
    for (party, foreign) in &progress.elsewhere {
        text += &format!("\nelsewhere  party {party} ({})", foreign.label());
    }
    if !progress.missing.is_empty() {
        text += &format!("\nmissing    parties {}", progress.missing);
    }
    text
}

fn as_text(reconstruction: &Reconstruction) -> String {
    let mut text = String::new();
    for (handle, value) in &reconstruction.values {
        let ty = Handle::parse(*handle).map_or_else(|_| "?".into(), |handle| format!("{:?}", handle.fhe_type()));
        text += &format!("{handle}  {}  {}\n", ty.to_lowercase(), number(&value.value().0));
    }
    text += &format!("agreeing   parties {}", reconstruction.agreeing);
    text + &notes(&reconstruction.progress) + "\n"
}

fn as_json(id: B256, reconstruction: &Reconstruction) -> serde_json::Value {
    let progress = &reconstruction.progress;
    let indices = |set: &mut dyn Iterator<Item = u8>| set.collect::<Vec<_>>();
    serde_json::json!({
        "requestId": id,
        "values": reconstruction.values.iter().map(|(_, value)| number(&value.value().0)).collect::<Vec<_>>(),
        "keyId": reconstruction.group.key,
        "epochId": reconstruction.group.epoch,
        "agreeing": indices(&mut reconstruction.agreeing.iter().map(|party| party.index())),
        "wrong": progress
            .wrong
            .iter()
            .map(|wrong| serde_json::json!({ "party": wrong.party.index(), "fault": wrong.fault.label() }))
            .collect::<Vec<_>>(),
        "elsewhere": indices(&mut progress.elsewhere.iter().map(|(party, _)| party.index())),
        "missing": indices(&mut progress.missing.iter().map(|party| party.index())),
    })
}

fn number(word: &[u8; 32]) -> String {
    alloy::primitives::U256::from_be_bytes(*word).to_string()
}
