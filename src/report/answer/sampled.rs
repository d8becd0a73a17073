//! What a sampled metric answers: whether a difference was shown, how large it is, and which could have been.

use std::collections::BTreeSet;

use super::{NAMED, the};
use crate::{
    format::{all_of, plural, ratio},
    report::{
        claims::{self, capital, p_equals, p_value},
        ranking::{Elsewhere, Group, Ranking, Row, by_distance, compared_with, distance, listed, whose},
        stopping,
    },
    stats::{Better, Difference, Looks, Metric, RankSum, Summary},
};

/// More groups than this are counted rather than described one by one.
const DESCRIBED: usize = 3;

/// The medians of more cells than this are not listed one by one.
const SPANNED: usize = 6;

/// What is shown within a group.
#[derive(Debug, Clone, PartialEq)]
enum Finding {
    /// There is one figure, and nothing to compare it with.
    Alone,
    /// Some cells were shown to differ from the best.
    Shown,
    /// Only cells other than the best were shown to differ.
    Elsewhere,
    /// No difference was shown; the smallest and the largest of the ratios that the tests could just have shown.
    NotShown(Option<(f64, f64)>),
    /// No outcome could have shown a difference.
    TooFew,
    /// Nothing was compared.
    NotTested,
}

impl Finding {
    fn is_shown(&self) -> bool {
        matches!(self, Self::Shown | Self::Elsewhere)
    }
}

/// The sentence without a full stop.
pub fn clause(summary: &Summary, ranking: &Ranking) -> String {
    let metric = ranking.metric;
    let judged: Vec<&Group> = ranking.groups.iter().filter(|group| !known(group).is_empty()).collect();
    let findings: Vec<Finding> = judged.iter().map(|group| finding(group)).collect();
    if let ([group], [Finding::Alone]) = (&judged[..], &findings[..]) {
        return alone(group, metric);
    }
    if !findings.iter().any(Finding::is_shown) {
        return undecided(summary, metric, &judged, &findings);
    }
    let text = if judged.len() <= DESCRIBED {
        let parts =
            judged.iter().zip(&findings).map(|(group, finding)| prefixed(group, of_group(group, finding, metric)));
        parts.collect::<Vec<_>>().join("; ")
    } else {
        counted(&judged, metric)
    };
    sentence_case(&text)
}

/// Where other metrics name another winner than the headline, or the only one.
pub(super) fn disagreement(headline: &Ranking, others: &[Ranking]) -> String {
    others.iter().filter_map(|other| against(headline, other)).map(|text| format!(" But {text}.")).collect()
}

/// The groups in which another metric disagrees.
fn against(headline: &Ranking, other: &Ranking) -> Option<String> {
    let pairs = headline.groups.iter().filter_map(|group| {
        // Groups of other cells, because their waits are not to be compared, say nothing about these.
        let of = |group: &Group| group.rows.iter().map(|row| row.cell).collect::<BTreeSet<_>>();
        let same = other.groups.iter().find(|same| same.settings == group.settings && of(same) == of(group))?;
        (!known(group).is_empty() && !known(same).is_empty()).then_some((group, same))
    });
    let disagrees = |(one, other): &(&Group, &Group)| match (finding(one), finding(other)) {
        (one_shows, other_shows) if one_shows.is_shown() && other_shows.is_shown() => {
            !leaders(one).iter().any(|name| leaders(other).contains(name))
        }
        (shows, Finding::NotShown(_)) | (Finding::NotShown(_), shows) => shows.is_shown(),
        _ => false,
    };
    let differing: Vec<_> = pairs.filter(disagrees).collect();
    match differing.len() {
        0 => None,
        1..=DESCRIBED => {
            let parts =
                differing.iter().map(|(_, group)| prefixed(group, of_group(group, &finding(group), other.metric)));
            Some(parts.collect::<Vec<_>>().join("; "))
        }
        some => Some(format!("{} says otherwise in {some} of {} settings", other.metric.label, headline.groups.len())),
    }
}

