//! `--fail-if`: a condition for continuous integration.

use anyhow::{Result, bail};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Serialize;

use super::{super::Usage, named};
use crate::{
    format::{change, percent, plural},
    report::{comparison, p_equals},
    scenario::label,
    stats::{AgainstBaseline, Better, CellPair, Design, Metric, VALUES_FOR_RATIO, Verdict},
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
    /// Why it cannot be decided and the remedy, each once with the cells it applies to.
    pub undecided: Vec<String>,
    /// Cells where it is not met, with the figures: the whole interval is within the limit.
    pub not_met_in: Vec<String>,
    /// The same cell by cell.
    #[serde(skip)]
    pub cells: Vec<Case>,
}

/// A cell judged by a condition.
#[derive(Debug)]
pub struct Case {
    /// The cell, or what else is judged as a whole.
    pub place: String,
    /// The result.
    pub decision: Decision,
}

/// The result of judging a cell, with the figures or the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The condition is met.
    Met(String),
    /// It is not.
    NotMet(String),
    /// It cannot be decided.
    Undecided(String),
}

impl Decision {
    /// The words for the results, each with what it means.
    pub fn explained() -> [(&'static str, &'static str); 3] {
        let text = String::new;
        [
            (Self::Met(text()), "The change is worse than the limit, over its whole interval where there is one."),
            (Self::NotMet(text()), "The change is within the limit, over its whole interval where there is one."),
            (
                Self::Undecided(text()),
                "The limit is within the change's interval, or the reason beside it rules out a claim.",
            ),
        ]
        .map(|(result, meaning)| (result.as_str(), meaning))
    }

    /// The result in a word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Met(_) => "met",
            Self::NotMet(_) => "not met",
            Self::Undecided(_) => "undecided",
        }
    }
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
        if metric.better == Better::Higher && percent >= 100.0 {
            bail!(Usage(format!(
                "--fail-if '{text}': {name} can fall by 100% at most, so this could never be met; choose a limit below 100%"
            )));
        }
        Ok(Self { text: text.to_owned(), metric, part: percent / 100.0 })
    }

    /// Judges all cells. One that cannot be decided is listed, so that silence means success.
    pub fn judge(&self, against: &AgainstBaseline) -> Judged {
        let mut judged = Judged::nothing(&self.text);
        if against.cells.is_empty() {
            judged.leave_open("all cells", "the two sides have no cell in common");
        }
        for (cells, side) in [(&against.only_in_base, "baseline"), (&against.only_in_new, "new side")] {
            for cell in cells {
                judged.leave_open(&label(cell), &format!("only the {side} has this cell"));
            }
        }
        let mut undecided: IndexMap<String, Vec<String>> = IndexMap::new();
        for cell in &against.cells {
            let place = label(&cell.cell);
            let decision = self.decide(cell, against);
            match decision.clone() {
                Decision::Met(text) => judged.met_in.push(format!("{place}: {text}")),
                Decision::NotMet(text) => judged.not_met_in.push(format!("{place}: {text}")),
                Decision::Undecided(text) => undecided.entry(text).or_default().push(place.clone()),
            }
            judged.cells.push(Case { place, decision });
        }
        judged.undecided.extend(with_places(undecided, against.cells.len()));
        judged
    }

    /// By the interval of the worsening: met if all of it lies beyond the limit and a difference is shown, not met if all of it lies
    /// within.
    fn decide(&self, cell: &CellPair, against: &AgainstBaseline) -> Decision {
        let metric = self.metric;
        let Some(pair) = cell.metrics.iter().find(|pair| pair.metric == metric.name) else {
            let why = cell.not_compared.iter().find(|one| one.metric == metric.name);
            let why = why.map_or_else(|| "is not compared".to_owned(), comparison::why_not);
            return Decision::Undecided(format!("{} {why}", metric.name));
        };
        let (unit, needed) = (against.design.unit(), against.needed);
        let have = (pair.a.values.len(), pair.b.values.len());
        match pair.verdict {
            Verdict::Emulated => {
                return Decision::Undecided(format!(
                    "{} is an emulator's: compare runs on real processors, or in virtual machines with KVM",
                    metric.name
                ));
            }
            Verdict::NotAttributable if against.design == Design::FewBoots => {
                return Decision::Undecided(format!(
                    "boots of one kernel differ, too: compare records of at least {} a side",
                    plural(needed, "boot")
                ));
            }
            Verdict::NotAttributable => {
                return Decision::Undecided(format!(
                    "separate runs also differ by drift: run both sides with `run --interleave`, or compare at least {} a side",
                    plural(needed, "record")
                ));
            }
            Verdict::TooFew => {
                return Decision::Undecided(format!(
                    "{} against {} cannot show a difference in {}: at least {needed} a side are needed",
                    have.0,
                    plural(have.1, unit),
                    plural(against.tests, "comparison"),
                ));
            }
            _ => {}
        }
        let Some((low, high)) = pair.worse_within(metric) else {
            let few = have.0.min(have.1) < VALUES_FOR_RATIO;
            let why = if few {
                format!(
                    "{} against {} give no interval: at least {needed} a side are needed",
                    have.0,
                    plural(have.1, unit)
                )
            } else {
                "the percentile is not reached in some of the trials, so the difference has no interval: lower the load"
                    .to_owned()
            };
            return Decision::Undecided(why);
        };
        let worsening = pair.worse_by(metric);
        let medians = (pair.a.median, pair.b.median);
        // What is not tested differs as it does.
        let is_shown = pair.verdict.is_shown() || !metric.is_tested();
        let figures = figures(metric, medians, is_shown, worsening, (low, high), pair.p_adjusted);
        if low > self.part && pair.verdict.is_shown() {
            return Decision::Met(figures);
        }
        if high <= self.part {
            return Decision::NotMet(figures);
        }
        let limit = percent(self.part);
        if !metric.is_tested() {
            return Decision::Undecided(format!("{figures}: the trials disagree about the limit of {limit}"));
        }
        let fewest = have.0.min(have.1);
        let remedy = match enough(fewest, self.part, worsening, (low, high)) {
            // The whole interval is beyond the limit, but Holm's correction asks for more.
            Some(count) => {
                let count = plural(count.max(needed).max(fewest + 1), unit);
                format!("if the medians stay as they are, about {count} a side would decide")
            }
            None => format!("the median lies at the limit, so no number of {unit}s is likely to decide"),
        };
        Decision::Undecided(format!("{figures}: not decided against the limit of {limit}; {remedy}"))
    }
}

