//! `metrics.txt`: the cells' figures as OpenMetrics text, for tools that read Prometheus formats.
//!
//! As OpenMetrics 1.0 requires: base units, named in the metric's suffix; the samples of a family together; `\`, `"`
//! and line breaks escaped; `# EOF` at the end.

use std::fmt::Write;

use serde_json::{Map, Value as Json};

use super::{Exporter, Render, origin::Origin, units};
use crate::{
    format::label_value,
    report::{csv::swept, ranking::plain},
    stats::{METRICS, Metric, Summary, Unit, Waits},
};

pub(super) const EXPORTER: Exporter = Exporter {
    name: "metrics.txt",
    render: Render::File(|report| Ok(Some(render(&Origin::of(report.ranked.record), report.ranked.summary)))),
};

/// The exposition: an info metric and gauges.
fn render(origin: &Origin, summary: &Summary) -> String {
    let names = swept(summary.cells.iter().map(|cell| &cell.cell));
    let labels = label_names(&names);
    let place = |cell: &Map<String, Json>| {
        let mut place = format!("scenario=\"{}\"", label_value(&summary.scenario));
        for (name, label) in names.iter().zip(&labels) {
            let value = cell.get(*name).map_or_else(String::new, plain);
            let _ = write!(place, ",{label}=\"{}\"", label_value(&value));
        }
        place
    };
    let mut text = String::new();
    let _ = writeln!(text, "# TYPE listenbench_run info\n# HELP listenbench_run where the figures come from");
    let whence = origin.named().map(|(name, value)| format!(",{name}=\"{}\"", label_value(value))).concat();
    let _ = writeln!(text, "listenbench_run_info{{scenario=\"{}\"{whence}}} 1", label_value(&summary.scenario));
    head(&mut text, "listenbench_trials", None, "trials of a cell by outcome");
    for cell in &summary.cells {
        let place = place(&cell.cell);
        for (outcome, count) in [("valid", cell.valid), ("invalid", cell.invalid), ("failed", cell.failed)] {
            let _ = writeln!(text, "listenbench_trials{{{place},outcome=\"{outcome}\"}} {count}");
        }
    }
    for metric in METRICS {
        // The samples of a family stand together: the whole load's, and those of each of its populations.
        let alike = || summary.metrics.iter().filter(|one| one.of() == metric.name);
        let figures = alike().flat_map(|one| summary.cells.iter().map(move |cell| (*one, cell)));
        let mut figures = figures.filter_map(|(one, cell)| Some((one, cell, cell.metrics.get(one.name)?))).peekable();
        let Family { name, unit, scale } = family(metric);
        if figures.peek().is_some() {
            head(&mut text, &name, unit, &format!("{}, over the valid trials of a cell", metric.label));
        }
        for (metric, cell, values) in figures {
            let mut place = place(&cell.cell);
            if let Some(population) = metric.population {
                let _ = write!(place, ",load=\"{}\"", label_value(population));
            }
            // Exact waits and upper bounds must not be confused.
            if let Some(method) = cell.accept_wait_method.filter(|_| metric.is_accept_wait()) {
                let _ = write!(place, ",method=\"{method}\"");
            }
            if let Some(ends) = Waits::of_metric(metric, cell).and_then(|waits| waits.ends) {
                let _ = write!(place, ",ends=\"{ends}\"");
            }
            for (stat, value) in [("median", values.median), ("low", values.low), ("high", values.high)] {
                // What was not reached is beyond any value.
                let value = if value.is_finite() { (value / scale).to_string() } else { "+Inf".to_owned() };
                let _ = writeln!(text, "{name}{{{place},stat=\"{stat}\"}} {value}");
            }
        }
    }
    text + "# EOF\n"
}

/// A metric's name and unit in OpenMetrics, which has base units.
#[derive(Debug, PartialEq)]
struct Family {
    name: String,
    unit: Option<&'static str>,
    /// What the metric's value is divided by.
    scale: f64,
}

fn family(metric: &Metric) -> Family {
    let (unit, scale) = match metric.unit {
        Unit::Nanoseconds => (Some("seconds"), 1e9),
        Unit::Seconds => (Some("seconds"), 1.0),
        Unit::PerSecond => (Some("per_second"), 1.0),
        Unit::Bytes => (Some("bytes"), 1.0),
        Unit::Share => (Some("ratio"), 1.0),
        Unit::Count | Unit::Ratio => (None, 1.0),
    };
    let bare = units::bare(metric);
    let name = unit.map_or_else(|| format!("listenbench_{bare}"), |unit| format!("listenbench_{bare}_{unit}"));
    Family { name, unit, scale }
}

fn head(text: &mut String, name: &str, unit: Option<&str>, help: &str) {
    let _ = writeln!(text, "# TYPE {name} gauge");
    if let Some(unit) = unit {
        let _ = writeln!(text, "# UNIT {name} {unit}");
    }
    let _ = writeln!(text, "# HELP {name} {}", label_value(help));
}

