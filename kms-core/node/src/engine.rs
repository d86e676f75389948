//! Decryption jobs.
