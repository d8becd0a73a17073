//! Settings of a whole scenario rather than its cells: name, question, seed, and when there are enough trials.

use std::{fmt, path::Path, time::Duration};

use super::{
    error::ScenarioError,
    file::{self, File},
    keys::{self, Domain, Key, paths},
    settings::{Log, Settings},
};

/// The keys of a whole scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// Names records and folders.
    pub name: String,
    /// The question it answers; may be empty.
    pub question: String,
    /// Seed of order, arrivals, service times and resampling.
    pub seed: u64,
    /// Trials per cell: with `stop` the minimum, with `search` those that confirm each end of the answer.
    pub repetitions: usize,
    /// The name of the metric that ranks the cells; `None` for the one that fits.
    pub metric: Option<String>,
    /// When to stop repeating.
    pub stop: Option<Stop>,
    /// What to search for.
    pub search: Option<Search>,
}

/// Repeat until the intervals are narrow.
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    /// Half of the interval of the ranking metric's median, divided by that median.
    pub relative_error: f64,
    /// The most trials per cell.
    pub max_repetitions: usize,
}

/// Search for the highest value of a key that keeps a metric within a limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// The name of the metric that is limited.
    pub metric: String,
    /// Its limit.
    pub limit: Limit,
    /// The path of the key to vary. Its value in the scenario is where the search begins.
    pub variable: &'static str,
    /// Whether it takes whole numbers.
    pub whole: bool,
    /// How close the ends of the answer must be: their difference divided by the lower one.
    pub precision: f64,
    /// The highest value to try.
    pub highest: f64,
    /// The most trials per cell.
    pub max_trials: usize,
}

/// A metric's limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Of a time.
    Duration(Duration),
    /// Of anything else.
    Number(f64),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duration(span) => humantime::format_duration(*span).fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl Whole {
    /// Reads what belongs to the whole of a recorded scenario.
    pub fn parse(source: &str, text: &str) -> Result<Self, ScenarioError> {
        let (file, log) = (file::read(source, text, &[])?, Log::default());
        let whole = Self::read(source, &file, &log);
        let problems = [file.problems, log.take_problems()].concat();
        if problems.is_empty() { Ok(whole) } else { Err(ScenarioError::of(source, problems)) }
    }

    pub(super) fn read(source: &str, file: &File, log: &Log) -> Self {
        let settings = Settings::new(file, Vec::new(), log);
        let whole = Self {
            name: settings.get_or(keys::NAME, Some(stem(source).into())).unwrap_or_default().into_owned(),
            question: settings.get(keys::QUESTION).into_owned(),
            seed: settings.get(keys::SEED),
            repetitions: settings.get(keys::REPETITIONS),
            metric: settings.get(keys::METRIC).map(String::from),
            stop: Stop::read(&settings),
            search: Search::read(&settings, file),
        };
        if let Some(stop) = whole.stop.as_ref().filter(|stop| stop.max_repetitions < whole.repetitions) {
            let problem = format!("{} is below `repetitions`, {}", stop.max_repetitions, whole.repetitions);
            settings.conflict(keys::STOP_MAX_REPETITIONS, &[keys::REPETITIONS], problem);
        }
        if whole.stop.is_some() && whole.search.is_some() {
            settings.conflict(
                keys::STOP_RELATIVE_ERROR,
                &[keys::SEARCH_METRIC, keys::SEARCH_LIMIT],
                "a [search] chooses its trials itself: keep one of the two",
            );
        }
        whole
    }

    /// The most trials per cell, where their number is known beforehand.
    pub fn repetitions_at_most(&self) -> usize {
        self.stop.as_ref().map_or(self.repetitions, |stop| stop.max_repetitions)
    }
}

/// The file's name, with characters that a folder's name should not have replaced.
fn stem(source: &str) -> String {
    let stem = Path::new(source).file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    stem.replace(|c| !keys::is_plain(c), "-")
}

/// Reads a key that must be set, and complains if it is not.
fn required<D: Domain>(settings: &Settings<'_>, key: &Key<D>, problem: &str) -> D::Value {
    let value = settings.get(key);
    if !settings.is_set(key) {
        settings.conflict(key, &[], format_args!("is missing: {problem}"));
    }
    value
}

impl Stop {
    fn read(settings: &Settings<'_>) -> Option<Self> {
        if !settings.has_table(paths::STOP) {
            return None;
        }
        let relative_error = required(settings, keys::STOP_RELATIVE_ERROR, "write e.g. 0.03 for ±3 %");
        let max_repetitions = settings.get(keys::STOP_MAX_REPETITIONS);
        Some(Self { relative_error: relative_error?, max_repetitions })
    }
}

impl Search {
    fn read(settings: &Settings<'_>, file: &File) -> Option<Self> {
        if !settings.has_table(paths::SEARCH) {
            return None;
        }
        let metric = required(settings, keys::SEARCH_METRIC, "a search needs a metric and its limit");
        let limit = required(settings, keys::SEARCH_LIMIT, "a search needs a metric and its limit");
        let variable = settings.get(keys::SEARCH_VARIABLE);
        if file.matrix.iter().any(|(swept, _)| swept == variable.path()) {
            let problem = format!("`{}` is swept in [matrix]: keep one of the two", variable.path());
            settings.conflict(keys::SEARCH_VARIABLE, &[variable], problem);
        }
        Some(Self {
            metric: metric.unwrap_or_default().into_owned(),
            limit: limit.unwrap_or(Limit::Number(0.0)),
            variable: variable.path(),
            whole: variable.default_toml().is_some_and(|value| value.is_integer()),
            precision: settings.get(keys::SEARCH_PRECISION),
            highest: settings.get(keys::SEARCH_HIGHEST),
            max_trials: settings.get(keys::SEARCH_MAX_TRIALS),
        })
    }
}
