//! Two sides of records side by side, as tables for a terminal or in Markdown.

use maud::html;

use super::{
    Grid,
    claims::{self, p_value},
    html::{
        self,
        parts::{bare_table, prose},
    },
    markdown, terminal,
};
use crate::{
    format::{harmless, plural, ratio},
    record::Values,
    scenario::label,
    stats::{
        AgainstBaseline, Better, CellPair, Design, Metric, MetricPair, NotCompared, RECORDS, SIGNIFICANCE, Trials,
        Verdict, WhyNot, metric_named,
    },
};

/// The form of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Tables for a terminal.
    Terminal,
    /// Markdown, for a pull request.
    Markdown,
}

/// The comparison of the new side (`names.1`) with the baseline (`names.0`), warnings first.
pub fn render(names: &(String, String), warnings: &[String], against: &AgainstBaseline, style: Style) -> String {
    let (base, new) = names;
    let mut lines = vec![match style {
        Style::Terminal => terminal::prose(&format!("{new} (b) against {base} (a)")),
        Style::Markdown => format!("## {} (b) against {} (a)\n", markdown::plain(new), markdown::plain(base)),
    }];
    let (before, after) = (qualifications(warnings, against, "! "), findings(against));
    lines.extend(before.iter().chain(&after).map(|line| listed(line, style)));
    let Some(grid) = grid(against) else {
        lines.push(listed(NO_METRIC, style));
        return lines.join("\n") + "\n";
    };
    lines.push(match style {
        Style::Terminal => terminal::grid(&grid, terminal::width()),
        Style::Markdown => format!("\n{}\n", markdown::table(&grid)),
    });
    lines.push(listed(&note(against), style));
    lines.join("\n") + "\n"
}

/// The same as a page, with the results of conditions.
pub fn page(names: &(String, String), warnings: &[String], against: &AgainstBaseline, conditions: &[String]) -> String {
    let (base, new) = names;
    let title = format!("{new} (b) against {base} (a)");
    let body = html! {
        header data-page="listenbench-comparison" {
            p.about { "listenbench · comparison" }
            h1 { (title) }
            @for line in conditions { p.answer { (prose(line)) } }
            @for line in findings(against) { p.answer { (prose(&line)) } }
            ul.evidence { @for line in qualifications(warnings, against, "") { li { (prose(&line)) } } }
        }
        section {
            @match grid(against) {
                Some(grid) => {
                    h2 { "Every metric in every cell" }
                    (bare_table(&grid))
                    p.note { (prose(&note(against))) }
                }
                None => p { (NO_METRIC) },
            }
        }
    };
    // Names of folders come from the command line.
    harmless(&html::page(&title, &body)).into_owned()
}

/// Is in every such page: only such a file is replaced.
pub const MARK: &str = "data-page=\"listenbench-comparison\"";

const NO_METRIC: &str = "no cell of both sides has any of these metrics";

/// What must be read before any figure. `alert` is put before what is out of the ordinary.
fn qualifications(warnings: &[String], against: &AgainstBaseline, alert: &str) -> Vec<String> {
    let missing = |cells: &[_], side: &str| -> Vec<String> {
        cells.iter().map(|cell| format!("only {side} has {}", label(cell))).collect()
    };
    let alerts = warnings
        .iter()
        .cloned()
        .chain(missing(&against.only_in_base, "a"))
        .chain(missing(&against.only_in_new, "b"))
        .chain(against.cells.iter().flat_map(not_compared));
    let mut lines = vec![design(against)];
    lines.extend(alerts.map(|line| format!("{alert}{line}")));
    lines.extend(against.cells.iter().filter_map(trials));
    lines
}

/// What may be claimed, and why.
fn design(against: &AgainstBaseline) -> String {
    let needed = against.needed;
    let takes = |unit: &str| {
        let tests = if against.tests == 1 {
            "One comparison needs".to_owned()
        } else {
            format!("{} need", plural(against.tests, "comparison"))
        };
        format!("{tests} at least {needed} {unit}s a side.")
    };
    let design = match against.design {
        Design::Interleaved => {
            "One interleaved experiment: what drifts affects both sides alike, and the trial is the unit.".to_owned()
        }
        Design::Records => format!(
            "Separate runs, {RECORDS} or more a side: the record is the unit, with the median of its trials. {}",
            takes("record")
        ),
        Design::Boots => format!(
            "The kernels differ, and each side has {RECORDS} or more boots: the boot is the unit, with the median of its \
             records. {}",
            takes("boot")
        ),
        Design::Separate => format!(
            "Nothing is claimed: the runs were separate, and two consecutive runs also differ by drift. Run both sides \
             with `run --interleave`, or compare at least {} a side (a… -- b…).",
            plural(needed, "record")
        ),
        Design::FewBoots => format!(
            "No time or rate is claimed to differ: the kernels differ, and so do boots of one kernel. Compare records of \
             at least {} a side, in alternation (a… -- b…).",
            plural(needed, "boot")
        ),
    };
    if !against.emulated {
        return design;
    }
    "The processor was emulated: times and rates are the emulator's, and only counts are judged.".to_owned()
}

