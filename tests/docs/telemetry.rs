//! Metrics in documents, alerts and the dashboard are those of the program.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use portcullis_server::telemetry::{FAMILIES, Kind};

use crate::{document, plain, same, table};

const ALERTS: &str = "deploy/prometheus/alerts.yaml";
const DASHBOARD: &str = "deploy/grafana/portcullis.json";

#[test]
fn the_telemetry_guide_lists_every_metric_with_type_unit_labels_and_meaning() {
    let rows = table(&document("docs/telemetry.md"), "| metric | type | unit | labels | means |");
    let written: Vec<_> = rows
        .iter()
        .map(|row| {
            let labels = row[3].replace(['`', ' '], "");
            (plain(&row[0]).to_owned(), row[1].clone(), row[2].clone(), labels, row[4].clone())
        })
        .collect();
    let there: Vec<_> = FAMILIES
        .iter()
        .map(|family| {
            let (name, kind, unit) = (family.name.into(), family.kind.as_str().into(), family.unit.into());
            (name, kind, unit, family.labels.join(","), family.help.to_owned())
        })
        .collect();
    same("metrics in docs/telemetry.md", &written, &there);
}

#[test]
fn names_of_metrics_say_unit_and_kind() {
    for family in FAMILIES {
        let name = family.name;
        assert!(name.starts_with("portcullis_") || name.starts_with("process_"), "{name}");
        assert_eq!(family.kind == Kind::Counter, name.ends_with("_total"), "{name}");
        let base = name.strip_suffix("_total").unwrap_or(name);
        assert!(family.unit.is_empty() || base.ends_with(&format!("_{}", family.unit)), "{name}");
    }
}

/// Returns the names that look like metrics of ours, as a query has them.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("portcullis_") || word.starts_with("process_")).collect()
}

#[test]
fn alerts_and_dashboard_name_metrics_that_are_there() {
    for file in [ALERTS, "deploy/prometheus/alerts.test.yaml", DASHBOARD] {
        let text = document(file);
        let names = named(&text);
        assert!(names.len() > 5, "{file} names {names:?}");
        for name in names {
            let there = FAMILIES.iter().any(|family| {
                let ends: &[&str] = match family.kind {
                    Kind::Histogram => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                ends.iter().any(|end| name == format!("{}{end}", family.name))
            });
            assert!(there, "{file} names `{name}`, which is no metric");
        }
    }
}

#[test]
fn the_dashboard_is_json_whose_panels_have_room_and_a_query() {
    let dashboard: serde_json::Value = serde_json::from_str(&document(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut places = BTreeSet::new();
    for panel in panels {
        let place = &panel["gridPos"];
        let (x, y, w) =
            (place["x"].as_u64().unwrap(), place["y"].as_u64().unwrap(), place["w"].as_u64().unwrap());
        assert!(x + w <= 24 && places.insert((y, x)), "{panel}");
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{panel}");
    }
}

#[test]
fn the_guide_says_of_every_alert_what_to_look_at() {
    let (alerts, guide) = (document(ALERTS), document("docs/telemetry.md"));
    let names = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    assert!(names.clone().count() > 5);
    for name in names {
        assert!(
            guide.contains(&format!("`{name}`")),
            "docs/telemetry.md does not say what `{name}` is about"
        );
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "promtool is no command of the service's")]
fn prometheus_finds_nothing_wrong_with_the_alerts_and_they_fire_when_they_should() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/prometheus");
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]] {
        let Ok(output) = Command::new("promtool").args(arguments).current_dir(&directory).output() else {
            let why = "promtool is not here: nothing of Prometheus' own has looked at the alerts";
            assert!(std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_none(), "{why}");
            eprintln!("SKIPPED: {why}");
            return;
        };
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }
}