/// Rows that have a figure, best first.
fn known(group: &Group) -> Vec<&Row> {
    group.rows.iter().filter(|row| row.values.is_some()).collect()
}

/// The cells that are best, or not shown to be worse than the best.
fn leaders(group: &Group) -> Vec<&str> {
    known(group).iter().filter(|row| !row.is_worse).map(|row| &row.name[..]).collect()
}

fn finding(group: &Group) -> Finding {
    let known = known(group);
    let Some(others) = known.get(1..).filter(|others| !others.is_empty()) else { return Finding::Alone };
    if others.iter().any(|row| row.is_worse) {
        return Finding::Shown;
    }
    if group.elsewhere.is_some() {
        return Finding::Elsewhere;
    }
    let compared = || others.iter().filter_map(|row| row.against_best.as_ref());
    let not_shown = compared().filter(|compared| compared.verdict == Difference::NoDifferenceShown);
    if compared().count() == 0 {
        Finding::NotTested
    } else if not_shown.clone().count() == 0 {
        Finding::TooFew
    } else {
        let ratios: Vec<f64> = not_shown.filter_map(|compared| compared.showable_ratio).collect();
        let low = ratios.iter().copied().reduce(f64::min);
        Finding::NotShown(low.zip(ratios.iter().copied().reduce(f64::max)))
    }
}

/// The only cell's figure.
fn alone(group: &Group, metric: &Metric) -> String {
    let row = known(group)[0];
    let trials = row.values.as_ref().map_or(0, |values| values.values.len());
    let of = if trials == 1 { " in the one valid trial".to_owned() } else { format!(" (median of {trials} trials)") };
    let subject = if group.rows.len() == 1 && group.settings.is_empty() {
        the(metric)
    } else {
        format!("{}: {}", row.full_name(group), metric.label)
    };
    format!("{subject} {} {}{of}", metric.is(), row.median(metric))
}

/// Where no group shows anything: why, and the medians.
fn undecided(summary: &Summary, metric: &Metric, groups: &[&Group], findings: &[Finding]) -> String {
    let ratios = findings.iter().filter_map(|finding| match finding {
        Finding::NotShown(ratios) => Some(*ratios),
        _ => None,
    });
    if ratios.clone().count() > 0 {
        let known = || ratios.clone().flatten();
        let low = known().map(|(low, _)| low).reduce(f64::min);
        let possible = showable(low.zip(known().map(|(_, high)| high).reduce(f64::max)));
        return format!("No difference is shown in {} ({possible}): {}", metric.label, medians(groups, metric));
    }
    let figures = format!("{}: {}", capital(metric.label), medians(groups, metric));
    if findings.contains(&Finding::TooFew) && !summary.is_one_trial_per_cell() {
        format!("{figures}; {}", too_few(summary, metric, groups))
    } else {
        figures
    }
}

/// Whether cells could be compared but for the repetitions, of which none were to be made.
pub(super) fn is_untested(summary: &Summary, ranking: &Ranking) -> bool {
    let is_sampled = ranking.metric.is_tested() && !ranking.metric.of_all_trials;
    is_sampled && summary.is_one_trial_per_cell() && ranking.groups.iter().any(|group| known(group).len() > 1)
}

/// How many trials there are, and how many it takes.
fn too_few(summary: &Summary, metric: &Metric, groups: &[&Group]) -> String {
    let trials = groups.iter().flat_map(|group| known(group));
    let trials = trials.filter_map(|row| Some(row.values.as_ref()?.values.len()));
    let (fewest, most) = (trials.clone().min().unwrap_or(0), trials.max().unwrap_or(0));
    let needed = RankSum::trials_needed(summary.tests(metric.name), summary.looks.level());
    format!("{} any difference, which takes at least {needed}", claims::too_few_trials(fewest, most))
}

