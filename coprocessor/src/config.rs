//! The configuration file. Unknown keys are errors: a typo must not become a default.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use alloy::signers::local::PrivateKeySigner;
use serde::Deserialize;

use crate::{
    error::{Error, Result},
    inputs::Waiting,
    store::InputRoom,
};

/// Everything that one coprocessor needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The database, `sqlite:///absolute/path`; created when absent.
    pub database: String,
    /// Address of the HTTP server.
    pub listen: SocketAddr,
    /// Folder of the public key bundle (`key.json` and the files it lists).
    pub public_keys: PathBuf,
    /// Where ciphertext objects go: `file:///…`, `s3://…`.
    pub object_store: String,
    /// The cluster manifest, for the contract addresses of each chain.
    pub manifest: PathBuf,
    /// Host chains that are followed.
    pub chains: Vec<ChainConfig>,
    /// The key that stands for this coprocessor: signs inputs and commitments.
    pub signer: SignerConfig,
    /// The account that pays for commitments; the signer when absent.
    pub submitter: Option<SignerConfig>,
    /// Limits of `POST /v1/inputs`.
    #[serde(default)]
    pub inputs: InputsConfig,
    /// How much is computed at once.
    #[serde(default)]
    pub compute: ComputeConfig,
    /// How commitments are sent.
    #[serde(default)]
    pub commit: CommitConfig,
    /// Logging.
    #[serde(default)]
    pub log: LogConfig,
}

/// One host chain.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainConfig {
    /// Its id; must stand in the manifest.
    pub chain_id: u64,
    /// Its RPC endpoints, in order of preference.
    pub rpc: Vec<String>,
    /// Milliseconds between two looks at the chain's head.
    #[serde(default = "default_tick")]
    pub tick_ms: u64,
}

/// Where a secp256k1 key comes from: an environment variable or an encrypted keystore file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerConfig {
    /// Name of the environment variable that holds the key in hex.
    pub env: Option<String>,
    /// An Ethereum keystore file (version 3) …
    pub keystore: Option<PathBuf>,
    /// … and the file that holds its password.
    pub password_file: Option<PathBuf>,
}

/// Limits of `POST /v1/inputs`. A proof costs about 0.1 to 0.6 s of one core to check.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InputsConfig {
    /// Proofs checked at once.
    pub workers: usize,
    /// Requests that may wait for a worker; more get 503.
    pub queue: usize,
    /// Requests that one address may have open; more get 429.
    pub per_client: usize,
    /// Hours until an accepted input is forgotten that its chain did not use, counted once the chain is followed that far.
    pub max_age_hours: u64,
    /// Bytes on disk of accepted inputs that their chain has not used; more get 503.
    pub max_bytes: u64,
    /// The same for those of one address (IPv6: of one /64); more get 429. Behind a proxy everybody has the proxy's address.
    pub max_client_bytes: u64,
}

/// How much is computed at once.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComputeConfig {
    /// Operations evaluated at once; each one uses the thread pool for its own blocks as well.
    pub operations: usize,
    /// Ciphertexts squashed at once.
    pub squashes: usize,
}

/// How commitments are sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommitConfig {
    /// Commitments in one transaction, at most.
    pub batch: usize,
    /// Milliseconds between two looks at the outbox.
    pub tick_ms: u64,
    /// Seconds after which a transaction that is not mined is replaced with a better paid one.
    pub bump_after_seconds: u64,
    /// The most this submitter pays per gas, in wei; a bump stops there.
    pub max_fee_per_gas: u64,
}

/// Logging.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// A `tracing` filter, such as `info` or `kms_coprocessor=debug`.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

fn default_tick() -> u64 {
    1_000
}

impl Default for InputsConfig {
    fn default() -> Self {
        Self {
            workers: 2,
            queue: 64,
            per_client: 32,
            max_age_hours: 7 * 24,
            max_bytes: 4 << 30,
            max_client_bytes: 256 << 20,
        }
    }
}

impl InputsConfig {
    /// How long inputs wait, and how much room they have.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        let room = InputRoom { total: self.max_bytes, client: self.max_client_bytes };
        Waiting { max_age: self.max_age_hours.saturating_mul(3_600), room }
    }
}

impl Default for ComputeConfig {
    fn default() -> Self {
        Self { operations: 2, squashes: 2 }
    }
}

