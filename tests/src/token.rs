//! The example token as its owner and its holders drive it.

use std::time::{Duration, Instant};

use alloy::{
    network::Ethereum,
    primitives::{Address, B256},
    providers::PendingTransactionBuilder,
    sol,
    sol_types::SolValue,
};
use anyhow::{Context, Result, bail, ensure};

use crate::{
    anvil::Role,
    cluster::Cluster,
    vote::{self, AcceptedInput},
};

sol! {
    #[sol(rpc)]
    interface IConfidentialToken {
        function mint(address to, uint64 amount) external;
        function confidentialTransfer(address to, bytes32 encryptedAmount, bytes calldata inputProof) external;
        function confidentialBalanceOf(address account) external view returns (bytes32);
    }
}

/// A deployed `ConfidentialToken`; the deployer is its owner.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its address.
    pub address: Address,
}

impl Token {
    /// Deploys the token on the cluster's chain.
    ///
    /// # Errors
    /// The deployment fails.
    pub async fn deploy(cluster: &Cluster) -> Result<Self> {
        let provider = cluster.anvil.provider_as(Role::Deployer)?;
        let args = cluster.contracts.fhe_executor.abi_encode();
        Ok(Self { address: vote::deploy(&provider, "ConfidentialToken", args).await? })
    }

    /// Makes `amount` (millionths of a token) for `to`.
    ///
    /// # Errors
    /// The contract reverts.
    pub async fn mint(&self, cluster: &Cluster, to: Address, amount: u64) -> Result<()> {
        let provider = cluster.anvil.provider_as(Role::Deployer)?;
        mined("the minting", IConfidentialToken::new(self.address, &provider).mint(to, amount).send().await?).await
    }

    /// Sends an encrypted amount from `from` to `to`.
    ///
    /// # Errors
    /// The contract reverts.
    pub async fn transfer(&self, cluster: &Cluster, from: Role, to: Address, amount: &AcceptedInput) -> Result<()> {
        let provider = cluster.anvil.provider_as(from)?;
        let handle = *amount.handles.first().context("no handle")?;
        let token = IConfidentialToken::new(self.address, &provider);
        let sent = token.confidentialTransfer(to, handle, amount.input_proof.clone()).send().await?;
        mined("the transfer", sent).await
    }

    /// Handle of an account's balance; zero if it never had one.
    ///
    /// # Errors
    /// The chain does not answer.
    pub async fn balance(&self, cluster: &Cluster, account: Address) -> Result<B256> {
        let provider = cluster.anvil.provider()?;
        Ok(IConfidentialToken::new(self.address, &provider).confidentialBalanceOf(account).call().await?)
    }
}

async fn mined(what: &str, sent: PendingTransactionBuilder<Ethereum>) -> Result<()> {
    let receipt = sent.with_timeout(Some(Duration::from_secs(60))).get_receipt().await?;
    ensure!(receipt.status(), "{what} reverted");
    Ok(())
}

/// Waits until the coprocessor has computed `handle` and the chain holds its digest.
///
/// # Errors
/// It fails, or does not come to that within `patience`.
pub async fn wait_until_committed(cluster: &Cluster, handle: B256, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let url = format!("{}/v1/handles/{handle}", cluster.coprocessor_url);
        let status: serde_json::Value = reqwest::get(&url).await?.error_for_status()?.json().await?;
        match status["state"].as_str() {
            Some("committed") => return Ok(()),
            Some("failed") => bail!("the coprocessor can't commit {handle}: {status}"),
            _ if Instant::now() > deadline => bail!("{handle} is not committed within {patience:?}: {status}"),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
