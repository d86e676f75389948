//! Decryption requests on demand, through the probe dApp.

use std::time::Duration;

use alloy::{
    primitives::{Address, B256, U256},
    providers::Provider,
    rpc::types::{Filter, TransactionReceipt},
    sol,
    sol_types::{SolEvent, SolValue},
};
use anyhow::{Context, Result, ensure};
use kms_chain::{FheType, abi::DecryptionGateway, request::Request};

use crate::{anvil::Role, cluster::Cluster, vote};

sol! {
    #[sol(rpc)]
    interface IProbe {
        event Asked(bytes32 indexed requestId);
        function handles(uint256 index) external view returns (bytes32);
        function answers(bytes32 requestId) external view returns (bytes32);
        function callbacks(bytes32 requestId) external view returns (uint256);
        function make(uint256[] calldata values, uint8 toType) external;
        function publish(bytes32[] calldata list) external;
        function share(bytes32[] calldata list, address account) external;
        function ask(bytes32[] calldata list, uint16 finality, uint64 deadline) external payable returns (bytes32);
    }
}

/// A deployed probe; it signs as the deployer.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Its address.
    pub address: Address,
    made: usize,
}

/// A request that was made.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its id.
    pub id: B256,
    /// The whole request, as the event carries it.
    pub request: Request,
    /// Gas of the asking transaction.
    pub gas_used: u64,
}

impl Probe {
    /// Deploys the probe.
    ///
    /// # Errors
    /// The deployment fails.
    pub async fn deploy(cluster: &Cluster) -> Result<Self> {
        let provider = cluster.anvil.provider_as(Role::Deployer)?;
        let args = (cluster.contracts.fhe_executor, cluster.contracts.decryption_gateway).abi_encode_params();
        Ok(Self { address: vote::deploy(&provider, "Probe", args).await?, made: 0 })
    }

    /// Encrypts public values; returns their handles.
    ///
    /// # Errors
    /// The transaction reverts.
    pub async fn make(&mut self, cluster: &Cluster, values: &[U256], ty: FheType) -> Result<Vec<B256>> {
        let provider = cluster.anvil.provider_as(Role::Deployer)?;
        let probe = IProbe::new(self.address, &provider);
        // A transaction holds what fits a block.
        for part in values.chunks(128) {
            mined(probe.make(part.to_vec(), ty as u8).send().await?).await?;
        }
        let mut handles = Vec::with_capacity(values.len());
        for index in self.made..self.made + values.len() {
            handles.push(probe.handles(U256::from(index)).call().await?);
        }
        self.made += values.len();
        Ok(handles)
    }

    /// Makes handles publicly decryptable.
    ///
    /// # Errors
    /// The transaction reverts.
    pub async fn publish(&self, cluster: &Cluster, handles: &[B256]) -> Result<()> {
        let provider = cluster.anvil.provider_as(Role::Deployer)?;
        mined(IProbe::new(self.address, &provider).publish(handles.to_vec()).send().await?).await?;
        Ok(())
    }

    /// Lets an account read handles in the probe's name.
    ///
    /// # Errors
    /// The transaction reverts.
    pub async fn share(&self, cluster: &Cluster, handles: &[B256], account: Address) -> Result<()> {
        let provider = cluster.anvil.provider_as(Role::Deployer)?;
        let probe = IProbe::new(self.address, &provider);
        // A transaction holds what fits a block.
        for part in handles.chunks(100) {
            mined(probe.share(part.to_vec(), account).send().await?).await?;
        }
        Ok(())
    }

    /// Asks for a decryption.
    ///
    /// # Errors
    /// The transaction reverts.
    pub async fn ask(&self, cluster: &Cluster, handles: &[B256], fee: u64) -> Result<Asked> {
        self.ask_with(cluster, handles, fee, 0, 3600).await
    }

