//! What an argument's value may be.

use std::{fs, path::Path};

use clap::{Arg, Command, ValueHint};

use super::super::{explain, man, sources};
use crate::{
    scenario::{
        PRESETS, Plan,
        keys::{self, AnyKey},
    },
    stats::METRICS,
    trace,
};

/// A value, and what it is.
pub(super) type Candidate = (String, String);

/// Where values come from.
#[derive(Clone, Copy)]
enum Source {
    Scenarios,
    /// `key=value`.
    Settings,
    Metrics,
    Conditions,
    Records,
    Explained,
    Pages,
    Strategies,
    Apps,
    Formats,
}

/// The arguments whose values are known, by their names among clap's.
const SOURCES: &[(&str, Source)] = &[
    ("scenarios", Source::Scenarios),
    ("scenario", Source::Scenarios),
    ("scenario_and_target", Source::Scenarios),
    ("set", Source::Settings),
    ("metrics", Source::Metrics),
    ("fail_if", Source::Conditions),
    ("base", Source::Records),
    ("new", Source::Records),
    ("records", Source::Records),
    ("names", Source::Explained),
    ("command", Source::Pages),
    ("strategy", Source::Strategies),
    ("app", Source::Apps),
    ("format", Source::Formats),
];

/// What the value of an argument may begin with, and what it may be. `Files` follow if there are paths among them.
pub(super) fn of(main: &Command, argument: &Arg, begun: &str) -> Vec<Candidate> {
    let known = argument.get_possible_values();
    if !known.is_empty() {
        return known
            .iter()
            .map(|value| (value.get_name().to_owned(), value.get_help().map(ToString::to_string).unwrap_or_default()))
            .collect();
    }
    match SOURCES.iter().find(|(name, _)| argument.get_id() == name).map(|(_, source)| source) {
        None => Vec::new(),
        Some(Source::Scenarios) => sources::built_in().map(|name| (name.to_owned(), question(name))).collect(),
        Some(Source::Settings) => settings(begun),
        Some(Source::Metrics) => metrics(),
        Some(Source::Conditions) => {
            metrics().into_iter().flat_map(|(name, label)| conditions(&name, label, begun)).collect()
        }
        Some(Source::Records) => records(begun),
        Some(Source::Explained) => explain::names().into_iter().map(|name| (name, String::new())).collect(),
        Some(Source::Pages) => man::pages(main).into_iter().map(|name| (name, String::new())).collect(),
        Some(Source::Strategies) => strategies(begun),
        Some(Source::Formats) => trace::FORMAT_WORDS.map(|word| (word.to_owned(), String::new())).into(),
        Some(Source::Apps) => keys::SERVER_APP.words().into_iter().map(|app| (app.to_owned(), String::new())).collect(),
    }
}

/// Whether paths may stand there, too; folders alone, or files as well.
pub(super) fn paths(argument: &Arg) -> Option<Paths> {
    match argument.get_value_hint() {
        ValueHint::DirPath => Some(Paths::Folders),
        ValueHint::FilePath | ValueHint::AnyPath => Some(Paths::Files),
        _ => None,
    }
}

/// Which paths may stand somewhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Paths {
    Files,
    Folders,
}

fn question(name: &str) -> String {
    let text = sources::text(name).ok();
    text.and_then(|text| Plan::read(&text.source(), &[]).ok()).map_or_else(String::new, |plan| plan.whole.question)
}

/// The metrics, without the unit of times.
fn metrics() -> Vec<Candidate> {
    let short = |name: &str| name.strip_suffix("_ns").unwrap_or(name).to_owned();
    METRICS.iter().map(|metric| (short(metric.name), metric.label.to_owned())).collect()
}

/// A metric, and once it is written in full the words that follow.
fn conditions(name: &str, label: String, begun: &str) -> Vec<Candidate> {
    if begun.starts_with(name) && (begun == name || begun[name.len()..].starts_with(' ')) {
        vec![(format!("{name} worse than "), label)]
    } else {
        vec![(name.to_owned(), label)]
    }
}

/// What of a list precedes the value that is being written.
fn before_last(list: &str) -> &str {
    list.rfind(['[', ',']).map_or("", |end| &list[..=end])
}

