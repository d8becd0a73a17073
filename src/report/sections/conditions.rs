//! The conditions of a run, a line each: machine, network, revision, and whatever of servers and clients is not swept.

use indexmap::{IndexMap, IndexSet};
use serde_json::Value as Json;

use super::{
    arrivals,
    effective::{Effective, OfTrial},
    job::Job,
    members::lacked_descriptors,
    netfilter,
};
use crate::{
    format::{plural, thousands},
    record::{ClientHandshakes, LoadRow, Outcome, Subject, SubjectKind, TrialRecord},
    report::{plain, ranking::listed},
    scenario::{Load, Protocol, Scenario, Security, TlsVersion, UnderTest},
    stats::Record,
    sys::unix,
};

/// The swept key whose values are names of variants, which the scenario lists under the same name.
const VARIANT: &str = "variant";

/// The sysctls that are always among the conditions.
const SYSCTLS: [&str; 3] = ["ip_local_port_range", "tcp_tw_reuse", "somaxconn"];

/// The only one that matters to a Unix socket.
const OF_UNIX: &str = "somaxconn";

/// Whether a sysctl says anything about a record's trials: none of TCP and IP does if they all use Unix sockets.
pub(super) fn matters(effective: &Effective, sysctl: &str) -> bool {
    !effective.is_unix() || sysctl == OF_UNIX
}

/// A sysctl's value as a scenario has it.
fn in_words(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The sysctls that a scenario sets: `0, 1 or 2 (swept)` if the matrix does, and whatever variants do is among the cells.
fn sysctls_of(scenario: &str) -> IndexMap<String, String> {
    let table = scenario.parse::<toml::Table>().unwrap_or_default();
    let of = |key: &str| table.get(key).and_then(toml::Value::as_table).into_iter().flatten();
    let fixed = of("sysctl").map(|(name, value)| (name.clone(), in_words(value)));
    let swept = of("matrix").filter_map(|(path, values)| {
        let values: Vec<String> = values.as_array()?.iter().map(in_words).collect();
        let (last, others) = values.split_last()?;
        let all = if others.is_empty() { last.clone() } else { format!("{} or {last} (swept)", others.join(", ")) };
        Some((path.strip_prefix("sysctl.")?.to_owned(), all))
    });
    fixed.chain(swept).collect()
}

pub(super) fn of(record: &Record, effective: &Effective) -> Vec<String> {
    let host = &record.host;
    let text = |name: &str| host.get(name).map_or_else(String::new, plain);
    // What the scenario sets holds in each trial's network, whatever the network was before.
    let written = sysctls_of(&record.scenario);
    let sysctl = |name: &str| match written.get(name) {
        Some(value) => value.clone(),
        None => host["sysctls"].get(name).map_or_else(|| "?".to_owned(), plain),
    };
    let mut sysctls: Vec<String> = SYSCTLS
        .into_iter()
        .filter(|name| matters(effective, name))
        .map(|name| format!("{} {}", name.replace("ip_local_port_range", "ports"), sysctl(name)))
        .collect();
    let others = written.iter().filter(|(name, _)| !SYSCTLS.contains(&name.as_str()));
    sysctls.extend(others.map(|(name, value)| format!("{name} {value}")));
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
            format!("network {}: {}", text("network"), sysctls.join(", "))
        },
        format!("seed {}, {}, revision {}", text("seed"), text("tool"), text("revision")),
    ]);
    conditions.extend(servers(record));
    conditions.extend(bound(record));
    conditions.extend(unix_sockets(record, effective));
    conditions.extend(open_files(record, effective));
    conditions.extend(upstreams(record));
    conditions.extend(protocols(record, effective));
    conditions.extend(arrivals::conditions(record, effective));
    conditions.extend(headers(record));
    conditions.extend(security(record, effective));
    conditions.extend(netfilter::conditions(record));
    conditions
}

/// What some trials have in common.
pub(super) struct Common<'a> {
    /// What it is about, and the variants that have it unless all have: `server nginx (variant reuseport)`.
    pub head: String,
    pub what: String,
    pub trials: Vec<&'a TrialRecord>,
}

