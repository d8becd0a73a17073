//! What trials need of this machine, tried out where possible.

use std::{collections::BTreeMap, fs};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{About, Check, STRATEGY, Status};
use crate::{
    calibrate,
    commands::{
        capacity::{self, CONNECTION_BYTES, Need},
        sources,
    },
    context::{Role, Side},
    format::{self, thousands},
    ipc::family::{self, Patience},
    load::{self, Sizing},
    observe::{
        accepts,
        counters::CpuTicks,
        host::{self, first_number},
        memory, mptcp,
        ports::Range,
        queues::QueueReader,
        sockets, sysctl,
    },
    scenario::{Network, PRESETS, Plan, Source, Transport},
    server::{self, Site, accept},
    sys::{affinity, limits, namespace, nft},
    trial::{self, Rehearsal},
};

/// With fewer open files per process, ordinary scenarios need extra loaders.
const FILES_ENOUGH: u64 = 4_096;
/// The kernel's default range, 32768–60999.
const DEFAULT_PORTS: u64 = 28_232;

/// All checks of what trials need, in display order.
pub fn checks() -> Vec<Check> {
    let probe = Probe::take();
    let mut checks = vec![
        kernel(),
        network_namespace(&probe),
        veth(),
        packet_filter(),
        cores(),
        open_files(),
        port_range(&probe),
        time_wait(&probe),
        backlog(&probe),
        queue_lengths(),
        multipath(&probe),
        clock_source(),
        memory(),
        million(&probe),
        steal(),
        stamps(&probe),
        accepts(),
        load_engine(),
        server_engine(),
        leftovers(),
    ];
    checks.extend(strategies(&probe));
    checks
}

/// The network namespace a trial would get, tried out in a child process.
struct Probe {
    /// What was found in the namespace, or why it could not be created.
    namespace: Result<Found>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Found {
    /// How it was created.
    how: String,
    sysctls: BTreeMap<String, String>,
    /// Each strategy, with the reason if it cannot run.
    strategies: Vec<(String, Option<String>)>,
    /// Why there is no MPTCP; `None` if there is.
    mptcp_lack: Option<String>,
}

impl Probe {
    fn take() -> Self {
        let namespace = family::ask("lb:doctor", Patience::of(trial::SETUP_PATIENCE), || {
            let how = match namespace::enter_network()? {
                namespace::Privilege::Direct => "directly",
                namespace::Privilege::UserNamespace => "through a user namespace",
            };
            let strategies = PRESETS.iter().map(|preset| {
                let strategy = preset.with_defaults();
                let transport = if strategy.takes_connections() { Transport::Tcp } else { Transport::Udp };
                let tried = accept::try_out(&strategy, Site::at(([127, 0, 0, 1], 7_000).into(), transport, 2));
                (preset.name.to_owned(), tried.err().map(|error| format::causes(&error)))
            });
            let strategies = strategies.collect();
            Ok(Found { how: how.to_owned(), sysctls: host::sysctls(), strategies, mptcp_lack: mptcp::lack() })
        });
        Self { namespace }
    }

    /// A sysctl as trials would see it, and where it was read: in a trial's namespace, or else on this machine.
    fn sysctl(&self, name: &str) -> (String, &'static str) {
        let (value, place) = match &self.namespace {
            Ok(found) => (found.sysctls.get(name).cloned(), "in a trial's namespace"),
            Err(_) => (sysctl::read(name), "on this machine"),
        };
        (value.unwrap_or_else(|| "unreadable".to_owned()), place)
    }
}

fn check(name: &'static str, status: Status, found: impl Into<String>, advice: impl Into<String>) -> Check {
    Check { about: About::Trials, name, status, found: found.into(), advice: advice.into() }
}

fn kernel() -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    check("kernel", Status::Ok, release, "results hold for this kernel only: measure again after an update")
}

/// Tries exact accept waits.
fn stamps(found: &Probe) -> Check {
    let name = "accept waits";
    // As a scenario has it by default, where that works.
    let network = if found.namespace.is_ok() { Network::Namespace } else { Network::Host };
    match trial::probe(&[network], Patience::of(trial::SETUP_PATIENCE)) {
        Ok(found) => match found.stamps_error {
            None => check(
                name,
                Status::Ok,
                "exact: sock_ops can stamp each connection when it is established",
                "stamps = \"auto\" uses them",
            ),
            Some(error) => check(
                name,
                Status::Limited,
                "upper bounds only, measured from the client's connect() call",
                format!("exact stamps are not available: {error}"),
            ),
        },
        Err(error) => check(name, Status::Limited, "could not be tested", format::causes(&error)),
    }
}

