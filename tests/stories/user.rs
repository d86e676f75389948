//! Values for one user alone.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use alloy::{
    primitives::{Address, B256, U256},
    signers::{k256::elliptic_curve::rand_core::OsRng, local::PrivateKeySigner},
    sol_types::SolValue,
};
use anyhow::{Context, Result, bail, ensure};
use kms_chain::{abi::AccessControl, permit::UserRequest};
use kms_client::{
    transport::{Outcome, RefusedReason},
    user::{ReconstructError, Reconstruction, UserDecryption},
};
use kms_encoding::{FheType, Plaintext};
use kms_tests::{
    anvil::Role,
    ballot::Encryptor,
    cluster::Cluster,
    parties,
    token::{self, Token},
    user::Asking,
    vote,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);
const ALICE: Role = Role::Voter(0);
const BOB: Role = Role::Voter(1);

/// A token of which Alice has got 1,000 and Bob nothing, and the handle of her balance, which can be read.
async fn token(cluster: &Cluster) -> Result<(Token, B256)> {
    let token = Token::deploy(cluster).await?;
    let alice = ALICE.wallet().address();
    token.mint(cluster, alice, 1000).await?;
    let handle = token.balance(cluster, alice).await?;
    token::wait_until_committed(cluster, handle, PATIENCE).await?;
    Ok((token, handle))
}

/// Asks these parties until each has sealed a share, and adds the shares.
async fn shares(cluster: &Cluster, reader: &mut UserDecryption, from: &[u32]) -> Result<()> {
    let (clients, request) = (parties::operator(cluster)?, reader.request().clone());
    for party in from {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match clients.user_decrypt(*party, &request).await {
                Ok(Outcome::Answer(share)) => break drop(reader.add(&share.response)?),
                // A party that has just started is not ready, and has a chain to reach.
                Ok(Outcome::NotYet { retry_after, .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(retry_after).await;
                }
                other => bail!("party {party}: {other:?}"),
            }
        }
    }
    Ok(())
}

/// The value that all parties give together.
async fn read(cluster: &Cluster, asking: Asking) -> Result<Reconstruction> {
    let mut reader = asking.reader(cluster)?;
    shares(cluster, &mut reader, &[1, 2, 3, 4]).await?;
    Ok(reader.reconstruct()?)
}

fn value(reconstruction: &Reconstruction) -> Result<U256> {
    let (_, value) = reconstruction.values.first().context("no value")?;
    Ok(U256::from_be_bytes(value.value().0))
}

/// Every party refuses for this reason, in words that begin with this label.
async fn all_refuse(cluster: &Cluster, request: &UserRequest, expected: RefusedReason, label: &str) -> Result<()> {
    let clients = parties::operator(cluster)?;
    for party in 1..=4 {
        match clients.user_decrypt(party, request).await? {
            Outcome::Refused { reason, detail } => {
                ensure!(reason == expected, "party {party} refused as {reason:?}: {detail}");
                ensure!(detail.starts_with(&format!("{label}: ")), "party {party} says {detail}");
            }
            other => bail!("party {party} said {other:?} instead of refusing"),
        }
    }
    Ok(())
}

pub(crate) async fn a_balance_is_read_although_one_party_lies_and_another_comes_late(
    cluster: &mut Cluster,
) -> Result<()> {
    let (token, _) = token(cluster).await?;
    let (alice, bob) = (ALICE.wallet().address(), BOB.wallet().address());
    let encryptor = Encryptor::load(&cluster.public_dir())?;
    let amount = [Plaintext::new(FheType::Uint64, 300_u64)?];
    let list = encryptor.encrypt(&amount, cluster.contracts.access_control, token.address, alice)?;
    let input = vote::post_input(cluster, token.address, alice, &list).await?;
    token.transfer(cluster, ALICE, bob, &input).await?;
    let [left, got] = [token.balance(cluster, alice).await?, token.balance(cluster, bob).await?];
    for handle in [left, got] {
        token::wait_until_committed(cluster, handle, PATIENCE).await?;
    }
    let asking = Asking::new(cluster, BOB, token.address, &[got], |_| ()).await?;
    let result = read(cluster, asking).await?;
    ensure!(value(&result)? == U256::from(300), "Bob has {result:?}");
    ensure!(result.agreeing.len() == 4 && result.progress.wrong.is_empty(), "somebody is wrong: {result:?}");

    let honest = cluster.parties[1].args().to_vec();
    cluster.parties[1].kill();
    cluster.parties[1].push_args(&["--insecure-misbehave", "wrong-share"]);
    cluster.parties[1].restart()?;
    cluster.heal().await?;
    cluster.parties[2].kill();
    let outcome = past_a_liar(cluster, token.address, left).await;
    cluster.parties[1].kill();
    cluster.parties[1].set_args(honest);
    cluster.heal().await?;
    outcome?;

    // Two parties down are one too many to read anything, one is not.
    cluster.parties[2].kill();
    let mut reader = Asking::new(cluster, ALICE, token.address, &[left], |_| ()).await?.reader(cluster)?;
    shares(cluster, &mut reader, &[1, 2]).await?;
    ensure!(matches!(reader.reconstruct(), Err(ReconstructError::Undecided(_))), "two shares were enough");
    shares(cluster, &mut reader, &[4]).await?;
    let result = reader.reconstruct()?;
    ensure!(value(&result)? == U256::from(700), "Alice has {result:?}");
    ensure!(result.progress.missing.to_string() == "3" && result.progress.wrong.is_empty(), "{result:?}");
    cluster.heal().await
}

