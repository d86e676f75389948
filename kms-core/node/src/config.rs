//! The party's own configuration: only what is private to it. What the committee shares stands in the manifest.
//!
//! TOML; an unknown key is an error. Relative paths are relative to the folder of the file.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kms_telemetry::TracesConfig;
use serde::Deserialize;

pub use kms_telemetry::LogFormat;

use crate::engine::DEFAULT_IN_FLIGHT;
use crate::error::ConfigError;
use crate::tls::Limit;

/// Largest configuration file.
const MAX_BYTES: u64 = 1 << 20;
/// Endpoints of one chain.
const MAX_ENDPOINTS: usize = 8;

/// Configuration of `kms-node run`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder of this party's secrets and database, made by `kms-node init`.
    pub data_dir: PathBuf,
    /// The cluster manifest.
    pub manifest: PathBuf,
    /// This party's place in the committee, from 1.
    pub index: u16,
    /// Where the other parties connect.
    pub listen_peer: SocketAddr,
    /// Where relayers and operators connect.
    pub listen_client: SocketAddr,
    /// Where metrics are shown; keep it on localhost.
    #[serde(default = "default_metrics")]
    pub listen_metrics: SocketAddr,
    /// What opens the sealed objects.
    pub sealing: Sealing,
    /// Endpoints of the host chains.
    #[serde(default)]
    pub chains: Vec<ChainEndpoints>,
    /// Where ciphertexts are fetched, in order of preference.
    #[serde(default)]
    pub object_stores: Vec<ObjectStoreConfig>,
    /// Who may call the client API.
    #[serde(default)]
    pub clients: Vec<ClientConfig>,
    /// Set-up of pseudorandom keys.
    #[serde(default)]
    pub prss_setup: PrssSetup,
    /// Generation of keys.
    #[serde(default)]
    pub keygen: Keygen,
    /// How much is worked on at the same time.
    #[serde(default)]
    pub work: Work,
    /// Logging.
    #[serde(default)]
    pub log: Log,
    /// Traces. Without this section there are none.
    pub traces: Option<TracesConfig>,
}

/// What opens the sealed objects.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Sealing {
    /// A passphrase in a file. For development: whoever reads the disk reads the share.
    PassphraseFile {
        /// The file.
        path: PathBuf,
    },
}

/// Set-up of pseudorandom keys by the parties.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrssSetup {
    /// How long n − t parties wait for the others before they start without them.
    pub patience_seconds: u64,
    /// Longest time of a round: difference of the parties' starts and delay of a message together. Should be the same at
    /// all parties.
    pub bound_seconds: u64,
}

impl Default for PrssSetup {
    fn default() -> Self {
        Self { patience_seconds: 600, bound_seconds: 60 }
    }
}

/// Generation of keys by the parties.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keygen {
    /// How long a party may be silent before the others go on without it. Longer than any party needs for a piece of work
    /// and for a restart.
    pub patience_seconds: u64,
    /// How long a party that has the key keeps what the others may still need for theirs.
    pub linger_seconds: u64,
}

impl Default for Keygen {
    fn default() -> Self {
        Self { patience_seconds: 120, linger_seconds: 24 * 3600 }
    }
}

/// The endpoints of one host chain. All of them have to agree.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainEndpoints {
    /// Chain id, as in the manifest.
    pub chain_id: u64,
    /// JSON-RPC over HTTP.
    pub rpc: Vec<String>,
}

/// One object store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectStoreConfig {
    /// `file:///folder`, `http://host/base` or `https://host/base`.
    pub url: String,
}

/// One group of clients: everybody whose certificate its authority has issued.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// Name for logs and metrics.
    pub name: String,
    /// Certificate of the authority, PEM.
    pub ca: PathBuf,
    /// What its certificates may do.
    pub permissions: Vec<Permission>,
    /// Calls per second of all its certificates together.
    #[serde(default = "default_rate")]
    pub requests_per_second: u32,
    /// Decryptions open at the same time, of all its certificates together.
    #[serde(default = "default_open")]
    pub max_open: u32,
    /// Calls per second of one certificate; half of the group's if absent.
    pub requests_per_second_each: Option<u32>,
    /// Decryptions of one certificate open at the same time; half of the group's if absent.
    pub max_open_each: Option<u32>,
}

