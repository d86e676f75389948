//! A holder reads its encrypted balance on a web page, in a real browser; and programs in Node do the same.

use std::time::Duration;

use anyhow::{Result, ensure};
use kms_tests::{
    anvil::Role,
    cluster::Cluster,
    javascript::{self, Page},
    paths,
    token::{self, Token},
};
use serde_json::{Value, json};

const ALICE: Role = Role::Voter(0);
const BOB: Role = Role::Voter(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// A token of which Alice has this much.
async fn token_with(cluster: &Cluster, amount: u64) -> Result<Token> {
    let token = Token::deploy(cluster).await?;
    token.mint(cluster, ALICE.wallet().address(), amount).await?;
    Ok(token)
}

/// What `reader` reads as its own balance.
async fn balance(cluster: &Cluster, token: &Token, reader: Role) -> Result<Value> {
    let handle = token.balance(cluster, reader.wallet().address()).await?;
    let read = javascript::decrypt(cluster, reader, handle, token.address).await?;
    ensure!(read.wrong.is_empty() && read.agreeing.len() >= 3, "{read:?}");
    ensure!(read.values.len() == 1 && read.values[0].fhe_type == "uint64", "{read:?}");
    Ok(read.values[0].value.clone())
}

pub(crate) async fn a_program_in_node_encrypts_sends_and_reads(cluster: &mut Cluster) -> Result<()> {
    let token = token_with(cluster, 100).await?;
    let (alice, bob) = (ALICE.wallet().address(), BOB.wallet().address());
    let minted = token.balance(cluster, alice).await?;
    // Asked before anything is computed: the answer waits for the digest.
    ensure!(balance(cluster, &token, ALICE).await? == "100", "the minted balance");

    let amount = javascript::encrypt(cluster, token.address, alice, &json!([["uint64", "30"]])).await?;
    ensure!(token.transfer(cluster, BOB, bob, &amount).await.is_err(), "Bob sent what Alice has encrypted");
    token.transfer(cluster, ALICE, bob, &amount).await?;
    ensure!(balance(cluster, &token, ALICE).await? == "70", "the sender's balance");
    ensure!(balance(cluster, &token, BOB).await? == "30", "the receiver's balance");

    // Bob can't read Alice's balance, and she can read the old one for ever.
    token::wait_until_committed(cluster, token.balance(cluster, alice).await?, PATIENCE).await?;
    let foreign = javascript::decrypt(cluster, BOB, minted, token.address).await;
    ensure!(foreign.is_err_and(|error| error.to_string().contains("RelayerError")), "Bob read Alice's balance");
    let old = javascript::decrypt(cluster, ALICE, minted, token.address).await?;
    ensure!(old.values[0].value == "100", "{old:?}");
    Ok(())
}

pub(crate) async fn a_holder_reads_its_balance_in_a_browser(cluster: &mut Cluster) -> Result<()> {
    let token = token_with(cluster, 1_250_500_000).await?;
    let page = Page::serve(cluster, &token, ("Alice", ALICE), ("Bob", BOB)).await?;
    let pictures = paths::target()?.join("page");
    let task = json!({
        "url": page.url,
        "out": pictures,
        "balance": "1,250.50 CONF",
        "transfer": { "amount": "250.25", "balance": "1,000.25 CONF" },
    });
    let seen = javascript::run("browse.mjs", &task, &[]).await?;
    ensure!(seen["shown"][0] == "1,250.50 CONF" && seen["shown"][1] == "1,000.25 CONF", "the page showed {seen}");
    ensure!(pictures.join("balance-light.png").exists(), "no picture in {}", pictures.display());
    // What the page sent, the receiver has.
    ensure!(balance(cluster, &token, BOB).await? == "250250000", "the receiver's balance");
    Ok(())
}
