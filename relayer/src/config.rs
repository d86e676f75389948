//! Configuration: one TOML file, and environment variables over it.
//!
//! `KMS_RELAYER__LISTEN=…` replaces `listen`, `KMS_RELAYER__TX__DEPTH=3` replaces `depth` in `[tx]`. Unknown names are errors
//! in both.

mod signer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_primitives::{Address, U256};
use kms_chain::manifest::Manifest;
use kms_chain::rpc::Url;
use kms_telemetry::TracesConfig;
use serde::Deserialize;

pub use kms_telemetry::LogFormat;
pub use signer::{AwsKmsConfig, SignerConfig};

use crate::error::Error;

mod access;

pub use access::{AccessConfig, ConsoleAccess, KeyConfig};

/// Prefix of environment variables that replace values.
pub const ENV_PREFIX: &str = "KMS_RELAYER__";

/// The whole configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `sqlite:///path` or `postgres://…`.
    pub database: String,
    /// Name of this process among those that share a database.
    #[serde(default = "default_instance")]
    pub instance: String,
    /// Address of the HTTP API.
    pub listen: std::net::SocketAddr,
    /// Path of the cluster manifest.
    pub manifest: PathBuf,
    /// Client certificate that the parties admit.
    pub tls: Tls,
    /// Host chains.
    pub chains: Vec<ChainConfig>,
    /// Key of the account that pays.
    pub signer: SignerConfig,
    /// Transactions.
    #[serde(default)]
    pub tx: TxConfig,
    /// The parties.
    #[serde(default)]
    pub parties: PartiesConfig,
    /// Limits of the HTTP API and of the pipeline.
    #[serde(default)]
    pub limits: Limits,
    /// Keys of the HTTP API, and its console.
    #[serde(default)]
    pub access: AccessConfig,
    /// Other relayers.
    #[serde(default)]
    pub relayers: RelayersConfig,
    /// Logging.
    #[serde(default)]
    pub log: LogConfig,
    /// Traces. Without this section there are none.
    pub traces: Option<TracesConfig>,
}

/// Client certificate and key, PEM files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// One host chain.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainConfig {
    /// Chain id, as in the manifest.
    pub chain_id: u64,
    /// Endpoints, the preferred one first.
    pub rpc: Vec<Url>,
    /// How often to look for a new block, in milliseconds; endpoints that push wake us earlier.
    #[serde(default = "default_poll_ms")]
    pub poll_ms: u64,
    /// Most blocks in one query while catching up.
    #[serde(default = "default_max_window")]
    pub max_window: u64,
}

/// Transactions.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TxConfig {
    /// Blocks on top after which a fulfilment counts as done; earlier if the chain finalizes it.
    pub depth: u64,
    /// Seconds without being mined after which the fee is raised.
    pub bump_after_s: u64,
    /// Seconds after which a pending transaction is broadcast again.
    pub rebroadcast_after_s: u64,
    /// Most that is paid per gas, in gwei.
    pub max_fee_gwei: u64,
    /// Most pending transactions per chain.
    pub max_in_flight: u64,
    /// Balance below which an alarm is raised, in ether.
    pub low_balance_ether: f64,
    /// Percent of a transaction's cost that the request's fee must cover before its answer is posted. 0 posts everything at the
    /// relayer's own cost: anyone can then spend its balance with expensive callbacks.
    pub fee_cover_percent: u32,
}

impl Default for TxConfig {
    fn default() -> Self {
        Self {
            depth: 12,
            bump_after_s: 30,
            rebroadcast_after_s: 60,
            max_fee_gwei: 500,
            max_in_flight: 256,
            low_balance_ether: 0.1,
            fee_cover_percent: 100,
        }
    }
}

/// How the parties are asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PartiesConfig {
    /// Seconds that one party may take to answer one call.
    pub patience_s: u64,
    /// Milliseconds in which late answers are collected after the quorum.
    pub tail_ms: u64,
    /// Longest pause before a party is asked again, in seconds.
    pub longest_pause_s: u64,
}

