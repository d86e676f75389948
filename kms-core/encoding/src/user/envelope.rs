//! The sealed form of a payload, and what it is bound to.
//!
//! ```text
//! "KMSE" ‖ u8 version 1 ‖ u8 KEM ‖ u8 party ‖ context (32) ‖ epoch (32) ‖ key (32) ‖ user (20) ‖ permit hash (32)
//!   ‖ u16 BE handles h ‖ h × digest (32) ‖ KEM ciphertext ‖ AES-256-GCM ciphertext and tag
//! ```
//! The header is readable, because a reader groups envelopes before it opens them, and because everything that the
//! associated data binds must be signed in the open: only then is an envelope that does not open its signer's fault.

use core::fmt;

use aes_gcm::aead::{AeadInPlace, Buffer, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::kem::{Kem, KeyPair, PublicKey, RandomError, random};
use super::payload::{PayloadError, SharePayload};
use crate::FheType;

const MAGIC: [u8; 4] = *b"KMSE";
/// The only version.
pub const ENVELOPE_VERSION: u8 = 1;
/// Most handles of a request: 1,024 booleans of two counted bits each.
pub const MAX_HANDLES: usize = 1024;
/// Larger envelopes are refused unread.
pub const MAX_ENVELOPE_BYTES: usize = 65_536;
pub(super) const TAG_BYTES: usize = 16;
const FIXED_BYTES: usize = 157;
const MAX_EXTRA_DATA: usize = 255;
const KEY_LABEL: &[u8] = b"KMS-USER-KEY-1";
const AAD_LABEL: &[u8] = b"KMS-USER-AAD-1";

/// What an envelope says of itself in the open, under the party's signature.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Index of the party, 1..=31.
    pub party: u8,
    /// The committee.
    pub context_id: [u8; 32],
    /// The epoch whose shares were used.
    pub epoch_id: [u8; 32],
    /// The FHE key of all handles.
    pub key_id: [u8; 32],
    /// Who signed the permit.
    pub user: [u8; 20],
    /// EIP-712 digest of the permit.
    pub permit_hash: [u8; 32],
    /// Committed digests of the ciphertext objects, in the order of the handles.
    pub digests: Vec<[u8; 32]>,
}

/// What an envelope is bound to besides its header and the public key.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// Chain of the handles, and of the permit's domain.
    pub host_chain_id: u64,
    /// Chain of the canonical decryption domain.
    pub domain_chain_id: u64,
    /// Contract of the canonical decryption domain.
    pub verifying_contract: [u8; 20],
    /// Extra data of the permit, byte for byte; at most 255 bytes.
    pub extra_data: &'a [u8],
    /// The handles of the request, in its order.
    pub handles: &'a [[u8; 32]],
}

impl Binding<'_> {
    /// The types of the handles.
    ///
    /// # Errors
    /// No handles, too many, or one of an unsupported type.
    pub fn types(&self) -> Result<Vec<FheType>, EnvelopeError> {
        if self.handles.is_empty() || self.handles.len() > MAX_HANDLES {
            return Err(EnvelopeError::Handles(self.handles.len()));
        }
        self.handles.iter().map(|h| FheType::from_u8(h[30]).ok_or(EnvelopeError::Type(h[30]))).collect()
    }

    /// The associated data: every field of fixed width, or after its length.
    fn associated_data(&self, header: &Header, key: &PublicKey, types: &[FheType]) -> Result<Vec<u8>, EnvelopeError> {
        if header.digests.len() != self.handles.len() {
            return Err(EnvelopeError::Digests { handles: self.handles.len(), digests: header.digests.len() });
        }
        if self.extra_data.len() > MAX_EXTRA_DATA {
            return Err(EnvelopeError::ExtraData(self.extra_data.len()));
        }
        let mut out = Vec::with_capacity(512 + 66 * self.handles.len());
        out.extend_from_slice(AAD_LABEL);
        out.extend_from_slice(&[key.kem().to_u8(), header.party]);
        for id in [&header.context_id, &header.epoch_id, &header.key_id] {
            out.extend_from_slice(id);
        }
        out.extend_from_slice(&header.user);
        out.extend_from_slice(&header.permit_hash);
        out.extend_from_slice(&self.host_chain_id.to_be_bytes());
        out.extend_from_slice(&self.domain_chain_id.to_be_bytes());
        out.extend_from_slice(&self.verifying_contract);
        out.extend_from_slice(key.hash());
        out.push(self.extra_data.len() as u8);
        out.extend_from_slice(self.extra_data);
        out.extend_from_slice(&(self.handles.len() as u16).to_be_bytes());
        for ((handle, digest), ty) in self.handles.iter().zip(&header.digests).zip(types) {
            out.extend_from_slice(handle);
            out.extend_from_slice(digest);
            out.extend_from_slice(&(ty.squashed_blocks() as u16).to_be_bytes());
        }
        Ok(out)
    }
}

