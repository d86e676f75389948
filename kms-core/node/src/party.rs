//! Who this party is.
