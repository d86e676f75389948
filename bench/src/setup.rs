//! PRSS set-up without a dealer: all parties of a committee in this process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result};
use kms_mpc::{
    Committee, PartyId, SessionId,
    lockstep::malicious::Tampering,
    prss_setup::{self, DealingSeed},
    sim::{Profile, Sim},
};

use crate::report::{Figure, median};

/// Runs of one figure.
const RUNS: u32 = 5;

/// Milliseconds of a whole set-up, all parties together.
///
/// # Errors
/// A committee is out of range, or a run fails: a mistake in this file or in the engine.
pub(crate) fn run() -> Result<Vec<Figure>> {
    Ok(vec![setup("mpc.prss_setup.n4", 4, 1)?, setup("mpc.prss_setup.n13", 13, 4)?])
}

fn setup(name: &str, n: usize, t: usize) -> Result<Figure> {
    let committee = Committee::new(n, t)?;
    let mut milliseconds = Vec::new();
    let sent = Arc::new(AtomicU64::new(0));
    for attempt in 0..RUNS {
        let session = SessionId::prss_setup(&[1; 32], &[2; 32], attempt);
        let mut sim = Sim::new(n, attempt.into(), Profile::default());
        for own in PartyId::all(n) {
            let sent = Arc::clone(&sent);
            let count = move |_, _, message: bytes::Bytes| {
                sent.fetch_add(message.len() as u64, Ordering::Relaxed);
                vec![message]
            };
            let (net, seed) =
                (Tampering::new(sim.net(own), Box::new(count)), DealingSeed::from_bytes([own.index(); 32]));
            sim.spawn(own, async move {
                prss_setup::run(&net, committee, session, Some(seed), prss_setup::DEFAULT_BOUND).await.map(|s| s.ready)
            });
        }
        let clock = Instant::now();
        for (party, result) in sim.run() {
            let ready = result.with_context(|| format!("party {party} hangs"))??;
            anyhow::ensure!(ready.len() == n, "only {ready} are ready");
        }
        milliseconds.push(clock.elapsed().as_secs_f64() * 1000.0);
    }
    let kilobytes = sent.load(Ordering::Relaxed) / u64::from(RUNS) / (n * (n - 1)) as u64 / 1000;
    let note = format!(
        "PRSS keys without a dealer, ({n},{t}), all {n} parties in one process on the simulated network, which takes no real \
         time; each sends each other one {kilobytes} kB"
    );
    Ok(Figure::new(name, median(milliseconds), "ms", note))
}