/// Why bytes are no envelope, or a request can have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Larger than [`MAX_ENVELOPE_BYTES`].
    #[error("an envelope has at most {MAX_ENVELOPE_BYTES} bytes, this has {0}")]
    TooLarge(usize),
    /// Ends too early.
    #[error("the envelope is truncated")]
    Truncated,
    /// Not an envelope at all.
    #[error("this is not an envelope")]
    Magic,
    /// A version from the future.
    #[error("envelope version {0} is not supported")]
    Version(u8),
    /// Unknown KEM.
    #[error("unknown KEM {0}")]
    Kem(u8),
    /// No party has this index.
    #[error("no party has index {0}")]
    Party(u8),
    /// No handle, or more than [`MAX_HANDLES`].
    #[error("an envelope is for 1 to {MAX_HANDLES} handles, not {0}")]
    Handles(usize),
    /// A handle of an unsupported type.
    #[error("a handle has unsupported type {0}")]
    Type(u8),
    /// Not one digest per handle.
    #[error("{digests} digests for {handles} handles")]
    Digests {
        /// Handles of the request.
        handles: usize,
        /// Digests in the header.
        digests: usize,
    },
    /// Extra data longer than 255 bytes.
    #[error("extra data of {0} bytes")]
    ExtraData(usize),
}

impl EnvelopeError {
    /// Stable label, the same in the golden file.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "TooLarge",
            Self::Truncated => "Truncated",
            Self::Magic => "Magic",
            Self::Version(_) => "Version",
            Self::Kem(_) => "Kem",
            Self::Party(_) => "Party",
            Self::Handles(_) => "Handles",
            Self::Type(_) => "Type",
            Self::Digests { .. } => "Digests",
            Self::ExtraData(_) => "ExtraData",
        }
    }
}

/// Why a payload can't be sealed. None of it depends on secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Header and binding don't fit each other.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The payload is not one of this request.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// AES-GCM refuses the length; can't happen within the bounds.
    #[error("the payload is too long to seal")]
    Length,
}

/// Why an envelope does not open. If its signature and header are right, its signer made it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Header and binding don't fit each other.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Sealed for a key of another parameter set.
    #[error("sealed with {found:?} for a key of {expected:?}")]
    Kem {
        /// That of the key pair.
        expected: Kem,
        /// That of the envelope.
        found: Kem,
    },
    /// Not sealed for this key, not bound to this request, or damaged.
    #[error("the envelope does not open")]
    Sealed,
    /// What is inside is not the payload of this request.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

impl OpenError {
    /// Stable label, the same in the golden file.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Envelope(error) => error.label(),
            Self::Kem { .. } => "OtherKem",
            Self::Sealed => "Sealed",
            Self::Payload(error) => error.label(),
        }
    }
}

/// A parsed envelope: the header, and the sealed rest in place.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// What it says in the open.
    pub header: Header,
    /// Parameter set of the public key that it was sealed for.
    pub kem: Kem,
    ciphertext: &'a [u8],
    sealed: &'a [u8],
}

impl fmt::Debug for Envelope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope").field("header", &self.header).field("kem", &self.kem).finish_non_exhaustive()
    }
}

impl<'a> Envelope<'a> {
    /// Reads the header. Allocates no more than the size of `bytes` justifies.
    ///
    /// # Errors
    /// See [`EnvelopeError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > MAX_ENVELOPE_BYTES {
            return Err(EnvelopeError::TooLarge(bytes.len()));
        }
        let mut r = Reader(bytes);
        if r.array()? != MAGIC {
            return Err(EnvelopeError::Magic);
        }
        let [version] = r.array()?;
        if version != ENVELOPE_VERSION {
            return Err(EnvelopeError::Version(version));
        }
        let [kem] = r.array()?;
        let kem = Kem::from_u8(kem).ok_or(EnvelopeError::Kem(kem))?;
        let [party] = r.array()?;
        if party == 0 || party > 31 {
            return Err(EnvelopeError::Party(party));
        }
        let [context_id, epoch_id, key_id] = [r.array()?, r.array()?, r.array()?];
        let (user, permit_hash) = (r.array()?, r.array()?);
        let handles = usize::from(u16::from_be_bytes(r.array()?));
        if handles == 0 || handles > MAX_HANDLES {
            return Err(EnvelopeError::Handles(handles));
        }
        let digests = r.take(32 * handles)?.as_chunks().0.to_vec();
        let ciphertext = r.take(kem.ciphertext_bytes())?;
        if r.0.len() < TAG_BYTES {
            return Err(EnvelopeError::Truncated);
        }
        let header = Header { party, context_id, epoch_id, key_id, user, permit_hash, digests };
        Ok(Self { header, kem, ciphertext, sealed: r.0 })
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], EnvelopeError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(EnvelopeError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EnvelopeError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(EnvelopeError::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }
}

