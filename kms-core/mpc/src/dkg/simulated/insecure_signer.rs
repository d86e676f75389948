//! Signatures that anybody can make: a hash of the party and the digest. They tell parties apart in simulations.

use kms_algebra::PartyId;
use sha2::{Digest, Sha256};

use crate::dkg::exchange::{Signer, Verifier};

/// One party's insecure signatures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InsecureSigner(pub(crate) PartyId);

impl InsecureSigner {
    fn of(party: PartyId, digest: &[u8; 32]) -> [u8; 65] {
        let mut signature = [party.index(); 65];
        let hash =
            Sha256::new().chain_update(b"insecure").chain_update([party.index()]).chain_update(digest).finalize();
        signature[..32].copy_from_slice(&hash);
        signature
    }
}

impl Signer for InsecureSigner {
    fn sign(&self, digest: &[u8; 32]) -> [u8; 65] {
        Self::of(self.0, digest)
    }
}

impl Verifier for InsecureSigner {
    fn verify(&self, party: PartyId, digest: &[u8; 32], signature: &[u8; 65]) -> bool {
        Self::of(party, digest) == *signature
    }
}
