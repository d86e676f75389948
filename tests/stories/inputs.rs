//! Encrypted inputs belong to their user, contract and chain.

use alloy::primitives::Address;
use anyhow::{Result, ensure};
use kms_tests::{
    anvil::Role,
    ballot::Encryptor,
    cluster::Cluster,
    vote::{self, Vote},
};

pub(crate) async fn an_input_serves_nobody_but_its_user_contract_and_chain(cluster: &mut Cluster) -> Result<()> {
    let contract = Vote::deploy(cluster).await?;
    let other = Vote::deploy(cluster).await?;
    let encryptor = Encryptor::load(&cluster.public_dir())?;
    let alice = Role::Voter(0);
    let user = alice.wallet().address();
    let mallory = Role::Voter(1);
    let acl = cluster.contracts.access_control;
    let list = encryptor.encrypt_bool(true, acl, contract.address, user)?;
    let input = vote::post_input(cluster, contract.address, user, &list).await?;

    ensure!(contract.cast(cluster, mallory, &input).await.is_err(), "another user cast the ballot");
    ensure!(other.cast(cluster, alice, &input).await.is_err(), "another contract took the ballot");
    let stolen = vote::post_input(cluster, contract.address, mallory.wallet().address(), &list).await;
    ensure!(stolen.is_err(), "the coprocessor signed the ballot over to another user");
    let moved = vote::post_input(cluster, other.address, user, &list).await;
    ensure!(moved.is_err(), "the coprocessor signed the ballot over to another contract");
    let foreign = encryptor.encrypt_bool(true, Address::repeat_byte(7), contract.address, user)?;
    ensure!(
        vote::post_input(cluster, contract.address, user, &foreign).await.is_err(),
        "the coprocessor took an input that is bound to another ACL"
    );
    contract.cast(cluster, alice, &input).await
}

pub(crate) async fn garbage_is_refused_in_words(cluster: &mut Cluster) -> Result<()> {
    let user = Role::Voter(0).wallet().address();
    for (what, bytes) in [("nothing", vec![]), ("noise", vec![7; 300]), ("a large body", vec![0; 1 << 20])] {
        let error = match vote::post_input(cluster, Address::repeat_byte(1), user, &bytes).await {
            Ok(_) => anyhow::bail!("the coprocessor accepted {what}"),
            Err(error) => error.to_string(),
        };
        ensure!(error.contains(" 4"), "{what} should be the client's fault: {error}");
    }
    let encryptor = Encryptor::load(&cluster.public_dir())?;
    let mut list = encryptor.encrypt_bool(true, cluster.contracts.access_control, Address::repeat_byte(1), user)?;
    let middle = list.len() / 2;
    list[middle] ^= 1;
    ensure!(
        vote::post_input(cluster, Address::repeat_byte(1), user, &list).await.is_err(),
        "a flipped bit passed the proof"
    );
    ensure!(
        cluster.coprocessor.as_mut().is_some_and(|process| process.is_running()),
        "the coprocessor died of garbage"
    );
    Ok(())
}
