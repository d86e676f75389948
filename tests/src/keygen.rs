//! Keys that the parties make together, through the operator's tool.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use alloy::primitives::B256;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{
    anvil::Role,
    cluster::{Cluster, Options, Progress},
    parties, paths, process,
};

/// A line about what is being made at least so often.
const EVERY: Duration = Duration::from_secs(5);

/// The reference string of a deployment in its object store; returns the digest.
fn reference_string(options: &Options) -> Result<String> {
    fs::create_dir_all(&options.crs_cache)?;
    let store = options.home.join("objects");
    let printed = process::run(
        &paths::binary("kms")?,
        &[
            "--json",
            "crs",
            "--insecure-local",
            "--params",
            &options.params,
            "--store",
            &store.display().to_string(),
            "--cache",
            &options.crs_cache.display().to_string(),
        ],
        &[],
        &options.home,
    )?;
    let value: Value = serde_json::from_str(&printed).context("kms crs")?;
    Ok(value["crsDigest"].as_str().context("kms crs names no digest")?.to_owned())
}

/// An id that no run has had.
#[must_use]
pub fn new_run() -> String {
    B256::from(rand::random::<[u8; 32]>()).to_string()
}

/// The id of the run that makes the key of a home. One that was interrupted goes on under the same.
fn run_id(home: &Path) -> Result<String> {
    let path = home.join("keygen/run-id");
    if let Ok(id) = fs::read_to_string(&path) {
        return Ok(id);
    }
    let id = new_run();
    fs::create_dir_all(home.join("keygen"))?;
    fs::write(&path, &id)?;
    Ok(id)
}

/// Makes the key of a deployment whose parties run, and registers it.
///
/// # Errors
/// The tool failed.
pub(crate) async fn generate(options: &Options, rpc: &str, progress: Progress<'_>) -> Result<()> {
    let out = options.home.join("keygen").display().to_string();
    let id = run_id(&options.home)?;
    let mut run = Keygen::start(options, &id, &["--rpc", rpc, "--out", &out])?;
    let mut last: (String, Option<Instant>) = Default::default();
    while let Some(event) = run.event().await? {
        if event["event"] != "progress" {
            continue;
        }
        let phase = event["phase"].as_str().unwrap_or_default();
        if last.0 != phase || last.1.is_none_or(|at| at.elapsed() > EVERY) {
            last = (phase.to_owned(), Some(Instant::now()));
            progress(&describe(&event));
        }
    }
    run.finished().await.map(drop)
}

fn describe(event: &Value) -> String {
    let number = |name: &str| event[name].as_u64().unwrap_or_default();
    let mut line = format!("key: {}", event["phase"].as_str().unwrap_or_default());
    if number("chunksTotal") > 0 {
        let (done, total) = (number("chunksDone"), number("chunksTotal"));
        line += &format!(", {done} of {total} pieces ({} %)", 100 * done / total);
    }
    if number("bitsPerSecond") > 0 {
        line += &format!(", {} k random bits/s, {} MB sent", number("bitsPerSecond") / 1000, number("bytesSent") >> 20);
    }
    match event["secondsLeft"].as_u64() {
        Some(left) => line + &format!(", {} min {:02} s left", left / 60, left % 60),
        None => line,
    }
}

/// `kms keygen` at work. The parties don't need it: it may be killed and started again.
#[derive(Debug)]
pub struct Keygen {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    errors: PathBuf,
    last: Value,
}

impl Keygen {
    /// Asks all parties of a deployment for a key. Killed when dropped.
    ///
    /// # Errors
    /// The reference string can't be made, or the tool can't be started.
    pub fn start(options: &Options, run_id: &str, more: &[&str]) -> Result<Self> {
        let digest = reference_string(options)?;
        let home = options.home.display();
        let errors = options.home.join("logs/keygen.log");
        let mut child = Command::new(paths::binary("kms")?)
            .args(["--json", "keygen", "--manifest", &format!("{home}/manifest.json")])
            .args(["--client", &format!("{home}/clients/operator"), "--params", &options.params])
            .args(["--crs-digest", &digest, "--run-id", run_id])
            .args(more)
            .env("KMS_SENDER_KEY", Role::Deployer.insecure_key())
            .current_dir(&options.home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&errors)?)
            .kill_on_drop(true)
            .spawn()
            .context("start kms keygen")?;
        let lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        Ok(Self { child, lines, errors, last: Value::Null })
    }

    /// The next line that it prints; none at its end.
    ///
    /// # Errors
    /// It prints something else.
    pub async fn event(&mut self) -> Result<Option<Value>> {
        let Some(line) = self.lines.next_line().await? else { return Ok(None) };
        self.last = serde_json::from_str(&line).with_context(|| format!("kms keygen printed {line:?}"))?;
        Ok(Some(self.last.clone()))
    }

    /// Waits for its end and returns what it printed last.
    ///
    /// # Errors
    /// It failed.
    pub async fn finished(mut self) -> Result<Value> {
        while self.event().await?.is_some() {}
        if !self.child.wait().await?.success() {
            bail!("kms keygen failed: {}", fs::read_to_string(&self.errors).unwrap_or_default());
        }
        Ok(std::mem::take(&mut self.last))
    }
}

/// Waits until so much of a run is done at a party.
///
/// # Errors
/// It does not come to that within `patience`.
pub async fn reached(cluster: &Cluster, party: u32, run_id: &str, percent: u64, patience: Duration) -> Result<()> {
    let (clients, run) = (parties::operator(cluster)?, run_id.parse::<B256>()?);
    let deadline = Instant::now() + patience;
    loop {
        if let Ok(view) = clients.key_gen_status(party, Some(run)).await
            && view.chunks_total > 0
            && 100 * view.chunks_done >= percent * view.chunks_total
        {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "party {party} does not come to {percent} %\n{}", cluster.log_tails(20));
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

/// `kms keygen status` or `abort`: what every party says.
///
/// # Errors
/// The tool failed.
pub fn ask(cluster: &Cluster, what: &str, run_id: &str) -> Result<Vec<Value>> {
    let (manifest, client) = (cluster.path("manifest.json"), cluster.path("clients/operator"));
    let (manifest, client) = (manifest.display().to_string(), client.display().to_string());
    let printed =
        cluster.kms(&["--json", "keygen", what, "--manifest", &manifest, "--client", &client, "--run-id", run_id])?;
    Ok(serde_json::from_str(&printed)?)
}

/// The id of the run that made the key of a deployment.
///
/// # Errors
/// Its key was not made by a run.
pub fn last_run(cluster: &Cluster) -> Result<String> {
    fs::read_to_string(cluster.path("keygen/run-id")).context("the run id")
}
