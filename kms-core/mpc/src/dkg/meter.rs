//! Counts what a run does, for [`Progress`]. The clock here is for people only: nothing in the protocol depends on it.

use core::time::Duration;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use kms_algebra::PartySet;

use super::agree::Try;
use super::plan::{Chunk, Plan, Work};
use super::progress::{Phase, Progress};
use super::run::Inner;

/// Counters of this life.
#[derive(Debug)]
pub(super) struct Meter {
    chunks: u32,
    bits: u64,
    start: Instant,
    /// Bits made in this life.
    made: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Meter {
    pub(super) fn new(plan: &Plan) -> Self {
        let (made, sent, received) = Default::default();
        Self { chunks: plan.chunks.len() as u32, bits: plan.bits, start: Instant::now(), made, sent, received }
    }

    /// Nothing done yet.
    pub(super) fn progress(&self) -> Progress {
        Progress { chunks_total: self.chunks, bits_total: self.bits, ..Progress::default() }
    }
}

impl<const D: usize, S, J> Inner<D, S, J> {
    /// Counts bytes.
    pub(super) fn count(&self, sent: usize, received: usize) {
        self.meter.sent.fetch_add(sent as u64, Ordering::Relaxed);
        self.meter.received.fetch_add(received as u64, Ordering::Relaxed);
    }

    /// A chunk is done.
    pub(super) fn advance(&self, chunk: &Chunk) {
        self.meter.made.fetch_add(chunk.bits() as u64, Ordering::Relaxed);
        let frontier = self.state().frontier;
        let phase = match self.plan.get(frontier).map(|chunk| chunk.work) {
            Some(Work::Bits { secret, .. }) => Phase::Secret(secret),
            Some(Work::Rows { component, .. } | Work::Ggsw { component, .. }) => Phase::Component(component),
            None => Phase::Done,
        };
        self.report(phase, PartySet::EMPTY);
    }

    /// Who is waited for in the oldest chunk.
    pub(super) fn waiting_for(&self, at: &Try, parties: PartySet) {
        if at.chunk.index == self.state().frontier {
            self.progress.send_if_modified(|progress| {
                let new = progress.waiting_for != parties;
                progress.waiting_for = parties;
                new
            });
        }
    }

    /// Publishes how far the run is.
    pub(super) fn report(&self, phase: Phase, waiting_for: PartySet) {
        let (chunks_done, late, wrong, bits_done) = {
            let state = self.state();
            let late = state.exclusions.iter().filter(|e| e.late).map(|e| e.party).collect();
            let wrong = state.culprits.iter().map(|c| c.party).collect();
            let done = state.done.keys().filter_map(|index| self.plan.get(*index));
            (state.done.len() as u32, late, wrong, done.map(|chunk| chunk.bits() as u64).sum::<u64>())
        };
        let meter = &self.meter;
        let seconds = meter.start.elapsed().as_secs_f64();
        let bits_per_second = if seconds > 0.0 { meter.made.load(Ordering::Relaxed) as f64 / seconds } else { 0.0 };
        let left = (bits_per_second > 0.0)
            .then(|| Duration::try_from_secs_f64((meter.bits - bits_done) as f64 / bits_per_second).ok())
            .flatten();
        self.progress.send_replace(Progress {
            phase,
            chunks_done,
            chunks_total: meter.chunks,
            bits_done,
            bits_total: meter.bits,
            bits_per_second,
            left,
            bytes_sent: meter.sent.load(Ordering::Relaxed),
            bytes_received: meter.received.load(Ordering::Relaxed),
            waiting_for,
            late,
            wrong,
        });
    }
}
