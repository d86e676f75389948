//! The database of the party.
