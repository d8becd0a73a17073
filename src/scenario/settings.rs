//! One cell's values, read key by key with type, range and default; remembers what was asked for.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    fmt::Display,
    ops::RangeInclusive,
    time::Duration,
};

use toml::{Table, Value};

use super::{error::ScenarioError, file::Flat, keys};

/// Typed access to flat settings.
pub(super) struct Settings<'a> {
    source: &'a str,
    values: &'a Flat,
    /// Where a value comes from, if not from the source.
    overridden: &'a HashMap<String, String>,
    /// Every value that was used, defaults included.
    effective: RefCell<Flat>,
}

impl<'a> Settings<'a> {
    pub(super) fn new(source: &'a str, values: &'a Flat, overridden: &'a HashMap<String, String>) -> Self {
        Self { source, values, overridden, effective: RefCell::default() }
    }

    pub(super) fn into_effective(self) -> Flat {
        self.effective.into_inner()
    }

    /// An error that names file and key.
    pub(super) fn wrong(&self, path: &str, problem: impl Display) -> ScenarioError {
        let source = self.overridden.get(path).map_or(self.source, String::as_str);
        ScenarioError::new(source, format!("`{path}`: {problem}"))
    }

    /// Whether the scenario sets the key, and does not leave it to its default.
    pub(super) fn is_set(&self, path: &str) -> bool {
        self.values.contains_key(path)
    }

    /// Whether the scenario sets the key to a text.
    pub(super) fn is_text(&self, path: &str) -> bool {
        self.values.get(path).is_some_and(Value::is_str)
    }

    /// Whether the scenario sets the key to this text.
    pub(super) fn is_text_of(&self, path: &str, text: &str) -> bool {
        self.values.get(path).is_some_and(|value| value.as_str() == Some(text))
    }

    /// All set keys below a prefix, without it.
    pub(super) fn below(&self, prefix: &str) -> Vec<(String, Value)> {
        let mut effective = self.effective.borrow_mut();
        self.values
            .iter()
            .filter_map(|(path, value)| {
                let name = path.strip_prefix(prefix)?;
                effective.insert(path.clone(), value.clone());
                Some((name.to_owned(), value.clone()))
            })
            .collect()
    }

    /// How many numbered tables there are below a prefix, from 0 without a gap.
    pub(super) fn count_below(&self, prefix: &str) -> Result<usize, ScenarioError> {
        let number = |path: &str| path.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
        let numbers: BTreeSet<usize> = self.values.keys().filter_map(|path| number(path)).collect();
        match numbers.iter().zip(0..).find(|(number, place)| *number != place) {
            Some((number, place)) => Err(self.wrong(
                &format!("{prefix}{number}"),
                format_args!("there is no {prefix}{place}: they are counted from 0, without a gap"),
            )),
            None => Ok(numbers.len()),
        }
    }

    fn value(&self, path: &str) -> Value {
        let key = keys::find(path).unwrap_or_else(|| panic!("`{path}` is missing in scenario::keys"));
        self.value_or(path, key.default)
    }

    fn value_or(&self, path: &str, default: &str) -> Value {
        let value = self.values.get(path).cloned().unwrap_or_else(|| {
            let mut table: Table = format!("v = {default}").parse().expect("defaults are TOML");
            table.remove("v").expect("just parsed")
        });
        self.effective.borrow_mut().insert(path.to_owned(), value.clone());
        value
    }

    pub(super) fn string(&self, path: &str) -> Result<String, ScenarioError> {
        self.as_string(path, self.value(path))
    }

    /// A string, with a default that depends on another key.
    pub(super) fn string_or(&self, path: &str, default: &str) -> Result<String, ScenarioError> {
        self.as_string(path, self.value_or(path, &format!("\"{default}\"")))
    }

    fn as_string(&self, path: &str, value: Value) -> Result<String, ScenarioError> {
        match value {
            Value::String(text) => Ok(text),
            other => Err(self.wrong(path, format_args!("must be a string, not {other}"))),
        }
    }