/// Each reason once, after the cells that it applies to.
fn with_places(reasons: IndexMap<String, Vec<String>>, cells: usize) -> impl Iterator<Item = String> {
    reasons.into_iter().map(move |(reason, places)| {
        let places =
            if places.len() > 1 && places.len() == cells { format!("all {cells} cells") } else { places.join("; ") };
        format!("{places}: {reason}")
    })
}

/// `12.0 % higher, which is worse (95 % interval +8.1 % to +15.2 %, p = 0.0079)`: the change of the metric itself, whose sign
/// differs from the worsening's where higher is better. Of a change that is not shown, only the medians are told: `median 7.9 % higher, no
/// difference shown (higher is worse; …)`.
fn figures(
    metric: &Metric,
    (a, b): (f64, f64),
    is_shown: bool,
    worsening: f64,
    (worse_low, worse_high): (f64, f64),
    p: Option<f64>,
) -> String {
    let (of_median, (low, high)) = match metric.better {
        Better::Higher => (-worsening, (-worse_high, -worse_low)),
        Better::Lower | Better::Neither => (worsening, (worse_low, worse_high)),
    };
    let is_worse = if metric.better == Better::Higher { b < a } else { b > a };
    let size = percent(of_median.abs());
    let amount = if !of_median.is_finite() {
        format!("{} instead of {}", metric.unit.show(b), metric.unit.show(a))
    } else if size == percent(0.0) {
        size
    } else {
        format!("{size} {}", if of_median > 0.0 { "higher" } else { "lower" })
    };
    let direction = if metric.better == Better::Higher { "lower is worse" } else { "higher is worse" };
    let (told, direction) = match (is_shown, amount == percent(0.0), is_worse) {
        (false, ..) => (format!("median {amount}, no difference shown"), Some(direction)),
        (true, true, _) => (amount, None),
        (true, false, true) => (format!("{amount}, which is worse"), None),
        (true, false, false) => (format!("{amount}, which is better"), None),
    };
    let ends = if low.is_finite() && high.is_finite() {
        let ends = format!("{} to {}", change(low), change(high));
        vec![if !metric.is_tested() { format!("{ends} over all trials") } else { format!("95 % interval {ends}") }]
    } else {
        Vec::new()
    };
    let facts: Vec<String> = ends.into_iter().chain(p.map(p_equals)).collect();
    let facts = facts.join(", ");
    let facts: Vec<&str> = direction.into_iter().chain(Some(&facts[..]).filter(|facts| !facts.is_empty())).collect();
    if facts.is_empty() { told } else { format!("{told} ({})", facts.join("; ")) }
}

