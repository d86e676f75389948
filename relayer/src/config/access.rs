//! Who may call: keys that the operator has given out, and who sees the console.

use alloy_primitives::B256;
use serde::Deserialize;

/// Most keys: each call with a key compares them all.
const MAX_KEYS: usize = 1_000;
/// Longest name of a key.
const MAX_NAME: usize = 64;

/// Keys and the console.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    /// Whether decryptions are for holders of keys only. Timelines are public in any case.
    pub keys_required: bool,
    /// Who sees the operator's console.
    pub console: ConsoleAccess,
    /// Keys.
    pub keys: Vec<KeyConfig>,
}

/// Who sees the operator's console.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleAccess {
    /// Holders of an operator's key.
    #[default]
    Key,
    /// Whoever reaches the port.
    Open,
    /// Nobody: it is not there.
    Off,
}

/// A key, by its hash, and what its holder may do.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// Name in logs and metrics.
    pub name: String,
    /// SHA-256 of the key's text. `kms-relayer new-key` makes both; keys are random, so that a plain hash gives nothing away.
    pub sha256: B256,
    /// Calls per second, instead of the limit of its address.
    #[serde(default = "default_rate")]
    pub requests_per_second: f64,
    /// Calls at once.
    #[serde(default = "default_burst")]
    pub burst: f64,
    /// Open jobs that it asked for over HTTP.
    #[serde(default = "default_open_pulls")]
    pub open_pulls: u64,
    /// Whether it opens the console.
    #[serde(default)]
    pub operator: bool,
}

fn default_rate() -> f64 {
    100.0
}

fn default_burst() -> f64 {
    500.0
}

fn default_open_pulls() -> u64 {
    2_000
}

impl AccessConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.keys.len() > MAX_KEYS {
            return Err(format!("access.keys: more than {MAX_KEYS}"));
        }
        if self.keys_required && self.keys.is_empty() {
            return Err("access.keys_required, but there are no access.keys".into());
        }
        for (i, key) in self.keys.iter().enumerate() {
            let name = &key.name;
            if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
                return Err(format!("access.keys: a name has 1 to {MAX_NAME} bytes, and {name:?} is none"));
            }
            if self.keys[..i].iter().any(|other| other.name == *name || other.sha256 == key.sha256) {
                return Err(format!("access.keys: {name:?} is there twice, by name or by hash"));
            }
            if !is_rate(key.requests_per_second, key.burst) || key.open_pulls == 0 {
                return Err(format!("access.keys: a limit of {name:?} is too small"));
            }
        }
        Ok(())
    }
}

/// Whether a token bucket can be run like this.
pub(super) fn is_rate(per_second: f64, burst: f64) -> bool {
    per_second.is_finite() && per_second > 0.0 && burst.is_finite() && burst >= 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<AccessConfig, String> {
        let config: AccessConfig = toml::from_str(text).map_err(|e| e.to_string())?;
        config.check().map(|()| config)
    }

    #[test]
    fn keys_are_named_once_and_have_limits() {
        let key = |name: &str, byte: &str, more: &str| {
            format!("[[keys]]\nname = \"{name}\"\nsha256 = \"{}\"\n{more}\n", byte.repeat(32))
        };
        let good = read(&[key("wallet", "01", ""), key("ops", "02", "operator = true")].concat()).unwrap();
        assert_eq!((good.keys[0].burst, good.keys[0].operator, good.keys[1].operator), (500.0, false, true));
        assert_eq!((good.console, good.keys_required), (ConsoleAccess::Key, false));
        for (text, part) in [
            ("keys_required = true".to_owned(), "no access.keys"),
            ("console = \"public\"".to_owned(), "public"),
            (key("", "01", ""), "is none"),
            (key("a", "0", ""), "sha256"),
            (key("a", "01", "sha512 = 1"), "sha512"),
            ([key("a", "01", ""), key("a", "02", "")].concat(), "twice"),
            ([key("a", "01", ""), key("b", "01", "")].concat(), "twice"),
            (key("a", "01", "requests_per_second = 0.0"), "too small"),
            (key("a", "01", "requests_per_second = nan"), "too small"),
            (key("a", "01", "burst = inf"), "too small"),
            (key("a", "01", "open_pulls = 0"), "too small"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
