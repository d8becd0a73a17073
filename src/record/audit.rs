//! Compares `histograms.hlog` with `trials.jsonl`. A trial's line repeats how many values its histograms hold, the least and the
//! greatest of them, and percentiles; so what is missing, extra or of another record shows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use super::{
    TrialRecord,
    counts::Counts,
    histograms::{ALL, Name, Part, Unreadable},
    reader::{HISTOGRAMS, TRIALS},
};
use crate::format::counted;

/// Differences named before the rest are only counted.
const NAMED: usize = 6;

/// Metrics of the log that no trial's line mentions: those beyond are not kept.
const STRANGERS: usize = 1_000;

/// The percentiles of summaries.
const PERCENTILES: [(&str, f64); 4] = [("p50", 0.50), ("p90", 0.90), ("p99", 0.99), ("p999", 0.999)];

/// A trial's summary of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Summarised {
    count: u64,
    /// Attempts that were due and have no value.
    lost: u64,
    /// Whether values and lost attempts are all that were due.
    adds_up: bool,
    /// `None` if the record does not have it: batch sizes come without.
    min: Option<u64>,
    max: u64,
    /// Each of [`PERCENTILES`] that the record has; `Some(None)` if it falls among the lost.
    percentiles: [Option<Option<u64>>; PERCENTILES.len()],
}

impl Summarised {
    /// That of a summary in a trial's line; `None` for anything else, and without values.
    fn of(summary: &Json) -> Option<Self> {
        let number = |name: &str| summary.get(name).and_then(Json::as_u64);
        let (count, max) = (number("count")?, number("max")?);
        let percentiles = PERCENTILES.map(|(name, _)| summary.get(name).map(Json::as_u64));
        let lost = number("lost").unwrap_or(0);
        let adds_up = number("due").is_none_or(|due| Some(due) == count.checked_add(lost));
        (count > 0 || !adds_up).then_some(Self { count, lost, adds_up, min: number("min"), max, percentiles })
    }
}

/// What the log has of a summary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Logged {
    count: u64,
    /// Whether the values are those of the summary, if it has as many.
    agrees: bool,
}

impl Logged {
    fn of(values: &Counts, summary: Option<&Summarised>) -> Self {
        let agrees = summary.is_some_and(|summary| {
            let of_log = PERCENTILES.map(|(_, quantile)| values.value_at(summary.lost, quantile));
            let same = |(record, log): (&Option<Option<u64>>, Option<u64>)| record.is_none_or(|record| record == log);
            values.max() == summary.max
                && summary.min.is_none_or(|min| values.min() == min)
                && summary.percentiles.iter().zip(of_log).all(same)
        });
        Self { count: values.len(), agrees }
    }

    /// With the values of another part of the log, apart from the first.
    fn and(self, other: Self) -> Self {
        if self.count == 0 { other } else { Self { count: self.count + other.count, agrees: false } }
    }
}

/// Collects what the log holds and compares it with the trials.
#[derive(Debug, Default)]
pub struct Audit {
    /// What the trials' lines say, by trial, then by name: `w0.accept_wait` for one worker, `response` for all loaders together,
    /// `kept.*.response` for those of one of several populations.
    expected: BTreeMap<usize, BTreeMap<String, Summarised>>,
    /// What the log has of it.
    logged: BTreeMap<usize, BTreeMap<String, Logged>>,
    /// The number of entries by trial.
    entries: BTreeMap<usize, u64>,
    /// By trial, the metrics of the log of which its line says nothing.
    strangers: BTreeMap<usize, BTreeSet<String>>,
    strangers_count: usize,
    /// The trial of the latest entries, the metrics that its line mentions, and the sums of entries by name: only one trial's are in
    /// memory, and only those that have something to be compared with.
    trial: Option<usize>,
    known: BTreeSet<String>,
    sums: BTreeMap<String, Counts>,
    /// What the log itself has as sums of this trial, by metric.
    logged_sums: BTreeMap<String, Counts>,
    /// Sums that are not those of their parts: trial and metric.
    wrong_sums: BTreeSet<(usize, String)>,
}

