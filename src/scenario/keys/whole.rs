//! Keys of a whole scenario, which cannot be swept.

use toml::Value;

use super::{
    AnyKey, EMPTY, LOAD_BURST_SIZE, LOAD_CONCURRENCY, LOAD_RATE, SERVER_WORKERS,
    domain::{
        Domain, Integer, Number, Optional, OrWord, POSITIVE_SPAN, TEXT, Text, alternatives, integer, number, or_word,
        quoted, shown, text,
    },
    keys,
    load::{HIGHEST_RATE, LOWEST_RATE},
};
use crate::scenario::whole::Limit;

const NAME_OF_FOLDER: Text = text("string", |name| {
    let plain = !name.is_empty() && name.chars().all(is_plain);
    (!plain).then_some("must consist of letters, digits, `-`, `_` and `.`, since it names a folder")
});

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
        "Trials per cell. With `[stop]` the minimum; with `[search]` the trials that confirm each end of the answer.";
    METRIC: OrWord<Text> = "metric", or_word("auto", METRIC_NAME), None,
        "The metric that ranks the cells and that `[stop]` watches, by its name in results/README.md. `auto`: the one that \
         fits the scenario.";
    STOP_RELATIVE_ERROR: Optional<Number> = "stop.relative_error", Optional(number(0.0001, 10.0)), None,
        "Repeat until every cell's median is known this precisely: half of its 95 % interval divided by the median.";
    STOP_MAX_REPETITIONS: Integer<usize> = "stop.max_repetitions", integer(1, 10_000), 30,
        "`[stop]`: the most trials per cell.";
    SEARCH_METRIC: Optional<Text> = "search.metric", Optional(METRIC_NAME), None,
        "`[search]`: the metric whose median must stay within the limit.";
    SEARCH_LIMIT: Optional<LimitOfMetric> = "search.limit", Optional(LimitOfMetric), None,
        "`[search]`: the limit; a duration if the metric is a time.";
    SEARCH_VARIABLE: OneOf = "search.variable", VARIABLES, LOAD_RATE,
        "`[search]`: the key to vary, starting from its value in the scenario.";
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

impl Domain for OneOf {
    type Value = &'static dyn AnyKey;

    fn parse(&self, value: &Value) -> Result<Self::Value, String> {
        let named = self.0.iter().find(|key| value.as_str() == Some(key.path()));
        let paths = || self.0.iter().map(|key| key.path()).collect::<Vec<_>>();
        named.copied().ok_or_else(|| format!("must be one of {}, not {}", quoted(&paths()), shown(value)))
    }

    fn to_toml(&self, value: &Self::Value) -> Option<Value> {
        Some(Value::String(value.path().to_owned()))
    }

    fn describe(&self) -> String {
        alternatives(self.0.iter().map(|key| format!("`{}`", key.path())))
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
