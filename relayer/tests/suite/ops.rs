//! What operators load into Prometheus and Grafana asks for what is exported, and every alert says what to do.

use std::path::PathBuf;

use kms_relayer::metrics::Metrics;
use kms_telemetry::check;
use serde_json::Value;

fn file(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn alert_rules_ask_for_what_is_exported() {
    let metrics = Metrics::default();
    let alerts = check::alerts(&file("ops/prometheus/relayer.rules.yml")).unwrap();
    assert!(alerts.len() > 20);
    for alert in &alerts {
        let problems = check::problems(&alert.expr, metrics.exported());
        assert!(problems.is_empty(), "{}: {problems:?}", alert.name);
        assert!(["critical", "warning", "info"].contains(&alert.severity.as_str()), "{}", alert.name);
    }
    // What must never be without an alarm.
    for name in ["RelayerBalanceLow", "RelayerChainUnreachable", "RelayerTransactionsStuck", "RelayerPartyLies"] {
        assert!(alerts.iter().any(|alert| alert.name == name), "{name}");
    }
}

#[test]
fn every_alert_has_its_paragraph_and_every_paragraph_its_alert() {
    let runbook = file("docs/runbook.md");
    let paragraphs: Vec<(&str, &str)> = runbook
        .split("\n### ")
        .skip(1)
        .map(|section| section.split_once('\n').unwrap_or((section, "")))
        .map(|(title, text)| (title, text.split("\n## ").next().unwrap_or_default().trim()))
        .collect();
    let mut named = Vec::new();
    for rules in ["ops/prometheus/relayer.rules.yml", "ops/prometheus/node.rules.yml"] {
        for alert in check::alerts(&file(rules)).unwrap() {
            assert_eq!(alert.runbook, format!("docs/runbook.md#{}", alert.name.to_lowercase()));
            let text = paragraphs.iter().find(|(title, _)| *title == alert.name).map(|(_, text)| *text);
            assert!(text.is_some_and(|text| text.len() > 100), "{} has no paragraph", alert.name);
            named.push(alert.name);
        }
    }
    for (title, _) in paragraphs {
        assert!(named.iter().any(|name| name == title), "nothing alerts of {title}");
    }
}

/// Everything under a key of that name, wherever it stands.
fn under<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(key));
            map.values().for_each(|value| under(value, key, found));
        }
        Value::Array(list) => list.iter().for_each(|value| under(value, key, found)),
        _ => {}
    }
}

#[test]
fn dashboards_ask_for_what_is_exported() {
    let metrics = Metrics::default();
    let dashboard: Value = serde_json::from_str(&file("ops/grafana/relayer.json")).unwrap();
    let (mut asked, mut ids) = (Vec::new(), Vec::new());
    under(&dashboard["panels"], "expr", &mut asked);
    asked.push(&dashboard["templating"]["list"][1]["query"]);
    assert!(asked.len() > 30);
    for expr in &asked {
        let problems = check::problems(expr.as_str().unwrap(), metrics.exported());
        assert!(problems.is_empty(), "{expr}: {problems:?}");
    }
    // Whatever is exported is shown.
    for metric in metrics.exported() {
        assert!(asked.iter().any(|expr| expr.as_str().unwrap().contains(&metric.name)), "{} is not shown", metric.name);
    }
    for panel in dashboard["panels"].as_array().unwrap() {
        ids.push(panel["id"].as_u64().unwrap());
        assert!(panel["title"].as_str().is_some_and(|title| !title.is_empty()));
        assert!(panel["type"] == "row" || panel["description"].as_str().is_some_and(|text| !text.is_empty()));
    }
    let n = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), n, "panels have the same id");
}
