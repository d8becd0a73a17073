//! The machine a run happened on.

use std::{collections::BTreeMap, fs};

use nix::sys::utsname::uname;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{memory, sysctl};
use crate::{
    calibrate::Calibration,
    sys::{affinity, limits},
};

/// Said of exact stamps where they can be had.
const ALLOWED: &str = "allowed";

/// What this machine allows and costs, found before a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Probe {
    /// Why exact stamps of connections cannot be had; `None` where they can.
    pub stamps_error: Option<String>,
    /// What a sample of a listener's queue costs, in nanoseconds.
    pub queue_sample_ns: u64,
}

/// `host.json`: what a reader must know of the machine to judge the figures.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Version of this schema.
    pub schema: u32,
    /// `listenbench` and its version.
    pub tool: String,
    /// Git revision it was built from; `unknown` outside a checkout.
    pub revision: String,
    /// The command line.
    pub command: Vec<String>,
    /// The seed.
    pub seed: u64,
    /// Kernel release.
    pub kernel: String,
    /// Kernel build.
    pub kernel_version: String,
    /// Machine architecture.
    pub architecture: String,
    /// Host name.
    pub host: String,
    /// Processor model.
    pub cpu: String,
    /// Processors this process may use.
    pub cpus_allowed: usize,
    /// The clock behind CLOCK_MONOTONIC.
    pub clocksource: String,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Limits on open files: soft, hard, and the system's.
    pub open_files: BTreeMap<String, u64>,
    /// User id of the run.
    pub uid: u32,
    /// `allowed`, or why accept waits cannot be exact here.
    pub accept_stamps: String,
    /// What a sample of a listener's queue costs, in nanoseconds: the median of a hundred.
    pub queue_sample_ns: u64,
    /// Values of the key `network`, joined by `and`; the sysctls were read in the first cell's.
    pub network: String,
    /// Sysctls of the network used, before a scenario's own are written.
    pub sysctls: BTreeMap<String, String>,
    /// What the harness itself costs here, as `listenbench calibrate` found before the run; `null` where nobody asked.
    pub calibration: Option<Calibration>,
}

impl Host {
    /// Reads all but the sysctls, which are the used network namespace's.
    pub fn read(seed: u64, network: &str, sysctls: BTreeMap<String, String>, probe: &Probe) -> Self {
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
        Self {
            schema: 1,
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
            accept_stamps: probe.stamps_error.clone().unwrap_or_else(|| ALLOWED.to_owned()),
            queue_sample_ns: probe.queue_sample_ns,
            network: network.to_owned(),
            sysctls,
            calibration: None,
        }
    }

    /// Whether accept waits can be exact here.
    pub fn stamps_allowed(&self) -> bool {
        self.accept_stamps == ALLOWED
    }
}

/// The reported sysctls of the caller's network namespace.
pub fn sysctls() -> BTreeMap<String, String> {
    sysctl::REPORTED.iter().filter_map(|name| Some(((*name).to_owned(), sysctl::read(name)?))).collect()
}

/// The number at the head of a /proc or /sys file.
pub fn first_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

fn trimmed(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
