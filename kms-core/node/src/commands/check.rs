//! `kms-node check`: the verification of start-up, without serving anything.

use std::path::PathBuf;
use std::sync::Arc;

use super::{CommandError, boot};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::startup::Table;

/// Arguments of `kms-node check`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Configuration of the party.
    #[arg(long)]
    pub config: PathBuf,
    /// Print the table as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Verifies everything that start-up verifies.
///
/// # Errors
/// What a party can't run without.
pub async fn run(args: &Args) -> Result<Table, CommandError> {
    let config = Config::read(&args.config)?;
    let metrics = Metrics::new().map_err(|e| CommandError::Internal(e.to_string()))?;
    Ok(boot(&config, Arc::new(metrics)).await?.table)
}
