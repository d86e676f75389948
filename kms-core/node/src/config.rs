//! The party's own configuration.