impl Audit {
    /// Begins with what the trials' lines say.
    pub fn new(trials: &[TrialRecord]) -> Self {
        Self { expected: trials.iter().map(|trial| (trial.trial, expected(trial))).collect(), ..Self::default() }
    }

    /// Adds a histogram of the log, in the log's order.
    pub fn add(&mut self, part: &Part<'_>) {
        if self.trial != Some(part.trial) {
            self.end_trial();
            self.trial = Some(part.trial);
            let names = self.expected.get(&part.trial).into_iter().flat_map(BTreeMap::keys);
            self.known = names.map(|name| metric(name).to_owned()).collect();
        }
        *self.entries.entry(part.trial).or_default() += 1;
        let Some(expected) = self.expected.get(&part.trial) else { return };
        let Name { population, own, metric } = part.name;
        let is_known = self.known.contains(metric);
        if !is_known && self.strangers_count < STRANGERS {
            let strangers = self.strangers.entry(part.trial).or_default();
            self.strangers_count += usize::from(strangers.insert(metric.to_owned()));
        }
        if part.name.is_sum() {
            if is_known && self.logged_sums.insert(metric.to_owned(), part.counts.clone()).is_some() {
                self.wrong_sums.insert((part.trial, metric.to_owned()));
            }
            return;
        }
        let of_population = population.map(|population| of_population(population, metric));
        let sum = of_all(metric);
        let names = [Some(own), Some(metric), of_population.as_deref()].into_iter().flatten();
        let named = names.filter(|name| expected.contains_key(*name)).chain(is_known.then_some(&sum[..]));
        for name in named {
            match self.sums.get_mut(name) {
                None => drop(self.sums.insert(name.to_owned(), part.counts.clone())),
                // The count then lacks values beyond the first one's bounds.
                Some(sum) => sum.add(&part.counts),
            }
        }
    }

    fn end_trial(&mut self) {
        let Some(trial) = self.trial else { return };
        let summaries = self.expected.get(&trial);
        let mut sums = std::mem::take(&mut self.sums);
        for (metric, logged) in std::mem::take(&mut self.logged_sums) {
            if sums.get(&of_all(&metric)).is_none_or(|values| *values != logged) {
                self.wrong_sums.insert((trial, metric));
            }
        }
        sums.retain(|name, _| !name.starts_with(ALL_PARTS));
        for (name, values) in sums {
            let logged = Logged::of(&values, summaries.and_then(|summaries| summaries.get(&name)));
            let all = self.logged.entry(trial).or_default().entry(name).or_default();
            *all = all.and(logged);
        }
    }

    /// What is missing, extra or different in the log and among the trials, a clause each; empty if all agree. Of the log, the
    /// lines that hold no histogram, if there are any; `None` without a log.
    pub fn compare(mut self, trials: &[TrialRecord], unreadable: Option<Option<Unreadable>>) -> Vec<String> {
        self.end_trial();
        let mut flaws = numbering(trials, &self.entries);
        flaws.extend(sums(trials));
        let Some(unreadable) = unreadable else {
            flaws.push(format!("{HISTOGRAMS} is missing"));
            return flaws;
        };
        if let Some(Unreadable { lines, first }) = unreadable {
            flaws.push(match lines {
                1 => format!("{HISTOGRAMS}: 1 line cannot be read (line {first})"),
                _ => format!("{HISTOGRAMS}: {lines} lines cannot be read, the first of them line {first}"),
            });
        }
        let (mut absent, mut differing) = (Vec::new(), Vec::new());
        let nothing = (BTreeMap::new(), BTreeSet::new());
        for (trial, expected) in &self.expected {
            let logged = self.logged.get(trial).unwrap_or(&nothing.0);
            let strangers = self.strangers.get(trial).unwrap_or(&nothing.1);
            if !self.entries.contains_key(trial) && expected.values().any(|summary| summary.count > 0) {
                absent.push(*trial);
                continue;
            }
            let found = differences(*trial, expected, logged, strangers);
            // Of a sum without one of its parts, the part says more.
            let wrong = self.wrong_sums.iter().filter(|(of, _)| of == trial && found.is_empty());
            differing.extend(wrong.map(|(_, metric)| {
                format!("{HISTOGRAMS}: `t{trial}.{ALL}.{metric}` is not the sum of the others of that trial and metric")
            }));
            differing.extend(found);
        }
        if !absent.is_empty() {
            flaws.push(format!("{HISTOGRAMS} has nothing of {}", listed(&absent)));
        }
        let more = differing.len().saturating_sub(NAMED);
        differing.truncate(NAMED);
        flaws.extend(differing);
        if more > 0 {
            flaws.push(format!("and {}", counted(more as u64, "more difference", "more differences")));
        }
        flaws
    }
}

