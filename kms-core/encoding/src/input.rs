//! What the proof of an encrypted input is bound to.

/// Length of [`InputMetadata::to_bytes`].
pub const METADATA_BYTES: usize = 92;

/// What a proof is bound to: the same list does not verify for another chain, contract or user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputMetadata {
    /// Chain id, big endian.
    pub chain_id: [u8; 32],
    /// Access control contract.
    pub acl: [u8; 20],
    /// Contract that may use the input.
    pub contract: [u8; 20],
    /// Account that may use the input.
    pub user: [u8; 20],
}

impl InputMetadata {
    /// chain id (32) ‖ ACL (20) ‖ contract (20) ‖ user (20).
    #[must_use]
    pub fn to_bytes(&self) -> [u8; METADATA_BYTES] {
        let mut bytes = [0; METADATA_BYTES];
        bytes[..32].copy_from_slice(&self.chain_id);
        bytes[32..52].copy_from_slice(&self.acl);
        bytes[52..72].copy_from_slice(&self.contract);
        bytes[72..].copy_from_slice(&self.user);
        bytes
    }
}
