//! AES-128-CMAC (RFC 4493) of messages of one length, which saves half of its AES calls: a session derives a key per
//! set, so this counts.

use aes::cipher::{BlockEncrypt, KeyInit};
use aes::{Aes128Enc, Block};
use zeroize::Zeroize;

/// "KMS-PRSS-1" ‖ purpose ‖ session id: two whole blocks and eleven bytes.
pub(super) const MESSAGE_BYTES: usize = 43;

/// A keyed MAC with its key schedule. Erased on drop.
pub(super) struct Mac {
    cipher: Aes128Enc,
    /// K2, for messages whose last block is not full.
    subkey: [u8; 16],
}

impl Mac {
    pub(super) fn new(key: &[u8; 16]) -> Self {
        let cipher = Aes128Enc::new(key.into());
        let mut l = Block::default();
        cipher.encrypt_block(&mut l);
        let subkey = double(double(u128::from_be_bytes(l.into()))).to_be_bytes();
        l.as_mut_slice().zeroize();
        Self { cipher, subkey }
    }

    /// K2, which is added to the last block.
    #[cfg(target_arch = "x86_64")]
    pub(super) const fn subkey(&self) -> &[u8; 16] {
        &self.subkey
    }

    pub(super) fn compute(&self, message: &[u8; MESSAGE_BYTES]) -> Block {
        let mut last = self.subkey;
        xor(&mut last, &message[32..]);
        last[MESSAGE_BYTES - 32] ^= 0x80;
        let mut state = Block::default();
        for block in [&message[..16], &message[16..32], &last] {
            xor(&mut state, block);
            self.cipher.encrypt_block(&mut state);
        }
        last.zeroize();
        state
    }
}

impl Drop for Mac {
    fn drop(&mut self) {
        self.subkey.zeroize();
    }
}

fn xor(state: &mut [u8], block: &[u8]) {
    state.iter_mut().zip(block).for_each(|(s, b)| *s ^= b);
}

/// Doubling in GF(2^128), x^128 = x^7 + x^2 + x + 1, without a branch on the secret.
const fn double(x: u128) -> u128 {
    x << 1 ^ (0x87 * (x >> 127))
}

#[cfg(test)]
mod tests {
    use cmac::{Cmac, Mac as _};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn equals_the_general_one(key: [u8; 16], start: [u8; 11], end: [u8; 32]) {
            let mut message = [0; MESSAGE_BYTES];
            message[..11].copy_from_slice(&start);
            message[11..].copy_from_slice(&end);
            let expect = <Cmac<aes::Aes128> as cmac::Mac>::new(&key.into()).chain_update(message).finalize().into_bytes();
            prop_assert_eq!(Mac::new(&key).compute(&message), expect);
        }
    }
}
