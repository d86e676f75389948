//! `kms-coprocessor`: verifies encrypted inputs, computes, squashes, stores and commits.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};
use kms_coprocessor::{
    Config,
    config::{LogConfig, LogFormat},
    service::{self, Service},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// The reference coprocessor of the KMS.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs until SIGINT or SIGTERM.
    Run {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Checks the configuration, the manifest, the key bundle, the chains and this signer's standing.
    CheckConfig {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed"))?;
    match Arguments::parse().command {
        Command::Run { config } => {
            let config = Config::load(&config)?;
            start_log(&config.log)?;
            run(config).await
        }
        Command::CheckConfig { config } => {
            let config = Config::load(&config)?;
            start_log(&config.log)?;
            service::check(&config).await?;
            println!("configuration is in order");
            Ok(())
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let cancel = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let stop = cancel.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping; operations under way are finished first");
        stop.cancel();
    });
    let prepared = cancel.run_until_cancelled(Service::prepare(config)).await;
    let Some(service) = prepared.transpose()? else { return Ok(()) };
    tracing::info!(address = %service.address(), "ready");
    Ok(service.run(cancel).await?)
}

fn start_log(config: &LogConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.level).context("log.level")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
