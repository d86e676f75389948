//! Long vectors of shares in pieces, on rayon's pool.

use kms_algebra::{GrVec, Word};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

/// Tiles that are worth another thread.
const TILES_PER_JOB: usize = 4;

/// Hands each tile of `size` elements of a vector to `work`, with its number: the slices of its coefficients, the last
/// tile's are shorter. A few tiles are done by the calling thread, more by all of rayon's.
pub(crate) fn for_each<W: Word, const D: usize>(
    vector: &mut GrVec<W, D>,
    size: usize,
    work: impl Fn(usize, [&mut [W]; D]) + Sync,
) {
    let tiles = vector.tiles_mut(size).enumerate();
    if tiles.len() <= TILES_PER_JOB {
        tiles.for_each(|(index, tile)| work(index, tile));
    } else {
        let tiles: Vec<_> = tiles.collect();
        tiles.into_par_iter().with_min_len(TILES_PER_JOB).for_each(|(index, tile)| work(index, tile));
    }
}
