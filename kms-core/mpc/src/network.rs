//! What a protocol needs of the world.

use core::panic::AssertUnwindSafe;
use core::time::Duration;
use std::panic;

use bytes::Bytes;

use crate::{JobId, PartyId};

/// The network was closed for a job: it was given up or the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the network was closed")]
pub struct Closed;

/// Authenticated point-to-point channels to the other parties, a clock, and threads for heavy work.
///
/// Implementations: [`crate::sim::SimNet`] and the node's peer transport. Delivery is asynchronous: messages may be
/// late, reordered, repeated or lost; the transport sends again what was lost (a party's messages are a function of its
/// keys and the job, so they can be recomputed). What arrives is attributed to the right sender.
pub trait Network: Send + Sync {
    /// This party.
    fn own(&self) -> PartyId;

    /// Number of parties.
    fn n(&self) -> usize;

    /// Queues a message to another party and returns. Never waits for the peer; may drop the message if the peer's
    /// queue is over its bound, and then has to see to it that the peer can ask for it again.
    fn send(&self, job: JobId, round: u8, to: PartyId, payload: Bytes);

    /// The next message of a round of a job, from any other party. Messages that came before the first call are kept
    /// (within bounds). Cancel-safe: a message is lost only if it was returned. One caller at a time per (job, round).
    ///
    /// # Errors
    /// [`Closed`]: nothing will come any more.
    fn recv(&self, job: JobId, round: u8) -> impl Future<Output = Result<(PartyId, Bytes), Closed>> + Send;

    /// Waits. The only clock that a protocol may use.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(duration)
    }

    /// Runs heavy work away from the async runtime: on rayon's pool, where it may use all threads. A panic of the work
    /// goes on in the caller.
    fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> + Send {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        rayon::spawn(move || {
            let _ = sender.send(panic::catch_unwind(AssertUnwindSafe(work)));
        });
        async move {
            match receiver.await {
                Ok(Ok(result)) => result,
                Ok(Err(payload)) => panic::resume_unwind(payload),
                Err(_) => unreachable!("the job on the pool always answers"),
            }
        }
    }
}

impl<N: Network> Network for std::sync::Arc<N> {
    fn own(&self) -> PartyId {
        (**self).own()
    }

    fn n(&self) -> usize {
        (**self).n()
    }

    fn send(&self, job: JobId, round: u8, to: PartyId, payload: Bytes) {
        (**self).send(job, round, to, payload);
    }

    fn recv(&self, job: JobId, round: u8) -> impl Future<Output = Result<(PartyId, Bytes), Closed>> + Send {
        (**self).recv(job, round)
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        (**self).sleep(duration)
    }

    fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> + Send {
        (**self).compute(work)
    }
}
