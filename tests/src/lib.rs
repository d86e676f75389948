//! Real processes for tests, demo and benches: a chain, n parties, a relayer, a coprocessor; to be killed, paused, cut and
//! restarted at will.

pub mod anvil;
pub mod ballot;
pub mod cluster;
pub mod ground;
pub mod harness;
pub mod javascript;
pub mod keygen;
pub mod parties;
pub mod paths;
pub mod probe;
pub mod process;
pub mod proxy;
pub mod relayer;
pub mod remains;
pub mod stub;
pub mod token;
pub mod user;
pub mod vote;
