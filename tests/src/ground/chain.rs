//! A chain with the contracts and with handles that can be asked for, and requests on it by the hundred.

use std::{collections::HashMap, path::Path, sync::OnceLock, time::Duration};

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::{BlockId, Encodable2718},
    network::TxSignerSync,
    primitives::{Address, B256, Bytes, FixedBytes, TxKind, U256},
    providers::{DynProvider, Provider},
    rpc::client::BatchRequest,
    sol_types::{SolCall, SolValue},
};
use anyhow::{Context, Result, ensure};
use k256::ecdsa::SigningKey;
use kms_chain::{
    FheType,
    abi::{CiphertextRegistry, DecryptionGateway, GuardLens},
    eip712::{CiphertextCommitment, commitment_digest, registry_domain, sign_digest},
    manifest::{Contracts, Deployment, Manifest},
    request::{Request, request_id},
};
use tokio::sync::Mutex;

use crate::{
    anvil::{Anvil, Mining, Role, Terms},
    paths,
    probe::IProbe,
    process,
    stub::KEY,
    vote,
};

/// Gas of a request of one handle, generously.
const ASK_GAS: u64 = 400_000;
/// Wei per gas of whoever asks: above any base fee of full blocks here.
const ASK_FEE: u128 = 1_000_000_000_000;
/// Requests in one message to the node.
const TOGETHER: usize = 100;
/// Handles that are made and committed.
const HANDLES: u64 = 16;

/// A chain.
#[derive(Debug)]
pub struct Chain {
    /// Its node.
    pub anvil: Anvil,
    /// Its id.
    pub id: u64,
    /// Its contracts.
    pub contracts: Contracts,
    /// Block of the first contract.
    pub deployment_block: u64,
    /// A contract that asks, and counts its callbacks.
    pub probe: Address,
    /// Handles whose digests are committed, and that anybody may have decrypted.
    pub handles: Vec<B256>,
    context: B256,
    nonces: Mutex<Option<Nonces>>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// Fee of each request, in wei.
    pub fee: u64,
    /// Finality code.
    pub finality: u16,
    /// Seconds to the deadline, in the chain's time.
    pub seconds: u64,
}

impl Default for Wish {
    fn default() -> Self {
        Self { fee: 7, finality: 0, seconds: 86_400 }
    }
}

/// A request on its way into a block.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its id.
    pub id: B256,
    /// The request.
    pub request: Request,
    /// The transaction that carries it.
    pub transaction: B256,
    /// The same as it was sent, to be sent again after a reorganisation.
    pub raw: Bytes,
    /// Its fee, in wei.
    pub fee: u64,
}

/// Next nonces of whoever asks.
#[derive(Debug, Clone, Copy)]
struct Nonces {
    transaction: u64,
    request: u64,
}

/// A chain as it was when its contracts had been deployed.
#[derive(Debug, Clone)]
struct Deployed {
    state: serde_json::Value,
    deployment: Deployment,
    probe: Address,
    handles: Vec<B256>,
}

/// Deployments that this process has made, by committee and chain: Foundry takes seconds for each.
fn deployed() -> &'static Mutex<HashMap<(B256, u64), Deployed>> {
    static DEPLOYED: OnceLock<Mutex<HashMap<(B256, u64), Deployed>>> = OnceLock::new();
    DEPLOYED.get_or_init(Mutex::default)
}

impl Chain {
    /// Starts it. The first chain of a manifest becomes the domain of its decryptions.
    pub(super) async fn start(terms: Terms, manifest: &mut Manifest, home: &Path) -> Result<Self> {
        let key = (manifest.committee.context_id, terms.chain_id);
        let mut cache = deployed().lock().await;
        let made = match cache.get(&key) {
            Some(made) => made.clone(),
            None => {
                let made = deploy(terms.chain_id, manifest, home).await?;
                cache.entry(key).or_insert(made).clone()
            }
        };
        drop(cache);
        if manifest.chains.is_empty() {
            manifest.decryption_domain = made.deployment.decryption_domain;
        }
        let anvil = Anvil::start_on(terms, &home.join("logs"), &["--order", "fifo"]).await?;
        anvil.rpc("anvil_loadState", serde_json::json!([made.state])).await?;
        // The state has brought the limit of the chain that it was made on.
        anvil.rpc("evm_setBlockGasLimit", serde_json::json!([terms.gas_limit])).await?;
        Ok(Self {
            anvil,
            id: terms.chain_id,
            contracts: made.deployment.contracts,
            deployment_block: made.deployment.deployment_block,
            probe: made.probe,
            handles: made.handles,
            context: key.0,
            nonces: Mutex::new(None),
        })
    }