/// Trials whose own figures contradict each other, by what does not add up.
fn sums(trials: &[TrialRecord]) -> Vec<String> {
    type Holds = fn(&TrialRecord) -> bool;
    const SUMS: [(&str, Holds); 8] = [
        ("`connections` does not add up to its `unaccounted`", |trial| {
            trial.connections.unaccounted == trial.connections.unaccounted()
        }),
        ("`connections.accepted` is not what its members accepted", |trial| {
            let foreign = trial.connections.foreign_members.iter().map(|member| member.accepted);
            let members = trial.workers.iter().map(|member| member.total.accepted).chain(foreign).sum::<Option<u64>>();
            // Without members, nobody accepted.
            members.zip(trial.connections.accepted).is_none_or(|(members, all)| members == all)
        }),
        ("`measured.accepted` is not what its members accepted in the window", |trial| {
            let members = trial.workers.iter().map(|member| member.measured.accepted).sum::<Option<u64>>();
            members.zip(trial.measured.accepted).is_none_or(|(members, all)| members == all)
        }),
        ("`datagrams` does not add up to its `unaccounted`", |trial| {
            trial.datagrams.as_ref().is_none_or(super::Datagrams::adds_up)
        }),
        ("a population of `loads` does not add up to its `attempted`", |trial| {
            trial.loads.iter().all(|load| load.connections.adds_up())
        }),
        ("`connections.attempted` is not what the populations of `loads` attempted", |trial| {
            let attempted = trial.loads.iter().map(|load| u128::from(load.connections.attempted)).sum::<u128>();
            trial.loads.is_empty() || attempted == u128::from(trial.connections.attempted)
        }),
        ("a host of `hosts` does not add up to its `attempted`", |trial| {
            trial.hosts.iter().all(super::HostRow::adds_up)
        }),
        ("`connections.attempted` is not what the hosts of `hosts` attempted", |trial| {
            let attempted = trial.hosts.iter().map(|host| u128::from(host.attempted)).sum::<u128>();
            trial.hosts.is_empty() || attempted == u128::from(trial.connections.attempted)
        }),
    ];
    let mut flaws = Vec::new();
    for (what, holds) in SUMS {
        let wrong: Vec<usize> = trials.iter().filter(|trial| !holds(trial)).map(|trial| trial.trial).collect();
        if !wrong.is_empty() {
            flaws.push(format!("{TRIALS}: {what} in {}", listed(&wrong)));
        }
    }
    flaws
}

/// Trials are numbered from 0, so a lost line leaves a gap. Lines lost at the end show in a log that goes on with the next numbers; a
/// number farther on is the log's fault.
fn numbering(trials: &[TrialRecord], entries: &BTreeMap<usize, u64>) -> Vec<String> {
    let known: BTreeSet<usize> = trials.iter().map(|trial| trial.trial).collect();
    let mut end = known.last().map_or(0, |last| last + 1);
    while entries.contains_key(&end) {
        end += 1;
    }
    let foreign: Vec<usize> = entries.range(end..).map(|(number, _)| *number).collect();
    let lost: Vec<usize> = (0..end).filter(|number| !known.contains(number)).collect();
    let mut flaws = Vec::new();
    if !lost.is_empty() {
        flaws.push(format!("{TRIALS} has no line for {}", listed(&lost)));
    }
    if !foreign.is_empty() {
        let count = counted(entries.range(end..).map(|(_, count)| count).sum(), "entry", "entries");
        flaws.push(format!("{HISTOGRAMS} has {count} of {}, which {TRIALS} does not have", listed(&foreign)));
    }
    flaws
}

