//! The example dApp as its users drive it: encrypted ballots, a closing, a result.

use std::{fs, time::Duration};

use alloy::{
    network::TransactionBuilder,
    primitives::{Address, B256, Bytes, U256},
    providers::{DynProvider, Provider},
    rpc::types::TransactionRequest,
    sol,
    sol_types::SolValue,
};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::{
    anvil::{CHAIN_ID, Role},
    cluster::Cluster,
    paths,
};

sol! {
    #[sol(rpc)]
    interface IConfidentialVote {
        event VoteClosed(bytes32 indexed requestId, bytes32 tally);
        event VoteDecided(uint64 result, uint256 ballots);
        function tally() external view returns (bytes32);
        function decided() external view returns (bool);
        function result() external view returns (uint64);
        function requestId() external view returns (bytes32);
        function vote(bytes32 ballot, bytes calldata inputProof) external;
        function close(uint16 finality, uint64 deadline) external payable;
    }
}

/// A deployed vote.
#[derive(Debug, Clone)]
pub struct Vote {
    /// Its address.
    pub address: Address,
}

/// What the coprocessor answers to an encrypted input.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AcceptedInput {
    /// A handle per value of the list.
    pub handles: Vec<B256>,
    /// To be given to the contract.
    pub input_proof: Bytes,
}

/// Deploys a contract from the Foundry artifacts.
///
/// # Errors
/// The artifact is missing (`forge build` makes it) or the deployment reverts.
pub async fn deploy(provider: &DynProvider, name: &str, constructor_args: Vec<u8>) -> Result<Address> {
    deploy_from(provider, name, name, constructor_args).await
}

/// The same for a contract of a file with another name.
///
/// # Errors
/// The artifact is missing or the deployment reverts.
pub async fn deploy_from(provider: &DynProvider, file: &str, name: &str, constructor_args: Vec<u8>) -> Result<Address> {
    let path = paths::root().join(format!("out/{file}.sol/{name}.json"));
    let artifact: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).with_context(|| format!("{} (forge build)", path.display()))?)?;
    let code = artifact["bytecode"]["object"].as_str().context("artifact without bytecode")?;
    let mut code = hex::decode(code.trim_start_matches("0x"))?;
    code.extend(constructor_args);
    let receipt = provider
        .send_transaction(TransactionRequest::default().with_deploy_code(code))
        .await?
        .with_timeout(Some(Duration::from_secs(60)))
        .get_receipt()
        .await?;
    ensure!(receipt.status(), "deployment of {name} reverted");
    receipt.contract_address.context("no contract address")
}

impl Vote {
    /// Deploys `ConfidentialVote` on the cluster's chain.
    ///
    /// # Errors
    /// The deployment fails.
    pub async fn deploy(cluster: &Cluster) -> Result<Self> {
        let provider = cluster.anvil.provider_as(Role::Deployer)?;
        let args = (cluster.contracts.fhe_executor, cluster.contracts.decryption_gateway).abi_encode_params();
        Ok(Self { address: deploy(&provider, "ConfidentialVote", args).await? })
    }

    /// Casts an accepted ballot as `voter`.
    ///
    /// # Errors
    /// The contract reverts.
    pub async fn cast(&self, cluster: &Cluster, voter: Role, input: &AcceptedInput) -> Result<()> {
        let provider = cluster.anvil.provider_as(voter)?;
        let ballot = *input.handles.first().context("no handle")?;
        let receipt = IConfidentialVote::new(self.address, &provider)
            .vote(ballot, input.input_proof.clone())
            .send()
            .await?
            .with_timeout(Some(Duration::from_secs(60)))
            .get_receipt()
            .await?;
        ensure!(receipt.status(), "the vote reverted");
        Ok(())
    }

    /// Closes the vote; returns the request id.
    ///
    /// # Errors
    /// The contract reverts.
    pub async fn close(&self, cluster: &Cluster, fee: U256) -> Result<B256> {
        let provider = cluster.anvil.provider_as(Role::Deployer)?;
        let latest = provider.get_block_by_number(Default::default()).await?.context("no block")?;
        let receipt = IConfidentialVote::new(self.address, &provider)
            .close(0, latest.header.timestamp + 3600)
            .value(fee)
            .send()
            .await?
            .with_timeout(Some(Duration::from_secs(60)))
            .get_receipt()
            .await?;
        ensure!(receipt.status(), "closing reverted");
        let closed = receipt
            .logs()
            .iter()
            .find_map(|log| log.log_decode::<IConfidentialVote::VoteClosed>().ok())
            .context("no VoteClosed event")?;
        Ok(closed.inner.data.requestId)
    }

    /// The result, once the callback has run.
    ///
    /// # Errors
    /// The chain does not answer.
    pub async fn result(&self, cluster: &Cluster) -> Result<Option<u64>> {
        let provider = cluster.anvil.provider()?;
        let contract = IConfidentialVote::new(self.address, &provider);
        if !contract.decided().call().await? {
            return Ok(None);
        }
        Ok(Some(contract.result().call().await?))
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// It does not come within `patience`.
    pub async fn wait_for_result(&self, cluster: &Cluster, patience: Duration) -> Result<u64> {
        let deadline = std::time::Instant::now() + patience;
        while std::time::Instant::now() < deadline {
            if let Some(result) = self.result(cluster).await? {
                return Ok(result);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("no result within {patience:?}\n{}", cluster.log_tails(20))
    }
}

/// Posts an encrypted, proven list to the coprocessor, bound to `user` and `contract`.
///
/// # Errors
/// The coprocessor refuses it; the error carries status and body.
pub async fn post_input(
    cluster: &Cluster,
    contract: Address,
    user: Address,
    ciphertext: &[u8],
) -> Result<AcceptedInput> {
    let body = serde_json::json!({
        "chainId": CHAIN_ID, "contract": contract, "user": user, "ciphertext": format!("0x{}", hex::encode(ciphertext)),
    });
    let response =
        reqwest::Client::new().post(format!("{}/v1/inputs", cluster.coprocessor_url)).json(&body).send().await?;
    let status = response.status();
    let text = response.text().await?;
    ensure!(status.is_success(), "coprocessor: {status}: {text}");
    serde_json::from_str(&text).with_context(|| format!("coprocessor's answer: {text}"))
}
