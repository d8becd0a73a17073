//! `listenbench compare`: compares records, for readers and for continuous integration.

mod checks;
pub mod condition;
mod differences;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::Serialize;

use self::{
    condition::{Condition, Judged},
    differences::{Difference, of_hosts, of_scenarios},
};
use super::{Ended, Usage, folder, note, output::Output, say, say_json};
use crate::{
    cli,
    format::plural,
    record::SCHEMA,
    report::{
        Reading,
        comparison::{self, Style},
        markdown, terminal,
    },
    stats::{self, AgainstBaseline, Asked, Design, Metric, Record, Summary},
};

/// Metrics compared by default after the headline's metric, if the records have them.
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
    /// Folders of the baseline's records, `a`.
    base: Vec<PathBuf>,
    /// Folders of the records compared with them, `b`.
    new: Vec<PathBuf>,
    /// Records that are damaged, with what is missing or contradicts the rest: their figures cannot be relied on.
    damaged: Vec<String>,
    /// Names of the metrics that the question is about: a difference is claimed in no other.
    asked: Vec<&'static str>,
    /// Keys of `host.json` whose values differ, except those that merely identify the run.
    host_differences: Vec<Difference>,
    /// Keys of `scenario.toml` whose values differ, except its name, question and seed.
    scenario_differences: Vec<Difference>,
    /// Whether all trials of one side had begun before the first of the other: then drift separates the two sides too.
    one_after_the_other: bool,
    #[serde(flatten)]
    against: AgainstBaseline,
    /// One per `--fail-if`.
    conditions: Vec<Judged>,
}

/// Runs the command.
pub fn run(options: &cli::Compare) -> Result<Ended> {
    let outputs = outputs(options)?;
    let comparison = compare(options)?;
    outputs.iter().try_for_each(|(output, render)| output.write(&render(&comparison)))?;
    if options.json {
        say_json(&comparison, super::Lines::Several)?;
    } else {
        show(&comparison, if options.markdown { Style::Markdown } else { Style::Terminal })?;
    }
    conclude(&comparison)
}

/// Makes a file's text.
type Render = fn(&Comparison) -> String;

/// The files that were asked for. Fails if one is anybody else's, before any record is read.
fn outputs(options: &cli::Compare) -> Result<Vec<(Output, Render)>> {
    let files: [(&str, &Option<PathBuf>, &str, Render); 3] = [
        ("--html", &options.html, comparison::MARK, page),
        ("--junit", &options.junit, checks::JUNIT, junit),
        ("--tap", &options.tap, checks::TAP, |comparison| checks::tap(&comparison.conditions)),
    ];
    let mut outputs: Vec<(Output, Render)> = Vec::new();
    for (option, path, mark, render) in files {
        let Some(path) = path else { continue };
        let output = Output::of(option, path, mark, &format!("listenbench compare {option}"))?;
        if let Some((other, _)) = outputs.iter().find(|(other, _)| other.is(&output)) {
            let (one, other) = (other.path().display(), path.display());
            bail!(Usage(format!("{one} and {other} are the same file: give {option} one of its own")));
        }
        outputs.push((output, render));
    }
    Ok(outputs)
}

/// The results of its conditions as JUnit's XML.
pub fn junit(comparison: &Comparison) -> String {
    checks::junit(&comparison.conditions)
}

/// The comparison as a page, its conditions included.
pub fn page(comparison: &Comparison) -> String {
    let names = (names(&comparison.base), names(&comparison.new));
    let conditions: Vec<String> = comparison.conditions.iter().flat_map(Judged::lines).collect();
    comparison::page(&names, &warnings(comparison), &comparison.against, &conditions)
}

