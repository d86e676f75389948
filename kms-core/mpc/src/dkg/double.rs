//! Openings of degree 2t.
//!
//! With n ≥ 3t + 1 shares their distance is only t + 1: t wrong shares are always found, but never corrected, because t
//! liars could choose what a correction leads to, and who looks guilty. So a word is opened only if its syndrome is zero
//! over **all** parties that are not excluded; with at most t liars among them the value is right. t + 1 parties that
//! together add a multiple of a codeword of minimum weight would not be found: outside the assumption.

use std::sync::atomic::{AtomicBool, Ordering};

use kms_algebra::{CommitteeError, Detector, GrVec, PartyId, PartySet, Word};

use super::bits::PER_OPENING;
use crate::{Committee, tiles};

/// Columns that are opened at a time.
const TILE: usize = 256;

/// Opens sharings of degree 2t of one committee.
#[derive(Debug)]
pub struct Double<const D: usize>(Detector<D>);

impl<const D: usize> Double<D> {
    /// For the sharings of a committee.
    ///
    /// # Errors
    /// The ring has too few points.
    pub fn new(committee: &Committee) -> Result<Self, CommitteeError> {
        Ok(Self(Detector::new(committee.n(), committee.t(), 2 * committee.t())?))
    }

    /// The secret of every column if all these shares lie on polynomials of degree ≤ 2t; `None` otherwise, or with fewer
    /// than 2t + 1 shares. Pass the shares of all parties that are not excluded, and no fewer: 2t + 1 lie on a polynomial
    /// whatever they are.
    ///
    /// Panics if a party is not of the committee or twice in the list, or if lengths differ: the caller has checked
    /// them. Long vectors are opened on rayon's pool.
    #[must_use]
    pub fn open<W: Word>(&self, shares: &[(PartyId, &GrVec<W, D>)]) -> Option<GrVec<W, D>> {
        let parties: PartySet = shares.iter().map(|(p, _)| *p).collect();
        let opener = self.0.of(parties)?;
        let columns = shares.first().map_or(0, |(_, share)| share.len());
        assert!(parties.len() == shares.len() && shares.iter().all(|(_, share)| share.len() == columns));
        let mut values = GrVec::zeros(columns);
        let wrong = AtomicBool::new(false);
        tiles::for_each(&mut values, TILE, |tile, mut values| {
            if !wrong.load(Ordering::Relaxed) && !opener.open(shares, tile * TILE, &mut values) {
                wrong.store(true, Ordering::Relaxed);
            }
        });
        (!wrong.into_inner()).then_some(values)
    }
}

/// The first `count` values out of opened elements with [`PER_OPENING`] values each. Panics if there are fewer.
#[must_use]
pub fn unpack<W: Word, const D: usize>(opened: &GrVec<W, D>, count: usize) -> Vec<W> {
    assert!(count <= opened.len() * PER_OPENING);
    (0..count).map(|i| opened.coefficient(i % PER_OPENING)[i / PER_OPENING]).collect()
}
