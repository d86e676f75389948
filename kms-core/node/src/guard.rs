//! The chain guard: what this party's own view of the chain says about a request.