/// Reads the records and compares them.
pub fn compare(options: &cli::Compare) -> Result<Comparison> {
    let conditions: Vec<Condition> =
        options.fail_if.iter().map(|text| Condition::parse(text)).collect::<Result<_>>()?;
    let asked: Vec<&'static Metric> = options.metrics.iter().map(|name| named(name)).collect::<Result<_>>()?;
    let (base, new) = sides(options)?;
    let mut damaged = Vec::new();
    let (base_records, of_base) = read(base, &mut damaged)?;
    let (new_records, of_new) = read(new, &mut damaged)?;
    let records = (base_records, new_records);
    if let Some([one, other]) = copies(base.iter().chain(new).zip(records.0.iter().chain(&records.1))) {
        bail!(Usage(format!(
            "{} and {} hold the same trials: a record does not differ from its copy",
            one.display(),
            other.display()
        )));
    }
    let tested = tested(asked, &conditions, &of_base[0]);
    let is_emulated = of_base.iter().chain(&of_new).any(Summary::is_emulated);
    // What takes an emulator's time is shown only to those who ask for it.
    let shown = if options.metrics.is_empty() && !is_emulated { others(&tested) } else { Vec::new() };
    let design = Design::of(&of_base, &of_new);
    let against = stats::compare_runs(design, &of_base, &of_new, &Asked { tested: &tested, shown: &shown });
    Ok(Comparison {
        schema: SCHEMA,
        base: base.to_vec(),
        new: new.to_vec(),
        asked: tested.iter().map(|metric| metric.name).collect(),
        host_differences: of_hosts(&records.0, &records.1),
        scenario_differences: of_scenarios(&records.0, &records.1),
        one_after_the_other: one_after_the_other(&records.0, &records.1),
        conditions: if damaged.is_empty() {
            conditions.iter().map(|condition| condition.judge(&against)).collect()
        } else {
            options.fail_if.iter().map(|text| undecided(text, &damaged)).collect()
        },
        damaged,
        against,
    })
}

/// Reads a side's records, audits them, and summarizes them.
fn read(folders: &[PathBuf], damaged: &mut Vec<String>) -> Result<(Vec<Record>, Vec<Summary>)> {
    let mut side = (Vec::new(), Vec::new());
    for path in folders {
        let Reading { record, summary, flaws, .. } = Reading::of(&folder(path)?)?;
        if !flaws.is_empty() {
            damaged.push(format!("{}: {}", path.display(), flaws.join("; ")));
        }
        side.0.push(record);
        side.1.push(summary);
    }
    Ok(side)
}

/// Two records with a trial in common, wherever they are: copies of one, whole or in part.
fn copies<'a>(records: impl Iterator<Item = (&'a PathBuf, &'a Record)>) -> Option<[&'a Path; 2]> {
    let mut seen: HashMap<_, &Path> = HashMap::new();
    for (folder, record) in records {
        for trial in &record.trials {
            let first = *seen.entry(trial.identity()).or_insert(folder);
            if first != folder {
                return Some([first, folder]);
            }
        }
    }
    None
}

/// The result of a condition that damaged records leave open.
fn undecided(text: &str, damaged: &[String]) -> Judged {
    let mut judged = Judged::nothing(text);
    for damage in damaged {
        judged.leave_open("a record is damaged", damage);
    }
    judged
}

/// The folders of the two sides. A record that is on both, or twice on one, would be compared with itself.
fn sides(options: &cli::Compare) -> Result<(&[PathBuf], &[PathBuf])> {
    let (base, new) = match (&options.base[..], &options.new[..]) {
        ([base, new], []) => (std::slice::from_ref(base), std::slice::from_ref(new)),
        (all, []) => bail!(Usage(format!(
            "expected two records, or those of each side with `--` between them (A… -- B…), not {}",
            plural(all.len(), "record")
        ))),
        (base, new) => (base, new),
    };
    if let Some(option) = new.iter().find(|folder| folder.as_os_str().as_encoded_bytes().starts_with(b"--")) {
        bail!(Usage(format!("{} follows `--`, where only records do: put options before", option.display())));
    }
    let mut seen = Vec::new();
    for folder in base.iter().chain(new) {
        // One that does not exist is reported when it is read.
        let place = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        if seen.contains(&place) {
            bail!(Usage(format!("{} is given twice: a record does not differ from itself", folder.display())));
        }
        seen.push(place);
    }
    Ok((base, new))
}