impl Default for PartiesConfig {
    fn default() -> Self {
        Self { patience_s: 20, tail_ms: 300, longest_pause_s: 15 }
    }
}

/// Limits.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest HTTP body, in bytes.
    pub body_bytes: usize,
    /// Open jobs that came over HTTP.
    pub open_pulls: u64,
    /// The same of one client: one address, or one /64 of IPv6. Behind a proxy everybody has the proxy's address.
    pub open_pulls_per_client: u64,
    /// Seconds after which such a job is given up.
    pub pull_timeout_s: u64,
    /// Seconds in which a party that does not see the right to decrypt yet is asked again instead of believed: its endpoint
    /// may be behind that of whoever asks.
    pub pull_grace_s: u64,
    /// Hours that a job which came over HTTP is kept after its end.
    pub pull_retention_h: u64,
    /// Days that a request of a gateway is kept after its end; 0 keeps all of them.
    pub request_retention_days: u64,
    /// Seconds in which shares for a user are collected when there are enough of them.
    pub user_collect_s: u64,
    /// Seconds that the shares of a user are kept after that.
    pub user_retention_s: u64,
    /// Jobs of users that are kept after their end, whatever their age: of more the oldest go first.
    pub user_kept: u64,
    /// Followers of what happens, at once.
    pub followers: usize,
    /// The same of one client.
    pub followers_per_client: usize,
    /// Requests per second and client address.
    pub requests_per_second: f64,
    /// Requests that a client may make at once.
    pub burst: f64,
    /// Jobs worked on at once.
    pub concurrency: usize,
    /// How many of them are kept for what is asked for on chain, whatever comes over HTTP.
    pub reserved: usize,
    /// Seconds that a claimed job is kept from other workers.
    pub lease_s: u64,
    /// Seconds that work at hand has to finish when the process is asked to end.
    pub drain_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 256 * 1024,
            open_pulls: 10_000,
            open_pulls_per_client: 200,
            pull_timeout_s: 300,
            pull_grace_s: 30,
            pull_retention_h: 7 * 24,
            request_retention_days: 90,
            user_collect_s: 60,
            user_retention_s: 3_600,
            user_kept: 5_000,
            followers: 256,
            followers_per_client: 16,
            requests_per_second: 20.0,
            burst: 100.0,
            concurrency: 256,
            reserved: 64,
            lease_s: 60,
            drain_s: 20,
        }
    }
}

/// Other relayers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelayersConfig {
    /// Accounts of all relayers of this deployment.
    pub known: Vec<Address>,
    /// Milliseconds that each rank waits longer than the one before.
    pub slot_ms: u64,
    /// Seconds after which another relayer of the same database takes over what only one of them does, when that one is
    /// silent: following a chain, minding the nonces of an account. Above the time between two blocks.
    pub lead_s: u64,
}

impl Default for RelayersConfig {
    fn default() -> Self {
        Self { known: Vec::new(), slot_ms: 3_000, lead_s: 30 }
    }
}

/// Logging.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Filter, as in `RUST_LOG`.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

fn default_instance() -> String {
    "relayer".into()
}

fn default_poll_ms() -> u64 {
    500
}

fn default_max_window() -> u64 {
    2_000
}

