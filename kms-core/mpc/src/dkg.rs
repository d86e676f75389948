//! Key generation without a dealer: nobody ever knows a secret key.
//!
//! - [`spec`]: what a key consists of, in numbers;
//! - [`exchange`], [`journal`]: what a run needs of the world.

pub mod exchange;
pub mod journal;
pub mod spec;
