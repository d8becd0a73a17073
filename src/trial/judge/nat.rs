//! Rules about source NAT.

use crate::record::{Conntrack, Grounds, Nat, Whose};

/// Whether connections that began found no port.
pub(super) fn ports_short(nat: &Nat, tables: &[Conntrack]) -> Option<Grounds> {
    let table = tables.iter().find(|table| table.network == Whose::Loaders)?;
    let dropped = table.counts?.insert_failed;
    (dropped > 0).then_some(Grounds::NatPortsShort {
        dropped,
        begun: nat.begun,
        taken: nat.taken(table),
        ports: nat.ports,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::words, *};
    use crate::record::ConntrackCounts;

    #[test]
    fn ports_are_short_where_a_packet_found_none() {
        let nat = Nat { clients: 20, ports: Some(100), begun: Some(700) };
        let said = |network, insert_failed| {
            let counts = Some(ConntrackCounts { insert_failed, drop: insert_failed, early_drop: 0 });
            words(ports_short(&nat, &[Conntrack { network, before: 2, peak: 102, counts, ..Conntrack::default() }]))
        };
        assert_eq!((said(Whose::Loaders, 0), said(Whose::Server, 9)), (None, None));
        assert_eq!(
            said(Whose::Loaders, 600).unwrap(),
            "nat-ports-short: 600 packets of 700 that begin a connection found no free port; up to 100 of 100 were taken at once"
        );
    }
}
