//! What comparisons show, in words. A sentence claims what a verdict shows and no more.

use serde_json::{Map, Value as Json};

pub use crate::format::{p_equals, p_value};

use super::{
    Ranked, answer,
    ranking::{by_distance, compared_with, distance, is_setting, ranking, short},
};
use crate::{
    format::{plural, ratio},
    record::{IntervalKind, Values},
    stats::{Better, Compared, Comparison, Difference, Metric, metric_named},
};

/// For comparisons in which no outcome could have shown a difference.
pub const TOO_FEW: &str = "too few trials to show any difference";

/// What is shown about cell `b` against cell `a`, as a clause.
pub fn shown(verdict: Difference) -> &'static str {
    match verdict {
        Difference::AHigher => "shown to be lower",
        Difference::BHigher => "shown to be higher",
        Difference::NoDifferenceShown => "no difference shown",
        Difference::TooFewTrials => TOO_FEW,
    }
}

/// The same in a word or two.
pub fn relation(verdict: Difference) -> &'static str {
    match verdict {
        Difference::AHigher => "lower",
        Difference::BHigher => "higher",
        Difference::NoDifferenceShown => "not shown",
        Difference::TooFewTrials => "too few trials",
    }
}

/// Capitalizes the first letter.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// What the comparisons of a metric show within groups of competing cells, in one sentence without a full stop.
pub fn of_metric(ranked: &Ranked<'_>, name: &str) -> String {
    let Some(metric) = metric_named(name) else { return name.to_owned() };
    if metric.is_loss {
        return answer::lost(ranked.record, ranked.summary, &ranking(ranked.summary, metric));
    }
    if !metric.is_tested() {
        return answer::exactly(&ranking(ranked.summary, metric));
    }
    let of_metric = ranking(ranked.summary, metric);
    if of_metric.groups.iter().any(|group| group.waits.is_some()) {
        return answer::sampled(ranked.summary, &of_metric);
    }
    let comparisons: Vec<&Comparison> =
        ranked.summary.comparisons.iter().filter(|comparison| comparison.metric == name).collect();
    let shown = comparisons.iter().filter(|comparison| comparison.compared.verdict.is_shown());
    let median = |cell: &Map<String, Json>| median(ranked, metric, cell).unwrap_or(f64::NAN);
    let size = |comparison: &Comparison| distance(median(&comparison.a), median(&comparison.b));
    if let Some(largest) = shown.clone().max_by(|one, other| by_distance(size(one), size(other))) {
        let all = shown.count();
        let others = if all > 1 { format!("; the largest of {all} differences shown") } else { String::new() };
        return difference(ranked, metric, largest) + &others;
    }
    let is_undecided = |compared: &&Compared| compared.verdict == Difference::NoDifferenceShown;
    if comparisons.iter().any(|comparison| is_undecided(&&comparison.compared)) {
        // Of the pairs that the answer is about.
        let with_best =
            of_metric.groups.iter().flat_map(|group| &group.rows).filter_map(|row| row.against_best.as_ref());
        let possible: Vec<f64> =
            with_best.filter(is_undecided).filter_map(|compared| compared.showable_ratio).collect();
        let showable = showable(trials(ranked), &possible);
        let best = if showable.is_empty() || of_metric.groups.iter().all(|group| group.rows.len() < 3) {
            ""
        } else if metric.better == Better::Lower {
            " against the lowest"
        } else {
            " against the highest"
        };
        return format!("No difference in {} is shown{showable}{best}", metric.label);
    }
    if comparisons.is_empty() { level(ranked, metric) } else { too_few(ranked, metric) }
}

/// `reuseport's accept wait p99 is 4.20× shared-epoll's at service_time = 2ms (p = 0.008)`.
fn difference(ranked: &Ranked<'_>, metric: &Metric, comparison: &Comparison) -> String {
    let compared = &comparison.compared;
    let (high, low) = match compared.verdict {
        Difference::AHigher => (&comparison.a, &comparison.b),
        _ => (&comparison.b, &comparison.a),
    };
    let cell = |values: &Map<String, Json>| ranked.cells.iter().find(|cell| cell.summary.cell == *values);
    let name = |values: &Map<String, Json>| cell(values).map_or_else(|| short(values), |cell| cell.name.clone());
    let heading = cell(high).map(|cell| ranked.heading(cell.group)).filter(|heading| !heading.is_empty());
    let at = heading.map_or_else(String::new, |heading| format!(" at {heading}"));
    let are = metric.is();
    let bound = if cell(high).is_some_and(|cell| cell.summary.bounds(metric)) { " (upper bound)" } else { "" };
    let label = format!("{}{bound}", metric.label);
    let subject = match name(high) {
        name if is_setting(&name) => format!("{} with {name}", capital(&label)),
        name => format!("{name}'s {label}"),
    };
    let other = compared_with(&name(low), metric);
    let p = p_equals(compared.p_adjusted);
    match compared.ratio {
        Some(times) => {
            let times = if times < 1.0 { 1.0 / times } else { times };
            format!("{subject} {are} {}× {other}{at} ({p})", ratio(times))
        }
        None => {
            let show =
                |cell| median(ranked, metric, cell).map_or_else(|| "–".to_owned(), |value| metric.unit.show(value));
            format!("{subject} {are} {} against {other}, {}{at} ({p})", show(high), show(low))
        }
    }
}

