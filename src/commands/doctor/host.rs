//! How this host and its network namespace fare: queues, ports, tables and limits that every server and client here meets.

use std::collections::BTreeSet;

use super::{About, Check, Status};
use crate::{
    commands::ports::{self, Diagnosis, Severity},
    format::{self, counted, thousands},
    observe::{
        cgroup::{self, Limits},
        counters::{self, CounterReader, Counters, SocketReader},
        host,
        limits::{self, MachineFiles},
        memory, rules, sysctl,
    },
    record::{ConntrackTable, NetfilterFacts, Softnet},
    sys::affinity,
};

/// A table or limit used beyond this part is nearly full.
const NEARLY: f64 = 0.8;
/// With a shorter longest accept queue, bursts overflow it.
const QUEUE_ENOUGH: u64 = 1_024;

/// All checks of the host, in display order.
pub fn checks() -> Vec<Check> {
    let mut reader = CounterReader::default();
    let counted = reader.add_namespace().and_then(|()| reader.read()).unwrap_or_default();
    let number = |name: &str| sysctl::read(name).and_then(|value| value.parse::<u64>().ok());
    let queues = Queues {
        longest: number("somaxconn").unwrap_or(0),
        half_open: number("tcp_max_syn_backlog").unwrap_or(0),
        cookies: number("tcp_syncookies"),
    };
    let waiting = SocketReader::open().and_then(|mut sockets| sockets.read()).map_or(0, |sockets| sockets.time_wait);
    let netfilter = rules::facts();
    let mut checks = vec![
        accept_queues(&counted),
        queues.longest(),
        queues.handshakes(&counted),
        ports_in_use(ports::diagnose()),
        time_wait(waiting, number("tcp_max_tw_buckets").unwrap_or(0), &counted),
        tracked(netfilter.conntrack),
        filtered(&netfilter),
        backlogs(&counters::softnet().unwrap_or_default()),
    ];
    checks.extend(limits::files_of_machine().ok().map(files));
    let allowed = affinity::allowed_cpus().map_or(0, |cpus| cpus.len());
    checks.push(control_group(&cgroup::read(), allowed, memory::total_bytes().unwrap_or(0)));
    checks.push(governors(&host::governors()));
    checks
}

fn check(name: &'static str, is_well: bool, found: impl Into<String>, advice: impl Into<String>) -> Check {
    let status = if is_well { Status::Ok } else { Status::Limited };
    Check { about: About::Host, name, status, found: found.into(), advice: advice.into() }
}

/// A counter of the namespace since it was made.
fn of(counters: &Counters, name: &str) -> u64 {
    counters.get(name).copied().unwrap_or(0)
}

fn accept_queues(counters: &Counters) -> Check {
    let [overflows, drops] = ["ListenOverflows", "ListenDrops"].map(|name| of(counters, name));
    let found = format!(
        "ListenOverflows {}, ListenDrops {} since this network began",
        thousands(overflows as f64),
        thousands(drops as f64)
    );
    let advice = if drops == 0 {
        "no listener has turned a connection away"
    } else if overflows == 0 {
        "listeners dropped segments, though no accept queue was full: look at the handshakes below, and at memory"
    } else {
        "accept queues were full, and clients waited a second or more: `listenbench observe` shows which; accept faster, or raise the \
         server's backlog and somaxconn"
    };
    check("accept queues", drops == 0, found, advice)
}

/// The sysctls that bound the queues of listeners.
struct Queues {
    /// net.core.somaxconn
    longest: u64,
    /// net.ipv4.tcp_max_syn_backlog
    half_open: u64,
    /// net.ipv4.tcp_syncookies; `None` without support for them.
    cookies: Option<u64>,
}

impl Queues {
    fn longest(&self) -> Check {
        let found = format!("net.core.somaxconn {}", self.longest);
        let advice = if self.longest >= QUEUE_ENOUGH {
            "a server's backlog is capped here: many set a smaller one themselves (nginx 511, Python 100)"
        } else {
            "every backlog is silently capped at this value: `sysctl -w net.core.somaxconn=4096`, then restart the servers"
        };
        check("longest accept queue", self.longest >= QUEUE_ENOUGH, found, advice)
    }

