//! Test parties that lie.
