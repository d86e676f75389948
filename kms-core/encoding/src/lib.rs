//! Part of the KMS.
