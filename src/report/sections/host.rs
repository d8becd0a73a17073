//! The machine or the hosts of a job, the sysctls, and the command that repeats the run.

use indexmap::{IndexMap, IndexSet};
use maud::html;
use serde_json::Value as Json;

use super::{Content, job::Job};
use crate::{
    format::{self, plural},
    record::{LoadRow, Outcome, Subject, SubjectKind, TrialRecord},
    report::{Ranked, claims::capital, html::parts::folded, plain, ranking::listed},
    stats::Record,
    sys::unix,
};

/// The swept key whose values are names of variants, which the scenario lists under the same name.
const VARIANT: &str = "variant";

/// Parts of `host.json` that are shown elsewhere, or not at all.
const SEPARATE: [&str; 5] = ["calibration", "command", "hosts", "sysctls", "schema"];

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let record = ranked.record;
    let host = &record.host;
    let text = |name: &str| host.get(name).map_or_else(|| "?".to_owned(), plain);
    let facts = facts(host);
    let job = Job::of(host);
    let (own, network) = match &job {
        None => ("Host", "Sysctls of the network used"),
        Some(_) => ("Host of rank 0", "Sysctls of its network"),
    };
    let by = if job.is_some() { ", with what chooses the same hosts (on others, without `address` in it)" } else { "" };
    let launcher = job.as_ref().map_or_else(String::new, Job::start);
    let sysctls = host.get("sysctls").and_then(Json::as_object).into_iter().flatten();
    let figure = html! {
        div.pair {
            div { h3 { (own) } dl { @for (name, value) in facts { dt { (label(name)) } dd { (fact(name, value)) } } } }
            div { h3 { (network) } dl { @for (name, value) in sysctls { dt { (name) } dd { (shown(value)) } } } }
        }
        @if let Some(job) = &job {
            h3 { "All hosts" }
            ul { @for line in job.in_words() { li { (capital(&line)) } } }
        }
        h3 { "Run it again" }
        p { @if job.is_some() { "The command as each host ran it:" } @else { "The command as run:" } }
        pre { (command(host)) }
        @if record.whole.search.is_some() {
            p { "To repeat the search from this folder" (by) " (its trials depend on what they find):" }
        } @else {
            p { "To run the same trials in the same order with the same arrivals, from this folder" (by) ":" }
        }
        pre { (launcher) "listenbench run scenario.toml --out again" }
        (folded("scenario.toml, with all effective values", &html! { pre { (record.scenario) } }))
    };
    Some(Content {
        title: "Host and how to repeat it".to_owned(),
        finding: match &job {
            None => format!("Linux {}, {} processors ({})", text("kernel"), text("cpus_allowed"), text("cpu")),
            Some(job) => job.finding(),
        },
        figure: Some(figure),
        conditions: conditions(record),
        ..Content::default()
    })
}

/// Facts about the machine that are not shown elsewhere. Those that are `null` are unknown and left out.
fn facts(host: &Json) -> impl Iterator<Item = (&String, &Json)> {
    let all = host.as_object().into_iter().flatten();
    all.filter(|(name, value)| !SEPARATE.contains(&name.as_str()) && !value.is_null())
}

/// A fact's name without its unit.
fn label(name: &str) -> String {
    let name = name.strip_suffix("_bytes").or_else(|| name.strip_suffix("_ns")).unwrap_or(name);
    name.replace('_', " ")
}

/// A fact with its unit, and its thousands apart. Seeds and user ids are names.
fn fact(name: &str, value: &Json) -> String {
    match value {
        Json::Object(parts) => {
            parts.iter().map(|(name, value)| format!("{name} {}", fact(name, value))).collect::<Vec<_>>().join(", ")
        }
        Json::Number(number) if !["seed", "uid"].contains(&name) => {
            let value = number.as_f64().unwrap_or(f64::NAN);
            match name {
                _ if name.ends_with("_bytes") => format::gibibytes(value),
                _ if name.ends_with("_ns") => format::duration(value),
                _ => format::thousands(value),
            }
        }
        other => shown(other),
    }
}