/// What a trial's line says of its histograms, by their names.
fn expected(trial: &TrialRecord) -> BTreeMap<String, Summarised> {
    // A trial's samples, by far the most of it, are no histograms.
    let json = [
        ("latency_ns", serde_json::to_value(&trial.latency_ns)),
        ("stages_ns", serde_json::to_value(&trial.stages_ns)),
        ("workers", serde_json::to_value(&trial.workers)),
        ("hosts", serde_json::to_value(&trial.hosts)),
        ("events", serde_json::to_value(&trial.events)),
    ];
    let json: Map<String, Json> =
        json.map(|(key, value)| (key.to_owned(), value.unwrap_or_default())).into_iter().collect();
    let mut expected = BTreeMap::new();
    let mut note = |name: String, summary: &Json| {
        if let Some(content) = Summarised::of(summary) {
            expected.insert(name, content);
        }
    };
    let members = |key: &str| json[key].as_object().into_iter().flatten();
    members("latency_ns").for_each(|(metric, summary)| note(metric.clone(), summary));
    members("stages_ns").for_each(|(stage, summary)| note(format!("stage_{stage}"), summary));
    for row in json["workers"].as_array().into_iter().flatten() {
        let own = [row.as_object(), row["datagram_socket"].as_object()].into_iter().flatten().flatten();
        own.for_each(|(metric, summary)| note(format!("w{}.{metric}", row["member"]), summary));
    }
    for row in json["hosts"].as_array().into_iter().flatten() {
        let own = row["latency_ns"].as_object().into_iter().flatten();
        own.for_each(|(metric, summary)| note(format!("h{}.{metric}", row["rank"]), summary));
    }
    for row in trial.populations() {
        let latencies = serde_json::to_value(&row.latency_ns).unwrap_or_default();
        for (metric, summary) in latencies.as_object().into_iter().flatten() {
            note(of_population(&row.name, metric), summary);
        }
    }
    for row in json["events"].as_array().into_iter().flatten() {
        note(format!("e{}-{}.stranded_wait", row["event"], row["occurrence"]), &row["stranded_wait"]);
    }
    expected
}

fn differences(
    trial: usize,
    expected: &BTreeMap<String, Summarised>,
    logged: &BTreeMap<String, Logged>,
    strangers: &BTreeSet<String>,
) -> Vec<String> {
    let (mut found, mut sums): (BTreeMap<&str, String>, BTreeMap<&str, String>) = Default::default();
    for (name, summary) in expected {
        let values = |count| counted(count, "value", "values");
        if !summary.adds_up {
            sums.insert(name, format!("{TRIALS}: `due` of `t{trial}.{name}` is not `count` + `lost`"));
            continue;
        }
        match logged.get(name) {
            None => found.insert(name, format!("lacks all {} of `t{trial}.{name}`", values(summary.count))),
            Some(content) if content.count != summary.count => {
                let (has, says) = (values(content.count), summary.count);
                found.insert(name, format!("has {has} of `t{trial}.{name}`, and {TRIALS} says {says}"))
            }
            Some(content) if !content.agrees => {
                found.insert(name, format!("has other values of `t{trial}.{name}` than {TRIALS} says"))
            }
            Some(_) => continue,
        };
    }
    for name in strangers {
        found.insert(name, format!("has `{name}` of trial {trial}, of which {TRIALS} says nothing"));
    }
    // A sum over workers differs if one of them does, which says more.
    let of_members: BTreeSet<&str> = found.keys().filter(|name| name.contains('.')).map(|name| metric(name)).collect();
    found.retain(|name, _| name.contains('.') || !of_members.contains(name));
    let of_log = found.into_values().map(|flaw| format!("{HISTOGRAMS} {flaw}"));
    sums.into_values().chain(of_log).collect()
}

/// All of a population's histograms of a metric: `kept.*.response`.
fn of_population(population: &str, metric: &str) -> String {
    format!("{population}.*.{metric}")
}

