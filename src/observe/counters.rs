//! Counters of the network namespace and of the machine's processors, taken as differences.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Seek},
};

use serde::{Deserialize, Serialize};

/// The counters that records keep, by the names of /proc/net/netstat (TcpExt) and /proc/net/snmp (Tcp).
const KEPT: [&str; 17] = [
    "ListenOverflows",
    "ListenDrops",
    "TCPTimeWaitOverflow",
    "TCPSynRetrans",
    "TCPReqQFullDrop",
    "TCPReqQFullDoCookies",
    "SyncookiesSent",
    "TCPAbortOnData",
    "TCPDeferAcceptDrop",
    "TCPFastOpenActive",
    "TCPFastOpenPassive",
    "TCPFastOpenListenOverflow",
    "RetransSegs",
    "ActiveOpens",
    "PassiveOpens",
    "AttemptFails",
    "EstabResets",
];

/// Kernel counters by name.
pub type Counters = BTreeMap<String, u64>;

/// A file below /proc/self/net, opened once and read often: it stays with the network namespace that the process was in
/// when it opened the file, wherever the process goes.
#[derive(Debug)]
struct NetFile {
    file: File,
    text: String,
}

impl NetFile {
    fn open(name: &str) -> io::Result<Self> {
        Ok(Self { file: File::open(format!("/proc/self/net/{name}"))?, text: String::new() })
    }

    fn read(&mut self) -> io::Result<&str> {
        self.file.rewind()?;
        self.text.clear();
        self.file.read_to_string(&mut self.text)?;
        Ok(&self.text)
    }
}

/// Reads the kept counters of one network namespace, or of several, added up.
#[derive(Debug, Default)]
pub struct CounterReader {
    files: Vec<NetFile>,
}

impl CounterReader {
    /// Adds the network namespace that the calling process is in now. Fails where /proc is not mounted.
    pub fn add_namespace(&mut self) -> io::Result<()> {
        for name in ["netstat", "snmp"] {
            self.files.push(NetFile::open(name)?);
        }
        Ok(())
    }

    /// The counters now.
    pub fn read(&mut self) -> io::Result<Counters> {
        let mut counters = Counters::new();
        for file in &mut self.files {
            collect(file.read()?, &mut counters);
        }
        Ok(counters)
    }
}

/// Both files are pairs of lines, names above values: `TcpExt: A B C` over `TcpExt: 1 2 3`.
fn collect(text: &str, into: &mut Counters) {
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.chunks_exact(2) {
        for (name, value) in pair[0].split_ascii_whitespace().zip(pair[1].split_ascii_whitespace()) {
            if KEPT.contains(&name)
                && let Ok(value) = value.parse::<u64>()
            {
                *into.entry(name.to_owned()).or_default() += value;
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

/// Sockets of TCP in a network namespace, over IPv4 and IPv6.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sockets {
    /// In use: listening, or with a connection; both ends of a loopback connection count.
    pub in_use: u64,
    /// In TIME_WAIT.
    pub time_wait: u64,
}

/// Reads the sockets of one network namespace.
#[derive(Debug)]
pub struct SocketReader {
    v4: NetFile,
    /// `None` where there is no IPv6.
    v6: Option<NetFile>,
}

impl SocketReader {
    /// A reader for the network namespace that the calling process is in now. Fails where /proc is not mounted.
    pub fn open() -> io::Result<Self> {
        Ok(Self { v4: NetFile::open("sockstat")?, v6: NetFile::open("sockstat6").ok() })
    }

    /// The sockets now.
    pub fn read(&mut self) -> io::Result<Sockets> {
        let mut sockets = Sockets::default();
        sockets.add(self.v4.read()?);
        if let Some(v6) = &mut self.v6 {
            sockets.add(v6.read()?);
        }
        Ok(sockets)
    }
}

impl Sockets {
    fn add(&mut self, sockstat: &str) {
        for line in sockstat.lines().filter(|line| line.starts_with("TCP")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let field = |name: &str| -> u64 {
                let value = words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1));
                value.and_then(|value| value.parse().ok()).unwrap_or(0)
            };
            self.in_use += field("inuse");
            self.time_wait += field("tw");
        }
    }
}

/// Time of all the machine's processors together, in clock ticks.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct CpuTicks {
    /// All of it, idle included.
    pub total: u64,
    /// Spent by nobody.
    pub idle: u64,
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
        let field = |at: usize| numbers.get(at).copied().unwrap_or(0);
        Ok(Self { total: numbers.iter().sum(), idle: field(3) + field(4), steal: field(7) })
    }

    /// Share of the time since an earlier reading that somebody on this machine used, 0 to 1.
    pub fn busy_share_since(&self, before: &Self) -> f64 {
        let total = self.total.saturating_sub(before.total);
        let idle = self.idle.saturating_sub(before.idle) + self.steal.saturating_sub(before.steal);
        if total == 0 { 0.0 } else { total.saturating_sub(idle) as f64 / total as f64 }
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
    fn sockets_of_both_protocols_are_added() {
        let mut sockets = Sockets::default();
        sockets.add("sockets: used 300\nTCP: inuse 101 orphan 2 tw 40 alloc 120 mem 3\nUDP: inuse 7\n");
        sockets.add("TCP6: inuse 4\nUDP6: inuse 9\n");
        assert_eq!(sockets, Sockets { in_use: 105, time_wait: 40 });
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
        // The same one again stands for a second.
        reader.add_namespace().unwrap();
        assert!(reader.read().unwrap()["PassiveOpens"] >= 2 * (passive + 1));
    }
}
