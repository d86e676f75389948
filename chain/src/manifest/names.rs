//! The names in parties' certificates.

use alloy_primitives::B256;
use std::{fmt, str::FromStr};

/// DNS name of a party's certificate: `party-<index>.<first 32 hex of context>.<last 32 hex>` (a DNS label holds 63
/// characters, a context has 64).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartyName {
    /// Index, from 1 to 255.
    pub index: u32,
    /// Context.
    pub context: B256,
}

/// Not the name of a party.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the certificate name of a party")]
pub struct NameError(pub String);

impl fmt::Display for PartyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let context = format!("{:x}", self.context);
        let (first, last) = context.split_at(32);
        write!(f, "party-{}.{first}.{last}", self.index)
    }
}

impl FromStr for PartyName {
    type Err = NameError;

    /// Accepts exactly what `Display` writes: lower case, no leading zeros.
    fn from_str(name: &str) -> Result<Self, NameError> {
        let parse = || {
            let (index, context) = name.strip_prefix("party-")?.split_once('.')?;
            let (first, last) = context.split_once('.')?;
            let index = index.parse().ok().filter(|index| (1..=255).contains(index))?;
            let context = format!("{first}{last}").parse().ok()?;
            let parsed = Self { index, context };
            (parsed.to_string() == name).then_some(parsed)
        };
        parse().ok_or_else(|| NameError(name.chars().take(128).collect()))
    }
}
