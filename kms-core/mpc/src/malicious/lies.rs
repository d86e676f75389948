//! The library of lies: names, and how a run draws the details.

use core::time::Duration;

use kms_algebra::PartySet;
use rand::Rng;
use rand::seq::IteratorRandom;
use rand_chacha::ChaCha20Rng;

use super::{Behaviour, LATE};

/// Who is on the stage when a lie is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// Faults that the committee tolerates.
    pub t: usize,
    /// The liars.
    pub liars: PartySet,
    /// All others.
    pub others: PartySet,
}

/// A lie of the library.
#[derive(Clone, Copy, Debug)]
pub struct Lie {
    /// Its name on the command line.
    pub name: &'static str,
    /// Details for one run. Liars that collude get the same ones.
    pub draw: fn(&Stage, &mut ChaCha20Rng) -> Behaviour,
}

/// Some of the others, at least one and not all.
fn some(stage: &Stage, rng: &mut ChaCha20Rng) -> PartySet {
    let size = rng.random_range(1..stage.others.len().max(2));
    stage.others.iter().choose_multiple(rng, size).into_iter().collect()
}

fn t_zeros(stage: &Stage, rng: &mut ChaCha20Rng) -> PartySet {
    stage.others.iter().choose_multiple(rng, stage.t).into_iter().collect()
}

fn late(rng: &mut ChaCha20Rng) -> Duration {
    match rng.random_range(0..3) {
        0 => Duration::from_millis(rng.random_range(1..200)),
        1 => Duration::from_secs(rng.random_range(1..60)),
        _ => LATE * rng.random_range(2..5),
    }
}

/// Every lie that can be told in an opening.
pub const LIES: &[Lie] = &[
    Lie { name: "silent", draw: |_, _| Behaviour::Silent },
    Lie { name: "late", draw: |_, rng| Behaviour::Late { by: late(rng) } },
    Lie { name: "selective", draw: |stage, rng| Behaviour::Selective { to: some(stage, rng) } },
    Lie { name: "wrong-round", draw: |_, _| Behaviour::WrongRound },
    Lie { name: "wrong-job", draw: |_, _| Behaviour::WrongJob },
    Lie { name: "repeat", draw: |_, rng| Behaviour::Repeat { times: rng.random_range(2..50) } },
    Lie { name: "wrong-share", draw: |_, _| Behaviour::WrongShare },
    Lie { name: "late-wrong-share", draw: |_, rng| Behaviour::LateWrongShare { by: late(rng) } },
    Lie { name: "wrong-bit", draw: |_, _| Behaviour::WrongBit },
    Lie { name: "wrong-for-each", draw: |_, _| Behaviour::WrongForEach },
    Lie { name: "sparse", draw: |_, rng| Behaviour::Sparse { seed: rng.random() } },
    Lie {
        name: "codeword",
        draw: |stage, rng| Behaviour::Codeword { zeros: t_zeros(stage, rng), shift: rng.random_range(0..128) },
    },
    Lie {
        name: "codewords",
        draw: |stage, rng| Behaviour::Codewords { honest: stage.others, zeros: stage.t as u8, seed: rng.random() },
    },
    Lie { name: "two-faced", draw: |stage, rng| Behaviour::TwoFaced { right: some(stage, rng) } },
    Lie { name: "conflicting", draw: |_, _| Behaviour::Conflicting },
    Lie { name: "garbage", draw: |_, _| Behaviour::Garbage },
    Lie { name: "header", draw: |_, rng| Behaviour::Header { byte: rng.random() } },
    Lie { name: "oversized", draw: |_, rng| Behaviour::Oversized { bytes: 1 << rng.random_range(0..17) } },
    Lie { name: "truncated", draw: |_, _| Behaviour::Truncated },
    Lie { name: "empty", draw: |_, _| Behaviour::Empty },
    // The scenario gives the message: of another session of the same epoch, or of the same job under another epoch's keys.
    Lie { name: REPLAY_SESSION, draw: |_, _| Behaviour::Replay },
    Lie { name: REPLAY_EPOCH, draw: |_, _| Behaviour::Replay },
];

/// Name of the replay of a message of another session.
pub const REPLAY_SESSION: &str = "replay-session";
/// Name of the replay of a message that was made with another epoch's keys.
pub const REPLAY_EPOCH: &str = "replay-epoch";