/// With one party lying and one down three shares decide nothing. The fourth does, and names the liar.
async fn past_a_liar(cluster: &mut Cluster, contract: Address, handle: B256) -> Result<()> {
    let mut reader = Asking::new(cluster, ALICE, contract, &[handle], |_| ()).await?.reader(cluster)?;
    shares(cluster, &mut reader, &[1, 2, 4]).await?;
    match reader.reconstruct() {
        Err(ReconstructError::Undecided(progress)) => {
            ensure!(progress.missing.to_string() == "3", "{progress:?}");
        }
        other => bail!("three shares, one of them a lie, gave {other:?}"),
    }
    cluster.heal().await?;
    shares(cluster, &mut reader, &[3]).await?;
    let result = reader.reconstruct()?;
    ensure!(value(&result)? == U256::from(700), "Alice has {result:?}");
    ensure!(result.progress.culprits().to_string() == "2", "the liar is not named: {result:?}");
    Ok(())
}

pub(crate) async fn nobody_else_reads_it_and_what_was_given_is_taken_back(cluster: &mut Cluster) -> Result<()> {
    let (token, handle) = token(cluster).await?;
    let (alice, bob) = (ALICE.wallet().address(), BOB.wallet().address());
    let provider = cluster.anvil.provider_as(ALICE)?;
    let acl = AccessControl::new(cluster.contracts.access_control, &provider);

    let own = Asking::new(cluster, BOB, token.address, &[handle], |_| ()).await?.request;
    all_refuse(cluster, &own, RefusedReason::NotPermitted, "UserNotAllowed").await?;
    let forged = Asking::new(cluster, BOB, token.address, &[handle], |permit| permit.user = alice).await?.request;
    all_refuse(cluster, &forged, RefusedReason::Signature, "WrongSigner").await?;

    let for_alice =
        async || Asking::new(cluster, BOB, token.address, &[handle], |permit| permit.delegator = Some(alice)).await;
    let request = for_alice().await?.request;
    all_refuse(cluster, &request, RefusedReason::Delegation, "NotDelegated").await?;
    mined(acl.delegateForUserDecryption(bob, token.address, u64::MAX).send().await?).await?;
    let result = read(cluster, for_alice().await?).await?;
    ensure!(value(&result)? == U256::from(1000), "Bob reads {result:?} for Alice");
    mined(acl.revokeDelegationForUserDecryption(bob, token.address).send().await?).await?;
    // The very permit that was good a moment ago.
    all_refuse(cluster, &request, RefusedReason::Delegation, "NotDelegated").await?;

    let asking = Asking::new(cluster, ALICE, token.address, &[handle], |_| ()).await?;
    let request = asking.request.clone();
    ensure!(value(&read(cluster, asking).await?)? == U256::from(1000), "Alice can't read her own balance");
    mined(acl.invalidateDecryptionSignaturesBefore(request.permit.start + 1).send().await?).await?;
    all_refuse(cluster, &request, RefusedReason::Permit, "PermitInvalidated").await?;
    let later = Asking::new(cluster, ALICE, token.address, &[handle], |_| ()).await?;
    ensure!(value(&read(cluster, later).await?)? == U256::from(1000), "a new permit is not good");

    // A smart account whose key is Alice's.
    let deployer = cluster.anvil.provider_as(Role::Deployer)?;
    let account = vote::deploy_from(&deployer, "Wallets", "Wallet", alice.abi_encode()).await?;
    token.mint(cluster, account, 55).await?;
    let handle = token.balance(cluster, account).await?;
    token::wait_until_committed(cluster, handle, PATIENCE).await?;
    let asking = Asking::new(cluster, ALICE, token.address, &[handle], |permit| permit.user = account).await?;
    ensure!(value(&read(cluster, asking).await?)? == U256::from(55), "the account can't read its balance");
    let forged = Asking::new(cluster, BOB, token.address, &[handle], |permit| permit.user = account).await?.request;
    all_refuse(cluster, &forged, RefusedReason::Signature, "SignatureRejected").await
}

