//! Gas limits that have been enough before. A node finds out how much a call takes by executing it a dozen times with different
//! limits; whether a known limit is enough takes one execution. Before a transaction is signed, it is always one of the two.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use alloy_primitives::{Address, Bytes};

/// Shapes of calls that are remembered.
const SHAPES: usize = 256;

/// What calls have in common that take about as much gas: contract, length of the calldata, and gas that the callback is given.
type Shape = (Address, usize, u64);

/// What was last found out.
#[derive(Debug, Default)]
pub(super) struct GasKnown(Mutex<HashMap<Shape, u64>>);

impl GasKnown {
    /// A limit that a call of this shape had lately.
    pub(super) fn known(&self, target: Address, data: &Bytes, callback_gas: u64) -> Option<u64> {
        self.all().get(&(target, data.len(), callback_gas)).copied()
    }

    /// Remembers a limit, and returns it.
    pub(super) fn learn(&self, target: Address, data: &Bytes, callback_gas: u64, limit: u64) -> u64 {
        let mut known = self.all();
        if known.len() >= SHAPES {
            known.clear();
        }
        known.insert((target, data.len(), callback_gas), limit);
        limit
    }

    /// Forgets all of them: the node does not like one.
    pub(super) fn forget(&self) {
        self.all().clear();
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Shape, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call may take so that a limit is enough: until it is executed, another slot may have to be filled.
pub(super) fn without_margin(limit: u64) -> u64 {
    limit - limit / 16
}
