//! Source NAT.

use super::{Better::Higher, Metric, Unit::Count, sampled};
use crate::record::{TrialRecord, Whose};

pub(super) const METRICS: &[Metric] = &[sampled(
    "nat_ports_peak",
    "ports that NAT had taken at once",
    "Most ports of the translated address that connections had at once, by samples: a closed one counts until another takes its port, or its entry goes.",
    Count,
    Higher,
    |trial| ports_taken(trial).map(|taken| taken as f64),
)
.absent("there is no NAT")
.column("NAT\nports")];

/// The most entries at once in the table that NAT takes ports by; `None` without NAT.
pub fn ports_taken(trial: &TrialRecord) -> Option<u64> {
    let nat = trial.nat.as_ref()?;
    let table = trial.conntrack.iter().find(|table| table.network == Whose::Loaders)?;
    Some(nat.taken(table))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Conntrack, Nat};

    #[test]
    fn ports_are_taken_where_packets_are_translated() {
        let table = |network, peak| Conntrack { network, before: 1, peak, ..Conntrack::default() };
        let tables = vec![table(Whose::Server, 900), table(Whose::Loaders, 101)];
        let trial = TrialRecord { nat: Some(Nat::default()), conntrack: tables, ..TrialRecord::default() };
        assert_eq!(ports_taken(&trial), Some(100));
        let nat = Some(Nat { ports: Some(99), ..Nat::default() });
        assert_eq!(
            ports_taken(&TrialRecord { nat, ..trial.clone() }),
            Some(99),
            "an entry that is being made has no port yet"
        );
        assert_eq!(ports_taken(&TrialRecord { nat: None, ..trial }), None);
    }
}