    /// A request for one of the handles.
    ///
    /// # Errors
    /// The node does not take it.
    pub async fn ask_one(&self, wish: Wish) -> Result<Asked> {
        self.ask(1, wish).await?.pop().context("one was asked for")
    }

    /// So many requests for one handle each, as fast as the node takes them. They are in its pool, not yet in a block.
    ///
    /// # Errors
    /// The node does not take them.
    pub async fn ask(&self, count: usize, wish: Wish) -> Result<Vec<Asked>> {
        let provider = self.anvil.provider()?;
        let mut nonces = self.nonces.lock().await;
        let mut next = match *nonces {
            Some(known) => known,
            None => self.read_nonces(&provider).await?,
        };
        // Unknown again, should this fail in the middle.
        *nonces = None;
        let latest = provider.get_block_by_number(Default::default()).await?.context("no block")?;
        let deadline = latest.header.timestamp + wish.seconds;
        let mut asked = Vec::with_capacity(count);
        for index in 0..count {
            let handle = self.handles[index % self.handles.len()];
            asked.push(self.signed(next, handle, deadline, wish)?);
            next = Nonces { transaction: next.transaction + 1, request: next.request + 1 };
        }
        for part in asked.chunks(TOGETHER) {
            self.send(&provider, part).await?;
        }
        *nonces = Some(next);
        Ok(asked)
    }

    /// Sends requests again that were sent before.
    ///
    /// # Errors
    /// The node does not take them.
    pub async fn ask_again(&self, asked: &[Asked]) -> Result<()> {
        self.send(&self.anvil.provider()?, asked).await
    }

    /// To be called when blocks with requests were taken back: what is asked next goes on from what the chain knows.
    pub async fn forget_nonces(&self) {
        *self.nonces.lock().await = None;
    }

    async fn send(&self, provider: &DynProvider, asked: &[Asked]) -> Result<()> {
        let mut batch = BatchRequest::new(provider.client());
        let answers = asked
            .iter()
            .map(|asked| Ok(batch.add_call::<_, B256>("eth_sendRawTransaction", &(asked.raw.clone(),))?))
            .collect::<Result<Vec<_>>>()?;
        batch.send().await?;
        for answer in answers {
            answer.await?;
        }
        Ok(())
    }

    async fn read_nonces(&self, provider: &DynProvider) -> Result<Nonces> {
        let asker = asker().address();
        let gateway = DecryptionGateway::new(self.contracts.decryption_gateway, provider);
        Ok(Nonces {
            transaction: provider.get_transaction_count(asker).pending().await?,
            request: gateway.nonceOf(asker).block(BlockId::pending()).call().await?,
        })
    }

    fn signed(&self, nonces: Nonces, handle: B256, deadline: u64, wish: Wish) -> Result<Asked> {
        let asker = asker();
        let gateway = self.contracts.decryption_gateway;
        let request = Request {
            requester: asker.address(),
            nonce: nonces.request,
            handles: vec![handle],
            selector: FixedBytes::ZERO,
            gasLimit: 0,
            finality: wish.finality,
            deadline,
            contextId: self.context,
        };
        let call = DecryptionGateway::requestDecryptionCall {
            handles: request.handles.clone(),
            selector: request.selector,
            gasLimit: request.gasLimit,
            finality: request.finality,
            deadline,
        };
        let mut transaction = TxEip1559 {
            chain_id: self.id,
            nonce: nonces.transaction,
            gas_limit: ASK_GAS,
            max_fee_per_gas: ASK_FEE,
            max_priority_fee_per_gas: 1,
            to: TxKind::Call(gateway),
            value: U256::from(wish.fee),
            access_list: Default::default(),
            input: call.abi_encode().into(),
        };
        let signature = asker.sign_transaction_sync(&mut transaction)?;
        let envelope = TxEnvelope::from(transaction.into_signed(signature));
        Ok(Asked {
            id: request_id(self.id, gateway, &request),
            request,
            transaction: *envelope.tx_hash(),
            raw: envelope.encoded_2718().into(),
            fee: wish.fee,
        })
    }

