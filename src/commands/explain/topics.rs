//! All topics, in the order of the overview.

use anyhow::Result;

use super::{
    super::{compare::condition::Decision, sources},
    topic::{Kind, Topic},
};
use crate::{
    cli::EXIT_CODES,
    record::{
        Cause, CountedBy, Draws, EventKind, Latency, Outcome, ProbeLevel, ReloadHow, Scope, Stage, SubjectKind,
        VerdictName, WaitEnd, WaitMethod,
    },
    report::{self, TableColumn},
    scenario::{
        LIMITS, PRESETS, Plan,
        keys::{self, AnyKey},
    },
    stats::{Difference, METRICS, Metric, Verdict, metric_named},
};
use strum::VariantArray;

/// All of them.
pub(super) fn all() -> Result<Vec<Topic>> {
    let mut topics: Vec<Topic> = sources::built_in().map(scenario).collect::<Result<_>>()?;
    topics.extend(tables());
    topics.extend(keys::all().map(key));
    topics.extend(keys::all().flat_map(values));
    topics.extend(PRESETS.iter().map(|preset| {
        let strategy = preset.with_defaults();
        Topic::new(Kind::Strategy, preset.name, preset.meaning)
            .fact("limits", strategy.limits())
            .fact("choose it", format!("server.strategy = \"{}\"", preset.name))
    }));
    topics.extend(METRICS.iter().map(metric));
    topics.extend(VerdictName::VARIANTS.iter().map(verdict));
    topics.extend(
        Difference::explained()
            .map(|(name, meaning)| Topic::new(Kind::Finding, name, meaning).of("comparisons of cells")),
    );
    topics.extend(Verdict::explained().map(|(name, meaning)| Topic::new(Kind::Finding, name, meaning).of("`compare`")));
    topics.extend(
        Decision::explained()
            .into_iter()
            .map(|(name, meaning)| Topic::new(Kind::Finding, name, meaning).of("`compare --fail-if`")),
    );
    topics.extend(Stage::explained().map(|(name, meaning)| Topic::new(Kind::Stage, name, meaning)));
    topics.extend(EventKind::explained().map(|(name, meaning)| {
        Topic::new(Kind::Event, name, meaning).fact("write it", format!("[[event]] kind = \"{name}\""))
    }));
    topics.extend(words());
    topics.extend(terms());
    topics.extend(Cause::explained().map(|(name, meaning)| {
        Topic::new(Kind::Cause, name, format!("Why an attempt failed, in `errors`: {meaning}."))
    }));
    topics.extend(report::csv_columns().map(|(file, name, meaning)| Topic::new(Kind::Csv, name, meaning).of(file)));
    topics.extend(
        report::table_columns()
            .map(|TableColumn { table, head, meaning }| Topic::new(Kind::Column, head, meaning).of(table)),
    );
    topics.extend(grids());
    topics.extend(METRICS.iter().filter_map(column_of));
    topics.extend(LIMITS.iter().map(|(name, most, meaning)| {
        Topic::new(Kind::Limit, *name, *meaning).fact("most", crate::format::thousands(*most as f64))
    }));
    topics.extend(EXIT_CODES.iter().map(|exit| {
        Topic::new(Kind::ExitCode, exit.code.to_string(), format!("{}.", capital(exit.meaning))).remedy(exit.remedy)
    }));
    Ok(topics)
}

/// What is known under a name of the user's own: a key or a metric of a population, a key of an event, a sysctl.
pub(super) fn of_instance(name: &str) -> Option<Topic> {
    if let Some(found) = keys::find(name) {
        return Some(Topic { name: name.to_owned(), ..key(found) });
    }
    metric_named(name).map(|found| Topic { name: name.to_owned(), ..metric(found) })
}

fn scenario(name: &'static str) -> Result<Topic> {
    let plan = Plan::read(&sources::text(name)?.source(), &[])?;
    Ok(Topic::new(Kind::Scenario, name, plan.whole.question)
        .fact("run it", format!("listenbench run {name}"))
        .fact("see it", format!("listenbench show {name}")))
}

