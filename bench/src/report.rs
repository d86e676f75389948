//! `bench/report.json`, and the table in `docs/performance.md` made from it.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One figure. Names are stable across versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// Stable name, for instance `mpc.mask.n13`.
    pub(crate) name: String,
    /// The value; medians unless the name says otherwise.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: String,
    /// What was measured, and how.
    pub(crate) note: String,
}

impl Figure {
    /// A figure.
    pub(crate) fn new(name: &str, value: f64, unit: &str, note: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: round(value), unit: unit.to_owned(), note: note.into() }
    }
}

/// The whole report.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Processor, cores, memory.
    pub(crate) machine: String,
    /// Commit that was measured.
    pub(crate) commit: String,
    /// Figures by name.
    pub(crate) results: Vec<Figure>,
}

impl Report {
    /// Reads the report in `path`, or starts one.
    pub(crate) fn open(path: &Path) -> Self {
        fs::read_to_string(path).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Takes new figures over older ones of the same name.
    pub(crate) fn merge(&mut self, figures: Vec<Figure>) {
        for figure in figures {
            match self.results.iter_mut().find(|known| known.name == figure.name) {
                Some(known) => *known = figure,
                None => self.results.push(figure),
            }
        }
        self.results.sort_by(|a, b| a.name.cmp(&b.name));
        self.machine = machine();
        self.commit = commit();
    }

    /// Writes the report and the table in the documentation.
    ///
    /// # Errors
    /// A file can't be written, or the documentation has no place for the table.
    pub(crate) fn save(&self, root: &Path) -> Result<()> {
        fs::write(root.join("bench/report.json"), serde_json::to_string_pretty(self)? + "\n")?;
        let page = root.join("docs/performance.md");
        let text = fs::read_to_string(&page).context("docs/performance.md")?;
        let (head, rest) = text.split_once(BEGIN).context("docs/performance.md has no begin mark")?;
        let (_, tail) = rest.split_once(END).context("docs/performance.md has no end mark")?;
        fs::write(&page, format!("{head}{BEGIN}\n{}{END}{tail}", self.table()))?;
        Ok(())
    }

    fn table(&self) -> String {
        let mut out = format!(
            "Machine: {}. Commit: {}.\n\n| name | value | unit | what |\n|---|---|---|---|\n",
            self.machine, self.commit
        );
        for figure in &self.results {
            out += &format!("| `{}` | {} | {} | {} |\n", figure.name, figure.value, figure.unit, figure.note);
        }
        out
    }
}

const BEGIN: &str = "<!-- report:begin -->";
const END: &str = "<!-- report:end -->";

fn round(value: f64) -> f64 {
    let digits = if value >= 1000.0 { 0 } else { 2 };
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("?")
        .trim_start_matches(['\t', ' ', ':']);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0);
    format!("{model}, {cores} cores, {} GiB", (kib + (1 << 19)) >> 20)
}

fn commit() -> String {
    Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .output()
        .map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
        .unwrap_or_default()
}

/// Median of several values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    percentile(&mut values, 0.5)
}

/// A percentile by nearest rank; `share` from 0 to 1.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "small counts"
    )]
    let rank = (share * last as f64).round() as usize;
    values.get(rank).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::{Figure, Report, percentile};

    #[test]
    fn a_new_figure_replaces_the_old_one_of_its_name() {
        let mut report = Report::default();
        report.merge(vec![Figure::new("b", 1.0, "ms", ""), Figure::new("a", 2.0, "ms", "")]);
        report.merge(vec![Figure::new("b", 3.456, "ms", "")]);
        let values: Vec<_> = report.results.iter().map(|figure| (figure.name.as_str(), figure.value)).collect();
        assert_eq!(values, [("a", 2.0), ("b", 3.46)]);
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&mut values, 0.99), 99.0);
        assert_eq!(percentile(&mut values, 0.0), 1.0);
    }
}
