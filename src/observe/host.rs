//! The machine a run happened on.

use std::collections::BTreeMap;

use nix::sys::utsname::uname;
use procfs::{CpuInfo, Current};
use serde::{Deserialize, Serialize};

use super::{file, memory, sysctl};
use crate::{
    record::{Host, SCHEMA},
    sys::{affinity, limits},
};

/// What this machine allows and costs, measured before a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Probe {
    /// Why exact stamps are unavailable; `None` if they are available.
    pub stamps_error: Option<String>,
    /// Cost of sampling one listener's queue, in nanoseconds.
    pub queue_sample_ns: u64,
}

/// Reads everything except the sysctls, which belong to the network namespace used.
pub fn read(seed: u64, network: &str, sysctls: BTreeMap<String, String>, probe: &Probe) -> Host {
    let names = uname().ok();
    let field = |pick: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        names.as_ref().map_or_else(String::new, |names| pick(names).to_string_lossy().into_owned())
    };
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
    Host {
        schema: SCHEMA,
        tool: concat!("listenbench ", env!("CARGO_PKG_VERSION")).to_owned(),
        revision: env!("LISTENBENCH_GIT_REVISION").to_owned(),
        command: std::env::args().collect(),
        seed,
        kernel: field(|names| names.release()),
        kernel_version: field(|names| names.version()),
        architecture: field(|names| names.machine()),
        host: field(|names| names.nodename()),
        cpu: cpu_model(),
        cpus_allowed: affinity::allowed_cpus().map_or(0, |cpus| cpus.len()),
        clocksource: trimmed("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        memory_bytes: memory::total_bytes().unwrap_or(0),
        open_files,
        uid: nix::unistd::getuid().as_raw(),
        accept_stamps: probe.stamps_error.clone().unwrap_or_else(|| Host::STAMPS_ALLOWED.to_owned()),
        queue_sample_ns: probe.queue_sample_ns,
        network: network.to_owned(),
        sysctls,
        calibration: None,
    }
}

pub fn sysctls() -> BTreeMap<String, String> {
    sysctl::REPORTED.iter().filter_map(|name| Some(((*name).to_owned(), sysctl::read(name)?))).collect()
}

/// The number at the start of a /proc or /sys file.
pub fn first_number(path: &str) -> Option<u64> {
    file::read(path).ok()?.split_whitespace().next()?.parse().ok()
}

fn cpu_model() -> String {
    let info = CpuInfo::current().ok();
    info.and_then(|info| Some(info.model_name(0)?.to_owned())).unwrap_or_else(|| "unknown".to_owned())
}

fn trimmed(path: &str) -> String {
    file::read(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
