//! `benchstat.txt`: each valid trial as a line of Go's benchmark format, which benchstat compares.
//!
//! The format is that of the Go proposal "14313: benchmark data format", with the lines on units that `benchfmt` reads. Trials of a
//! cell have the same name, so benchstat takes them for repetitions. Swept values are the parts `/key=value` of the name. What was
//! not reached is left out of its line: benchstat knows no infinite values.

use std::fmt::Write;

use serde_json::{Map, Value as Json};

use super::{Exporter, Render, units};
use crate::{
    format::harmless,
    record::Outcome,
    report::{exports::origin::Origin, ranking::plain},
    stats::{Better, Metric, Record, Unit, metrics_with},
};

pub(super) const EXPORTER: Exporter =
    Exporter { name: "benchstat.txt", render: Render::File(|report| Ok(Some(render(report.ranked.record)))) };

fn render(record: &Record) -> String {
    let metrics = metrics_with(&record.populations());
    let mut known = vec![false; metrics.len()];
    let mut lines = String::new();
    for trial in record.trials.iter().filter(|trial| trial.outcome == Outcome::Valid) {
        let mut figures = String::new();
        for (place, metric) in metrics.iter().enumerate() {
            if let Some(value) = metric.read(trial).filter(|value| value.is_finite()) {
                known[place] = true;
                let _ = write!(figures, " {value} {}", unit(metric));
            }
        }
        if !figures.is_empty() {
            let _ = writeln!(lines, "Benchmark/{} 1{figures}", name(&trial.scenario, &trial.cell));
        }
    }
    // Not written as configuration: benchstat would put records with another revision into another table.
    let mut text = format!("# listenbench: {}\n", Origin::of(record).in_words());
    for (metric, _) in metrics.iter().zip(known).filter(|(metric, known)| *known && metric.better != Better::Neither) {
        let _ = writeln!(text, "Unit {} better={}", unit(metric), metric.better.as_str());
    }
    text + "\n" + &lines
}

/// `scenario=quick/strategy=reuseport/workers=2`.
fn name(scenario: &str, cell: &Map<String, Json>) -> String {
    let swept = cell.iter().map(|(key, value)| format!("/{}={}", part(key), part(&plain(value))));
    let mut name = format!("scenario={}", part(scenario)) + &swept.collect::<String>();
    // A hyphen and digits at the end would be the number of processors.
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    if digits > 0 && name[..name.len() - digits].ends_with('-') {
        name.replace_range(name.len() - digits - 1..name.len() - digits, "%2D");
    }
    name
}

/// A part of a name, with what would end or divide it as in URLs.
fn part(text: &str) -> String {
    let mut part = String::new();
    for c in harmless(text).chars() {
        if c.is_whitespace() || c.is_control() || "%/=".contains(c) {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                let _ = write!(part, "%{byte:02X}");
            }
        } else {
            part.push(c);
        }
    }
    part
}

/// `accept-wait-p99-ns`, `accepted/s`: the unit comes last, where benchstat finds nanoseconds and bytes.
fn unit(metric: &Metric) -> String {
    let name = units::bare(metric).replace('_', "-");
    match metric.unit {
        Unit::Nanoseconds => name + "-ns",
        Unit::Seconds => name + "-sec",
        Unit::PerSecond => name + "/s",
        Unit::Bytes => name + "-B",
        Unit::Share => name + "-share",
        Unit::Count | Unit::Ratio => name,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::stats::{METRICS, fixture, metric_named};

    #[test]
    fn a_line_for_each_valid_trial() {
        let cell = json!({"strategy": "reuse port", "path": "/a=b\n|,\"x\u{1b}[31m%", "rate": "x-8"});
        let mut record = fixture::record(vec![
            fixture::trial(0, &cell, Outcome::Valid),
            fixture::trial(1, &cell, Outcome::Valid),
            fixture::trial(2, &cell, Outcome::Invalid),
            fixture::trial(3, &cell, Outcome::Failed),
        ]);
        record.raw.host = json!({"revision": "abc\nBenchmark/x 1 1 y", "kernel": "6.18", "host": "vm"});
        let text = render(&record);
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("Benchmark")).collect();
        let name =
            "Benchmark/scenario=made-up/strategy=reuse%20port/path=%2Fa%3Db%0A|,\"x\u{fffd}[31m%25/rate=x%2D8 1 ";
        assert!(lines.len() == 2 && lines.iter().all(|line| line.starts_with(name)), "{text}");
        assert!(lines[0].contains(" 100 accepted/s ") && lines[1].contains(" 101 accepted/s "), "{text}");
        assert!(lines[0].contains(" 5000 accept-wait-p50-ns"), "{text}");
        let head = "# listenbench: run 2026-01-31T12:00:00Z, revision abc Benchmark/x 1 1 y, kernel 6.18, host vm\n";
        assert!(text.starts_with(head), "{text}");
        assert!(text.contains("\nUnit accepted/s better=higher\n"), "{text}");
        // No metric has the same value in all trials of every scenario.
        assert!(!text.contains("assume="), "{text}");
        assert!(!text.contains("Unit ports-wall"), "no trial has it");
        // A name, the number of iterations, and pairs.
        assert!(lines.iter().all(|line| line.split_whitespace().count() % 2 == 0), "{text}");
    }

    #[test]
    fn units_are_unique_words() {
        let units: Vec<String> = METRICS.iter().map(unit).collect();
        for (place, unit) in units.iter().enumerate() {
            assert!(!unit.contains(char::is_whitespace) && !units[..place].contains(unit), "{unit}");
        }
        let of = |name: &str| unit(metric_named(name).unwrap());
        assert_eq!(of("connect_p50_ns_at_25"), "connect-p50-at-25-ns");
        assert_eq!(of("kernel_bytes_per_connection"), "kernel-per-connection-B");
        assert_eq!(of("kept.response_p99_ns"), "kept.response-p99-ns");
    }

    #[test]
    fn what_measured_nothing_and_what_was_not_reached_is_left_out() {
        let nothing = render(&fixture::record(vec![fixture::trial(0, &json!({}), Outcome::Failed)]));
        assert!(
            nothing.starts_with("# listenbench: ") && nothing.ends_with("\n\n") && nothing.lines().count() == 2,
            "{nothing}"
        );
        let mut trial = fixture::trial(0, &json!({}), Outcome::Valid);
        trial.latency_ns.accept_wait.p99 = None;
        let text = render(&fixture::record(vec![trial]));
        assert!(text.contains("accept-wait-p50-ns") && !text.contains("accept-wait-p99-ns"), "{text}");
    }
}
