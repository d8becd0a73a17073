//! Settings of a whole scenario rather than its cells: name, question, seed, and when there are enough trials.

use std::{fmt, path::Path, time::Duration};

use super::{
    error::ScenarioError,
    file::{self, File},
    keys::{self, AnyKey, Domain, Key, Named, paths},
    population,
    settings::{Log, Settings},
    variant,
};
use crate::suggest;

/// The keys of a whole scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// Names records and folders.
    pub name: String,
    /// The question it answers; may be empty.
    pub question: String,
    /// Seed of order, arrivals, service times and resampling.
    pub seed: u64,
    /// Trials per cell: with `stop` the fewest, with `search` those that confirm each end of the answer.
    pub repetitions: usize,
    /// The names of the metrics that the question asks about, the headline's first; empty for those that fit.
    pub answers: Vec<String>,
    /// The swept keys whose values compete, by their names in cells; empty if nothing is swept.
    pub compare: Vec<String>,
    /// How many hosts of a job have a server.
    pub servers: usize,
    /// When to stop repeating.
    pub stop: Option<Stop>,
    /// What to search for.
    pub search: Option<Search>,
}

/// Repeat until enough is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    /// What is to be known.
    pub until: Until,
    /// The most trials per cell.
    pub max_repetitions: usize,
}

/// What ends a run with [`Stop`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Until {
    /// Every difference from the best of at least this share is shown: `stop.difference`.
    Decided(f64),
    /// Half of the interval of each median of the headline's metric, divided by that median, is at most this: `stop.relative_error`.
    Precise(f64),
}

