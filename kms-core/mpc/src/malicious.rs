//! Parties that lie: a wrapper around a [`Network`] that changes what a party sends. For tests, and for the test party
//! of a real deployment. The party inside is honest, so whatever it computes is what it *should* have sent.
//!
//! ```
//! use kms_mpc::{PartyId, malicious::{Behaviour, Malicious}, sim::{Profile, Sim}};
//! let sim = Sim::<()>::new(4, 1, Profile::default());
//! let liar = Malicious::new(sim.net(PartyId::new(2).unwrap()), Behaviour::WrongShare);
//! ```

use core::time::Duration;
use std::sync::Mutex;

use bytes::{Bytes, BytesMut};
use kms_algebra::{Gr, GrVec, PartyId, PartySet};

use crate::wire::{self, HEADER_BYTES};
use crate::{Closed, JobId, Network};

/// How a party misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Behaviour {
    /// Sends nothing.
    Silent,
    /// Adds an odd constant to its share of every value.
    WrongShare,
    /// Adds 2^127 to its share of the last value: wrong in one bit of one value.
    WrongBit,
    /// With the other colluders, moves its share along a multiple 2^`shift` of a codeword of minimum weight: a
    /// polynomial of degree t that vanishes at t honest parties. The hardest error to find.
    Codeword {
        /// Honest parties where the polynomial vanishes; at most t.
        zeros: PartySet,
        /// Exponent of the factor, below 128.
        shift: u32,
    },
    /// Sends the right share to some and a wrong one to the others.
    TwoFaced {
        /// Who gets the right share.
        right: PartySet,
    },
    /// Sends bytes that are no message, of the right length.
    Garbage,
    /// Sends a message with one more byte than it should have.
    Oversized,
    /// Sends its message of the first job that it took part in, whatever the job.
    Replay,
    /// Sends the right message, then a wrong one.
    Conflicting,
}

/// A network on which this party misbehaves.
#[derive(Debug)]
pub struct Malicious<N> {
    inner: N,
    behaviour: Behaviour,
    first: Mutex<Option<Bytes>>,
}

impl<N> Malicious<N> {
    /// Lets the party at this end of the network misbehave.
    pub const fn new(inner: N, behaviour: Behaviour) -> Self {
        Self { inner, behaviour, first: Mutex::new(None) }
    }
}

impl<N: Network> Malicious<N> {
    /// The messages that go out instead of `payload`.
    fn twist(&self, to: PartyId, payload: Bytes) -> Vec<Bytes> {
        match self.behaviour {
            Behaviour::Silent => Vec::new(),
            Behaviour::WrongShare => vec![shifted(&payload, &Error::Everywhere)],
            Behaviour::WrongBit => vec![shifted(&payload, &Error::LastBit)],
            Behaviour::Codeword { zeros, shift } => {
                vec![shifted(&payload, &Error::Codeword { own: self.inner.own(), zeros, shift })]
            }
            Behaviour::TwoFaced { right } if right.contains(to) => vec![payload],
            Behaviour::TwoFaced { .. } => vec![shifted(&payload, &Error::Everywhere)],
            Behaviour::Garbage => vec![payload.iter().map(|byte| byte.wrapping_mul(167) ^ 0xA5).collect()],
            Behaviour::Oversized => {
                let mut longer = BytesMut::from(payload);
                longer.extend_from_slice(&[0]);
                vec![longer.freeze()]
            }
            Behaviour::Replay => {
                let mut first = self.first.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                vec![first.get_or_insert(payload).clone()]
            }
            Behaviour::Conflicting => vec![payload.clone(), shifted(&payload, &Error::Everywhere)],
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
        for message in self.twist(to, payload) {
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

enum Error {
    Everywhere,
    LastBit,
    Codeword { own: PartyId, zeros: PartySet, shift: u32 },
}

/// A share message with an error added. What is no share message goes out unchanged.
#[must_use]
fn shifted(payload: &Bytes, error: &Error) -> Bytes {
    match payload.get(5) {
        Some(4) => shift::<4>(payload, error),
        Some(5) => shift::<5>(payload, error),
        _ => None,
    }
    .unwrap_or_else(|| payload.clone())
}

fn shift<const D: usize>(payload: &Bytes, error: &Error) -> Option<Bytes> {
    let elements = payload.len().checked_sub(HEADER_BYTES)? / (D * 16);
    let mut shares: GrVec<u128, D> = wire::decode(payload, elements).ok()?;
    let last = elements.checked_sub(1)?;
    let mut add = |i: usize, e: Gr<u128, D>| {
        let share = shares.get(i);
        shares.set(i, share + e);
    };
    match error {
        Error::Everywhere => (0..elements).for_each(|i| add(i, Gr::constant(2 * i as u128 + 1))),
        Error::LastBit => add(last, Gr::constant(1 << 127)),
        Error::Codeword { own, zeros, shift } => {
            let at = Gr::<u128, D>::point(*own);
            let g = zeros.iter().fold(Gr::constant(1 << shift), |g, zero| g * (at - Gr::point(zero)));
            (0..elements).for_each(|i| add(i, g));
        }
    }
    Some(wire::encode(&shares))
}
