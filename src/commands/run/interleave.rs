//! `run --interleave`: several scenarios as one experiment, whose cells share their blocks.

use std::collections::HashSet;

use anyhow::{Result, bail};

use super::{super::Usage, Chosen};
use crate::{
    format::plural,
    stats::{self, RankSum, SIGNIFICANCE},
};

/// Refuses scenarios whose blocks cannot be planned together, and gives each record a name of its own.
pub(super) fn prepare(chosen: &mut [Chosen]) -> Result<()> {
    if chosen.len() < 2 {
        bail!(Usage("--interleave expects two or more scenarios; one may be given twice".to_owned()));
    }
    for Chosen { source, plan, .. } in &*chosen {
        let (decides, remedy) = match (&plan.whole.stop, &plan.whole.search) {
            (Some(_), _) => (
                "[stop] decides after some blocks whether there are more",
                format!("use --set repetitions={}", plan.whole.repetitions),
            ),
            (None, Some(_)) => ("[search] chooses each trial by the ones before", "remove the table".to_owned()),
            (None, None) => continue,
        };
        bail!(Usage(format!("{}: --interleave plans all blocks beforehand, but {decides}: {remedy}", source.name)));
    }
    let repetitions = chosen[0].plan.whole.repetitions;
    if let Some(other) = chosen.iter().find(|chosen| chosen.plan.whole.repetitions != repetitions) {
        bail!(Usage(format!(
            "{} has {} and {} has {}, so --interleave cannot give each block a trial of every cell: use --set \
             repetitions={}",
            chosen[0].source.name,
            plural(repetitions, "repetition"),
            other.source.name,
            plural(other.plan.whole.repetitions, "repetition"),
            repetitions.max(other.plan.whole.repetitions)
        )));
    }
    let names: Vec<String> = chosen.iter().map(|chosen| chosen.plan.whole.name.clone()).collect();
    for (chosen, name) in chosen.iter_mut().zip(distinct(&names)) {
        chosen.name = name;
    }
    Ok(())
}

/// Numbers names that occur more than once, so that no two are the same, whatever the others are.
fn distinct(names: &[String]) -> Vec<String> {
    let mut taken: HashSet<String> = names.iter().cloned().collect();
    let mut numbered = |name: &String| {
        let free = (1..).map(|number| format!("{name}-{number}")).find(|candidate| taken.insert(candidate.clone()));
        free.expect("numbers do not run out")
    };
    let occurs_once = |name: &String| names.iter().filter(|other| *other == name).count() == 1;
    names.iter().map(|name| if occurs_once(name) { name.clone() } else { numbered(name) }).collect()
}

/// A warning for each later record of an experiment that too few trials could show to differ from the first.
pub(super) fn too_few(chosen: &[Chosen]) -> impl Iterator<Item = String> {
    let (first, others) = chosen.split_first().expect("an experiment has a record");
    others.iter().filter_map(|other| {
        let tests = stats::tests_between(&first.plan, &other.plan);
        let (planned, needed) = (first.plan.whole.repetitions, RankSum::trials_needed(tests, SIGNIFICANCE));
        (tests > 0 && planned < needed).then(|| {
            format!(
                "{} against {}: {} per cell cannot show a difference in {}, however large; use --set repetitions={needed}",
                other.name,
                first.name,
                plural(planned, "trial"),
                plural(tests, "comparison"),
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_records_share_a_name() {
        for (names, expected) in [
            (&["a", "b"][..], &["a", "b"][..]),
            (&["a", "a"], &["a-1", "a-2"]),
            (&["a", "a", "a-1"], &["a-2", "a-3", "a-1"]),
            (&["a-1", "a", "a-1", "a"], &["a-1-1", "a-2", "a-1-2", "a-3"]),
        ] {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(distinct(&names), expected, "{names:?}");
        }
    }
}