/// Begins the name of the sum of a metric's parts, as no name of the log does.
const ALL_PARTS: &str = "*.";

fn of_all(metric: &str) -> String {
    format!("{ALL_PARTS}{metric}")
}

/// `accept_wait` of `w0.accept_wait`.
fn metric(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// `trial 3`, `trials 3, 4 and 7`; of many, only the first ones.
fn listed(trials: &[usize]) -> String {
    let numbers: Vec<String> = trials.iter().take(NAMED).map(ToString::to_string).collect();
    let more = trials.len().saturating_sub(NAMED);
    match &numbers[..] {
        [one] => format!("trial {one}"),
        _ if more > 0 => format!("trials {} and {more} more", numbers.join(", ")),
        [others @ .., last] => format!("trials {} and {last}", others.join(", ")),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{
        Connections, Datagrams, HostLatencies, HostRow, Latencies, LatencySummary, LoadConnections, LoadRow, Measured,
        MemberRow, WorkerCounts,
    };

    fn one(value: u64, count: u64) -> Counts {
        let mut one = Counts::new(1, 60_000_000_000, 3).unwrap();
        one.extend([(value, count)].into_iter());
        one
    }

    /// A trial of two workers with a value each, and its parts in the log.
    fn trial(number: usize, offset: u64) -> (TrialRecord, Vec<(String, Counts)>) {
        let mut trial = TrialRecord { trial: number, ..TrialRecord::default() };
        let waits = [one(5_000 + offset, 1), one(90_000 + offset, 1)];
        let mut both = waits[0].clone();
        both.add(&waits[1]);
        trial.latency_ns = Latencies {
            accept_wait: LatencySummary::of(&both),
            response: LatencySummary::with_lost(&both, 3),
            ..Latencies::default()
        };
        trial.workers = vec![MemberRow::default(); 2];
        let mut parts = Vec::new();
        for ((member, row), waits) in trial.workers.iter_mut().enumerate().zip(waits) {
            row.member = member;
            row.accept_wait = Some(LatencySummary::of(&waits));
            parts.push((format!("w{member}.accept_wait"), waits.clone()));
            parts.push((format!("l{member}.response"), waits));
        }
        (trial, parts)
    }

    #[test]
    fn a_sum_in_the_log_is_that_of_its_parts() {
        let audited = |sums: &[(&str, &Counts)]| {
            let (trial, parts) = trial(0, 0);
            let mut audit = Audit::new(std::slice::from_ref(&trial));
            let parts = parts.iter().map(|(name, histogram)| (&name[..], histogram));
            for (name, histogram) in parts.chain(sums.iter().copied()) {
                let name = Name::parse(name).unwrap();
                audit.add(&Part { trial: 0, name, counts: histogram.clone() });
            }
            audit.compare(&[trial], Some(None))
        };
        let (_, parts) = trial(0, 0);
        let mut both = parts[0].1.clone();
        both.add(&parts[2].1);
        let none: Vec<String> = Vec::new();
        // Logs of versions that wrote no sums are whole.
        assert_eq!(audited(&[]), none);
        assert_eq!(audited(&[("all.accept_wait", &both), ("all.response", &both)]), none);
        let wrong = |metric| {
            vec![format!("histograms.hlog: `t0.all.{metric}` is not the sum of the others of that trial and metric")]
        };
        assert_eq!(audited(&[("all.accept_wait", &both), ("all.response", &parts[0].1)]), wrong("response"));
        assert_eq!(audited(&[("all.accept_wait", &both), ("all.accept_wait", &both)]), wrong("accept_wait"));
        let stranger = vec!["histograms.hlog has `x` of trial 0, of which trials.jsonl says nothing".to_owned()];
        assert_eq!(audited(&[("all.x", &both)]), stranger);
    }

    #[test]
    fn each_of_several_populations_has_histograms_of_its_own() {
        let load = |name: &str, values: &Counts| LoadRow {
            name: name.to_owned(),
            latency_ns: Latencies { response: LatencySummary::of(values), ..Latencies::default() },
            ..LoadRow::default()
        };
        let (kept, storm) = (one(1_000, 2), one(2_000, 3));
        let mut all = kept.clone();
        all.add(&storm);
        let trial = TrialRecord {
            latency_ns: Latencies { response: LatencySummary::of(&all), ..Latencies::default() },
            loads: vec![load("kept", &kept), load("storm", &storm)],
            ..TrialRecord::default()
        };
        let log = |kept: Counts, storm: Counts| {
            [("kept.l0.response", kept), ("storm.l1.response", storm)].map(|(name, one)| (0, name.to_owned(), one))
        };
        let none: Vec<String> = Vec::new();
        assert_eq!(flaws(std::slice::from_ref(&trial), &log(kept.clone(), storm.clone()), &[]), none);
        // The sum would not show that they changed places.
        assert_eq!(
            flaws(&[trial], &log(storm, kept), &[]),
            [
                "histograms.hlog has 3 values of `t0.kept.*.response`, and trials.jsonl says 2",
                "histograms.hlog has 2 values of `t0.storm.*.response`, and trials.jsonl says 3"
            ]
        );
    }

    #[test]
    fn each_of_several_hosts_has_histograms_of_its_own() {
        let (first, second) = (one(1_000, 2), one(2_000, 3));
        let mut all = first.clone();
        all.add(&second);
        let host = |rank, values: &Counts| HostRow {
            rank,
            latency_ns: Some(HostLatencies { response: LatencySummary::of(values), ..HostLatencies::default() }),
            ..HostRow::default()
        };
        let trial = TrialRecord {
            latency_ns: Latencies { response: LatencySummary::of(&all), ..Latencies::default() },
            hosts: vec![HostRow::default(), host(1, &first), host(2, &second)],
            ..TrialRecord::default()
        };
        // Two populations of the first one's are its values together.
        let log = |parts: [&Counts; 3]| {
            let names = ["kept.h1.response", "storm.h1.response", "storm.h2.response"];
            names.iter().zip(parts).map(|(name, one)| (0, (*name).to_owned(), one.clone())).collect::<Vec<_>>()
        };
        let half = one(1_000, 1);
        let none: Vec<String> = Vec::new();
        assert_eq!(flaws(std::slice::from_ref(&trial), &log([&half, &half, &second]), &[]), none);
        assert_eq!(
            flaws(&[trial], &log([&half, &one(1_000, 2), &one(2_000, 2)]), &[]),
            [
                "histograms.hlog has 3 values of `t0.h1.response`, and trials.jsonl says 2",
                "histograms.hlog has 2 values of `t0.h2.response`, and trials.jsonl says 3"
            ]
        );
    }

    fn flaws(trials: &[TrialRecord], log: &[(usize, String, Counts)], unreadable: &[usize]) -> Vec<String> {
        let mut audit = Audit::new(trials);
        for (trial, name, histogram) in log {
            audit.add(&Part { trial: *trial, name: Name::parse(name).unwrap(), counts: histogram.clone() });
        }
        let unreadable = unreadable.first().map(|first| Unreadable { lines: unreadable.len(), first: *first });
        audit.compare(trials, Some(unreadable))
    }

    #[test]
    fn what_is_missing_extra_or_different_is_named() {
        let (records, parts): (Vec<_>, Vec<_>) = (0..3).map(|number| trial(number, 0)).unzip();
        let log: Vec<_> = parts
            .into_iter()
            .enumerate()
            .flat_map(|(number, parts)| parts.into_iter().map(move |(name, histogram)| (number, name, histogram)))
            .collect();
        assert!(flaws(&records, &log, &[]).is_empty(), "{:?}", flaws(&records, &log, &[]));
        assert!(flaws(&[], &[], &[]).is_empty());

        // The log's end is gone.
        assert_eq!(
            flaws(&records, &log[..5], &[7]),
            [
                "histograms.hlog: 1 line cannot be read (line 7)",
                "histograms.hlog has nothing of trial 2",
                "histograms.hlog lacks all 2 values of `t1.response`",
                "histograms.hlog lacks all 1 value of `t1.w1.accept_wait`"
            ]
        );
        assert_eq!(flaws(&records, &[], &[]), ["histograms.hlog has nothing of trials 0, 1 and 2"]);
        // Lines are gone.
        assert_eq!(flaws(&records[1..2], &log, &[]), ["trials.jsonl has no line for trials 0 and 2"]);
        // Entries of a trial far beyond the last are the log's own; of two lost lines, they are what is left.
        let stray = [&log[..], &[(99, "w0.accept_wait".to_owned(), log[0].2.clone())]].concat();
        assert_eq!(
            flaws(&records, &stray, &[]),
            ["histograms.hlog has 1 entry of trial 99, which trials.jsonl does not have"]
        );
        assert_eq!(flaws(&records[..1], &log, &[]), ["trials.jsonl has no line for trials 1 and 2"]);
        assert_eq!(Audit::new(&records).compare(&records, None), ["histograms.hlog is missing"]);
        // A line of the log stands there twice, or is of something unknown.
        let more = [&log[..], &log[..1], &[(0, "l0.nonsense".to_owned(), log[0].2.clone())]].concat();
        assert_eq!(
            flaws(&records, &more, &[]),
            [
                "histograms.hlog has `nonsense` of trial 0, of which trials.jsonl says nothing",
                "histograms.hlog has 2 values of `t0.w0.accept_wait`, and trials.jsonl says 1"
            ]
        );
    }

    #[test]
    fn a_log_of_another_record_with_as_many_values_is_found() {
        let (one, _) = trial(0, 0);
        let (_, parts) = trial(0, 2_000);
        let log: Vec<_> = parts.into_iter().map(|(name, histogram)| (0, name, histogram)).collect();
        let found = flaws(&[one], &log, &[]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().all(|flaw| flaw.contains("has other values of `t0.")), "{found:?}");
    }

    #[test]
    fn percentiles_are_those_of_the_log() {
        let (record, parts) = trial(0, 0);
        let log: Vec<_> = parts.into_iter().map(|(name, histogram)| (0, name, histogram)).collect();
        let change = |change: fn(&mut TrialRecord)| {
            let mut changed = record.clone();
            change(&mut changed);
            flaws(&[changed], &log, &[])
        };
        assert!(change(|_| {}).is_empty());
        let waits = "histograms.hlog has other values of `t0.accept_wait` than trials.jsonl says";
        assert_eq!(change(|trial| trial.latency_ns.accept_wait.p99 = Some(9_000)), [waits]);
        assert_eq!(change(|trial| trial.latency_ns.accept_wait.p50 = None), [waits]);
        // 2 responses of 5: the median falls among the lost.
        let response = "histograms.hlog has other values of `t0.response` than trials.jsonl says";
        assert_eq!(change(|trial| trial.latency_ns.response.p50 = Some(90_047)), [response]);
        assert_eq!(
            change(|trial| (trial.latency_ns.response.lost, trial.latency_ns.response.due) = (1, 3)),
            [response]
        );
        let sum = "trials.jsonl: `due` of `t0.response` is not `count` + `lost`";
        assert_eq!(change(|trial| trial.latency_ns.response.due += 1), [sum]);
        assert_eq!(
            change(|trial| trial.latency_ns.connect.due = 3),
            ["trials.jsonl: `due` of `t0.connect` is not `count` + `lost`"]
        );
        let of_worker = "histograms.hlog has other values of `t0.w1.accept_wait` than trials.jsonl says";
        assert_eq!(change(|trial| trial.workers[1].accept_wait.as_mut().unwrap().p999 = Some(1)), [of_worker]);
    }

    #[test]
    fn a_trials_own_sums_are_checked() {
        let trial = |number| TrialRecord {
            trial: number,
            connections: Connections {
                established: 7,
                left_in_queue: 2,
                accepted: Some(5),
                aborted: Some(0),
                ..Connections::default()
            }
            .balanced(),
            measured: Measured { accepted: Some(3), ..Measured::default() },
            workers: [(4, 3), (1, 0)]
                .map(|(total, measured)| {
                    let of = |accepted| WorkerCounts { accepted: Some(accepted), ..WorkerCounts::default() };
                    MemberRow { total: of(total), measured: of(measured), ..MemberRow::default() }
                })
                .to_vec(),
            ..TrialRecord::default()
        };
        let change = |change: fn(&mut TrialRecord)| {
            let mut trials = [trial(0), trial(1)];
            change(&mut trials[1]);
            sums(&trials)
        };
        let none: Vec<String> = Vec::new();
        assert_eq!(change(|_| {}), none);
        assert_eq!(
            change(|trial| *trial = TrialRecord { trial: 1, ..TrialRecord::default() }),
            none,
            "a trial that failed"
        );
        let balance = "trials.jsonl: `connections` does not add up to its `unaccounted` in trial 1";
        assert_eq!(change(|trial| trial.connections.established = 8), [balance]);
        assert_eq!(change(|trial| trial.connections.unaccounted = None), [balance]);
        let members = "trials.jsonl: `connections.accepted` is not what its members accepted in trial 1";
        assert_eq!(change(|trial| trial.workers[0].total.accepted = Some(5)), [members]);
        assert_eq!(change(|trial| trial.workers[0].total.accepted = None), none, "nobody can know");
        let window = "trials.jsonl: `measured.accepted` is not what its members accepted in the window in trial 1";
        assert_eq!(change(|trial| trial.measured.accepted = Some(4)), [window]);
        let datagrams = "trials.jsonl: `datagrams` does not add up to its `unaccounted` in trial 1";
        assert_eq!(
            change(|trial| trial.datagrams = Some(Datagrams { sent: 1, unaccounted: Some(0), ..Datagrams::default() })),
            [datagrams]
        );
        let load = |attempted, completed| LoadRow {
            connections: LoadConnections { attempted, completed, ..LoadConnections::default() },
            ..LoadRow::default()
        };
        let of = |loads: [LoadRow; 2]| {
            let mut trials = [trial(0), trial(1)];
            (trials[1].connections.attempted, trials[1].loads) = (7, loads.to_vec());
            sums(&trials)
        };
        assert_eq!(of([load(3, 3), load(4, 4)]), none);
        let population = "trials.jsonl: a population of `loads` does not add up to its `attempted` in trial 1";
        assert_eq!(of([load(3, 2), load(4, 4)]), [population]);
        let all = "trials.jsonl: `connections.attempted` is not what the populations of `loads` attempted in trial 1";
        assert_eq!(of([load(3, 3), load(3, 3)]), [all]);
        let host = |rank, attempted, [completed, failed, in_flight]: [u64; 3]| HostRow {
            rank,
            attempted,
            completed,
            failed,
            in_flight,
            ..HostRow::default()
        };
        let of = |hosts: [HostRow; 2]| {
            let mut trials = [trial(0), trial(1)];
            (trials[1].connections.attempted, trials[1].hosts) = (7, hosts.to_vec());
            sums(&trials)
        };
        assert_eq!(of([host(1, 4, [2, 1, 1]), host(2, 3, [3, 0, 0])]), none);
        let one = "trials.jsonl: a host of `hosts` does not add up to its `attempted` in trial 1";
        assert_eq!(of([host(1, 4, [2, 1, 0]), host(2, 3, [3, 0, 0])]), [one]);
        let all = "trials.jsonl: `connections.attempted` is not what the hosts of `hosts` attempted in trial 1";
        assert_eq!(of([host(1, 4, [2, 1, 1]), host(2, 2, [2, 0, 0])]), [all]);
    }

    #[test]
    fn many_differences_are_counted() {
        let (records, _): (Vec<_>, Vec<_>) = (0..9).map(|number| trial(number, 0)).unzip();
        assert_eq!(flaws(&records, &[], &[]), ["histograms.hlog has nothing of trials 0, 1, 2, 3, 4, 5 and 3 more"]);
        let log: Vec<_> = (0..9).map(|trial| (trial, "l0.connect".to_owned(), one(1_000, 1))).collect();
        assert!(flaws(&records, &log, &[]).last().unwrap().ends_with("more differences"));
    }
}
