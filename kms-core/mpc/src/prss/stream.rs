//! AES-128-CTR streams that start anywhere.

use aes::cipher::BlockEncrypt;
use aes::{Aes128Enc, Block};
use zeroize::Zeroize;

/// A piece of a key stream, erased on drop.
pub(super) struct Buffer<const BLOCKS: usize>([Block; BLOCKS]);

impl<const BLOCKS: usize> Buffer<BLOCKS> {
    pub(super) fn new() -> Self {
        Self([Block::default(); BLOCKS])
    }

    /// `count` blocks from number `first` on. Panics for more than the buffer has.
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

impl<const BLOCKS: usize> Drop for Buffer<BLOCKS> {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|block| block.as_mut_slice().zeroize());
    }
}
