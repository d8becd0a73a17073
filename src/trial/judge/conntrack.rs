//! Rules about the table of tracked connections.

use crate::record::{Conntrack, Grounds, limits};

/// The verdicts on the tables of connection tracking.
pub fn verdicts(tables: &[Conntrack]) -> impl Iterator<Item = Grounds> {
    [full(tables), near(tables)].into_iter().flatten()
}

/// What was dropped, or removed, because a table was full.
fn full(tables: &[Conntrack]) -> Option<Grounds> {
    let table =
        tables.iter().filter(|table| was_full(table)).max_by_key(|table| table.counts.map(|counts| counts.drop))?;
    let counts = table.counts?;
    Some(Grounds::ConntrackFull {
        network: table.network,
        limit: table.limit?,
        dropped: counts.drop,
        evicted: counts.early_drop,
    })
}

/// Whether a table came near its limit without being full.
fn near(tables: &[Conntrack]) -> Option<Grounds> {
    if tables.iter().any(was_full) {
        return None;
    }
    let fill = |table: &&Conntrack| table.fill().unwrap_or(0.0);
    let table = tables.iter().max_by(|one, other| fill(one).total_cmp(&fill(other)))?;
    (fill(&table) >= limits::CONNTRACK).then_some(Grounds::ConntrackNear {
        network: table.network,
        peak: table.peak,
        limit: table.limit?,
    })
}

/// Packets are also dropped for want of memory, or in a clash: only near the limit was it for want of room. A table may have been full between
/// two samples.
fn was_full(table: &Conntrack) -> bool {
    let acted = table.counts.is_some_and(|counts| counts.drop + counts.early_drop > 0);
    acted && table.fill().is_some_and(|fill| fill >= limits::CONNTRACK)
}

#[cfg(test)]
mod tests {
    use super::{super::words, *};
    use crate::record::{ConntrackCounts, Whose};

    fn table(peak: u64, drop: u64, early_drop: u64) -> Conntrack {
        let counts = Some(ConntrackCounts { insert_failed: 0, drop, early_drop });
        Conntrack { network: Whose::Server, peak, limit: Some(1_000), counts, ..Conntrack::default() }
    }

    #[test]
    fn a_table_is_near_its_limit_from_nine_tenths() {
        let said = |tables: &[Conntrack]| words(near(tables));
        assert_eq!((said(&[]), said(&[table(899, 0, 0)])), (None, None));
        assert_eq!(
            said(&[table(10, 0, 0), table(900, 0, 0)]).unwrap(),
            "conntrack-near: the server's network tracked up to 900 connections, of at most 1,000"
        );
        assert_eq!(said(&[table(900, 1, 0)]), None, "it was full");
        assert_eq!(said(&[Conntrack { limit: None, ..table(900, 0, 0) }]), None, "there is no limit");
    }

    #[test]
    fn a_full_table_is_known_by_what_it_dropped() {
        let said = |tables: &[Conntrack]| words(full(tables));
        assert_eq!((said(&[]), said(&[table(1_000, 0, 0)])), (None, None));
        assert_eq!(
            said(&[table(1_000, 1, 0), table(950, 7, 2)]).unwrap(),
            "conntrack-full: the table of the server's network had no room beyond 1,000 entries: 7 packets were dropped, and 2 entries were \
             removed to make room"
        );
        assert_eq!(
            said(&[table(900, 0, 1)]).unwrap(),
            "conntrack-full: the table of the server's network had no room beyond 1,000 entries: 0 packets were dropped, and 1 entry was \
             removed to make room"
        );
        assert_eq!(said(&[table(899, 7, 0)]), None, "for another reason");
        assert_eq!(said(&[Conntrack { counts: None, ..table(1_000, 0, 0) }]), None, "nobody knows");
    }
}