fn one_after_the_other(base: &[Record], new: &[Record]) -> bool {
    let starts = |records: &'_ [Record]| -> Option<(String, String)> {
        let starts = || records.iter().flat_map(|record| &record.trials).map(|trial| trial.started_at.clone());
        starts().min().zip(starts().max())
    };
    let (Some(base), Some(new)) = (starts(base), starts(new)) else { return false };
    base.1 < new.0 || new.1 < base.0
}

fn named(name: &str) -> Result<&'static Metric> {
    stats::metric_named(name).ok_or_else(|| Usage(stats::unknown_metric(name)).into())
}

/// The metrics that the question is about: those asked for and those of conditions, or else the answers of the scenario.
fn tested(mut asked: Vec<&'static Metric>, conditions: &[Condition], baseline: &Summary) -> Vec<&'static Metric> {
    asked.extend(conditions.iter().map(|condition| condition.metric));
    if asked.is_empty() {
        asked.extend(&baseline.asked);
    }
    let mut names = HashSet::new();
    asked.retain(|metric| names.insert(metric.name));
    asked
}

/// The usual metrics, except those that are tested.
fn others(tested: &[&Metric]) -> Vec<&'static Metric> {
    let known = USUAL.iter().filter_map(|name| stats::metric_named(name));
    known.filter(|metric| tested.iter().all(|other| other.name != metric.name)).collect()
}

fn show(comparison: &Comparison, style: Style) -> Result<()> {
    say(in_words(comparison, style).trim_end())?;
    let mut lines = comparison.conditions.iter().flat_map(Judged::lines);
    if style == Style::Markdown && !comparison.conditions.is_empty() {
        say("")?;
        return lines.map(|line| markdown::item(&line)).try_for_each(|item| say(item.trim_end()));
    }
    lines.try_for_each(|line| say(terminal::prose(&line)))
}

/// The comparison itself, without its conditions.
pub fn in_words(comparison: &Comparison, style: Style) -> String {
    let names = (names(&comparison.base), names(&comparison.new));
    comparison::render(&names, &warnings(comparison), &comparison.against, style)
}

/// A side in the heading.
fn names(folders: &[PathBuf]) -> String {
    let names: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    names.join(" + ")
}

/// Warnings that must precede any figure.
fn warnings(comparison: &Comparison) -> Vec<String> {
    let differing = |what: &str, differences: &[Difference]| -> Vec<String> {
        differences.iter().map(|one| format!("different {what}: {}", one.in_words())).collect()
    };
    let damaged = comparison.damaged.iter().map(|damage| format!("damaged record: {damage}"));
    let mut warnings: Vec<String> = damaged.collect();
    if comparison.against.cells.is_empty() {
        warnings.push("no cell in common: nothing can be compared".to_owned());
    }
    warnings.extend(differing("host", &comparison.host_differences));
    warnings.extend(differing("scenario", &comparison.scenario_differences));
    if matches!(comparison.against.design, Design::Records | Design::Boots) && comparison.one_after_the_other {
        warnings.push(
            "all runs of one side came after those of the other, so drift may separate them: alternate the sides"
                .to_owned(),
        );
    }
    warnings
}

/// Of several conditions, one that is met outweighs one that is undecided.
fn conclude(comparison: &Comparison) -> Result<Ended> {
    let conditions = &comparison.conditions;
    if conditions.iter().any(|judged| !judged.met_in.is_empty()) {
        note("a --fail-if condition is met");
        return Ok(Ended::Flawed);
    }
    if conditions.iter().any(|judged| !judged.undecided.is_empty()) {
        note("a --fail-if condition is undecided");
        return Ok(Ended::Undecided);
    }
    if !comparison.damaged.is_empty() {
        note("a record is damaged");
        return Ok(Ended::Flawed);
    }
    if comparison.against.cells.is_empty() {
        bail!(
            "the two sides have no cell in common ({} only in the baseline, {} only in the new side): compare runs that \
             sweep the same keys",
            comparison.against.only_in_base.len(),
            comparison.against.only_in_new.len()
        );
    }
    Ok(Ended::Done)
}
