//! The table of tracked connections.

use super::{
    Better::{Lower, Neither},
    Metric,
    Unit::{Count, Share},
    counted, sampled,
};
use crate::record::{Conntrack, TrialRecord};

const NOTHING_TRACKED: &str = "nothing was tracked";

pub(super) const METRICS: &[Metric] = &[
    sampled(
        "conntrack_peak",
        "peak of tracked connections",
        "Most entries at once in the fullest table of tracked connections of the trial's networks, by samples.",
        Count,
        Neither,
        |trial| fullest(trial).map(|table| table.peak as f64),
    )
    .absent(NOTHING_TRACKED),
    sampled(
        "conntrack_fill",
        "fill of the table of tracked connections",
        "The most tracked connections at once ÷ the most that the table takes (net.netfilter.nf_conntrack_max).",
        Share,
        Lower,
        |trial| fullest(trial)?.fill(),
    )
    .absent(NOTHING_TRACKED)
    .column("tracking\ntable"),
    counted(
        "conntrack_drops",
        "packets that connection tracking dropped",
        "Packets dropped over the trial because no entry could be made for them: the kernel's counter drop.",
        Count,
        Lower,
        |trial| {
            let drops = trial.conntrack.iter().map(|table| Some(table.counts?.drop)).sum::<Option<u64>>()?;
            (!trial.conntrack.is_empty()).then_some(drops as f64)
        },
    )
    .about_failures()
    .absent(NOTHING_TRACKED)
    .column("tracking\ndrops"),
];

fn fullest(trial: &TrialRecord) -> Option<&Conntrack> {
    let fill = |table: &&Conntrack| table.fill().unwrap_or(0.0);
    trial.conntrack.iter().max_by(|one, other| fill(one).total_cmp(&fill(other)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ConntrackCounts;

    #[test]
    fn the_fullest_table_counts_and_drops_of_all() {
        let table = |peak, counts: Option<u64>| Conntrack {
            peak,
            limit: Some(200),
            counts: counts.map(|drop| ConntrackCounts { drop, ..ConntrackCounts::default() }),
            ..Conntrack::default()
        };
        let of = |conntrack: Vec<Conntrack>| {
            let trial = TrialRecord { conntrack, ..TrialRecord::default() };
            [0, 1, 2].map(|metric| METRICS[metric].read(&trial))
        };
        assert_eq!(of(vec![table(50, Some(3)), table(100, Some(4))]), [Some(100.0), Some(0.5), Some(7.0)]);
        assert_eq!(of(vec![table(50, Some(3)), table(100, None)])[2], None, "what one lost is unknown");
        assert_eq!(of(Vec::new()), [None; 3]);
    }
}
