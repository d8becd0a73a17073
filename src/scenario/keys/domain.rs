//! The values a key takes: type, range and unit. A domain parses, writes and documents them.

use std::{borrow::Cow, fmt::Display, marker::PhantomData, str::FromStr, time::Duration};

use strum::VariantNames;
use toml::Value;

use crate::suggest;

/// The values a key takes.
pub trait Domain: Sync {
    /// The type of the parsed value.
    type Value: Clone + Sync + 'static;

    /// Reads a value. The error completes the sentence that begins with the key.
    fn parse(&self, value: &Value) -> Result<Self::Value, String>;

    /// The value as TOML; `None` for a value expressed by leaving the key out.
    fn to_toml(&self, value: &Self::Value) -> Option<Value>;

    /// Type, range and unit, for the documentation.
    fn describe(&self) -> String;

    /// Whether a single value of the key may be a list, which then does not sweep it.
    fn takes_list(&self) -> bool {
        false
    }

    /// Whether such a list is one of strings. Where it is one of numbers, a list of words sweeps the key.
    fn lists_strings(&self) -> bool {
        false
    }

    /// The words among the values; none where any number or text will do.
    fn words(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

/// A value as shown in errors: as written, but shortened if long.
pub(in crate::scenario) fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// `a, b or c`.
pub(in crate::scenario) fn alternatives(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    match items.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => items.concat(),
    }
}

/// More words are not listed where one of them was meant.
const SURVEYABLE: usize = 6;

/// What is wrong with a value that must be one of these words, or what `other` says.
pub(in crate::scenario) fn not_one_of(words: &[&'static str], other: &str, value: &Value) -> String {
    let meant = value.as_str().map_or_else(String::new, |word| suggest::hint(word, words.iter().copied()));
    if words.len() > SURVEYABLE && !meant.is_empty() {
        return format!("has no value {}{meant}", shown(value));
    }
    format!("must be one of {}{other}, not {}{meant}", quoted(words), shown(value))
}

/// `"a", "b", "c"`.
pub(in crate::scenario) fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

/// A whole number within a range.
#[derive(Debug, Clone, Copy)]
pub struct Integer<T> {
    pub(super) low: T,
    pub(super) high: T,
    unit: &'static str,
}

pub(super) const fn integer<T: Copy>(low: T, high: T) -> Integer<T> {
    Integer { low, high, unit: "" }
}

impl<T: Copy> Integer<T> {
    pub(super) const fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }
}

impl<T> Domain for Integer<T>
where
    T: Copy + PartialOrd + Display + TryFrom<i64> + TryInto<i64> + Sync + 'static,
{
    type Value = T;

    fn parse(&self, value: &Value) -> Result<T, String> {
        let number = value.as_integer().and_then(|number| T::try_from(number).ok());
        number
            .filter(|number| (self.low..=self.high).contains(number))
            .ok_or_else(|| format!("must be an integer from {} to {}, not {}", self.low, self.high, shown(value)))
    }

    fn to_toml(&self, value: &T) -> Option<Value> {
        (*value).try_into().ok().map(Value::Integer)
    }

    fn describe(&self) -> String {
        let range = match self.high.try_into() {
            Ok(i64::MAX) | Err(_) => format!("integer ≥ {}", self.low),
            Ok(_) => format!("integer {}–{}", self.low, self.high),
        };
        with_unit(range, self.unit)
    }
}

fn with_unit(range: String, unit: &str) -> String {
    if unit.is_empty() { range } else { format!("{range}, {unit}") }
}

/// A number within a range.
#[derive(Debug, Clone, Copy)]
pub struct Number {
    low: f64,
    high: f64,
    unit: &'static str,
}

pub(super) const fn number(low: f64, high: f64) -> Number {
    Number { low, high, unit: "" }
}

impl Number {
    pub(super) const fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }
}

impl Domain for Number {
    type Value = f64;

