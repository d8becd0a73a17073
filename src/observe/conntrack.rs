//! The table of tracked connections in a network namespace: how full it is, what it refused, and the states of what it holds.

use std::{collections::BTreeMap, io};

use anyhow::{Context, Result};

use super::{
    file::{self, KeptFile},
    sysctl,
};
use crate::{
    record::{ConntrackCounts, ConntrackTable},
    sys::nfnetlink::{Kind, Netfilter, Object, attribute},
};

/// IPCTNL_MSG_CT_GET of NFNL_SUBSYS_CTNETLINK (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
const ENTRIES: Kind = Kind { subsystem: 1, message: 1 };

// Attributes of an entry, each inside the one before.
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTOINFO: u16 = 4;
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;

/// The states of TCP as connection tracking numbers them: `enum tcp_conntrack` of
/// include/uapi/linux/netfilter/nf_conntrack_tcp.h.
const STATES: [&str; 10] = [
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
];

/// The file of the number of entries, whose folder the kernel has while connection tracking is loaded.
const COUNT: &str = "net.netfilter.nf_conntrack_count";

fn number(name: &str) -> Option<u64> {
    sysctl::read(name)?.parse().ok()
}

/// Reads the table of the current network namespace; `None` if connection tracking is not loaded.
pub fn read() -> Option<ConntrackTable> {
    let (entries, most) = (number(COUNT)?, number("net.netfilter.nf_conntrack_max")?);
    let counts = file::read("/proc/self/net/stat/nf_conntrack").ok().and_then(|text| counts(&text));
    let time_wait_s = number("net.netfilter.nf_conntrack_tcp_timeout_time_wait");
    // 0: no limit.
    Some(ConntrackTable { entries, limit: (most > 0).then_some(most), counts, time_wait_s })
}

/// Adds up the counters, which have a row of hexadecimal numbers for each processor; `None` if the kernel lacks one.
pub fn counts(text: &str) -> Option<ConntrackCounts> {
    let sum = |column: &str| {
        let mut lines = text.lines();
        let place = lines.next()?.split_whitespace().position(|name| name == column)?;
        let values = lines.filter_map(|line| u64::from_str_radix(line.split_whitespace().nth(place)?, 16).ok());
        Some(values.fold(0, u64::saturating_add))
    };
    Some(ConntrackCounts { insert_failed: sum("insert_failed")?, drop: sum("drop")?, early_drop: sum("early_drop")? })
}

/// Reads the table of one network namespace again and again.
#[derive(Debug)]
pub struct TableReader {
    count: KeptFile,
    /// `None` on a kernel that does not show them (CONFIG_NF_CONNTRACK_PROCFS).
    counters: Option<KeptFile>,
    /// Why entries cannot be listed, if that is so.
    lists: io::Result<Netfilter>,
}

impl TableReader {
    /// Opens the table of the current network namespace; `None` if connection tracking is not loaded.
    pub fn open() -> Option<Self> {
        Some(Self {
            count: KeptFile::open(sysctl::path(COUNT)?).ok()?,
            counters: KeptFile::open("/proc/self/net/stat/nf_conntrack").ok(),
            lists: Netfilter::open(),
        })
    }

    /// The number of entries.
    pub fn entries(&mut self) -> Result<u64> {
        let text = self.count.read().with_context(|| format!("reading {COUNT}"))?;
        text.trim().parse().with_context(|| format!("{COUNT}: {text:?}"))
    }

    /// The counters since the namespace was made; `None` if the kernel does not show them.
    pub fn counts(&mut self) -> Option<ConntrackCounts> {
        counts(self.counters.as_mut()?.read().ok()?)
    }

    /// Lists all entries and counts them. Takes about 4 µs an entry, and holds up whoever makes entries meanwhile. Entries that come or go during
    /// that time may be missed or, if the table grows, be counted twice. The error says what is missing and includes a remedy.
    pub fn states(&self) -> Result<States> {
        let lists = match &self.lists {
            Ok(lists) => lists,
            Err(error) => anyhow::bail!("socket(NETLINK_NETFILTER): {error}"),
        };
        lists.list(ENTRIES, 0, States::default, States::add).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => anyhow::anyhow!("only root may list the entries of this network"),
            _ => {
                anyhow::anyhow!("the kernel does not list the entries ({error}): load the module nf_conntrack_netlink")
            }
        })
    }
}

