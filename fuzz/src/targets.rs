//! One module per format. Each `check` takes what libFuzzer made up and panics if a property does not hold.

pub mod answers;
pub mod broadcast;
pub mod manifest;
pub mod node_api;
pub mod opened_blocks;
pub mod opening;
pub mod peer_frame;
pub mod peer_inbox;
pub mod proofs;
pub mod prss_keys;
pub mod request;
pub mod share_file;
pub mod share_message;
pub mod user_envelope;
pub mod vss;
