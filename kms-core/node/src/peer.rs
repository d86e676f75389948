//! The peer transport.
