//! The rules of the current network namespace, as nft lists them (libnftables-json(5)).

use anyhow::{Context, Result};
use serde::{Deserialize, de::IgnoredAny};

use crate::{json, sys::nft};

/// What nft lists.
#[derive(Debug, Default, Deserialize)]
pub struct Listing {
    nftables: Vec<Item>,
}

/// One of the objects listed; of those that are none of these, nothing is known.
#[derive(Debug, Deserialize)]
struct Item {
    rule: Option<Rule>,
    set: Option<Set>,
    map: Option<Set>,
    counter: Option<Counter>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    table: String,
    #[serde(default)]
    expr: Vec<Statement>,
}

#[derive(Debug, Deserialize)]
struct Statement {
    counter: Option<Counted>,
}

/// A rule's counter.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Counted {
    /// Its own.
    Own { packets: u64 },
    /// One with a name, which is listed by itself.
    Other(IgnoredAny),
}

#[derive(Debug, Deserialize)]
struct Set {
    table: String,
    #[serde(default)]
    elem: Vec<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Counter {
    table: String,
    name: String,
    packets: u64,
}

impl Listing {
    /// All rules, sets, maps and counters.
    pub fn of_all() -> Result<Self> {
        Self::of("ruleset")
    }

    /// Counters with names, and nothing else.
    pub fn of_counters() -> Result<Self> {
        Self::of("counters")
    }

    fn of(what: &str) -> Result<Self> {
        Self::parse(nft::list(what)?.as_bytes()).with_context(|| format!("what `nft -j list {what}` prints"))
    }

    /// Reads what nft prints.
    pub fn parse(text: &[u8]) -> Result<Self> {
        Ok(json::read(text)?)
    }

    /// The rules of the tables of which `is_one` is true.
    pub fn rules(&self, is_one: impl Fn(&str) -> bool) -> u64 {
        let rules = self.nftables.iter().filter_map(|item| item.rule.as_ref());
        rules.filter(|rule| is_one(&rule.table)).count() as u64
    }

    /// The elements of their sets and maps.
    pub fn elements(&self, is_one: impl Fn(&str) -> bool) -> u64 {
        let sets = self.nftables.iter().flat_map(|item| item.set.iter().chain(&item.map));
        sets.filter(|set| is_one(&set.table)).map(|set| set.elem.len() as u64).sum()
    }

    /// What a counter with a name has counted.
    pub fn packets(&self, table: &str, name: &str) -> Option<u64> {
        let mut counters = self.nftables.iter().filter_map(|item| item.counter.as_ref());
        counters.find(|counter| counter.table == table && counter.name == name).map(|counter| counter.packets)
    }

    /// What all counters of other tables have counted, of rules and with names; `None` if there are none.
    pub fn packets_outside(&self, table: &str) -> Option<u64> {
        let named = self.nftables.iter().filter_map(|item| item.counter.as_ref());
        let named = named.filter(|counter| counter.table != table).map(|counter| counter.packets);
        let rules = self.nftables.iter().filter_map(|item| item.rule.as_ref()).filter(|rule| rule.table != table);
        let of_rules = rules.flat_map(|rule| &rule.expr).filter_map(|statement| match statement.counter {
            Some(Counted::Own { packets }) => Some(packets),
            _ => None,
        });
        named.chain(of_rules).fold(None, |sum: Option<u64>, packets| Some(sum.unwrap_or(0).saturating_add(packets)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nft 1.0.6 prints it, shortened.
    const LISTED: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": "inet", "name": "t"}},
        {"counter": {"family": "inet", "name": "passed", "table": "t", "handle": 3, "packets": 7, "bytes": 300}},
        {"set": {"family": "inet", "name": "l", "table": "t", "type": "inet_service", "elem": [1, 2]}},
        {"set": {"family": "inet", "name": "empty", "table": "t", "type": "inet_service"}},
        {"map": {"name": "m", "table": "u", "map": "verdict", "elem": [["1.2.3.4", {"drop": null}]]}},
        {"rule": {"table": "t", "chain": "server", "expr": [{"vmap": {"data": "@m"}}, {"counter": "passed"}, {"drop": null}]}},
        {"rule": {"table": "u", "chain": "input", "expr": [{"counter": {"packets": 5, "bytes": 9}}, {"accept": null}]}},
        {"rule": {"table": "u", "chain": "input", "expr": [{"counter": null}]}}]}"#;

    #[test]
    fn rules_elements_and_packets_are_counted_by_table() {
        let listing = Listing::parse(LISTED.as_bytes()).unwrap();
        let of = |table: &'static str| move |other: &str| other == table;
        assert_eq!([listing.rules(of("t")), listing.rules(of("u")), listing.rules(|_| true)], [1, 2, 3]);
        assert_eq!([listing.elements(of("t")), listing.elements(of("u"))], [2, 1]);
        assert_eq!([listing.packets("t", "passed"), listing.packets("u", "passed")], [Some(7), None]);
        assert_eq!([listing.packets_outside("t"), listing.packets_outside("u")], [Some(5), Some(7)]);
        assert_eq!(Listing::parse(br#"{"nftables": []}"#).unwrap().packets_outside("t"), None);
        assert!(Listing::parse(b"{}").is_err());
    }
}
