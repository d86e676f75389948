//! For tests: whether alert rules and dashboards ask for what is exported.

use std::collections::BTreeSet;

use yaml_rust2::{Yaml, YamlLoader};

use crate::Exported;

/// An alert of a rule file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Name.
    pub name: String,
    /// PromQL.
    pub expr: String,
    /// How long it must hold, as Prometheus writes durations.
    pub hold: String,
    /// `critical`, `warning` or `info`.
    pub severity: String,
    /// One sentence.
    pub summary: String,
    /// Where to read what to do.
    pub runbook: String,
}

/// Reads a Prometheus rule file in which every rule is an alert with severity, summary and runbook.
///
/// # Errors
/// What is missing, and where.
pub fn alerts(yaml: &str) -> Result<Vec<Alert>, String> {
    let documents = YamlLoader::load_from_str(yaml).map_err(|e| e.to_string())?;
    let groups = documents.first().and_then(|d| d["groups"].as_vec()).ok_or("there are no groups")?;
    let rules =
        groups.iter().map(|g| g["rules"].as_vec().ok_or("a group has no rules")).collect::<Result<Vec<_>, _>>()?;
    rules
        .into_iter()
        .flatten()
        .map(|rule| {
            let name = rule["alert"].as_str().ok_or("a rule is no alert")?;
            let text = |place: &Yaml, what: &str| {
                let text = place.as_str().map(str::trim).filter(|text| !text.is_empty());
                text.map(str::to_owned).ok_or(format!("{name} has no {what}"))
            };
            Ok(Alert {
                expr: text(&rule["expr"], "expr")?,
                hold: text(&rule["for"], "for")?,
                severity: text(&rule["labels"]["severity"], "severity")?,
                summary: text(&rule["annotations"]["summary"], "summary")?,
                runbook: text(&rule["annotations"]["runbook_url"], "runbook_url")?,
                name: name.to_owned(),
            })
        })
        .collect()
}

/// Labels that Prometheus adds when it scrapes.
const SCRAPED: [&str; 2] = ["job", "instance"];
/// Series that Prometheus makes.
const MADE: [&str; 1] = ["up"];
/// What may stand before a parenthesis. A function that is missing here is added when it is used.
const FUNCTIONS: [&str; 14] = [
    "sum",
    "max",
    "min",
    "avg",
    "count",
    "rate",
    "increase",
    "changes",
    "delta",
    "histogram_quantile",
    "clamp_min",
    "time",
    "topk",
    "label_values",
];
/// What labels may follow.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Words between two expressions.
const OPERATORS: [&str; 4] = ["and", "or", "unless", "bool"];

/// What is wrong with an expression: names that nothing exports, labels that a metric does not have, and parentheses that don't
/// close.
#[must_use]
pub fn problems(expr: &str, exported: &[Exported]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut labels: BTreeSet<&str> = SCRAPED.into();
    let (tokens, unbalanced) = tokens(expr);
    problems.extend(unbalanced);
    let mut named = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let next = tokens.get(at + 1).copied().unwrap_or_default();
        let token = tokens[at];
        at += 1;
        // A label by itself stands only where a dashboard asks for its values.
        if !token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') || SCRAPED.contains(&token) {
            continue;
        }
        if BEFORE_LABELS.contains(&token) && next == "(" {
            while let Some(label) = tokens.get(at).copied().filter(|label| *label != ")") {
                named.extend((label != "(" && label != ",").then_some(label));
                at += 1;
            }
        } else if next == "(" || ["by", "without"].contains(&next) {
            problems
                .extend((!FUNCTIONS.contains(&token)).then(|| format!("{token}() is not a function that is known")));
        } else if !OPERATORS.contains(&token) {
            let of = exported.iter().find_map(|metric| metric.labels_of(token));
            let of = of.or_else(|| MADE.contains(&token).then(Vec::new));
            if of.is_none() {
                problems.push(format!("nothing exports {token}"));
            }
            let of = of.unwrap_or_default();
            if next == "{" {
                at += 1;
                while let Some(matcher) = tokens.get(at).copied().filter(|token| *token != "}") {
                    let is_label = matcher.starts_with(|c: char| c.is_ascii_alphabetic());
                    if is_label && !of.contains(&matcher) && !SCRAPED.contains(&matcher) {
                        problems.push(format!("{token} has no label {matcher}"));
                    }
                    at += 1;
                }
            }
            labels.extend(of);
        }
    }
    problems.extend(
        named.into_iter().filter(|label| !labels.contains(label)).map(|label| format!("no metric has {label}")),
    );
    problems
}

