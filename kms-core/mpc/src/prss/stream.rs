//! AES-128-CTR streams that start anywhere.

use aes::cipher::BlockEncrypt;
use aes::{Aes128Enc, Block};
use zeroize::Zeroize;

/// Blocks of a [`Buffer`]: 256 words, which may start inside a block.
const BLOCKS: usize = 257;

/// A piece of a key stream, erased on drop.
pub(super) struct Buffer([Block; BLOCKS]);

impl Buffer {
    pub(super) fn new() -> Self {
        Self([Block::default(); BLOCKS])
    }

    /// `count` blocks from number `first` on. Panics for more than 257.
    pub(super) fn blocks(&mut self, cipher: &Aes128Enc, first: u64, count: usize) -> &[Block] {
        let out = &mut self.0[..count];
        for (counter, block) in (u128::from(first)..).zip(out.iter_mut()) {
            *block = counter.to_be_bytes().into();
        }
        // Eight at a time.
        cipher.encrypt_blocks(out);
        out
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|block| block.as_mut_slice().zeroize());
    }
}
