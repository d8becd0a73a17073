//! What comparisons show, in words. A sentence claims what a verdict shows and no more.

use serde_json::{Map, Value as Json};

use super::Ranked;
use crate::{
    format::ratio,
    record::IntervalKind,
    scenario::label,
    stats::{Comparison, Difference, Metric, metric_named},
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

/// A probability as an equation: `p = 0.0079`, `p < 0.0001`.
pub fn p_equals(p: f64) -> String {
    let value = p_value(p);
    if value.starts_with('<') { format!("p {value}") } else { format!("p = {value}") }
}

/// A probability with two digits: `0.0079`, `< 0.0001`.
pub fn p_value(p: f64) -> String {
    match p {
        p if p < 0.000_1 => "< 0.0001".to_owned(),
        p if p < 0.01 => format!("{p:.4}"),
        p => format!("{p:.3}"),
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
    let comparisons: Vec<&Comparison> = ranked
        .summary
        .comparisons
        .iter()
        .filter(|comparison| comparison.metric == name && compete(ranked, &comparison.a, &comparison.b))
        .collect();
    let shown = comparisons.iter().filter(|comparison| comparison.compared.verdict.is_shown());
    let size = |comparison: &Comparison| comparison.compared.ratio.map_or(0.0, |ratio| ratio.ln().abs());
    if let Some(largest) = shown.clone().max_by(|one, other| size(one).total_cmp(&size(other))) {
        let all = shown.count();
        let others = if all > 1 { format!("; the largest of {all} differences shown") } else { String::new() };
        return difference(ranked, metric, largest) + &others;
    }
    let possible: Vec<f64> = comparisons.iter().filter_map(|comparison| comparison.compared.detectable_ratio).collect();
    let no_difference = |comparison: &&&Comparison| comparison.compared.verdict == Difference::NoDifferenceShown;
    if comparisons.iter().filter(no_difference).count() > 0 {
        return format!("No difference in {} is shown{}", metric.label, detectable(trials(ranked), &possible));
    }
    if comparisons.is_empty() { level(ranked, metric) } else { too_few(ranked, metric) }
}

/// Whether two cells differ in the contested key.
fn compete(ranked: &Ranked<'_>, a: &Map<String, Json>, b: &Map<String, Json>) -> bool {
    ranked.ranking.contest.as_ref().is_some_and(|key| a.get(key) != b.get(key))
}

/// `reuseport's accept wait p99 is 4.20× shared-epoll's at service_time=2ms (p = 0.008)`.
fn difference(ranked: &Ranked<'_>, metric: &Metric, comparison: &Comparison) -> String {
    let compared = &comparison.compared;
    let (high, low) = match compared.verdict {
        Difference::AHigher => (&comparison.a, &comparison.b),
        _ => (&comparison.b, &comparison.a),
    };
    let cell = |values: &Map<String, Json>| ranked.cells.iter().find(|cell| cell.summary.cell == *values);
    let name = |values: &Map<String, Json>| cell(values).map_or_else(|| label(values), |cell| cell.name.clone());
    let median =
        |values| cell(values).and_then(|cell| cell.summary.metrics.get(metric.name)).map(|values| values.median);
    let heading = cell(high).map(|cell| ranked.heading(cell.group)).filter(|heading| !heading.is_empty());
    let at = heading.map_or_else(String::new, |heading| format!(" at {heading}"));
    let are = metric.is();
    let bound = if cell(high).is_some_and(|cell| cell.summary.bounds(metric)) { " (upper bound)" } else { "" };
    let label = format!("{}{bound}", metric.label);
    let p = p_equals(compared.p_adjusted);
    match compared.ratio.filter(|ratio| *ratio > 0.0) {
        Some(times) => {
            let times = if times < 1.0 { 1.0 / times } else { times };
            format!("{}'s {label} {are} {}× {}'s{at} ({p})", name(high), ratio(times), name(low))
        }
        None => {
            let show = |values| median(values).map_or_else(|| "–".to_owned(), |value| metric.unit.show(value));
            format!("{}'s {label} {are} {} against {}'s {}{at} ({p})", name(high), show(high), name(low), show(low))
        }
    }
}

/// The most valid trials of any cell.
fn trials(ranked: &Ranked<'_>) -> usize {
    ranked.cells.iter().map(|cell| cell.trials.len()).max().unwrap_or(0)
}

fn detectable(trials: usize, possible: &[f64]) -> String {
    let low = possible.iter().copied().fold(f64::INFINITY, f64::min);
    let high = possible.iter().copied().fold(0.0, f64::max);
    match possible.len() {
        0 => String::new(),
        _ if ratio(low) == ratio(high) => format!("; {trials} trials could have detected {}×", ratio(low)),
        _ => format!("; {trials} trials could have detected {}× to {}×", ratio(low), ratio(high)),
    }
}

fn too_few(ranked: &Ranked<'_>, metric: &Metric) -> String {
    let trials = trials(ranked);
    let fewest = ranked.cells.iter().map(|cell| cell.trials.len()).filter(|trials| *trials > 0).min().unwrap_or(0);
    let of = match (fewest, trials) {
        (_, 1) => "One trial per cell is".to_owned(),
        (fewest, trials) if fewest < trials => format!("{fewest} to {trials} trials per cell are"),
        (_, trials) => format!("{trials} trials per cell are"),
    };
    let medians: Vec<f64> = medians(ranked, metric);
    let show = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| metric.unit.show(value));
    let low = medians.iter().copied().reduce(f64::min);
    let high = medians.iter().copied().reduce(f64::max);
    format!("{of} too few to show a difference in {}; medians are {} to {}", metric.label, show(low), show(high))
}

/// What can be said without a comparison.
fn level(ranked: &Ranked<'_>, metric: &Metric) -> String {
    let known: Vec<_> = ranked.cells.iter().filter_map(|cell| cell.summary.metrics.get(metric.name)).collect();
    match known[..] {
        [] => format!("No valid trial has {}", metric.label),
        [values] => {
            let show = |value: f64| metric.unit.show(value);
            let kind = match (values.values.len(), values.interval) {
                (1, _) => {
                    return format!(
                        "{} {} {} in the one valid trial",
                        capital(metric.label),
                        metric.is(),
                        show(values.median)
                    );
                }
                (_, IntervalKind::Bootstrap) => "95 % interval",
                (_, IntervalKind::Range) => "trials from",
            };
            let (low, high) = (show(values.low), show(values.high));
            format!("{} {} {} ({kind} {low} to {high})", capital(metric.label), metric.is(), show(values.median))
        }
        _ => {
            let medians = medians(ranked, metric);
            let low = medians.iter().copied().fold(f64::INFINITY, f64::min);
            let high = medians.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let show = |value: f64| metric.unit.show(value);
            format!(
                "{} {} {} to {}; nothing could be compared",
                capital(metric.label),
                metric.is(),
                show(low),
                show(high)
            )
        }
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
        sample::{Sample, two_strategies},
    };

    fn finding(reading: &Reading) -> String {
        of_metric(&Ranked::of(reading), "accept_wait_p99_ns")
    }

    #[test]
    fn a_finding_claims_what_was_shown() {
        assert_eq!(finding(&two_strategies(2)), "shared's accept wait p99 is 1.98× reuseport's (p = 0.0079)");
    }

    #[test]
    fn and_nothing_else() {
        let title = finding(&two_strategies(1));
        assert!(
            title.starts_with("No difference in accept wait p99 is shown; 5 trials could have detected 1."),
            "{title}"
        );
        let mut few = Sample::new("");
        for strategy in ["a", "b"] {
            few.trial(json!({ "strategy": strategy }), &[50, 50], 1_000);
        }
        let title = finding(&few.reading());
        assert!(title.starts_with("One trial per cell is too few to show a difference"), "{title}");
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
        assert!(title.starts_with("b's accept wait p99 is 8.99× a's at service_time=2ms (p = "), "{title}");
    }
}
