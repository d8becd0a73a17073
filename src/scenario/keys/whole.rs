//! Keys of a whole scenario, which cannot be swept.

use std::borrow::Cow;

use toml::Value;

use super::{
    AnyKey, EMPTY, HOSTS_SERVER, LOAD_BURST_SIZE, LOAD_CONCURRENCY, LOAD_RATE, SERVER_WORKERS,
    domain::{
        Domain, Integer, Number, Optional, OrWord, POSITIVE_SPAN, TEXT, Text, alternatives, integer, not_one_of,
        number, or_word, shown, text,
    },
    keys,
    lists::{Names, names},
    load::{HIGHEST_RATE, LOWEST_RATE},
    paths,
};
use crate::scenario::whole::Limit;

const NAME_OF_FOLDER: Text = text("string", |name| {
    if name.is_empty() || !name.chars().all(is_plain) {
        Some("must consist of letters, digits, `-`, `_` and `.`, since it names a folder")
    } else if name.starts_with(['.', '-']) {
        // `..` leads out of the results, `.x` is hidden, and commands take `-x` for an option.
        Some("must begin with a letter, a digit or `_`, since it names a folder")
    } else if name.len() > LONGEST_NAME {
        Some("must have at most 128 characters, since it names a folder")
    } else {
        None
    }
});

/// With what is put before and after it, a name of a folder must not exceed the 255 bytes of file systems.
pub(in crate::scenario) const LONGEST_NAME: usize = 128;

/// Whether a character is allowed in a scenario's name.
pub(in crate::scenario) fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

const METRIC_NAME: Text = text("metric", |_| None);

keys! { WHOLE:
    NAME: Optional<Text> = "name", Optional(NAME_OF_FOLDER), None,
        "Name of the record and its folder; the file's name without `.toml` if left out.";
    QUESTION: Text = "question", TEXT, EMPTY,
        "The question this scenario answers; printed above the results.";
    SEED: Integer<u64> = "seed", integer(0, i64::MAX as u64), 1,
        "Determines the order of trials, the arrival times and the service times.";
    REPETITIONS: Integer<usize> = "repetitions", integer(1, 10_000), 5,
        "Trials per cell; with `[search]` the trials that confirm each end of the answer. `[stop]` decides itself; on the command line, \
         `--set repetitions=N` replaces it.";
    ANSWERS: OrWord<Names> = "answers", or_word("auto", names("metrics", "response_p99")), None,
        "The metrics the question asks about, by their names (`listenbench explain` lists them; a final `_ns` may be left out). Each gets \
         a sentence; the first is the headline, ranks the cells, and is what `stop.relative_error` watches. `auto`: those that fit the \
         scenario. With `[search]` the answer is what the search finds.";
    COMPARE: OrWord<Names> = "compare", or_word("auto", names("swept keys", "server.strategy")), None,
        "The swept keys whose values compete. Cells that differ in another swept key are under different conditions and are not \
         compared. `auto`: `variant` if there are any, else `server.strategy` if it is swept, else the first swept key.";
    HOSTS_SERVERS: Integer<usize> = "hosts.servers", integer(1, HOSTS_SERVER.max() + 1), 1,
        "How many hosts of a job have a server: the first ranks do; all others generate load. More than one requires a launcher, and \
         sweeps `hosts.server` over them, so that each has rows of its own.";
    STOP_DIFFERENCE: Optional<Number> = "stop.difference", Optional(number(0.001, 10.0)), None,
        "Repeat until each cell is shown to differ from the best, or would be if it differed by this share (0.1: 10 %), by every sampled answer.";
    STOP_RELATIVE_ERROR: Optional<Number> = "stop.relative_error", Optional(number(0.0001, 10.0)), None,
        "Repeat until every cell's median of the first answer is known this precisely: half of its 95 % interval divided by the median.";
    STOP_MIN_REPETITIONS: Integer<usize> = "stop.min_repetitions", integer(1, 10_000), 5,
        "`[stop]`: the fewest trials per cell.";
    STOP_MAX_REPETITIONS: Integer<usize> = "stop.max_repetitions", integer(1, 10_000), 30,
        "`[stop]`: the most trials per cell.";
    SEARCH_METRIC: Optional<Text> = "search.metric", Optional(METRIC_NAME), None,
        "`[search]`: the metric whose median must stay within the limit.";
    SEARCH_LIMIT: Optional<LimitOfMetric> = "search.limit", Optional(LimitOfMetric), None,
        "`[search]`: the limit; a duration if the metric is a time.";
    SEARCH_VARIABLE: OneOf = "search.variable", VARIABLES, Named { key: LOAD_RATE, path: Cow::Borrowed("load.rate") },
        "`[search]`: the key to vary, starting from its value in the scenario; with several populations, the key of one of them, such as `load.storm.rate`.";
    SEARCH_PRECISION: Number = "search.precision", number(0.001, 10.0), 0.05,
        "`[search]`: stop when the values within and beyond the limit differ by at most this share of the lower one.";
    SEARCH_HIGHEST: Number = "search.highest", number(LOWEST_RATE, HIGHEST_RATE), 1_000_000.0,
        "`[search]`: the highest value to try.";
    SEARCH_MAX_TRIALS: Integer<usize> = "search.max_trials", integer(2, 10_000), 60,
        "`[search]`: the most trials per combination of swept values.";
}

/// The keys a search may vary.
const VARIABLES: OneOf = OneOf(&[LOAD_RATE, LOAD_CONCURRENCY, LOAD_BURST_SIZE, SERVER_WORKERS]);

/// The name of one of several keys.
pub struct OneOf(&'static [&'static dyn AnyKey]);

/// A key, and its path in a scenario: that of one population, if there are several.
#[derive(Clone)]
pub struct Named {
    pub key: &'static dyn AnyKey,
    pub path: Cow<'static, str>,
}

impl Domain for OneOf {
    type Value = Named;

    fn parse(&self, value: &Value) -> Result<Self::Value, String> {
        let path = value.as_str().unwrap_or_default();
        let known = paths::find(path).and_then(|found| self.0.iter().find(|key| key.path() == found.path()));
        let named = known.map(|key| Named { key: *key, path: Cow::Owned(path.to_owned()) });
        named.ok_or_else(|| not_one_of(&self.words(), "", value))
    }

    fn to_toml(&self, value: &Self::Value) -> Option<Value> {
        Some(Value::String(value.path.clone().into_owned()))
    }

    fn describe(&self) -> String {
        alternatives(self.0.iter().map(|key| format!("`{}`", key.path())))
    }

    fn words(&self) -> Vec<&'static str> {
        self.0.iter().map(|key| key.path()).collect()
    }
}

/// A metric's limit: a duration longer than zero, or a number.
#[derive(Debug, Clone, Copy)]
pub struct LimitOfMetric;

impl Domain for LimitOfMetric {
    type Value = Limit;

    fn parse(&self, value: &Value) -> Result<Limit, String> {
        if value.is_str() {
            return POSITIVE_SPAN.parse(value).map(Limit::Duration);
        }
        number(f64::MIN, f64::MAX)
            .parse(value)
            .map(Limit::Number)
            .map_err(|_| format!("must be a number or a duration in quotes, such as \"1ms\", not {}", shown(value)))
    }

    fn to_toml(&self, value: &Limit) -> Option<Value> {
        match value {
            Limit::Duration(span) => POSITIVE_SPAN.to_toml(span),
            Limit::Number(number) => Some(Value::Float(*number)),
        }
    }

    fn describe(&self) -> String {
        "duration > 0 or number".to_owned()
    }
}
