//! Parties that lie: a wrapper around a [`Network`] that changes what a party sends. For tests, for the simulator, and
//! for the test party of a real deployment. The party inside is honest, so whatever it computes is what it *should* have
//! sent.
//!
//! [`LIES`] is the library: every lie with its name and with what honest parties see of it ([`Behaviour::seen_by`]), so
//! that a judge knows the right culprits. `WrongShare` … `Codewords` and `Conflicting` understand share messages
//! ([`crate::wire`]); what is none they leave as it is. All others work on any protocol's bytes.
//!
//! ```
//! use kms_mpc::{PartyId, malicious::{Behaviour, Malicious}, sim::{Profile, Sim}};
//! let sim = Sim::<()>::new(4, 1, Profile::default());
//! let liar = Malicious::new(sim.net(PartyId::new(2).unwrap()), Behaviour::WrongShare);
//! ```

mod lies;
mod shares;

use core::pin::pin;
use core::time::Duration;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::future::{Either, select};
use kms_algebra::{PartyId, PartySet};

pub use lies::{LIES, Lie, REPLAY_EPOCH, REPLAY_SESSION, Stage};
use shares::{Error, shifted};

use crate::{Closed, JobId, Network};

/// How a party misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Behaviour {
    /// Sends nothing.
    Silent,
    /// Sends the right message, this much too late.
    Late {
        /// Time that every message is held back.
        by: Duration,
    },
    /// Sends to some and nothing to the others.
    Selective {
        /// Who gets the right message.
        to: PartySet,
    },
    /// Sends the right message in the next round instead of its own.
    WrongRound,
    /// Sends the right message under the identity of another job.
    WrongJob,
    /// Sends the right message many times.
    Repeat {
        /// How often.
        times: u16,
    },
    /// Adds an odd constant to its share of every value.
    WrongShare,
    /// The same, only after the shares of the others.
    LateWrongShare {
        /// Time that every message is held back.
        by: Duration,
    },
    /// Adds 2^127 to its share of the last value: wrong in one bit of one value.
    WrongBit,
    /// Adds another error for each receiver.
    WrongForEach,
    /// Adds errors of random size to random values, other ones than its fellows.
    Sparse {
        /// Decides where and how large.
        seed: u64,
    },
    /// With the other colluders, moves its share along a multiple 2^`shift` of a codeword of minimum weight: a
    /// polynomial of degree t that vanishes at t honest parties. The hardest error to find.
    Codeword {
        /// Honest parties where the polynomial vanishes; at most t.
        zeros: PartySet,
        /// Exponent of the factor, below 128.
        shift: u32,
    },
    /// The same with another codeword for each value.
    Codewords {
        /// Parties to choose the zeros of each value from.
        honest: PartySet,
        /// How many zeros: t.
        zeros: u8,
        /// Decides which, and the factors. The same for all colluders.
        seed: u64,
    },
    /// Sends the right share to some and a wrong one to the others.
    TwoFaced {
        /// Who gets the right share.
        right: PartySet,
    },
    /// Sends the right message, then a wrong one.
    Conflicting,
    /// Sends bytes that are no message, of the right length.
    Garbage,
    /// Changes one byte of the header.
    Header {
        /// Which: taken modulo the length of a share message's header.
        byte: u8,
    },
    /// Sends a message with more bytes than it should have.
    Oversized {
        /// How many more, at least 1.
        bytes: u32,
    },
    /// Sends its message without the last byte.
    Truncated,
    /// Sends messages of no bytes.
    Empty,
    /// Sends its message of another session or epoch, whatever the job: the one that it was given by
    /// [`Malicious::with_stock`], or else its first.
    Replay,
}

/// What an honest party sees of a liar in one opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The right share.
    Right,
    /// Nothing: it is late.
    Nothing,
    /// A share that is not on the polynomial.
    Wrong,
    /// No share message of this opening.
    Malformed,
    /// Two messages of which one is right, in either order.
    Two,
}

/// A party's message is late if it takes longer than this.
pub const LATE: Duration = Duration::from_secs(24 * 3600);

impl Behaviour {
    /// What `to` sees of a party that behaves so, in an opening whose tail is collected for less than [`LATE`], but
    /// longer than anything else takes. `first` is whether no earlier round of its job had a message of this length.
    #[must_use]
    pub fn seen_by(&self, to: PartyId, first: bool) -> Seen {
        match self {
            Self::Silent | Self::WrongJob => Seen::Nothing,
            Self::WrongRound if first => Seen::Nothing,
            Self::Late { by } | Self::LateWrongShare { by } if *by >= LATE => Seen::Nothing,
            Self::Selective { to: right } if !right.contains(to) => Seen::Nothing,
            Self::TwoFaced { right } if right.contains(to) => Seen::Right,
            Self::Late { .. } | Self::Selective { .. } | Self::Repeat { .. } => Seen::Right,
            Self::Garbage | Self::Header { .. } | Self::Oversized { .. } | Self::Truncated | Self::Empty => {
                Seen::Malformed
            }
            Self::Conflicting => Seen::Two,
            Self::WrongRound
            | Self::WrongShare
            | Self::LateWrongShare { .. }
            | Self::WrongBit
            | Self::WrongForEach
            | Self::Sparse { .. }
            | Self::Codeword { .. }
            | Self::Codewords { .. }
            | Self::TwoFaced { .. }
            | Self::Replay => Seen::Wrong,
        }
    }
}

impl Behaviour {
    /// The same without lateness: what is seen of it by somebody who waits for ever.
    #[must_use]
    pub const fn in_the_end(self) -> Self {
        match self {
            Self::Late { .. } => Self::Late { by: Duration::ZERO },
            Self::LateWrongShare { .. } => Self::WrongShare,
            other => other,
        }
    }
}