/// A cell's median, if it has one.
fn median(ranked: &Ranked<'_>, metric: &Metric, values: &Map<String, Json>) -> Option<f64> {
    let cell = ranked.cells.iter().find(|cell| cell.summary.cell == *values)?;
    Some(cell.summary.metrics.get(metric.name)?.median)
}

/// The most valid trials of any cell.
fn trials(ranked: &Ranked<'_>) -> usize {
    ranked.cells.iter().map(|cell| cell.trials.len()).max().unwrap_or(0)
}

fn showable(trials: usize, possible: &[f64]) -> String {
    let low = possible.iter().copied().fold(f64::INFINITY, f64::min);
    let high = possible.iter().copied().fold(0.0, f64::max);
    if possible.is_empty() {
        return String::new();
    }
    format!("; {}", showable_ratio(low, high, &plural(trials, "trial")))
}

/// What could have been shown where no difference is: `1.20× to 1.30× are the smallest ratios the test could have shown`. These are of
/// the sample at hand, with its medians moved apart. New data with such a true ratio would not always show it, so that this is no power
/// of a test, and must not sound like it.
pub fn showable_ratio(low: f64, high: f64, by: &str) -> String {
    // Values that do not scatter. Otherwise what rounds to 1.00 is rounded up, since 1.00× would mean no difference.
    let times = |value: f64| ratio(value.max(1.01));
    match (times(low), times(high)) {
        _ if high <= 1.0 => format!("{by} could have shown any difference"),
        (low, high) if low == high => format!("{high}× is the smallest ratio {by} could have shown"),
        (low, high) => format!("{low}× to {high}× are the smallest ratios {by} could have shown"),
    }
}

fn too_few(ranked: &Ranked<'_>, metric: &Metric) -> String {
    let trials = trials(ranked);
    if ranked.summary.is_one_trial_per_cell() {
        return format!(
            "{}: {}; one trial per cell: differences are not tested",
            capital(metric.label),
            span(ranked, metric)
        );
    }
    let fewest = ranked.cells.iter().map(|cell| cell.trials.len()).filter(|trials| *trials > 0).min().unwrap_or(0);
    format!("{} a difference in {}; {}", too_few_trials(fewest, trials), metric.label, span(ranked, metric))
}

/// How few valid trials cells have: `4 to 5 trials per cell are too few to show`.
pub fn too_few_trials(fewest: usize, most: usize) -> String {
    match (fewest, most) {
        (fewest, most) if fewest < most => format!("{fewest} to {most} trials per cell are too few to show"),
        (_, 1) => "1 valid trial per cell is too few to show".to_owned(),
        (_, most) => format!("{most} trials per cell are too few to show"),
    }
}

/// From which to which the medians reach: `medians range from 1.20 ms to 1.40 ms`.
fn span(ranked: &Ranked<'_>, metric: &Metric) -> String {
    let medians = medians(ranked, metric);
    let ends = medians.iter().copied().reduce(f64::min).zip(medians.iter().copied().reduce(f64::max));
    let Some((low, high)) = ends else { return "no cell has a figure".to_owned() };
    match (metric.unit.show(low), metric.unit.show(high)) {
        _ if low.is_infinite() => "no median was reached".to_owned(),
        (low, high) if low == high => format!("all medians are {low}"),
        (low, high) => format!("medians range from {low} to {high}"),
    }
}

/// Between what a median lies: `95 % interval 1.2 ms to 1.4 ms`, or, of too few trials for an interval, `trials from … to …`.
pub fn interval(values: &Values, show: impl Fn(f64) -> String) -> String {
    let (low, high) = (show(values.low), show(values.high));
    match values.interval {
        IntervalKind::Bootstrap => format!("95 % interval {low} to {high}"),
        IntervalKind::Range if low == high => format!("{low} in all trials"),
        IntervalKind::Range => format!("trials from {low} to {high}"),
    }
}

