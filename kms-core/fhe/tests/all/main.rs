//! Tests of the crate on real tfhe ciphertexts with the insecure test parameters.

mod budget;
mod bundle;
mod corpus;
mod eval;
mod fixture;
mod hostile_inputs;
mod hostile_objects;
mod inputs;
mod mutate;
mod objects;
