//! One sentence about what a run is going to do.

use std::time::Duration;

use crate::{
    format::{plural, seconds},
    load::Sizing,
    scenario::{Bound, Plan, Trial},
    stats::{self, RankSum, SIGNIFICANCE},
};

/// Time per trial for set-up and counting, for the estimated length of a run.
const OVERHEAD: Duration = Duration::from_millis(150);

/// What will run, for how long, and with how many processes.
pub(super) fn outline(plan: &Plan, sizings: &[Sizing]) -> String {
    let fewest = sizings.iter().min_by_key(|sizing| (sizing.loaders, sizing.connections));
    let most = sizings.iter().max_by_key(|sizing| (sizing.loaders, sizing.connections));
    let sizing = match (fewest, most) {
        (Some(fewest), Some(most)) if fewest != most => format!("{fewest}, to {most}"),
        (Some(same), _) => same.to_string(),
        (None, _) => String::new(),
    };
    format!("{}: {}, seed {}; {sizing}", plan.whole.name, amount(plan), plan.whole.seed)
}

/// A warning if there are too few trials to show any difference between cells.
pub(super) fn too_few(plan: &Plan) -> Option<String> {
    let cells: Vec<_> = plan.cells.iter().map(|cell| &cell.values).collect();
    let pairs = stats::compared_pairs(&cells).len();
    let (planned, needed) = (plan.whole.repetitions_at_most(), RankSum::trials_needed(pairs, SIGNIFICANCE));
    (pairs > 0 && plan.whole.search.is_none() && planned < needed).then(|| {
        format!(
            "{}: {} per cell cannot show a difference among {}, however large; use --set repetitions={needed}",
            plan.whole.name,
            plural(planned, "trial"),
            plural(pairs, "pair"),
        )
    })
}

/// How many trials there are and how long they take, if known.
fn amount(plan: &Plan) -> String {
    let whole = &plan.whole;
    let cells = plural(plan.cells.len(), "cell");
    if let Some(search) = &whole.search {
        return format!(
            "{cells}, each searched for the highest {} that keeps {} within {}, with at most {}",
            search.variable,
            search.metric,
            search.limit,
            plural(search.max_trials, "trial")
        );
    }
    let length = |trials: &[Trial]| planned_length(plan, trials).map(seconds);
    if let Some(stop) = &whole.stop {
        let least = length(&plan.trials[..plan.cells.len() * whole.repetitions]);
        let length = least.zip(length(&plan.trials)).map(|(least, most)| format!(", about {least} to {most}"));
        return format!(
            "{cells} × {} to {} until all intervals are within ±{:.1} % = at most {}{}",
            whole.repetitions,
            plural(stop.max_repetitions, "repetition"),
            100.0 * stop.relative_error,
            plural(plan.trials.len(), "trial"),
            length.unwrap_or_default()
        );
    }
    format!(
        "{cells} × {} = {}{}",
        plural(whole.repetitions, "repetition"),
        plural(plan.trials.len(), "trial"),
        length(&plan.trials).map_or_else(String::new, |length| format!(", about {length}"))
    )
}

/// `None` if a cell is bounded by a number of connections, since its duration is unknown.
pub(super) fn planned_length(plan: &Plan, trials: &[Trial]) -> Option<Duration> {
    let trials = trials.iter().map(|trial| {
        let load = &plan.cells[trial.cell].scenario.load;
        match load.bound {
            _ if plan.cells[trial.cell].scenario.fill.is_some() => None,
            Bound::Duration(span) => Some(load.warmup + span + load.hold + OVERHEAD),
            Bound::Connections(_) => None,
        }
    });
    trials.sum()
}
