//! Counters of a network namespace and of the machine's processors, taken as differences.

use std::{collections::BTreeMap, io};

use procfs::{CurrentSI, KernelStats};

use super::file::{self, KeptFile};
use crate::record::{CpuShares, Sockets, Softnet};

/// The counters kept in records, named as in /proc/net/netstat (TcpExt, MPTcpExt) and /proc/net/snmp (Tcp).
const KEPT: [&str; 41] = [
    "ListenOverflows",
    "ListenDrops",
    "TCPTimeWaitOverflow",
    "TCPSynRetrans",
    "TCPReqQFullDrop",
    "TCPReqQFullDoCookies",
    "SyncookiesSent",
    "SyncookiesRecv",
    "SyncookiesFailed",
    "TCPAbortOnData",
    "TCPAbortOnClose",
    "TCPAbortOnMemory",
    "TCPAbortOnTimeout",
    "TCPAbortOnLinger",
    "TCPAbortFailed",
    "TCPMigrateReqSuccess",
    "TCPMigrateReqFailure",
    "TW",
    "TWRecycled",
    "TCPBacklogDrop",
    "OutSegs",
    "OutRsts",
    "TCPDeferAcceptDrop",
    "TCPFastOpenActive",
    "TCPFastOpenPassive",
    "TCPFastOpenListenOverflow",
    "RetransSegs",
    "TCPLossProbes",
    "TCPTimeouts",
    "TCPDSACKRecv",
    "ActiveOpens",
    "PassiveOpens",
    "AttemptFails",
    "EstabResets",
    "MPCapableSYNTX",
    "MPCapableSYNRX",
    "MPCapableSYNACKRX",
    "MPCapableFallbackACK",
    "MPCapableFallbackSYNACK",
    "MPCapableSYNTXDrop",
    "MPCapableSYNTXDisabled",
];

/// Kernel counters by name.
pub type Counters = BTreeMap<String, u64>;

/// Opens a file of the process's current network namespace.
fn net_file(name: &str) -> io::Result<KeptFile> {
    KeptFile::open(format!("/proc/self/net/{name}"))
}

/// Reads the kept counters of one or more network namespaces, and adds them up.
#[derive(Debug, Default)]
pub struct CounterReader {
    files: Vec<KeptFile>,
}

impl CounterReader {
    /// Adds the process's current network namespace. Fails if /proc is not mounted.
    pub fn add_namespace(&mut self) -> io::Result<()> {
        for name in ["netstat", "snmp"] {
            self.files.push(net_file(name)?);
        }
        // Missing on a kernel without IPv6.
        self.files.extend(net_file("snmp6"));
        Ok(())
    }

    pub fn read(&mut self) -> io::Result<Counters> {
        let mut counters = Counters::new();
        for file in &mut self.files {
            collect(file.read()?, &mut counters);
        }
        Ok(counters)
    }
}

/// Datagrams to a port without a socket, over IPv4 and IPv6: `NoPorts` of `Udp:`, and `Udp6NoPorts`.
pub const UDP_NO_PORTS: &str = "UdpNoPorts";

/// ICMP's messages received that a destination is unreachable, over IPv4 and IPv6: `InDestUnreachs` of `Icmp:`, and
/// `Icmp6InDestUnreachs`.
pub const UNREACHABLE: &str = "IcmpDestUnreachs";

/// Two of the files consist of pairs of lines, names above values: `TcpExt: A B C` over `TcpExt: 1 2 3`. The third has
/// one name and value per line.
pub fn collect(text: &str, into: &mut Counters) {
    let mut add = |name: &str, value: &str| {
        if let Ok(value) = value.parse::<u64>() {
            increase(into.entry(name.to_owned()).or_default(), value);
        }
    };
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.chunks_exact(2).filter(|pair| pair[0].contains(": ")) {
        let udp = pair[0].starts_with("Udp: ");
        for (name, value) in pair[0].split_whitespace().zip(pair[1].split_ascii_whitespace()) {
            if udp && name == "NoPorts" {
                add(UDP_NO_PORTS, value);
            } else if pair[0].starts_with("Icmp: ") && name == "InDestUnreachs" {
                add(UNREACHABLE, value);
            } else if KEPT.contains(&name) {
                add(name, value);
            }
        }
    }
    for (name, sum) in [("Udp6NoPorts", UDP_NO_PORTS), ("Icmp6InDestUnreachs", UNREACHABLE)] {
        if let Some(value) = lines.iter().find_map(|line| line.strip_prefix(name)) {
            add(sum, value.trim());
        }
    }
}

/// What the counters gained between two readings.
pub fn difference(before: &Counters, after: &Counters) -> Counters {
    after
        .iter()
        .map(|(name, after)| (name.clone(), after.saturating_sub(before.get(name).copied().unwrap_or(0))))
        .collect()
}

/// Segments retransmitted because they were given up for lost, and tail loss probes. A probe comes a few round trips after the last segment,
/// which may only be acknowledged late, and RetransSegs includes those that repeat it. It does not include those that send new data, so that
/// the difference may be too small; but whatever followed a time-out, as a SYN does, was no probe.
pub fn retransmitted(counters: &Counters) -> (u64, u64) {
    let count = |name: &str| counters.get(name).copied().unwrap_or(0);
    let (all, probes) = (count("RetransSegs"), count("TCPLossProbes"));
    let timed_out = count("TCPSynRetrans").max(count("TCPTimeouts")).min(all);
    (all.saturating_sub(probes).max(timed_out), probes)
}

/// Reads the socket counts of one network namespace.
#[derive(Debug)]
pub struct SocketReader {
    v4: KeptFile,
    /// `None` without IPv6.
    v6: Option<KeptFile>,
}

