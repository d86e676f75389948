//! What a process exports to Prometheus, by name.

/// A metric as rules and dashboards name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Vec<String>,
    /// Whether it is a histogram, whose series are `name_bucket` (with the label `le`), `name_sum` and `name_count`.
    pub histogram: bool,
}

impl Exported {
    /// The labels of a series, if it is one of this metric's.
    #[must_use]
    pub fn labels_of(&self, series: &str) -> Option<Vec<&str>> {
        let suffix = series.strip_prefix(self.name.as_str())?;
        let labels = self.labels.iter().map(String::as_str);
        match (self.histogram, suffix) {
            (false, "") | (true, "_sum" | "_count") => Some(labels.collect()),
            (true, "_bucket") => Some(labels.chain(["le"]).collect()),
            _ => None,
        }
    }
}