impl Config {
    /// Reads the file and the environment.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn load(path: &Path, env: impl Iterator<Item = (String, String)>) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::Config(format!("{} can't be read: {e}", path.display())))?;
        Self::parse(&text, env).map_err(|e| Error::Config(format!("{}: {e}", path.display())))
    }

    fn parse(text: &str, env: impl Iterator<Item = (String, String)>) -> Result<Self, String> {
        let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
        for (name, value) in env {
            if let Some(path) = name.strip_prefix(ENV_PREFIX) {
                set(&mut table, &name, path, &value)?;
            }
        }
        let config: Config = table.try_into().map_err(|e: toml::de::Error| e.to_string())?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if !["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| self.database.starts_with(scheme)) {
            return Err("database is neither sqlite: nor postgres:".into());
        }
        if self.chains.is_empty() {
            return Err("no chain is configured".into());
        }
        for (i, chain) in self.chains.iter().enumerate() {
            if chain.rpc.is_empty() {
                return Err(format!("chain {} has no endpoint", chain.chain_id));
            }
            if i64::try_from(chain.chain_id).is_err() {
                return Err(format!("chain id {} is too large", chain.chain_id));
            }
            if self.chains[..i].iter().any(|other| other.chain_id == chain.chain_id) {
                return Err(format!("chain {} is configured twice", chain.chain_id));
            }
        }
        self.signer.check()?;
        if let Some(Err(error)) = self.traces.as_ref().map(TracesConfig::check) {
            return Err(error.to_string());
        }
        let zero = [
            (self.limits.concurrency == 0, "limits.concurrency"),
            (self.limits.lease_s <= self.parties.patience_s, "limits.lease_s, which must be above parties.patience_s,"),
            (
                !access::is_rate(self.limits.requests_per_second, self.limits.burst),
                "limits.requests_per_second or limits.burst",
            ),
            (
                self.limits.concurrency <= self.limits.reserved,
                "limits.concurrency, which must be above limits.reserved,",
            ),
            (self.limits.reserved == 0, "limits.reserved"),
            (self.limits.open_pulls_per_client == 0, "limits.open_pulls_per_client"),
            (self.limits.pull_retention_h == 0, "limits.pull_retention_h"),
            (self.limits.user_collect_s == 0, "limits.user_collect_s"),
            (self.limits.user_retention_s == 0, "limits.user_retention_s"),
            (self.limits.user_kept == 0, "limits.user_kept"),
            (self.relayers.lead_s == 0, "relayers.lead_s"),
            (self.tx.max_in_flight == 0, "tx.max_in_flight"),
            (self.tx.max_fee_gwei == 0, "tx.max_fee_gwei"),
        ];
        self.access.check()?;
        match zero.iter().find(|(wrong, _)| *wrong) {
            Some((_, name)) => Err(format!("{name} is too small")),
            None => Ok(()),
        }
    }

    /// Reads the manifest and checks that every configured chain is in it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn manifest(&self) -> Result<Manifest, Error> {
        let path = self.manifest.display();
        let bytes =
            std::fs::read(&self.manifest).map_err(|e| Error::Config(format!("manifest {path} can't be read: {e}")))?;
        let manifest = Manifest::parse(&bytes).map_err(|e| Error::Config(format!("manifest {path}: {e}")))?;
        for chain in &self.chains {
            if manifest.chain(chain.chain_id).is_none() {
                return Err(Error::Config(format!("chain {} is not in the manifest {path}", chain.chain_id)));
            }
        }
        Ok(manifest)
    }
}

impl Config {
    /// The rules of the transaction managers.
    #[must_use]
    pub fn tx_rules(&self) -> crate::tx::TxRules {
        // A quarter of all workers may wait for room, whatever chain it is on.
        let waiting = self.limits.concurrency / 4 / self.chains.len().max(1);
        crate::tx::TxRules { waiting: waiting.max(1), ..self.tx.rules() }
    }
}

impl TxConfig {
    fn rules(&self) -> crate::tx::TxRules {
        // Ether as people write it; a hundred microether are exact enough for an alarm.
        let low = (self.low_balance_ether.max(0.0) * 1e4).min(1e15) as u64;
        crate::tx::TxRules {
            depth: self.depth,
            bump_after: Duration::from_secs(self.bump_after_s),
            rebroadcast_after: Duration::from_secs(self.rebroadcast_after_s),
            max_fee: u128::from(self.max_fee_gwei) * 1_000_000_000,
            max_in_flight: self.max_in_flight,
            waiting: 1,
            wait_for_room: Duration::from_secs(1),
            low_balance: U256::from(low) * U256::from(100_000_000_000_000u64),
            fee_cover_percent: self.fee_cover_percent,
        }
    }
}