    /// New blocks, for chains that mine when told to.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn mine(&self, blocks: u64) -> Result<()> {
        self.anvil.rpc("anvil_mine", serde_json::json!([format!("{blocks:#x}")])).await?;
        Ok(())
    }

    /// Number of the newest block.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn height(&self) -> Result<u64> {
        Ok(self.anvil.provider()?.get_block_number().await?)
    }

    /// Waits until the newest block is at least `height`.
    ///
    /// # Errors
    /// It is not within a minute.
    pub async fn reaches(&self, height: u64) -> Result<()> {
        for _ in 0..600 {
            if self.height().await? >= height {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("chain {} does not reach block {height}", self.id)
    }
}

/// Whoever asks: one of anvil's own accounts.
fn asker() -> alloy::signers::local::PrivateKeySigner {
    Role::Voter(0).wallet()
}

/// Deploys contracts and probe on a chain that is thrown away, makes handles, commits their digests.
async fn deploy(chain_id: u64, manifest: &Manifest, home: &Path) -> Result<Deployed> {
    let terms = Terms { chain_id, mining: Mining::Instant, ..Terms::default() };
    let anvil = Anvil::start_on(terms, &home.join("logs"), &[]).await?;
    let (committee, out) = (home.join("committee.json"), home.join("deployment.json"));
    std::fs::write(&committee, manifest.to_json()?)?;
    let domain = manifest.decryption_domain;
    let mut environment = vec![
        ("KMS_RPC_URL", anvil.url()),
        ("KMS_DEPLOYER_KEY", format!("0x{}", Role::Deployer.insecure_key())),
        ("KMS_COPROCESSORS", Role::Coprocessor.wallet().address().to_string()),
    ];
    if !manifest.chains.is_empty() {
        environment.push(("KMS_DOMAIN_CHAIN_ID", domain.chain_id.to_string()));
        environment.push(("KMS_DOMAIN_CONTRACT", domain.verifying_contract.to_string()));
    }
    process::run(
        &paths::root().join("script/deploy"),
        &["--manifest", &committee.display().to_string(), "--out", &out.display().to_string()],
        &environment,
        &paths::root(),
    )?;
    let deployment: Deployment = serde_json::from_str(&std::fs::read_to_string(&out)?)?;
    let provider = anvil.provider_as(Role::Deployer)?;
    let contracts = deployment.contracts;
    let args = (contracts.fhe_executor, contracts.decryption_gateway).abi_encode_params();
    let probe = vote::deploy(&provider, "Probe", args).await?;
    let handles = make(&provider, probe).await?;
    commit(&provider, chain_id, contracts.ciphertext_registry, &handles).await?;
    let call = GuardLens::viewHandlesCall { account: Address::ZERO, handles: handles.clone() };
    let seen = GuardLens::new(contracts.guard_lens, &provider).viewHandles(call.account, call.handles).call().await?;
    ensure!(seen._3.iter().all(|handle| handle.keyId == KEY && handle.allowedForDecryption), "handles: {seen:?}");
    let state = anvil.rpc("anvil_dumpState", serde_json::json!([])).await?;
    Ok(Deployed { state, deployment, probe, handles })
}

async fn make(provider: &DynProvider, address: Address) -> Result<Vec<B256>> {
    let probe = IProbe::new(address, provider);
    let values: Vec<U256> = (0..HANDLES).map(U256::from).collect();
    ensure!(probe.make(values, FheType::Uint64 as u8).send().await?.get_receipt().await?.status(), "make reverted");
    let mut handles = Vec::new();
    for index in 0..HANDLES {
        handles.push(probe.handles(U256::from(index)).call().await?);
    }
    ensure!(probe.publish(handles.clone()).send().await?.get_receipt().await?.status(), "publish reverted");
    Ok(handles)
}

async fn commit(provider: &DynProvider, chain_id: u64, registry: Address, handles: &[B256]) -> Result<()> {
    let digest = B256::repeat_byte(0xd1);
    let items: Vec<_> = handles.iter().map(|&handle| CiphertextCommitment { handle, keyId: KEY, digest }).collect();
    let key = SigningKey::from_slice(&hex::decode(Role::Coprocessor.insecure_key())?)?;
    let signature = sign_digest(&key, commitment_digest(&registry_domain(chain_id, registry), &items));
    let items = items.into_iter().map(Into::into).collect();
    let registry = CiphertextRegistry::new(registry, provider);
    let receipt = registry.commit(items, vec![signature.into()]).send().await?.get_receipt().await?;
    ensure!(receipt.status(), "commit reverted");
    Ok(())
}
