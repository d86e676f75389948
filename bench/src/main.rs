//! `./script/bench [area]`: measures, and writes `bench/report.json` and the table in `docs/performance.md`.

#![deny(unsafe_code)]

#[cfg(feature = "client")]
mod client;
mod dkg;
mod gas;
#[cfg(feature = "processes")]
mod keygen;
mod mpc;
#[cfg(feature = "processes")]
mod node;
#[cfg(feature = "processes")]
mod relayer;
mod report;
mod setup;
#[cfg(feature = "processes")]
mod user;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use crate::report::{Figure, Report};

#[derive(Debug, Parser)]
#[command(about = "Measure the system; figures of other areas stay as they are")]
struct Args {
    /// What to measure; everything if not given.
    #[arg(value_enum)]
    area: Vec<Area>,
    /// Parameter set of the area of processes.
    #[cfg(feature = "processes")]
    #[arg(long, default_value = "production")]
    params: String,
    /// Decryptions per type in the area of processes.
    #[cfg(feature = "processes")]
    #[arg(long, default_value_t = 40)]
    rounds: usize,
    /// Requests at the same time in the area of processes.
    #[cfg(feature = "processes")]
    #[arg(long, default_value_t = 200)]
    burst: usize,
    /// Key generation with this parameter set only.
    #[cfg(feature = "processes")]
    #[arg(long)]
    keygen_params: Option<String>,
    /// Requests at once in the area of the relayer.
    #[cfg(feature = "processes")]
    #[arg(long, default_value_t = 4_500)]
    sustained: usize,
    /// Open requests at a restart in the area of the relayer.
    #[cfg(feature = "processes")]
    #[arg(long, default_value_t = 10_000)]
    open: usize,
    /// Requests one after the other in the area of the relayer.
    #[cfg(feature = "processes")]
    #[arg(long, default_value_t = 200)]
    single: usize,
    /// Minutes that a cold build took, if it was measured.
    #[arg(long)]
    cold_build_minutes: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Area {
    /// The engine's hot loops.
    Mpc,
    /// PRSS keys without a dealer.
    Setup,
    /// What key generation without a dealer consists of.
    Dkg,
    /// The clients of users, in Rust and JavaScript.
    #[cfg(feature = "client")]
    Client,
    /// Four processes, and the whole way of a request.
    #[cfg(feature = "processes")]
    Node,
    /// Four processes that make a key.
    #[cfg(feature = "processes")]
    Keygen,
    /// A relayer over stub parties.
    #[cfg(feature = "processes")]
    Relayer,
    /// Gas, from the pinned snapshot.
    Gas,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("repository root")?.to_path_buf();
    let areas = if args.area.is_empty() { Area::value_variants().to_vec() } else { args.area.clone() };
    let mut figures: Vec<Figure> = Vec::new();
    if let Some(minutes) = args.cold_build_minutes {
        let note = "cargo build --workspace --all-targets, dev profile, empty target folder";
        figures.push(Figure::new("build.cold_minutes", minutes, "minutes", note));
    }
    for area in areas {
        eprintln!("{area:?}");
        figures.extend(match area {
            Area::Mpc => mpc::run()?,
            Area::Setup => setup::run()?,
            Area::Dkg => dkg::run()?,
            #[cfg(feature = "client")]
            Area::Client => client::run(&root)?,
            #[cfg(feature = "processes")]
            Area::Node => {
                let sizes = node::Sizes { params: args.params.clone(), rounds: args.rounds, burst: args.burst };
                node::run_blocking(&root, &sizes)?
            }
            #[cfg(feature = "processes")]
            Area::Keygen => keygen::run_blocking(&root, args.keygen_params.as_deref())?,
            #[cfg(feature = "processes")]
            Area::Relayer => {
                let (single, sustained, open) = (args.single, args.sustained, args.open);
                relayer::run_blocking(relayer::Sizes { single, sustained, open })?
            }
            Area::Gas => gas::run(&root)?,
        });
    }
    for figure in &figures {
        println!("{:<28} {:>14} {}", figure.name, figure.value, figure.unit);
    }
    let mut report = Report::open(&root.join("bench/report.json"));
    report.merge(figures);
    report.save(&root)
}
