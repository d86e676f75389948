//! Byte forms of the two proofs that contracts take.

use crate::extra_data::{ExtraData, ExtraDataError};
use alloy_primitives::{B256, Bytes};

/// A signature as it travels: r ‖ s ‖ v.
pub type SignatureBytes = [u8; 65];

/// A proof that does not parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Nothing at all.
    #[error("empty proof")]
    Empty,
    /// The announced signatures or handles don't fit.
    #[error("truncated proof")]
    Truncated,
    /// No signature announced.
    #[error("proof without signatures")]
    NoSignatures,
    /// No handle announced (input proofs).
    #[error("input proof without handles")]
    NoHandles,
    /// More than 255 of something.
    #[error("too many signatures or handles")]
    TooMany,
    /// The rest is no extra data.
    #[error(transparent)]
    ExtraData(#[from] ExtraDataError),
}

impl ProofError {
    /// Stable label, the same in the golden files.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Truncated => "Truncated",
            Self::NoSignatures => "NoSignatures",
            Self::NoHandles => "NoHandles",
            Self::TooMany => "TooMany",
            Self::ExtraData(error) => error.label(),
        }
    }
}

/// uint8 count ‖ count × 65-byte signature ‖ extraData.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecryptionProof {
    /// Signatures, in any order.
    pub signatures: Vec<SignatureBytes>,
    /// Extra data as given; always parses.
    pub extra_data: Bytes,
}

impl DecryptionProof {
    /// Parses a proof.
    ///
    /// # Errors
    /// Any [`ProofError`] but `NoHandles` and `TooMany`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofError> {
        let (&count, rest) = bytes.split_first().ok_or(ProofError::Empty)?;
        if count == 0 {
            return Err(ProofError::NoSignatures);
        }
        let (signatures, extra_data) = take_signatures(rest, count)?;
        ExtraData::parse(extra_data)?;
        Ok(Self { signatures, extra_data: Bytes::copy_from_slice(extra_data) })
    }

    /// The bytes for the contract.
    ///
    /// # Errors
    /// `NoSignatures`, `TooMany` (over 255), or extra data that doesn't parse.
    pub fn encode(&self) -> Result<Bytes, ProofError> {
        let count = count_of(self.signatures.len(), ProofError::NoSignatures)?;
        ExtraData::parse(&self.extra_data)?;
        let mut out = Vec::with_capacity(1 + 65 * self.signatures.len() + self.extra_data.len());
        out.push(count);
        self.signatures.iter().for_each(|signature| out.extend_from_slice(signature));
        out.extend_from_slice(&self.extra_data);
        Ok(out.into())
    }
}

/// uint8 handles ‖ uint8 signatures ‖ handles × 32 ‖ signatures × 65 ‖ extraData.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputProof {
    /// Handles of all inputs of the list, in order.
    pub handles: Vec<B256>,
    /// Coprocessor signatures.
    pub signatures: Vec<SignatureBytes>,
    /// Extra data as given, and signed as given; always parses.
    pub extra_data: Bytes,
}

impl InputProof {
    /// Parses a proof.
    ///
    /// # Errors
    /// Any [`ProofError`] but `TooMany`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofError> {
        let (&handles, rest) = bytes.split_first().ok_or(ProofError::Empty)?;
        let (&signatures, rest) = rest.split_first().ok_or(ProofError::Truncated)?;
        if handles == 0 {
            return Err(ProofError::NoHandles);
        }
        if signatures == 0 {
            return Err(ProofError::NoSignatures);
        }
        let (handles, rest) = rest.split_at_checked(usize::from(handles) * 32).ok_or(ProofError::Truncated)?;
        let handles = handles.chunks_exact(32).map(B256::from_slice).collect();
        let (signatures, extra_data) = take_signatures(rest, signatures)?;
        ExtraData::parse(extra_data)?;
        Ok(Self { handles, signatures, extra_data: Bytes::copy_from_slice(extra_data) })
    }

    /// The bytes for `verifyInput`.
    ///
    /// # Errors
    /// `NoHandles`, `NoSignatures`, `TooMany` (over 255), or extra data that doesn't parse.
    pub fn encode(&self) -> Result<Bytes, ProofError> {
        let handles = count_of(self.handles.len(), ProofError::NoHandles)?;
        let signatures = count_of(self.signatures.len(), ProofError::NoSignatures)?;
        ExtraData::parse(&self.extra_data)?;
        let mut out = vec![handles, signatures];
        self.handles.iter().for_each(|handle| out.extend_from_slice(handle.as_slice()));
        self.signatures.iter().for_each(|signature| out.extend_from_slice(signature));
        out.extend_from_slice(&self.extra_data);
        Ok(out.into())
    }
}

fn count_of(length: usize, none: ProofError) -> Result<u8, ProofError> {
    match u8::try_from(length) {
        Ok(0) => Err(none),
        Ok(count) => Ok(count),
        Err(_) => Err(ProofError::TooMany),
    }
}

fn take_signatures(bytes: &[u8], count: u8) -> Result<(Vec<SignatureBytes>, &[u8]), ProofError> {
    let (signatures, rest) = bytes.split_at_checked(usize::from(count) * 65).ok_or(ProofError::Truncated)?;
    let signatures = signatures.as_chunks::<65>().0.to_vec();
    Ok((signatures, rest))
}