    fn handshakes(&self, counters: &Counters) -> Check {
        let [sent, dropped] = ["SyncookiesSent", "TCPReqQFullDrop"].map(|name| of(counters, name));
        let found = format!(
            "tcp_syncookies {}, tcp_max_syn_backlog {}; {} sent, {} since this network began",
            self.cookies.map_or_else(|| "unavailable".to_owned(), |cookies| cookies.to_string()),
            self.half_open,
            counted(sent, "cookie", "cookies"),
            counted(dropped, "handshake dropped", "handshakes dropped")
        );
        let cookies = self.cookies.unwrap_or(0);
        let (is_well, advice) = if cookies == 2 {
            (
                false,
                "every handshake uses a cookie, a setting for tests: `sysctl -w net.ipv4.tcp_syncookies=1`".to_owned(),
            )
        } else if cookies == 0 && self.half_open < self.longest {
            let room = self.half_open - self.half_open / 4;
            let advice = format!(
                "without cookies a listener accepts about {room} handshakes at a time: `sysctl -w net.ipv4.tcp_max_syn_backlog={}`",
                self.longest.max(QUEUE_ENOUGH)
            );
            (false, advice)
        } else if sent + dropped > 0 {
            let advice =
                "handshakes came faster than listeners had room for: raise the backlog, or look for a flood of SYNs";
            (false, advice.to_owned())
        } else {
            (true, "handshakes have had room".to_owned())
        };
        check("handshakes", is_well, found, advice)
    }
}

fn ports_in_use(diagnosis: anyhow::Result<Diagnosis>) -> Check {
    let name = "ports in use";
    match diagnosis {
        Ok(Diagnosis { severity, finding, remedies }) => {
            let advice = match remedies.first() {
                None => "`listenbench ports` shows them by destination".to_owned(),
                Some(first) => format!("{first}; `listenbench ports` shows more"),
            };
            check(name, severity == Severity::Ok, finding, advice)
        }
        Err(error) => check(name, false, "unknown", format::causes(&error)),
    }
}

fn time_wait(now: u64, most: u64, counters: &Counters) -> Check {
    let overflows = of(counters, "TCPTimeWaitOverflow");
    let found = format!(
        "{} of at most {} sockets; {} destroyed early since this network began",
        thousands(now as f64),
        thousands(most as f64),
        thousands(overflows as f64)
    );
    let is_well = overflows == 0 && (now as f64) < NEARLY * most as f64;
    let advice = if is_well {
        "each lasts 60 s on the side that closes first"
    } else {
        "beyond tcp_max_tw_buckets the kernel destroys them, and late segments can meet a new connection: keep connections open, or raise it"
    };
    check("TIME_WAIT", is_well, found, advice)
}

fn tracked(table: Option<ConntrackTable>) -> Check {
    let name = "connection tracking";
    let Some(table) = table else {
        return check(name, true, "not loaded", "no connection is lost to a full table");
    };
    let counts = table.counts.map_or_else(
        || "what was dropped is unknown".to_owned(),
        |counts| {
            format!(
                "{} dropped, {} evicted and {} since this network began",
                counted(counts.drop, "packet", "packets"),
                counted(counts.early_drop, "entry", "entries"),
                counted(counts.insert_failed, "clash", "clashes")
            )
        },
    );
    let lost = table.counts.is_some_and(|counts| counts.drop + counts.early_drop > 0);
    let is_well = !lost && table.fill(table.entries).is_none_or(|fill| fill < NEARLY);
    let advice = if !is_well {
        "a full table drops SYNs without any error: raise net.netfilter.nf_conntrack_max in the initial network namespace, shorten \
         net.netfilter.nf_conntrack_tcp_timeout_time_wait, or exempt this traffic (notrack)"
            .to_owned()
    } else if table.entries == 0 {
        "nothing is tracked now: only a rule that tracks connections adds entries".to_owned()
    } else {
        let sustained = table.sustainable_per_s().zip(table.time_wait_s).map(|(per_s, seconds)| {
            format!(
                "; closed connections stay in it for {seconds} s, so that it takes {} new ones per second for any length of time",
                thousands(per_s.floor())
            )
        });
        format!("a full table drops SYNs without any error{}", sustained.unwrap_or_default())
    };
    check(name, is_well, format!("{table}; {counts}"), advice)
}

/// The rules that packets of this host's servers and clients meet.
fn filtered(facts: &NetfilterFacts) -> Check {
    let name = "packet filter";
    match &facts.rules {
        None => check(name, true, "unknown", facts.rules_missing.clone().unwrap_or_default()),
        Some(rules) => match rules.words(None) {
            None => check(name, true, "no rules", "packets are not filtered in this network"),
            Some(words) => check(
                name,
                true,
                words,
                "trials with `network = \"host\"`, and servers already running here, are measured through these rules; firewall.toml and \
                 conntrack.toml show what such rules can cost",
            ),
        },
    }
}

