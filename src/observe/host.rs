//! The machine a run happened on.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    io,
    net::IpAddr,
};

use nix::sys::utsname::{UtsName, uname};
use procfs::{CpuInfo, Current};
use serde::{Deserialize, Serialize};

use super::{file, memory, rules, sysctl};
use crate::{
    record::{Host, HostFacts, HostRole, MachineFacts, NetfilterFacts, SCHEMA, Virtualization},
    sys::{affinity, limits},
};

/// What this machine allows and costs, measured before a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Probe {
    /// Why exact stamps are unavailable; `None` if they are available.
    pub stamps_error: Option<String>,
    /// Why the times at which rings complete accepts are unavailable; `None` if they are available.
    pub completions_error: Option<String>,
    /// Cost of sampling one listener's queue, in nanoseconds.
    pub queue_sample_ns: u64,
}

/// What belongs to the network namespace used.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NetworkFacts {
    pub sysctls: BTreeMap<String, String>,
    pub netfilter: NetfilterFacts,
}

impl NetworkFacts {
    /// Those of the calling process's network namespace.
    pub fn read() -> Self {
        Self { sysctls: sysctls(), netfilter: rules::facts() }
    }
}

/// Reads everything except what belongs to the network namespace used.
pub fn read(seed: u64, network: &str, facts: NetworkFacts, probe: &Probe) -> Host {
    Host {
        schema: SCHEMA,
        tool: concat!("listenbench ", env!("CARGO_PKG_VERSION")).to_owned(),
        command: std::env::args().collect(),
        experiment: None,
        seed,
        host: node_name(),
        machine: machine(),
        accept_stamps: probe.stamps_error.clone().unwrap_or_else(|| Host::STAMPS_ALLOWED.to_owned()),
        queue_sample_ns: probe.queue_sample_ns,
        network: network.to_owned(),
        sysctls: facts.sysctls,
        netfilter: facts.netfilter,
        calibration: None,
        launcher: None,
        hosts: Vec::new(),
    }
}

/// Reads what this host of a job is: its rank, role and addresses are given.
pub fn facts(rank: usize, role: HostRole, addresses: Vec<IpAddr>) -> HostFacts {
    HostFacts { rank, name: node_name(), role, machine: machine(), sysctls: sysctls(), addresses }
}

fn machine() -> MachineFacts {
    let mut open_files = BTreeMap::new();
    if let Ok(limit) = limits::open_files() {
        open_files.insert("soft".to_owned(), limit.soft);
        open_files.insert("hard".to_owned(), limit.hard);
    }
    for name in ["nr_open", "file-max"] {
        if let Some(number) = first_number(&format!("/proc/sys/fs/{name}")) {
            open_files.insert(name.to_owned(), number);
        }
    }
    MachineFacts {
        revision: env!("LISTENBENCH_REVISION").to_owned(),
        kernel: name(UtsName::release),
        kernel_version: name(UtsName::version),
        boot: file::read("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned()),
        virtualization: virtualization(),
        architecture: name(UtsName::machine),
        cpu: cpu_model(),
        cpus_allowed: affinity::allowed_cpus().map_or(0, |cpus| cpus.len()),
        clocksource: trimmed("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        memory_bytes: memory::total_bytes().unwrap_or(0),
        open_files,
        uid: nix::unistd::getuid().as_raw(),
    }
}

fn node_name() -> String {
    name(UtsName::nodename)
}

/// One of the names in uname(2); empty where it cannot be read.
fn name(of: fn(&UtsName) -> &OsStr) -> String {
    uname().map_or_else(|_| String::new(), |names| of(&names).to_string_lossy().into_owned())
}

#[cfg(target_arch = "x86_64")]
fn virtualization() -> Virtualization {
    Virtualization::of_signature(crate::sys::hypervisor::signature().as_deref())
}

#[cfg(not(target_arch = "x86_64"))]
fn virtualization() -> Virtualization {
    Virtualization::Unknown
}

/// An identifier that no other run has: the kernel makes one for each reader.
pub fn unique_id() -> io::Result<String> {
    Ok(file::read("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}

pub fn sysctls() -> BTreeMap<String, String> {
    sysctl::REPORTED.iter().filter_map(|name| Some(((*name).to_owned(), sysctl::read(name)?))).collect()
}

/// The number at the start of a /proc or /sys file.
pub fn first_number(path: &str) -> Option<u64> {
    file::read(path).ok()?.split_whitespace().next()?.parse().ok()
}

/// The frequency governors of all processors; empty where none is set here.
pub fn governors() -> BTreeSet<String> {
    let folder = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    folder
        .filter_map(|cpu| file::read(cpu.path().join("cpufreq/scaling_governor")).ok())
        .map(|name| name.trim().to_owned())
        .collect()
}

fn cpu_model() -> String {
    let info = CpuInfo::current().ok();
    info.and_then(|info| Some(info.model_name(0)?.to_owned())).unwrap_or_else(|| "unknown".to_owned())
}

fn trimmed(path: &str) -> String {
    file::read(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
