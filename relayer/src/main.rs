//! `kms-relayer`: the relayer's process.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kms_relayer::config::Config;

#[derive(Debug, Parser)]
#[command(version, about = "Watches decryption requests, asks the KMS parties, and posts their answers.")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs until SIGTERM or SIGINT.
    Run {
        /// Configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Checks configuration, manifest, certificate and key without connecting to anything.
    CheckConfig {
        /// Configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Makes a key for the HTTP API, and the hash of it that belongs into the configuration.
    NewKey,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kms-relayer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
    match args.command {
        Command::CheckConfig { config } => {
            let config = Config::load(&config, std::env::vars())?;
            println!("{}", kms_relayer::check(&config)?);
            Ok(())
        }
        Command::Run { config } => {
            let config = Config::load(&config, std::env::vars())?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let _runtime = runtime.enter();
            let (log, traces) = (&config.log, config.traces.as_ref());
            let _telemetry = kms_telemetry::start(&log.level, log.format, traces, "kms-relayer", &config.instance)?;
            Ok(runtime.block_on(kms_relayer::run(config))?)
        }
        Command::NewKey => {
            let (key, sha256) = kms_relayer::http::new_key();
            println!("key (shown once, for its holder): {key}\n\n[[access.keys]]\nname = \"…\"\nsha256 = \"{sha256}\"");
            Ok(())
        }
    }
}
