//! Sums of a trial's histograms.

use std::{collections::HashMap, iter};

use super::Histograms;
use crate::{
    load,
    record::{Counts, histograms::Name},
};

/// All histograms of a metric, whoever measured it.
pub(super) fn of_metric(histograms: &Histograms, metric: &str) -> Counts {
    let mut sum = load::counts(iter::empty());
    for (_, part) in histograms.iter().filter(|(name, _)| Name::parse(name).is_some_and(|name| name.metric == metric)) {
        sum.add(part);
    }
    sum
}

/// All histograms with a name of its own, such as `h2.connect`, whichever population has them.
pub(super) fn of_owner(histograms: &Histograms, own: &str) -> Counts {
    let mut sum = load::counts(iter::empty());
    for (_, part) in histograms.iter().filter(|(name, _)| Name::parse(name).is_some_and(|name| name.own == own)) {
        sum.add(part);
    }
    sum
}

/// The histograms of a metric by what they are of, such as `w0.accept_wait`: what all populations have of it.
pub(super) fn by_own<'a>(histograms: &'a Histograms, metric: &str) -> HashMap<&'a str, Counts> {
    let mut sums: HashMap<&str, Counts> = HashMap::new();
    for (name, part) in histograms {
        if let Some(name) = Name::parse(name).filter(|name| name.metric == metric) {
            sums.entry(name.own).or_insert_with(|| load::counts(iter::empty())).add(part);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sum_has_its_parts() {
        let of_values = |name: &str, count: u64| (name.to_owned(), load::counts([(1_000, count)].into_iter()));
        let histograms: Histograms = [
            of_values("w0.accept_wait", 1),
            of_values("kept.w0.accept_wait", 2),
            of_values("storm.w0.accept_wait", 4),
            of_values("storm.w1.accept_wait", 8),
            of_values("storm.l1.response", 16),
            // A population that is called like a worker.
            of_values("w0.l0.accept_wait", 32),
        ]
        .into();
        assert_eq!(of_metric(&histograms, "accept_wait").len(), 47);
        assert_eq!(of_owner(&histograms, "w0.accept_wait").len(), 7);
        let by_own = by_own(&histograms, "accept_wait");
        let count = |own: &str| by_own.get(own).map(Counts::len);
        let owns = ["w0.accept_wait", "w1.accept_wait", "l0.accept_wait", "l1.response"];
        assert_eq!(owns.map(count), [Some(7), Some(8), Some(32), None]);
    }
}
