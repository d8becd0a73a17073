//! Network sysctls by their short names.

use std::{fs, io, path::PathBuf};

use anyhow::{Context, Result, bail};

use super::file;

/// Folders of network sysctls, in the order in which a short name is looked up.
const FOLDERS: [&str; 3] = ["/proc/sys/net/ipv4", "/proc/sys/net/core", "/proc/sys/net/ipv6"];

/// Folders of sysctls outside of all network namespaces, in which a short name is looked up after those.
const OF_THE_MACHINE: [&str; 4] = ["/proc/sys", "/proc/sys/fs", "/proc/sys/vm", "/proc/sys/kernel"];

/// The sysctls that affect a trial's figures.
pub const REPORTED: [&str; 15] = [
    "ip_local_port_range",
    "ip_local_reserved_ports",
    "somaxconn",
    "tcp_max_syn_backlog",
    "tcp_syncookies",
    "tcp_abort_on_overflow",
    "tcp_tw_reuse",
    "tcp_tw_reuse_delay",
    "tcp_max_tw_buckets",
    "tcp_fin_timeout",
    "tcp_migrate_req",
    "tcp_syn_retries",
    "tcp_syn_linear_timeouts",
    "tcp_timestamps",
    // bbr paces sending, which lengthens exchanges of many segments.
    "tcp_congestion_control",
];

/// The file of a sysctl in the current network namespace: `somaxconn`, `net.core.somaxconn` and `net/core/somaxconn`
/// are the same. `None` if the namespace has no such sysctl.
pub fn path(name: &str) -> Option<PathBuf> {
    // Interface names may contain dots, so a name with slashes is used unchanged.
    let slashed = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    if !is_plain(&slashed) {
        return None;
    }
    let candidates = if slashed.starts_with("net/") {
        vec![PathBuf::from("/proc/sys").join(&slashed)]
    } else {
        FOLDERS.iter().map(|folder| PathBuf::from(folder).join(&slashed)).collect()
    };
    candidates.into_iter().find(|path| path.is_file())
}

/// A sysctl's name in full, if the machine has it: in the current network namespace, or outside of all of them.
pub fn full_name(name: &str) -> Option<String> {
    let slashed = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    let elsewhere = || {
        let mut candidates = OF_THE_MACHINE.iter().map(|folder| PathBuf::from(folder).join(&slashed));
        candidates.find(|path| is_plain(&slashed) && path.is_file())
    };
    let path = path(name).or_else(elsewhere)?;
    Some(path.strip_prefix("/proc/sys").ok()?.to_str()?.replace('/', "."))
}

/// Why a sysctl that exists on the machine cannot be set for a trial alone.
pub fn machine_wide(full_name: &str) -> String {
    format!(
        "applies to the whole machine, not to a network namespace: set it with `sysctl -w {full_name}=…`, and remove it here"
    )
}

/// Whether a path stays below the folder it is joined to.
fn is_plain(name: &str) -> bool {
    name.split('/').all(|part| !part.is_empty() && part != ".." && part != ".")
}

/// Reads a sysctl, if the namespace has it.
pub fn read(name: &str) -> Option<String> {
    let text = file::read(path(name)?).ok()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Writes a sysctl in the current network namespace.
pub fn write(name: &str, value: &str) -> Result<()> {
    let Some(path) = path(name) else {
        bail!("unknown sysctl: a network namespace has no `{name}` below net.ipv4, net.core or net.ipv6");
    };
    fs::write(&path, value)
        .map_err(|error| explain(error, value))
        .with_context(|| format!("writing {}", path.display()))
}

fn explain(error: io::Error, value: &str) -> anyhow::Error {
    let remedy = match error.kind() {
        io::ErrorKind::InvalidInput => format!("the kernel rejects the value \"{value}\""),
        io::ErrorKind::ReadOnlyFilesystem => {
            "/proc/sys is mounted read-only here: run outside the container".to_owned()
        }
        io::ErrorKind::PermissionDenied => format!(
            "the kernel does not allow \"{value}\" in this network namespace: choose another value, or set it on the host first"
        ),
        _ => format!("cannot write the value \"{value}\""),
    };
    anyhow::Error::new(error).context(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_stand_for_sysctls_of_the_machine_too() {
        for (name, full) in [
            ("nr_open", Some("fs.nr_open")),
            ("file-max", Some("fs.file-max")),
            ("fs.file-max", Some("fs.file-max")),
            ("fs/nr_open", Some("fs.nr_open")),
            ("overcommit_memory", Some("vm.overcommit_memory")),
            ("ip_local_port_range", Some("net.ipv4.ip_local_port_range")),
            ("no_such_setting", None),
            ("../fs/nr_open", None),
            ("fs", None),
        ] {
            assert_eq!(full_name(name).as_deref(), full, "{name}");
        }
        assert!(path("nr_open").is_none(), "never written in a namespace");
    }
}