fn backlogs(softnet: &Softnet) -> Check {
    let dropped = softnet.dropped;
    let advice = if dropped == 0 {
        "processors kept up with what arrived"
    } else {
        "a processor's queue of received packets was full: raise net.core.netdev_max_backlog, or spread receiving (RSS, RPS)"
    };
    check("received packets", dropped == 0, format!("{} dropped since boot", thousands(dropped as f64)), advice)
}

fn files(files: MachineFiles) -> Check {
    let found =
        format!("{} of at most {} on the whole machine", thousands(files.open as f64), thousands(files.limit as f64));
    let is_well = (files.open as f64) < NEARLY * files.limit as f64;
    check(
        "open files of all",
        is_well,
        found,
        "beyond fs.file-max, accept() and socket() fail with ENFILE for everybody but root",
    )
}

fn control_group(limits: &Limits, allowed: usize, memory: u64) -> Check {
    let mut found = Vec::new();
    let mut advice = Vec::new();
    if let Some(quota) = limits.processors {
        found.push(format!("{quota:.2} processors"));
        if quota < allowed as f64 {
            advice.push("a quota stops all threads at once when it is used up, and tails grow by the rest of its period: raise it (cpu.max, Kubernetes limits.cpu)");
        }
    }
    if limits.throttled > 0 {
        found.push(format!("throttled in {}", counted(limits.throttled, "period", "periods")));
    }
    if let Some(bytes) = limits.memory_bytes {
        found.push(format!("{} of memory", format::gibibytes(bytes as f64)));
        if bytes < memory {
            advice.push("memory of sockets counts towards the limit (memory.max, Kubernetes limits.memory)");
        }
    }
    if let Some(processes) = limits.processes {
        found.push(counted(processes, "process or thread", "processes and threads"));
    }
    let found = if found.is_empty() { "no limits".to_owned() } else { found.join(", ") };
    let is_well = advice.is_empty() && limits.throttled == 0;
    let advice = match (advice.is_empty(), is_well) {
        (false, _) => advice.join("; "),
        (true, false) => "threads were stopped for the rest of a period: raise the quota (cpu.max)".to_owned(),
        (true, true) => "no control group restricts this process below what the machine has".to_owned(),
    };
    check("control group", is_well, found, advice)
}