    /// Asks for a decryption with a finality and a deadline in seconds from now.
    ///
    /// # Errors
    /// The transaction reverts.
    pub async fn ask_with(
        &self,
        cluster: &Cluster,
        handles: &[B256],
        fee: u64,
        finality: u16,
        seconds: u64,
    ) -> Result<Asked> {
        let provider = cluster.anvil.provider_as(Role::Deployer)?;
        let latest = provider.get_block_by_number(Default::default()).await?.context("no block")?;
        let probe = IProbe::new(self.address, &provider);
        let call = probe
            .ask(handles.to_vec(), finality, latest.header.timestamp + seconds)
            .value(U256::from(fee))
            .gas(16_777_215);
        let receipt = mined(call.send().await?).await?;
        let event = receipt
            .logs()
            .iter()
            .find_map(|log| log.log_decode::<DecryptionGateway::DecryptionRequested>().ok())
            .context("no DecryptionRequested event")?
            .inner
            .data;
        let request = event.request.into();
        Ok(Asked { id: event.requestId, request, gas_used: receipt.gas_used })
    }

    /// Cancels a request.
    ///
    /// # Errors
    /// The transaction reverts.
    pub async fn cancel(&self, cluster: &Cluster, asked: &Asked) -> Result<()> {
        let provider = cluster.anvil.provider_as(Role::Deployer)?;
        // The probe passes the gateway's own call on, under the same signature.
        mined(DecryptionGateway::new(self.address, &provider).cancel((&asked.request).into()).send().await?).await?;
        Ok(())
    }

    /// How often the callback ran for a request.
    ///
    /// # Errors
    /// The chain does not answer.
    pub async fn callbacks(&self, cluster: &Cluster, id: B256) -> Result<u64> {
        let provider = cluster.anvil.provider()?;
        let count: U256 = IProbe::new(self.address, &provider).callbacks(id).call().await?;
        Ok(count.try_into()?)
    }

    /// The fulfilments of a request that stand on chain: their cleartexts.
    ///
    /// # Errors
    /// The chain does not answer.
    pub async fn fulfilments(cluster: &Cluster, id: B256) -> Result<Vec<Vec<u8>>> {
        let filter = Filter::new()
            .address(cluster.contracts.decryption_gateway)
            .event_signature(DecryptionGateway::DecryptionFulfilled::SIGNATURE_HASH)
            .topic1(id)
            .from_block(0);
        let logs = cluster.anvil.provider()?.get_logs(&filter).await?;
        logs.iter()
            .map(|log| Ok(log.log_decode::<DecryptionGateway::DecryptionFulfilled>()?.inner.data.cleartexts.to_vec()))
            .collect()
    }

    /// Waits for the one fulfilment of a request and its one callback; returns the cleartext words.
    ///
    /// # Errors
    /// None comes within `patience`, or more than one.
    pub async fn wait_for_answer(&self, cluster: &Cluster, id: B256, patience: Duration) -> Result<Vec<U256>> {
        let deadline = std::time::Instant::now() + patience;
        loop {
            let fulfilments = Self::fulfilments(cluster, id).await?;
            ensure!(fulfilments.len() <= 1, "{} fulfilments of {id}", fulfilments.len());
            if let Some(cleartexts) = fulfilments.first() {
                ensure!(self.callbacks(cluster, id).await? == 1, "the callback of {id} did not run exactly once");
                return Ok(cleartexts.chunks(32).map(U256::from_be_slice).collect());
            }
            ensure!(
                std::time::Instant::now() < deadline,
                "no answer to {id} within {patience:?}\n{}",
                cluster.log_tails(25)
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn mined(
    pending: alloy::providers::PendingTransactionBuilder<alloy::network::Ethereum>,
) -> Result<TransactionReceipt> {
    let receipt = pending.with_timeout(Some(Duration::from_secs(60))).get_receipt().await?;
    ensure!(receipt.status(), "transaction {} reverted", receipt.transaction_hash);
    Ok(receipt)
}
