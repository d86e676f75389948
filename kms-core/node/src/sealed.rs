//! Sealed objects at rest.
