//! What netfilter does to the packets of a network: the rules they meet, and the table of tracked connections.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Whose;

impl Whose {
    /// `the network`, `the server's network`.
    pub fn words(self) -> &'static str {
        match self {
            Self::Shared => "the network",
            Self::Server => "the server's network",
            Self::Loaders => "the loaders' network",
        }
    }
}

/// Counters of connection tracking, by the kernel's names (/proc/net/stat/nf_conntrack), over all processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConntrackCounts {
    /// Entries that could not be put into the table because another had the same tuple: a clash, such as of two translated ports.
    pub insert_failed: u64,
    /// Packets dropped because no entry could be made for them: the table was full, or memory was short.
    pub drop: u64,
    /// Entries removed to make room for another in a full table: of connections that had not been answered yet.
    pub early_drop: u64,
}

impl ConntrackCounts {
    /// What was counted since an earlier reading.
    pub fn since(self, before: Self) -> Self {
        Self {
            insert_failed: self.insert_failed.saturating_sub(before.insert_failed),
            drop: self.drop.saturating_sub(before.drop),
            early_drop: self.early_drop.saturating_sub(before.early_drop),
        }
    }
}

/// The table of tracked connections in a network namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConntrackTable {
    /// Entries in it: one for each connection, whatever its state.
    pub entries: u64,
    /// The most that it may have: net.netfilter.nf_conntrack_max, which applies to each network namespace alike, and is set in the initial
    /// one. `null` if there is no limit.
    pub limit: Option<u64>,
    /// Counts since the namespace was made; `null` if the kernel does not show them.
    pub counts: Option<ConntrackCounts>,
    /// How long the entry of a connection that was closed by FIN stays (net.netfilter.nf_conntrack_tcp_timeout_time_wait), in seconds;
    /// `null` if unknown.
    pub time_wait_s: Option<u64>,
}

impl ConntrackTable {
    /// Part of the table that so many entries fill; `None` without a limit.
    pub fn fill(self, entries: u64) -> Option<f64> {
        self.limit.map(|limit| entries as f64 / limit.max(1) as f64)
    }

    /// Connections per second at which entries in TIME_WAIT alone fill the table.
    pub fn sustainable_per_s(self) -> Option<f64> {
        Some(self.limit? as f64 / self.time_wait_s.filter(|seconds| *seconds > 0)? as f64)
    }
}

/// Connection tracking in a network of a trial that tracked connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Conntrack {
    /// Which network.
    pub network: Whose,
    /// Entries before the load began.
    pub before: u64,
    /// The most entries at once, among the samples of every 100 ms, of load hosts every 250 ms.
    pub peak: u64,
    /// Entries once load and server had ended.
    pub after: u64,
    /// The most that the table may have (net.netfilter.nf_conntrack_max); `null` if there is no limit.
    pub limit: Option<u64>,
    /// Growth of the kernel's counters over the trial; `null` if it does not show them.
    pub counts: Option<ConntrackCounts>,
    /// How long the entry of a connection that was closed by FIN stays, in seconds; `null` if unknown.
    pub time_wait_s: Option<u64>,
    /// The entries of TCP by the kernel's name of their state, once load and server had ended: the whole table is read, which takes about a
    /// second for 262,144 entries, and so it is read only then. `null` if it could not be read.
    pub tcp_states: Option<BTreeMap<String, u64>>,
    /// Entries of other protocols, read with those; `null` as above.
    pub other_protocols: Option<u64>,
    /// Why it could not be read; absent if it could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub states_missing: Option<String>,
}

impl Conntrack {
    /// The table as it was at its fullest.
    pub fn table(&self) -> ConntrackTable {
        ConntrackTable { entries: self.peak, limit: self.limit, counts: self.counts, time_wait_s: self.time_wait_s }
    }

    /// The part of the table that was filled; `None` without a limit.
    pub fn fill(&self) -> Option<f64> {
        self.table().fill(self.peak)
    }
}

/// A chain that the kernel runs for packets at a hook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BaseChain {
    /// Family of its table: `ip`, `ip6` or `inet`, which is both.
    pub family: String,
    /// Name of its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// Where packets meet it: `prerouting`, `input`, `forward`, `output`, `postrouting` or `ingress`.
    pub hook: String,
    /// Rules in it.
    pub rules: u64,
    /// Whether it drops the packets that no rule decides about: its policy.
    #[serde(default)]
    pub drops: bool,
}