/// What trials have in common, each once, by what it is about and what is said of that.
pub(super) fn in_common(record: &Record, of: impl Fn(&TrialRecord) -> Option<(String, String)>) -> Vec<Common<'_>> {
    let variant = |trial: &TrialRecord| trial.cell.get(VARIANT).map(plain);
    let all: IndexSet<String> = record.trials.iter().filter_map(variant).collect();
    let mut known: IndexMap<(String, String), Vec<&TrialRecord>> = IndexMap::new();
    for trial in &record.trials {
        if let Some(line) = of(trial) {
            known.entry(line).or_default().push(trial);
        }
    }
    let line = |((head, what), trials): ((String, String), Vec<_>)| {
        let variants: IndexSet<String> = trials.iter().copied().filter_map(variant).collect();
        let names: Vec<&String> = all.iter().filter(|name| variants.contains(*name)).collect();
        let of = match names.len() {
            some if some == all.len() => String::new(),
            1 => format!(" (variant {})", names[0]),
            _ => format!(" (variants {})", listed(&names)),
        };
        Common { head: format!("{head}{of}"), what, trials }
    };
    known.into_iter().map(line).collect()
}

/// The same in lines: `server nginx (variant reuseport): nginx -p {dir}`.
pub(super) fn lines(record: &Record, of: impl Fn(&TrialRecord) -> Option<(String, String)>) -> Vec<String> {
    in_common(record, of).into_iter().map(|Common { head, what, .. }| format!("{head}: {what}")).collect()
}

/// What is said of a trial's populations: once if it is the same of all, otherwise of each. Empty if nothing is.
pub(super) fn of_loads(loads: &[Load], of: impl Fn(&Load) -> Option<String>) -> String {
    let all: Vec<(&str, String)> = loads.iter().filter_map(|load| Some((&load.name[..], of(load)?))).collect();
    match &all[..] {
        [] => String::new(),
        [(_, first), rest @ ..] if all.len() == loads.len() && rest.iter().all(|(_, what)| what == first) => {
            first.clone()
        }
        _ => all.iter().map(|(name, what)| format!("{what} ({name})")).collect::<Vec<_>>().join("; "),
    }
}

/// Which Unix sockets servers listen on: `Unix socket unix:@app: stream, backlog 1024, load.connect at-once`.
fn unix_sockets(record: &Record, effective: &Effective) -> Vec<String> {
    lines(record, |trial| {
        let of = effective.of_trial(trial)?;
        let Scenario { server, loads, subject, unix, .. } = of.scenario();
        let unix = unix.as_ref()?;
        let place =
            if unix.contains("{dir}") { format!("in the trial's own folder ({unix})") } else { unix.to_string() };
        let mut what = vec![if unix.has_messages() { "seqpacket" } else { "stream" }.to_owned()];
        if subject.is_own() && !of.sweeps("backlog") {
            what.push(format!("backlog {}", server.listen.backlog));
        }
        if !of.sweeps("connect") {
            what.push(format!("load.connect {}", of_loads(loads, |load| Some(<&str>::from(load.connect).to_owned()))));
        }
        Some((format!("Unix socket {place}"), what.join(", ")))
    })
}

/// The limit of open files that the scenario sets, and what our own workers do there: `open files: at most 30 per process of the server; at
/// the limit: reserve`. Without a limit of the scenario's, only of trials that lacked descriptors.
fn open_files(record: &Record, effective: &Effective) -> Vec<String> {
    lines(record, |trial| {
        let of = effective.of_trial(trial)?;
        let server = &of.scenario().server;
        let is_limited = server.open_files.is_some() || lacked_descriptors(trial);
        let limit = server.open_files.filter(|_| !of.sweeps("open_files"));
        let at_limit = of.scenario().subject.is_own() && is_limited && !of.sweeps("at_open_files");
        let parts = [
            limit.map(|limit| format!("at most {} per process of the server", thousands(limit as f64))),
            at_limit.then(|| format!("at the limit: {}", <&str>::from(server.at_open_files))),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| ("open files".to_owned(), parts.join("; ")))
    })
}

