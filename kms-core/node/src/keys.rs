//! Key material that this party may use.