impl BaseChain {
    /// Whether there is anything in it that may touch a packet.
    fn acts(&self) -> bool {
        self.rules > 0 || self.drops
    }
}

/// The rules of packet filters in a network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rules {
    /// The base chains of nftables for IPv4 and IPv6, those of iptables-nft among them.
    pub chains: Vec<BaseChain>,
    /// Rules in other chains of these families, to which those above may jump.
    pub called: u64,
    /// Rules among all of them that need connection tracking (`ct`, address translation, limits of connections), and so switch it on.
    pub tracking: u64,
    /// The tables of iptables-legacy in use, IPv4's and IPv6's, whose rules are not counted; `null` if only root may know.
    pub legacy_tables: Option<Vec<String>>,
}

/// Hooks that what a machine sends to itself, or receives for itself, goes through.
const OWN_HOOKS: [&str; 4] = ["prerouting", "input", "output", "postrouting"];

impl Rules {
    /// The base chains that may touch packets to and from an address of this machine; `None` stands for any address.
    pub fn seeing(&self, address: Option<IpAddr>) -> impl Iterator<Item = &BaseChain> {
        let family = address.map(|ip| if ip.to_canonical().is_ipv4() { "ip" } else { "ip6" });
        self.chains.iter().filter(move |chain| {
            let is_of_family = chain.family == "inet" || family.is_none_or(|family| chain.family == family);
            is_of_family && chain.acts() && OWN_HOOKS.contains(&&chain.hook[..])
        })
    }

    /// Whether there is anything that may touch a packet.
    pub fn any(&self) -> bool {
        self.chains.iter().any(BaseChain::acts) || self.legacy_tables.as_ref().is_some_and(|tables| !tables.is_empty())
    }

