//! A key: path, domain, default and meaning in one place.

use toml::Value;

use super::domain::{Domain, Integer, OrWord};

/// A key of a scenario, whose values are those of a domain.
#[derive(Debug)]
pub struct Key<D: Domain> {
    path: &'static str,
    domain: D,
    default: D::Value,
    meaning: &'static str,
}

impl<D: Domain> Key<D> {
    pub(super) const fn new(path: &'static str, domain: D, default: D::Value, meaning: &'static str) -> Self {
        Self { path, domain, default, meaning }
    }

    /// The value if the scenario sets none.
    pub fn default(&self) -> D::Value {
        self.default.clone()
    }

    /// Reads a value of the key. The error completes the sentence that begins with the key.
    pub(in crate::scenario) fn parse(&self, value: &Value) -> Result<D::Value, String> {
        self.domain.parse(value)
    }

    /// A value of the key as TOML; `None` for a value expressed by leaving the key out.
    pub(in crate::scenario) fn to_toml(&self, value: &D::Value) -> Option<Value> {
        self.domain.to_toml(value)
    }
}

impl<T: Copy> Key<Integer<T>>
where
    Integer<T>: Domain,
{
    /// The smallest value.
    pub const fn min(&self) -> T {
        self.domain.low
    }

    /// The largest value.
    pub const fn max(&self) -> T {
        self.domain.high
    }
}

impl<T: Copy> Key<OrWord<Integer<T>>>
where
    OrWord<Integer<T>>: Domain,
{
    /// The largest number.
    pub const fn max(&self) -> T {
        self.domain.other.high
    }
}

/// What all keys have, whatever their values.
pub trait AnyKey: Sync {
    /// Dotted path, e.g. `server.workers`.
    fn path(&self) -> &'static str;

    /// What it does.
    fn meaning(&self) -> &'static str;

    /// Type, range and unit, for the documentation.
    fn domain(&self) -> String;

    /// The default as TOML.
    fn default_toml(&self) -> Option<Value>;

    /// Whether a value is allowed. The error completes the sentence that begins with the key.
    fn check(&self, value: &Value) -> Result<(), String>;

    /// Whether a single value of the key may be a list, which then does not sweep it.
    fn takes_list(&self) -> bool;

    /// Whether such a list is one of strings.
    fn lists_strings(&self) -> bool;

    /// The words among its values.
    fn words(&self) -> Vec<&'static str>;
}

impl<D: Domain> AnyKey for Key<D> {
    fn path(&self) -> &'static str {
        self.path
    }

    fn meaning(&self) -> &'static str {
        self.meaning
    }

    fn domain(&self) -> String {
        self.domain.describe()
    }

    fn default_toml(&self) -> Option<Value> {
        self.domain.to_toml(&self.default)
    }

    fn check(&self, value: &Value) -> Result<(), String> {
        self.domain.parse(value).map(drop)
    }

    fn takes_list(&self) -> bool {
        self.domain.takes_list()
    }

    fn lists_strings(&self) -> bool {
        self.domain.lists_strings()
    }

    fn words(&self) -> Vec<&'static str> {
        self.domain.words()
    }
}