/// Tries to count the accepts of any server.
fn accepts() -> Check {
    let name = "accepts of any server";
    let tried = family::ask("lb:doctor", Patience::of(trial::SETUP_PATIENCE), || {
        accepts::try_out(None).map(|(level, missing)| (level.to_string(), missing))
    });
    match tried {
        Ok((level, None)) => check(
            name,
            Status::Ok,
            format!("counted by thread, with their exact waits (probe = \"{level}\")"),
            "the server needs no change for it",
        ),
        Ok((level, Some(missing))) => check(
            name,
            Status::Limited,
            format!("counted by thread (probe = \"{level}\")"),
            format!("missing: {missing}"),
        ),
        Err(error) => {
            let missing = format!("missing: who accepted what, and accept waits: {}", format::causes(&error));
            check(name, Status::Limited, "not counted", missing)
        }
    }
}

/// Tries io_uring as the loaders use it.
fn load_engine() -> Check {
    let name = "load engine";
    match load::try_rings(1) {
        Ok(()) => check(name, Status::Ok, "io_uring is available", "load.engine = \"auto\" and \"uring\" use it"),
        Err(error) => check(name, Status::Limited, "epoll only: load.engine = \"mio\"", format::causes(&error)),
    }
}

/// The same as workers use it.
fn server_engine() -> Check {
    let name = "server engine";
    match server::try_rings(1) {
        Ok(()) => check(name, Status::Ok, "io_uring is available", "server.engine = \"auto\" and \"uring\" use it"),
        Err(error) => check(name, Status::Limited, "epoll only: server.engine = \"mio\"", format::causes(&error)),
    }
}

/// Removes what dead trials left.
fn leftovers() -> Check {
    let (name, left) = ("leftovers", trial::sweep());
    let advice = "a trial leaves nothing behind, unless all of its processes are killed at once; `run`, `load` and `doctor` look for that in \
                  TMPDIR, /tmp, /var/tmp and /dev/shm";
    let status = if left.kept.is_empty() { Status::Ok } else { Status::Limited };
    check(name, status, left.words().unwrap_or_else(|| "none".to_owned()), advice)
}

/// One check per strategy, tried in the namespace.
fn strategies(probe: &Probe) -> Vec<Check> {
    let Ok(found) = &probe.namespace else { return Vec::new() };
    let tried = found.strategies.iter().map(|(name, error)| match error {
        None => (Status::Ok, name, "can run on this kernel as this user".to_owned()),
        Some(error) => (Status::Missing, name, error.clone()),
    });
    tried.map(|(status, name, advice)| check(STRATEGY, status, name.clone(), advice)).collect()
}

fn network_namespace(probe: &Probe) -> Check {
    match &probe.namespace {
        Ok(found) => check(
            "namespaces",
            Status::Ok,
            format!("network namespaces can be created {}", found.how),
            "network = \"netns\" works: trials leave nothing behind on this machine",
        ),
        Err(error) => {
            check("namespaces", Status::Missing, "network namespaces cannot be created", format::causes(error))
        }
    }
}

/// Rehearses a trial over a veth pair, for both protocols.
fn veth() -> Check {
    let rehearse = |address: &str| {
        let text = format!("network = \"veth\"\naddress = \"{address}\"");
        let plan = Plan::read(&Source { name: "doctor", text: &text }, &[]).expect("a valid scenario");
        trial::rehearse(&plan.cells[0], Role::default(), Patience::of(trial::SETUP_PATIENCE))
    };
    match (rehearse("198.18.0.1"), rehearse("2001:2::1")) {
        (Ok(_), Ok(_)) => check(
            "veth",
            Status::Ok,
            "IPv4 and IPv6 cross a pair of virtual Ethernet devices",
            "network = \"veth\" works: server and loaders can each have their own network namespace",
        ),
        (Ok(_), Err(error)) => {
            check("veth", Status::Limited, "network = \"veth\" works, but not over IPv6", format::causes(&error))
        }
        (Err(error), _) => check("veth", Status::Missing, "network = \"veth\" does not work", format::causes(&error)),
    }
}

