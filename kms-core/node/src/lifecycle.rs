//! The phases of the process.
