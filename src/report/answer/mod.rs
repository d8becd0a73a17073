//! The answer to a scenario's question in one sentence, with its evidence. It claims what a verdict shows and no more.

mod search;

pub use search::{status, value};

use super::{
    claims::{self, TOO_FEW, p_equals, p_value},
    ranking::{Group, Ranking, Row},
};
use crate::{
    format::ratio,
    record::IntervalKind,
    scenario::label,
    stats::{Better, Comparison, Difference, Metric, RankSum, SIGNIFICANCE, Summary},
};

/// More groups than this are counted rather than described one by one.
const DESCRIBED: usize = 3;
/// More names than this are counted rather than listed.
const NAMED: usize = 4;

const NONE_SHOWN: &str = "no difference is shown";
const NOT_TESTED: &str = "differences are not tested";

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// One sentence.
    pub sentence: String,
    /// What supports it, one line each.
    pub evidence: Vec<String>,
}

/// Answers a scenario's question.
pub fn answer(summary: &Summary, ranking: &Ranking) -> Answer {
    if !summary.searches.is_empty() {
        return search::of_search(summary);
    }
    let judged: Vec<&Group> = ranking.groups.iter().filter(|group| group.rows[0].values.is_some()).collect();
    let sentence = match judged.len() {
        0 => format!("No valid trial has {}.", ranking.metric.label),
        1..=DESCRIBED => sentence(&few(&judged, ranking.metric)),
        _ => sentence(&counted(&judged, ranking)),
    };
    let sentence = sentence + &without(summary, ranking, &judged);
    let mut evidence: Vec<String> = judged.iter().flat_map(|group| evidence(group, ranking.metric)).collect();
    evidence.extend(needed(summary, ranking.metric));
    Answer { sentence, evidence }
}

/// Cells without a valid trial, where others have one.
fn without(summary: &Summary, ranking: &Ranking, judged: &[&Group]) -> String {
    let rows = ranking.groups.iter().flat_map(|group| group.rows.iter().map(move |row| (group, row)));
    let missing: Vec<String> = rows
        .filter(|(_, row)| row.values.is_none() && summary.cells[row.cell].valid == 0)
        .map(|(group, row)| {
            if group.settings.is_empty() {
                row.name.clone()
            } else {
                format!("{} at {}", row.name, label(&group.settings))
            }
        })
        .collect();
    match missing.len() {
        0 => String::new(),
        _ if judged.is_empty() => String::new(),
        1..=NAMED => {
            let have = if missing.len() == 1 { "has" } else { "have" };
            format!(" {} {have} no valid trial.", listed(&missing.iter().map(String::as_str).collect::<Vec<_>>()))
        }
        count => format!(" {count} cells have no valid trial."),
    }
}

/// How many trials are needed, where there were too few.
fn needed(summary: &Summary, metric: &Metric) -> Option<String> {
    let compared = summary.comparisons.iter().filter(|comparison| comparison.metric == metric.name);
    let too_few = |comparison: &&Comparison| comparison.compared.verdict == Difference::TooFewTrials;
    let (all, too_few) = (compared.clone().count(), compared.filter(too_few).count());
    (too_few > 0).then(|| {
        let trials = RankSum::trials_needed(all, SIGNIFICANCE);
        format!("{all} pairs of cells are compared: at least {trials} trials per cell are needed to show a difference")
    })
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    // Names of strategies stay in lower case.
    match chars.next() {
        Some(first)
            if ["at ", "best ", "differences ", "no ", "the run", "too "].iter().any(|word| text.starts_with(word)) =>
        {
            format!("{}{}.", first.to_uppercase(), chars.as_str())
        }
        _ => format!("{text}."),
    }
}

