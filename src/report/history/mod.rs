//! Many records in order of time: what their runs have in common, and where it changed.

mod page;

pub use page::MARK;

use std::{
    cmp::Reverse,
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use indexmap::{IndexMap, IndexSet};

use super::{Reading, claims::p_equals, exports::Origin, ranking::listed, verdicts::unfinished};
use crate::{
    format::{plural, ratio},
    record::{HostFacts, Outcome},
    scenario::label,
    stats::{Better, Change, Course, Courses, Metric, Record, Waits, ascending, courses, median},
};

/// Keys of `scenario.toml` that do not change what a trial measures.
const OF_THE_RUN: [&str; 5] = ["name", "question", "seed", "repetitions", "stop"];

/// The most copies that are named in a sentence.
const NAMED: usize = 5;

/// A record among others.
#[derive(Debug)]
pub struct Run {
    /// Its folder, as text.
    pub name: String,
    /// Where its report is, for a page beside the folder's parts; `None` without one.
    pub link: Option<String>,
    scenario: String,
    origin: Origin,
    valid: usize,
    /// What identifies each of its trials.
    trials: Vec<u64>,
    /// The record that has these trials, too, and counts in its place.
    copy_of: Option<String>,
    /// What is damaged; then its figures are not used.
    flaws: Vec<String>,
    /// What it lacks that did not come to its end; its figures are used all the same.
    unfinished: Option<String>,
    experiment: Option<String>,
    /// Identifies the time since each machine started, by who it is.
    boots: IndexMap<String, String>,
    scene: Scene,
    figures: Vec<Figure>,
}

/// What runs must share to be comparable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Scene {
    scenario: String,
    /// Stands for all settings but those of the run.
    settings: u64,
    machine: String,
}

/// A run's figure of a cell, by a metric that its question is about.
#[derive(Debug)]
struct Figure {
    cell: String,
    metric: &'static Metric,
    /// Of accept waits: how they were measured, and what ends them.
    waits: String,
    point: Point,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    /// Its place among the runs.
    run: usize,
    median: f64,
    low: f64,
    high: f64,
}

/// The figures of a cell by a metric, in order of time.
struct Series {
    cell: String,
    metric: &'static Metric,
    waits: String,
    points: Vec<Point>,
    course: Course,
}

/// Runs in order of time, and their series by scene.
pub struct History {
    runs: Vec<Run>,
    scenes: Vec<(Scene, Vec<Series>)>,
    tests: usize,
    needed: Option<usize>,
}

impl Run {
    /// A record that was read.
    pub fn of(name: String, link: Option<String>, reading: &Reading) -> Self {
        let (record, summary) = (&reading.record, &reading.summary);
        let known = |key: &str| record.host[key].as_str().map(str::to_owned);
        let mut figures = Vec::new();
        for cell in &summary.cells {
            // Times and rates of an emulated processor are the emulator's.
            for metric in summary.asked.iter().filter(|metric| !(summary.is_emulated() && metric.is_timed())) {
                let Some(values) = cell.metrics.get(metric.name) else { continue };
                figures.push(Figure {
                    cell: label(&cell.cell),
                    metric,
                    waits: Waits::of_metric(metric, cell).map_or_else(String::new, |waits| waits.to_string()),
                    point: Point { run: 0, median: values.median, low: values.low, high: values.high },
                });
            }
        }
        Self {
            name,
            link,
            scenario: summary.scenario.clone(),
            origin: Origin::of(record),
            valid: record.trials.iter().filter(|trial| trial.outcome == Outcome::Valid).count(),
            trials: record.trials.iter().map(|trial| hash(&trial.identity())).collect(),
            copy_of: None,
            flaws: reading.flaws.clone(),
            // If lines are missing, nobody knows where the run ended.
            unfinished: if reading.is_damaged() { None } else { unfinished(record) },
            experiment: known("experiment"),
            boots: boots(record),
            scene: Scene {
                scenario: summary.scenario.clone(),
                settings: settings(record),
                machine: format!("{} ({})", HostFacts::names(&record.host), processors(record)),
            },
            figures: if reading.is_damaged() { Vec::new() } else { figures },
        }
    }
}

/// The boot that each machine's kernel was running since, where it is known.
fn boots(record: &Record) -> IndexMap<String, String> {
    let hosts = HostFacts::all(&record.host);
    if hosts.is_empty() {
        let boot = record.host["boot"].as_str().map(str::to_owned);
        return boot.map(|boot| ("the machine".to_owned(), boot)).into_iter().collect();
    }
    hosts.into_iter().filter_map(|host| Some((host.name, host.machine.boot?))).collect()
}

