//! The answer to a scenario's question in one sentence, and what it rests on. It claims what a verdict shows, and no more.

use serde_json::{Map, Value as Json};

use super::ranking::{Group, Ranking, Row};
use crate::{
    format::{ratio, thousands},
    scenario::label,
    stats::{
        Better, Difference, IntervalKind, Metric, Summary, metric_named,
        search::{Found, SearchStatus},
    },
};

/// More groups than this are counted instead of told one by one.
const TOLD: usize = 3;
/// More names than this are counted as well.
const NAMED: usize = 4;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// One sentence.
    pub sentence: String,
    /// What it rests on, a line each.
    pub evidence: Vec<String>,
}

/// Answers a scenario's question.
pub fn answer(summary: &Summary, ranking: &Ranking) -> Answer {
    if !summary.searches.is_empty() {
        return of_search(summary);
    }
    let judged: Vec<&Group> = ranking.groups.iter().filter(|group| group.rows[0].values.is_some()).collect();
    let sentence = match judged.len() {
        0 => "No valid trial: there is nothing to answer with.".to_owned(),
        1..=TOLD => sentence(judged.iter().map(|group| prefixed(group, told(group, ranking.metric))), "; "),
        _ => sentence([counted(&judged, ranking)].into_iter(), ""),
    };
    Answer { sentence, evidence: judged.iter().flat_map(|group| evidence(group, ranking.metric)).collect() }
}

fn sentence(parts: impl Iterator<Item = String>, between: &str) -> String {
    let text = parts.collect::<Vec<_>>().join(between);
    let mut chars = text.chars();
    // Names of strategies keep their small letters.
    match chars.next() {
        Some(first) if text.starts_with("at ") || text.starts_with("no ") || text.starts_with("too ") => {
            format!("{}{}.", first.to_uppercase(), chars.as_str())
        }
        _ => format!("{text}."),
    }
}

fn prefixed(group: &Group, text: String) -> String {
    if group.settings.is_empty() { text } else { format!("at {} {text}", label(&group.settings)) }
}

/// What was shown within a group.
fn told(group: &Group, metric: &Metric) -> String {
    let figure =
        |row: &Row| row.values.as_ref().map_or_else(|| "–".to_owned(), |values| metric.unit.show(values.median));
    let known: Vec<&Row> = group.rows.iter().filter(|row| row.values.is_some()).collect();
    let (best, last) = (known[0], known[known.len() - 1]);
    if known.len() == 1 {
        return format!("{} has {} {}", best.name, metric.label, figure(best));
    }
    let level: Vec<&str> = known.iter().filter(|row| !row.is_shown_worse()).map(|row| &row.name[..]).collect();
    if level.len() == known.len() {
        let too_few = known[1..]
            .iter()
            .all(|row| row.against_best.as_ref().is_some_and(|compared| compared.verdict == Difference::TooFewTrials));
        let span = format!("{} to {}", figure(best), figure(last));
        return if too_few {
            format!("too few trials to show any difference in {} between the {} ({span})", metric.label, known.len())
        } else {
            format!("no difference in {} is shown between the {} ({span})", metric.label, known.len())
        };
    }
    let superlative = if metric.better == Better::Higher { "most" } else { "lowest" };
    let subject = match level.len() {
        1 => format!("{} has the {superlative} {}, {}", level[0], metric.label, figure(best)),
        2..=NAMED => format!(
            "{} have the {superlative} {}, from {} on, with no difference shown from the best",
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
    subject + &worst.unwrap_or_default()
}

/// How a row stands to the best: `is 4.2× that`.
fn times(row: &Row, metric: &Metric, best: &Row) -> String {
    let figure = |row: &Row| row.values.as_ref().map_or(0.0, |values| values.median);
    match row.against_best.as_ref().and_then(|compared| compared.ratio) {
        Some(times) => format!("{} {}× that", are(metric), ratio(times)),
        None => format!("{} {} against {}", are(metric), metric.unit.show(figure(row)), metric.unit.show(figure(best))),
    }
}

/// Accepts are, an accept wait is.
fn are(metric: &Metric) -> &'static str {
    if metric.label.ends_with('s') { "are" } else { "is" }
}

/// `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// With many groups: who is best how often, and where the largest difference is.
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
    let undecided = groups.iter().filter(|group| !group.rows.iter().any(Row::is_shown_worse)).count();
    if undecided == all {
        return format!("no difference in {} is shown in any of the {all} settings", metric.label);
    }
    let best: Vec<String> = wins.iter().take(NAMED).map(|(name, count)| format!("{name} in {count}")).collect();
    let best: Vec<&str> = best.iter().map(String::as_str).collect();
    let mut text = format!("best or not shown to be worse in {}, of {all} settings: {}", metric.label, listed(&best));
    if undecided > 0 {
        text += &format!("; in {undecided} no difference is shown");
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
        are(metric),
        ratio(times),
        best.name
    ))
}

