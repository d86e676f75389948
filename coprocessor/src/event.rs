//! What the contracts' events mean to a coprocessor.

use alloy_primitives::{Address, B256, U256};

/// The operations that are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An encrypted input enters: expanded from its proven list.
    Input,
    /// A plaintext becomes a trivial ciphertext.
    Trivial,
    /// Another type for the same value.
    Cast,
    /// a + b
    Add,
    /// a − b
    Sub,
    /// a = b
    Eq,
    /// a ≥ b
    Ge,
    /// a ? b : c
    Select,
}

impl Kind {
    const NAMES: [(Self, &'static str); 8] = [
        (Self::Input, "input"),
        (Self::Trivial, "trivial"),
        (Self::Cast, "cast"),
        (Self::Add, "add"),
        (Self::Sub, "sub"),
        (Self::Eq, "eq"),
        (Self::Ge, "ge"),
        (Self::Select, "select"),
    ];

    /// Name in the database, in logs and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("unknown", |(_, name)| name)
    }

    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }
}

/// One symbolic operation of the executor contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Handle of the result; its type is the result's type.
    pub result: B256,
    /// What is computed.
    pub kind: Kind,
    /// Handles of the encrypted operands, in order; empty for [`Kind::Input`] and [`Kind::Trivial`].
    pub operands: Vec<B256>,
    /// The plaintext: of a trivial encryption, or the right operand of a scalar operation.
    pub plain: Option<U256>,
}

/// What one log means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something is to be computed.
    Operation(Operation),
    /// These may be decrypted in public, or a request names them: they have to be squashed and committed.
    Wanted(Vec<B256>),
    /// A lasting right. With a second holder, the handle is one that a user may read in a contract's name.
    Allowed {
        /// The handle.
        handle: B256,
        /// Who holds the right.
        account: Address,
    },
    /// The registry holds this digest now.
    Committed {
        /// The handle.
        handle: B256,
        /// The key that it is encrypted under.
        key_id: B256,
        /// SHA-256 of the ciphertext object.
        digest: B256,
    },
}
