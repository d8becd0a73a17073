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

/// The same for what a load says to somebody's server.
#[derive(Debug, Clone, Default, Args)]
pub struct AppShorthands {
    /// What to exchange: http, https, echo, line (--send, --expect), connect (nothing, for load.hold) or close; short for --set server.app=NAME
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// With --app line, send this for each request, such as 'PING\r\n'; empty if the server speaks first; short for --set load.send=TEXT
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub send: Option<String>,
    /// With --app line, expect a reply that begins like this, such as +PONG; short for --set load.expect=TEXT
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub expect: Option<String>,
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
    /// Whether the value is a text in which commas and digits are nothing special.
    is_text: bool,
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

impl AppShorthands {
    /// Those that were given.
    pub fn given(&self) -> impl Iterator<Item = Shorthand<'_>> {
        [
            Shorthand::new("--app", keys::SERVER_APP, self.app.as_deref(), None),
            Shorthand::new("--send", keys::LOAD_SEND, self.send.as_deref(), None).map(Shorthand::of_text),
            Shorthand::new("--expect", keys::LOAD_EXPECT, self.expect.as_deref(), None).map(Shorthand::of_text),
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
        value.map(|value| Self { option, key, value, mode, is_text: false })
    }

    fn of_text(self) -> Self {
        Self { is_text: true, ..self }
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
        self.mode.is_some() || self.is_text || self.key.path() == keys::LOAD_PROXY_PROTOCOL.path()
    }

    /// What was typed.
    pub fn words(&self) -> String {
        format!("{} {}", self.option, self.value)
    }

    /// What it stands for, as `--set` takes it.
    pub fn settings(&self) -> impl Iterator<Item = String> {
        let mode = self.mode.map(|mode| format!("{}={mode}", keys::LOAD_MODE.path()));
        let value = if self.is_text { toml::Value::from(self.value).to_string() } else { list(self.value) };
        mode.into_iter().chain([format!("{}={value}", self.key.path())])
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
    fn a_text_is_taken_as_it_is() {
        let text = |text: &str| Some(text.to_owned());
        let all = AppShorthands { app: text("line"), send: text("a,b\\r\\n"), expect: text("7") };
        let settings: Vec<String> = all.given().flat_map(|one| one.settings().collect::<Vec<_>>()).collect();
        assert_eq!(settings[0], "server.app=line");
        for (setting, path, value) in [(&settings[1], "load.send", "a,b\\r\\n"), (&settings[2], "load.expect", "7")] {
            let (key, written) = setting.split_once('=').unwrap();
            let read: toml::Table = format!("v={written}").parse().unwrap();
            assert_eq!((key, read["v"].as_str()), (path, Some(value)));
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
