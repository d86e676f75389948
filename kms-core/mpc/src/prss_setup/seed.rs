//! Where the randomness of a dealing comes from.

use sha3::Shake256;
use sha3::digest::{ExtendableOutput, Update, XofReader};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::vss::dealing::Binding;

/// 32 random bytes out of which one party deals in one run. Secret; erased on drop. A party seals it before the first
/// message of the run and erases it after the last.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DealingSeed([u8; 32]);

impl core::fmt::Debug for DealingSeed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("DealingSeed(…)")
    }
}

impl DealingSeed {
    /// A seed from random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// SHAKE256("KMS-DEAL-1" ‖ session ‖ u8 first channel ‖ u8 dealer ‖ seed): another stream for each dealing, also if a
    /// seed were used twice.
    #[must_use]
    pub fn expand(&self, binding: &Binding) -> Zeroizing<[u8; 32]> {
        let mut hash = Shake256::default();
        hash.update(b"KMS-DEAL-1");
        hash.update(binding.session.as_bytes());
        hash.update(&[binding.first, binding.dealer.index()]);
        hash.update(&self.0);
        let mut seed = Zeroizing::new([0; 32]);
        hash.finalize_xof().read(seed.as_mut_slice());
        seed
    }
}