/// What the load consists of, unless that is swept or plain connections.
fn protocols(record: &Record, effective: &Effective) -> Vec<String> {
    lines(record, |trial| {
        let of = effective.of_trial(trial).filter(|of| !of.sweeps("protocol"))?;
        let what = match of.scenario().protocol {
            Protocol::Tcp => return None,
            Protocol::Udp => "datagrams (udp)",
            Protocol::Both => "connections and datagrams on one port number (tcp+udp)",
            Protocol::Mptcp if of.scenario().subject.is_own() => "MPTCP, which clients and listeners ask for",
            Protocol::Mptcp => "MPTCP, which clients ask for",
        };
        Some(("protocol".to_owned(), what.to_owned()))
    })
}

/// What clients ask of TLS, and what handshakes agreed on: `TLS: clients offer 1.3 and 1.2, certificate made at start (ECDSA P-256),
/// verified, no resumption, ALPN http/1.1; 798 handshakes, 798 of them with 1.3`.
fn security(record: &Record, effective: &Effective) -> Vec<String> {
    let is_1_3_known = |trial: &TrialRecord| effective.of_trial(trial).is_some_and(|of| !of.sweeps("tls_version"));
    let common = in_common(record, |trial| {
        let of = effective.of_trial(trial)?;
        let what = of_loads(&of.scenario().loads, |load| Some(asked_of_tls(&of, load.security.as_ref()?)));
        (!what.is_empty()).then(|| ("TLS".to_owned(), what))
    });
    let line = |Common { head, what, trials }: Common<'_>| {
        let mut all = ClientHandshakes::default();
        let valid = || trials.iter().filter(|trial| trial.outcome == Outcome::Valid);
        valid().filter_map(|trial| trial.tls.as_ref()).for_each(|tls| all.add(&tls.clients));
        let [completed, tls_1_3, alpn] = [all.completed, all.tls_1_3, all.alpn].map(|count| thousands(count as f64));
        // Where versions are swept, the table of handshakes has a row for each.
        let agreed = if all.completed == 0 || !valid().all(|trial| is_1_3_known(trial)) {
            String::new()
        } else {
            format!("; agreed on: TLS 1.3 in {tls_1_3} of {completed} handshakes, ALPN in {alpn}")
        };
        format!("{head}: {what}{agreed}")
    };
    common.into_iter().map(line).collect()
}

