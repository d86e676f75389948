//! The commands of `kms-node`.
