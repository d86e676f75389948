//! The party's TLS identity.
