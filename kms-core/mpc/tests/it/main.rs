//! The protocols on the simulated network, and known-answer vectors.

mod decryption;
mod kat;
mod matrix;
mod setting;