fn governors(governors: &BTreeSet<String>) -> Check {
    let names: Vec<&str> = governors.iter().map(String::as_str).collect();
    let is_well = names.iter().all(|name| *name == "performance");
    let found = if names.is_empty() { "not controlled here".to_owned() } else { names.join(", ") };
    let advice = if names.is_empty() {
        "the hypervisor or the firmware sets the processors' frequency"
    } else if is_well {
        "the processors' frequency stays high"
    } else {
        "frequencies follow the load, and idle cores answer late: `cpupower frequency-set -g performance` while measuring"
    };
    check("frequency governor", is_well, found, advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BaseChain, ConntrackCounts, Rules};

    fn counters(values: &[(&str, u64)]) -> Counters {
        values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn queues_are_judged_by_what_they_dropped() {
        assert_eq!(accept_queues(&counters(&[])).status, Status::Ok);
        let full = accept_queues(&counters(&[("ListenOverflows", 1), ("ListenDrops", 1)]));
        assert!(full.status == Status::Limited && full.advice.contains("queues were full"), "{full:?}");
        let other = accept_queues(&counters(&[("ListenDrops", 1)]));
        assert!(other.status == Status::Limited && other.advice.contains("no accept queue was full"), "{other:?}");
    }

    #[test]
    fn lengths_of_queues_have_their_borders() {
        let queues = |longest, half_open, cookies| Queues { longest, half_open, cookies };
        assert_eq!(queues(1_023, 0, Some(1)).longest().status, Status::Limited);
        assert_eq!(queues(1_024, 0, Some(1)).longest().status, Status::Ok);
        let status = |queues: Queues, values: &[(&str, u64)]| queues.handshakes(&counters(values)).status;
        // With cookies, the length of the other queue does not matter.
        assert_eq!(status(queues(4_096, 16, Some(1)), &[]), Status::Ok);
        assert_eq!(status(queues(4_096, 4_095, Some(0)), &[]), Status::Limited);
        assert_eq!(status(queues(4_096, 4_096, Some(0)), &[]), Status::Ok);
        assert_eq!(status(queues(4_096, 4_096, None), &[]), Status::Ok);
        assert_eq!(status(queues(4_096, 4_096, Some(2)), &[]), Status::Limited);
        assert_eq!(status(queues(4_096, 4_096, Some(1)), &[("SyncookiesSent", 1)]), Status::Limited);
        assert_eq!(status(queues(4_096, 4_096, Some(1)), &[("TCPReqQFullDrop", 1)]), Status::Limited);
        assert!(queues(128, 64, Some(0)).handshakes(&counters(&[])).advice.contains("about 48 handshakes"));
    }

    #[test]
    fn tables_are_nearly_full_from_four_fifths() {
        assert_eq!(time_wait(799, 1_000, &counters(&[])).status, Status::Ok);
        assert_eq!(time_wait(800, 1_000, &counters(&[])).status, Status::Limited);
        assert_eq!(time_wait(0, 1_000, &counters(&[("TCPTimeWaitOverflow", 1)])).status, Status::Limited);
        let table = |entries, drop, early_drop| {
            let counts = Some(ConntrackCounts { insert_failed: 0, drop, early_drop });
            Some(ConntrackTable { entries, limit: Some(1_000), counts, time_wait_s: Some(120) })
        };
        assert_eq!(tracked(None).status, Status::Ok);
        assert_eq!(tracked(table(799, 0, 0)).status, Status::Ok);
        assert_eq!(tracked(table(800, 0, 0)).status, Status::Limited);
        assert_eq!(tracked(table(0, 1, 0)).status, Status::Limited);
        assert_eq!(tracked(table(0, 0, 1)).status, Status::Limited);
        let busy = tracked(table(7, 0, 0));
        assert!(busy.found.starts_with("7 of at most 1,000 entries (0.7 %); 0 packets dropped, "), "{busy:?}");
        assert!(busy.advice.contains("it takes 8 new ones per second"), "{busy:?}");
        let unlimited = ConntrackTable { limit: None, counts: None, ..table(800, 0, 0).unwrap() };
        assert_eq!(tracked(Some(unlimited)).status, Status::Ok);
        assert_eq!(files(MachineFiles { open: 799, limit: 1_000 }).status, Status::Ok);
        assert_eq!(files(MachineFiles { open: 800, limit: 1_000 }).status, Status::Limited);
    }

    #[test]
    fn rules_are_counted_or_said_to_be_unknown() {
        let missing = Some("only root may read the rules of this network".to_owned());
        let unknown = filtered(&NetfilterFacts { rules_missing: missing, ..NetfilterFacts::default() });
        assert_eq!(
            (&unknown.found[..], &unknown.advice[..]),
            ("unknown", "only root may read the rules of this network")
        );
        let with = |chains| {
            filtered(&NetfilterFacts { rules: Some(Rules { chains, ..Rules::default() }), ..NetfilterFacts::default() })
        };
        assert_eq!(with(Vec::new()).found, "no rules");
        let [family, table, chain, hook] = ["inet", "filter", "INPUT", "input"].map(str::to_owned);
        let found = with(vec![BaseChain { family, table, chain, hook, rules: 3, drops: false }]).found;
        assert!(found.starts_with("3 rules of nftables in base chains at input; "), "{found}");
    }

    #[test]
    fn control_groups_limit_only_below_the_machine() {
        let limits =
            |processors, throttled, memory_bytes| Limits { processors, throttled, memory_bytes, processes: None };
        let status = |limits: Limits| control_group(&limits, 2, 1_000).status;
        assert_eq!(status(limits(None, 0, None)), Status::Ok);
        assert_eq!(status(limits(Some(2.0), 0, Some(1_000))), Status::Ok);
        assert_eq!(status(limits(Some(1.99), 0, None)), Status::Limited);
        assert_eq!(status(limits(Some(2.0), 1, None)), Status::Limited);
        assert_eq!(status(limits(None, 0, Some(999))), Status::Limited);
    }

    #[test]
    fn any_governor_but_performance_is_named() {
        let of = |names: &[&str]| governors(&names.iter().map(|name| (*name).to_owned()).collect()).status;
        assert_eq!(of(&[]), Status::Ok);
        assert_eq!(of(&["performance"]), Status::Ok);
        assert_eq!(of(&["performance", "schedutil"]), Status::Limited);
    }
}