/// The medians of all groups, or from which to which they reach if there are many.
fn medians(groups: &[&Group], metric: &Metric) -> String {
    let cells: usize = groups.iter().map(|group| known(group).len()).sum();
    // Of many cells in a few groups, each group's ends are few enough.
    let spanned = groups.len() > 1 && groups.iter().all(|group| known(group).len() > SPANNED);
    if groups.len() > DESCRIBED || cells > DESCRIBED * NAMED && !spanned {
        let rows = || groups.iter().flat_map(|group| known(group).into_iter().map(move |row| (*group, row)));
        let median = |row: &Row| row.values.as_ref().map_or(f64::NAN, |values| values.median);
        let by_median = |one: &(&Group, &Row), other: &(&Group, &Row)| median(one.1).total_cmp(&median(other.1));
        let Some((low, high)) = rows().min_by(by_median).zip(rows().max_by(by_median)) else { return String::new() };
        if low.1.median(metric) == high.1.median(metric) {
            let all = groups.iter().map(|group| group.rows.len()).sum();
            return format!("{} in {}", low.1.median(metric), in_cells(cells, all));
        }
        let shown = |(group, row): (&Group, &Row)| with_name(&row.median(metric), &row.full_name(group));
        return format!("from {} to {}, {cells} cells", shown(low), shown(high));
    }
    groups.iter().map(|group| prefixed(group, span(group, metric))).collect::<Vec<_>>().join("; ")
}

/// The medians of a group.
fn span(group: &Group, metric: &Metric) -> String {
    let known = known(group);
    let shown = |row: &&Row| with_name(&row.median(metric), &row.name);
    match &known[..] {
        [first, .., last] if known.len() > SPANNED => {
            let end = |row: &&Row| {
                let median = row.median(metric);
                let others = known.iter().filter(|other| other.median(metric) == median).count() - 1;
                let more = if others > 0 { format!(" and {others} more") } else { String::new() };
                with_name(&median, &format!("{}{more}", row.name))
            };
            match (end(first), end(last)) {
                _ if first.median(metric) == last.median(metric) => {
                    format!("{} in {}", first.median(metric), in_cells(known.len(), group.rows.len()))
                }
                (first, last) => format!("from {first} to {last}"),
            }
        }
        known => known.iter().map(shown).collect::<Vec<_>>().join(", "),
    }
}

/// `all 6 cells`, or `5 of 6 cells` where others have no figure.
fn in_cells(known: usize, all: usize) -> String {
    if known == all { format!("{} cells", all_of(all)) } else { format!("{known} of {all} cells") }
}

/// A median with its cell: `1.20 ms (a)`, `not reached (a, 1.3 % lost)`.
pub(super) fn with_name(median: &str, name: &str) -> String {
    match median.strip_suffix(')').and_then(|median| median.split_once(" (")) {
        Some((median, lost)) => format!("{median} ({name}, {lost})"),
        None => format!("{median} ({name})"),
    }
}

fn showable(ratios: Option<(f64, f64)>) -> String {
    match ratios {
        None => "which ratio could have been shown is unknown, as some values are 0 or not reached".to_owned(),
        Some((low, high)) => claims::showable_ratio(low, high, "the test"),
    }
}

fn prefixed(group: &Group, text: String) -> String {
    group.prefix() + &text
}

/// What is shown within a group.
fn of_group(group: &Group, finding: &Finding, metric: &Metric) -> String {
    match finding {
        Finding::Shown => shown(group, metric),
        Finding::Elsewhere => elsewhere(group, metric),
        Finding::Alone => {
            let row = known(group)[0];
            format!("{} alone has a figure, {} {}", row.name, metric.label, row.median(metric))
        }
        Finding::NotShown(ratios) => format!("{}: no difference shown ({})", metric.label, showable(*ratios)),
        Finding::TooFew | Finding::NotTested => format!("{}: {}", metric.label, span(group, metric)),
    }
}