/// The entries of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct States {
    /// Those of TCP by the name of their state.
    pub tcp: BTreeMap<String, u64>,
    /// Those of other protocols.
    pub others: u64,
}

impl States {
    fn add(&mut self, entry: Object<'_>) {
        match state(entry) {
            Some(name) => match self.tcp.get_mut(name) {
                Some(count) => *count += 1,
                None => _ = self.tcp.insert(name.to_owned(), 1),
            },
            None => self.others += 1,
        }
    }
}

/// The state of a TCP connection; `None` of another protocol.
fn state(entry: Object<'_>) -> Option<&'static str> {
    let [mut tuple, mut info] = [None; 2];
    for (kind, content) in entry.attributes() {
        match kind {
            CTA_TUPLE_ORIG => tuple = Some(content),
            CTA_PROTOINFO => info = Some(content),
            _ => {}
        }
    }
    let protocol = attribute(attribute(tuple?, CTA_TUPLE_PROTO)?, CTA_PROTO_NUM)?;
    if protocol != [libc::IPPROTO_TCP as u8] {
        return None;
    }
    let number = info
        .and_then(|info| attribute(attribute(info, CTA_PROTOINFO_TCP)?, CTA_PROTOINFO_TCP_STATE))
        .and_then(|state| state.first().copied());
    // An entry of TCP has a state, even one that this program does not know.
    Some(number.and_then(|number| STATES.get(usize::from(number)).copied()).unwrap_or("UNKNOWN"))
}

/// The entries in a piece of a list.
#[cfg(any(test, fuzzing))]
pub fn states_in(answer: &[u8]) -> io::Result<States> {
    let mut states = States::default();
    crate::sys::nfnetlink::each_in(answer, |entry| states.add(entry))?;
    Ok(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name_and_added_up() {
        let text = "entries  clashres found drop early_drop insert_failed\n\
                    00000005 00000000 00000000 0000000a 00000001 00000000\n\
                    00000005 00000000 00000000 00000006 00000000 00000002\n";
        assert_eq!(counts(text), Some(ConntrackCounts { insert_failed: 2, drop: 16, early_drop: 1 }));
        assert_eq!(counts(""), None);
        assert_eq!(counts("entries drop early_drop\n00000005 00000000 00000000\n"), None, "unknown is not 0");
    }

    /// An answer with an entry of this protocol and, of TCP, state.
    fn entry(protocol: u8, state: Option<u8>) -> Vec<u8> {
        fn nested(kind: u16, content: &[u8]) -> Vec<u8> {
            let mut bytes = (4 + content.len() as u16).to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(content);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        }
        let tuple = nested(CTA_TUPLE_ORIG, &nested(CTA_TUPLE_PROTO, &nested(CTA_PROTO_NUM, &[protocol])));
        let info = state
            .map(|state| nested(CTA_PROTOINFO, &nested(CTA_PROTOINFO_TCP, &nested(CTA_PROTOINFO_TCP_STATE, &[state]))));
        let body = [&[2, 0, 0, 0][..], &tuple, &info.unwrap_or_default()].concat();
        let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
        message.extend(0x0100_u16.to_ne_bytes());
        message.resize(16, 0);
        message.extend(body);
        message
    }

    #[test]
    fn entries_are_counted_by_state() {
        let answer = [entry(6, Some(3)), entry(6, Some(3)), entry(6, Some(7)), entry(17, None), entry(6, Some(99))];
        let states = states_in(&answer.concat()).unwrap();
        let tcp = [("ESTABLISHED", 2), ("TIME_WAIT", 1), ("UNKNOWN", 1)].map(|(name, count)| (name.to_owned(), count));
        assert_eq!((&states.tcp, states.others), (&BTreeMap::from(tcp), 1));
    }
}
