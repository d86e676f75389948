//! Tests of the crate on real tfhe ciphertexts with the insecure test parameters.

mod bundle;
mod eval;
mod fixture;
mod hostile_inputs;
mod hostile_objects;
mod inputs;
mod mutate;
mod objects;
