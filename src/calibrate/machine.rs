//! Where a calibration holds: on this machine, under this kernel, with this build of the tool.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::observe::host::Host;

/// What a calibration depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// `listenbench` and its version.
    pub tool: String,
    /// Git revision it was built from.
    pub revision: String,
    /// `optimized`, or `debug`.
    pub build: String,
    /// Host name.
    pub host: String,
    /// Kernel release.
    pub kernel: String,
    /// Kernel build.
    pub kernel_version: String,
    /// Machine architecture.
    pub architecture: String,
    /// Processor model.
    pub cpu: String,
    /// Processors that the process was allowed.
    pub cpus_allowed: usize,
    /// The clock behind CLOCK_MONOTONIC.
    pub clocksource: String,
}

impl Machine {
    /// The machine of a host, with this build.
    pub fn of(host: &Host) -> Self {
        Self {
            tool: host.tool.clone(),
            revision: host.revision.clone(),
            build: if cfg!(debug_assertions) { "debug" } else { "optimized" }.to_owned(),
            host: host.host.clone(),
            kernel: host.kernel.clone(),
            kernel_version: host.kernel_version.clone(),
            architecture: host.architecture.clone(),
            cpu: host.cpu.clone(),
            cpus_allowed: host.cpus_allowed,
            clocksource: host.clocksource.clone(),
        }
    }

    /// In what another differs from this one, in words; empty where a calibration of either holds for both.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let cpus = [self, other].map(|machine| machine.cpus_allowed.to_string());
        let pairs = [
            ("tool", &self.tool, &other.tool),
            ("revision", &self.revision, &other.revision),
            ("build", &self.build, &other.build),
            ("host", &self.host, &other.host),
            ("kernel", &self.kernel, &other.kernel),
            ("kernel version", &self.kernel_version, &other.kernel_version),
            ("architecture", &self.architecture, &other.architecture),
            ("cpu", &self.cpu, &other.cpu),
            ("processors", &cpus[0], &cpus[1]),
            ("clock source", &self.clocksource, &other.clocksource),
        ];
        let differing = pairs.into_iter().filter(|(_, here, there)| here != there);
        differing.map(|(name, here, there)| format!("{name} {there} there, {here} here")).collect()
    }

    /// Whether the revision tells which code was built: not with changes that nobody committed.
    pub fn is_exact(&self) -> bool {
        self.revision != "unknown" && !self.revision.ends_with("-dirty")
    }
}