struct Held {
    job: JobId,
    round: u8,
    to: PartyId,
    payload: Bytes,
}

/// A network on which this party misbehaves.
pub struct Malicious<N> {
    inner: N,
    behaviour: Behaviour,
    stock: Mutex<Option<Bytes>>,
    held: Mutex<Vec<Held>>,
}

impl<N> core::fmt::Debug for Malicious<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Malicious").field("behaviour", &self.behaviour).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<N> Malicious<N> {
    /// Lets the party at this end of the network misbehave.
    pub const fn new(inner: N, behaviour: Behaviour) -> Self {
        Self { inner, behaviour, stock: Mutex::new(None), held: Mutex::new(Vec::new()) }
    }

    /// What [`Behaviour::Replay`] sends: a message of another session, another epoch, another committee.
    #[must_use]
    pub fn with_stock(self, message: Bytes) -> Self {
        *lock(&self.stock) = Some(message);
        self
    }

    const fn hold(&self) -> Option<Duration> {
        match self.behaviour {
            Behaviour::Late { by } | Behaviour::LateWrongShare { by } => Some(by),
            _ => None,
        }
    }
}

impl<N: Network> Malicious<N> {
    /// The messages that go out instead of `payload`.
    fn twist(&self, to: PartyId, payload: Bytes) -> Vec<Bytes> {
        let own = self.inner.own();
        match self.behaviour {
            Behaviour::Silent => Vec::new(),
            Behaviour::Selective { to: right } if !right.contains(to) => Vec::new(),
            Behaviour::Late { .. } | Behaviour::Selective { .. } | Behaviour::WrongRound | Behaviour::WrongJob => {
                vec![payload]
            }
            Behaviour::Repeat { times } => vec![payload; times.into()],
            Behaviour::TwoFaced { right } if right.contains(to) => vec![payload],
            Behaviour::WrongShare | Behaviour::LateWrongShare { .. } | Behaviour::TwoFaced { .. } => {
                vec![shifted(&payload, &Error::Everywhere(1))]
            }
            Behaviour::WrongBit => vec![shifted(&payload, &Error::LastBit)],
            Behaviour::WrongForEach => vec![shifted(&payload, &Error::Everywhere(to.index()))],
            Behaviour::Sparse { seed } => vec![shifted(&payload, &Error::Sparse { own, seed })],
            Behaviour::Codeword { zeros, shift } => vec![shifted(&payload, &Error::Codeword { own, zeros, shift })],
            Behaviour::Codewords { honest, zeros, seed } => {
                vec![shifted(&payload, &Error::Codewords { own, honest, zeros, seed })]
            }
            Behaviour::Conflicting => vec![payload.clone(), shifted(&payload, &Error::Everywhere(1))],
            Behaviour::Garbage => vec![payload.iter().map(|byte| byte.wrapping_mul(167) ^ 0xA5).collect()],
            Behaviour::Header { byte } => {
                let mut bytes = BytesMut::from(payload);
                if let Some(byte) = bytes.get_mut(usize::from(byte) % crate::wire::HEADER_BYTES) {
                    *byte ^= 0x10;
                }
                vec![bytes.freeze()]
            }
            Behaviour::Oversized { bytes } => {
                let mut longer = BytesMut::from(payload);
                longer.resize(longer.len() + bytes.max(1) as usize, 0);
                vec![longer.freeze()]
            }
            Behaviour::Truncated => vec![payload.slice(..payload.len().saturating_sub(1))],
            Behaviour::Empty => vec![Bytes::new()],
            Behaviour::Replay => vec![lock(&self.stock).get_or_insert(payload).clone()],
        }
    }

    /// Where a message of a round goes instead.
    fn divert(&self, job: JobId, round: u8) -> (JobId, u8) {
        match self.behaviour {
            Behaviour::WrongRound => (job, round.wrapping_add(1)),
            Behaviour::WrongJob => (JobId::from_bytes(job.as_bytes().map(|byte| !byte)), round),
            _ => (job, round),
        }
    }

    fn release(&self) {
        for Held { job, round, to, payload } in core::mem::take(&mut *lock(&self.held)) {
            self.inner.send(job, round, to, payload);
        }
    }

    /// Sends what is still held back, when its time has come. Call it after the protocol inside has ended.
    pub async fn linger(&self) {
        if let Some(by) = self.hold() {
            self.inner.sleep(by).await;
            self.release();
        }
    }
}

impl<N: Network> Network for Malicious<N> {
    fn own(&self) -> PartyId {
        self.inner.own()
    }

    fn n(&self) -> usize {
        self.inner.n()
    }

    fn send(&self, job: JobId, round: u8, to: PartyId, payload: Bytes) {
        let (job, round) = self.divert(job, round);
        for payload in self.twist(to, payload) {
            match self.hold() {
                Some(_) => lock(&self.held).push(Held { job, round, to, payload }),
                None => self.inner.send(job, round, to, payload),
            }
        }
    }

    async fn recv(&self, job: JobId, round: u8) -> Result<(PartyId, Bytes), Closed> {
        let Some(by) = self.hold().filter(|_| !lock(&self.held).is_empty()) else {
            return self.inner.recv(job, round).await;
        };
        // Time that passed in earlier calls does not count: late is late.
        let (next, due) = (pin!(self.inner.recv(job, round)), pin!(self.inner.sleep(by)));
        match select(next, due).await {
            Either::Left((message, _)) => message,
            Either::Right(((), next)) => {
                self.release();
                next.await
            }
        }
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        self.inner.sleep(duration)
    }

    fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> + Send {
        self.inner.compute(work)
    }
}