/// The sysctls that are always among the conditions.
const SYSCTLS: [&str; 3] = ["ip_local_port_range", "tcp_tw_reuse", "somaxconn"];

/// A sysctl's value as a scenario has it.
fn in_words(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn conditions(record: &Record) -> Vec<String> {
    let host = &record.host;
    let text = |name: &str| host.get(name).map_or_else(String::new, plain);
    let written = record
        .scenario
        .parse::<toml::Table>()
        .ok()
        .and_then(|table| table.get("sysctl").and_then(toml::Value::as_table).cloned())
        .unwrap_or_default();
    // What the scenario sets holds in each trial's network, whatever the network was before.
    let sysctl = |name: &str| match written.get(name) {
        Some(value) => in_words(value),
        None => host["sysctls"].get(name).map_or_else(|| "?".to_owned(), plain),
    };
    let others = written.iter().filter(|(name, _)| !SYSCTLS.contains(&name.as_str()));
    let others: String = others.map(|(name, value)| format!(", {name} {}", in_words(value))).collect();
    let [ports, reuse, somaxconn] = SYSCTLS.map(sysctl);
    // A job's trials write no sysctls, and each host has its own.
    let of_job = host.get("hosts").is_some();
    let mut conditions = match Job::of(host) {
        None => vec![format!("kernel {}, {} processors ({})", text("kernel"), text("cpus_allowed"), text("cpu"))],
        Some(job) => job.in_words(),
    };
    conditions.extend([
        if of_job {
            format!("network {}", text("network"))
        } else {
            format!("network {}: ports {ports}, tcp_tw_reuse {reuse}, somaxconn {somaxconn}{others}", text("network"))
        },
        format!("seed {}, {}, revision {}", text("seed"), text("tool"), text("revision")),
    ]);
    conditions.extend(servers(record));
    conditions.extend(bound(record));
    conditions.extend(upstreams(record));
    conditions.extend(headers(record));
    conditions
}

/// What trials have in common, each once, with the variants that have it unless all have: `server nginx (variant reuseport): nginx -p
/// {dir}`.
fn of_variants(record: &Record, name: &str, of: impl Fn(&TrialRecord) -> Option<(String, String)>) -> Vec<String> {
    let variant = |trial: &TrialRecord| trial.cell.get(VARIANT).map(plain);
    let all: IndexSet<String> = record.trials.iter().filter_map(variant).collect();
    let mut known: IndexMap<(String, String), IndexSet<String>> = IndexMap::new();
    for trial in &record.trials {
        if let Some(line) = of(trial) {
            known.entry(line).or_default().extend(variant(trial));
        }
    }
    let line = |((who, what), variants): ((String, String), IndexSet<String>)| {
        let names: Vec<&String> = all.iter().filter(|name| variants.contains(*name)).collect();
        let of = match names.len() {
            some if some == all.len() => String::new(),
            1 => format!(" (variant {})", names[0]),
            _ => format!(" (variants {})", listed(&names)),
        };
        format!("{name} {who}{of}: {what}")
    };
    known.into_iter().map(line).collect()
}

/// Our own servers behind proxies: `upstream listenbench 0.1.0: reuseport, 2 workers`.
fn upstreams(record: &Record) -> Vec<String> {
    let scenario = record.scenario.parse::<toml::Table>().unwrap_or_default();
    of_variants(record, "upstream", |trial| {
        let workers = plural(usize::try_from(trial.upstream.as_ref()?.workers).ok()?, "worker");
        let strategy = strategy(&scenario, trial).map_or_else(String::new, |strategy| format!("{strategy}, "));
        let own = Subject::own();
        let expects =
            if trial.upstream.as_ref()?.proxy_protocol { ", which expects PROXY protocol headers" } else { "" };
        Some((format!("{} {}", own.name, own.version.unwrap_or_default()), format!("{strategy}{workers}{expects}")))
    })
}

/// What connections begin with, unless that is swept: `PROXY protocol: version 2`, of several populations `PROXY protocol: version 2
/// (kept), none (fresh)`.
fn headers(record: &Record) -> Vec<String> {
    of_variants(record, "PROXY", |trial| {
        let version =
            |load: &LoadRow| load.proxy_protocol.map_or("none".to_owned(), |number| format!("version {number}"));
        let is_swept = trial.cell.keys().any(|key| key.ends_with("proxy_protocol"));
        let sent = trial.loads.iter().any(|load| load.proxy_protocol.is_some());
        let what: Vec<String> = match &trial.loads[..] {
            [only] => vec![version(only)],
            several => several.iter().map(|load| format!("{} ({})", version(load), load.name)).collect(),
        };
        (sent && !is_swept).then(|| ("protocol".to_owned(), what.join(", ")))
    })
}

/// The strategy of a trial's own server: swept, its variant's, or the scenario's.
fn strategy(scenario: &toml::Table, trial: &TrialRecord) -> Option<String> {
    let of = |table: &toml::Table| Some(table.get("server")?.get("strategy")?.as_str()?.to_owned());
    let variants = scenario.get(VARIANT).and_then(toml::Value::as_array).into_iter().flatten();
    let mut variants = variants.filter_map(toml::Value::as_table);
    let name = trial.cell.get(VARIANT).and_then(Json::as_str);
    let swept = trial.cell.get("strategy").map(plain);
    let of_variant = || of(variants.find(|variant| variant.get("name").and_then(toml::Value::as_str) == name)?);
    swept.or_else(of_variant).or_else(|| of(scenario))
}

/// The servers that are not listenbench's own: `server nginx: nginx -p {dir}`.
fn servers(record: &Record) -> Vec<String> {
    of_variants(record, "server", |trial| {
        let subject = &trial.subject;
        let was_there = match subject.kind {
            SubjectKind::Own => false,
            SubjectKind::Command => true,
            // Where a trial found none, none was running.
            SubjectKind::Running => trial.outcome != Outcome::Failed,
        };
        let origin = subject.command.as_deref().unwrap_or("was already running");
        let version = subject.version.as_ref().map_or_else(String::new, |version| format!(" {version}"));
        was_there.then(|| (format!("{}{version}", subject.name), origin.to_owned()))
    })
}

/// What listenbench's own server was bound to, where that is more than the address that clients connect to, or a Unix socket.
fn bound(record: &Record) -> Vec<String> {
    of_variants(record, "server", |trial| {
        let own = &trial.subject;
        let is_plain = match &own.bound[..] {
            [] => true,
            [only] => {
                let is_unix = unix::is_meant(&only.address);
                only.v6only.is_none() && only.device.is_none() && !only.is_wildcard() && !is_unix
            }
            _ => false,
        };
        let all = own.bound.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        (!is_plain).then(|| (own.name.clone(), format!("bound to {all}")))
    })
}

/// A value as it stands, which for a sysctl can be copied.
fn shown(value: &Json) -> String {
    match value {
        Json::String(text) if text.is_empty() => "none".to_owned(),
        other => plain(other),
    }
}

/// The command line, quoted for a shell.
fn command(host: &Json) -> String {
    let words = host.get("command").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+%@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::{Upstream, WaitEnd},
        report::sample::Sample,
    };

    #[test]
    fn what_is_null_is_no_fact() {
        let names = |host: Json| facts(&host).map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(serde_json::json!({ "kernel": "6.12", "experiment": null, "sysctls": {} })), ["kernel"]);
        assert_eq!(names(serde_json::json!({ "kernel": "6.12", "experiment": "ab" })), ["kernel", "experiment"]);
    }

    #[test]
    fn a_sysctl_that_the_scenario_sets_has_that_value() {
        let mut record = Sample::new("").reading().record;
        record.raw.host["sysctls"] =
            json!({ "ip_local_port_range": "1024 2047", "tcp_tw_reuse": 2, "somaxconn": 4096 });
        let network =
            |record: &Record| conditions(record).into_iter().find(|line| line.starts_with("network")).unwrap();
        assert!(network(&record).ends_with(": ports 1024 2047, tcp_tw_reuse 2, somaxconn 4096"));
        record.raw.scenario = "[sysctl]\ntcp_tw_reuse = 0\ntcp_syncookies = 1".to_owned();
        let expected = ": ports 1024 2047, tcp_tw_reuse 0, somaxconn 4096, tcp_syncookies 1";
        assert!(network(&record).ends_with(expected), "{}", network(&record));
    }

    #[test]
    fn servers_of_others_are_named_once() {
        let mut sample = Sample::new("");
        for command in ["nginx -c a.conf", "nginx -c a.conf", "nginx -c b.conf"] {
            let trial = sample.of_nginx(json!({ "command": command }), &[1], 1, WaitEnd::Accept);
            trial.subject.command = Some(command.to_owned());
        }
        let running = Subject {
            kind: SubjectKind::Running,
            name: "gunicorn".to_owned(),
            version: Some("20.1".to_owned()),
            ..Subject::default()
        };
        sample.of_nginx(json!({ "command": "" }), &[1], 1, WaitEnd::Accept).subject = running.clone();
        let absent = sample.of_nginx(json!({ "command": "" }), &[1], 1, WaitEnd::Accept);
        (absent.subject, absent.outcome) = (Subject { name: "127.0.0.1:80".to_owned(), ..running }, Outcome::Failed);
        sample.trial(json!({ "command": "own" }), &[1], 1);
        let named = servers(&sample.reading().record);
        assert_eq!(
            named,
            [
                "server nginx: nginx -c a.conf",
                "server nginx: nginx -c b.conf",
                "server gunicorn 20.1: was already running"
            ]
        );
    }

    #[test]
    fn servers_are_attributed_to_their_variants() {
        let mut sample = Sample::new("");
        for (variant, command) in [("shared", "nginx"), ("mutex", "nginx"), ("reuseport", "nginx -c r.conf")] {
            let trial = sample.of_nginx(json!({ "variant": variant }), &[1], 1, WaitEnd::Accept);
            trial.subject.command = Some(command.to_owned());
            trial.upstream = Some(Upstream { workers: 2, ..Upstream::default() });
        }
        let mut record = sample.reading().record;
        record.raw.scenario = "[server]\nstrategy = \"shared\"\n".to_owned();
        assert_eq!(
            servers(&record),
            ["server nginx (variants shared and mutex): nginx", "server nginx (variant reuseport): nginx -c r.conf"]
        );
        let own = format!("upstream listenbench {}", env!("CARGO_PKG_VERSION"));
        assert_eq!(upstreams(&record), [format!("{own}: shared, 2 workers")]);
        record.raw.scenario += "[[variant]]\nname = \"mutex\"\nserver.strategy = \"reuseport\"\n";
        assert_eq!(
            upstreams(&record),
            [
                format!("{own} (variants shared and reuseport): shared, 2 workers"),
                format!("{own} (variant mutex): reuseport, 2 workers")
            ]
        );
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        let host = serde_json::json!({ "command": ["listenbench", "run", "--set", "matrix.load.rate=[1, 2]", "it's"] });
        assert_eq!(command(&host), "listenbench run --set 'matrix.load.rate=[1, 2]' 'it'\\''s'");
    }

    #[test]
    fn facts_have_units() {
        let fact = |name, value| format!("{} {}", label(name), fact(name, &value));
        assert_eq!(fact("open_files", json!({"hard": 20_000, "soft": 10})), "open files hard 20,000, soft 10");
        assert_eq!(fact("memory_bytes", json!(25_276_514_304_u64)), "memory 23.5 GiB");
        assert_eq!(fact("queue_sample_ns", json!(30_095)), "queue sample 30.1 µs");
        assert_eq!(fact("seed", json!(123_456)), "seed 123456");
        assert_eq!(fact("kernel", json!("6.12")), "kernel 6.12");
    }
}
