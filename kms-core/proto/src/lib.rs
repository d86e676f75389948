//! Protobuf definitions of the KMS and the types generated from them.
//!
//! [`node`] is the API that a party offers to relayers and operators, [`peer`] the link between two parties. Protobuf
//! itself knows no lengths, so every bound of every field stands in [`bounds`], next to the functions that check whole
//! messages; a server calls them before it does anything else with a message.

pub mod bounds;

/// The client API of a party (`kms.v1.node`).
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod node {
    tonic::include_proto!("kms.v1.node");
}

/// The link between two parties (`kms.v1.peer`).
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod peer {
    tonic::include_proto!("kms.v1.peer");
}
