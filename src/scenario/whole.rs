//! What belongs to a whole scenario and not to its cells: name, question, seed, and when there are trials enough.

use std::{fmt, path::Path, time::Duration};

use toml::Value;

use super::{
    error::ScenarioError,
    file::{self, File, Flat},
    settings::Settings,
};

/// The keys of a whole scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// Names records and folders.
    pub name: String,
    /// What it answers; may be empty.
    pub question: String,
    /// Seed of order, arrivals, service times and resampling.
    pub seed: u64,
    /// Trials per cell; with `stop` at least, with `search` for each end of the answer.
    pub repetitions: usize,
    /// The metric that ranks the cells, by name; `None` for the one that fits.
    pub metric: Option<String>,
    /// When to stop repeating.
    pub stop: Option<Stop>,
    /// What to search for.
    pub search: Option<Search>,
}

/// Repeats until intervals are narrow.
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    /// Half of the interval of the ranking metric's median ÷ that median.
    pub relative_error: f64,
    /// Trials per cell at most.
    pub max_repetitions: usize,
}

/// Searches for the highest value of a key at which a limit is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// The metric that is limited, by name.
    pub metric: String,
    /// Its limit.
    pub limit: Limit,
    /// The key that is varied. Its value in the scenario is where the search begins.
    pub variable: String,
    /// Whether that takes whole numbers.
    pub whole: bool,
    /// How near the ends of the answer must be: their difference ÷ the lower.
    pub precision: f64,
    /// Values above are not tried.
    pub highest: f64,
    /// Trials per cell at most.
    pub max_trials: usize,
}

/// A metric's limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Of times.
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

/// Keys that a search may vary, and whether their values are whole numbers.
const VARIABLES: [(&str, (&str, bool)); 4] = [
    ("load.rate", ("load.rate", false)),
    ("load.concurrency", ("load.concurrency", true)),
    ("load.burst_size", ("load.burst_size", true)),
    ("server.workers", ("server.workers", true)),
];

impl Whole {
    /// Reads what belongs to the whole of a recorded scenario.
    pub fn parse(source: &str, text: &str) -> Result<Self, ScenarioError> {
        Ok(Self::read(source, &file::read(source, text, &[])?)?.0)
    }

    /// With the values in force.
    pub(super) fn read(source: &str, file: &File) -> Result<(Self, Flat), ScenarioError> {
        let settings = Settings::new(source, &file.values, &file.overridden);
        let name = if settings.is_set("name") { settings.string("name")? } else { stem(source) };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if settings.is_set("name") && (name.is_empty() || !name.chars().all(plain)) {
            return Err(settings.wrong("name", "may hold letters, digits, `-`, `_` and `.` only: it names a folder"));
        }
        let name = name.replace(|c| !plain(c), "-");
        let whole = Self {
            question: settings.string("question")?,
            seed: settings.integer("seed", 0..=i64::MAX as u64)?,
            repetitions: settings.integer("repetitions", 1..=10_000_u32)? as usize,
            metric: Some(settings.string("metric")?).filter(|metric| metric != "auto"),
            stop: Stop::read(&settings)?,
            search: Search::read(&settings, file)?,
            name: name.clone(),
        };
        if let Some(stop) = whole.stop.as_ref().filter(|stop| stop.max_repetitions < whole.repetitions) {
            let problem =
                format_args!("{} is below `repetitions`, {}", stop.max_repetitions, whole.repetitions).to_string();
            return Err(settings.wrong("stop.max_repetitions", problem));
        }
        if whole.stop.is_some() && whole.search.is_some() {
            return Err(
                settings.wrong("stop.relative_error", "a [search] chooses its trials itself: keep one of the two")
            );
        }
        let mut effective = Flat::new();
        effective.insert("name".to_owned(), Value::String(name));
        effective.extend(settings.into_effective());
        Ok((whole, effective))
    }

    /// Trials per cell at most, where their number is known before.
    pub fn repetitions_at_most(&self) -> usize {
        self.stop.as_ref().map_or(self.repetitions, |stop| stop.max_repetitions)
    }
}

fn stem(source: &str) -> String {
    Path::new(source).file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

impl Stop {
    fn read(settings: &Settings<'_>) -> Result<Option<Self>, ScenarioError> {
        if settings.below("stop.").is_empty() {
            return Ok(None);
        }
        if !settings.is_set("stop.relative_error") {
            return Err(settings.wrong("stop.relative_error", "is missing: write e.g. 0.03 for ±3 %"));
        }
        Ok(Some(Self {
            relative_error: settings.number("stop.relative_error", 0.0001..=10.0)?,
            max_repetitions: settings.integer("stop.max_repetitions", 1..=10_000_u32)? as usize,
        }))
    }
}

impl Search {
    fn read(settings: &Settings<'_>, file: &File) -> Result<Option<Self>, ScenarioError> {
        if settings.below("search.").is_empty() {
            return Ok(None);
        }
        for path in ["search.metric", "search.limit"] {
            if !settings.is_set(path) {
                return Err(settings.wrong(path, "is missing: a search wants a metric and its limit"));
            }
        }
        let (variable, whole) = settings.choice("search.variable", &VARIABLES)?;
        if file.matrix.iter().any(|(swept, _)| swept == variable) {
            return Err(settings
                .wrong("search.variable", format_args!("`{variable}` is swept in [matrix]: keep one of the two")));
        }
        let limit = if settings.is_text("search.limit") {
            Limit::Duration(settings.span("search.limit")?)
        } else {
            Limit::Number(settings.number("search.limit", f64::MIN..=f64::MAX)?)
        };
        Ok(Some(Self {
            metric: settings.string("search.metric")?,
            limit,
            variable: variable.to_owned(),
            whole,
            precision: settings.number("search.precision", 0.001..=10.0)?,
            highest: settings.number("search.highest", 0.001..=1e7)?,
            max_trials: settings.integer("search.max_trials", 2..=10_000_u32)? as usize,
        }))
    }
}
