//! Options that stand for keys of a scenario.

use clap::Args;

use crate::scenario::keys::{self, AnyKey};

/// Short forms of `--set`. A value is one of the key's, or several with commas between them.
#[derive(Debug, Clone, Default, Args)]
pub struct Shorthands {
    /// Start this many connections per second, whatever the server does; short for --set load.rate=N with load.mode=open. Here and
    /// in the options below, 1,2,4 sweeps the key
    #[arg(long, value_name = "N")]
    pub rate: Option<String>,
    /// Keep this many connections open at once instead; short for --set load.concurrency=N with load.mode=closed
    #[arg(long, value_name = "N", conflicts_with = "rate")]
    pub concurrency: Option<String>,
    /// Measure each trial for this long, such as 10s; short for --set load.duration=TIME
    #[arg(long = "for", value_name = "TIME")]
    pub duration: Option<String>,
    /// Measure this many connections in each trial instead; short for --set load.connections=N
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    pub connections: Option<String>,
    /// Run this many trials of each cell; short for --set repetitions=N
    #[arg(long, value_name = "N")]
    pub repetitions: Option<String>,
    /// Begin each connection with the PROXY protocol header of this version, 1 (text) or 2 (binary); short for --set
    /// load.proxy_protocol=VERSION
    #[arg(long, value_name = "VERSION")]
    pub proxy_protocol: Option<String>,
}

/// The same for listenbench's own server.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerShorthands {
    /// Use this accept strategy; short for --set server.strategy=NAME, and a,b sweeps it
    #[arg(long, value_name = "NAME")]
    pub strategy: Option<String>,
    /// Start this many workers; short for --set server.workers=N
    #[arg(long, value_name = "N")]
    pub workers: Option<String>,
}

/// A short form that was given.
pub struct Shorthand<'a> {
    /// The option.
    pub option: &'static str,
    /// The key that takes the value.
    pub key: &'static dyn AnyKey,
    /// What it was given.
    value: &'a str,
    /// The mode of the load that it stands for.
    mode: Option<&'static str>,
}

impl Shorthands {
    /// Those that were given.
    pub fn given(&self) -> impl Iterator<Item = Shorthand<'_>> {
        [
            Shorthand::new("--rate", keys::LOAD_RATE, self.rate.as_deref(), Some("open")),
            Shorthand::new("--concurrency", keys::LOAD_CONCURRENCY, self.concurrency.as_deref(), Some("closed")),
            Shorthand::new("--for", keys::LOAD_DURATION, self.duration.as_deref(), None),
            Shorthand::new("--connections", keys::LOAD_CONNECTIONS, self.connections.as_deref(), None),
            Shorthand::new("--repetitions", keys::REPETITIONS, self.repetitions.as_deref(), None),
            Shorthand::new("--proxy-protocol", keys::LOAD_PROXY_PROTOCOL, self.proxy_protocol.as_deref(), None),
        ]
        .into_iter()
        .flatten()
    }
}

impl ServerShorthands {
    /// Those that were given.
    pub fn given(&self) -> impl Iterator<Item = Shorthand<'_>> {
        [
            Shorthand::new("--strategy", keys::SERVER_STRATEGY, self.strategy.as_deref(), None),
            Shorthand::new("--workers", keys::SERVER_WORKERS, self.workers.as_deref(), None),
        ]
        .into_iter()
        .flatten()
    }
}

impl<'a> Shorthand<'a> {
    fn new(
        option: &'static str,
        key: &'static dyn AnyKey,
        value: Option<&'a str>,
        mode: Option<&'static str>,
    ) -> Option<Self> {
        value.map(|value| Self { option, key, value, mode })
    }

    /// Whether it decides a key's value.
    pub fn decides(&self, path: &str) -> bool {
        // One bound of a trial replaces the other.
        let bounds = [keys::LOAD_DURATION.path(), keys::LOAD_CONNECTIONS.path()];
        path == self.key.path()
            || self.mode.is_some() && path == keys::LOAD_MODE.path()
            || bounds.contains(&self.key.path()) && bounds.contains(&path)
    }

    /// Whether the key is one of a population where a scenario has several.
    pub fn is_of_a_population(&self) -> bool {
        self.mode.is_some() || self.key.path() == keys::LOAD_PROXY_PROTOCOL.path()
    }

    /// What was typed.
    pub fn words(&self) -> String {
        format!("{} {}", self.option, self.value)
    }

    /// What it stands for, as `--set` takes it.
    pub fn settings(&self) -> impl Iterator<Item = String> {
        let mode = self.mode.map(|mode| format!("{}={mode}", keys::LOAD_MODE.path()));
        mode.into_iter().chain([format!("{}={}", self.key.path(), list(self.value))])
    }
}

/// `1,2` as the list `[1, 2]`; anything else as it is.
fn list(value: &str) -> String {
    if !value.contains(',') || value.trim_start().starts_with('[') {
        return value.to_owned();
    }
    let quoted = |item: &str| {
        let item = item.trim();
        if item.parse::<f64>().is_ok() { item.to_owned() } else { toml::Value::from(item).to_string() }
    };
    format!("[{}]", value.split(',').map(quoted).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_make_a_list() {
        for (value, expected) in [
            ("1", "1"),
            ("1,2, 4", "[1, 2, 4]"),
            ("[1, 2]", "[1, 2]"),
            ("reuseport", "reuseport"),
            ("reuseport,shared-epoll", "[\"reuseport\", \"shared-epoll\"]"),
            ("1s,2s", "[\"1s\", \"2s\"]"),
            ("1,", "[1, \"\"]"),
            ("", ""),
        ] {
            assert_eq!(list(value), expected);
        }
    }

    #[test]
    fn a_short_form_decides_its_key_and_what_goes_with_it() {
        let all = Shorthands { rate: Some("5".to_owned()), duration: Some("1s".to_owned()), ..Shorthands::default() };
        let given: Vec<Shorthand<'_>> = all.given().collect();
        let decides = |path: &str| given.iter().map(|one| one.decides(path)).collect::<Vec<_>>();
        assert_eq!(decides("load.rate"), [true, false]);
        assert_eq!(decides("load.mode"), [true, false]);
        assert_eq!(decides("load.duration"), [false, true]);
        assert_eq!(decides("load.connections"), [false, true]);
        assert_eq!(decides("load.concurrency"), [false, false]);
        assert_eq!(given[0].settings().collect::<Vec<_>>(), ["load.mode=open", "load.rate=5"]);
    }
}
