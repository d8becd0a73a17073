//! `listenbench compare`: compares records, for readers and for continuous integration.

mod condition;
mod differences;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::Serialize;

use self::{
    condition::{Condition, Judged},
    differences::{Difference, of_hosts, of_scenarios},
};
use super::{Ended, Usage, note, say};
use crate::{
    cli,
    format::plural,
    record::SCHEMA,
    report::comparison::{self, Style},
    stats::{self, AgainstBaseline, METRICS, Metric, Record, Summary},
};

/// Metrics compared by default after the ranking metric, if the records have them.
const USUAL: [&str; 9] = [
    "accepted_per_s",
    "datagrams_per_s",
    "accept_wait_p50_ns",
    "accept_wait_p99_ns",
    "receive_wait_p99_ns",
    "connect_p99_ns",
    "response_p99_ns",
    "worker_cpu_ns_per_accept",
    "ports_wall",
];

/// The output of `--json`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Comparison {
    /// Version of the schema.
    schema: u32,
    /// Folder of the record the others are compared with.
    baseline: PathBuf,
    /// Names of the metrics compared.
    metrics: Vec<&'static str>,
    /// The other records, in the order given.
    runs: Vec<Run>,
    /// One per `--fail-if`.
    conditions: Vec<Judged>,
}

/// One record compared with the baseline.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Run {
    /// The record's folder.
    record: PathBuf,
    /// Keys of `host.json` whose values differ, except those that merely identify the run.
    host_differences: Vec<Difference>,
    /// Keys of `scenario.toml` whose values differ.
    scenario_differences: Vec<Difference>,
    #[serde(flatten)]
    against: AgainstBaseline,
}

/// Runs the command.
pub fn run(options: &cli::Compare) -> Result<Ended> {
    let conditions: Vec<Condition> =
        options.fail_if.iter().map(|text| Condition::parse(text)).collect::<Result<_>>()?;
    let asked: Vec<&Metric> = options.metrics.iter().map(|name| named(name)).collect::<Result<_>>()?;
    let records: Vec<Record> = options.records.iter().map(|folder| Record::read(folder)).collect::<Result<_, _>>()?;
    let summaries: Vec<Summary> = records.iter().map(stats::summarize).collect();
    let (baseline, others) = summaries.split_first().expect("clap requires at least two records");
    let metrics = metrics(&asked, &conditions, &summaries);
    let against = stats::compare_runs(baseline, &others.iter().collect::<Vec<_>>(), &metrics);
    let judged = conditions.iter().map(|condition| condition.judge(&options.records[1..], &against)).collect();
    let runs =
        against.into_iter().zip(&records[1..]).zip(&options.records[1..]).map(|((against, record), folder)| Run {
            record: folder.clone(),
            host_differences: of_hosts(&records[0], record),
            scenario_differences: of_scenarios(&records[0], record),
            against,
        });
    let comparison = Comparison {
        schema: SCHEMA,
        baseline: options.records[0].clone(),
        metrics: metrics.iter().map(|metric| metric.name).collect(),
        runs: runs.collect(),
        conditions: judged,
    };
    if options.json {
        say(serde_json::to_string_pretty(&comparison)?)?;
    } else {
        show(&comparison, if options.markdown { Style::Markdown } else { Style::Terminal })?;
    }
    conclude(&comparison)
}

fn named(name: &str) -> Result<&'static Metric> {
    match stats::metric_named(name) {
        Some(metric) => Ok(metric),
        None => {
            let known: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
            bail!(Usage(format!("unknown metric \"{name}\"; known metrics: {}", known.join(", "))))
        }
    }
}

/// The metrics asked for, or the ranking one and the usual ones, plus those of the conditions. A default metric no record has
/// is left out.
fn metrics(asked: &[&'static Metric], conditions: &[Condition], summaries: &[Summary]) -> Vec<&'static Metric> {
    let has =
        |name: &str| summaries.iter().flat_map(|summary| &summary.cells).any(|cell| cell.metrics.contains_key(name));
    let usual = || {
        let ranking = summaries.iter().map(|summary| &summary.metric[..]).take(1);
        ranking.chain(USUAL).filter(|name| has(name)).filter_map(stats::metric_named)
    };
    let mut metrics: Vec<&'static Metric> = if asked.is_empty() { usual().collect() } else { asked.to_vec() };
    metrics.extend(conditions.iter().map(|condition| condition.metric));
    let mut seen = Vec::new();
    metrics.retain(|metric| {
        !seen.contains(&metric.name) && {
            seen.push(metric.name);
            true
        }
    });
    metrics
}

fn show(comparison: &Comparison, style: Style) -> Result<()> {
    for run in &comparison.runs {
        let names = (name(&comparison.baseline), name(&run.record));
        let warnings = warnings(run);
        say(comparison::render(&names, &warnings, &run.against, style).trim_end())?;
    }
    let mut lines = comparison.conditions.iter().flat_map(Judged::lines);
    if style == Style::Markdown && !comparison.conditions.is_empty() {
        say("")?;
        return lines.map(|line| format!("- {line}")).try_for_each(say);
    }
    lines.try_for_each(say)?;
    Ok(())
}

fn name(folder: &Path) -> String {
    folder.display().to_string()
}

/// Warnings that must precede any figure.
fn warnings(run: &Run) -> Vec<String> {
    let differing = |what: &str, differences: &[Difference]| -> Vec<String> {
        differences.iter().map(|one| format!("different {what}: {}: {} versus {}", one.key, one.a, one.b)).collect()
    };
    let mut warnings = differing("host", &run.host_differences);
    warnings.extend(differing("scenario", &run.scenario_differences));
    warnings
}

fn conclude(comparison: &Comparison) -> Result<Ended> {
    let common = comparison.runs.iter().any(|run| !run.against.cells.is_empty());
    if !common {
        bail!(
            "the records have no cell in common ({} of the baseline's cells are missing from the others): compare runs of \
             the same scenario",
            comparison.runs.iter().map(|run| run.against.only_in_baseline.len()).max().unwrap_or(0)
        );
    }
    if comparison.conditions.iter().any(|judged| !judged.met_in.is_empty()) {
        note("a --fail-if condition is met");
        return Ok(Ended::Flawed);
    }
    if let Some(judged) = comparison.conditions.iter().find(|judged| !judged.cannot_judge.is_empty()) {
        bail!(
            "--fail-if '{}' cannot be judged in {}: {}",
            judged.condition,
            plural(judged.cannot_judge.len(), "place"),
            judged.cannot_judge[0]
        );
    }
    Ok(Ended::Done)
}
