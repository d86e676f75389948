//! What a key generation needs of the world.
//!
//! A party *asks* for what it needs next and never pushes: whoever is slow slows nobody's memory, and whoever restarts
//! asks again. All answers are functions of the run's keys, of the journal and of opened values.

use core::time::Duration;

use bytes::Bytes;
use kms_algebra::PartyId;

/// A peer can't be asked at the moment, or it has nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The peer has no such thing yet: ask again.
    #[error("the peer has no answer yet")]
    NotYet,
    /// The peer can't be reached, or broke the call off.
    #[error("the peer can't be reached")]
    Unreachable,
    /// This party's run is over.
    #[error("the run is over")]
    Closed,
}

/// Questions to the other parties, a clock, and threads for heavy work.
pub trait Exchange: Send + Sync {
    /// Asks a peer. The call may take as long as the peer holds it (seconds); the caller asks again after an error other
    /// than [`AskError::Closed`]. Any number of questions to one peer may be under way.
    fn ask(&self, peer: PartyId, question: Bytes) -> impl Future<Output = Result<Bytes, AskError>> + Send;

    /// Waits. The only clock that the protocol may use.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;

    /// Runs heavy work away from the async runtime, on rayon's pool.
    fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> + Send;
}

/// Knows the parties' signatures.
pub trait Verifier: Send + Sync {
    /// Whether a signature over a digest is a party's.
    fn verify(&self, party: PartyId, digest: &[u8; 32], signature: &[u8; 65]) -> bool;
}

/// Signatures of the parties: what makes a lie provable to third parties.
pub trait Signer: Verifier {
    /// This party's signature over a digest.
    fn sign(&self, digest: &[u8; 32]) -> [u8; 65];
}
