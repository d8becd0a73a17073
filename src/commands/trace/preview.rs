//! What `listenbench trace` shows, as text and as JSON.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::chart::chart;
use crate::{
    format::{self, duration, exact, number, plural, thousands},
    record::MalformedLine,
    report::terminal,
    trace::{Asked, Schedule, Survey},
};

/// What a replay would be like. Times are those of the replay, but for `span_s` and the part that is selected.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Preview {
    /// Path of the file, or `-`.
    file: String,
    /// SHA-256 of it, in 64 hex digits.
    sha256: String,
    /// Its format, in words.
    format: String,
    /// Its lines, of captures packets; empty lines and a table's header are not counted.
    lines: u64,
    /// Those of them that could not be read.
    malformed: u64,
    /// The first of those.
    malformed_first: Vec<MalformedLine>,
    /// Those that start no connection.
    others: u64,
    /// Connections in the whole trace.
    connections: u64,
    /// Requests in the whole trace; `null` if it has none.
    requests: Option<u64>,
    /// Whether it tells several requests of one connection from those of others.
    tells_connections: bool,
    /// Lines whose time has whole seconds. Their starts are spread at random within the second.
    spread: u64,
    /// As asked for: how much faster than in the trace connections start, which part of it in seconds from its first start (`null` for its
    /// end), and how often.
    speed: f64,
    from_s: f64,
    to_s: Option<f64>,
    repeat: u64,
    /// How long the part took in the trace, in seconds.
    span_s: f64,
    /// How long its replay takes, repetitions included, in seconds.
    length_s: f64,
    /// Starts of the whole replay, and how many come in a second on average and in the busiest.
    starts: u64,
    starts_per_s: f64,
    busiest_starts_per_s: f64,
    rate: Rate,
    dispersion: Vec<Dispersion>,
    gaps: Gaps,
}

/// Starts in equal parts of one repetition.
#[derive(Debug, Serialize, JsonSchema)]
struct Rate {
    /// How long a part is, in seconds.
    part_s: f64,
    starts: Vec<u64>,
}

/// How much the number of starts varies in windows of a length.
#[derive(Debug, Serialize, JsonSchema)]
struct Dispersion {
    window_s: f64,
    windows: u64,
    /// The variance of the starts in a window divided by their mean; `null` for fewer than ten windows.
    index: Option<f64>,
    /// The most starts in a window.
    most_starts: u64,
}

/// The gaps between starts; `null` where there are too few starts.
#[derive(Debug, Serialize, JsonSchema)]
struct Gaps {
    mean_ns: Option<f64>,
    /// Their coefficient of variation.
    variation: Option<f64>,
    /// By percentile: `p50`; empty for fewer than two starts.
    percentiles_ns: BTreeMap<String, u64>,
    longest_ns: Option<u64>,
    /// Starts at the same instant as the one before.
    together: u64,
}

impl Preview {
    pub fn of(asked: &Asked, schedule: &Schedule, survey: &Survey) -> Self {
        let summary = schedule.summary();
        let findings = &summary.findings;
        let figures = schedule.figures(u64::MAX, 0);
        let malformed = findings.shown.iter().map(|one| MalformedLine { line: one.line, problem: one.problem.clone() });
        let dispersion = survey.dispersion.iter().map(|one| Dispersion {
            window_s: one.window.as_secs_f64(),
            windows: one.windows,
            index: one.index,
            most_starts: one.most,
        });
        let percentiles = survey.gaps.iter().map(|gap| (format!("p{}", gap.percentile), gap.ns));
        Self {
            file: asked.path.clone(),
            sha256: summary.sha256.clone(),
            format: summary.format.clone(),
            lines: findings.lines,
            malformed: findings.malformed,
            malformed_first: malformed.collect(),
            others: findings.others,
            connections: summary.connections,
            requests: findings.requests,
            tells_connections: findings.has_connections,
            spread: findings.spread,
            speed: asked.speed,
            from_s: asked.from.as_secs_f64(),
            to_s: asked.to.map(|to| to.as_secs_f64()),
            repeat: asked.repeat,
            span_s: schedule.traced().as_secs_f64(),
            length_s: schedule.length().as_secs_f64(),
            starts: schedule.starts(),
            starts_per_s: figures.per_second,
            busiest_starts_per_s: figures.most_in_a_second as f64,
            rate: Rate { part_s: survey.part.as_secs_f64(), starts: survey.counts.clone() },
            dispersion: dispersion.collect(),
            gaps: Gaps {
                mean_ns: survey.mean_gap_ns,
                variation: survey.gap_variation,
                percentiles_ns: percentiles.collect(),
                longest_ns: survey.longest_gap_ns,
                together: survey.together,
            },
        }
    }

