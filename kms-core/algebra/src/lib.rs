//! Galois rings, Shamir sharing over them, and robust decoding: the arithmetic below the protocols.
//!
//! Pure: no I/O, no sockets, no tfhe.
//!
//! - [`Gr`]: elements of GR(2^k, d) = Z_2^k\[X\]/F(X), const-generic over the word (k = 64 or 128) and the degree d;
//! - [`Gf`]: its residue field GF(2^d);
//! - [`GrVec`]: many ring elements as a structure of arrays, erased on drop;
//! - [`shamir`]: points, sharing, Lagrange coefficients;
//! - [`Codec`]: decoding of degree-t sharings with at most t wrong shares, in batches, naming the culprits;
//! - [`Detector`]: opening of sharings of any degree, without correction;
//! - [`negacyclic`]: products of public polynomials with shares of polynomials;
//! - [`packing`]: d values of Z_2^k in one ring element.
//!
//! Sources: Dahl et al., *Noah's Ark* (ePrint 2023/815), §2 (Galois rings, sharing) and §4 (robust opening);
//! Abspoel et al., *Efficient Information-Theoretic Secure Multiparty Computation over Z/p^kZ via Galois Rings*
//! (TCC 2019) for decoding by lifting.

#![forbid(unsafe_code)]

mod bw;
mod codec;
mod detector;
mod error;
mod gf;
mod gr;
mod matrices;
pub mod negacyclic;
pub mod packing;
mod party;
pub mod shamir;
mod vec;
mod word;

pub use codec::{Codec, Decoded};
pub use detector::{Detector, Opener};
pub use error::{CommitteeError, Undecided};
pub use gf::Gf;
pub use gr::Gr;
pub use party::{MAX_PARTIES, PartyId, PartySet};
pub use vec::GrVec;
pub use word::Word;
