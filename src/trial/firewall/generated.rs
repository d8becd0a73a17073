//! The generated rules as texts for nft.
//!
//! They are in a table of their own, in the input hook of the server's network. Only packets to the server's port come to them, so that the
//! replies which pass the same hook where clients share the network do not. A counter before them and one after them show that all
//! packets passed all of them.

use std::{fmt::Write, net::IpAddr};

use crate::scenario::{FirewallAction, GeneratedRules, Protocol, RuleMatch, RuleShape, Transport};

/// The table, which has the family `inet`: IPv4 and IPv6 alike.
pub const TABLE: &str = "listenbench";
/// Counts the packets that come to the rules.
pub const ARRIVED: &str = "arrived";
/// Counts those of them that no rule matched.
pub const PASSED: &str = "passed";
/// Counts the datagrams among these, where they are refused.
pub const REFUSED: &str = "refused";

/// The first address of 240.0.0.0/4, which is reserved (RFC 1112): no packet comes from there.
const NOBODY_V4: u32 = 0xf000_0001;
/// The first address of 2001:db8::/32, which is for documentation (RFC 3849).
const NOBODY_V6: u128 = 0x2001_0db8_0000_0000_0000_0000_0000_0001;

/// Rules or elements of a text. nft sends all of a text at once, and the kernel lets an ordinary user send no more than twice
/// net.core.wmem_max bytes, 416 KiB by default (EMSGSIZE): some hundred rules.
const BATCH: usize = 200;

/// What texts make the kernel hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holds {
    pub rules: u64,
    /// Elements of sets and maps.
    pub elements: u64,
}

/// Whether datagrams are refused, and counted: they are in no connection that would tell.
fn counts_refused(rules: &GeneratedRules, protocol: Protocol) -> bool {
    rules.action != FirewallAction::Accept && protocol.has(Transport::Udp)
}

/// What the rules of these settings make the kernel hold.
pub fn holds(rules: &GeneratedRules, protocol: Protocol) -> Holds {
    // One sends packets to the others, and one decides after them.
    let around = 2 + u64::from(rules.conntrack) + u64::from(counts_refused(rules, protocol));
    let count = u64::from(rules.count);
    match rules.shape {
        _ if count == 0 => Holds { rules: around, elements: 0 },
        RuleShape::Chain => Holds { rules: around + count, elements: 0 },
        RuleShape::Set | RuleShape::Map => Holds { rules: around + 1, elements: count },
    }
}

/// The texts for a server at this address and port, one to be loaded after the other. The last sends packets to the rules.
pub fn texts(rules: &GeneratedRules, (address, port): (IpAddr, u16), protocol: Protocol) -> Vec<String> {
    let transport = match (protocol.has(Transport::Tcp), protocol.has(Transport::Udp)) {
        (true, true) => "meta l4proto { tcp, udp } th",
        (false, true) => "udp",
        _ => "tcp",
    };
    let (selector, kind) = match (rules.matches, address) {
        (RuleMatch::Port, _) => {
            (format!("{} dport", transport.rsplit(' ').next().unwrap_or(transport)), "inet_service")
        }
        (RuleMatch::Address, IpAddr::V4(_)) => ("ip saddr".to_owned(), "ipv4_addr"),
        (RuleMatch::Address, IpAddr::V6(_)) => ("ip6 saddr".to_owned(), "ipv6_addr"),
    };
    let values: Vec<String> = (0..rules.count).map(|number| value(number, rules.matches, address, port)).collect();
    let add = format!("add rule inet {TABLE} server");
    let mut first = format!("table inet {TABLE} {{\n\tcounter {ARRIVED} {{ }}\n\tcounter {PASSED} {{ }}\n");
    let mut last = String::new();
    // Writing to a String does not fail.
    let batches: Vec<String> = match rules.shape {
        _ if rules.count == 0 => Vec::new(),
        RuleShape::Chain => {
            let one = |value: &String| format!("{add} {selector} {value} drop\n");
            values.chunks(BATCH).map(|batch| batch.iter().map(one).collect()).collect()
        }
        RuleShape::Set => {
            let _ = writeln!(first, "\tset listed {{\n\t\ttype {kind}\n\t}}");
            let _ = writeln!(last, "{add} {selector} @listed drop");
            values.chunks(BATCH).map(|batch| elements(batch.join(", "))).collect()
        }
        RuleShape::Map => {
            let _ = writeln!(first, "\tmap listed {{\n\t\ttype {kind} : verdict\n\t}}");
            let _ = writeln!(last, "{add} {selector} vmap @listed");
            let one = |value: &String| format!("{value} : drop");
            values.chunks(BATCH).map(|batch| elements(batch.iter().map(one).collect::<Vec<_>>().join(", "))).collect()
        }
    };
    if counts_refused(rules, protocol) {
        let _ = writeln!(first, "\tcounter {REFUSED} {{ }}");
        let _ = writeln!(last, "{add} meta l4proto udp counter name {REFUSED}");
    }
    let _ = writeln!(first, "\tchain server {{ }}\n}}");
    let action = match rules.action {
        FirewallAction::Accept => "accept",
        FirewallAction::Drop => "drop",
        FirewallAction::Reset => "reject with tcp reset",
        FirewallAction::Reject => "reject with icmpx port-unreachable",
        FirewallAction::Prohibit => "reject with icmpx admin-prohibited",
    };
    let tracked = if rules.conntrack { "\t\tct state established,related accept\n" } else { "" };
    let _ = writeln!(
        last,
        "{add} counter name {PASSED} {action}\ntable inet {TABLE} {{\n\tchain input {{\n\t\ttype filter hook input priority filter; policy accept;\n{tracked}\
         \t\t{transport} dport {port} counter name {ARRIVED} goto server\n\t}}\n}}"
    );
    [first].into_iter().chain(batches).chain([last]).collect()
}

