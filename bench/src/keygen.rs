//! Keys made by four party processes on this machine.

use std::{path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use kms_encoding::ParamsId;
use kms_mpc::{
    Committee,
    dkg::insecure_rehearsal::{Cost, rehearse},
};
use kms_tests::{
    cluster::{Cluster, Key, Options},
    keygen::{Keygen, new_run},
};

use rand::{SeedableRng, rngs::StdRng};

use crate::{
    node::all_parties,
    report::{Figure, Report},
};

/// What the figures are called, and their parameters.
const RUNS: [(&str, &str); 2] = [("quick", "insecure-test"), ("production", "production")];

/// The key generations of the area, each in a deployment of its own.
///
/// # Errors
/// A deployment does not start, or makes no key.
pub(crate) fn run_blocking(root: &Path, only: Option<&str>) -> Result<Vec<Figure>> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new()?;
    let mut figures: Vec<Figure> = Vec::new();
    for (name, params) in RUNS {
        if only.is_some_and(|only| only != params) {
            continue;
        }
        let home = root.join(".demo").join(format!("bench-keygen-{params}"));
        // An old run may have left one; there is none on the first.
        let _ = std::fs::remove_dir_all(&home);
        figures.extend(runtime.block_on(run(&home, name, params))?);
        std::fs::remove_dir_all(&home)?;
    }
    // From the production run of now, or else from the one on record.
    let recorded = Report::open(&root.join("bench/report.json")).results;
    let production = figures.iter().chain(&recorded).find(|figure| figure.name == "dkg.production.n4");
    if let Some(minutes) = production.map(|figure| figure.value) {
        figures.extend(extrapolate(minutes)?);
    }
    Ok(figures)
}

/// What a committee of 13 would take with 16 cores and 1 Gbit/s each, from what four parties took on this machine.
fn extrapolate(minutes: f64) -> Result<[Figure; 4]> {
    const CORES: f64 = 16.0;
    const BYTES_PER_SECOND: f64 = 125e6;
    let spec = kms_fhe::dkg::key_spec(ParamsId::Production, false);
    let masks = kms_fhe::dkg::XofMasks::new(&spec, &[7; 32]);
    let rehearse = |n: usize, t: usize| -> Result<(f64, f64, u64, String)> {
        let costs = rehearse(&Committee::new(n, t)?, &spec, &masks, &mut StdRng::seed_from_u64(1))?;
        let seconds = costs.iter().map(|cost| cost.time.as_secs_f64()).sum();
        let name = |cost: &Cost| cost.component.map_or("secrets", |component| spec.components[component].name);
        let parts = costs.iter().map(|cost| format!("{} {:.1} s", name(cost), cost.time.as_secs_f64()));
        #[expect(clippy::cast_precision_loss, reason = "well below 2^52")]
        let bytes = costs.iter().map(|cost| cost.bytes_per_peer).sum::<u64>() as f64 * (n - 1) as f64;
        Ok((seconds, bytes, costs.iter().map(|cost| cost.bits).sum(), parts.collect::<Vec<_>>().join(", ")))
    };
    let (small, _, bits, parts_small) = rehearse(4, 1)?;
    let (large, bytes, _, parts_large) = rehearse(13, 4)?;
    #[expect(clippy::cast_precision_loss, reason = "a few cores")]
    let cores = std::thread::available_parallelism()?.get() as f64;
    // Everything that is not arithmetic (TLS, gRPC, journals, waiting) as a factor on the arithmetic.
    let factor = minutes * 60.0 * cores / (4.0 * small);
    let (computing, sending) = (large * factor / CORES, bytes / BYTES_PER_SECOND);
    let core_minutes = |n: usize, seconds: f64, parts: &str| {
        let note = format!(
            "arithmetic of one party at production parameters without compression keys, {bits} random bits, {n} parties: one chunk of \
             each kind run with the frames of all, times their number: {parts}"
        );
        Figure::new(&format!("dkg.rehearsed.n{n}"), seconds / 60.0, "core minutes", note)
    };
    let hours = format!(
        "(13,4), 16 cores and 1 Gbit/s per party, production without compression keys. Arithmetic of a party {large:.0} core seconds \
         (dkg.rehearsed.n13); four processes took {factor:.2} times their arithmetic (dkg.production.n4 × {cores} cores ÷ 4 ÷ \
         dkg.rehearsed.n4); {large:.0} × {factor:.2} ÷ 16 = {computing:.0} s, and {:.0} GB at 125 MB/s = {sending:.0} s; added up as if \
         nothing overlapped",
        bytes / 1e9
    );
    let sent = "sent per party at (13,4): frames of all chunks of the plan, times 12 peers; signatures and votes, some hundred \
                bytes per chunk, come on top";
    Ok([
        core_minutes(4, small, &parts_small),
        core_minutes(13, large, &parts_large),
        Figure::new("dkg.extrapolated.n13.hours", (computing + sending) / 3600.0, "hours", hours),
        Figure::new("dkg.extrapolated.n13.gb", bytes / 1e9, "GB", sent),
    ])
}

async fn run(home: &Path, name: &str, params: &str) -> Result<Vec<Figure>> {
    let options =
        Options { params: params.to_owned(), services: false, key: Key::None, ..Options::insecure_test(home) };
    let cluster = Cluster::start(options, &|line| eprintln!("  {line}")).await?;
    let mut tool = Keygen::start(&cluster.options, &new_run(), &[])?;
    // The reference string is there now; the first line says that the parties are asked.
    let first = tool.event().await?.context("kms keygen says nothing")?;
    ensure!(first["event"] == "run", "{first}");
    let clock = Instant::now();
    let mut phase = String::new();
    while let Some(event) = tool.event().await? {
        let now = event["phase"].as_str().unwrap_or_default();
        if phase != now {
            now.clone_into(&mut phase);
            eprintln!("  {:7.1} s  {phase}", clock.elapsed().as_secs_f64());
        }
    }
    let seconds = clock.elapsed().as_secs_f64();
    let finished = tool.finished().await?;
    ensure!(finished["signers"].as_array().is_some_and(|signers| signers.len() == 4), "{finished}");
    let peak = all_parties(&cluster, "kms_node_peak_memory_bytes").await?.into_iter().fold(0.0, f64::max);
    let sent = all_parties(&cluster, "kms_node_keygen_sent_bytes").await?.into_iter().fold(0.0, f64::max);
    let note = format!(
        "key generation, parameters {params} without compression keys, (4,1), four processes over mTLS on this machine, from \
         the call to the fourth signature, pseudorandom keys of the run included; the party that sent most sent {:.2} GB",
        sent / 1e9
    );
    let rss = format!("largest peak of a party's resident memory in {name}: parameters {params}");
    let (value, unit) = if params == "production" { (seconds / 60.0, "minutes") } else { (seconds, "s") };
    Ok(vec![
        Figure::new(&format!("dkg.{name}.n4"), value, unit, note),
        Figure::new(&format!("dkg.{name}.rss"), peak / 1e6, "MB", rss),
    ])
}
