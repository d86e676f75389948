//! A real chain with the real contracts: deployed once per run, every test starts its own anvil from that state.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use alloy::network::{EthereumWallet, TransactionBuilder};
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::types::{Filter, TransactionReceipt, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol;
use alloy::sol_types::{SolEvent, SolValue};
use alloy_primitives::{Address, B256, Bytes, U256};
use k256::ecdsa::SigningKey;
use kms_chain::FheType;
use kms_chain::abi::{
    AccessControl, CiphertextRegistry, DecryptionGateway, ICiphertextRegistry, IKeyManagement, KeyManagement,
};
use kms_chain::eip712;
use kms_chain::extra_data::ExtraData;
use kms_chain::faults;
use kms_chain::manifest::{Card, DecryptionDomain, Deployment, HostChain, Manifest};
use kms_chain::request::Request;
use kms_node::identity;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

pub(crate) const CHAIN_ID: u64 = 31337;
pub(crate) const KEY: B256 = B256::repeat_byte(0x11);
pub(crate) const EPOCH: B256 = B256::repeat_byte(0x22);
pub(crate) const DIGEST: B256 = B256::repeat_byte(0x33);
/// anvil's well-known development keys: deployer and coprocessor. They guard nothing.
const DEPLOYER: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const COPROCESSOR: &str = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

/// Other ones, of people.
pub(crate) const ALICE: &str = "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";
pub(crate) const BOB: &str = "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6";

sol! {
    #[sol(rpc)]
    interface IToken {
        function mint(address to, uint64 amount) external;
        function confidentialBalanceOf(address account) external view returns (bytes32);
    }
}

sol! {
    #[sol(rpc)]
    interface IProbe {
        function handles(uint256 index) external view returns (bytes32);
        function make(uint256[] calldata values, uint8 toType) external;
        function publish(bytes32[] calldata list) external;
        function ask(bytes32[] calldata list, uint16 finality, uint64 deadline) external payable returns (bytes32);
        struct Request {
            address requester; uint64 nonce; bytes32[] handles; bytes4 selector; uint32 gasLimit; uint16 finality;
            uint64 deadline; bytes32 contextId;
        }
        function cancel(Request calldata request) external;
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// One anvil, killed at the end.
pub(crate) struct Anvil(faults::Anvil);

impl Anvil {
    /// Every transaction makes a block; finality moves with the height.
    fn start(chain_id: u64) -> Self {
        let arguments = ["--chain-id", &chain_id.to_string(), "--slots-in-an-epoch", "1"];
        Self(faults::Anvil::start(&arguments).expect("anvil"))
    }

    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    fn provider(&self) -> DynProvider {
        self.provider_as(DEPLOYER)
    }

    /// A provider that signs with a development key.
    pub(crate) fn provider_as(&self, key: &str) -> DynProvider {
        let wallet = EthereumWallet::from(key.parse::<PrivateKeySigner>().unwrap());
        ProviderBuilder::new().wallet(wallet).connect_http(self.url().parse().unwrap()).erased()
    }

    /// A call of anvil's own.
    pub(crate) async fn rpc(&self, method: &'static str, params: Value) -> Value {
        self.provider().raw_request(method.into(), params).await.unwrap()
    }

    pub(crate) async fn mine(&self, blocks: u64) {
        self.rpc("anvil_mine", json!([blocks])).await;
    }
}

/// What the first deployment left behind.
struct Deployed {
    /// As `anvil_dumpState` gives it.
    state: Value,
    manifest: Manifest,
    probe: Address,
}

impl Deployed {
    /// A chain of one's own that goes on from the deployment.
    async fn chain(&self) -> Anvil {
        let anvil = Anvil::start(CHAIN_ID);
        anvil.rpc("anvil_loadState", json!([self.state])).await;
        anvil
    }
}

/// A chain with contracts, a registered key, and a dApp that asks.
pub(crate) struct World {
    pub(crate) anvil: Anvil,
    pub(crate) manifest: Arc<Manifest>,
    probe: Address,
}

async fn deployed() -> &'static Deployed {
    static DEPLOYED: OnceCell<Deployed> = OnceCell::const_new();
    DEPLOYED.get_or_init(deploy).await
}

fn signers() -> Vec<SigningKey> {
    (1..=4u8).map(|i| SigningKey::from_slice(&[i; 32]).unwrap()).collect()
}

fn committee() -> Manifest {
    let cards: Vec<_> = (1u16..)
        .zip(&signers())
        .map(|(i, key)| Card {
            version: 1,
            name: format!("party-{i}"),
            signer: eip712::signer_address(key),
            tls_root: identity::new_root(&format!("party-{i}")).unwrap().certificate_pem,
            peer_url: format!("https://127.0.0.1:{}", 20000 + i),
            client_url: format!("https://127.0.0.1:{}", 21000 + i),
        })
        .collect();
    let domain = DecryptionDomain { chain_id: CHAIN_ID, verifying_contract: Address::ZERO };
    Manifest::from_cards(&cards, 1, 3, B256::ZERO, domain).unwrap()
}

async fn deploy() -> Deployed {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("guard-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let mut manifest = committee();
    let (committee_file, out) = (dir.join("committee.json"), dir.join("deployment.json"));
    std::fs::write(&committee_file, manifest.to_json().unwrap()).unwrap();

    let anvil = Anvil::start(CHAIN_ID);
    let coprocessor: PrivateKeySigner = COPROCESSOR.parse().unwrap();
    run(Command::new(root().join("script/deploy"))
        .arg("--manifest")
        .arg(&committee_file)
        .arg("--out")
        .arg(&out)
        .env("KMS_RPC_URL", anvil.url())
        .env("KMS_DEPLOYER_KEY", format!("0x{DEPLOYER}"))
        .env("KMS_COPROCESSORS", coprocessor.address().to_string()));
    let deployment: Deployment = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    assert_eq!(deployment.context_id, manifest.committee.context_id);
    manifest.decryption_domain = deployment.decryption_domain;
    manifest.chains.push(HostChain {
        chain_id: deployment.chain_id,
        contracts: deployment.contracts,
        deployment_block: deployment.deployment_block,
        finality_floor: 0,
    });

    let probe = deploy_probe(&anvil.provider(), &manifest).await;
    register_key(&anvil.provider(), &manifest).await;
    let state = anvil.rpc("anvil_dumpState", json!([])).await;
    Deployed { state, manifest, probe }
}

async fn deploy_probe(provider: &DynProvider, manifest: &Manifest) -> Address {
    let lock = root().join("cache/deploy.lock");
    run(Command::new("flock")
        .arg(lock)
        .arg(root().join("node_modules/.bin/forge"))
        .args(["build", "--skip", "test", "--skip", "script"])
        .current_dir(root()));
    let contracts = &manifest.chains[0].contracts;
    create(provider, "Probe", "Probe", (contracts.fhe_executor, contracts.decryption_gateway).abi_encode_params()).await
}

/// Deploys a compiled contract.
async fn create(provider: &DynProvider, file: &str, name: &str, args: Vec<u8>) -> Address {
    let artifact = std::fs::read(root().join(format!("out/{file}.sol/{name}.json"))).unwrap();
    let artifact: Value = serde_json::from_slice(&artifact).unwrap();
    let mut code = alloy_primitives::hex::decode(artifact["bytecode"]["object"].as_str().unwrap()).unwrap();
    code.extend(args);
    let call = TransactionRequest::default().with_deploy_code(code);
    let receipt = mined(provider.send_transaction(call).await.unwrap()).await;
    receipt.contract_address.unwrap()
}

async fn register_key(provider: &DynProvider, manifest: &Manifest) {
    let contract = manifest.chains[0].contracts.key_management;
    let digests = vec![eip712::KeyDigest { keyType: 0, digest: Bytes::copy_from_slice(&[1; 32]) }];
    let extra_data = ExtraData::V2 { context: manifest.committee.context_id, epoch: EPOCH }.encode();
    let domain = eip712::key_management_domain(CHAIN_ID, contract);
    let digest = eip712::keygen_digest(&domain, U256::ZERO, KEY, &digests, &extra_data);
    let signatures: Vec<Bytes> =
        signers().iter().take(3).map(|key| Bytes::copy_from_slice(&eip712::sign_digest(key, digest))).collect();
    let digests: Vec<IKeyManagement::KeyDigest> = digests.into_iter().map(Into::into).collect();
    let keys = KeyManagement::new(contract, provider);
    mined(keys.registerKey(U256::ZERO, KEY.into(), digests, extra_data, signatures).send().await.unwrap()).await;
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{command:?}\n{out}{err}");
}

pub(crate) async fn mined(
    pending: alloy::providers::PendingTransactionBuilder<alloy::network::Ethereum>,
) -> TransactionReceipt {
    let receipt = pending.get_receipt().await.unwrap();
    assert!(receipt.status(), "reverted");
    receipt
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_floor(0).await
    }

    /// With a finality floor in the manifest.
    pub(crate) async fn with_floor(floor: u16) -> Self {
        let deployed = deployed().await;
        let anvil = deployed.chain().await;
        let mut manifest = deployed.manifest.clone();
        manifest.chains[0].finality_floor = floor;
        Self { anvil, manifest: Arc::new(manifest), probe: deployed.probe }
    }

    /// Another endpoint of a chain with the same contracts and its own history from here on.
    pub(crate) async fn twin(&self) -> Anvil {
        deployed().await.chain().await
    }

    /// An endpoint of another chain.
    pub(crate) async fn stranger() -> Anvil {
        Anvil::start(5)
    }

    fn probe(&self) -> IProbe::IProbeInstance<DynProvider> {
        IProbe::new(self.probe, self.anvil.provider())
    }

    /// A handle that the dApp may use.
    pub(crate) async fn handle(&self, index: u64) -> B256 {
        mined(self.probe().make(vec![U256::from(index)], FheType::Uint8 as u8).send().await.unwrap()).await;
        self.probe().handles(U256::from(index)).call().await.unwrap()
    }

    /// Commits a ciphertext to a handle.
    pub(crate) async fn commit(&self, handle: B256) {
        let contract = self.manifest.chains[0].contracts.ciphertext_registry;
        let item = eip712::CiphertextCommitment { handle, keyId: KEY, digest: DIGEST };
        let digest =
            eip712::commitment_digest(&eip712::registry_domain(CHAIN_ID, contract), std::slice::from_ref(&item));
        let key = SigningKey::from_slice(&alloy_primitives::hex::decode(COPROCESSOR).unwrap()).unwrap();
        let signature = Bytes::copy_from_slice(&eip712::sign_digest(&key, digest));
        let items: Vec<ICiphertextRegistry::Commitment> = vec![item.into()];
        let registry = CiphertextRegistry::new(contract, self.anvil.provider());
        mined(registry.commit(items, vec![signature]).send().await.unwrap()).await;
    }

    /// Deploys one of the compiled contracts.
    pub(crate) async fn create(&self, file: &str, name: &str, args: Vec<u8>) -> Address {
        create(&self.anvil.provider(), file, name, args).await
    }

    /// A token whose balances are encrypted.
    pub(crate) async fn token(&self) -> Address {
        let args = self.manifest.chains[0].contracts.fhe_executor.abi_encode();
        self.create("ConfidentialToken", "ConfidentialToken", args).await
    }

    /// The handle of somebody's balance, after something was added to it.
    pub(crate) async fn balance(&self, token: Address, of: Address) -> B256 {
        let token = IToken::new(token, self.anvil.provider());
        mined(token.mint(of, 5).send().await.unwrap()).await;
        token.confidentialBalanceOf(of).call().await.unwrap()
    }

    /// The ACL, for whoever has this development key.
    pub(crate) fn acl(&self, key: &str) -> AccessControl::AccessControlInstance<DynProvider> {
        AccessControl::new(self.manifest.chains[0].contracts.access_control, self.anvil.provider_as(key))
    }

    /// Mines a block at this time.
    pub(crate) async fn at(&self, timestamp: u64) {
        self.anvil.rpc("evm_setNextBlockTimestamp", json!([timestamp])).await;
        self.anvil.mine(1).await;
    }

    /// Makes a handle publicly decryptable.
    pub(crate) async fn publish(&self, handle: B256) {
        mined(self.probe().publish(vec![handle]).send().await.unwrap()).await;
    }

    /// Time of the latest block.
    pub(crate) async fn now(&self) -> u64 {
        self.anvil.provider().get_block_by_number(Default::default()).await.unwrap().unwrap().header.timestamp
    }

    /// The dApp asks; the request is what the event carries.
    pub(crate) async fn ask(&self, handle: B256, finality: u16) -> Request {
        let deadline = self.now().await + 3600;
        let receipt = mined(self.probe().ask(vec![handle], finality, deadline).send().await.unwrap()).await;
        let gateway = self.manifest.chains[0].contracts.decryption_gateway;
        let filter = Filter::new().address(gateway).at_block_hash(receipt.block_hash.unwrap());
        let logs = self.anvil.provider().get_logs(&filter).await.unwrap();
        let event = logs.iter().find_map(|l| DecryptionGateway::DecryptionRequested::decode_log(&l.inner).ok());
        event.unwrap().data.request.into()
    }

    /// The dApp cancels.
    pub(crate) async fn cancel(&self, request: &Request) {
        let r = request.clone();
        let request = IProbe::Request {
            requester: r.requester,
            nonce: r.nonce,
            handles: r.handles,
            selector: r.selector,
            gasLimit: r.gasLimit,
            finality: r.finality,
            deadline: r.deadline,
            contextId: r.contextId,
        };
        mined(self.probe().cancel(request).send().await.unwrap()).await;
    }
}