impl SocketReader {
    /// Opens the process's current network namespace. Fails if /proc is not mounted.
    pub fn open() -> io::Result<Self> {
        Ok(Self { v4: net_file("sockstat")?, v6: net_file("sockstat6").ok() })
    }

    pub fn read(&mut self) -> io::Result<Sockets> {
        let mut sockets = Sockets::default();
        add(&mut sockets, self.v4.read()?);
        if let Some(v6) = &mut self.v6 {
            add(&mut sockets, v6.read()?);
        }
        Ok(sockets)
    }
}

/// Adds the counts of a sockstat file.
pub fn add(sockets: &mut Sockets, sockstat: &str) {
    for line in sockstat.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let field = |name: &str| -> u64 {
            let value = words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1));
            value.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        match words.first() {
            Some(&("TCP:" | "TCP6:")) => {
                increase(&mut sockets.in_use, field("inuse"));
                increase(&mut sockets.time_wait, field("tw"));
                increase(&mut sockets.orphans, field("orphan"));
                increase(&mut sockets.memory_pages, field("mem"));
            }
            Some(&("UDP:" | "UDP6:")) => increase(&mut sockets.udp, field("inuse")),
            _ => {}
        }
    }
}

/// The kernel counts what it knows of; nothing keeps a sandbox's /proc from saying more than fits.
fn increase(sum: &mut u64, by: u64) {
    *sum = sum.saturating_add(by);
}

/// Processor time of the whole machine, in clock ticks.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuTicks {
    /// Everything, including idle.
    pub total: u64,
    pub idle: u64,
    /// Withheld from this virtual machine by its host.
    pub steal: u64,
    /// In user mode, including niced processes.
    pub user: u64,
    /// In the kernel on behalf of processes.
    pub system: u64,
    /// In softirqs, where packets are received.
    pub softirq: u64,
    /// Context switches (a count, not a time).
    pub context_switches: u64,
}

impl CpuTicks {
    /// Reads /proc/stat. User time includes guest time.
    pub fn read() -> io::Result<Self> {
        let stats = KernelStats::current().map_err(io::Error::other)?;
        let cpu = stats.total;
        let (iowait, irq) = (cpu.iowait.unwrap_or(0), cpu.irq.unwrap_or(0));
        let (softirq, steal) = (cpu.softirq.unwrap_or(0), cpu.steal.unwrap_or(0));
        Ok(Self {
            total: cpu.user + cpu.nice + cpu.system + cpu.idle + iowait + irq + softirq + steal,
            idle: cpu.idle + iowait,
            steal,
            user: cpu.user + cpu.nice,
            system: cpu.system,
            softirq,
            context_switches: stats.ctxt,
        })
    }

    /// The shares since an earlier reading.
    pub fn since(&self, before: &Self) -> CpuShares {
        let total = self.total.saturating_sub(before.total);
        let share = |now: u64, then: u64| if total == 0 { 0.0 } else { now.saturating_sub(then) as f64 / total as f64 };
        let steal = share(self.steal, before.steal);
        CpuShares {
            user: share(self.user, before.user),
            system: share(self.system, before.system),
            softirq: share(self.softirq, before.softirq),
            steal,
            busy: if total == 0 { 0.0 } else { (1.0 - share(self.idle, before.idle) - steal).max(0.0) },
            context_switches: self.context_switches.saturating_sub(before.context_switches),
        }
    }
}

/// Reads /proc/net/softnet_stat: one row per processor, in hexadecimal, with dropped in the second and squeezed in the
/// third column.
pub fn softnet() -> io::Result<Softnet> {
    Ok(softnet_of(&file::read("/proc/net/softnet_stat")?))
}

/// The sums over the rows of that file.
pub fn softnet_of(text: &str) -> Softnet {
    let column = |line: &str, at: usize| line.split(' ').nth(at).and_then(|field| u64::from_str_radix(field, 16).ok());
    text.lines().fold(Softnet::default(), |sum, line| Softnet {
        dropped: sum.dropped.saturating_add(column(line, 1).unwrap_or(0)),
        squeezed: sum.squeezed.saturating_add(column(line, 2).unwrap_or(0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_both_protocols_are_added() {
        let mut sockets = Sockets::default();
        add(&mut sockets, "sockets: used 300\nTCP: inuse 101 orphan 2 tw 40 alloc 120 mem 3\nUDP: inuse 7\n");
        add(&mut sockets, "TCP6: inuse 4\nUDP6: inuse 9\n");
        assert_eq!(sockets, Sockets { in_use: 105, time_wait: 40, orphans: 2, memory_pages: 3, udp: 16 });
    }

    #[test]
    fn pairs_of_lines_become_names_and_values() {
        let mut counters = Counters::new();
        collect("TcpExt: A ListenDrops ListenOverflows\nTcpExt: 9 3 2\nIpExt: B\nIpExt: 1\n", &mut counters);
        assert_eq!(
            counters.into_iter().collect::<Vec<_>>(),
            [("ListenDrops".into(), 3), ("ListenOverflows".into(), 2)]
        );
    }

    #[test]
    fn namespaces_are_added_up_at_each_reading() {
        let mut reader = CounterReader::default();
        reader.add_namespace().unwrap();
        let passive = reader.read().unwrap()["PassiveOpens"];
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(reader.read().unwrap()["PassiveOpens"] > passive);
        // The same namespace twice stands for two.
        reader.add_namespace().unwrap();
        assert!(reader.read().unwrap()["PassiveOpens"] >= 2 * (passive + 1));
    }
}