/// Group by group, or once if the same is true of all.
fn few(groups: &[&Group], metric: &Metric) -> String {
    let undecided: Vec<Option<&str>> = groups.iter().map(|group| undecided(group)).collect();
    let parts: Vec<String> = match undecided[0] {
        Some(why) if undecided.iter().all(|other| *other == Some(why)) => {
            let spans: Vec<String> = groups.iter().map(|group| prefixed(group, span(group, metric))).collect();
            return format!("{why} in {}: {}", metric.label, spans.join("; "));
        }
        _ => groups
            .iter()
            .zip(undecided)
            .map(|(group, undecided)| {
                let clause = undecided.map_or_else(
                    || decided(group, metric),
                    |why| format!("{why} in {}, {}", metric.label, span(group, metric)),
                );
                prefixed(group, clause)
            })
            .collect(),
    };
    parts.join("; ")
}

/// Rows that have a figure, best first: at least one.
fn known(group: &Group) -> Vec<&Row> {
    group.rows.iter().filter(|row| row.values.is_some()).collect()
}

/// Why nothing is shown within a group; `None` where something is, or there is nothing to compare.
fn undecided(group: &Group) -> Option<&'static str> {
    let others = &known(group)[1..];
    if others.is_empty() || others.iter().any(|row| row.is_shown_worse()) {
        return None;
    }
    let verdicts: Vec<Difference> =
        others.iter().filter_map(|row| row.against_best.as_ref()).map(|compared| compared.verdict).collect();
    Some(match verdicts[..] {
        [] => NOT_TESTED,
        _ if verdicts.contains(&Difference::NoDifferenceShown) => NONE_SHOWN,
        _ => TOO_FEW,
    })
}

/// From the best to the worst median.
fn span(group: &Group, metric: &Metric) -> String {
    let known = known(group);
    let shown = |row: &Row| format!("{} ({})", row.median(metric), row.name);
    format!("medians from {} to {}", shown(known[0]), shown(known[known.len() - 1]))
}

fn prefixed(group: &Group, text: String) -> String {
    if group.settings.is_empty() { text } else { format!("at {}, {text}", label(&group.settings)) }
}

/// What was shown within a group, or its only figure.
fn decided(group: &Group, metric: &Metric) -> String {
    let figure = |row: &Row| row.median(metric);
    let known = known(group);
    let best = known[0];
    if known.len() == 1 {
        return format!("{}'s {} {} {}", best.name, metric.label, metric.is(), figure(best));
    }
    let level: Vec<&str> = known.iter().filter(|row| !row.is_shown_worse()).map(|row| &row.name[..]).collect();
    let superlative = if metric.better == Better::Higher { "most" } else { "lowest" };
    let leaders = match level.len() {
        1 => format!("{} has the {superlative} {}, {}", level[0], metric.label, figure(best)),
        2..=NAMED => format!(
            "{} have the {superlative} {}, {} at best, with no difference shown between them and the best",
            listed(&level),
            metric.label,
            figure(best)
        ),
        count => format!(
            "{} has the {superlative} {}, {}, and {} others are not shown to be worse",
            best.name,
            metric.label,
            figure(best),
            count - 1
        ),
    };
    let worst = known.iter().rev().find(|row| row.is_shown_worse());
    let worst = worst.map(|row| format!("; {}'s {}", row.name, times(row, metric, best)));
    leaders + &worst.unwrap_or_default()
}

/// How a row compares with the best: `is 4.2× that`.
fn times(row: &Row, metric: &Metric, best: &Row) -> String {
    match row.against_best.as_ref().and_then(|compared| compared.ratio) {
        Some(times) => format!("{} {}× that", metric.is(), ratio(times)),
        None => format!("{} {} against {}", metric.is(), row.median(metric), best.median(metric)),
    }
}

