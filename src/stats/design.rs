//! How two sides' runs were made, and so what a difference between them may be attributed to.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value as Json;

use super::summary::Summary;

/// With at least this many records a side, or boots where kernels differ, these are the unit of tests. Four against four can reach
/// p = 0.029.
pub const RECORDS: usize = 4;

/// How the runs were made, and so what a difference between them may be attributed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Design {
    /// All records are of one interleaved experiment: whatever else changes with time affects both sides alike, and the trial is the
    /// unit.
    Interleaved,
    /// Separate runs, at least four a side: the record is the unit, with the median of its trials.
    Records,
    /// Runs on kernels that differ, at least four boots a side: the boot is the unit, with the median of its records' medians. What one
    /// boot happens to lay out in memory stays until the next, so records of one boot are not independent.
    Boots,
    /// Separate runs, fewer than four a side. Two consecutive runs also differ by drift, so nothing is claimed of sampled metrics.
    Separate,
    /// Runs on kernels that differ, fewer than four boots a side: nothing is claimed of sampled metrics.
    FewBoots,
}

/// Where a record is from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin<'a> {
    experiment: Option<&'a str>,
    /// Of its machine, or of each host by rank.
    machines: Vec<Machine<'a>>,
}

/// What a machine ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Machine<'a> {
    /// Release and build.
    kernel: [Option<&'a str>; 2],
    /// `None` if the record does not say. Such records count as one boot's.
    boot: Option<&'a str>,
}

impl<'a> Machine<'a> {
    fn of(host: &'a Json) -> Self {
        let text = |name: &str| host[name].as_str();
        Self { kernel: [text("kernel"), text("kernel_version")], boot: text("boot") }
    }
}

/// A run's machine, or its hosts by rank.
fn machines(run: &Summary) -> impl Iterator<Item = Machine<'_>> {
    let others = run.host["hosts"].as_array().into_iter().flatten().skip(1);
    std::iter::once(&run.host).chain(others).map(Machine::of)
}

/// The boots of a run's machine, or of its hosts by rank: runs with the same ones are not independent.
pub(super) fn boots(run: &Summary) -> Vec<Option<&str>> {
    machines(run).map(|machine| machine.boot).collect()
}

impl<'a> Origin<'a> {
    fn of(run: &'a Summary) -> Self {
        Self { experiment: run.host["experiment"].as_str(), machines: machines(run).collect() }
    }
}

impl Design {
    /// By where the records of both sides are from.
    pub fn of(base: &[Summary], new: &[Summary]) -> Self {
        let [base, new] = [base, new].map(|runs| runs.iter().map(Origin::of).collect::<Vec<_>>());
        Self::of_origins(&base, &new)
    }

    fn of_origins(base: &[Origin<'_>], new: &[Origin<'_>]) -> Self {
        let kernels = |side: &[Origin<'_>], rank: usize| -> BTreeSet<String> {
            let known = side.iter().filter_map(|origin| origin.machines.get(rank));
            known.map(|machine| format!("{:?}", machine.kernel)).collect()
        };
        let boots = |side: &[Origin<'_>], rank: usize| {
            side.iter().map(|origin| origin.machines.get(rank)?.boot).collect::<BTreeSet<_>>().len()
        };
        let ranks = base.iter().chain(new).map(|origin| origin.machines.len()).max().unwrap_or(0);
        // A host that one side does not have differs in more than its kernel.
        let both_have = |rank: usize| [base, new].iter().all(|side| side.iter().any(|one| one.machines.len() > rank));
        let differing: Vec<usize> =
            (0..ranks).filter(|rank| both_have(*rank) && kernels(base, *rank) != kernels(new, *rank)).collect();
        // Every machine whose kernel differs must have been booted often enough.
        let fewest = differing.iter().map(|rank| boots(base, *rank).min(boots(new, *rank))).min();
        let experiment = base.first().and_then(|first| first.experiment);
        if experiment.is_some() && base.iter().chain(new).all(|origin| origin.experiment == experiment) {
            Self::Interleaved
        } else if let Some(fewest) = fewest {
            if fewest >= RECORDS { Self::Boots } else { Self::FewBoots }
        } else if base.len().min(new.len()) >= RECORDS {
            Self::Records
        } else {
            Self::Separate
        }
    }