/// The tables of a scenario.
fn tables() -> impl Iterator<Item = Topic> {
    keys::TABLES.iter().map(|(name, meaning)| {
        let prefix = format!("{}.", name.trim_matches(['[', ']']));
        let own: Vec<&str> = keys::all().map(AnyKey::path).filter(|path| path.starts_with(&prefix)).collect();
        let topic = Topic::new(Kind::Table, *name, *meaning);
        if own.is_empty() { topic } else { topic.fact("keys", own.join(", ")) }
    })
}

fn key(key: &'static dyn AnyKey) -> Topic {
    let default = key.default_toml().map_or_else(|| "none".to_owned(), |value| value.to_string());
    let strategies = keys::SERVER_STRATEGY.path() == key.path();
    let metrics = keys::ANSWERS.path() == key.path() || keys::SEARCH_METRIC.path() == key.path();
    let named: Vec<&str> = match (strategies, metrics) {
        (true, _) => PRESETS.iter().map(|preset| preset.name).collect(),
        (_, true) => METRICS.iter().map(|metric| metric.name).collect(),
        _ => Vec::new(),
    };
    let named = if named.is_empty() { String::new() } else { format!(": {}", named.join(", ")) };
    let swept = if keys::is_of_whole(key.path()) { "no: it applies to the whole scenario" } else { "yes" };
    Topic::new(Kind::Key, key.path(), key.meaning())
        .fact("values", format!("{}{named}", key.domain()))
        .fact("default", default)
        .fact("can be swept", swept)
}

/// The words that a key takes. Strategies and events have explanations of their own.
fn values(key: &'static dyn AnyKey) -> impl Iterator<Item = Topic> {
    let is_apart =
        [keys::SERVER_STRATEGY.path(), keys::EVENT_KIND.path(), keys::SEARCH_VARIABLE.path()].contains(&key.path());
    let words = if is_apart { Vec::new() } else { key.words() };
    let words = words.into_iter().filter(|word| !["true", "false"].contains(word));
    words.map(|word| {
        let own = meaning_of(word, key);
        let topic = Topic::new(Kind::Value, word, own.as_deref().unwrap_or(key.meaning())).of(key.path());
        topic.fact("write it", format!("{} = \"{word}\"", key.path()))
    })
}

/// What a key's text says of one of its words: from "`word`: " to the next word.
fn meaning_of(word: &str, key: &dyn AnyKey) -> Option<String> {
    let text = key.meaning();
    let start = |word: &str| text.find(&format!("`{word}`: ")).map(|at| (at, at + word.len() + "``: ".len()));
    let (_, from) = start(word)?;
    let next = key.words().into_iter().filter_map(start).map(|(at, _)| at).filter(|at| *at > from).min();
    let own = text[from..next.unwrap_or(text.len())].trim().trim_end_matches([';', '.']);
    Some(format!("{}.", capital(own)))
}

fn metric(metric: &Metric) -> Topic {
    let short = metric.name.strip_suffix("_ns").unwrap_or(metric.name);
    let mut topic = Topic::new(Kind::Metric, metric.name, metric.meaning)
        .fact("in sentences", metric.label)
        .fact("unit", metric.unit.as_str())
        .fact("better", metric.better.as_str())
        .fact("kind", format!("{}: {}", metric.kind.as_str(), metric.kind.meaning()));
    if let Some(absent) = metric.absent {
        topic = topic.fact("absent", format!("if {absent}"));
    }
    topic.fact("use it", format!("answers = [\"{short}\"], compare --metric {short}"))
}

fn verdict(name: &VerdictName) -> Topic {
    let figures = if name.invalidates() { "must not be used" } else { "may be used" };
    let scope = if name.scope() == Scope::Trial { "one trial" } else { "several trials" };
    Topic::new(Kind::Verdict, name.to_string(), name.meaning())
        .fact("given when", name.given_when())
        .fact("concerns", scope)
        .fact("figures", figures)
        .remedy(Some(name.remedy()))
}