/// Search for the highest value of a key that keeps a metric within a limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// The name of the metric that is limited.
    pub metric: String,
    /// Its limit.
    pub limit: Limit,
    /// The path of the key to vary. Its value in the scenario is where the search begins.
    pub variable: String,
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
        let search = Search::read(&settings, file);
        let stops = settings.has_table(paths::STOP);
        let whole = Self {
            name: settings.get_or(keys::NAME, Some(stem(source).into())).unwrap_or_default().into_owned(),
            question: settings.get(keys::QUESTION).into_owned(),
            seed: settings.get(keys::SEED),
            repetitions: settings.get(if stops { keys::STOP_MIN_REPETITIONS } else { keys::REPETITIONS }),
            answers: settings.get(keys::ANSWERS).unwrap_or_default(),
            compare: compared(&settings, file, search.as_ref()),
            servers: settings.get(keys::HOSTS_SERVERS),
            stop: if stops { Stop::read(&settings) } else { None },
            search,
        };
        if let Some(stop) = whole.stop.as_ref().filter(|stop| stop.max_repetitions < whole.repetitions) {
            let least = keys::STOP_MIN_REPETITIONS;
            let problem = format!("{} is below `{}`, {}", stop.max_repetitions, least.path(), whole.repetitions);
            settings.conflict(keys::STOP_MAX_REPETITIONS, &[least], problem);
        }
        if whole.stop.is_some() && whole.search.is_some() {
            let key =
                if settings.is_set(keys::STOP_DIFFERENCE) { keys::STOP_DIFFERENCE } else { keys::STOP_RELATIVE_ERROR };
            settings.conflict(
                key,
                &[keys::SEARCH_METRIC, keys::SEARCH_LIMIT],
                "a [search] chooses its trials itself: keep one of the two",
            );
        }
        if whole.search.is_some() && !whole.answers.is_empty() {
            settings.conflict(
                keys::ANSWERS,
                &[keys::SEARCH_METRIC, keys::SEARCH_LIMIT],
                "has no effect with a [search], whose answer is what it finds: remove one of the two",
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
    let plain: String = stem.chars().map(|c| if keys::is_plain(c) { c } else { '-' }).collect();
    let name: String = plain.trim_start_matches(['.', '-']).chars().take(keys::LONGEST_NAME).collect();
    if name.is_empty() { "scenario".to_owned() } else { name }
}

/// The swept keys whose values compete, by their names in cells. In a search, the key it varies is the last swept key.
fn compared(settings: &Settings<'_>, file: &File, search: Option<&Search>) -> Vec<String> {
    let searched = search.map(|search| &search.variable[..]);
    let swept: Vec<&str> = file.swept().into_iter().chain(searched).collect();
    let short = short_names(&swept);
    let named = |path: &str| swept.iter().position(|swept| *swept == path).map(|place| short[place].clone());
    let Some(paths) = settings.get(keys::COMPARE) else {
        let first = [variant::PATH, keys::SERVER_STRATEGY.path()].into_iter().find_map(named);
        return first.or_else(|| short.first().cloned()).into_iter().collect();
    };
    let name = |path: &String| {
        let name = named(path);
        if name.is_none() && !file.unknown.contains(path) {
            let (all, name) = match swept.is_empty() {
                true => ("nothing".to_owned(), ""),
                false => (format!("`{}`", swept.join("`, `")), "name what competes, or "),
            };
            let meant = suggest::hint(path, swept.iter().copied());
            let problem = format!(
                "`{path}` is not swept; this scenario sweeps {all}: {name}remove it (`--set compare=` does){meant}"
            );
            settings.conflict(keys::COMPARE, &[], problem);
        }
        name
    };
    paths.iter().filter_map(name).collect()
}

/// The last part of each path, with the population's name if it has one, if unambiguous, otherwise the whole path.
pub(super) fn short_names(paths: &[&str]) -> Vec<String> {
    let leaf = |path: &str| match paths::population(path) {
        Some((name, leaf)) => format!("{name}.{leaf}"),
        None => paths::leaf(path).to_owned(),
    };
    let short = |path: &&str| {
        let alone = paths.iter().filter(|other| leaf(other) == leaf(path)).count() == 1;
        if alone { leaf(path) } else { (*path).to_owned() }
    };
    paths.iter().map(short).collect()
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
        let (difference, precision) = (keys::STOP_DIFFERENCE, keys::STOP_RELATIVE_ERROR);
        let max_repetitions = settings.get(keys::STOP_MAX_REPETITIONS);
        let until = match (settings.get(difference), settings.get(precision)) {
            (Some(difference), None) => Until::Decided(difference),
            (None, Some(error)) => Until::Precise(error),
            (Some(_), Some(_)) => {
                let problem = format!("ends a run, and so does `{}`: keep one of the two", difference.path());
                settings.conflict(precision, &[difference], problem);
                return None;
            }
            (None, None) => {
                let problem = format!(
                    "is missing: write e.g. 0.1 to decide about differences of 10 %, or `{} = 0.03` for intervals of ±3 %",
                    precision.path()
                );
                settings.conflict(difference, &[precision], problem);
                return None;
            }
        };
        Some(Self { until, max_repetitions })
    }
}

impl Search {
    fn read(settings: &Settings<'_>, file: &File) -> Option<Self> {
        if !settings.has_table(paths::SEARCH) {
            return None;
        }
        let metric = required(settings, keys::SEARCH_METRIC, "a search needs a metric and its limit");
        let limit = required(settings, keys::SEARCH_LIMIT, "a search needs a metric and its limit");
        let Named { key, path } = settings.get(keys::SEARCH_VARIABLE);
        let misplaced = || file.all_variants().find_map(|one| population::misplaced(&path, population::of(file, one)));
        let problem = if file.matrix.iter().any(|(swept, _)| *swept == path) {
            Some(format!("`{path}` is swept in [matrix]: keep one of the two"))
        } else if file.chosen().any(|variant| variant.values.contains_key(&path[..])) {
            Some(format!("`{path}` is set in a [[variant]]: keep one of the two"))
        } else {
            misplaced().map(|problem| format!("`{path}`: {problem}"))
        };
        if let Some(problem) = problem {
            settings.conflict(keys::SEARCH_VARIABLE, &[key], problem);
        }
        Some(Self {
            metric: metric.unwrap_or_default().into_owned(),
            limit: limit.unwrap_or(Limit::Number(0.0)),
            variable: path.into_owned(),
            whole: key.default_toml().is_some_and(|value| value.is_integer()),
            precision: settings.get(keys::SEARCH_PRECISION),
            highest: settings.get(keys::SEARCH_HIGHEST),
            max_trials: settings.get(keys::SEARCH_MAX_TRIALS),
        })
    }
}
