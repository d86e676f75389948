//! Relayers that are killed and started again: at every commit once, or whenever it pleases somebody.
//!
//! This binary is the relayer: it starts itself again with another first argument, as a process with the relayer's own code
//! and a witness in its database. What it knows about earlier lives it reads from a file.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use kms_relayer::{
    config::Config,
    store::{Move, Side, Witness, Write},
};
use kms_tests::{
    ground::{Candidate, Relayer},
    process::Process,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rustix::process::{Signal, getpid, kill_process};
use tokio_util::sync::CancellationToken;

/// First argument of a relayer process.
const CALLED: &str = "relayer-that-is-killed";
/// Names the file with the points at which it was killed before.
const DEATHS: &str = "KMS_TEST_DEATHS";

/// If this process was started as a relayer: runs it to its end.
pub(crate) fn called() -> Option<ExitCode> {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() != Some(CALLED) {
        return None;
    }
    Some(match args.next().context("no configuration").and_then(|config| live(Path::new(&config))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relayer: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn live(config: &Path) -> Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = Config::load(config, std::env::vars())?;
    let witness: Arc<dyn Witness> = Arc::new(Killer::open(Path::new(&std::env::var(DEATHS)?))?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    Ok(runtime.block_on(kms_relayer::run_before(config, Some(witness)))?)
}

/// Kills the process at the first point at which none of its predecessors died.
#[derive(Debug)]
struct Killer {
    died_at: Mutex<BTreeSet<String>>,
    file: Mutex<File>,
}

impl Killer {
    fn open(path: &Path) -> Result<Self> {
        let died_at = points(path)?;
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { died_at: Mutex::new(died_at), file: Mutex::new(file) })
    }
}

impl Witness for Killer {
    fn commit(&self, side: Side, write: Write, moves: &[Move]) {
        let died_at = self.died_at.lock().unwrap_or_else(PoisonError::into_inner);
        let here = std::iter::once(name(side, write)).chain(moves.iter().map(|moved| name_of_move(side, moved)));
        let new: String = here.filter(|point| !died_at.contains(point)).map(|point| format!("{point}\n")).collect();
        if new.is_empty() {
            return;
        }
        // What was given to the kernel outlives the process. Nobody else commits anything meanwhile: the lock is held.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.write_all(new.as_bytes()).is_ok() {
            let _ = kill_process(getpid(), Signal::KILL);
        }
        loop {
            std::thread::park();
        }
    }
}

/// Name of a side of a commit.
pub(crate) fn name(side: Side, write: Write) -> String {
    format!("{side:?} {write:?}")
}

/// Name of a side of a move.
pub(crate) fn name_of_move(side: Side, moved: &Move) -> String {
    format!("{side:?} {moved}")
}

fn points(path: &Path) -> Result<BTreeSet<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error.into()),
    }
}

/// When a relayer dies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    /// At every commit once.
    EveryPoint,
    /// After so many milliseconds at least and at most, again and again.
    AnyMoment {
        /// Where the moments come from.
        seed: u64,
        /// At least.
        least: u64,
        /// At most.
        most: u64,
    },
}

/// A relayer under its fate. Started again as soon as it is dead.
#[derive(Debug)]
pub(crate) struct Doomed {
    /// The relayer.
    pub(crate) relayer: Arc<tokio::sync::Mutex<Relayer>>,
    config: PathBuf,
    deaths: PathBuf,
    mercy: CancellationToken,
    keeper: tokio::task::JoinHandle<Result<u32>>,
}

impl Doomed {
    /// Starts it, with more in its environment than its configuration asks for.
    pub(crate) async fn start(
        candidate: Candidate<'_>,
        home: &Path,
        fate: Fate,
        told: &[(String, String)],
    ) -> Result<Self> {
        let deaths = home.join("deaths");
        let relayer = match fate {
            Fate::EveryPoint => {
                let exe = std::env::current_exe()?;
                let mut told = told.to_vec();
                told.push((DEATHS.to_owned(), deaths.display().to_string()));
                candidate.start_as(&exe, &[CALLED], &told).await?
            }
            Fate::AnyMoment { .. } => candidate.start().await?,
        };
        let config = home.join(format!("{}.toml", relayer.process.name()));
        let relayer = Arc::new(tokio::sync::Mutex::new(relayer));
        let mercy = CancellationToken::new();
        let keeper = tokio::spawn(keep(relayer.clone(), deaths.clone(), fate, mercy.clone()));
        Ok(Self { relayer, config, deaths, mercy, keeper })
    }

    /// Where it died so far.
    pub(crate) fn died_at(&self) -> Result<BTreeSet<String>> {
        points(&self.deaths)
    }

    /// Kills it, and starts it again with its first configuration as `change` makes it.
    pub(crate) async fn call_with(&self, change: impl Fn(&str) -> String) -> Result<()> {
        let mut relayer = self.relayer.lock().await;
        relayer.process.kill();
        let changed = self.config.with_extension("changed.toml");
        std::fs::write(&changed, change(&std::fs::read_to_string(&self.config)?))?;
        relayer.process.set_args(vec![CALLED.to_owned(), changed.display().to_string()]);
        relayer.process.restart()
    }

    /// Whether it still is what its fate wants; an error otherwise.
    pub(crate) async fn check(&mut self) -> Result<()> {
        if self.keeper.is_finished() {
            let died = (&mut self.keeper).await??;
            bail!("nobody keeps the relayer any more, after {died} deaths");
        }
        Ok(())
    }

    /// Ends the killing; the relayer lives. Says how often it died.
    pub(crate) async fn spare(self) -> Result<(Arc<tokio::sync::Mutex<Relayer>>, u32)> {
        self.mercy.cancel();
        let died = self.keeper.await??;
        Ok((self.relayer, died))
    }
}

async fn keep(
    relayer: Arc<tokio::sync::Mutex<Relayer>>,
    deaths: PathBuf,
    fate: Fate,
    mercy: CancellationToken,
) -> Result<u32> {
    let mut died = 0;
    let mut known = 0;
    let mut dice = StdRng::seed_from_u64(if let Fate::AnyMoment { seed, .. } = fate { seed } else { 0 });
    while !mercy.is_cancelled() {
        let pause = match fate {
            Fate::EveryPoint => 3,
            Fate::AnyMoment { least, most, .. } => dice.random_range(least..=most),
        };
        tokio::select! {
            () = mercy.cancelled() => break,
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
        }
        let mut relayer = relayer.lock().await;
        if matches!(fate, Fate::AnyMoment { .. }) {
            ensure!(relayer.process.is_running(), "it ended by itself\n{}", relayer.process.log_tail(30));
            relayer.process.kill();
        } else if relayer.process.is_running() {
            continue;
        } else {
            let points = points(&deaths)?.len();
            ensure!(points > known, "it ended by itself\n{}", relayer.process.log_tail(30));
            known = points;
        }
        died += 1;
        restart(&mut relayer.process)?;
    }
    Ok(died)
}

fn restart(process: &mut Process) -> Result<()> {
    process.kill();
    process.restart()
}