/// `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Of many groups: how often each is best, and where the largest difference is.
fn counted(groups: &[&Group], ranking: &Ranking) -> String {
    let metric = ranking.metric;
    let mut wins: Vec<(&str, usize)> = Vec::new();
    for group in groups {
        let worse = |row: &&Row| row.is_shown_worse();
        if group.rows[1..].iter().filter(worse).count() == 0 {
            continue;
        }
        for row in group.rows.iter().filter(|row| row.values.is_some() && !row.is_shown_worse()) {
            match wins.iter_mut().find(|(name, _)| *name == row.name) {
                Some((_, count)) => *count += 1,
                None => wins.push((&row.name, 1)),
            }
        }
    }
    wins.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let all = groups.len();
    let without = groups.iter().filter(|group| !group.rows.iter().any(Row::is_shown_worse)).count();
    if without == all {
        let whys: Vec<&str> = groups.iter().filter_map(|group| undecided(group)).collect();
        let why = [NONE_SHOWN, TOO_FEW].into_iter().find(|why| whys.contains(why)).unwrap_or(NOT_TESTED);
        return format!("{why} in {} in any of the {all} settings", metric.label);
    }
    let best: Vec<String> = wins.iter().take(NAMED).map(|(name, count)| format!("{name} in {count}")).collect();
    let best: Vec<&str> = best.iter().map(String::as_str).collect();
    let mut text = format!("best or not shown to be worse in {}: {} of {all} settings", metric.label, listed(&best));
    if without > 0 {
        text += &format!("; in {without} no difference is shown");
    }
    text + &largest(groups, metric).unwrap_or_default()
}

fn largest(groups: &[&Group], metric: &Metric) -> Option<String> {
    let shown = groups.iter().flat_map(|group| group.rows.iter().map(move |row| (group, row)));
    let shown = shown.filter(|(_, row)| row.is_shown_worse());
    let size =
        |row: &Row| row.against_best.as_ref().and_then(|compared| compared.ratio).map_or(0.0, |ratio| ratio.ln().abs());
    let (group, row) = shown.max_by(|(_, one), (_, other)| size(one).total_cmp(&size(other)))?;
    let best = &group.rows[0];
    let times = row.against_best.as_ref()?.ratio?;
    Some(format!(
        "; the largest difference is at {}, where {}'s {} {}× {}'s",
        label(&group.settings),
        row.name,
        metric.is(),
        ratio(times),
        best.name
    ))
}

