//! Gas figures: what the contracts' tests pin and compare in every run.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};

use crate::report::Figure;

/// Reads the snapshot of the contracts' tests.
///
/// # Errors
/// It is missing or malformed.
pub(crate) fn run(root: &Path) -> Result<Vec<Figure>> {
    let path = root.join("contracts/test/gas/gas.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let snapshot: BTreeMap<String, f64> = serde_json::from_str(&text).context("gas snapshot")?;
    let note = "execution, cold storage, without calldata; compared in every test run";
    Ok(snapshot.into_iter().map(|(name, gas)| Figure::new(&name, gas, "gas", note)).collect())
}