async fn mined(sent: alloy::providers::PendingTransactionBuilder<alloy::network::Ethereum>) -> Result<()> {
    let receipt = sent.with_timeout(Some(Duration::from_secs(60))).get_receipt().await?;
    ensure!(receipt.status(), "a transaction reverted");
    Ok(())
}

pub(crate) async fn the_tool_reads_with_a_keystore_wallet(cluster: &mut Cluster) -> Result<()> {
    let (token, handle) = token(cluster).await?;
    let home = tempfile::tempdir()?;
    let password = home.path().join("password");
    fs::write(&password, "correct horse\n")?;
    let [alice, bob] = [ALICE, BOB].map(|role| keystore(home.path(), role));
    let (alice, bob) = (alice?, bob?);
    let tool = |wallet: &Path, password: &Path, more: &[&str]| {
        let [manifest, wallet, password] =
            [&cluster.path("manifest.json"), wallet, password].map(|path| path.display().to_string());
        let (handle, contract, rpc) = (handle.to_string(), token.address.to_string(), cluster.anvil.url());
        let mut args = vec!["--json", "user-decrypt", "--manifest", &manifest, "--rpc", &rpc, "--keystore", &wallet];
        args.extend(["--password-file", &password, "--handle", &handle, "--contract", &contract]);
        args.extend(more);
        cluster.kms(&args)
    };
    let certificate = cluster.path("clients/operator").display().to_string();
    let directly = ["--client", certificate.as_str(), "--tail", "30"];
    let read: Value = serde_json::from_str(&tool(&alice, &password, &directly)?)?;
    ensure!(read["values"][0] == "1000" && read["agreeing"] == serde_json::json!([1, 2, 3, 4]), "the tool says {read}");
    let through = ["--relayer", cluster.relayer_url.as_str()];
    let read: Value = serde_json::from_str(&tool(&alice, &password, &through)?)?;
    ensure!(read["values"][0] == "1000" && read["wrong"] == serde_json::json!([]), "through the relayer: {read}");

    let fails = |outcome: Result<String>, words: &[&str]| match outcome {
        Ok(text) => bail!("the tool said {text}"),
        Err(error) => {
            let text = format!("{error:?}");
            ensure!(words.iter().all(|word| text.contains(word)), "{words:?} not in {text}");
            Ok(())
        }
    };
    let wrong = home.path().join("wrong");
    fs::write(&wrong, "horse\n")?;
    fails(tool(&alice, &wrong, &directly), &["open the keystore"])?;
    let no = "UserNotAllowed: ";
    fails(tool(&bob, &password, &directly), &["party 1: refused", "party 4: refused", no])?;
    fails(tool(&bob, &password, &through), &["UserNotAllowed"])?;
    let delegator = ALICE.wallet().address().to_string();
    let delegated = [directly.as_slice(), &["--delegator", &delegator]].concat();
    fails(tool(&bob, &password, &delegated), &["NotDelegated"])?;
    let provider = cluster.anvil.provider_as(ALICE)?;
    let acl = AccessControl::new(cluster.contracts.access_control, &provider);
    mined(acl.delegateForUserDecryption(BOB.wallet().address(), token.address, u64::MAX).send().await?).await?;
    let read: Value = serde_json::from_str(&tool(&bob, &password, &delegated)?)?;
    ensure!(read["values"][0] == "1000", "the delegate reads {read}");
    Ok(())
}

/// An encrypted file of a wallet.
fn keystore(folder: &Path, role: Role) -> Result<PathBuf> {
    let name = role.wallet().address().to_string();
    let secret = hex::decode(role.insecure_key())?;
    PrivateKeySigner::encrypt_keystore(folder, &mut OsRng, &secret, "correct horse", Some(&name))?;
    Ok(folder.join(name))
}