/// Rehearses a trial with rules.
fn packet_filter() -> Check {
    let name = "nft";
    let version = match nft::version() {
        Ok(version) => version,
        Err(error) => {
            return check(
                name,
                Status::Limited,
                "not found",
                format!("scenarios with [firewall] or [nat] cannot run: {error}"),
            );
        }
    };
    let text = "[firewall]\ncount = 1\nconntrack = true";
    let plan = Plan::read(&Source { name: "doctor", text }, &[]).expect("a valid scenario");
    let why = match trial::rehearse(&plan.cells[0], Role::default(), Patience::of(trial::SETUP_PATIENCE)) {
        Ok(Rehearsal::Ready { .. }) => {
            return check(name, Status::Ok, version, "scenarios with [firewall] and [nat] can run");
        }
        Ok(Rehearsal::Refused { why, .. }) => why,
        Err(error) => format::causes(&error),
    };
    check(name, Status::Limited, version, format!("scenarios with [firewall] or [nat] cannot run: {why}"))
}

fn cores() -> Check {
    let cpus = affinity::allowed_cpus().map_or(0, |cpus| cpus.len());
    let found = format!("{cpus} processors allowed");
    if cpus >= 4 {
        check("cores", Status::Ok, found, "enough that load and server need not compete for each one")
    } else {
        check(
            "cores",
            Status::Limited,
            found,
            "load, server and kernel compete for them: compare strategies as ratios within one run, and do not quote absolute \
             rates; use 4 or more processors, or widen the affinity mask (taskset)",
        )
    }
}

fn open_files() -> Check {
    let Ok(limit) = limits::open_files() else {
        return check("open files", Status::Missing, "getrlimit failed", "run outside the sandbox");
    };
    let nr_open = first_number("/proc/sys/fs/nr_open").unwrap_or(0);
    let [soft, hard, nr_open] = [limit.soft, limit.hard, nr_open].map(|files| thousands(files as f64));
    let found = format!("soft {soft}, hard {hard} per process (fs.nr_open {nr_open})");
    let remedy = "raise the hard limit: `ulimit -Hn`, LimitNOFILE= of the service, or /etc/security/limits.conf";
    if limit.hard >= FILES_ENOUGH {
        check(
            "open files",
            Status::Ok,
            found,
            format!(
                "listenbench raises the soft limit itself and spreads larger loads over several loaders; for more connections per process, {remedy}"
            ),
        )
    } else {
        check("open files", Status::Limited, found, format!("even small loads need many loaders: {remedy}"))
    }
}

fn port_range(probe: &Probe) -> Check {
    let (range, place) = probe.sysctl("ip_local_port_range");
    let reserved = probe.sysctl("ip_local_reserved_ports").0;
    let Ok(range) = Range::parse(&range, &reserved) else {
        return check("port range", Status::Missing, format!("{range} {place}"), "mount /proc");
    };
    let usable = range.usable();
    let all = thousands(usable as f64);
    let advice = format!(
        "from one source to one destination, connect() slows down beyond {} connections open or in TIME_WAIT and fails \
         beyond {all}; widen the range with `[sysctl] ip_local_port_range = \"1024 65535\"` in the scenario, or close by reset",
        thousands((usable / 2) as f64)
    );
    let status = if usable >= DEFAULT_PORTS { Status::Ok } else { Status::Limited };
    check("port range", status, format!("{}–{} {place}: {all} ports", range.low, range.high), advice)
}

fn time_wait(probe: &Probe) -> Check {
    let (reuse, place) = probe.sysctl("tcp_tw_reuse");
    let meaning = match reuse.as_str() {
        "2" => {
            "ports in TIME_WAIT are reused after a second, on loopback only: loopback hides the exhaustion a real network \
             would show; to see it, set `[sysctl] tcp_tw_reuse = 0` in the scenario"
        }
        "1" => {
            "ports in TIME_WAIT are reused after a second, everywhere; to see exhaustion, set `[sysctl] tcp_tw_reuse = 0` \
             in the scenario"
        }
        "0" => {
            "ports in TIME_WAIT stay blocked for 60 s, so a client can open and close only a sixtieth of the port range per \
             second; to lift that limit, set `[sysctl] tcp_tw_reuse = 1` in the scenario, or close by reset"
        }
        _ => "mount /proc",
    };
    check("tcp_tw_reuse", Status::Ok, format!("{reuse} {place}"), meaning)
}

fn backlog(probe: &Probe) -> Check {
    let (somaxconn, place) = probe.sysctl("somaxconn");
    let cap: u64 = somaxconn.parse().unwrap_or(0);
    check(
        "backlog cap",
        if cap >= 1_024 { Status::Ok } else { Status::Limited },
        format!(
            "net.core.somaxconn {somaxconn} {place}: an accept queue holds at most {} connections",
            thousands((cap + 1) as f64)
        ),
        "the kernel silently caps a larger `server.backlog` at this value: raise it with `[sysctl] somaxconn = 65535` in the scenario",
    )
}