fn strategies(begun: &str) -> Vec<Candidate> {
    let before = before_last(begun);
    PRESETS.iter().map(|preset| (format!("{before}{}", preset.name), preset.meaning.to_owned())).collect()
}

/// Keys with `=`, and after it the words that the key takes.
fn settings(begun: &str) -> Vec<Candidate> {
    let Some((path, value)) = begun.split_once('=') else {
        let of = |key: &dyn AnyKey| {
            // Those of an event are written with its number.
            let path = key.path();
            let path = path.strip_prefix("event.").map_or_else(|| path.to_owned(), |leaf| format!("event.0.{leaf}"));
            (format!("{path}="), key.domain())
        };
        return keys::all().map(of).collect();
    };
    let Some(key) = keys::find(path) else { return Vec::new() };
    let before = before_last(value);
    let words = key.words().into_iter().map(str::to_owned);
    let is_metric = [keys::ANSWERS.path(), keys::SEARCH_METRIC.path()].contains(&key.path());
    let metrics = is_metric.then(metrics).into_iter().flatten().map(|(name, _)| name);
    words.chain(metrics).map(|word| (format!("{path}={before}{word}"), String::new())).collect()
}

/// Folders of records below what is begun, and folders on the way to them.
fn records(begun: &str) -> Vec<Candidate> {
    let end = begun.rfind('/').map_or(0, |end| end + 1);
    let folder = &begun[..end];
    let entries =
        fs::read_dir(if folder.is_empty() { "." } else { folder }).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<Candidate> = Vec::new();
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if is_record(&path) {
            found.push((format!("{folder}{name}"), "record".to_owned()));
        } else if !name.starts_with('.') && has_records(&path) {
            found.push((format!("{folder}{name}/"), "folder of records".to_owned()));
        }
    }
    found
}

fn is_record(path: &Path) -> bool {
    path.join("trials.jsonl").is_file()
}

/// At most so many entries of a folder are looked at for a record.
const LOOKED_AT: usize = 1_000;

fn has_records(path: &Path) -> bool {
    let entries = fs::read_dir(path).into_iter().flatten().take(LOOKED_AT).filter_map(Result::ok);
    entries.map(|entry| entry.path()).any(|path| is_record(&path))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_source_is_of_an_argument() {
        let main = Cli::command();
        let all: HashSet<String> = main
            .get_subcommands()
            .flat_map(|command| command.get_arguments().map(|argument| argument.get_id().to_string()))
            .collect();
        assert!(SOURCES.iter().all(|(name, _)| all.contains(*name)), "{all:?}");
    }

    #[test]
    fn settings_are_keys_and_then_words() {
        let names = |begun: &str| settings(begun).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert!(names("lo").contains(&"load.rate=".to_owned()));
        assert!(names("").contains(&"event.0.at=".to_owned()));
        assert!(names("server.strategy=re").contains(&"server.strategy=reuseport".to_owned()));
        assert!(
            names("server.strategy=[shared-epoll,re").contains(&"server.strategy=[shared-epoll,reuseport".to_owned())
        );
        assert!(names("load.kept.mode=").contains(&"load.kept.mode=closed".to_owned()));
        assert!(names("answers=[").contains(&"answers=[response_p99".to_owned()));
        assert_eq!(names("nonsense="), [""; 0]);
    }

    #[test]
    fn strategies_may_be_a_list() {
        for (begun, expected) in [
            ("", "reuseport"),
            ("re", "reuseport"),
            ("shared-epoll,", "shared-epoll,reuseport"),
            ("[shared-epoll,reuse", "[shared-epoll,reuseport"),
        ] {
            assert!(strategies(begun).iter().any(|(value, _)| value == expected), "{begun}");
        }
    }

    #[test]
    fn a_condition_goes_on_after_its_metric() {
        let label = || "response p99".to_owned();
        assert_eq!(conditions("response_p99", label(), "resp")[0].0, "response_p99");
        assert_eq!(conditions("response_p99", label(), "response_p99")[0].0, "response_p99 worse than ");
        assert_eq!(conditions("response_p99", label(), "response_p99 w")[0].0, "response_p99 worse than ");
        assert_eq!(conditions("response_p99", label(), "response_p999")[0].0, "response_p99");
    }
}
