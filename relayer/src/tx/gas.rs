//! Gas limits that have been enough before. A node finds out how much a call takes by executing it a dozen times with different
//! limits; whether a known limit is enough takes one execution. Before a transaction is signed, it is always one of the two.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use alloy_primitives::{Address, Bytes};

/// Shapes of calls that are remembered.
const SHAPES: usize = 256;

/// What was last found out, by contract and length of the calldata.
#[derive(Debug, Default)]
pub(super) struct GasKnown(Mutex<HashMap<(Address, usize), u64>>);

impl GasKnown {
    /// A limit that a call of this shape had lately.
    pub(super) fn known(&self, target: Address, data: &Bytes) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(target, data.len())).copied()
    }

    /// Remembers a limit, and returns it.
    pub(super) fn learn(&self, target: Address, data: &Bytes, limit: u64) -> u64 {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SHAPES {
            known.clear();
        }
        known.insert((target, data.len()), limit);
        limit
    }
}
