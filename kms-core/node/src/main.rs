//! `kms-node`: one party of the KMS.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use kms_node::commands::{check, import, init, run};
use kms_node::config::{Config, Log};
use kms_node::startup::Level;
use kms_telemetry::Telemetry;

/// Name of this process in traces.
const SERVICE: &str = "kms-node";

/// One party of the key management service.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a party: its signing key, its TLS root, its public card.
    Init(init::Args),
    /// Seals the share that a dealer made for this party and signs the registration of the key.
    Import(import::Args),
    /// Runs the party.
    Run(run::Args),
    /// Verifies what `run` would verify, and prints one table.
    Check(check::Args),
}

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("kms-node: {}", in_one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes; most errors name their cause themselves, and once is enough.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if !line.contains(&cause) {
            line += if line.is_empty() { "" } else { ": " };
            line += &cause;
        }
    }
    line
}

fn start() -> Result<ExitCode> {
    // Two TLS providers in one binary would panic at the first handshake: choose before anything else runs.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        anyhow::bail!("a TLS provider was installed already");
    }
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    match cli.command {
        Command::Init(args) => {
            let _log = log_to_stderr(&Log::default())?;
            let card = init::run(&args).context("init")?;
            println!("party {} signs with {}", card.name, card.signer);
            Ok(ExitCode::SUCCESS)
        }
        Command::Import(args) => {
            let _log = log_to_stderr(&Log::default())?;
            let imported = runtime.block_on(import::run(&args)).context("import")?;
            println!(
                "sealed the share of key {} ({}) in epoch {}",
                imported.key_id, imported.params, imported.epoch_id
            );
            if imported.signatures.is_empty() {
                println!("the registration of the key is not signed: no public keys or no chain were given");
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Run(args) => {
            let config = Config::read(&args.config)?;
            let _runtime = runtime.enter();
            let instance = format!("party {}", config.index);
            let Log { level, format } = &config.log;
            let _telemetry = kms_telemetry::start(level, *format, config.traces.as_ref(), SERVICE, &instance)?;
            runtime.block_on(run::run(&config, args.insecure_misbehave)).context("run")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(args) => {
            let _log = log_to_stderr(&Log { level: "error".into(), ..Log::default() })?;
            let table = runtime.block_on(check::run(&args)).context("check")?;
            if args.json {
                println!("{}", serde_json::to_string_pretty(&table)?);
            } else {
                print!("{table}");
            }
            Ok(if table.worst() == Level::Broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
    }
}

/// Logs of a command that nobody traces.
fn log_to_stderr(log: &Log) -> Result<Telemetry> {
    Ok(kms_telemetry::start(&log.level, log.format, None, SERVICE, "")?)
}
