//! AES-128-CTR streams that start anywhere.

use aes::cipher::BlockEncrypt;
use aes::{Aes128Enc, Block};
use zeroize::Zeroize;

/// Blocks of a [`Buffer`].
const BLOCKS: usize = 129;
/// Most bytes of one call to [`Buffer::bytes`].
pub(super) const MAX_BYTES: usize = (BLOCKS - 1) * 16;

/// A piece of a key stream, erased on drop.
pub(super) struct Buffer([Block; BLOCKS]);

impl Buffer {
    pub(super) fn new() -> Self {
        Self([Block::default(); BLOCKS])
    }

    /// `count` blocks from number `first` on. Panics for more than [`MAX_BYTES`].
    pub(super) fn blocks(&mut self, cipher: &Aes128Enc, first: u64, count: usize) -> &[Block] {
        let out = &mut self.0[..count];
        for (counter, block) in (u128::from(first)..).zip(out.iter_mut()) {
            *block = counter.to_be_bytes().into();
        }
        // Eight at a time.
        cipher.encrypt_blocks(out);
        out
    }

    /// Fills `out` with the bytes from `offset` on. Panics for more than [`MAX_BYTES`].
    pub(super) fn bytes(&mut self, cipher: &Aes128Enc, offset: u64, out: &mut [u8]) {
        let skip = (offset % 16) as usize;
        let blocks = self.blocks(cipher, offset / 16, (skip + out.len()).div_ceil(16));
        let stream = blocks.iter().flatten().skip(skip);
        out.iter_mut().zip(stream).for_each(|(out, byte)| *out = *byte);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|block| block.as_mut_slice().zeroize());
    }
}
