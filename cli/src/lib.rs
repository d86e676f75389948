//! The commands of `kms`, the operator's tool. Each returns what it prints, as text or as JSON.

mod access;
pub mod client_cert;
pub mod clients;
pub mod crs;
pub mod dealer;
pub mod decrypt;
pub mod doctor;
pub mod keygen;
pub mod manifest;
pub mod register_key;
pub mod status;
pub mod user_decrypt;
