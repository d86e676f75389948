//! The client API.
