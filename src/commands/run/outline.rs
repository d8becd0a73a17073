//! One sentence about what a run is going to do.

use std::time::Duration;

use crate::{
    format::{plural, seconds},
    live::whole_trial,
    load::Sizing,
    report,
    scenario::{
        Plan, Trial,
        keys::{self, AnyKey},
    },
    stats::{self, Looks, RankSum},
};

/// What will run, for how long, and with how many processes.
pub(super) fn outline(plan: &Plan, sizings: &[Sizing]) -> String {
    let fewest = sizings.iter().min_by_key(|sizing| (sizing.loaders(), sizing.connections));
    let most = sizings.iter().max_by_key(|sizing| (sizing.loaders(), sizing.connections));
    let sizing = match (fewest, most) {
        (Some(fewest), Some(most)) if fewest != most => format!("{fewest}, to {most}"),
        (Some(same), _) => same.to_string(),
        (None, _) => String::new(),
    };
    format!("{}: {}, seed {}; {sizing}", plan.whole.name, amount(plan), plan.whole.seed)
}

/// A warning if there are too few trials to show any difference between cells. A plan that repeats nothing tests nothing.
pub(super) fn too_few(plan: &Plan) -> Option<String> {
    let tests = stats::tests_of(plan);
    let level = Looks::of(&plan.whole).level();
    let (planned, needed) = (plan.whole.repetitions_at_most(), RankSum::trials_needed(tests, level));
    let key: &dyn AnyKey = if plan.whole.stop.is_some() { keys::STOP_MAX_REPETITIONS } else { keys::REPETITIONS };
    (tests > 0 && plan.whole.search.is_none() && (2..needed).contains(&planned)).then(|| {
        format!(
            "{}: {} per cell cannot show a difference in {}, however large; use --set {}={needed}",
            plan.whole.name,
            plural(planned, "trial"),
            plural(tests, "comparison"),
            key.path(),
        )
    })
}

/// How many trials there are and how long they take, if known.
fn amount(plan: &Plan) -> String {
    let whole = &plan.whole;
    let cells = plural(plan.cells.len(), "cell");
    if let Some(search) = &whole.search {
        let each = if plan.cells.len() == 1 { "" } else { "each " };
        return format!(
            "{cells}, {each}searched for the highest {} that keeps {} within {}, with at most {}",
            search.variable,
            search.metric,
            search.limit,
            plural(search.max_trials, "trial")
        );
    }
    let length = |trials: &[Trial]| planned_length(plan, trials).map(seconds);
    let least = plan.cells.len() * whole.repetitions;
    if let Some(stop) = &whole.stop
        && least < plan.trials.len()
    {
        let lengths = length(&plan.trials[..least]).zip(length(&plan.trials));
        let lengths = lengths.map(|(least, most)| format!(", at least {least}, all of them {most}"));
        return format!(
            "{cells} × {} to {} = {least} to {}{}, until {}",
            whole.repetitions,
            plural(stop.max_repetitions, "repetition"),
            plural(plan.trials.len(), "trial"),
            lengths.unwrap_or_default(),
            report::stopping::aim(stop.until)
        );
    }
    format!(
        "{cells} × {} = {}{}",
        plural(whole.repetitions, "repetition"),
        plural(plan.trials.len(), "trial"),
        length(&plan.trials).map_or_else(String::new, |length| format!(", at least {length}"))
    )
}

/// `None` if the duration of some cell is unknown: how fast a closed loop connects is not known before.
pub(super) fn planned_length(plan: &Plan, trials: &[Trial]) -> Option<Duration> {
    let trials = trials.iter().map(|trial| plan.cells[trial.cell].scenario.expected_length().map(whole_trial));
    trials.sum()
}

#[cfg(test)]
mod tests {
    use super::{super::super::sources, *};
    use crate::scenario::Source;

    #[test]
    fn repetitions_that_could_show_nothing_are_warned_of() {
        let warning = |repetitions: usize| {
            let text = format!(
                "repetitions = {repetitions}\n[matrix]\n\"server.strategy\" = [\"shared-epoll\", \"reuseport\"]\n"
            );
            too_few(&Plan::read(&crate::scenario::Source { name: "test.toml", text: &text }, &[]).unwrap())
        };
        assert_eq!((warning(1), warning(9)), (None, None));
        assert!(warning(2).unwrap().contains(": 2 trials per cell cannot show a difference in "));
    }

    #[test]
    fn shipped_scenarios_that_repeat_repeat_often_enough() {
        for name in sources::built_in() {
            let text = sources::text(name).unwrap();
            let plan = Plan::read(&text.source(), &[]).unwrap();
            assert_eq!(too_few(&plan), None);
            if plan.whole.stop.is_some() {
                // Otherwise the first look would be wasted.
                let (tests, level) = (stats::tests_of(&plan), Looks::of(&plan.whole).level());
                let needed = RankSum::trials_needed(tests, level);
                assert!(plan.whole.repetitions >= needed, "{name}: {tests} tests need {needed} repetitions");
            }
        }
    }

    #[test]
    fn a_single_cell_is_searched_alone() {
        for (matrix, expected) in [
            ("", "1 cell, searched for the highest load.rate"),
            ("[matrix]\nserver.workers = [1, 2]", "2 cells, each searched"),
        ] {
            let text = format!(
                "name = \"x\"\n[load]\nmode = \"open\"\nrate = 100.0\nduration = \"1s\"\n[search]\nmetric = \"response_p99\"\nlimit = \"20ms\"\n{matrix}\n"
            );
            let plan = Plan::read(&Source { name: "test.toml", text: &text }, &[]).unwrap();
            assert!(amount(&plan).starts_with(expected), "{}", amount(&plan));
        }
    }
}