impl ClientConfig {
    /// What the group has, and what each of its certificates has of that.
    pub fn limits(&self) -> [Limit; 2] {
        let half = |all: u32| all.div_ceil(2);
        let each = Limit {
            requests_per_second: self.requests_per_second_each.unwrap_or(half(self.requests_per_second)),
            max_open: self.max_open_each.unwrap_or(half(self.max_open)),
        };
        [Limit { requests_per_second: self.requests_per_second, max_open: self.max_open }, each]
    }
}

/// How much this party works on at the same time.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Work {
    /// MiB of expanded ciphertexts; see [`crate::engine::EngineOptions::in_flight`].
    pub in_flight_mib: u16,
}

impl Default for Work {
    fn default() -> Self {
        Self { in_flight_mib: (DEFAULT_IN_FLIGHT >> 20) as u16 }
    }
}

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// `Decrypt`.
    Decrypt,
    /// `UserDecrypt`.
    UserDecrypt,
    /// `GetStatus`, `GetKeys`, `Health`, `KeyGenStatus`, `GetKeyFile`.
    Status,
    /// `KeyGen`, `KeyGenAbort`.
    Keygen,
}

/// Logging.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Filter as of `tracing-subscriber`.
    pub level: String,
    /// Lines for people or for machines.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

fn default_metrics() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9464))
}

const fn default_rate() -> u32 {
    50
}

