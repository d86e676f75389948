//! What the ciphertexts under way may weigh together.
//!
//! A request of 2 KB can name ciphertexts of 64 MB, so open requests are no measure of memory. Whoever expands
//! ciphertexts takes their bytes from here first and gives them back when the share is computed and the ciphertexts are
//! gone: what stays of a block until its job has ended is 16 bytes.

use std::sync::Arc;

use kms_encoding::FheType;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Unit of the semaphores, which count in u32.
const UNIT: usize = 1024;

/// For whom ciphertexts are expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A request of the gateway, which has been paid for.
    OnChain,
    /// A pull, or a share or a receipt that is made again: all of them together leave half of the room to the former.
    Other,
}

/// The scales: bytes of expanded ciphertexts, first come, first served.
#[derive(Debug)]
pub(super) struct Scales {
    all: Arc<Semaphore>,
    other: Arc<Semaphore>,
    units: u32,
}

/// Weight that is taken; given back when dropped.
#[derive(Debug)]
pub(super) struct Weight {
    _all: OwnedSemaphorePermit,
    _other: Option<OwnedSemaphorePermit>,
}

impl Scales {
    pub(super) fn new(bytes: usize) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX >> 3).clamp(2, u32::MAX >> 3);
        let of = |units: u32| Arc::new(Semaphore::new(units as usize));
        Self { all: of(units), other: of(units / 2), units }
    }

    /// Waits until there is room. What is heavier than all there is for its purpose takes all of that, and so is alone.
    /// Never none: the semaphores are not closed.
    pub(super) async fn take(&self, purpose: Purpose, bytes: usize) -> Option<Weight> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let units = units.min(if purpose == Purpose::Other { self.units / 2 } else { self.units });
        // The smaller one first: whoever waits there keeps nobody from the larger one.
        let other = match purpose {
            Purpose::OnChain => None,
            Purpose::Other => Some(self.other.clone().acquire_many_owned(units).await.ok()?),
        };
        let all = self.all.clone().acquire_many_owned(units).await.ok()?;
        Some(Weight { _all: all, _other: other })
    }

    /// Bytes that are taken.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        (self.units as usize - self.all.available_permits()) * UNIT
    }
}

/// Bytes of the blocks of one ciphertext under a key of this dimension.
pub(super) const fn bytes_of(ty: FheType, dimension: usize) -> usize {
    ty.squashed_blocks() * (dimension + 1) * size_of::<u128>()
}

/// Bytes that blocks take.
#[cfg(test)]
pub(super) fn bytes_in(blocks: &kms_encoding::LweBlocks) -> usize {
    blocks.len() * (blocks.dimension() + 1) * size_of::<u128>()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use kms_encoding::{LweBlocks, SecretKeyKind};

    use super::*;

    #[test]
    fn blocks_weigh_what_they_take() {
        let blocks = LweBlocks::new(SecretKeyKind::Squashing, 10, 0, vec![0; 160], vec![0; 16]).unwrap();
        assert_eq!(bytes_in(&blocks), bytes_of(FheType::Uint64, 10));
        assert_eq!(bytes_in(&blocks), 16 * 176);
    }

    #[test]
    fn work_beyond_the_bound_waits_for_room() {
        let scales = Scales::new(8 * UNIT);
        let first = scales.take(Purpose::OnChain, 5 * UNIT).now_or_never().unwrap();
        assert!(scales.take(Purpose::OnChain, 4 * UNIT).now_or_never().is_none());
        assert!(scales.take(Purpose::OnChain, 3 * UNIT).now_or_never().is_some());
        drop(first);
        // Heavier than everything: alone, and not for ever.
        let giant = scales.take(Purpose::OnChain, 1000 * UNIT).now_or_never().unwrap();
        assert!(scales.take(Purpose::OnChain, 1).now_or_never().is_none());
        drop(giant);
        assert_eq!(scales.taken(), 0);
    }

    #[test]
    fn pulls_leave_room_for_requests_of_the_gateway() {
        let scales = Scales::new(8 * UNIT);
        let pull = scales.take(Purpose::Other, 100 * UNIT).now_or_never().unwrap();
        let mut waiting = std::pin::pin!(scales.take(Purpose::Other, UNIT));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(scales.take(Purpose::OnChain, 4 * UNIT).now_or_never().is_some());
        drop(pull);
        assert!(waiting.now_or_never().is_some());
    }
}
