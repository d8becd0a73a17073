//! Counters of the network namespace and of the machine's processors, taken as differences.

use std::{collections::BTreeMap, fs, io};

use serde::{Deserialize, Serialize};

/// The counters that records keep, by the names of /proc/net/netstat (TcpExt) and /proc/net/snmp (Tcp).
const KEPT: [&str; 13] = [
    "ListenOverflows",
    "ListenDrops",
    "TCPTimeWaitOverflow",
    "TCPSynRetrans",
    "TCPReqQFullDrop",
    "TCPReqQFullDoCookies",
    "SyncookiesSent",
    "TCPAbortOnData",
    "RetransSegs",
    "ActiveOpens",
    "PassiveOpens",
    "AttemptFails",
    "EstabResets",
];

/// Kernel counters by name.
pub type Counters = BTreeMap<String, u64>;

/// Reads the kept counters of the calling process's network namespace.
pub fn read() -> io::Result<Counters> {
    let mut counters = Counters::new();
    for file in ["/proc/self/net/netstat", "/proc/self/net/snmp"] {
        collect(&fs::read_to_string(file)?, &mut counters);
    }
    Ok(counters)
}

/// Both files are pairs of lines, names above values: `TcpExt: A B C` over `TcpExt: 1 2 3`.
fn collect(text: &str, into: &mut Counters) {
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.chunks_exact(2) {
        for (name, value) in pair[0].split_ascii_whitespace().zip(pair[1].split_ascii_whitespace()) {
            if KEPT.contains(&name)
                && let Ok(value) = value.parse()
            {
                into.insert(name.to_owned(), value);
            }
        }
    }
}

/// What was counted between two readings.
pub fn difference(before: &Counters, after: &Counters) -> Counters {
    after
        .iter()
        .map(|(name, after)| (name.clone(), after.saturating_sub(before.get(name).copied().unwrap_or(0))))
        .collect()
}

/// Time of all the machine's processors together, in clock ticks.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct CpuTicks {
    /// All of it, idle included.
    pub total: u64,
    /// Not given to this virtual machine by its host.
    pub steal: u64,
}

impl CpuTicks {
    /// Reads the first line of /proc/stat: user nice system idle iowait irq softirq steal; guest time is part of user.
    pub fn read() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        let numbers: Vec<u64> = text
            .lines()
            .next()
            .into_iter()
            .flat_map(|line| line.split_ascii_whitespace().skip(1).take(8))
            .filter_map(|number| number.parse().ok())
            .collect();
        Ok(Self { total: numbers.iter().sum(), steal: numbers.get(7).copied().unwrap_or(0) })
    }

    /// Share of the time since an earlier reading that was stolen, 0 to 1.
    pub fn steal_share_since(&self, before: &Self) -> f64 {
        let total = self.total.saturating_sub(before.total);
        if total == 0 { 0.0 } else { self.steal.saturating_sub(before.steal) as f64 / total as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_lines_become_names_and_values() {
        let mut counters = Counters::new();
        collect("TcpExt: A ListenDrops ListenOverflows\nTcpExt: 9 3 2\nIpExt: B\nIpExt: 1\n", &mut counters);
        assert_eq!(
            counters.into_iter().collect::<Vec<_>>(),
            [("ListenDrops".into(), 3), ("ListenOverflows".into(), 2)]
        );
    }
}
