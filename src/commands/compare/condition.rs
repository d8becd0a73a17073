//! `--fail-if`: a condition for continuous integration.

use std::path::PathBuf;

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::Serialize;

use super::{super::Usage, named};
use crate::{
    format::{percent, ratio},
    report::p_equals,
    scenario::label,
    stats::{AgainstBaseline, Better, CellPair, Difference, Metric},
};

/// `METRIC worse than N%`.
#[derive(Debug)]
pub struct Condition {
    text: String,
    /// The metric judged.
    pub metric: &'static Metric,
    /// Allowed worsening as a fraction of the baseline's median.
    part: f64,
}

/// The result of judging a condition.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Judged {
    /// The condition as given.
    pub condition: String,
    /// Cells where it is met, with the figures.
    pub met_in: Vec<String>,
    /// Cells where it cannot be judged, with the reason and the remedy.
    pub cannot_judge: Vec<String>,
}

impl Condition {
    /// Parses a condition.
    pub fn parse(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [name, "worse", "than", limit] = words[..] else {
            bail!(Usage(format!(
                "--fail-if '{text}': expected METRIC worse than N%, e.g. 'accept_wait_p99 worse than 5%'"
            )));
        };
        let number = limit.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
        let Some(percent) = number.filter(|number| (0.0..=1e6).contains(number)) else {
            bail!(Usage(format!("--fail-if '{text}': \"{limit}\" is not a percentage of 0% or more")));
        };
        let metric = named(name)?;
        if metric.better == Better::Neither {
            bail!(Usage(format!("--fail-if '{text}': {name} cannot get worse or better, so it cannot be a condition")));
        }
        Ok(Self { text: text.to_owned(), metric, part: percent / 100.0 })
    }

    /// Judges all cells of all runs. Cells that cannot be judged are listed, so that silence means success.
    pub fn judge(&self, records: &[PathBuf], runs: &[AgainstBaseline]) -> Judged {
        let mut judged = Judged { condition: self.text.clone(), met_in: Vec::new(), cannot_judge: Vec::new() };
        for (record, run) in records.iter().zip(runs) {
            let record = record.display();
            for cell in &run.only_in_baseline {
                judged.cannot_judge.push(format!("{record} has no trial of {}", label(cell)));
            }
            for cell in &run.cells {
                let place = format!("{record}, {}", label(&cell.cell));
                self.judge_cell(cell, &place, &mut judged);
            }
        }
        judged
    }

    fn pair<'a>(&self, cell: &'a CellPair) -> Option<&'a crate::stats::MetricPair> {
        cell.metrics.iter().find(|pair| pair.metric == self.metric.name)
    }

    fn judge_cell(&self, cell: &CellPair, place: &str, judged: &mut Judged) {
        let Some(pair) = self.pair(cell) else {
            let why = if cell.not_compared.iter().any(|name| name == self.metric.name) {
                "is missing from one of the records, or was measured differently"
            } else {
                "is missing from both records"
            };
            judged.cannot_judge.push(format!("{place}: {} {why}", self.metric.name));
            return;
        };
        let worse_by = pair.worse_by(self.metric);
        if pair.is_shown_worse(self.metric) && worse_by > self.part {
            let times = pair.compared.ratio.map_or_else(String::new, |times| format!("{}×, ", ratio(times)));
            let p = p_equals(pair.compared.p_adjusted);
            let worse = if worse_by.is_finite() { percent(worse_by) } else { "infinitely".to_owned() };
            judged.met_in.push(format!("{place}: {worse} worse ({times}{p})"));
        } else if pair.compared.verdict == Difference::TooFewTrials {
            judged.cannot_judge.push(format!(
                "{place}: {} and {} valid trials are too few to show any difference: raise `repetitions`",
                pair.a.values.len(),
                pair.b.values.len()
            ));
        }
    }
}

impl Judged {
    /// The result as lines of text.
    pub fn lines(&self) -> Vec<String> {
        let met = self.met_in.iter().map(|place| format!("! {}: met: {place}", self.condition));
        let unknown = self.cannot_judge.iter().map(|why| format!("! {}: cannot be judged: {why}", self.condition));
        let lines: Vec<String> = met.chain(unknown).collect();
        if lines.is_empty() { vec![format!("{}: not met", self.condition)] } else { lines }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_parse_and_mistakes_are_named() {
        let condition = Condition::parse("accept_wait_p99 worse than 5%").unwrap();
        assert_eq!((condition.metric.name, condition.part), ("accept_wait_p99_ns", 0.05));
        assert_eq!(Condition::parse(" accepted_per_s  worse than 2.5% ").unwrap().part, 0.025);
        for (text, part) in [
            ("accept_wait_p99 > 5%", "worse than"),
            ("accept_wait_p99 worse than 5", "not a percentage"),
            ("accept_wait_p99 worse than -5%", "not a percentage"),
            ("nonsense worse than 5%", "unknown metric"),
            ("offered_per_s worse than 5%", "cannot be a condition"),
        ] {
            let error = format!("{:#}", Condition::parse(text).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