fn queue_lengths() -> Check {
    let answer = QueueReader::new(([127, 0, 0, 1], 1).into()).and_then(|mut reader| reader.read());
    match answer {
        Ok(_) => check("sock_diag", Status::Ok, "available", "accept queues can be sampled and counted"),
        Err(error) => check(
            "sock_diag",
            Status::Missing,
            format::causes(&error),
            format!("trials cannot count the connections left in accept queues: {}", sockets::REMEDY),
        ),
    }
}

/// Tries MPTCP in a trial's namespace, or else on this machine.
fn multipath(probe: &Probe) -> Check {
    let (lack, place) = match &probe.namespace {
        Ok(found) => (found.mptcp_lack.clone(), "in a trial's namespace"),
        Err(_) => (mptcp::lack(), "on this machine"),
    };
    match lack {
        None => check(
            "MPTCP",
            Status::Ok,
            format!("available {place}"),
            "protocol = \"mptcp\" works, but not with strategies in which a program chooses the listener",
        ),
        Some(lack) => check("MPTCP", Status::Limited, format!("not available {place}"), lack),
    }
}

fn clock_source() -> Check {
    let Ok(source) = fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource") else {
        return check("clock", Status::Limited, "unknown", "mount /sys to learn what a timestamp costs");
    };
    let source = source.trim().to_owned();
    if ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"].contains(&source.as_str()) {
        check(
            "clock",
            Status::Ok,
            source,
            format!("read without a system call: a timestamp costs {:.0} ns", calibrate::clock_read_ns()),
        )
    } else {
        check(
            "clock",
            Status::Limited,
            source,
            "every timestamp is a system call: boot with clocksource=tsc if the processor's TSC is stable",
        )
    }
}

fn memory() -> Check {
    let bytes = memory::total_bytes().unwrap_or(0);
    check(
        "memory",
        if bytes >= 1 << 30 { Status::Ok } else { Status::Limited },
        format::gibibytes(bytes as f64),
        format!(
            "half of it holds about {} loopback connections at {} bytes each; for more, add memory or close connections sooner",
            thousands((bytes / 2 / CONNECTION_BYTES / 1_000 * 1_000) as f64),
            thousands(CONNECTION_BYTES as f64)
        ),
    )
}

/// Whether the scenario `million` would fit, and what is missing.
fn million(probe: &Probe) -> Check {
    let name = "a million connections";
    match million_needs(probe) {
        Err(error) => check(name, Status::Limited, "does not fit", format::causes(&error)),
        Ok((sizing, needs)) => {
            let lacks: Vec<String> =
                needs.iter().filter(|need| !need.is_met()).map(|need| format!("{need}: {}", need.remedy)).collect();
            let wanted = needs.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let found = format!("{sizing}; {wanted}");
            if lacks.is_empty() {
                check(name, Status::Ok, found, "`listenbench run million` can hold them here")
            } else {
                check(name, Status::Limited, found, format!("not enough: {}", lacks.join("; ")))
            }
        }
    }
}

fn million_needs(probe: &Probe) -> Result<(Sizing, Vec<Need>)> {
    let text = sources::text("million")?;
    let plan = sources::plan(&text, &[])?;
    let scenario = &plan.cells[0].scenario;
    let sizing = load::size(scenario, capacity::room()?)?;
    let [range, reserved] = ["ip_local_port_range", "ip_local_reserved_ports"].map(|name| probe.sysctl(name).0);
    let range = Range::parse(&range, &reserved)?;
    let needs = capacity::needs(scenario, &sizing, &range, Side::Whole)?;
    Ok((sizing, needs))
}

fn steal() -> Check {
    let ticks = CpuTicks::read().unwrap_or_default();
    let share = ticks.since(&CpuTicks::default()).steal;
    let found = format!("{:.2} % of the processors since boot", 100.0 * share);
    if share > 0.01 {
        check(
            "CPU steal",
            Status::Limited,
            found,
            "the hypervisor gives processor time to other guests: use a dedicated machine, or more repetitions",
        )
    } else {
        check(
            "CPU steal",
            Status::Ok,
            found,
            "trials with more than 5 % get a verdict: repeat those on a quieter machine",
        )
    }
}