fn shown(group: &Group, metric: &Metric) -> String {
    let known = known(group);
    let best = known[0];
    let leading = || known.iter().filter(|row| !row.is_worse);
    let (first, level): (Vec<&Row>, Vec<&Row>) = leading().partition(|row| row.median(metric) == best.median(metric));
    let names = |rows: &[&Row]| match rows.len() {
        1..NAMED => listed(&rows.iter().map(|row| &row.name[..]).collect::<Vec<_>>()),
        count => format!("{count} cells"),
    };
    let (who, have) = (names(&first), if first.len() == 1 { "has" } else { "have" });
    let superlative = superlative(metric);
    let (label, figure) = (metric.label, best.median(metric));
    let mut leaders = match metric.is() {
        _ if leading().count() == 1 => format!("{who} {have} the {superlative} {label}, {figure}"),
        "are" => format!("{who} {have} the {superlative} {label}, a median of {figure}"),
        _ => format!("{who} {have} the {superlative} median {label}, {figure}"),
    };
    if !level.is_empty() {
        let worse = if metric.better == Better::Neither { "to differ" } else { "to be worse" };
        let are = if level.len() == 1 { "is" } else { "are" };
        leaders += &format!("; {} {are} not shown {worse}", names(&level));
    }
    let worst = known.iter().rev().find(|row| row.is_worse);
    let worst = worst.map(|row| format!("; {} {}", whose(&row.name, metric), times(row, metric, best)));
    leaders + &worst.unwrap_or_default()
}

/// No cell differs from the best, but others differ from each other.
fn elsewhere(group: &Group, metric: &Metric) -> String {
    let best = known(group)[0];
    let mut text = format!(
        "no cell is shown to differ in {} from {}, which has the {} median ({})",
        metric.label,
        best.name,
        if metric.better == Better::Lower { "lowest" } else { "highest" },
        best.median(metric)
    );
    if let Some(Elsewhere { high, low, ratio: times }) = &group.elsewhere {
        let (high, low) = (&group.rows[*high], &group.rows[*low]);
        let (high_is, low_one) = (whose(&high.name, metric), compared_with(&low.name, metric));
        text += &match times {
            Some(times) => format!("; {high_is} {}× {low_one}", ratio(*times)),
            None => format!("; {high_is} {} against {low_one}, {}", high.median(metric), low.median(metric)),
        };
    }
    text
}

fn superlative(metric: &Metric) -> &'static str {
    match (metric.better, metric.is()) {
        (Better::Lower, "are") => "fewest",
        (Better::Lower, _) => "lowest",
        (_, "are") => "most",
        _ => "highest",
    }
}

/// How a row compares with the best: `4.2× that`.
fn times(row: &Row, metric: &Metric, best: &Row) -> String {
    match row.against_best.as_ref().and_then(|compared| compared.ratio) {
        Some(times) => format!("{}× that", ratio(times)),
        None => format!("{} against {}", row.median(metric), best.median(metric)),
    }
}

/// Of many groups: how often each is best, and where the largest difference is.
fn counted(groups: &[&Group], metric: &Metric) -> String {
    let mut wins: Vec<(&str, usize)> = Vec::new();
    let decided: Vec<&&Group> = groups.iter().filter(|group| finding(group) == Finding::Shown).collect();
    for name in decided.iter().flat_map(|group| leaders(group)) {
        match wins.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => wins.push((name, 1)),
        }
    }
    wins.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let all = groups.len();
    let is_split = groups.iter().any(|group| group.waits.is_some());
    let what = if is_split { "groups of cells whose waits can be compared" } else { "settings" };
    // A single name more takes no more room than its number.
    let named = if wins.len() > NAMED + 1 { NAMED } else { wins.len() };
    let (first, others) = wins.split_at(named);
    let mut best: Vec<String> = first.iter().map(|(name, count)| format!("{name} in {count}")).collect();
    if let [most, .., least] = others {
        let times = if most.1 == least.1 { most.1.to_string() } else { format!("{} to {}", least.1, most.1) };
        best.push(format!("{} others in {times}", others.len()));
    }
    let mut text = if best.is_empty() {
        format!("no cell is shown to differ from the best in {}", metric.label)
    } else {
        format!("best or not shown to be worse in {}: {} of {all} {what}", metric.label, listed(&best))
    };
    let alone = groups.iter().filter(|group| finding(group) == Finding::Alone).count();
    let level = all - decided.len() - alone;
    if level > 0 && !best.is_empty() {
        text += &format!("; in {level} no difference from the best is shown");
    }
    if alone > 0 {
        text += &format!("; in {alone} only one cell has a figure");
    }
    text + &largest(&decided, metric).unwrap_or_default()
}

