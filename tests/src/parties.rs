//! Asking the parties directly, as an operator or as a rogue.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use alloy::primitives::B256;
use anyhow::{Context, Result, ensure};
use kms_chain::{abi::KeyManagement, manifest::Manifest, request::Request};
use kms_client::{
    Question,
    transport::{Identity, Parties},
};
use kms_proto::node::Receipt;

use crate::{anvil::CHAIN_ID, cluster::Cluster};

/// The cluster's manifest.
///
/// # Errors
/// It can't be read.
pub fn manifest(cluster: &Cluster) -> Result<Manifest> {
    Ok(Manifest::parse(&fs::read(cluster.path("manifest.json"))?)?)
}

/// Clients for all parties with the certificate in `dir`.
///
/// # Errors
/// The certificate can't be read.
pub fn connect(cluster: &Cluster, dir: &Path) -> Result<Parties> {
    let identity = Identity::from_pem(&fs::read(dir.join("cert.pem"))?, &fs::read(dir.join("key.pem"))?)?;
    Ok(Parties::connect(&manifest(cluster)?, &identity)?)
}

/// Clients with the operator's certificate, which every party admits.
///
/// # Errors
/// The certificate can't be read.
pub fn operator(cluster: &Cluster) -> Result<Parties> {
    connect(cluster, &cluster.path("clients/operator"))
}

/// The final receipt of a request at one party.
///
/// # Errors
/// There is none within `patience`, or the party does not answer.
pub async fn receipt(cluster: &Cluster, party: u32, id: B256, patience: Duration) -> Result<Receipt> {
    let clients = operator(cluster)?;
    let deadline = Instant::now() + patience;
    loop {
        if let Some(receipt) = clients.get_status(party, id).await?.receipt {
            return Ok(receipt);
        }
        ensure!(Instant::now() < deadline, "party {party} has no final receipt");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until a party has its link to another one, or has lost it.
///
/// # Errors
/// It does not come to that within `patience`, or the party does not answer.
pub async fn linked(cluster: &Cluster, party: u32, peer: u32, up: bool, patience: Duration) -> Result<()> {
    let clients = operator(cluster)?;
    let deadline = Instant::now() + patience;
    while clients.health(party).await?.peers.iter().any(|link| link.index == peer && link.connected) != up {
        ensure!(Instant::now() < deadline, "the link of party {party} to party {peer} does not become {up}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// The active epoch.
///
/// # Errors
/// The chain does not answer.
pub async fn epoch(cluster: &Cluster) -> Result<B256> {
    let provider = cluster.anvil.provider()?;
    let active = KeyManagement::new(cluster.contracts.key_management, &provider).activeKey().call().await?;
    Ok(active.epochId)
}

/// The active key.
///
/// # Errors
/// The chain does not answer.
pub async fn key(cluster: &Cluster) -> Result<B256> {
    let provider = cluster.anvil.provider()?;
    let active = KeyManagement::new(cluster.contracts.key_management, &provider).activeKey().call().await?;
    Ok(active.keyId)
}

/// The question that a relayer puts for an on-chain request.
///
/// # Errors
/// The request is not a possible one.
pub async fn question(cluster: &Cluster, request: &Request) -> Result<Question> {
    let manifest = manifest(cluster)?;
    let gateway = cluster.contracts.decryption_gateway;
    let epoch = epoch(cluster).await?;
    Question::on_chain(&manifest.committee, CHAIN_ID, gateway, request, epoch).context("question")
}

/// The question for publicly decryptable handles, with extra data that names the context only.
///
/// # Errors
/// The handles are not a possible request.
pub async fn public_question(cluster: &Cluster, handles: &[B256]) -> Result<Question> {
    let manifest = manifest(cluster)?;
    let extra_data = kms_chain::extra_data::ExtraData::V1 { context: manifest.committee.context_id }.encode();
    let epoch = epoch(cluster).await?;
    Question::public(&manifest.committee, CHAIN_ID, handles, &extra_data, epoch).context("question")
}