/// The figures behind a group's part.
fn evidence(group: &Group, metric: &Metric) -> Vec<String> {
    let best = &group.rows[0];
    let Some(values) = &best.values else { return Vec::new() };
    let kind = match values.interval {
        IntervalKind::Bootstrap => "95 % interval",
        IntervalKind::Range => "range of the trials",
    };
    let show = |value: f64| metric.unit.show(value);
    let mut lines = vec![prefixed(
        group,
        format!(
            "{}: {} {} ({kind} {} to {}, {} valid trial{})",
            best.name,
            metric.label,
            show(values.median),
            show(values.low),
            show(values.high),
            values.values.len(),
            if values.values.len() == 1 { "" } else { "s" }
        ),
    )];
    lines.extend(group.rows[1..].iter().filter_map(|row| {
        let compared = row.against_best.as_ref()?;
        let ratios = compared.ratio.zip(compared.low.zip(compared.high));
        let ratios =
            ratios.map(|(value, (low, high))| format!("{}× ({} to {}), ", ratio(value), ratio(low), ratio(high)));
        let detectable = compared.detectable_ratio.map(|times| format!("; {}× would have been shown", ratio(times)));
        Some(prefixed(
            group,
            format!(
                "{} against {}: {}p = {} ({} after Holm's correction): {}{}",
                row.name,
                best.name,
                ratios.unwrap_or_default(),
                p_value(compared.p_value),
                p_value(compared.p_adjusted),
                said(compared.verdict),
                detectable.unwrap_or_default()
            ),
        ))
    }));
    lines
}

/// A verdict about a row (`b`) against the best (`a`).
pub(super) fn said(verdict: Difference) -> &'static str {
    match verdict {
        Difference::AHigher => "shown to be lower",
        Difference::BHigher => "shown to be higher",
        Difference::NoDifferenceShown => "no difference shown",
        Difference::TooFewTrials => "too few trials to show any difference",
    }
}

/// A probability with two digits: `0.0079`, `< 0.0001`.
pub fn p_value(p: f64) -> String {
    match p {
        p if p < 0.000_1 => "< 0.0001".to_owned(),
        p if p < 0.01 => format!("{p:.4}"),
        p => format!("{p:.3}"),
    }
}

fn of_search(summary: &Summary) -> Answer {
    let metric = metric_named(&summary.metric);
    let figure = |value: f64| metric.map_or_else(|| value.to_string(), |metric| metric.unit.show(value));
    let mut found: Vec<_> = summary.searches.iter().collect();
    found.sort_by(|one, other| other.within.unwrap_or(0.0).total_cmp(&one.within.unwrap_or(0.0)));
    let name = |cell: &Map<String, Json>| {
        if summary.searches.len() == 1 { String::new() } else { format!("{} ", label(cell)) }
    };
    let part = |search: &&Found| match (search.within, search.beyond) {
        (Some(within), Some(beyond)) => {
            format!("{}{} ({} does not)", name(&search.cell), thousands(within), thousands(beyond))
        }
        (Some(within), None) => format!("{}{} or more", name(&search.cell), thousands(within)),
        (None, Some(beyond)) => format!("{}none ({} does not)", name(&search.cell), thousands(beyond)),
        (None, None) => format!("{}unknown", name(&search.cell)),
    };
    let first = found[0];
    let sentence = format!(
        "The highest {} that keeps {} within {}: {}.",
        first.variable,
        metric.map_or(&summary.metric[..], |metric| metric.label),
        figure(first.limit),
        found.iter().map(part).collect::<Vec<_>>().join(", ")
    );
    let evidence = found.iter().map(|search| {
        let at = |value: Option<f64>, of: Option<f64>| {
            value.map(|value| {
                let of = of.map_or_else(|| "not sustained".to_owned(), figure);
                format!("{of} at {}", thousands(value))
            })
        };
        let ends = [at(search.within, search.within_figure), at(search.beyond, search.beyond_figure)];
        let ends: Vec<String> = ends.into_iter().flatten().collect();
        format!("{}: {}; {}, {} trials", label(&search.cell), ends.join(", "), status(search.status), search.trials)
    });
    Answer { sentence, evidence: evidence.collect() }
}

fn status(status: SearchStatus) -> &'static str {
    match status {
        SearchStatus::Confirmed => "both ends confirmed",
        SearchStatus::NoEndFound => "no higher value was to be tried (search.highest)",
        SearchStatus::NothingWithin => "not even the lowest value tried keeps the limit",
        SearchStatus::TrialsExhausted => "search.max_trials did not suffice",
        SearchStatus::Failed => "its trials failed or were invalid",
        SearchStatus::Unfinished => "the run ended first",
    }
}