/// What the clients of a population ask of TLS.
fn asked_of_tls(of: &OfTrial<'_>, security: &Security) -> String {
    let Scenario { subject, server, .. } = of.scenario();
    let Security { version, resumption, verify, trust, server_name, alpn } = security;
    let unswept = |name: &str, what: String| (!of.sweeps(name)).then_some(what);
    let version = match version {
        TlsVersion::Any => "1.3 and 1.2",
        TlsVersion::Tls13 => "1.3 only",
        TlsVersion::Tls12 => "1.2 only",
    };
    const MADE: &str = "made at start (ECDSA P-256)";
    let certificate = match (&server.certificate, subject) {
        (Some(files), _) => Some(format!("certificate from {}", files.certificate)),
        (None, UnderTest::Own) => Some(format!("certificate {MADE}")),
        // Which one it presents is its own affair.
        (None, _) => None,
    };
    let verified = match (verify, trust, &server.certificate, subject) {
        (false, ..) => "not verified (load.verify = false)".to_owned(),
        (true, Some(path), ..) => format!("verified by {path}"),
        (true, None, None, UnderTest::Own) => "verified".to_owned(),
        (true, None, _, UnderTest::Command(_)) => format!("verified by the one {MADE}"),
        (true, None, ..) => "verified by those that the machine trusts".to_owned(),
    };
    let verified = if certificate.is_some() { verified } else { format!("server's certificate {verified}") };
    let resumption = if *resumption > 0.0 { format!("resumption {resumption}") } else { "no resumption".to_owned() };
    let alpn = alpn.as_ref().map_or_else(|| "no ALPN".to_owned(), |name| format!("ALPN {name}"));
    let name = server_name.as_ref().map(|name| format!("server name {name}"));
    let parts = [
        unswept("tls_version", format!("clients offer {version}")),
        certificate.and_then(|certificate| unswept("certificate", certificate)),
        unswept("verify", verified),
        name.and_then(|name| unswept("server_name", name)),
        unswept("resumption", resumption),
        unswept("alpn", alpn),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Our own servers behind proxies: `upstream listenbench 0.1.0: reuseport, 2 workers`.
fn upstreams(record: &Record) -> Vec<String> {
    let scenario = record.scenario.parse::<toml::Table>().unwrap_or_default();
    lines(record, |trial| {
        let workers = plural(usize::try_from(trial.upstream.as_ref()?.workers).ok()?, "worker");
        let strategy = strategy(&scenario, trial).map_or_else(String::new, |strategy| format!("{strategy}, "));
        let own = Subject::own();
        let expects =
            if trial.upstream.as_ref()?.proxy_protocol { ", which expects PROXY protocol headers" } else { "" };
        Some((
            format!("upstream {} {}", own.name, own.version.unwrap_or_default()),
            format!("{strategy}{workers}{expects}"),
        ))
    })
}

/// What connections begin with, unless that is swept: `PROXY protocol: version 2`, of several populations `PROXY protocol: version 2
/// (kept), none (fresh)`.
fn headers(record: &Record) -> Vec<String> {
    lines(record, |trial| {
        let version =
            |load: &LoadRow| load.proxy_protocol.map_or("none".to_owned(), |number| format!("version {number}"));
        let is_swept = trial.cell.keys().any(|key| key.ends_with("proxy_protocol"));
        let sent = trial.loads.iter().any(|load| load.proxy_protocol.is_some());
        let what: Vec<String> = match &trial.loads[..] {
            [only] => vec![version(only)],
            several => several.iter().map(|load| format!("{} ({})", version(load), load.name)).collect(),
        };
        (sent && !is_swept).then(|| ("PROXY protocol".to_owned(), what.join(", ")))
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
    lines(record, |trial| {
        let subject = &trial.subject;
        let was_there = match subject.kind {
            SubjectKind::Own => false,
            SubjectKind::Command => true,
            // Where a trial found none, none was running.
            SubjectKind::Running => trial.outcome != Outcome::Failed,
        };
        let origin = subject.command.as_deref().unwrap_or("was already running");
        let version = subject.version.as_ref().map_or_else(String::new, |version| format!(" {version}"));
        was_there.then(|| (format!("server {}{version}", subject.name), origin.to_owned()))
    })
}

/// What listenbench's own server was bound to, where that is more than the address that clients connect to. Unix sockets are named elsewhere.
fn bound(record: &Record) -> Vec<String> {
    lines(record, |trial| {
        let own = &trial.subject;
        let is_plain = match &own.bound[..] {
            [] => true,
            [only] => {
                let is_unix = unix::is_meant(&only.address);
                is_unix || only.v6only.is_none() && only.device.is_none() && !only.is_wildcard()
            }
            _ => false,
        };
        let all = own.bound.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        (!is_plain).then(|| (format!("server {}", own.name), format!("bound to {all}")))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::{Upstream, WaitEnd},
        report::sample::Sample,
        scenario::{Plan, Source},
    };

    #[test]
    fn a_sysctl_that_the_scenario_sets_has_that_value() {
        let mut record = Sample::new("").reading().record;
        record.raw.host["sysctls"] =
            json!({ "ip_local_port_range": "1024 2047", "tcp_tw_reuse": 2, "somaxconn": 4096 });
        let network = |record: &Record| {
            super::of(record, &Effective::of(record)).into_iter().find(|line| line.starts_with("network")).unwrap()
        };
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

    fn source(text: &str) -> Source<'_> {
        Source { name: "made-up.toml", text }
    }

    /// The conditions of one trial with this scenario, but for those of the machine.
    fn conditions_with(scenario: &str, change: impl Fn(&mut TrialRecord)) -> Vec<String> {
        let mut sample = Sample::new("");
        change(sample.trial(json!({}), &[1, 1], 1));
        let mut record = sample.reading().record;
        record.raw.scenario = scenario.to_owned();
        let effective = Effective::of(&record);
        assert!(effective.of_trial(&record.trials[0]).is_some(), "{:?}", Plan::read(&source(scenario), &[]));
        super::of(&record, &effective).into_iter().skip(1).filter(|line| !line.starts_with("seed")).collect()
    }

    #[test]
    fn tls_is_described_as_asked_for_and_as_agreed_on() {
        let https = |more: &str| format!("[server]\napp = \"https\"\n[load]\n{more}");
        let tls = |more: &str, completed| {
            let mut lines = conditions_with(&https(more), |trial| {
                let clients =
                    ClientHandshakes { completed, tls_1_3: completed, alpn: 7, ..ClientHandshakes::default() };
                trial.tls = Some(crate::record::Tls { clients, server: None });
            });
            lines.pop().unwrap()
        };
        assert_eq!(
            tls("", 1_798),
            "TLS: clients offer 1.3 and 1.2, certificate made at start (ECDSA P-256), verified, no resumption, ALPN http/1.1; \
             agreed on: TLS 1.3 in 1,798 of 1,798 handshakes, ALPN in 7"
        );
        assert_eq!(
            tls("tls_version = \"1.2\"\nverify = false\nresumption = 0.5\nalpn = \"\"\nserver_name = \"a.example\"", 0),
            "TLS: clients offer 1.2 only, certificate made at start (ECDSA P-256), not verified (load.verify = false), \
             server name a.example, resumption 0.5, no ALPN"
        );
    }

    #[test]
    fn what_is_swept_is_no_condition() {
        let mut sample = Sample::new("");
        for version in ["1.2", "1.3"] {
            sample.trial(json!({ "tls_version": version }), &[1, 1], 1);
        }
        let mut record = sample.reading().record;
        record.raw.scenario = "[server]\napp = \"https\"\n[matrix]\nload.tls_version = [\"1.2\", \"1.3\"]".to_owned();
        let lines = security(&record, &Effective::of(&record));
        let expected = "TLS: certificate made at start (ECDSA P-256), verified, no resumption, ALPN http/1.1";
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn a_unix_socket_has_no_ports() {
        let lines = conditions_with("address = \"unix:{dir}/app.sock\"\n[server]\nbacklog = 8", |_| {});
        assert_eq!(
            lines,
            [
                "network : somaxconn ?",
                "Unix socket in the trial's own folder (unix:{dir}/app.sock): stream, backlog 8, load.connect at-once"
            ]
        );
        let effective = |text: &str| {
            let mut record = Sample::new("").reading().record;
            record.raw.scenario = text.to_owned();
            Effective::of(&record)
        };
        let all = effective("address = \"unix:@a\"");
        let some = effective("[matrix]\naddress = [\"127.0.0.1\", \"unix:@a\"]");
        let of_tcp = |effective| matters(effective, "tcp_tw_reuse");
        assert_eq!([of_tcp(&all), of_tcp(&some), matters(&all, OF_UNIX)], [false, true, true]);
    }

    #[test]
    fn limits_and_protocols_are_conditions() {
        let load = "[load]\nrequests = 1";
        let last = |head: &str| conditions_with(&format!("{head}\n{load}"), |_| {}).split_off(1);
        assert!(last("").is_empty());
        assert_eq!(
            last("[server]\nopen_files = 30\nat_open_files = \"reserve\""),
            ["open files: at most 30 per process of the server; at the limit: reserve"]
        );
        assert_eq!(last("protocol = \"mptcp\""), ["protocol: MPTCP, which clients and listeners ask for"]);
        assert_eq!(last("protocol = \"udp\""), ["protocol: datagrams (udp)"]);
        let lacked = conditions_with(load, |trial| trial.workers[0].total.emfile = Some(3));
        assert_eq!(lacked[1..], ["open files: at the limit: pause"]);
    }
}
