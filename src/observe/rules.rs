//! The rules of packet filters in a network namespace: nftables by its netlink, iptables-legacy by /proc.

use std::{collections::BTreeMap, io, str};

use anyhow::{Result, anyhow};
use nix::sys::utsname::uname;

use super::{conntrack, file};
use crate::{
    record::{BaseChain, NetfilterFacts, NetworkRules, Rules, Whose},
    sys::nfnetlink::{Kind, Netfilter, Object, attribute, attributes},
};

/// NFNL_SUBSYS_NFTABLES with NFT_MSG_GETCHAIN and NFT_MSG_GETRULE (include/uapi/linux/netfilter/nf_tables.h).
const CHAINS: Kind = Kind { subsystem: 10, message: 4 };
const RULES: Kind = Kind { subsystem: 10, message: 7 };

// Attributes of chains and of rules.
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_HOOK_HOOKNUM: u16 = 1;
/// NF_DROP, the policy of a base chain (include/uapi/linux/netfilter.h), in network byte order.
const DROP: [u8; 4] = 0_u32.to_be_bytes();
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
/// The name of a match or target of iptables: NFTA_MATCH_NAME and NFTA_TARGET_NAME.
const NFTA_XT_NAME: u16 = 1;

/// The hooks of IPv4 and IPv6 by number: `enum nf_inet_hooks`.
const HOOKS: [&str; 6] = ["prerouting", "input", "forward", "output", "postrouting", "ingress"];

/// Expressions of nftables that switch connection tracking on.
const TRACKING: [&str; 7] = ["ct", "nat", "masq", "redir", "connlimit", "synproxy", "flow_offload"];

/// Matches and targets of iptables that do.
const TRACKING_XT: [&str; 16] = [
    "conntrack",
    "state",
    "connlimit",
    "connmark",
    "connbytes",
    "connlabel",
    "helper",
    "MASQUERADE",
    "SNAT",
    "DNAT",
    "REDIRECT",
    "NETMAP",
    "CONNMARK",
    "CONNSECMARK",
    "SYNPROXY",
    "CT",
];

/// Reads what netfilter does in the current network namespace.
pub fn facts() -> NetfilterFacts {
    let (rules, rules_missing) = match read() {
        Ok(rules) => (Some(rules), None),
        Err(why) => (None, Some(why.to_string())),
    };
    NetfilterFacts { conntrack: conntrack::read(), rules, rules_missing }
}

/// The rules of the current network namespace, which is one of a trial's; `None` if there are none.
pub fn of_network(network: Whose) -> Option<NetworkRules> {
    let found = match read() {
        Ok(rules) => NetworkRules { network, rules: Some(rules), missing: None },
        Err(why) => NetworkRules { network, rules: None, missing: Some(why.to_string()) },
    };
    found.rules.as_ref().is_none_or(Rules::any).then_some(found)
}

/// Reads the rules of the current network namespace. The error says why that is impossible, with the remedy.
pub fn read() -> Result<Rules> {
    let mut rules = if is_absent() { Rules::default() } else { of_nftables()? };
    rules.legacy_tables = legacy();
    Ok(rules)
}

fn of_nftables() -> Result<Rules> {
    let lists = match Netfilter::open() {
        Ok(lists) => lists,
        // A kernel without netfilter has no rules.
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(Rules::default()),
        Err(error) => return Err(anyhow!("socket(NETLINK_NETFILTER): {error}")),
    };
    let list = || {
        let found = lists.list(CHAINS, 0, Found::default, Found::add_chain)?;
        // A rule of a chain that has come since belongs to those that may be called.
        lists.list(RULES, 0, || found.clone(), Found::add_rule)
    };
    match list() {
        Ok(found) => Ok(found.rules()),
        Err(error) => match error.raw_os_error() {
            Some(libc::EPERM) => Err(anyhow!("only root may read the rules of this network")),
            // A kernel without nftables has none of its rules.
            Some(libc::EINVAL | libc::EOPNOTSUPP) => Ok(Rules::default()),
            _ => Err(anyhow!("reading the rules of nftables: {error}")),
        },
    }
}