    /// What packets to an address meet, as a clause: `2 rules in base chains at input and output (and 3 in chains that these may call); 1 of
    /// them tracks connections`. `None` if that is nothing.
    pub fn words(&self, address: Option<IpAddr>) -> Option<String> {
        let mut by_hook: BTreeMap<usize, u64> = BTreeMap::new();
        for chain in self.seeing(address) {
            let place = OWN_HOOKS.iter().position(|hook| *hook == chain.hook).unwrap_or(0);
            *by_hook.entry(place).or_default() += chain.rules;
        }
        let mut parts = Vec::new();
        if !by_hook.is_empty() {
            let hooks: Vec<&str> = by_hook.keys().map(|place| OWN_HOOKS[*place]).collect();
            let hooks = match &hooks[..] {
                [one] => (*one).to_owned(),
                [first @ .., last] => format!("{} and {last}", first.join(", ")),
                [] => String::new(),
            };
            let rules = by_hook.values().sum::<u64>();
            let noun = if rules == 1 { "rule" } else { "rules" };
            let called = match self.called {
                0 => String::new(),
                called => format!(" (and {called} in chains that these may call)"),
            };
            let tracking = match self.tracking {
                0 => "none of them tracks connections".to_owned(),
                1 => "1 of them tracks connections".to_owned(),
                several => format!("{several} of them track connections"),
            };
            let dropping = self.seeing(address).filter(|chain| chain.drops).count();
            let dropping = match dropping {
                0 => String::new(),
                1 => "; 1 of these chains drops what no rule decides".to_owned(),
                several => format!("; {several} of these chains drop what no rule decides"),
            };
            parts.push(format!("{rules} {noun} of nftables in base chains at {hooks}{called}; {tracking}{dropping}"));
        }
        let legacy = self.legacy_tables.iter().flatten().cloned().collect::<Vec<_>>();
        if !legacy.is_empty() {
            parts.push(format!("iptables-legacy: {} (rules not counted)", legacy.join(", ")));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// The rules of a network of a trial.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkRules {
    /// Which network.
    pub network: Whose,
    /// Its rules; `null` if they cannot be read.
    pub rules: Option<Rules>,
    /// Why they cannot be read; absent if they can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

impl NetworkRules {
    /// What packets meet there, as a clause; `None` if that is nothing.
    pub fn in_words(&self) -> Option<String> {
        let place = if self.network == Whose::Shared { String::new() } else { format!(" in {}", self.network.words()) };
        match &self.rules {
            Some(rules) => Some(format!("{}{place}", rules.words(None)?)),
            None => Some(format!("unknown{place} ({})", self.missing.as_deref().unwrap_or("not read"))),
        }
    }
}

/// What netfilter does in a network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetfilterFacts {
    /// The table of tracked connections; `null` if the kernel has none, or its module is not loaded.
    pub conntrack: Option<ConntrackTable>,
    /// The rules; `null` if they cannot be read.
    pub rules: Option<Rules>,
    /// Why they cannot be read; absent if they can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules_missing: Option<String>,
}

/// `12,345 of at most 262,144 entries (4.7 %)`.
impl fmt::Display for ConntrackTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::format::{percent, thousands};
        write!(f, "{}", thousands(self.entries as f64))?;
        match (self.limit, self.fill(self.entries)) {
            (Some(limit), Some(fill)) => {
                write!(f, " of at most {} entries ({})", thousands(limit as f64), percent(fill))
            }
            _ => write!(f, " entries, without a limit"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(family: &str, hook: &str, rules: u64) -> BaseChain {
        let [family, hook] = [family, hook].map(str::to_owned);
        BaseChain { family, table: "t".to_owned(), chain: "c".to_owned(), hook, rules, drops: false }
    }

    #[test]
    fn packets_meet_the_rules_of_their_family() {
        let chains = vec![
            chain("ip", "input", 2),
            chain("ip6", "output", 7),
            chain("inet", "output", 1),
            chain("inet", "forward", 9),
            chain("ip", "prerouting", 0),
        ];
        let rules = Rules { chains, called: 3, tracking: 1, legacy_tables: Some(Vec::new()) };
        let of = |address: &str| rules.words(address.parse().ok());
        let more = " (and 3 in chains that these may call); 1 of them tracks connections";
        assert_eq!(of("127.0.0.1").unwrap(), format!("3 rules of nftables in base chains at input and output{more}"));
        assert_eq!(of("::ffff:127.0.0.1"), of("127.0.0.1"));
        assert_eq!(of("::1").unwrap(), format!("8 rules of nftables in base chains at output{more}"));
        assert_eq!(of("").unwrap(), format!("10 rules of nftables in base chains at input and output{more}"));
        let closed = Rules { chains: vec![BaseChain { drops: true, ..chain("inet", "input", 0) }], ..Rules::default() };
        let expected = "0 rules of nftables in base chains at input; none of them tracks connections; 1 of these chains drops what no rule decides";
        assert!(closed.any() && closed.words(None).as_deref() == Some(expected));
        let legacy = Rules { legacy_tables: Some(vec!["filter".to_owned(), "nat".to_owned()]), ..Rules::default() };
        assert_eq!(legacy.words(None).unwrap(), "iptables-legacy: filter, nat (rules not counted)");
        assert!(legacy.any() && Rules::default().words(None).is_none() && !Rules::default().any());
    }

    #[test]
    fn a_table_says_what_it_can_sustain() {
        let table =
            ConntrackTable { entries: 131_072, limit: Some(262_144), time_wait_s: Some(120), ..Default::default() };
        assert_eq!(table.to_string(), "131,072 of at most 262,144 entries (50.0 %)");
        assert_eq!(table.sustainable_per_s().unwrap().round(), 2_185.0);
        let unlimited = ConntrackTable { limit: None, ..table };
        assert_eq!((unlimited.fill(9), unlimited.sustainable_per_s()), (None, None));
        assert_eq!(unlimited.to_string(), "131,072 entries, without a limit");
        assert_eq!(ConntrackTable { time_wait_s: Some(0), ..table }.sustainable_per_s(), None);
    }

    #[test]
    fn counts_are_of_the_time_between() {
        let [before, after] = [(1, 2, 3), (1, 5, 9)].map(|(insert_failed, drop, early_drop)| ConntrackCounts {
            insert_failed,
            drop,
            early_drop,
        });
        assert_eq!(after.since(before), ConntrackCounts { insert_failed: 0, drop: 3, early_drop: 6 });
        assert_eq!(before.since(after), ConntrackCounts::default());
    }
}