/// Names and punctuation of an expression, without strings, numbers and ranges; and a word if its brackets don't match.
fn tokens(expr: &str) -> (Vec<&str>, Option<String>) {
    let bytes = expr.as_bytes();
    let (mut tokens, mut open, mut at) = (Vec::new(), Vec::new(), 0);
    let mut unbalanced = None;
    while at < bytes.len() {
        let start = at;
        let class = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'.');
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                at += 1 + bytes[at + 1..].iter().position(|b| *b == quote).unwrap_or(bytes.len() - at - 1) + 1;
            }
            // A range: nothing in it is a name.
            b'[' => {
                let length = bytes[at..].iter().position(|b| *b == b']');
                unbalanced = unbalanced.or(length.is_none().then(|| format!("a range does not end in {expr}")));
                at += length.unwrap_or(bytes.len() - at - 1) + 1;
            }
            b if class(b) => {
                at += bytes[at..].iter().take_while(|b| class(**b)).count();
                tokens.extend((!b.is_ascii_digit()).then(|| &expr[start..at]));
            }
            b'$' => at += 1 + bytes[at + 1..].iter().take_while(|b| class(**b)).count(),
            bracket => {
                match bracket {
                    b'(' | b'{' => open.push(bracket),
                    b')' | b'}' if open.pop() != Some(if bracket == b')' { b'(' } else { b'{' }) => {
                        unbalanced = Some(format!("brackets don't match in {expr}"));
                    }
                    _ => {}
                }
                at += 1;
                tokens.extend(b"(){},".contains(&bracket).then(|| &expr[start..at]));
            }
        }
    }
    if unbalanced.is_none() && !open.is_empty() {
        unbalanced = Some(format!("brackets are left open in {expr}"));
    }
    (tokens, unbalanced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_exported_is_found() {
        let metric = |name: &str, labels: &[&str], histogram| Exported {
            name: name.into(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            histogram,
        };
        let exported = [metric("a_total", &["kind"], false), metric("b_seconds", &["stage"], true)];
        for good in [
            "a_total > 0",
            "up{job=\"kms\"} == 0",
            "sum by (instance, kind) (rate(a_total{kind=~\"x|(y)\", instance='z'}[5m])) > 1e3",
            "histogram_quantile(0.99, sum by (le, stage) (rate(b_seconds_bucket{stage=\"x\"}[$__rate_interval]))) > 2",
            "a_total > on (kind) group_left () a_total unless b_seconds_count > 0",
            "time() - a_total",
        ] {
            assert_eq!(problems(good, &exported), Vec::<String>::new(), "{good}");
        }
        for (bad, part) in [
            ("c_total > 0", "nothing exports c_total"),
            ("b_seconds > 0", "nothing exports b_seconds"),
            ("a_total_bucket > 0", "nothing exports"),
            ("a_total{stage=\"x\"}", "has no label stage"),
            ("b_seconds_sum{le=\"1\"}", "has no label le"),
            ("sum by (peer) (a_total)", "no metric has peer"),
            ("ratio(a_total)", "ratio()"),
            ("sum(a_total", "left open"),
            ("sum(a_total})", "don't match"),
            ("rate(a_total[5m)", "does not end"),
        ] {
            let found = problems(bad, &exported);
            assert!(found.iter().any(|problem| problem.contains(part)), "{bad}: {found:?}");
        }
    }

    #[test]
    fn an_alert_says_what_it_is_about() {
        let good = "groups:\n- name: a\n  rules:\n  - alert: Down\n    expr: up == 0\n    for: 2m\n    labels: {severity: critical}\n    \
                    annotations: {summary: It is down., runbook_url: 'r#down'}\n";
        let read = alerts(good).unwrap();
        assert_eq!((read[0].name.as_str(), read[0].hold.as_str(), read[0].runbook.as_str()), ("Down", "2m", "r#down"));
        for missing in ["severity: critical", "    for: 2m\n", "summary: It is down.,"] {
            assert!(alerts(&good.replace(missing, "")).is_err(), "{missing}");
        }
        assert!(alerts("groups: [").is_err() && alerts("").is_err());
    }
}
