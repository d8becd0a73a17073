//! Why a run with `[stop]` ended when it did.

use super::{claims, ranking::listed};
use crate::{
    format::{number, plural},
    scenario::{Stop, Until},
    stats::{Decision, Looks, Record, Summary},
};

/// What a run goes on until: `all differences over 10 % are decided`.
pub fn aim(until: Until) -> String {
    match until {
        Until::Decided(difference) => format!("all differences over {} % are decided", number(100.0 * difference)),
        Until::Precise(error) => format!("all intervals are within ±{} %", number(100.0 * error)),
    }
}

/// The same as a sentence about what became of it; `None` if results could not end the run, or there are none.
pub(super) fn sentence(record: &Record, summary: &Summary) -> Option<String> {
    let Stop { until, max_repetitions } = *record.whole.stop.as_ref()?;
    let (ran, aim) = (summary.repetitions, aim(until));
    if record.trials.is_empty() {
        return None;
    }
    let is_reached = match (&summary.decision, &summary.precision) {
        (Some(decision), _) => decision.is_over() && decision.look.is_some(),
        (None, Some(precision)) => precision.narrow && ran >= record.whole.repetitions,
        (None, None) => false,
    };
    let most = plural(max_repetitions, "repetition");
    if is_reached {
        let why = summary.decision.as_ref().map_or_else(|| aim.clone(), |decision| why(decision, &aim));
        return Some(match ran < max_repetitions {
            true => format!("Stopped after {ran} of at most {most}: {why}."),
            false => format!("Stopped after all {most}: {why}."),
        });
    }
    if let Some(Decision { look: None, looks, .. }) = &summary.decision {
        let looks: Vec<String> = looks.iter().map(usize::to_string).collect();
        let ended = if record.was_interrupted() { "Interrupted" } else { "Ended" };
        return Some(format!(
            "{ended} after {}, {ran} of at most {most} of every cell, and not with a look at the results (after {}): nothing is decided.",
            plural(record.trials.len(), "trial"),
            listed(&looks)
        ));
    }
    let ended = if ran < max_repetitions {
        format!("Ended after {ran} of at most {most}, but not {aim}")
    } else {
        format!("Stopped after all {most}, but not {aim}")
    };
    let open = summary.decision.as_ref().map_or_else(String::new, open);
    Some(format!("{ended}{open}."))
}

/// Why a run could stop: what it aims at is reached, as far as there is anything to compare.
fn why(decision: &Decision, aim: &str) -> String {
    let missing = plural(decision.missing, "comparison");
    match (decision.comparisons, decision.missing) {
        (0, 0) => "there is nothing to compare".to_owned(),
        (0, _) => "no two cells that compete have an answer in valid trials".to_owned(),
        (_, 0) => aim.to_owned(),
        (_, 1) => {
            format!("{aim}, except that {missing} could not be made, because a cell has no answer in a valid trial")
        }
        _ => format!("{aim}, except that {missing} could not be made, because cells have no answer in a valid trial"),
    }
}

/// What is not decided: `: 2 of 6 comparisons with the best are not; where none is shown, 1.34× is the smallest ratio all tests could have
/// shown`.
fn open(decision: &Decision) -> String {
    let all = plural(decision.comparisons, "comparison");
    let showable = decision.showable_ratio.map_or_else(String::new, |ratio| {
        format!("; where none is shown, {}", claims::showable_ratio(ratio, ratio, "all tests"))
    });
    let open = decision.undecided();
    format!(": {open} of {all} with the best {} not{showable}", if open == 1 { "is" } else { "are" })
}

/// Follows `Holm's correction` where there were several looks: ` and for 4 looks`.
pub(super) fn for_looks(looks: &Looks) -> String {
    match looks.count() {
        1 => String::new(),
        count => format!(" and for {count} looks at the results"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report::sample::two_strategies, stats::summarize};

    /// What is said of two strategies with five trials each, of which the last `cut` repetitions are missing.
    fn said(times: u64, until: Until, max_repetitions: usize, cut: usize) -> String {
        let mut record = two_strategies(times).record;
        record.whole.answers = vec!["accept_wait_p99".to_owned()];
        record.whole.repetitions = 5;
        record.whole.stop = Some(Stop { until, max_repetitions });
        record.raw.trials.truncate(2 * (5 - cut));
        sentence(&record, &summarize(&record)).unwrap()
    }

    #[test]
    fn a_run_says_why_it_stopped() {
        let decided = |difference: f64| Until::Decided(difference);
        let stopped = "Stopped after 5 of at most 9 repetitions: all differences over 10 % are decided.";
        assert_eq!(said(2, decided(0.1), 9, 0), stopped);
        assert_eq!(said(1, decided(0.1), 9, 0), stopped);
        let all = "Stopped after all 5 repetitions: all differences over 10 % are decided.";
        assert_eq!(said(2, decided(0.1), 5, 0), all);
        let between = "Ended after 8 trials, 4 of at most 9 repetitions of every cell, and not with a look at the results (after 5 and 9): \
                       nothing is decided.";
        assert_eq!(said(2, decided(0.1), 9, 1), between);
        let wide = said(1, Until::Precise(0.0001), 5, 0);
        assert_eq!(wide, "Stopped after all 5 repetitions, but not all intervals are within ±0.01 %.");
    }

    #[test]
    fn a_run_that_found_nothing_says_what_it_could_have() {
        let open = said(1, Until::Decided(0.01), 5, 0);
        let (begin, end) = (
            "Stopped after all 5 repetitions, but not all differences over 1 % are decided: 1 of 1 comparison with the best is not; \
             where none is shown, 1.0",
            "× is the smallest ratio all tests could have shown.",
        );
        assert!(open.starts_with(begin) && open.ends_with(end), "{open}");
    }
}
