//! What control groups grant the calling process, of either version: its own group's limits and those of all groups above.

use std::path::{Path, PathBuf};

use procfs::process::Process;

use super::file;

/// Version 1 shows an unlimited group as this much or more.
const UNLIMITED_BYTES: u64 = 1 << 60;

/// The tightest limits; `None` where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Processor time ÷ time.
    pub processors: Option<f64>,
    /// Periods in which the own group was stopped because the quota was used up.
    pub throttled: u64,
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
}

/// Reads the limits of the calling process.
pub fn read() -> Limits {
    let chains = folders().unwrap_or_default();
    chains.iter().map(|(own, top)| tightest(own, top)).fold(Limits::default(), Limits::and)
}

/// The process's folder in each hierarchy, with that hierarchy's top.
fn folders() -> Option<Vec<(PathBuf, PathBuf)>> {
    let process = Process::myself().ok()?;
    let (groups, mounts) = (process.cgroups().ok()?.0, process.mountinfo().ok()?);
    let folder = |group: &procfs::ProcessCGroup| {
        let mount = mounts.0.iter().find(|mount| match mount.fs_type.as_str() {
            "cgroup2" => group.hierarchy == 0,
            "cgroup" => group.controllers.iter().any(|name| mount.super_options.contains_key(name)),
            _ => false,
        })?;
        // A container sees its own group as the top, or a part of the hierarchy.
        let inside = Path::new(&group.pathname)
            .strip_prefix(&mount.root)
            .ok()
            .or(Path::new(&group.pathname).strip_prefix("/").ok())?;
        Some((mount.mount_point.join(inside), mount.mount_point.clone()))
    };
    Some(groups.iter().filter_map(folder).collect())
}

/// The tightest limits from a group up to the top.
fn tightest(own: &Path, top: &Path) -> Limits {
    let above = own.ancestors().take_while(|folder| folder.starts_with(top));
    let limits = above.map(limits_of).fold(Limits::default(), Limits::and);
    Limits { throttled: throttled(own), ..limits }
}

fn limits_of(folder: &Path) -> Limits {
    let text = |name: &str| file::read(folder.join(name)).ok();
    let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
    let quota = |quota: u64, period: u64| (period > 0).then(|| quota as f64 / period as f64);
    let version_2 = || {
        let text = text("cpu.max")?;
        let (most, period) = text.trim().split_once(' ')?;
        quota(most.parse().ok()?, period.parse().ok()?)
    };
    let version_1 = || quota(number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?);
    Limits {
        processors: version_2().or_else(version_1),
        throttled: 0,
        memory_bytes: number("memory.max")
            .or_else(|| number("memory.limit_in_bytes").filter(|bytes| *bytes < UNLIMITED_BYTES)),
        processes: number("pids.max"),
    }
}

fn throttled(folder: &Path) -> u64 {
    let text = file::read(folder.join("cpu.stat")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("nr_throttled "));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

impl Limits {
    /// The tighter of each.
    fn and(self, other: Self) -> Self {
        let tighter = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        Self {
            processors: self.processors.into_iter().chain(other.processors).reduce(f64::min),
            throttled: self.throttled.saturating_add(other.throttled),
            memory_bytes: tighter(self.memory_bytes, other.memory_bytes),
            processes: tighter(self.processes, other.processes),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_tightest_limit_on_the_way_up_counts() {
        let top = tempfile::tempdir().unwrap();
        let own = top.path().join("pod/container");
        fs::create_dir_all(&own).unwrap();
        let write = |name: &str, text: &str| fs::write(top.path().join(name), text).unwrap();
        assert_eq!(tightest(&own, top.path()), Limits::default());
        write("pod/cpu.max", "150000 100000\n");
        write("pod/container/cpu.max", "max 100000\n");
        write("pod/memory.max", "max\n");
        write("pod/container/memory.max", "1048576\n");
        write("pod/container/cpu.stat", "usage_usec 7\nnr_periods 9\nnr_throttled 3\n");
        write("pod/cpu.stat", "nr_throttled 8\n");
        write("pids.max", "100\n");
        let found = Limits { processors: Some(1.5), throttled: 3, memory_bytes: Some(1 << 20), processes: Some(100) };
        assert_eq!(tightest(&own, top.path()), found);
    }

    #[test]
    fn version_1_has_other_names() {
        let top = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(top.path().join(name), text).unwrap();
        write("cpu.cfs_quota_us", "-1\n");
        write("cpu.cfs_period_us", "100000\n");
        write("memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(tightest(top.path(), top.path()), Limits::default());
        write("cpu.cfs_quota_us", "50000\n");
        write("memory.limit_in_bytes", "4096\n");
        let found = tightest(top.path(), top.path());
        assert_eq!((found.processors, found.memory_bytes), (Some(0.5), Some(4_096)));
    }
}