/// The number of values per side at which the interval would exclude the limit, given the same median and scatter: its width shrinks
/// with the square root of that number. `None` if that is more than anybody would run.
fn enough(have: usize, limit: f64, worsening: f64, (low, high): (f64, f64)) -> Option<usize> {
    const MOST: f64 = 10_000.0;
    if worsening.is_infinite() {
        return Some(have + 1);
    }
    let (half, distance) =
        if worsening > limit { (worsening - low, worsening - limit) } else { (high - worsening, limit - worsening) };
    let count = have as f64 * (half / distance).powi(2);
    (count <= MOST).then_some(count.ceil() as usize)
}

impl Judged {
    /// A condition that nothing was judged by.
    pub fn nothing(condition: &str) -> Self {
        let nowhere = Vec::new;
        let condition = condition.to_owned();
        Self { condition, met_in: nowhere(), undecided: nowhere(), not_met_in: nowhere(), cells: Vec::new() }
    }

    /// Adds something that cannot be decided.
    pub fn leave_open(&mut self, place: &str, reason: &str) {
        self.undecided.push(format!("{place}: {reason}"));
        self.cells.push(Case { place: place.to_owned(), decision: Decision::Undecided(reason.to_owned()) });
    }

    /// The result as lines of text.
    pub fn lines(&self) -> Vec<String> {
        let line = |mark: &str, what: &str, place: &String| format!("{mark}{}: {what}: {place}", self.condition);
        let met = self.met_in.iter().map(|place| line("! ", "met", place));
        let undecided = self.undecided.iter().map(|place| line("! ", "undecided", place));
        let not_met = self.not_met_in.iter().map(|place| line("", "not met", place));
        met.chain(undecided).chain(not_met).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trials_that_would_decide_follow_from_interval_and_distance() {
        // Half as wide takes four times as many.
        assert_eq!(enough(5, 0.05, 0.10, (0.0, 0.2)), Some(20));
        assert_eq!(enough(5, 0.05, 0.0, (-0.1, 0.1)), Some(20));
        assert_eq!(enough(5, 0.05, 0.05, (0.0, 0.1)), None, "at the limit");
        assert_eq!(enough(5, 0.05, 0.050_01, (0.0, 0.1)), None, "nobody would run so many");
    }

    #[test]
    fn figures_state_the_change_of_the_metric_and_whether_that_is_worse() {
        let of = |name: &str, (a, b): (f64, f64), worsening, ends, p| {
            figures(named(name).unwrap(), (a, b), true, worsening, ends, p)
        };
        let wait = |b, worsening, ends, p| of("accept_wait_p99", (1e6, b), worsening, ends, p);
        assert_eq!(
            wait(1.15e6, 0.15, (0.08, 0.21), Some(0.0079)),
            "15.0 % higher, which is worse (95 % interval +8.0 % to +21.0 %, p = 0.0079)"
        );
        assert_eq!(
            wait(0.98e6, -0.02, (-0.1, 0.03), None),
            "2.0 % lower, which is better (95 % interval −10.0 % to +3.0 %)"
        );
        // Higher is better: the worsening's sign is not the metric's.
        let accepts = |b, worsening, ends| of("accepted_per_s", (1_000.0, b), worsening, ends, None);
        assert_eq!(
            accepts(1_012.0, -0.012, (-0.386, 0.182)),
            "1.2 % higher, which is better (95 % interval −18.2 % to +38.6 %)"
        );
        assert_eq!(accepts(900.0, 0.1, (0.05, 0.15)), "10.0 % lower, which is worse (95 % interval −15.0 % to −5.0 %)");
        // What rounds to nothing is neither.
        assert_eq!(accepts(1_000.0, 0.0, (-0.172, 0.37)), "0.0 % (95 % interval −37.0 % to +17.2 %)");
        assert_eq!(wait(1_000_100.0, 0.000_1, (-0.000_1, 0.000_2), None), "0.0 % (95 % interval 0.0 % to 0.0 %)");
        // A change from 0, or from a percentile that was not reached, has no percentage.
        let infinite = (f64::INFINITY, f64::INFINITY);
        assert_eq!(
            wait(f64::INFINITY, f64::INFINITY, infinite, None),
            "not reached instead of 1.00 ms, which is worse"
        );
        assert_eq!(
            of("accepted_per_s", (0.0, 5.0), f64::NEG_INFINITY, (f64::NEG_INFINITY, f64::NEG_INFINITY), None),
            "5/s instead of 0/s, which is better"
        );
        assert_eq!(
            of("ports_wall", (100.0, 90.0), 0.1, (0.1, 0.1), None),
            "10.0 % lower, which is worse (−10.0 % to −10.0 % over all trials)"
        );
    }

    #[test]
    fn a_change_that_is_not_shown_is_no_judgement() {
        let of = |name: &str, (a, b): (f64, f64), worsening, ends, p| {
            figures(named(name).unwrap(), (a, b), false, worsening, ends, p)
        };
        assert_eq!(
            of("accept_wait_p99", (1e6, 1.079e6), 0.079, (-0.126, 0.196), Some(1.0)),
            "median 7.9 % higher, no difference shown (higher is worse; 95 % interval −12.6 % to +19.6 %, p = 1.000)"
        );
        assert_eq!(
            of("accepted_per_s", (1_000.0, 900.0), 0.1, (-0.05, 0.15), None),
            "median 10.0 % lower, no difference shown (lower is worse; 95 % interval −15.0 % to +5.0 %)"
        );
        assert_eq!(
            of("accepted_per_s", (1_000.0, 1_000.0), 0.0, (-0.05, 0.15), None),
            "median 0.0 %, no difference shown (lower is worse; 95 % interval −15.0 % to +5.0 %)"
        );
    }

    #[test]
    fn a_reason_is_given_once() {
        let lines = |reasons: &[(&str, &[&str])], cells| -> Vec<String> {
            let reasons = reasons.iter().map(|(reason, places)| {
                ((*reason).to_owned(), places.iter().map(|place| (*place).to_owned()).collect())
            });
            with_places(reasons.collect(), cells).collect()
        };
        assert_eq!(lines(&[("drift", &["strategy=a", "strategy=b"])], 2), ["all 2 cells: drift"]);
        assert_eq!(
            lines(&[("drift", &["strategy=a", "strategy=b"]), ("missing", &["strategy=c"])], 3),
            ["strategy=a; strategy=b: drift", "strategy=c: missing"]
        );
        assert_eq!(lines(&[("drift", &["(one cell)"])], 1), ["(one cell): drift"]);
    }

    #[test]
    fn conditions_parse_and_mistakes_are_named() {
        let condition = Condition::parse("accept_wait_p99 worse than 5%").unwrap();
        assert_eq!(Condition::parse("accept_wait_p99 worse than 500%").unwrap().part, 5.0);
        assert_eq!((condition.metric.name, condition.part), ("accept_wait_p99_ns", 0.05));
        assert_eq!(Condition::parse(" accepted_per_s  worse than 2.5% ").unwrap().part, 0.025);
        for (text, part) in [
            ("accept_wait_p99 > 5%", "worse than"),
            ("accept_wait_p99 worse than 5", "not a percentage"),
            ("accept_wait_p99 worse than -5%", "not a percentage"),
            ("nonsense worse than 5%", "unknown metric"),
            ("offered_per_s worse than 5%", "cannot be a condition"),
            ("accepted_per_s worse than 100%", "could never be met"),
        ] {
            let error = format!("{:#}", Condition::parse(text).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