/// The words of records.
fn words() -> impl Iterator<Item = Topic> {
    let of = |of: &'static str, words: Vec<(&'static str, &'static str)>| {
        words.into_iter().map(move |(word, meaning)| Topic::new(Kind::Word, word, meaning).of(of))
    };
    of("outcome", Outcome::explained().collect())
        .chain(of("accept_wait_method", WaitMethod::explained().collect()))
        .chain(of("accept_wait_ends", WaitEnd::explained().collect()))
        .chain(of("latency_ns", Latency::explained().collect()))
        .chain(of("events.how", ReloadHow::explained().collect()))
        .chain(of("subject.kind", SubjectKind::explained().collect()))
        .chain(of("workers.counted_by", CountedBy::explained().collect()))
        .chain(of("probe.level", ProbeLevel::explained().collect()))
        .chain(of("distribution.draws", Draws::explained().collect()))
}

/// The vocabulary of the crate's front page.
fn terms() -> impl Iterator<Item = Topic> {
    let page = include_str!("../../main.rs");
    let table = page.split_once("//! | word | meaning |").map_or("", |(_, table)| table);
    let rows =
        table.lines().skip(2).map_while(|line| line.strip_prefix("//! | ")?.strip_suffix(" |")?.split_once(" | "));
    rows.flat_map(|(words, meaning)| {
        words.split(", ").map(move |word| Topic::new(Kind::Term, word, format!("{}.", capital(meaning))))
    })
}

/// The tables of reports.
fn grids() -> Vec<Topic> {
    let mut grids: Vec<(&'static str, Vec<String>)> = Vec::new();
    for TableColumn { table, head, .. } in report::table_columns() {
        let head = head.split_whitespace().collect::<Vec<_>>().join(" ");
        match grids.iter_mut().find(|(known, _)| *known == table) {
            Some((_, heads)) => heads.push(head),
            None => grids.push((table, vec![head])),
        }
    }
    let topic = |(table, heads): (&str, Vec<String>)| {
        Topic::new(Kind::Grid, table, "A table of reports; each of its columns has an explanation of its own.")
            .fact("columns", heads.join(", "))
    };
    grids.into_iter().map(topic).collect()
}

/// A metric's column in the table of cells.
fn column_of(metric: &Metric) -> Option<Topic> {
    let head = metric.column?.head;
    Some(Topic::new(Kind::Column, head, metric.meaning).of("cells").fact("metric", metric.name))
}

fn capital(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn everything_has_an_explanation_in_sentences() {
        let topics = all().unwrap();
        for topic in &topics {
            assert!(!topic.name.is_empty(), "{topic:?}");
            assert!(topic.meaning.ends_with(['.', '?', ';', ':', ')', '`']), "{topic:?}");
        }
        let mut seen = HashSet::new();
        for topic in &topics {
            assert!(seen.insert((topic.kind, &topic.name, &topic.of, &topic.meaning)), "twice: {topic:?}");
        }
    }

    #[test]
    fn names_are_found_as_people_write_them() {
        let topics = all().unwrap();
        let found = |name: &str| -> Vec<String> {
            topics.iter().filter(|topic| topic.is_called(name)).map(Topic::title).collect()
        };
        assert_eq!(found("load.rate"), ["load.rate (key)"]);
        assert_eq!(found("response_p99"), ["response_p99_ns (metric)"]);
        assert_eq!(found("Loader-Saturated"), ["loader-saturated (verdict)"]);
        assert_eq!(found("[load]"), ["[load] (table)"]);
        assert_eq!(found("4"), ["4 (exit code)"]);
        assert!(found("accept").contains(&"accept (stage)".to_owned()));
        assert!(found("accept").contains(&"accept (word of accept_wait_ends)".to_owned()));
        assert!(found("reload").len() >= 2, "a scenario and an event: {:?}", found("reload"));
        assert!(found("workers").contains(&"server.workers (key)".to_owned()));
        assert!(found("wait p99").len() >= 2, "{:?}", found("wait p99"));
        assert!(found("at 50 %").iter().any(|title| title.starts_with("at N %")), "{:?}", found("at 50 %"));
        assert!(found("knee").iter().any(|title| title == "knee (term)"));
        assert!(found("poisson").contains(&"poisson (value of load.arrivals)".to_owned()));
    }

    #[test]
    fn names_of_the_user_s_own_are_found() {
        for name in ["load.kept.rate", "event.3.at", "sysctl.tcp_tw_reuse", "kept.response_p99"] {
            assert_eq!(of_instance(name).unwrap().name, name);
        }
        assert!(of_instance("load.kept.rat").is_none());
    }
}