fn note(against: &AgainstBaseline) -> String {
    let values = match against.design {
        Design::Records => "Medians of the records' medians",
        Design::Boots | Design::FewBoots => "Medians of the boots' medians",
        Design::Interleaved | Design::Separate => "Medians over valid trials",
    };
    let tested = against.design.claims() && !against.emulated;
    let interval = match against.design {
        Design::Separate => ", which covers the trials' scatter and no drift",
        Design::FewBoots => ", which covers the boots' scatter",
        _ => "",
    };
    let tested = if tested {
        format!(
            " p: permutation test, after Holm's correction over {}; a difference is shown where p ≤ {SIGNIFICANCE}. \
             not-tested: the question is not about this metric.",
            plural(against.tests, "comparison")
        )
    } else {
        String::new()
    };
    format!(
        "{values} with their 95 % intervals (of fewer than five values, the smallest and largest). ratio: b ÷ a with its \
         interval{interval}.{tested}"
    )
}

fn listed(line: &str, style: Style) -> String {
    match style {
        Style::Terminal => terminal::prose(line),
        Style::Markdown => markdown::item(line).trim_end().to_owned(),
    }
}

/// Why a metric is not compared, as the rest of a sentence about it.
pub fn why_not(not_compared: &NotCompared) -> String {
    match not_compared.why {
        WhyNot::Missing => "is in no valid trial of either side",
        WhyNot::MissingInBase => "is in no valid trial of the baseline",
        WhyNot::MissingInNew => "is in no valid trial of the new side",
        WhyNot::MeasuredDifferently => return format!("was measured differently{}", differently(not_compared)),
    }
    .to_owned()
}

/// ` (a: waits until accept returned; b: …); responses can be compared (--metric response_p99)`.
fn differently(not_compared: &NotCompared) -> String {
    let waits = |side: &Option<String>| side.clone().unwrap_or_else(|| "none".to_owned());
    let (a, b) = (waits(&not_compared.a_waits), waits(&not_compared.b_waits));
    format!(" (a: {a}; b: {b}); responses can be compared (--metric response_p99)")
}

fn not_compared(cell: &CellPair) -> Vec<String> {
    let whys = [WhyNot::MeasuredDifferently, WhyNot::MissingInBase, WhyNot::MissingInNew, WhyNot::Missing];
    let lines = whys.into_iter().filter_map(|why| {
        let these = || cell.not_compared.iter().filter(|one| one.why == why);
        let metrics: Vec<&str> = these().map(|one| &one.metric[..]).collect();
        let more = these().next().filter(|one| one.why == WhyNot::MeasuredDifferently).map(differently);
        let reason = match why {
            WhyNot::Missing => "no valid trial has",
            WhyNot::MissingInBase => "no valid trial of a has",
            WhyNot::MissingInNew => "no valid trial of b has",
            WhyNot::MeasuredDifferently => "not compared, because a and b measured it differently:",
        };
        (!metrics.is_empty())
            .then(|| format!("{}: {reason} {}{}", label(&cell.cell), metrics.join(", "), more.unwrap_or_default()))
    });
    lines.collect()
}

/// The verdicts on a cell's trials, and those that are not valid; `None` where there are neither.
fn trials(cell: &CellPair) -> Option<String> {
    let plain = |trials: &Trials| trials.verdicts.is_empty() && trials.invalid + trials.failed == 0;
    if plain(&cell.a) && plain(&cell.b) {
        return None;
    }
    let side = |trials: &Trials| {
        let all = trials.valid + trials.invalid + trials.failed;
        let counts = [(trials.invalid, "invalid"), (trials.failed, "failed")];
        let flawed = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let verdicts = trials.verdicts.iter().map(|(name, count)| format!("{name} in {count}"));
        let facts: Vec<String> = flawed.chain(verdicts).collect();
        let facts = if facts.is_empty() { "no verdict".to_owned() } else { facts.join(", ") };
        format!("{facts} (of {})", plural(all, "trial"))
    };
    Some(format!("verdicts at {}: a: {}; b: {}", label(&cell.cell), side(&cell.a), side(&cell.b)))
}

/// What is claimed, a sentence for each metric that the question is about.
fn findings(against: &AgainstBaseline) -> Vec<String> {
    let mut names: Vec<&str> = Vec::new();
    for pair in against.cells.iter().flat_map(|cell| &cell.metrics) {
        if !names.contains(&&pair.metric[..]) {
            names.push(&pair.metric);
        }
    }
    names.into_iter().filter_map(|name| finding(against, metric_named(name)?)).collect()
}

