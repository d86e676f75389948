//! A network whose owner changes what it sends: the hook on which the misbehaviour of every synchronous protocol hangs.
//!
//! The party inside runs the protocol as it should; a function sees each message on its way out, with its channel and its
//! receiver, and says what goes out instead: nothing, another message, several. Protocols describe their own lies as
//! functions over their channels ([`crate::broadcast::malicious`], [`crate::vss::malicious`],
//! [`crate::prss_setup::malicious`]); combine them by nesting networks. For tests, and for a test party of a real deployment.

use core::time::Duration;

use bytes::Bytes;

use crate::{Closed, JobId, Network, PartyId};

/// What goes out instead of a message: (channel, receiver, message) to messages.
pub type Tamper = Box<dyn Fn(u8, PartyId, Bytes) -> Vec<Bytes> + Send + Sync>;

/// A network on which everything that is sent goes through a [`Tamper`].
pub struct Tampering<N> {
    inner: N,
    tamper: Tamper,
}

impl<N> core::fmt::Debug for Tampering<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tampering").finish_non_exhaustive()
    }
}

impl<N> Tampering<N> {
    /// Lets the party at this end of the network misbehave.
    pub fn new(inner: N, tamper: Tamper) -> Self {
        Self { inner, tamper }
    }
}

impl<N: Network> Network for Tampering<N> {
    fn own(&self) -> PartyId {
        self.inner.own()
    }

    fn n(&self) -> usize {
        self.inner.n()
    }

    fn send(&self, job: JobId, round: u8, to: PartyId, payload: Bytes) {
        for message in (self.tamper)(round, to, payload) {
            self.inner.send(job, round, to, message);
        }
    }

    fn recv(&self, job: JobId, round: u8) -> impl Future<Output = Result<(PartyId, Bytes), Closed>> + Send {
        self.inner.recv(job, round)
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        self.inner.sleep(duration)
    }

    fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> + Send {
        self.inner.compute(work)
    }
}
