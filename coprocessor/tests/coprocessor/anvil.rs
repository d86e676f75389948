//! A real chain with the contracts on it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use alloy::{
    network::EthereumWallet,
    providers::{DynProvider, Provider, ProviderBuilder},
    signers::local::PrivateKeySigner,
    sol,
};
use alloy_primitives::{Address, B256};
use kms_chain::faults::Anvil;
use kms_chain::manifest::{Card, Contracts, DecryptionDomain, Deployment, HostChain, Manifest};
use kms_coprocessor::Config;

use crate::fixture::{CHAIN, INSECURE_SIGNER, key, signer};

sol! {
    /// The example vote.
    #[sol(rpc)]
    contract ConfidentialVote {
        function vote(bytes32 ballot, bytes calldata inputProof) external;
        function close(uint16 finality, uint64 deadline) external payable;
        function tally() external view returns (bytes32);
    }

    /// The example token.
    #[sol(rpc)]
    contract ConfidentialToken {
        function mint(address to, uint64 amount) external;
        function confidentialTransfer(address to, bytes32 encryptedAmount, bytes calldata inputProof) external;
        function confidentialBalanceOf(address account) external view returns (bytes32);
    }
}

/// anvil's development keys that deploy and vote.
pub(crate) const INSECURE_KEYS: [&str; 4] = [
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "0x47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "0x8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
];

/// anvil, the contracts, and the folder of a coprocessor.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) contracts: Contracts,
    pub(crate) vote: Address,
    pub(crate) token: Address,
    _anvil: Anvil,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

impl World {
    /// Starts anvil and deploys the contracts, with our signer as the only coprocessor, and the example vote.
    pub(crate) async fn start() -> Self {
        let anvil = Anvil::start(&["--chain-id", &CHAIN.to_string(), "--block-time", "1"]).unwrap();
        let url = anvil.url();
        let folder = tempfile::tempdir().unwrap();
        let nowhere = Contracts {
            access_control: Address::ZERO,
            fhe_executor: Address::ZERO,
            input_verifier: Address::ZERO,
            ciphertext_registry: Address::ZERO,
            kms_verifier: Address::ZERO,
            decryption_gateway: Address::ZERO,
            guard_lens: Address::ZERO,
            key_management: Address::ZERO,
        };
        let mut world =
            Self { url, folder, contracts: nowhere, vote: Address::ZERO, token: Address::ZERO, _anvil: anvil };
        world.deploy();
        world
    }

    fn deploy(&mut self) {
        let manifest = self.path("manifest.json");
        let mut content = manifest_without_chains();
        write_json(&manifest, &content);
        let out = self.path("deployment.json");
        self.script(&["--manifest", manifest.to_str().unwrap(), "--out", out.to_str().unwrap()]);
        let deployment: Deployment = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
        self.contracts = deployment.contracts;
        content.chains.push(HostChain {
            chain_id: CHAIN,
            contracts: deployment.contracts,
            deployment_block: deployment.deployment_block,
            finality_floor: 0,
        });
        write_json(&manifest, &content);
        let examples = self.path("examples.json");
        self.script(&["--examples", out.to_str().unwrap(), "--out", examples.to_str().unwrap()]);
        let examples: serde_json::Value = serde_json::from_slice(&std::fs::read(&examples).unwrap()).unwrap();
        let address = |name: &str| examples[name].as_str().unwrap().parse().unwrap();
        (self.vote, self.token) = (address("confidentialVote"), address("confidentialToken"));
    }

    fn script(&self, arguments: &[&str]) {
        let output = Command::new(root().join("script/deploy"))
            .args(arguments)
            .env("KMS_RPC_URL", &self.url)
            .env("KMS_DEPLOYER_KEY", INSECURE_KEYS[0])
            .env("KMS_COPROCESSORS", signer().address().to_string())
            .output()
            .unwrap();
        assert!(output.status.success(), "script/deploy: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A provider that signs with one of [`INSECURE_KEYS`].
    pub(crate) fn provider(&self, account: usize) -> DynProvider {
        let wallet = EthereumWallet::from(wallet(account));
        ProviderBuilder::new().wallet(wallet).connect_http(self.url.parse().unwrap()).erased()
    }

    /// The configuration of the coprocessor.
    pub(crate) fn config(&self) -> Config {
        let secret = self.path("insecure-key");
        let password = self.path("insecure-password");
        if !secret.exists() {
            std::fs::File::create(&password).unwrap().write_all(b"insecure\n").unwrap();
            write_keystore(&secret);
        }
        let folder = self.folder.path().display();
        Config::parse(&format!(
            "database = \"sqlite://{folder}/db\"\nlisten = \"127.0.0.1:0\"\npublic_keys = \"{}\"\n\
             object_store = \"file://{folder}/objects\"\nmanifest = \"{folder}/manifest.json\"\n\
             [[chains]]\nchain_id = {CHAIN}\nrpc = [\"{}\"]\ntick_ms = 100\n\
             [signer]\nkeystore = \"{}\"\npassword_file = \"{}\"\n[commit]\ntick_ms = 100\n",
            key().folder().display(),
            self.url,
            secret.display(),
            password.display(),
        ))
        .unwrap()
    }
}

/// One of the development accounts.
pub(crate) fn wallet(account: usize) -> PrivateKeySigner {
    INSECURE_KEYS[account].parse().unwrap()
}

/// An Ethereum keystore of the signer, made by `cast`, with the password `insecure`.
fn write_keystore(path: &Path) {
    let status = Command::new(root().join("node_modules/.bin/cast"))
        .args(["wallet", "import", "--private-key", INSECURE_SIGNER, "--unsafe-password", "insecure", "--keystore-dir"])
        .arg(path.parent().unwrap())
        .arg(path.file_name().unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "cast wallet import");
}

fn manifest_without_chains() -> Manifest {
    let card = |index: u8| Card {
        version: 1,
        name: "party".into(),
        signer: Address::repeat_byte(0x10 + index),
        tls_root: rcgen::generate_simple_self_signed(["party".to_owned()]).unwrap().cert.pem(),
        peer_url: "https://localhost:1".into(),
        client_url: "https://localhost:2".into(),
    };
    let domain = DecryptionDomain { chain_id: CHAIN, verifying_contract: Address::repeat_byte(0x22) };
    Manifest::from_cards(&[1, 2, 3, 4].map(card), 1, 3, B256::ZERO, domain).unwrap()
}

fn write_json(path: &Path, content: &Manifest) {
    std::fs::write(path, serde_json::to_vec_pretty(content).unwrap()).unwrap();
}
