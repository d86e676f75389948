//! Ciphertext handles (bytes32): bytes 0–20 hash, 21 index (0xff = computed), 22–29 host chain id as u64 big-endian,
//! 30 type, 31 version 0.

use alloy_primitives::B256;
use kms_encoding::FheType;

/// Bits that one request may ask for; a boolean counts as two.
pub const MAX_REQUEST_BITS: u32 = 2048;
/// Version byte of every handle so far.
pub const HANDLE_VERSION: u8 = 0;
/// Index byte of a handle that a computation produced (an input has its position in the list).
pub const COMPUTED_INDEX: u8 = 0xff;
/// Highest type number of the ecosystem's `FheType` enumeration; above it a type is unknown, below it may be unsupported.
pub const LAST_KNOWN_TYPE: u8 = 83;

/// Why a handle, or a list of them, is not acceptable. Names equal those of the Solidity errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// The version byte is not 0.
    #[error("handle {0} has unknown version {1}")]
    UnknownVersion(B256, u8),
    /// The type byte is no type of the ecosystem's enumeration.
    #[error("handle {0} has unknown type {1}")]
    UnknownType(B256, u8),
    /// The type exists in the ecosystem but not in this KMS.
    #[error("handle {0} has unsupported type {1}")]
    UnsupportedType(B256, u8),
    /// The handle belongs to another host chain.
    #[error("handle {0} belongs to chain {1}")]
    ForeignChain(B256, u64),
    /// The list is empty.
    #[error("no handles")]
    EmptyHandles,
    /// The list holds more than [`MAX_REQUEST_BITS`].
    #[error("the handles hold more than {MAX_REQUEST_BITS} bits")]
    TooManyBits,
}

impl HandleError {
    /// Stable label: the name of the Solidity error.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::UnknownVersion(..) => "UnknownVersion",
            Self::UnknownType(..) => "UnknownType",
            Self::UnsupportedType(..) => "UnsupportedType",
            Self::ForeignChain(..) => "ForeignChain",
            Self::EmptyHandles => "EmptyHandles",
            Self::TooManyBits => "TooManyBits",
        }
    }
}

/// A well-formed handle of a supported type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle {
    raw: B256,
    fhe_type: FheType,
}

impl Handle {
    /// Checks version and type, in this order.
    ///
    /// # Errors
    /// `UnknownVersion`, `UnknownType` or `UnsupportedType`.
    pub fn parse(raw: B256) -> Result<Self, HandleError> {
        let (kind, version) = (raw[30], raw[31]);
        if version != HANDLE_VERSION {
            return Err(HandleError::UnknownVersion(raw, version));
        }
        if kind > LAST_KNOWN_TYPE {
            return Err(HandleError::UnknownType(raw, kind));
        }
        let fhe_type = FheType::from_u8(kind).ok_or(HandleError::UnsupportedType(raw, kind))?;
        Ok(Self { raw, fhe_type })
    }

    /// Puts a handle together from its parts.
    #[must_use]
    pub fn new(hash: [u8; 21], index: u8, chain_id: u64, fhe_type: FheType) -> Self {
        let mut raw = [0u8; 32];
        raw[..21].copy_from_slice(&hash);
        raw[21] = index;
        raw[22..30].copy_from_slice(&chain_id.to_be_bytes());
        raw[30] = fhe_type.to_u8();
        raw[31] = HANDLE_VERSION;
        Self { raw: B256::from(raw), fhe_type }
    }

    /// The 32 bytes.
    #[must_use]
    pub fn raw(&self) -> B256 {
        self.raw
    }

    /// Type of the plaintext.
    #[must_use]
    pub fn fhe_type(&self) -> FheType {
        self.fhe_type
    }

    /// Host chain.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        let mut bytes = [0u8; 8];
        bytes.copy_from_slice(&self.raw[22..30]);
        u64::from_be_bytes(bytes)
    }

    /// Position in the input list, or [`COMPUTED_INDEX`].
    #[must_use]
    pub fn index(&self) -> u8 {
        self.raw[21]
    }
}

impl From<Handle> for B256 {
    fn from(handle: Handle) -> Self {
        handle.raw
    }
}

/// Checks the handles of one request: at least one, each well-formed, of `chain_id`, and not too many bits together.
/// The first fault in list order is reported; of one handle version, type, then chain.
///
/// # Errors
/// Any [`HandleError`].
pub fn check_request_handles(handles: &[B256], chain_id: u64) -> Result<Vec<Handle>, HandleError> {
    if handles.is_empty() {
        return Err(HandleError::EmptyHandles);
    }
    // A handle counts at least two bits: a longer list need not be looked at.
    if handles.len() > (MAX_REQUEST_BITS / 2) as usize {
        return Err(HandleError::TooManyBits);
    }
    let mut bits = 0;
    let mut parsed = Vec::with_capacity(handles.len());
    for raw in handles {
        let handle = Handle::parse(*raw)?;
        if handle.chain_id() != chain_id {
            return Err(HandleError::ForeignChain(*raw, handle.chain_id()));
        }
        bits += handle.fhe_type().bits();
        if bits > MAX_REQUEST_BITS {
            return Err(HandleError::TooManyBits);
        }
        parsed.push(handle);
    }
    Ok(parsed)
}