    /// What a side has several values of.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Interleaved | Self::Separate => "trial",
            Self::Records => "record",
            Self::Boots | Self::FewBoots => "boot",
        }
    }

    /// Whether a difference may be attributed to what distinguishes the sides.
    pub fn claims(self) -> bool {
        !matches!(self, Self::Separate | Self::FewBoots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on<'a>(kernel: &'a str, boot: Option<&'a str>) -> Origin<'a> {
        Origin { experiment: None, machines: vec![Machine { kernel: [Some(kernel), Some("#1")], boot }] }
    }

    fn of(experiment: Option<&str>) -> Origin<'_> {
        Origin { experiment, ..on("6.1", Some("x")) }
    }

    #[test]
    fn the_design_follows_from_experiments_and_counts() {
        let (x, y, none) = (of(Some("x")), of(Some("y")), of(None));
        for (base, new, design) in [
            (vec![&x], vec![&x], Design::Interleaved),
            (vec![&x, &x], vec![&x], Design::Interleaved),
            (vec![&x], vec![&y], Design::Separate),
            (vec![&none], vec![&none], Design::Separate),
            (vec![&x, &x, &x], vec![&x, &x, &y], Design::Separate),
            (vec![&none; 4], vec![&none; 3], Design::Separate),
            (vec![&none; 4], vec![&none; 4], Design::Records),
            (vec![&x, &x, &y, &y], vec![&x, &x, &y, &y], Design::Records),
        ] {
            let [base, new] = [base, new].map(|side| side.into_iter().cloned().collect::<Vec<_>>());
            assert_eq!(Design::of_origins(&base, &new), design, "{base:?} {new:?}");
        }
    }

    #[test]
    fn on_kernels_that_differ_boots_count_and_not_records() {
        const BOOTS: [Option<&str>; 5] = [Some("a"), Some("b"), Some("c"), Some("d"), Some("e")];
        let side = |kernel, boots: &[Option<&'static str>]| -> Vec<Origin<'_>> {
            boots.iter().map(|boot| on(kernel, *boot)).collect()
        };
        let design = |base: &[Origin<'_>], new: &[Origin<'_>]| Design::of_origins(base, new);
        assert_eq!(design(&side("6.1", &BOOTS[..4]), &side("6.12", &BOOTS[..4])), Design::Boots);
        assert_eq!(design(&side("6.1", &BOOTS[..3]), &side("6.12", &BOOTS)), Design::FewBoots);
        // Twenty records of two boots are two values.
        let twice: Vec<_> = BOOTS[..2].repeat(10);
        assert_eq!(design(&side("6.1", &twice), &side("6.12", &twice)), Design::FewBoots);
        assert_eq!(design(&side("6.1", &[None; 9]), &side("6.12", &[None; 9])), Design::FewBoots, "boots unknown");
        // The same release, built again, is another kernel.
        let again = |boot: &Option<&'static str>| {
            let mut origin = on("6.1", *boot);
            origin.machines[0].kernel[1] = Some("#2");
            origin
        };
        let rebuilt: Vec<_> = BOOTS.iter().map(again).collect();
        assert_eq!(design(&side("6.1", &BOOTS), &rebuilt), Design::Boots);
        // Of a job's hosts, each whose kernel differs must have been booted.
        let job = |kernel: &'static str,
                   server: &[Option<&'static str>],
                   client: &[Option<&'static str>]|
         -> Vec<Origin<'_>> {
            let of = |(server, client): (&Option<&'static str>, &Option<&'static str>)| Origin {
                machines: [on("6.1", *server).machines, on(kernel, *client).machines].concat(),
                ..on("", None)
            };
            server.iter().zip(client).map(of).collect()
        };
        let same = [Some("a"); 4];
        assert_eq!(design(&job("6.1", &same, &BOOTS[..4]), &job("6.12", &same, &BOOTS[..4])), Design::Boots);
        assert_eq!(design(&job("6.1", &BOOTS[..4], &same), &job("6.12", &BOOTS[..4], &same)), Design::FewBoots);
        assert_eq!(design(&job("6.1", &BOOTS[..4], &same), &job("6.1", &BOOTS[..4], &same)), Design::Records);
        // A single machine and a job are different, but not by their kernels.
        assert_eq!(design(&side("6.1", &same), &job("6.1", &same, &same)), Design::Records);
        assert_eq!(design(&side("6.1", &same[..1]), &job("6.1", &same[..1], &same[..1])), Design::Separate);
        // Of the same kernels, records count.
        let mixed = [side("6.1", &BOOTS[..2]), side("6.12", &BOOTS[2..])].concat();
        assert_eq!(design(&mixed, &mixed), Design::Records);
    }
}