    /// The preview as text for a terminal of this width.
    pub fn text(&self, width: usize) -> String {
        let span = |span_s: f64| exact(std::time::Duration::try_from_secs_f64(span_s).unwrap_or_default());
        let count = |count: u64| thousands(count as f64);
        let mut lines = vec![
            format!("{}: {}", self.file, self.format),
            self.contents(),
            format!(
                "replay: {} in {}, {}/s on average and {}/s in the busiest second{}",
                plural(self.starts, "start"),
                span(self.length_s),
                format::rate(self.starts_per_s),
                format::rate(self.busiest_starts_per_s),
                self.changes()
            ),
        ];
        lines.extend(
            self.malformed_first.iter().map(|one| format!("left out: {}:{} {}", self.file, one.line, one.problem)),
        );
        lines.extend(self.caveats());
        let mut text: String = lines.iter().map(|line| terminal::prose(line) + "\n").collect();
        let part = std::time::Duration::from_secs_f64(self.rate.part_s);
        let what = if self.repeat > 1 { "Starts per second, in each repetition" } else { "Starts per second" };
        text += &format!("\n{}\n", terminal::prose(&format!("{what}, {} a column:", exact(part))));
        for line in chart(&self.rate.starts, part) {
            text += &line.chars().take(width.max(1)).collect::<String>();
            text.push('\n');
        }
        let burstiness = "Burstiness (index of dispersion of counts; 1: independent starts, more: bursts):";
        text += &format!("\n{}\n", terminal::prose(burstiness));
        text += &format!("{:>8} {:>10} {:>7} {:>12}\n", "window", "windows", "index", "most starts");
        for one in &self.dispersion {
            let index = one.index.map_or_else(|| "–".to_owned(), number);
            text += &format!(
                "{:>8} {:>10} {index:>7} {:>12}\n",
                span(one.window_s),
                count(one.windows),
                count(one.most_starts)
            );
        }
        let Some(mean_ns) = self.gaps.mean_ns else { return text };
        let variation = self
            .gaps
            .variation
            .map_or_else(String::new, |cv| format!(", coefficient of variation {} (1: exponential)", number(cv)));
        let mean = format!("Gaps between starts: mean {}{variation}", duration(mean_ns));
        text += &format!("\n{}\n", terminal::prose(&mean));
        let longest = self.gaps.longest_ns.map(|ns| ("longest".to_owned(), ns as f64));
        let percentiles = self.gaps.percentiles_ns.iter().map(|(name, ns)| (name.clone(), *ns as f64));
        let all: Vec<(String, f64)> = percentiles.chain(longest).collect();
        for (name, ns) in &all {
            text += &format!("{name:>8} {:>10}\n", duration(*ns));
        }
        if self.gaps.together > 0 {
            text += &format!("{} at the same instant as the start before\n", count(self.gaps.together));
        }
        text
    }

    fn contents(&self) -> String {
        let unit = if self.format.starts_with("pcap") { "packet" } else { "line" };
        let mut parts = vec![plural(self.lines, unit)];
        if self.malformed > 0 {
            parts.push(format!("{} malformed", thousands(self.malformed as f64)));
        }
        if self.others > 0 {
            parts.push(format!("{} that start no connection", thousands(self.others as f64)));
        }
        parts.push(plural(self.connections, "connection"));
        if let Some(requests) = self.requests {
            parts.push(plural(requests, "request"));
        }
        parts.join(", ")
    }

    fn changes(&self) -> String {
        let mut text = String::new();
        if self.from_s > 0.0 || self.to_s.is_some() {
            text += &format!("; from {} s", number(self.from_s));
            if let Some(to_s) = self.to_s {
                text += &format!(" to {} s", number(to_s));
            }
            text += " of the trace";
        }
        if (self.speed - 1.0).abs() > f64::EPSILON {
            text += &format!("; at {}× its speed", self.speed);
        }
        if self.repeat > 1 {
            text += &format!("; {} times over", self.repeat);
        }
        text
    }

    /// What of a replay is not as it was in the trace.
    fn caveats(&self) -> Vec<String> {
        let mut all = Vec::new();
        if self.spread > 0 {
            all.push("its times are whole seconds: starts are spread at random within each second, so that columns, indexes and gaps below a second are not the trace's".to_owned());
        }
        match (self.tells_connections, self.requests) {
            (false, Some(_)) => all.push(
                "it does not show which requests shared a connection: each line is a connection with one request; log $connection or $remote_port to change that"
                    .to_owned(),
            ),
            (true, Some(requests)) if requests > self.connections => all.push(
                "requests of a connection will follow each other without the pauses that they had".to_owned(),
            ),
            _ => {}
        }
        all
    }
}
