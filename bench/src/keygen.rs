//! Keys made by four party processes on this machine.

use std::{path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use kms_tests::{
    cluster::{Cluster, Key, Options},
    keygen::{Keygen, new_run},
};

use crate::{node::all_parties, report::Figure};

/// What the figures are called, and their parameters.
const RUNS: [(&str, &str); 2] = [("quick", "insecure-test"), ("production", "production")];

/// The key generations of the area, each in a deployment of its own.
///
/// # Errors
/// A deployment does not start, or makes no key.
pub(crate) fn run_blocking(root: &Path, only: Option<&str>) -> Result<Vec<Figure>> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new()?;
    let mut figures = Vec::new();
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
    Ok(figures)
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
