//! Identifiers that are hashes of the content they stand for.

use sha2::{Digest, Sha256};

/// Key id: SHA-256("KMS-KEY-1" ‖ digest of the public key bundle).
#[must_use]
pub fn key_id(bundle_digest: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(b"KMS-KEY-1").chain_update(bundle_digest).finalize().into()
}

/// Epoch id of the `counter`-th sharing of a key: SHA-256("KMS-EPOCH-1" ‖ context id ‖ key id ‖ counter as u64, big
/// endian). A dealt key starts at 1.
#[must_use]
pub fn epoch_id(context_id: &[u8; 32], key_id: &[u8; 32], counter: u64) -> [u8; 32] {
    Sha256::new()
        .chain_update(b"KMS-EPOCH-1")
        .chain_update(context_id)
        .chain_update(key_id)
        .chain_update(counter.to_be_bytes())
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_depend_on_every_part() {
        let key = key_id(&[1; 32]);
        assert_ne!(key, key_id(&[2; 32]));
        let epoch = epoch_id(&[3; 32], &key, 1);
        for other in [epoch_id(&[4; 32], &key, 1), epoch_id(&[3; 32], &[0; 32], 1), epoch_id(&[3; 32], &key, 2)] {
            assert_ne!(epoch, other);
        }
    }
}