/// The figures that support a group's part of the answer.
fn evidence(group: &Group, metric: &Metric) -> Vec<String> {
    let best = &group.rows[0];
    let Some(values) = &best.values else { return Vec::new() };
    let kind = match values.interval {
        IntervalKind::Bootstrap => "95 % interval",
        IntervalKind::Range => "range of the trials",
    };
    let show = |value: f64| best.show(metric, value);
    let mut lines = vec![prefixed(
        group,
        match values.values.len() {
            1 => format!("{}: {} {} (1 valid trial)", best.name, metric.label, show(values.median)),
            trials => format!(
                "{}: {} {} ({kind} {} to {}, {trials} valid trials)",
                best.name,
                metric.label,
                show(values.median),
                show(values.low),
                show(values.high)
            ),
        },
    )];
    lines.extend(group.rows[1..].iter().filter_map(|row| {
        // One line stands for all pairs with too few trials.
        let compared = row.against_best.as_ref().filter(|compared| compared.verdict != Difference::TooFewTrials)?;
        let ratios = compared.ratio.zip(compared.low.zip(compared.high));
        let ratios =
            ratios.map(|(value, (low, high))| format!("{}× ({} to {}), ", ratio(value), ratio(low), ratio(high)));
        let detectable = compared.detectable_ratio.map(|times| format!("; {}× could have been detected", ratio(times)));
        Some(prefixed(
            group,
            format!(
                "{} against {}: {}{} ({} after Holm's correction): {}{}",
                row.name,
                best.name,
                ratios.unwrap_or_default(),
                p_equals(compared.p_value),
                p_value(compared.p_adjusted),
                claims::shown(compared.verdict),
                detectable.unwrap_or_default()
            ),
        ))
    }));
    lines
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;
    use serde_json::json;

    use super::{super::ranking::ranking, *};
    use crate::{
        record::RawRecord,
        scenario::Whole,
        stats::{Bootstrap, CellSummary, Record, compare_cells, summarize},
    };

    /// A summary of cells with made-up accept waits.
    fn summary(cells: &[(serde_json::Value, &[f64])]) -> Summary {
        let whole = Whole::parse("made-up.toml", "metric = \"accept_wait_p99\"").unwrap();
        let mut summary = summarize(&Record { raw: RawRecord::default(), whole });
        summary.cells = cells
            .iter()
            .map(|(cell, values)| CellSummary {
                cell: cell.as_object().unwrap().clone(),
                valid: values.len(),
                invalid: 0,
                failed: 0,
                verdicts: Default::default(),
                accept_wait_method: None,
                stage_means_ns: IndexMap::new(),
                share_by_rank: Vec::new(),
                metrics: Bootstrap::new(1)
                    .estimate(values.to_vec())
                    .map(|values| ("accept_wait_p99_ns".to_owned(), values))
                    .into_iter()
                    .collect(),
            })
            .collect();
        summary.comparisons = compare_cells(&summary.cells, 1);
        summary
    }

    fn answered(cells: &[(serde_json::Value, &[f64])]) -> Answer {
        let summary = summary(cells);
        answer(&summary, &ranking(&summary))
    }

    const LOW: &[f64] = &[1.0e6, 1.1e6, 1.2e6, 1.3e6, 1.4e6];
    const HIGH: &[f64] = &[4.0e6, 4.1e6, 4.8e6, 5.3e6, 5.4e6];

    #[test]
    fn a_shown_difference_comes_with_its_size() {
        let answer = answered(&[(json!({"strategy": "reuseport"}), HIGH), (json!({"strategy": "dispatcher"}), LOW)]);
        assert_eq!(answer.sentence, "dispatcher has the lowest accept wait p99, 1.20 ms; reuseport's is 4.00× that.");
        assert!(answer.evidence[0].contains("95 % interval 1.00 ms to 1.40 ms, 5 valid trials"), "{answer:?}");
        assert!(answer.evidence[1].contains("p = 0.0079") && answer.evidence[1].contains("shown to be higher"));
    }

    #[test]
    fn what_is_not_shown_is_not_claimed() {
        let one = answered(&[(json!({"strategy": "a"}), LOW), (json!({"strategy": "b"}), LOW)]);
        assert_eq!(one.sentence, "No difference is shown in accept wait p99: medians from 1.20 ms (a) to 1.20 ms (b).");
        let few = answered(&[(json!({"strategy": "a"}), &LOW[..3]), (json!({"strategy": "b"}), &HIGH[..3])]);
        assert!(few.sentence.starts_with("Too few trials to show any difference in accept wait p99"), "{few:?}");
        assert!(few.evidence.iter().any(|line| line.contains("at least 4 trials per cell")), "{few:?}");
        let without = answered(&[(json!({"strategy": "a"}), LOW), (json!({"strategy": "b"}), &[])]);
        assert!(without.sentence.ends_with(" b has no valid trial."), "{without:?}");
        assert_eq!(answered(&[]).sentence, "No valid trial has accept wait p99.");
        assert_eq!(answered(&[(json!({}), &LOW[..1])]).sentence, "The run's accept wait p99 is 1.00 ms.");
    }

    #[test]
    fn few_settings_are_described_and_many_are_counted() {
        let cells = |settings: &[&str]| -> Vec<(serde_json::Value, &'static [f64])> {
            let cell = |setting: &&str, strategy: &str| json!({"strategy": strategy, "service_time": setting});
            settings.iter().flat_map(|s| [(cell(s, "a"), LOW), (cell(s, "b"), HIGH)]).collect()
        };
        let two = answered(&cells(&["0us"]));
        assert_eq!(two.sentence, "At service_time=0us, a has the lowest accept wait p99, 1.20 ms; b's is 4.00× that.");
        // Five trials per cell cannot show anything among that many pairs.
        let many = answered(&cells(&["1us", "2us", "3us", "4us", "5us"]));
        assert_eq!(many.sentence, "Too few trials to show any difference in accept wait p99 in any of the 5 settings.");
    }
}
