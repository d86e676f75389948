//! The coprocessor as a whole, with real ciphertexts under the insecure test parameters.

mod anvil;
mod chain;
mod fixture;
mod inputs;
mod javascript;
mod operations;
mod token;