/// Whether nftables is a module that is not loaded: then there are no rules, and asking for them would load it.
fn is_absent() -> bool {
    let modules = file::read("/proc/modules");
    let release = uname().map(|names| names.release().to_string_lossy().into_owned()).unwrap_or_default();
    let builtin = file::read(format!("/lib/modules/{release}/modules.builtin"));
    let (Ok(loaded), Ok(builtin)) = (modules, builtin) else { return false };
    !has_module(&loaded, &builtin)
}

/// Whether nftables is among the modules loaded, or those built in.
fn has_module(loaded: &str, builtin: &str) -> bool {
    loaded.lines().any(|line| line.split(' ').next() == Some("nf_tables"))
        || builtin.lines().any(|line| line.ends_with("/nf_tables.ko"))
}

/// The tables of iptables-legacy in use; `None` if only root may know.
fn legacy() -> Option<Vec<String>> {
    let mut tables = Vec::new();
    for (names, mark) in [("ip_tables_names", ""), ("ip6_tables_names", " (IPv6)")] {
        match file::read(format!("/proc/self/net/{names}")) {
            Ok(text) => tables.extend(text.lines().map(|name| format!("{name}{mark}"))),
            // The module is not loaded, so it has no tables.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => return None,
        }
    }
    Some(tables)
}

/// A chain: the number of its family, its table and its name.
type Place = (u8, String, String);

/// What has been found of nftables.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The base chains of IPv4 and IPv6, with their hooks, whether they drop what no rule decides, and the rules in them.
    chains: BTreeMap<Place, (&'static str, bool, u64)>,
    /// Rules in other chains.
    called: u64,
    tracking: u64,
}

/// The name of a family that IPv4 or IPv6 packets of this machine belong to.
fn family(number: u8) -> Option<&'static str> {
    match i32::from(number) {
        libc::NFPROTO_INET => Some("inet"),
        libc::NFPROTO_IPV4 => Some("ip"),
        libc::NFPROTO_IPV6 => Some("ip6"),
        _ => None,
    }
}

/// A name as netlink has it, which ends with a zero byte.
fn name(content: &[u8]) -> Option<String> {
    let text = content.strip_suffix(&[0]).unwrap_or(content);
    str::from_utf8(text).ok().map(str::to_owned)
}

/// The hook of a number in network byte order.
fn hook_of(content: &[u8]) -> Option<&'static str> {
    let number = u32::from_be_bytes(content.try_into().ok()?);
    HOOKS.get(usize::try_from(number).ok()?).copied()
}

/// Whether an expression of a rule switches connection tracking on.
fn is_tracking(expression: &[u8]) -> bool {
    let named = |content: Option<&[u8]>| content.and_then(name).unwrap_or_default();
    match &named(attribute(expression, NFTA_EXPR_NAME))[..] {
        "match" | "target" => {
            let data = attribute(expression, NFTA_EXPR_DATA).unwrap_or_default();
            TRACKING_XT.contains(&&named(attribute(data, NFTA_XT_NAME))[..])
        }
        own => TRACKING.contains(&own),
    }
}

impl Found {
    /// Adds a chain.
    pub fn add_chain(&mut self, chain: Object<'_>) {
        let (mut table, mut own_name, mut hook, mut drops) = (None, None, None, false);
        for (kind, content) in chain.attributes() {
            match kind {
                NFTA_CHAIN_TABLE => table = name(content),
                NFTA_CHAIN_NAME => own_name = name(content),
                NFTA_CHAIN_HOOK => hook = attribute(content, NFTA_HOOK_HOOKNUM).and_then(hook_of),
                NFTA_CHAIN_POLICY => drops = content == DROP,
                _ => {}
            }
        }
        if let (Some(_), Some(table), Some(own_name), Some(hook)) = (family(chain.family), table, own_name, hook) {
            self.chains.entry((chain.family, table, own_name)).or_insert((hook, drops, 0));
        }
    }

    /// Adds a rule.
    pub fn add_rule(&mut self, rule: Object<'_>) {
        if family(rule.family).is_none() {
            return;
        }
        let (mut table, mut chain, mut tracks) = (None, None, false);
        for (kind, content) in rule.attributes() {
            match kind {
                NFTA_RULE_TABLE => table = name(content),
                NFTA_RULE_CHAIN => chain = name(content),
                NFTA_RULE_EXPRESSIONS => tracks = attributes(content).any(|(_, expression)| is_tracking(expression)),
                _ => {}
            }
        }
        let (Some(table), Some(chain)) = (table, chain) else { return };
        match self.chains.get_mut(&(rule.family, table, chain)) {
            Some((.., rules)) => *rules += 1,
            None => self.called += 1,
        }
        self.tracking += u64::from(tracks);
    }