/// The models of the processors of all hosts, each once.
fn processors(record: &Record) -> String {
    let own = record.host["cpu"].as_str().unwrap_or_default().to_owned();
    let models: IndexSet<String> =
        std::iter::once(own).chain(HostFacts::all(&record.host).into_iter().map(|host| host.machine.cpu)).collect();
    models.into_iter().collect::<Vec<_>>().join(", ")
}

/// Equal for equal settings, but for those of the run.
fn settings(record: &Record) -> u64 {
    let mut table = record.scenario.parse::<toml::Table>().unwrap_or_default();
    table.retain(|key, _| !OF_THE_RUN.contains(&key));
    hash(&table.to_string())
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Leaves out the figures of records with a trial that another has, too: of copies, whole or in part, one counts. It is one that is not
/// damaged, if there is any, and of those the one with the most trials.
fn leave_out_copies(runs: &mut [Run]) {
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by_key(|place| (!runs[*place].flaws.is_empty(), Reverse(runs[*place].trials.len()), *place));
    let mut owners: HashMap<u64, usize> = HashMap::new();
    for place in order {
        match runs[place].trials.iter().find_map(|trial| owners.get(trial)) {
            Some(owner) => {
                runs[place].copy_of = Some(runs[*owner].name.clone());
                runs[place].figures.clear();
            }
            None => owners.extend(runs[place].trials.iter().map(|trial| (*trial, place))),
        }
    }
}

impl History {
    /// Sorts the runs, and tests all of their series.
    pub fn of(mut runs: Vec<Run>) -> Self {
        // Those without trials have no time, and come last.
        runs.sort_by(|one, other| {
            let key = |run: &Run| (run.origin.run.is_empty(), run.origin.run.clone(), run.name.clone());
            key(one).cmp(&key(other))
        });
        leave_out_copies(&mut runs);
        let mut scenes: IndexMap<Scene, IndexMap<_, Series>> = IndexMap::new();
        for (place, run) in runs.iter_mut().enumerate() {
            let figures = std::mem::take(&mut run.figures);
            let series = scenes.entry(run.scene.clone()).or_default();
            for Figure { cell, metric, waits, point } in figures {
                let key = (cell.clone(), metric.name, waits.clone());
                let new = || Series { cell, metric, waits, points: Vec::new(), course: Course::TooFewRuns };
                series.entry(key).or_insert_with(new).points.push(Point { run: place, ..point });
            }
        }
        let mut scenes: Vec<(Scene, Vec<Series>)> =
            scenes.into_iter().map(|(scene, series)| (scene, series.into_values().collect())).collect();
        let mut series: Vec<&mut Series> = scenes.iter_mut().flat_map(|(_, series)| series).collect();
        for one in &mut series {
            one.points = experiments(&one.points, &runs);
        }
        let medians = |one: &&mut Series| one.points.iter().map(|point| point.median).collect();
        let values: Vec<Vec<f64>> = series.iter().map(medians).collect();
        let slices: Vec<&[f64]> = values.iter().map(Vec::as_slice).collect();
        let Courses { courses, tests, needed } = courses(&slices);
        for (one, course) in series.into_iter().zip(courses) {
            one.course = course;
        }
        Self { runs, scenes, tests, needed }
    }

    /// Whether any record is damaged.
    pub fn is_flawed(&self) -> bool {
        self.runs.iter().any(|run| !run.flaws.is_empty())
    }

    /// What is shown, as sentences.
    pub fn findings(&self) -> Vec<String> {
        let several = self.scenes.iter().flat_map(|(scene, series)| series.iter().map(move |one| (scene, one)));
        let shown = several.filter_map(|(scene, series)| match &series.course {
            Course::Change(change) => Some(self.change(scene, series, change)),
            Course::NoChangeShown | Course::TooFewRuns => None,
        });
        let mut findings: Vec<String> = shown.collect();
        let count = |is: &Course| self.scenes.iter().flat_map(|(_, all)| all).filter(|one| one.course == *is).count();
        let (unchanged, few) = (count(&Course::NoChangeShown), count(&Course::TooFewRuns));
        if unchanged > 0 {
            findings.push(format!("No change is shown in {}.", plural_series(unchanged)));
        }
        if let Some(needed) = self.needed {
            findings.push(format!("{} too few runs to show any change: {needed} are needed.", have(few)));
        }
        findings.extend(self.copies());
        findings
    }

    /// Which records are copies, and of what; `None` if there are none.
    fn copies(&self) -> Option<String> {
        let copies: Vec<String> =
            self.runs.iter().filter_map(|run| Some(format!("{} ({})", run.name, run.copy_of.as_ref()?))).collect();
        let (named, others) = copies.split_at(copies.len().min(NAMED));
        let hold = if copies.len() == 1 { "holds" } else { "hold" };
        let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
        (!copies.is_empty()).then(|| {
            let count = plural(copies.len(), "record");
            format!("{count} {hold} trials that another has: {}{more}. They count once.", named.join(", "))
        })
    }

    /// `tail, strategy=reuseport: response p99 rose from 1.20 ms to 1.90 ms (1.58×, worse) …`.
    fn change(&self, scene: &Scene, series: &Series, change: &Change) -> String {
        let Change { before, from, to, p_adjusted } = *change;
        let metric = series.metric;
        let is_worse = match metric.better {
            Better::Lower => Some(to > from),
            Better::Higher => Some(to < from),
            Better::Neither => None,
        };
        let judged = is_worse.map_or("", |is_worse| if is_worse { ", worse" } else { ", better" });
        let times =
            if from > 0.0 && to.is_finite() { format!(" ({}×{judged})", ratio(to / from)) } else { String::new() };
        let [last, first] = [before - 1, before].map(|place| &self.runs[series.points[place].run]);
        let differing = last.origin.named().into_iter().zip(first.origin.named()).skip(1);
        let booted = last.boots.iter().filter(|(who, boot)| first.boots.get(*who).is_some_and(|now| now != *boot));
        let booted: Vec<&String> = booted.map(|(who, _)| who).collect();
        let booted = (!booted.is_empty()).then(|| {
            let were = if booted.len() == 1 { "was" } else { "were" };
            format!("{} {were} booted in between", listed(&booted))
        });
        let differing: Vec<String> = differing
            .filter(|((_, a), (_, b))| a != b)
            .map(|((name, a), (_, b))| format!("{name} {a} before, {b} after"))
            .chain(booted)
            .collect();
        let differing = if differing.is_empty() { String::new() } else { format!("; {}", differing.join("; ")) };
        format!(
            "{}, {}: {} {} from {} to {}{times} between the runs of {} and {}, {}{differing}.",
            scene.scenario,
            series.cell,
            metric.label,
            if to > from { "rose" } else { "fell" },
            metric.unit.show(from),
            metric.unit.show(to),
            last.origin.run,
            first.origin.run,
            p_equals(p_adjusted),
        )
    }
}

/// Records of one experiment were made at the same time: together they are one run, by the median of their medians.
fn experiments(points: &[Point], runs: &[Run]) -> Vec<Point> {
    let mut groups: Vec<Vec<Point>> = Vec::new();
    for point in points {
        let experiment = runs[point.run].experiment.as_ref();
        let same =
            |group: &&mut Vec<Point>| experiment.is_some() && runs[group[0].run].experiment.as_ref() == experiment;
        match groups.iter_mut().find(same) {
            Some(group) => group.push(*point),
            None => groups.push(vec![*point]),
        }
    }
    let merged = groups.into_iter().map(|group| {
        let middle = median(&ascending(&group.iter().map(|point| point.median).collect::<Vec<_>>()));
        Point {
            run: group[0].run,
            median: middle.unwrap_or(f64::NAN),
            low: group.iter().map(|point| point.low).fold(f64::INFINITY, f64::min),
            high: group.iter().map(|point| point.high).fold(0.0, f64::max),
        }
    });
    merged.collect()
}

fn plural_series(count: usize) -> String {
    if count == 1 { "1 series".to_owned() } else { format!("{count} series") }
}

fn have(count: usize) -> String {
    format!("{} {}", plural_series(count), if count == 1 { "has" } else { "have" })
}

fn runs_in_words(count: usize) -> String {
    plural(count, "run")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::{Grounds, SoFar},
        report::sample::Sample,
    };

    /// A run of day `day` whose waits are about `us` long.
    pub fn run(day: usize, us: u64, revision: &str) -> Run {
        let mut sample = Sample::new("How long?");
        for repetition in 0..3 {
            sample.trial(json!({"strategy": "<b>reuseport"}), &[30, 30], 1_000 * us + repetition).started_at =
                format!("2026-01-{day:02}T12:00:00Z");
        }
        let mut reading = sample.reading();
        reading.record.raw.host = json!({"revision": revision, "kernel": "6.18", "host": "vm", "cpu": "x"});
        Run::of(format!("run-{day}"), Some(format!("run-{day}/report.html")), &reading)
    }

    /// Ten runs, the last five of which are slower, out of order.
    pub fn ten() -> Vec<Run> {
        let mut runs: Vec<Run> =
            (1..=10)
                .map(|day| {
                    if day < 6 { run(day, 100 + day as u64 % 3, "old") } else { run(day, 150 + day as u64 % 3, "new") }
                })
                .collect();
        runs.swap(0, 7);
        runs
    }

    #[test]
    fn a_change_is_shown_where_it_is() {
        let findings = History::of(ten()).findings();
        let shown: Vec<&String> = findings.iter().filter(|line| line.contains(" rose from ")).collect();
        assert!(!shown.is_empty(), "{findings:?}");
        for line in shown {
            let place = " between the runs of 2026-01-05T12:00:00Z and 2026-01-06T12:00:00Z, p = ";
            assert!(line.contains(place) && line.ends_with("; revision old before, new after."), "{line}");
            assert!(line.contains("×, worse)"), "{line}");
        }
    }

    #[test]
    fn a_boot_at_a_change_is_named() {
        let mut runs = ten();
        for run in &mut runs {
            run.boots = [("the machine".to_owned(), run.origin.revision.clone())].into();
        }
        let findings = History::of(runs).findings();
        let end = "; revision old before, new after; the machine was booted in between.";
        assert!(findings.iter().any(|line| line.ends_with(end)), "{findings:?}");
    }

    #[test]
    fn where_a_damaged_record_ended_is_not_said() {
        let so_far = SoFar { after_s: 0.5, completed: 7, response: None };
        let mut sample = Sample::new("How long?");
        sample.trial(json!({}), &[30, 30], 1_000).verdicts.push(Grounds::Interrupted { so_far }.into());
        let mut reading = sample.reading();
        let unfinished = |reading: &Reading| Run::of("a".to_owned(), None, reading).unfinished;
        assert!(unfinished(&reading).is_some());
        reading.flaws.push("trials.jsonl is missing".to_owned());
        assert_eq!(unfinished(&reading), None);
    }

    #[test]
    fn few_runs_claim_nothing() {
        let findings = History::of(ten().into_iter().take(6).collect()).findings();
        assert!(findings.iter().all(|line| line.contains("too few runs to show any change")), "{findings:?}");
        assert!(History::of(Vec::new()).findings().is_empty());
    }

    #[test]
    fn copies_count_once() {
        // Two runs, and ten copies of each.
        let copies =
            |us| (0..10).map(move |number| Run { name: format!("copy-{us}-{number}"), ..run(us, us as u64, "old") });
        let history = History::of(copies(1).chain(copies(2)).collect());
        assert_eq!(history.scenes[0].1[0].points.len(), 2);
        let findings = history.findings();
        assert!(findings[0].contains("too few runs to show any change"), "{findings:?}");
        let copied = "18 records hold trials that another has: copy-1-1 (copy-1-0), ";
        assert!(
            findings[1].starts_with(copied) && findings[1].ends_with(" and 13 more. They count once."),
            "{findings:?}"
        );
        // The whole one counts, not the one that is damaged or cut short.
        let mut runs = vec![run(1, 1, "old"), run(1, 1, "old"), run(1, 1, "old")];
        runs[0].flaws.push("damaged".to_owned());
        runs[1].trials.truncate(1);
        for (run, name) in runs.iter_mut().zip(["damaged", "short", "whole"]) {
            run.name = name.to_owned();
        }
        let history = History::of(runs);
        let whole: Vec<&str> =
            history.runs.iter().filter(|run| run.copy_of.is_none()).map(|run| &run.name[..]).collect();
        assert_eq!(whole, ["whole"]);
    }

    #[test]
    fn other_settings_and_machines_are_other_series() {
        let series = |change: &dyn Fn(usize, &mut Run)| {
            let mut runs = ten();
            runs.iter_mut().enumerate().for_each(|(place, run)| change(place, run));
            let history = History::of(runs);
            let lengths = history.scenes.iter().map(|(_, series)| series[0].points.len());
            lengths.collect::<Vec<_>>()
        };
        assert_eq!(series(&|_, _| {}), [10]);
        assert_eq!(series(&|place, run| run.scene.settings = place as u64 % 2), [5, 5]);
        assert_eq!(series(&|place, run| run.scene.machine = format!("{}", place % 2)), [5, 5]);
        // Records of one experiment are one run.
        assert_eq!(series(&|place, run| run.experiment = (place < 4).then(|| "one".to_owned())), [7]);
    }
}