impl Default for CommitConfig {
    fn default() -> Self {
        Self { batch: 128, tick_ms: 500, bump_after_seconds: 45, max_fee_per_gas: 1_000_000_000_000 }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

impl Config {
    /// Reads and checks a configuration file. Relative paths in it are relative to the working directory.
    ///
    /// # Errors
    /// When the file can't be read, is not valid TOML, has unknown keys, or contradicts itself.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::Config(format!("cannot read {}: {error}", path.display())))?;
        Self::parse(&text)
    }

    /// Parses and checks the text of a configuration file.
    ///
    /// # Errors
    /// See [`Config::load`].
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(|error| Error::Config(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let refuse = |what: &str| Err(Error::Config(what.into()));
        if !self.database.starts_with("sqlite:") {
            return refuse("database must be a sqlite: address");
        }
        if self.chains.is_empty() {
            return refuse("at least one entry in [[chains]] is needed");
        }
        let ids: BTreeSet<u64> = self.chains.iter().map(|chain| chain.chain_id).collect();
        if ids.len() != self.chains.len() {
            return refuse("a chain id stands twice in [[chains]]");
        }
        for chain in &self.chains {
            if chain.chain_id == 0 || i64::try_from(chain.chain_id).is_err() {
                return refuse("chain_id must be between 1 and 2^63 - 1");
            }
            if chain.rpc.is_empty() {
                return refuse("every chain needs at least one rpc address");
            }
            if chain.tick_ms == 0 {
                return refuse("tick_ms must not be 0");
            }
        }
        self.signer.check()?;
        if let Some(submitter) = &self.submitter {
            submitter.check()?;
        }
        let positive = [
            ("inputs.workers", self.inputs.workers),
            ("inputs.queue", self.inputs.queue),
            ("inputs.per_client", self.inputs.per_client),
            ("compute.operations", self.compute.operations),
            ("compute.squashes", self.compute.squashes),
            ("commit.batch", self.commit.batch),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return refuse(&format!("{name} must not be 0"));
        }
        if self.commit.batch > 256 {
            return refuse("commit.batch must not exceed 256");
        }
        // Ten years in hours: far enough, and its seconds fit any clock.
        if !(1..=87_600).contains(&self.inputs.max_age_hours) {
            return refuse("inputs.max_age_hours must be between 1 and 87600");
        }
        let largest = 2 * kms_fhe::inputs::MAX_BYTES as u64;
        if self.inputs.max_client_bytes < largest || self.inputs.max_bytes < self.inputs.max_client_bytes {
            return refuse("inputs.max_bytes must not be below max_client_bytes, which must not be below 256 KiB");
        }
        if self.commit.tick_ms == 0 || self.commit.max_fee_per_gas == 0 {
            return refuse("commit.tick_ms and commit.max_fee_per_gas must not be 0");
        }
        Ok(())
    }
}

impl SignerConfig {
    fn check(&self) -> Result<()> {
        match (&self.env, &self.keystore, &self.password_file) {
            (Some(_), None, None) | (None, Some(_), Some(_)) => Ok(()),
            _ => Err(Error::Config("a signer is either `env`, or `keystore` with `password_file`".into())),
        }
    }

    /// Reads the key.
    ///
    /// # Errors
    /// When the variable or file is absent or is no key.
    pub fn load(&self) -> Result<PrivateKeySigner> {
        if let Some(name) = &self.env {
            let text =
                std::env::var(name).map_err(|_| Error::Signer(format!("environment variable {name} is not set")))?;
            return text
                .trim()
                .parse()
                .map_err(|_| Error::Signer(format!("environment variable {name} does not hold a private key")));
        }
        let (Some(keystore), Some(password_file)) = (&self.keystore, &self.password_file) else {
            return Err(Error::Signer("no source is configured".into()));
        };
        let password = std::fs::read_to_string(password_file)
            .map_err(|error| Error::Signer(format!("cannot read {}: {error}", password_file.display())))?;
        PrivateKeySigner::decrypt_keystore(keystore, password.trim_end_matches(['\r', '\n']))
            .map_err(|error| Error::Signer(format!("cannot open {}: {error}", keystore.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        database = "sqlite:///tmp/db"
        listen = "127.0.0.1:0"
        public_keys = "/tmp/public"
        object_store = "file:///tmp/objects"
        manifest = "/tmp/manifest.json"
        [[chains]]
        chain_id = 31337
        rpc = ["http://127.0.0.1:8545"]
        [signer]
        env = "KMS_COPROCESSOR_KEY"
    "#;

    fn refusal(text: &str) -> String {
        Config::parse(text).expect_err("must be refused").to_string()
    }

    #[test]
    fn small_config_is_enough() {
        let config = Config::parse(SMALL).unwrap();
        assert_eq!(config.chains[0].chain_id, 31337);
        assert_eq!(config.inputs.workers, 2);
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(refusal(&format!("surprise = 1\n{SMALL}")).contains("surprise"));
        assert!(refusal(&SMALL.replace("env =", "enw =")).contains("enw"));
        assert!(refusal(&format!("{SMALL}\n[inputs]\nworker = 1")).contains("worker"));
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(refusal(&SMALL.replace("31337", "0")).contains("chain_id"));
        assert!(refusal(&SMALL.replace("\"http://127.0.0.1:8545\"", "")).contains("rpc"));
        assert!(refusal(&format!("{SMALL}\nkeystore = \"/tmp/k\"")).contains("signer"));
        assert!(refusal(&format!("{SMALL}\n[[chains]]\nchain_id = 31337\nrpc = [\"x\"]")).contains("twice"));
        assert!(refusal(&format!("{SMALL}\n[inputs]\nworkers = 0")).contains("inputs.workers"));
        assert!(refusal(&format!("{SMALL}\n[inputs]\nmax_age_hours = 0")).contains("max_age_hours"));
        assert!(refusal(&format!("{SMALL}\n[inputs]\nmax_bytes = 1000000")).contains("max_bytes"));
        assert!(refusal(&SMALL.replace("sqlite:///tmp/db", "postgres://x")).contains("sqlite"));
    }

    #[test]
    fn signer_errors_do_not_show_the_key() {
        let signer = SignerConfig { env: Some("PATH".into()), keystore: None, password_file: None };
        let text = signer.load().expect_err("PATH is no key").to_string();
        assert!(!text.contains(&std::env::var("PATH").unwrap()));
    }
}
