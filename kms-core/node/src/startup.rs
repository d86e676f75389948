//! The verification of everything that this party stores and depends on, in one table.

use std::fmt;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Good,
    /// Worth an operator's look; everything works.
    Warning,
    /// Something does not work; the party runs without it.
    Broken,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub subject: String,
    /// How bad it is.
    pub level: Level,
    /// In words.
    pub detail: String,
}

/// What start-up, `kms-node check` and `kms doctor` show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Table {
    /// The lines, in the order of the checks.
    pub findings: Vec<Finding>,
}

impl Table {
    /// Adds a line.
    pub fn add(&mut self, level: Level, subject: impl Into<String>, detail: impl Into<String>) {
        self.findings.push(Finding { subject: subject.into(), level, detail: detail.into() });
    }

    /// Adds a line that says good, or what is broken.
    pub fn record<E: fmt::Display>(&mut self, subject: impl Into<String>, outcome: Result<String, E>) {
        match outcome {
            Ok(detail) => self.add(Level::Good, subject, detail),
            Err(problem) => self.add(Level::Broken, subject, problem.to_string()),
        }
    }

    /// The worst of all lines.
    pub fn worst(&self) -> Level {
        self.findings.iter().map(|f| f.level).max().unwrap_or(Level::Good)
    }

    /// Writes each line to the log.
    pub fn log(&self) {
        for Finding { subject, level, detail } in &self.findings {
            match level {
                Level::Good => tracing::info!(%subject, %detail, "check"),
                Level::Warning => tracing::warn!(%subject, %detail, "check"),
                Level::Broken => tracing::error!(%subject, %detail, "check"),
            }
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.findings.iter().map(|f| f.subject.chars().count()).max().unwrap_or(0);
        for Finding { subject, level, detail } in &self.findings {
            let mark = match level {
                Level::Good => "ok  ",
                Level::Warning => "WARN",
                Level::Broken => "BAD ",
            };
            writeln!(f, "{mark}  {subject:width$}  {detail}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_and_knows_its_worst_line() {
        let mut table = Table::default();
        assert_eq!(table.worst(), Level::Good);
        table.add(Level::Good, "manifest", "4 parties");
        table.record("rpc", Err::<String, _>("no answer"));
        assert_eq!(table.worst(), Level::Broken);
        assert_eq!(table.to_string(), "ok    manifest  4 parties\nBAD   rpc       no answer\n");
    }
}