/// What can be said without a comparison.
fn level(ranked: &Ranked<'_>, metric: &Metric) -> String {
    let known: Vec<_> = ranked.cells.iter().filter_map(|cell| cell.summary.metrics.get(metric.name)).collect();
    match known[..] {
        [] => format!("No valid trial measured {}", metric.label),
        [values] => {
            let show = |value: f64| metric.unit.show(value);
            let figure = format!("{} {} {}", capital(metric.label), metric.is(), show(values.median));
            match values.values.len() {
                1 => format!("{figure} in the one valid trial"),
                _ => format!("{figure} ({})", interval(values, show)),
            }
        }
        _ => format!("{}: {}; nothing could be compared", capital(metric.label), span(ranked, metric)),
    }
}

fn medians(ranked: &Ranked<'_>, metric: &Metric) -> Vec<f64> {
    let known = ranked.cells.iter().filter_map(|cell| cell.summary.metrics.get(metric.name));
    known.map(|values| values.median).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::{
        Reading,
        sample::{Sample, beside_nginx, two_strategies},
    };

    fn finding(reading: &Reading) -> String {
        of_metric(&Ranked::of(reading), "accept_wait_p99_ns")
    }

    #[test]
    fn a_finding_claims_what_was_shown() {
        assert_eq!(finding(&two_strategies(2)), "shared's accept wait p99 is 1.98× reuseport's (p = 0.0079)");
    }

    #[test]
    fn waits_that_end_differently_are_named_apart() {
        assert_eq!(
            finding(&beside_nginx()),
            "Of waits until the serving worker has the connection, reuseport has the lowest accept wait p99, 958 µs; shared's is 2.24× that; \
             of waits until accept returned, nginx has the lowest accept wait p99, 244 µs; nginx reuseport's is 1.98× that; of waits until an \
             io_uring completed the accept, a ring alone has a figure, accept wait p99 125 µs"
        );
    }

    #[test]
    fn and_nothing_else() {
        let title = finding(&two_strategies(1));
        assert!(
            title.starts_with("No difference in accept wait p99 is shown; 1.")
                && title.ends_with("× is the smallest ratio 5 trials could have shown"),
            "{title}"
        );
        let mut few = Sample::new("");
        for strategy in ["a", "b"] {
            few.trial(json!({ "strategy": strategy }), &[50, 50], 1_000);
        }
        let title = finding(&few.reading());
        assert!(title.starts_with("Accept wait p99: all medians are "), "{title}");
        assert!(title.ends_with("; one trial per cell: differences are not tested"), "{title}");
    }

    /// The answer is about the pairs with the best, and a section's finding must not say otherwise.
    #[test]
    fn what_could_have_been_shown_is_what_the_answer_says() {
        let mut sample = Sample::new("");
        let waits: [[u64; 6]; 3] = [
            [1_000, 1_100, 1_210, 1_330, 1_460, 1_610],
            [1_010, 1_130, 1_200, 1_340, 1_450, 1_640],
            [700, 1_000, 1_300, 1_500, 1_900, 2_600],
        ];
        for repetition in 0..6 {
            for (strategy, waits) in ["a", "b", "c"].into_iter().zip(waits) {
                sample.trial(json!({ "strategy": strategy }), &[50, 50], waits[repetition]);
            }
        }
        let reading = sample.reading();
        let title = finding(&reading);
        let ratios = title.strip_prefix("No difference in accept wait p99 is shown; ");
        let ratios = ratios.and_then(|rest| rest.strip_suffix(" 6 trials could have shown against the lowest"));
        let Some(ratios) = ratios else { panic!("{title}") };
        let ranked = Ranked::of(&reading);
        let said =
            answer::sampled(ranked.summary, &ranking(ranked.summary, metric_named("accept_wait_p99_ns").unwrap()));
        assert!(said.contains(&format!("({ratios} the test could have shown)")), "{said} {title}");
    }

    #[test]
    fn what_could_have_been_shown_is_a_difference() {
        let of = |low, high| showable_ratio(low, high, "the test");
        assert_eq!(of(1.0, 1.0), "the test could have shown any difference");
        assert_eq!(of(1.0, 1.004), "1.01× is the smallest ratio the test could have shown");
        assert_eq!(of(1.0, 1.2), "1.01× to 1.20× are the smallest ratios the test could have shown");
        assert_eq!(of(1.2, 1.2), "1.20× is the smallest ratio the test could have shown");
    }

    #[test]
    fn the_setting_is_named() {
        let mut sample = Sample::new("");
        for repetition in 0..5 {
            for (strategy, service_time, wait) in
                [("a", "0us", 1_000), ("b", "0us", 1_000), ("a", "2ms", 1_000), ("b", "2ms", 9_000)]
            {
                sample.trial(
                    json!({ "strategy": strategy, "service_time": service_time }),
                    &[50, 50],
                    wait + repetition,
                );
            }
        }
        let title = finding(&sample.reading());
        assert!(title.starts_with("b's accept wait p99 is 8.99× a's at service_time = 2ms (p = "), "{title}");
    }
}