    /// All of it.
    pub fn rules(self) -> Rules {
        let chains = self.chains.into_iter().map(|((number, table, chain), (hook, drops, rules))| BaseChain {
            family: family(number).unwrap_or_default().to_owned(),
            table,
            chain,
            hook: hook.to_owned(),
            rules,
            drops,
        });
        Rules { chains: chains.collect(), called: self.called, tracking: self.tracking, legacy_tables: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::nfnetlink::each_in;

    fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + content.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn object(family: i32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let body = [&[family as u8, 0, 0, 0][..], &attributes.concat()].concat();
        let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
        message.extend(0x0a03_u16.to_ne_bytes());
        message.resize(16, 0);
        message.extend(body);
        message
    }

    /// Base chains drop what no rule decides.
    fn chain(family: i32, name: &[u8], hook: Option<u32>) -> Vec<u8> {
        let hook = hook.map(|hook| attribute(NFTA_CHAIN_HOOK, &attribute(NFTA_HOOK_HOOKNUM, &hook.to_be_bytes())));
        let policy = hook.is_some().then(|| attribute(NFTA_CHAIN_POLICY, &DROP));
        let names = [attribute(NFTA_CHAIN_TABLE, b"t\0"), attribute(NFTA_CHAIN_NAME, name)];
        object(family, &names.into_iter().chain(hook).chain(policy).collect::<Vec<_>>())
    }

    fn rule(family: i32, chain: &[u8], expressions: &[(&[u8], &[u8])]) -> Vec<u8> {
        let expression = |(name, xt): &(&[u8], &[u8])| {
            let data = attribute(NFTA_EXPR_DATA, &attribute(NFTA_XT_NAME, xt));
            attribute(1, &[attribute(NFTA_EXPR_NAME, name), data].concat())
        };
        let all: Vec<u8> = expressions.iter().flat_map(expression).collect();
        let names = [attribute(NFTA_RULE_TABLE, b"t\0"), attribute(NFTA_RULE_CHAIN, chain)];
        object(family, &[&names[..], &[attribute(NFTA_RULE_EXPRESSIONS, &all)]].concat())
    }

    #[test]
    fn rules_are_counted_where_packets_meet_them() {
        let mut found = Found::default();
        let chains = [
            chain(libc::NFPROTO_INET, b"in\0", Some(1)),
            chain(libc::NFPROTO_INET, b"more\0", None),
            chain(libc::NFPROTO_BRIDGE, b"in\0", Some(1)),
        ];
        each_in(&chains.concat(), |object| found.add_chain(object)).unwrap();
        let rules = [
            rule(libc::NFPROTO_INET, b"in\0", &[(b"meta\0", b""), (b"ct\0", b"")]),
            rule(libc::NFPROTO_INET, b"in\0", &[(b"immediate\0", b"ct\0")]),
            rule(libc::NFPROTO_INET, b"more\0", &[(b"match\0", b"conntrack\0")]),
            rule(libc::NFPROTO_INET, b"more\0", &[(b"match\0", b"tcp\0")]),
            rule(libc::NFPROTO_BRIDGE, b"in\0", &[(b"ct\0", b"")]),
        ];
        each_in(&rules.concat(), |object| found.add_rule(object)).unwrap();
        let [family, table, chain, hook] = ["inet", "t", "in", "input"].map(str::to_owned);
        let chains = vec![BaseChain { family, table, chain, hook, rules: 2, drops: true }];
        assert_eq!(found.rules(), Rules { chains, called: 2, tracking: 2, legacy_tables: None });
    }

    #[test]
    fn a_module_that_is_not_loaded_has_no_rules() {
        let loaded = "nf_tables 356352 0 - Live 0x0\nx 1 0 - Live 0x0\n";
        assert!(has_module(loaded, "") && has_module("", "kernel/net/netfilter/nf_tables.ko\n"));
        assert!(!has_module("nf_tables_set 1 0 - Live 0x0\n", "kernel/net/netfilter/nf_conntrack.ko\n"));
    }
}