    fn parse(&self, value: &Value) -> Result<f64, String> {
        let number = value.as_float().or_else(|| value.as_integer().map(|number| number as f64));
        number
            .filter(|number| (self.low..=self.high).contains(number))
            .ok_or_else(|| format!("must be a number from {} to {}, not {}", self.low, self.high, shown(value)))
    }

    fn to_toml(&self, value: &f64) -> Option<Value> {
        Some(Value::Float(*value))
    }

    fn describe(&self) -> String {
        with_unit(format!("number {}–{}", self.low, self.high), self.unit)
    }
}

/// A duration within a range, a multiple of a step.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    low: Duration,
    high: Duration,
    step: Duration,
    step_name: &'static str,
}

/// Anything longer is a mistake, and would overflow sums of nanoseconds.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Any duration, zero included.
pub(super) const SPAN: Span = span(Duration::ZERO, LONGEST);

/// Any duration but zero.
pub(super) const POSITIVE_SPAN: Span = span(Duration::from_nanos(1), LONGEST);

pub(super) const fn span(low: Duration, high: Duration) -> Span {
    Span { low, high, step: Duration::from_nanos(1), step_name: "" }
}

impl Span {
    pub(super) const fn step(self, step: Duration, step_name: &'static str) -> Self {
        Self { step, step_name, ..self }
    }

    /// Range and step in words, without the range that all durations have.
    fn limits(&self) -> String {
        let show = |span| humantime::format_duration(span).to_string().replace(' ', "");
        let range = match (self.low, self.high) {
            (Duration::ZERO, LONGEST) => String::new(),
            (low, LONGEST) if low == POSITIVE_SPAN.low => " > 0".to_owned(),
            (low, high) => format!(" {}–{}", show(low), show(high)),
        };
        if self.step_name.is_empty() { range } else { format!("{range}, whole {}", self.step_name) }
    }
}

impl Domain for Span {
    type Value = Duration;

    fn parse(&self, value: &Value) -> Result<Duration, String> {
        let Value::String(text) = value else {
            return Err(format!("must be a duration in quotes, such as \"200us\", not {}", shown(value)));
        };
        let span = humantime::parse_duration(text).map_err(|error| {
            format!("{} is not a duration ({error}); write e.g. \"200us\", \"5ms\" or \"2s\"", shown(value))
        })?;
        if span > LONGEST {
            return Err(format!("{} is longer than 30 days", shown(value)));
        }
        if !(self.low..=self.high).contains(&span) || span.as_nanos() % self.step.as_nanos() != 0 {
            return Err(format!("must be a duration{}, not {}", self.limits(), shown(value)));
        }
        Ok(span)
    }

    fn to_toml(&self, value: &Duration) -> Option<Value> {
        Some(Value::String(humantime::format_duration(*value).to_string()))
    }

    fn describe(&self) -> String {
        format!("duration{}", self.limits())
    }
}

/// A string.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    /// What it is, for the documentation.
    what: &'static str,
    /// What is wrong with one that is not allowed.
    complaint: fn(&str) -> Option<&'static str>,
}

/// Any string.
pub(super) const TEXT: Text = text("string", |_| None);

pub(super) const fn text(what: &'static str, complaint: fn(&str) -> Option<&'static str>) -> Text {
    Text { what, complaint }
}

impl Domain for Text {
    type Value = Cow<'static, str>;

    fn parse(&self, value: &Value) -> Result<Cow<'static, str>, String> {
        let Value::String(text) = value else {
            return Err(format!("must be a string in quotes, not {}", shown(value)));
        };
        match (self.complaint)(text) {
            Some(complaint) => Err(format!("{complaint}, not {}", shown(value))),
            None => Ok(Cow::Owned(text.clone())),
        }
    }

    fn to_toml(&self, value: &Cow<'static, str>) -> Option<Value> {
        Some(Value::String(value.clone().into_owned()))
    }

    fn describe(&self) -> String {
        self.what.to_owned()
    }
}

/// `true` or `false`.
#[derive(Debug, Clone, Copy)]
pub struct Boolean;

