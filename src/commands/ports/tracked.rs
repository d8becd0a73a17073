//! The table of tracked connections, which may end before the ports do.

use serde::Serialize;

use super::diagnosis::{Diagnosis, Severity};
use crate::{
    format::{percent, thousands},
    observe::conntrack,
    record::ConntrackTable,
};

/// Part of the table from which it is nearly full.
const NEAR: f64 = 0.8;

/// The table beside the ports.
#[derive(Debug, Serialize)]
pub struct Tracked {
    #[serde(flatten)]
    table: ConntrackTable,
    /// Connections that the ports of all tuple groups can have at once.
    usable_tuples: u64,
    /// Whether the table ends before these ports do.
    ends_first: bool,
}

impl Tracked {
    /// Reads the table of the caller's network namespace, whose tuple groups have so many usable ports together; `None` if connection
    /// tracking is not loaded.
    pub fn read(usable_tuples: u64) -> Option<Self> {
        conntrack::read().map(|table| Self::of(table, usable_tuples))
    }

    fn of(table: ConntrackTable, usable_tuples: u64) -> Self {
        let ends_first = table.limit.is_some_and(|limit| limit < usable_tuples);
        Self { table, usable_tuples, ends_first }
    }

    pub fn line(&self) -> String {
        let Self { table, usable_tuples, ends_first } = self;
        if table.entries == 0 {
            return format!("{table}: nothing is tracked now: only a rule that tracks connections adds entries");
        }
        let place = if *ends_first {
            format!(
                "\nfewer than the {} connections that the ports of these tuple groups allow: the table ends first",
                thousands(*usable_tuples as f64)
            )
        } else {
            String::new()
        };
        let sustained = table.sustainable_per_s().zip(table.time_wait_s).map(|(per_s, seconds)| {
            format!(
                "\na connection that is closed by FIN stays in it for {seconds} s: {} new ones per second fill it",
                thousands(per_s.ceil())
            )
        });
        format!("{table}{place}{}", sustained.unwrap_or_default())
    }

    /// What is wrong with the table; `None` if that is nothing.
    pub fn diagnose(&self) -> Option<Diagnosis> {
        let limit = self.table.limit?;
        let fill = self.table.fill(self.table.entries).filter(|fill| *fill >= NEAR)?;
        let is_full = self.table.entries >= limit;
        let state = if is_full {
            "SYNs of new connections are dropped without any error, and connect() hangs".to_owned()
        } else {
            format!(
                "after {} more, SYNs of new connections are dropped without any error",
                thousands((limit - self.table.entries) as f64)
            )
        };
        let finding = format!(
            "connection tracking has filled {} of its table, {} of {} entries; {state}",
            percent(fill),
            thousands(self.table.entries as f64),
            thousands(limit as f64)
        );
        let remedies = vec![
            "raise the limit, in the initial network namespace: `sysctl -w net.netfilter.nf_conntrack_max=…`; an entry takes about 320 bytes"
                .to_owned(),
            "let entries go sooner: net.netfilter.nf_conntrack_tcp_timeout_time_wait, and …_established for connections that were lost".to_owned(),
            "exempt the traffic from tracking, by a `notrack` rule".to_owned(),
        ];
        let severity = if is_full { Severity::Critical } else { Severity::Warning };
        Some(Diagnosis { severity, finding, remedies })
    }
}

/// The worse of two diagnoses, the ports' if they are alike, with the finding of the other behind its own.
pub fn worse(ports: Diagnosis, table: Option<Diagnosis>) -> Diagnosis {
    let Some(table) = table else { return ports };
    let (mut worse, other) = if table.severity > ports.severity { (table, ports) } else { (ports, table) };
    if other.severity > Severity::Ok {
        worse.finding = format!("{}. Beside that, {}", worse.finding.trim_end_matches('.'), other.finding);
        worse.remedies.extend(other.remedies);
    }
    worse
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracked(entries: u64, usable_tuples: u64) -> Tracked {
        let table = ConntrackTable { entries, limit: Some(1_000), time_wait_s: Some(120), ..ConntrackTable::default() };
        Tracked::of(table, usable_tuples)
    }

    #[test]
    fn a_table_is_a_limit_where_it_ends_before_the_ports() {
        assert!(tracked(1, 1_001).ends_first && !tracked(1, 1_000).ends_first);
        assert!(tracked(1, 1_001).line().contains("fewer than the 1,001 connections"), "{}", tracked(1, 1_001).line());
        assert!(!tracked(1, 1_000).line().contains("fewer than"));
        assert!(tracked(1, 9).line().contains("9 new ones per second fill it"));
        assert!(tracked(0, 9).line().contains("nothing is tracked"));
    }

    #[test]
    fn its_severity_has_its_borders() {
        let severity = |entries| tracked(entries, 1).diagnose().map(|found| found.severity);
        assert_eq!(
            [799, 800, 999, 1_000].map(severity),
            [None, Some(Severity::Warning), Some(Severity::Warning), Some(Severity::Critical)]
        );
    }

    #[test]
    fn the_worse_of_two_comes_first() {
        let ports = |severity| Diagnosis { severity, finding: "ports.".to_owned(), remedies: vec!["a".to_owned()] };
        let table = |entries| tracked(entries, 1).diagnose();
        let of = |severity, entries| worse(ports(severity), table(entries));
        assert_eq!(of(Severity::Warning, 0), ports(Severity::Warning));
        let alone = of(Severity::Ok, 900);
        assert!(
            alone.severity == Severity::Warning && alone.finding.starts_with("connection tracking has filled 90.0 %"),
            "{alone:?}"
        );
        assert!(!alone.finding.contains("ports.") && alone.remedies.len() == 3);
        let both = of(Severity::Warning, 1_000);
        assert!(both.severity == Severity::Critical && both.finding.ends_with(". Beside that, ports."), "{both:?}");
        let alike = of(Severity::Warning, 900);
        assert!(
            alike.finding.starts_with("ports. Beside that, connection tracking") && alike.remedies[0] == "a",
            "{alike:?}"
        );
    }
}