/// Puts one environment variable in its place.
fn set(table: &mut toml::Table, name: &str, path: &str, value: &str) -> Result<(), String> {
    let mut keys: Vec<String> = path.split("__").map(str::to_lowercase).collect();
    let last = keys.pop().filter(|key| !key.is_empty()).ok_or_else(|| format!("{name} names nothing"))?;
    let mut place = table;
    for key in keys {
        place = place
            .entry(key)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("{name} goes through a value that is not a section"))?;
    }
    // A number, a truth value, a list; whatever does not read as one is text.
    let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    place.insert(last, parsed.unwrap_or_else(|| toml::Value::String(value.to_owned())));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
        database = "sqlite:///tmp/relayer.db"
        listen = "127.0.0.1:8080"
        manifest = "manifest.json"
        [tls]
        cert = "cert.pem"
        key = "key.pem"
        [[chains]]
        chain_id = 31337
        rpc = ["http://127.0.0.1:8545"]
        [signer]
        env = "KMS_RELAYER_KEY"
    "#;

    fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
        Config::parse(text, env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn the_least_there_can_be() {
        let config = parse(MINIMAL, &[]).unwrap();
        assert_eq!((config.chains[0].poll_ms, config.tx.depth, config.limits.concurrency), (500, 12, 256));
        assert_eq!(config.tx_rules().waiting, 64);
        assert_eq!(config.tx_rules().low_balance, U256::from(100_000_000_000_000_000u64));
    }

    #[test]
    fn the_environment_goes_first() {
        let env = [
            ("KMS_RELAYER__LISTEN", "0.0.0.0:9"),
            ("KMS_RELAYER__TX__DEPTH", "3"),
            ("KMS_RELAYER__RELAYERS__KNOWN", "[\"0x0000000000000000000000000000000000000001\"]"),
            ("KMS_RELAYER_KEY", "not ours"),
            ("OTHER", "x"),
        ];
        let config = parse(MINIMAL, &env).unwrap();
        assert_eq!((config.listen.port(), config.tx.depth, config.relayers.known.len()), (9, 3, 1));
    }

    #[test]
    fn mistakes_are_named() {
        let unknown = format!("colour = \"red\"\n{MINIMAL}");
        let twice = format!("{MINIMAL}\n[[chains]]\nchain_id = 31337\nrpc = [\"http://a\"]");
        for (text, env, part) in [
            (unknown.as_str(), ("OTHER", ""), "colour"),
            (MINIMAL, ("KMS_RELAYER__COLOUR", "red"), "colour"),
            (MINIMAL, ("KMS_RELAYER__TX__COLOUR", "red"), "colour"),
            (MINIMAL, ("KMS_RELAYER__DATABASE", "mysql://a"), "neither sqlite"),
            (MINIMAL, ("KMS_RELAYER__CHAINS", "[]"), "no chain"),
            (MINIMAL, ("KMS_RELAYER__LISTEN__PORT", "1"), "not a section"),
            (MINIMAL, ("KMS_RELAYER__SIGNER__KEYSTORE", "k.json"), "exactly one"),
            (MINIMAL, ("KMS_RELAYER__SIGNER__AWS_KMS__KEY_ID", "alias/relayer"), "region"),
            (MINIMAL, ("KMS_RELAYER__TRACES__ENDPOINT", "collector:4318"), "neither http"),
            (MINIMAL, ("KMS_RELAYER__TRACES__SAMPLE", "0.5"), "endpoint"),
            (MINIMAL, ("KMS_RELAYER__LIMITS__CONCURRENCY", "0"), "concurrency"),
            (MINIMAL, ("KMS_RELAYER__PARTIES__PATIENCE_S", "60"), "lease_s"),
            (twice.as_str(), ("OTHER", ""), "twice"),
        ] {
            let error = parse(text, &[env]).unwrap_err();
            assert!(error.contains(part), "{env:?}: {error}");
        }
    }
}