impl Domain for Boolean {
    type Value = bool;

    fn parse(&self, value: &Value) -> Result<bool, String> {
        value.as_bool().ok_or_else(|| format!("must be true or false, not {}", shown(value)))
    }

    fn to_toml(&self, value: &bool) -> Option<Value> {
        Some(Value::Boolean(*value))
    }

    fn describe(&self) -> String {
        "boolean".to_owned()
    }

    fn words(&self) -> Vec<&'static str> {
        vec!["true", "false"]
    }
}

/// An enum whose variants have names in scenarios; strum derives all it takes.
pub trait Words: Copy + Sync + FromStr + Into<&'static str> + VariantNames + 'static {}

impl<E: Copy + Sync + FromStr + Into<&'static str> + VariantNames + 'static> Words for E {}

/// One word of an enum.
#[derive(Debug, Clone, Copy)]
pub struct Choice<E>(PhantomData<fn() -> E>);

pub(super) const fn choice<E>() -> Choice<E> {
    Choice(PhantomData)
}

pub(super) fn word<E: Words>(value: &Value) -> Option<E> {
    value.as_str().and_then(|text| text.parse().ok())
}

pub(super) fn word_to_toml<E: Words>(word: E) -> Value {
    let word: &str = word.into();
    Value::String(word.to_owned())
}

impl<E: Words> Domain for Choice<E> {
    type Value = E;

    fn parse(&self, value: &Value) -> Result<E, String> {
        // Some words look like numbers, as the versions of a protocol do.
        let written = matches!(value, Value::Float(_) | Value::Integer(_)).then(|| Value::from(value.to_string()));
        word(written.as_ref().unwrap_or(value)).ok_or_else(|| not_one_of(E::VARIANTS, "", value))
    }

    fn to_toml(&self, value: &E) -> Option<Value> {
        Some(word_to_toml(*value))
    }

    fn describe(&self) -> String {
        alternatives(E::VARIANTS.iter().map(|word| format!("`{word}`")))
    }

    fn words(&self) -> Vec<&'static str> {
        E::VARIANTS.to_vec()
    }
}

/// A word in place of a value: `None` for the word.
#[derive(Debug, Clone, Copy)]
pub struct OrWord<D> {
    word: &'static str,
    pub(super) other: D,
}

pub(super) const fn or_word<D: Copy>(word: &'static str, other: D) -> OrWord<D> {
    OrWord { word, other }
}

impl<D: Domain> Domain for OrWord<D> {
    type Value = Option<D::Value>;

    fn parse(&self, value: &Value) -> Result<Self::Value, String> {
        if value.as_str() == Some(self.word) {
            return Ok(None);
        }
        let wrong = |problem| format!("{problem}; or write \"{}\"", self.word);
        self.other.parse(value).map(Some).map_err(wrong)
    }

    fn to_toml(&self, value: &Self::Value) -> Option<Value> {
        match value {
            Some(value) => self.other.to_toml(value),
            None => Some(Value::String(self.word.to_owned())),
        }
    }

    fn describe(&self) -> String {
        format!("`{}` or {}", self.word, self.other.describe())
    }

    fn words(&self) -> Vec<&'static str> {
        std::iter::once(self.word).chain(self.other.words()).collect()
    }

    fn takes_list(&self) -> bool {
        self.other.takes_list()
    }
}

/// A key without a default: `None` if left out.
#[derive(Debug, Clone, Copy)]
pub struct Optional<D>(pub(super) D);

impl<D: Domain> Domain for Optional<D> {
    type Value = Option<D::Value>;

    fn parse(&self, value: &Value) -> Result<Self::Value, String> {
        self.0.parse(value).map(Some)
    }

    fn to_toml(&self, value: &Self::Value) -> Option<Value> {
        value.as_ref().and_then(|value| self.0.to_toml(value))
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn words(&self) -> Vec<&'static str> {
        self.0.words()
    }

    fn takes_list(&self) -> bool {
        self.0.takes_list()
    }
}