fn finding(against: &AgainstBaseline, metric: &Metric) -> Option<String> {
    let silent = [Verdict::NotTested, Verdict::NotAttributable, Verdict::Emulated];
    let pairs: Vec<(&CellPair, &MetricPair)> = against
        .cells
        .iter()
        .flat_map(|cell| cell.metrics.iter().map(move |pair| (cell, pair)))
        .filter(|(_, pair)| pair.metric == metric.name && !silent.contains(&pair.verdict))
        .collect();
    if pairs.is_empty() {
        return None;
    }
    let (all, unit) = (pairs.len(), against.design.unit());
    let are = |verdict: Verdict| pairs.iter().all(|(_, pair)| pair.verdict == verdict);
    let shown: Vec<_> = pairs.iter().filter(|(_, pair)| pair.verdict.is_shown()).collect();
    if shown.is_empty() {
        let why = if are(Verdict::TooFew) {
            format!("too few {unit}s to show any difference")
        } else if are(Verdict::Same) {
            "the same".to_owned()
        } else {
            "no difference shown".to_owned()
        };
        return Some(format!("{}: {why} in {}{}", metric.label, plural(all, "cell"), showable(&pairs)));
    }
    let size = |pair: &MetricPair| pair.worse_by(metric).abs();
    let largest = shown.iter().max_by(|(_, one), (_, other)| size(one).total_cmp(&size(other)));
    let largest = largest.map(|(cell, pair)| {
        let times = pair.ratio.map_or_else(
            || format!("{} against {}", metric.unit.show(pair.b.median), metric.unit.show(pair.a.median)),
            |times| format!("{}×", ratio(times)),
        );
        format!("; the largest difference at {}: {times}", label(&cell.cell))
    });
    let worse = shown.iter().filter(|(_, pair)| pair.is_shown_worse(metric)).count();
    let counts = if metric.better == Better::Neither {
        format!("different in {}", shown.len())
    } else {
        match (worse, shown.len() - worse) {
            (0, better) => format!("better in {better}"),
            (worse, 0) => format!("worse in {worse}"),
            (worse, better) => format!("worse in {worse} and better in {better}"),
        }
    };
    Some(format!("{}: b is {counts} of {}{}", metric.label, plural(all, "cell"), largest.unwrap_or_default()))
}

/// The smallest differences that could have been shown, over all cells.
fn showable(pairs: &[(&CellPair, &MetricPair)]) -> String {
    let ratios = || pairs.iter().filter_map(|(_, pair)| pair.showable_ratio);
    let Some((low, high)) = ratios().reduce(f64::min).zip(ratios().reduce(f64::max)) else { return String::new() };
    format!("; {}", claims::showable_ratio(low, high, "the test"))
}

/// `None` without any metric.
fn grid(against: &AgainstBaseline) -> Option<Grid> {
    if against.cells.iter().all(|cell| cell.metrics.is_empty()) {
        return None;
    }
    let names: Vec<String> = against.cells[0].cell.keys().cloned().collect();
    let head = ["metric", "a", "b", "ratio", "p", "verdict"].map(str::to_owned);
    let mut rows = Vec::new();
    for cell in &against.cells {
        for pair in &cell.metrics {
            let Some(metric) = metric_named(&pair.metric) else { continue };
            let mut row: Vec<String> = cell.cell.values().map(super::plain).collect();
            row.extend([
                metric.label.to_owned(),
                shown(&pair.a, metric, cell.bounds),
                shown(&pair.b, metric, cell.bounds),
                ratios(pair),
                pair.p_adjusted.map_or_else(|| "–".to_owned(), p_value),
                verdict(pair, metric),
            ]);
            rows.push(row);
        }
    }
    Some(Grid {
        title: String::new(),
        labels: names.len() + 1,
        words: 1,
        head: names.into_iter().chain(head).collect(),
        rows,
    })
}

fn shown(values: &Values, metric: &Metric, bounds: bool) -> String {
    let show = |value| metric.unit.show(value);
    let bound = if bounds && metric.is_accept_wait() { "≤ " } else { "" };
    let lost = values.lost_in_words();
    format!("{bound}{}{lost} ({}–{})", show(values.median), show(values.low), show(values.high))
}

fn ratios(pair: &MetricPair) -> String {
    match (pair.ratio, pair.low, pair.high) {
        (Some(value), Some(low), Some(high)) => format!("{} ({}–{})", ratio(value), ratio(low), ratio(high)),
        _ => "–".to_owned(),
    }
}

fn verdict(pair: &MetricPair, metric: &Metric) -> String {
    let verdict = pair.verdict.as_str();
    match (pair.verdict.is_shown(), metric.better) {
        (true, Better::Lower | Better::Higher) => {
            format!("{verdict} ({})", if pair.is_shown_worse(metric) { "worse" } else { "better" })
        }
        _ => match pair.showable_ratio {
            Some(times) => format!("{verdict} ({})", claims::showable_ratio(times, times, "the test")),
            None => verdict.to_owned(),
        },
    }
}
