//! Ciphertexts, fetched by digest from the party's own object stores.