fn elements(listed: String) -> String {
    format!("add element inet {TABLE} listed {{ {listed} }}\n")
}

/// The value of this number, which no packet to the server has.
fn value(number: u32, matches: RuleMatch, address: IpAddr, server: u16) -> String {
    match (matches, address) {
        (RuleMatch::Port, _) => {
            let port = number + 1;
            // Those from the server's on are one higher.
            (if port < u32::from(server) { port } else { port + 1 }).to_string()
        }
        (RuleMatch::Address, IpAddr::V4(_)) => IpAddr::V4((NOBODY_V4 + number).into()).to_string(),
        (RuleMatch::Address, IpAddr::V6(_)) => IpAddr::V6((NOBODY_V6 + u128::from(number)).into()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: (IpAddr, u16) = (IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3);

    fn text(rules: &GeneratedRules, server: (IpAddr, u16), protocol: Protocol) -> String {
        texts(rules, server, protocol).concat()
    }

    fn rules(count: u32, shape: RuleShape) -> GeneratedRules {
        GeneratedRules { count, shape, ..GeneratedRules::default() }
    }

    #[test]
    fn no_rule_matches_the_server_s_port() {
        let chain = text(&rules(4, RuleShape::Chain), SERVER, Protocol::Tcp);
        let listed: Vec<&str> = chain.lines().filter(|line| line.ends_with(" drop")).map(str::trim).collect();
        let expected = [1, 2, 4, 5].map(|port| format!("add rule inet listenbench server tcp dport {port} drop"));
        assert_eq!(listed, expected);
        assert!(chain.contains("tcp dport 3 counter name arrived goto server"), "{chain}");
        assert!(chain.contains("counter name passed accept"), "{chain}");
        let batches = |count, shape| texts(&rules(count, shape), SERVER, Protocol::Tcp).len();
        assert_eq!(
            (batches(0, RuleShape::Chain), batches(400, RuleShape::Map), batches(401, RuleShape::Chain)),
            (2, 4, 5)
        );
        let most = value(59_999, RuleMatch::Port, SERVER.0, 3);
        assert_eq!(most, "60001");
    }

    #[test]
    fn a_set_and_a_map_are_one_rule_each() {
        let set = text(&rules(3, RuleShape::Set), SERVER, Protocol::Udp);
        assert!(set.contains("listed { 1, 2, 4 }") && set.contains("udp dport @listed drop"), "{set}");
        let by_address = GeneratedRules { matches: RuleMatch::Address, ..rules(2, RuleShape::Map) };
        let map = text(&by_address, SERVER, Protocol::Both);
        assert!(map.contains("{ 240.0.0.1 : drop, 240.0.0.2 : drop }"), "{map}");
        assert!(map.contains("ip saddr vmap @listed") && map.contains("meta l4proto { tcp, udp } th dport 3"), "{map}");
        let map = text(&by_address, ("::1".parse().unwrap(), 3), Protocol::Tcp);
        assert!(map.contains("type ipv6_addr : verdict") && map.contains("2001:db8::2 : drop"), "{map}");
    }

    #[test]
    fn what_the_kernel_is_to_hold_follows_from_the_settings() {
        let tracked = |rules: GeneratedRules| GeneratedRules { conntrack: true, ..rules };
        for (rules, expected) in [
            (rules(0, RuleShape::Set), (2, 0)),
            (tracked(rules(0, RuleShape::Chain)), (3, 0)),
            (rules(1_000, RuleShape::Chain), (1_002, 0)),
            (rules(1_000, RuleShape::Set), (3, 1_000)),
            (tracked(rules(1_000, RuleShape::Map)), (4, 1_000)),
        ] {
            let Holds { rules: held, elements } = holds(&rules, Protocol::Tcp);
            assert_eq!((held, elements), expected, "{rules:?}");
            let refusing = GeneratedRules { action: FirewallAction::Drop, ..rules };
            assert_eq!(holds(&refusing, Protocol::Tcp).rules, held);
            assert_eq!(holds(&refusing, Protocol::Both).rules, held + 1);
        }
    }
}
