//! Tests of the crate on real tfhe ciphertexts with the insecure test parameters.

mod assembly;
mod budget;
mod bundle;
mod by_hand;
mod corpus;
mod eval;
mod fixture;
mod hostile_inputs;
mod hostile_objects;
mod inputs;
mod mutate;
mod objects;
mod raw;