    /// A whole number within a range.
    pub(super) fn integer<T>(&self, path: &str, range: RangeInclusive<T>) -> Result<T, ScenarioError>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let value = self.value(path);
        self.as_integer(path, &value, range)
    }

    fn as_integer<T>(&self, path: &str, value: &Value, range: RangeInclusive<T>) -> Result<T, ScenarioError>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let number = value.as_integer().and_then(|number| T::try_from(number).ok());
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            self.wrong(path, format_args!("must be a whole number from {low} to {high}, not {value}"))
        })
    }

    /// A whole number within a range, or the given word, which means `None`.
    pub(super) fn integer_or_word<T>(
        &self,
        path: &str,
        word: &str,
        range: RangeInclusive<T>,
    ) -> Result<Option<T>, ScenarioError>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        match self.value(path) {
            Value::String(text) if text == word => Ok(None),
            Value::String(text) => {
                Err(self.wrong(path, format_args!("must be \"{word}\" or a whole number, not \"{text}\"")))
            }
            value => self.as_integer(path, &value, range).map(Some),
        }
    }

    /// A list of whole numbers within a range, each once; `None` where the value is no list.
    pub(super) fn integers(&self, path: &str, range: RangeInclusive<u32>) -> Result<Option<Vec<usize>>, ScenarioError> {
        let Value::Array(values) = self.value(path) else { return Ok(None) };
        let mut numbers = Vec::with_capacity(values.len());
        for value in &values {
            let number = self.as_integer(path, value, range.clone())? as usize;
            if numbers.contains(&number) {
                return Err(self.wrong(path, format_args!("names {number} twice")));
            }
            numbers.push(number);
        }
        Ok(Some(numbers))
    }

    pub(super) fn number(&self, path: &str, range: RangeInclusive<f64>) -> Result<f64, ScenarioError> {
        let value = self.value(path);
        let number = value.as_float().or_else(|| value.as_integer().map(|number| number as f64));
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            self.wrong(path, format_args!("must be a number from {low} to {high}, not {value}"))
        })
    }

    pub(super) fn boolean(&self, path: &str) -> Result<bool, ScenarioError> {
        let value = self.value(path);
        value.as_bool().ok_or_else(|| self.wrong(path, format_args!("must be true or false, not {value}")))
    }

    pub(super) fn duration(&self, path: &str) -> Result<Duration, ScenarioError> {
        match self.value(path) {
            Value::String(text) => self.as_duration(path, &text),
            other => Err(self.wrong(path, format_args!("must be a duration in quotes such as \"200us\", not {other}"))),
        }
    }

    /// A duration, or the given word, which means `None`.
    pub(super) fn duration_or_word(&self, path: &str, word: &str) -> Result<Option<Duration>, ScenarioError> {
        if self.value(path).as_str() == Some(word) { Ok(None) } else { self.duration(path).map(Some) }
    }

    fn as_duration(&self, path: &str, text: &str) -> Result<Duration, ScenarioError> {
        /// Longer is a slip, and would overflow sums of nanoseconds.
        const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
        let span = humantime::parse_duration(text).map_err(|error| {
            self.wrong(path, format_args!("\"{text}\" is no duration ({error}); write e.g. \"200us\", \"5ms\", \"2s\""))
        })?;
        if span > LONGEST {
            return Err(self.wrong(path, format_args!("\"{text}\" is more than 30 days")));
        }
        Ok(span)
    }

    /// A duration longer than zero.
    pub(super) fn span(&self, path: &str) -> Result<Duration, ScenarioError> {
        let span = self.duration(path)?;
        if span.is_zero() { Err(self.wrong(path, "must be longer than zero")) } else { Ok(span) }
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&self, path: &str, words: &[(&str, T)]) -> Result<T, ScenarioError> {
        let value = self.value(path);
        self.as_choice(path, &value, words)
    }

    /// One of several words, with a default that depends on another key.
    pub(super) fn choice_or<T: Copy>(
        &self,
        path: &str,
        default: &str,
        words: &[(&str, T)],
    ) -> Result<T, ScenarioError> {
        let value = self.value_or(path, &format!("\"{default}\""));
        self.as_choice(path, &value, words)
    }

    fn as_choice<T: Copy>(&self, path: &str, value: &Value, words: &[(&str, T)]) -> Result<T, ScenarioError> {
        value
            .as_str()
            .and_then(|text| words.iter().find(|(word, _)| *word == text))
            .map(|(_, choice)| *choice)
            .ok_or_else(|| {
                let list = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
                self.wrong(path, format_args!("{value} is not one of {list}"))
            })
    }
}