/// Label names of swept values: unique, and different from all other labels.
fn label_names(names: &[&str]) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for name in names {
        let mut label: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        // A digit must not come first; two underscores are reserved.
        label = label.trim_start_matches('_').to_owned();
        if !label.starts_with(|c: char| c.is_ascii_alphabetic()) {
            label.insert_str(0, "cell_");
        }
        while labels.contains(&label)
            || ["scenario", "stat", "outcome", "method", "ends", "load"].contains(&label.as_str())
        {
            label.push('_');
        }
        labels.push(label);
    }
    labels
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::Outcome,
        stats::{self, fixture},
    };

    #[test]
    fn a_known_exposition() {
        let cell = json!({"strategy": "reuseport", "stat": "a\\b\"c\nd,e"});
        let trials = vec![
            fixture::trial(0, &cell, Outcome::Valid),
            fixture::trial(1, &cell, Outcome::Valid),
            fixture::trial(2, &cell, Outcome::Failed),
        ];
        let mut record = fixture::record(trials);
        record.raw.host = json!({"revision": "a\"b", "kernel": "6.18", "host": "vm"});
        let text = render(&Origin::of(&record), &stats::summarize(&record));
        let place = r#"scenario="made-up",strategy="reuseport",stat_="a\\b\"c\nd,e""#;
        let trials = format!(
            "# TYPE listenbench_trials gauge\n\
             # HELP listenbench_trials trials of a cell by outcome\n\
             listenbench_trials{{{place},outcome=\"valid\"}} 2\n\
             listenbench_trials{{{place},outcome=\"invalid\"}} 0\n\
             listenbench_trials{{{place},outcome=\"failed\"}} 1\n"
        );
        let info = "# TYPE listenbench_run info\n# HELP listenbench_run where the figures come from\n\
                    listenbench_run_info{scenario=\"made-up\",run=\"2026-01-31T12:00:00Z\",revision=\"a\\\"b\",kernel=\"6.18\",host=\"vm\"} 1\n";
        assert!(text.starts_with(&(info.to_owned() + &trials)), "{text}");
        let waits = format!(
            "# TYPE listenbench_accept_wait_p50_seconds gauge\n\
             # UNIT listenbench_accept_wait_p50_seconds seconds\n\
             # HELP listenbench_accept_wait_p50_seconds accept wait p50, over the valid trials of a cell\n\
             listenbench_accept_wait_p50_seconds{{{place},method=\"sock_ops\",ends=\"serving\",stat=\"median\"}} 0.000005\n"
        );
        assert!(text.contains(&waits), "{text}");
        assert!(text.contains(&format!("\nlistenbench_accepted_per_second{{{place},stat=\"high\"}} 101\n")), "{text}");
        assert!(text.ends_with("\n# EOF\n"), "{text}");
    }

    #[test]
    fn units_are_base_units_at_the_end_of_names() {
        for metric in METRICS {
            let family = family(metric);
            assert!(family.unit.is_none_or(|unit| family.name.ends_with(&format!("_{unit}"))), "{family:?}");
            assert!(!format!("{}_", family.name).contains("_ns_"), "{family:?}");
            let alike = METRICS.iter().filter(|other| super::family(other).name == family.name);
            assert_eq!(alike.count(), 1, "{family:?}");
        }
        let name = |metric: &str| family(stats::metric_named(metric).unwrap()).name;
        assert_eq!(name("connect_p50_ns_at_25"), "listenbench_connect_p50_at_25_seconds");
        assert_eq!(name("worker_cpu_ns_per_accept"), "listenbench_worker_cpu_per_accept_seconds");
        assert_eq!(name("recovered_after_s"), "listenbench_recovered_after_seconds");
        assert_eq!(name("kernel_bytes_per_connection"), "listenbench_kernel_per_connection_bytes");
        assert_eq!(name("jain"), "listenbench_jain");
    }

    #[test]
    fn the_dashboard_asks_for_what_there_is() {
        let text = include_str!("../../../results/grafana.json");
        let dashboard: Json = serde_json::from_str(text).unwrap();
        let names: Vec<String> = METRICS.iter().map(|metric| super::family(metric).name).collect();
        let known = |name: &str| {
            ["listenbench_run_info", "listenbench_trials"].contains(&name) || names.iter().any(|known| known == name)
        };
        let of = |panel: &Json| panel["targets"].as_array().cloned().unwrap_or_default();
        let targets: Vec<Json> = dashboard["panels"].as_array().unwrap().iter().flat_map(of).collect();
        assert!(targets.len() >= 9, "{targets:?}");
        for target in targets {
            let query = target["expr"].as_str().unwrap();
            let asked = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let asked: Vec<&str> = asked.filter(|word| word.starts_with("listenbench_")).collect();
            assert!(asked.len() == 1 && known(asked[0]), "{query}");
            let labels = query.split_once('{').and_then(|(_, rest)| rest.split_once('}')).unwrap().0;
            for label in labels.split(',').map(|pair| pair.split(['=', '~']).next().unwrap()) {
                assert!(["scenario", "stat"].contains(&label), "{query}");
            }
        }
    }

    #[test]
    fn label_names_are_valid_and_unique() {
        assert_eq!(
            label_names(&["load.rate", "load_rate", "scenario", "0.at", "__x"]),
            ["load_rate", "load_rate_", "scenario_", "cell_0_at", "x"]
        );
    }
}
