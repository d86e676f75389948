//! The parameter sets, as far as one needs them without tfhe: their identifiers and the dimensions of their keys.

use core::fmt;

use crate::SecretKeyKind;

/// Parameter set of a key. Everything stored under a key names it, so that a test key can't pass for a real one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ParamsId {
    /// tfhe-rs's default 2_2 TUniform set, failure probability at most 2^-128.
    Production = 1,
    /// Small numbers without any security, for tests and quick demos.
    InsecureTest = 0xF1,
}

impl ParamsId {
    /// The set with this identifier.
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Production),
            0xF1 => Some(Self::InsecureTest),
            _ => None,
        }
    }

    /// The identifier.
    #[must_use]
    pub const fn to_u8(self) -> u8 {
        self as u8
    }

    /// LWE dimension of ciphertexts under the given secret key. The two dimensions of a set differ, so the dimension
    /// of a ciphertext tells its key.
    #[must_use]
    pub const fn dimension(self, key: SecretKeyKind) -> usize {
        match (self, key) {
            (Self::Production, SecretKeyKind::Squashing) => 4096,
            (Self::Production, SecretKeyKind::SquashedCompression) => 6144,
            (Self::InsecureTest, SecretKeyKind::Squashing) => 256,
            (Self::InsecureTest, SecretKeyKind::SquashedCompression) => 384,
        }
    }

    /// Name as written in configuration and in `key.json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::InsecureTest => "insecure-test",
        }
    }

    /// The set with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Production, Self::InsecureTest].into_iter().find(|p| p.name() == name)
    }
}

impl fmt::Display for ParamsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