/// The cipher under HKDF-SHA256(salt none, secret, "KMS-USER-KEY-1" ‖ SHA-256(public key) ‖ KEM ciphertext). Every envelope
/// has a key of its own, so the nonce is zero.
fn cipher(secret: &[u8; 32], key: &PublicKey, ciphertext: &[u8]) -> Option<Aes256Gcm> {
    let mut okm = Zeroizing::new([0; 32]);
    let info = [KEY_LABEL, key.hash(), ciphertext];
    Hkdf::<Sha256>::new(None, secret).expand_multi_info(&info, okm.as_mut()).ok()?;
    Aes256Gcm::new_from_slice(okm.as_ref()).ok()
}

/// Seals a party's payload for the user. Draws fresh randomness: two calls give different bytes.
///
/// # Errors
/// Header, binding and payload don't fit each other, or there is no randomness.
pub fn seal(
    key: &PublicKey,
    header: &Header,
    binding: &Binding<'_>,
    payload: &SharePayload,
) -> Result<Vec<u8>, SealError> {
    let m = random()?;
    seal_with(key, header, binding, payload, &m)
}

fn seal_with(
    key: &PublicKey,
    header: &Header,
    binding: &Binding<'_>,
    payload: &SharePayload,
    m: &[u8; 32],
) -> Result<Vec<u8>, SealError> {
    if header.party == 0 || header.party > 31 {
        return Err(EnvelopeError::Party(header.party).into());
    }
    let types = binding.types()?;
    let associated_data = binding.associated_data(header, key, &types)?;
    let mut sealed = payload.to_bytes();
    // The payload must be the one that the other side will expect.
    SharePayload::from_bytes(&sealed, payload.degree(), &types)?;
    let (ciphertext, secret) = key.encapsulate(m);
    let cipher = cipher(&secret, key, &ciphertext).ok_or(SealError::Length)?;
    let tag = cipher
        .encrypt_in_place_detached(&Nonce::default(), &associated_data, &mut sealed)
        .map_err(|_| SealError::Length)?;

    let mut out =
        Vec::with_capacity(FIXED_BYTES + 32 * header.digests.len() + ciphertext.len() + sealed.len() + TAG_BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[ENVELOPE_VERSION, key.kem().to_u8(), header.party]);
    for id in [&header.context_id, &header.epoch_id, &header.key_id] {
        out.extend_from_slice(id);
    }
    out.extend_from_slice(&header.user);
    out.extend_from_slice(&header.permit_hash);
    out.extend_from_slice(&(header.digests.len() as u16).to_be_bytes());
    header.digests.iter().for_each(|digest| out.extend_from_slice(digest));
    out.extend_from_slice(&ciphertext);
    out.extend_from_slice(&sealed);
    out.extend_from_slice(&tag);
    Ok(out)
}

/// Opens an envelope, whose signature and header the caller has checked: the payload of a committee with a ring of this
/// degree.
///
/// # Errors
/// See [`OpenError`].
pub fn open(
    pair: &KeyPair,
    envelope: &Envelope<'_>,
    binding: &Binding<'_>,
    degree: u8,
) -> Result<SharePayload, OpenError> {
    let key = pair.public_key();
    if envelope.kem != key.kem() {
        return Err(OpenError::Kem { expected: key.kem(), found: envelope.kem });
    }
    let types = binding.types()?;
    let associated_data = binding.associated_data(&envelope.header, key, &types)?;
    let secret = pair.decapsulate(envelope.ciphertext).ok_or(OpenError::Sealed)?;
    let cipher = cipher(&secret, key, envelope.ciphertext).ok_or(OpenError::Sealed)?;
    let mut buffer = Opened(Zeroizing::new(envelope.sealed.to_vec()));
    cipher.decrypt_in_place(&Nonce::default(), &associated_data, &mut buffer).map_err(|_| OpenError::Sealed)?;
    Ok(SharePayload::from_bytes(&buffer.0, degree, &types)?)
}

/// A buffer for the cipher that is erased whatever happens.
struct Opened(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Opened {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for Opened {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Buffer for Opened {
    fn extend_from_slice(&mut self, other: &[u8]) -> aes_gcm::aead::Result<()> {
        self.0.extend_from_slice(other);
        Ok(())
    }

    fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }
}

#[cfg(test)]
mod tests;
