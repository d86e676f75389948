//! Tests of the party's edges against real parts: a chain with the contracts, object stores with real ciphertexts.

mod chain;
mod ciphertexts;
mod guard;
mod user;
