//! `extraData`: which context, epoch and request a signature is for. Lengths are exact.

use alloy_primitives::{B256, Bytes};

/// The parsed meaning of extra data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExtraData {
    /// Empty or the single byte 0x00: the verifier's current context. Signed as empty.
    Current,
    /// Names a context (33 bytes).
    V1 {
        /// Context.
        context: B256,
    },
    /// Names a context and an epoch (65 bytes).
    V2 {
        /// Context.
        context: B256,
        /// Epoch.
        epoch: B256,
    },
    /// Names a context and an epoch, and binds to one request (97 bytes).
    V3 {
        /// Context.
        context: B256,
        /// Epoch.
        epoch: B256,
        /// Request.
        request_id: B256,
    },
}

/// Extra data that does not parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtraDataError {
    /// The first byte is no known version.
    #[error("unknown extra data version {0}")]
    UnknownVersion(u8),
    /// The length is not the version's.
    #[error("extra data of version {version} can't be {length} bytes long")]
    BadLength {
        /// First byte.
        version: u8,
        /// Whole length.
        length: usize,
    },
}

impl ExtraDataError {
    /// Stable label: the name of the Solidity error.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::UnknownVersion(_) => "UnknownExtraDataVersion",
            Self::BadLength { .. } => "InvalidExtraDataLength",
        }
    }
}

impl ExtraData {
    /// Longest extra data there is.
    pub const MAX_LENGTH: usize = 97;

    /// Parses; whoever must keep the difference between empty and 0x00 keeps the bytes beside it.
    ///
    /// # Errors
    /// Unknown version, or a length that is not exactly the version's.
    pub fn parse(bytes: &[u8]) -> Result<Self, ExtraDataError> {
        let Some(&version) = bytes.first() else { return Ok(Self::Current) };
        let words = match version {
            0 => 0,
            1 => 1,
            2 => 2,
            3 => 3,
            _ => return Err(ExtraDataError::UnknownVersion(version)),
        };
        if bytes.len() != 1 + 32 * words {
            return Err(ExtraDataError::BadLength { version, length: bytes.len() });
        }
        let word = |i: usize| B256::from_slice(&bytes[1 + 32 * i..33 + 32 * i]);
        Ok(match version {
            0 => Self::Current,
            1 => Self::V1 { context: word(0) },
            2 => Self::V2 { context: word(0), epoch: word(1) },
            _ => Self::V3 { context: word(0), epoch: word(1), request_id: word(2) },
        })
    }

    /// The bytes, as they are signed: `Current` is empty.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (version, words): (u8, &[&B256]) = match self {
            Self::Current => return Bytes::new(),
            Self::V1 { context } => (1, &[context]),
            Self::V2 { context, epoch } => (2, &[context, epoch]),
            Self::V3 { context, epoch, request_id } => (3, &[context, epoch, request_id]),
        };
        let mut out = Vec::with_capacity(1 + 32 * words.len());
        out.push(version);
        for word in words {
            out.extend_from_slice(word.as_slice());
        }
        out.into()
    }

    /// The named context, if any.
    #[must_use]
    pub fn context(&self) -> Option<B256> {
        match *self {
            Self::Current => None,
            Self::V1 { context } | Self::V2 { context, .. } | Self::V3 { context, .. } => Some(context),
        }
    }

    /// The named epoch, if any.
    #[must_use]
    pub fn epoch(&self) -> Option<B256> {
        match *self {
            Self::Current | Self::V1 { .. } => None,
            Self::V2 { epoch, .. } | Self::V3 { epoch, .. } => Some(epoch),
        }
    }

    /// The request it is bound to, if any.
    #[must_use]
    pub fn request_id(&self) -> Option<B256> {
        match *self {
            Self::V3 { request_id, .. } => Some(request_id),
            _ => None,
        }
    }
}