const fn default_open() -> u32 {
    256
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Unreadable, too large, an unknown or missing key, or a value that makes no sense; the key is named.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let bytes = read_bounded(path, MAX_BYTES)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut config: Self =
            toml::from_str(&text).map_err(|e| ConfigError::Toml { path: path.to_owned(), source: Box::new(e) })?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        config.check()?;
        Ok(config)
    }

    fn resolve(&mut self, base: &Path) {
        let Sealing::PassphraseFile { path } = &mut self.sealing;
        let cas = self.clients.iter_mut().map(|c| &mut c.ca);
        for path in [&mut self.data_dir, &mut self.manifest, path].into_iter().chain(cas) {
            *path = base.join(&path);
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let fail = |key: String, problem: &str| Err(ConfigError::Value { key, problem: problem.into() });
        if self.index == 0 {
            return fail("index".into(), "parties are counted from 1");
        }
        if self.prss_setup.bound_seconds == 0 {
            return fail("prss_setup.bound_seconds".into(), "no message is that fast");
        }
        if self.keygen.patience_seconds == 0 {
            return fail("keygen.patience_seconds".into(), "nobody is that fast");
        }
        if self.work.in_flight_mib == 0 {
            return fail("work.in_flight_mib".into(), "nothing can be decrypted without any room");
        }
        if let Some(Err(error)) = self.traces.as_ref().map(TracesConfig::check) {
            return fail("traces".into(), &error.to_string());
        }
        for (i, chain) in self.chains.iter().enumerate() {
            if chain.rpc.is_empty() || chain.rpc.len() > MAX_ENDPOINTS {
                return fail(format!("chains[{i}].rpc"), "between 1 and 8 endpoints are needed");
            }
            if self.chains[..i].iter().any(|c| c.chain_id == chain.chain_id) {
                return fail(format!("chains[{i}].chain_id"), "this chain is listed twice");
            }
            for url in &chain.rpc {
                if !(url.starts_with("http://") || url.starts_with("https://")) {
                    return fail(format!("chains[{i}].rpc"), "endpoints start with http:// or https://");
                }
            }
        }
        for (i, client) in self.clients.iter().enumerate() {
            if self.clients[..i].iter().any(|c| c.name == client.name) {
                return fail(format!("clients[{i}].name"), "this name is listed twice");
            }
            let limits = client.limits();
            if limits.iter().any(|limit| limit.requests_per_second == 0 || limit.max_open == 0) {
                return fail(format!("clients[{i}]"), "a limit of zero lets nobody in; leave the client out instead");
            }
        }
        Ok(())
    }
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// Unreadable or too large.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ConfigError> {
    let fail = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(fail)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > limit {
        return Err(ConfigError::TooLarge { path: path.to_owned(), bytes: bytes.len() as u64, limit });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        data_dir = "data"
        manifest = "/etc/kms/manifest.json"
        index = 2
        listen_peer = "127.0.0.1:7001"
        listen_client = "127.0.0.1:7002"
        [sealing]
        kind = "passphrase-file"
        path = "passphrase"
        [[chains]]
        chain_id = 31337
        rpc = ["http://127.0.0.1:8545"]
        [[object_stores]]
        url = "file:///var/ct"
        [[clients]]
        name = "relayer"
        ca = "relayer.pem"
        permissions = ["decrypt", "user-decrypt", "status"]
    "#;

    fn read(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        let mut config = Config::read(&path)?;
        // So that tests can compare: the folder's name is random.
        config.data_dir = config.data_dir.strip_prefix(dir.path()).unwrap().to_owned();
        Ok(config)
    }

    #[test]
    fn a_good_file_reads_with_its_defaults() {
        let config = read(GOOD).unwrap();
        assert_eq!(config.data_dir, Path::new("data"));
        assert_eq!(config.manifest, Path::new("/etc/kms/manifest.json"));
        assert_eq!(config.listen_metrics.to_string(), "127.0.0.1:9464");
        let all = [Permission::Decrypt, Permission::UserDecrypt, Permission::Status];
        assert_eq!(config.clients[0].permissions, all);
        assert_eq!((config.clients[0].requests_per_second, config.clients[0].max_open), (50, 256));
        let [group, each] = config.clients[0].limits();
        assert_eq!((group.requests_per_second, group.max_open), (50, 256));
        assert_eq!((each.requests_per_second, each.max_open), (25, 128));
        let explicit = read(&format!("{GOOD}\nmax_open_each = 7\n[work]\nin_flight_mib = 3")).unwrap();
        assert_eq!((explicit.clients[0].limits()[1].max_open, explicit.work.in_flight_mib), (7, 3));
        assert_eq!(config.work.in_flight_mib, 96);
        assert_eq!(config.log.format, LogFormat::Text);
        assert_eq!((config.prss_setup.patience_seconds, config.prss_setup.bound_seconds), (600, 60));
    }

    #[test]
    fn bad_files_name_what_is_wrong() {
        let cases = [
            (GOOD.replace("index = 2", "index = 2\ncolour = 3"), "colour"),
            (GOOD.replace("kind = \"passphrase-file\"", "kind = \"hsm\""), "hsm"),
            (GOOD.replace("path = \"passphrase\"", "path = \"p\"\nsalt = 1"), "salt"),
            (GOOD.replace("index = 2", ""), "index"),
            (GOOD.replace("index = 2", "index = 0"), "counted from 1"),
            (GOOD.replace("\"status\"]", "\"root\"]"), "root"),
            (GOOD.replace("[\"http://127.0.0.1:8545\"]", "[]"), "chains[0].rpc"),
            (GOOD.replace("http://127.0.0.1:8545", "ws://x"), "http://"),
            (format!("{GOOD}\nrequests_per_second = 0"), "zero"),
            (format!("{GOOD}\n[prss_setup]\nbound_seconds = 0"), "prss_setup.bound_seconds"),
            (format!("{GOOD}\n[prss_setup]\nrounds = 3"), "rounds"),
            (format!("{GOOD}\n[keygen]\npatience_seconds = 0"), "keygen.patience_seconds"),
            (format!("{GOOD}\n[keygen]\nwindow = 65"), "window"),
            (format!("{GOOD}\nmax_open_each = 0"), "zero"),
            (format!("{GOOD}\n[work]\nin_flight_mib = 0"), "work.in_flight_mib"),
            (format!("{GOOD}\n[traces]\nendpoint = \"collector:4318\""), "traces"),
            (format!("{GOOD}\n[traces]\nendpoint = \"http://collector:4318\"\ncolour = 1"), "colour"),
        ];
        for (text, expected) in cases {
            let problem = read(&text).map(drop).unwrap_err().to_string();
            assert!(problem.contains(expected), "{expected:?} not in {problem:?}");
        }
    }

    #[test]
    fn a_huge_file_is_not_read() {
        let text = " ".repeat(usize::try_from(MAX_BYTES).unwrap() + 1);
        assert!(matches!(read(&text), Err(ConfigError::TooLarge { .. })));
    }
}