fn largest(groups: &[&&Group], metric: &Metric) -> Option<String> {
    let shown = groups.iter().flat_map(|group| group.rows.iter().map(move |row| (group, row)));
    let shown = shown.filter(|(_, row)| row.is_worse);
    let median = |row: &Row| row.values.as_ref().map_or(f64::NAN, |values| values.median);
    let size = |group: &Group, row: &Row| distance(median(row), median(&group.rows[0]));
    let (group, row) = shown.max_by(|(g, one), (h, other)| by_distance(size(g, one), size(h, other)))?;
    let best = &group.rows[0];
    let figures = match row.against_best.as_ref()?.ratio {
        Some(times) => format!("{}× {}", ratio(times), compared_with(&best.name, metric)),
        None => {
            format!("{} against {}, {}", row.median(metric), compared_with(&best.name, metric), best.median(metric))
        }
    };
    Some(format!("; the largest difference is at {}, where {} {figures}", group.heading(), whose(&row.name, metric)))
}

/// The figures of each group: all of its cells in one line, and a line for each comparison with its best.
pub(super) fn evidence(summary: &Summary, ranking: &Ranking) -> Vec<String> {
    let judged = ranking.groups.iter().filter(|group| !known(group).is_empty());
    judged
        .flat_map(|group| {
            let compared = of_comparisons(group, ranking.metric, &summary.looks);
            of_cells(group, ranking.metric).into_iter().chain(compared)
        })
        .collect()
}

fn of_cells(group: &Group, metric: &Metric) -> Vec<String> {
    let line = |row: &&Row| {
        let values = row.values.as_ref()?;
        let show = |value: f64| row.show(metric, value);
        let trials = plural(values.values.len(), "valid trial");
        let range = match values.values.len() {
            1 => trials,
            _ => format!("{}, {trials}", claims::interval(values, show)),
        };
        Some(prefixed(group, format!("{}: {} {} ({range})", row.name, metric.label, show(values.median))))
    };
    // Where something was tested, the lines of comparisons name the other cells.
    let tested = finding(group) != Finding::TooFew && finding(group) != Finding::NotTested;
    let rows = known(group);
    rows.iter().take(if tested { 1 } else { rows.len() }).filter_map(line).collect()
}

fn of_comparisons(group: &Group, metric: &Metric, looks: &Looks) -> Vec<String> {
    let known = known(group);
    let line = |row: &&Row| {
        let compared = row.against_best.as_ref().filter(|compared| compared.verdict != Difference::TooFewTrials)?;
        let ratios = compared.ratio.zip(compared.low.zip(compared.high));
        let figures = match ratios {
            Some((value, (low, high))) => format!("{}× ({} to {})", ratio(value), ratio(low), ratio(high)),
            None => format!("{} against {}", row.median(metric), known[0].median(metric)),
        };
        let possible = compared.showable_ratio.filter(|_| !compared.verdict.is_shown());
        let possible = possible.map_or_else(String::new, |times| format!("; {}", showable(Some((times, times)))));
        Some(prefixed(
            group,
            format!(
                "{} against {}: {figures}, {} ({} after Holm's correction{}): {}{possible}",
                row.name,
                known[0].name,
                p_equals(compared.p_value),
                p_value(compared.p_adjusted),
                stopping::for_looks(looks),
                claims::shown(compared.verdict)
            ),
        ))
    };
    known.iter().skip(1).filter_map(line).collect()
}

/// Names of cells stay as they are; words begin the sentence with a capital.
fn sentence_case(text: &str) -> String {
    if ["at ", "of ", "best or ", "no "].iter().any(|word| text.starts_with(word)) {
        capital(text)
    } else {
        text.to_owned()
    }
}
