//! Two records side by side, as tables for a terminal or in Markdown.

use super::{
    Grid,
    claims::{TOO_FEW, p_value},
    markdown, terminal,
};
use crate::{
    format::{plural, ratio},
    record::Values,
    scenario::label,
    stats::{AgainstBaseline, Better, CellPair, Difference, Metric, MetricPair, SIGNIFICANCE, metric_named},
};

/// The form of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Tables for a terminal.
    Terminal,
    /// Markdown, for a pull request.
    Markdown,
}

/// The comparison of a run (`names.1`) with its baseline (`names.0`), warnings first.
pub fn render(names: &(String, String), warnings: &[String], against: &AgainstBaseline, style: Style) -> String {
    let (baseline, run) = names;
    let mut lines = vec![match style {
        Style::Terminal => format!("{run} (b) against {baseline} (a)"),
        Style::Markdown => format!("## {run} (b) against {baseline} (a)\n"),
    }];
    let missing = |cells: &[_], name: &str| -> Vec<String> {
        cells.iter().map(|cell| format!("only {name} has {}", label(cell))).collect()
    };
    let alerts = warnings
        .iter()
        .cloned()
        .chain(missing(&against.only_in_baseline, baseline))
        .chain(missing(&against.only_here, run))
        .chain(against.cells.iter().flat_map(not_compared));
    lines.extend(alerts.map(|alert| listed(&format!("! {alert}"), style)));
    lines.extend(findings(against).into_iter().map(|finding| listed(&finding, style)));
    if against.cells.iter().all(|cell| cell.metrics.is_empty()) {
        lines.push(listed("no cell of both records has any of these metrics", style));
        return lines.join("\n") + "\n";
    }
    let grid = grid(against);
    lines.push(match style {
        Style::Terminal => terminal::grid(&grid, terminal::width()),
        Style::Markdown => format!("\n{}\n", markdown::table(&grid)),
    });
    lines.push(listed(
        &format!(
            "Medians over valid trials with their 95 % intervals (with fewer than five trials, the smallest and largest value). ratio: b ÷ a. p: permutation test, after Holm's correction \
             over all cells of a metric; a difference is shown where p ≤ {SIGNIFICANCE}."
        ),
        style,
    ));
    lines.join("\n") + "\n"
}

fn listed(line: &str, style: Style) -> String {
    match style {
        Style::Terminal => terminal::prose(line),
        Style::Markdown => format!("- {line}"),
    }
}

fn not_compared(cell: &CellPair) -> Option<String> {
    (!cell.not_compared.is_empty()).then(|| {
        format!(
            "{}: not compared because only one record has it, or they measured it differently: {}",
            label(&cell.cell),
            cell.not_compared.join(", ")
        )
    })
}

/// Where `b` is better and where worse, a sentence for each metric.
fn findings(against: &AgainstBaseline) -> Vec<String> {
    let mut names: Vec<&str> = Vec::new();
    for pair in against.cells.iter().flat_map(|cell| &cell.metrics) {
        if !names.contains(&&pair.metric[..]) {
            names.push(&pair.metric);
        }
    }
    names.into_iter().filter_map(|name| Some(finding(against, metric_named(name)?))).collect()
}

fn finding(against: &AgainstBaseline, metric: &Metric) -> String {
    let pairs: Vec<(&CellPair, &MetricPair)> = against
        .cells
        .iter()
        .flat_map(|cell| cell.metrics.iter().map(move |pair| (cell, pair)))
        .filter(|(_, pair)| pair.metric == metric.name)
        .collect();
    let all = pairs.len();
    let shown: Vec<_> = pairs.iter().filter(|(_, pair)| pair.compared.verdict.is_shown()).collect();
    if shown.is_empty() {
        let too_few = pairs.iter().all(|(_, pair)| pair.compared.verdict == Difference::TooFewTrials);
        let why = if too_few { TOO_FEW } else { "no difference shown" };
        return format!("{}: {why} in {}", metric.label, plural(all, "cell"));
    }
    let size = |pair: &MetricPair| pair.worse_by(metric).abs();
    let largest = shown.iter().max_by(|(_, one), (_, other)| size(one).total_cmp(&size(other)));
    let largest = largest.map(|(cell, pair)| {
        let times = pair.compared.ratio.map_or_else(|| "from zero".to_owned(), |times| format!("{}×", ratio(times)));
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
    format!("{}: b is {counts} of {}{}", metric.label, plural(all, "cell"), largest.unwrap_or_default())
}

fn grid(against: &AgainstBaseline) -> Grid {
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
                p_value(pair.compared.p_adjusted),
                verdict(pair, metric),
            ]);
            rows.push(row);
        }
    }
    Grid {
        title: String::new(),
        labels: names.len() + 1,
        words: 1,
        head: names.into_iter().chain(head).collect(),
        rows,
    }
}

fn shown(values: &Values, metric: &Metric, bounds: bool) -> String {
    let show = |value| metric.unit.show(value);
    let bound = if bounds && metric.is_accept_wait() { "≤ " } else { "" };
    format!("{bound}{} ({}–{})", show(values.median), show(values.low), show(values.high))
}

fn ratios(pair: &MetricPair) -> String {
    let compared = &pair.compared;
    match (compared.ratio, compared.low, compared.high) {
        (Some(value), Some(low), Some(high)) => format!("{} ({}–{})", ratio(value), ratio(low), ratio(high)),
        _ => "–".to_owned(),
    }
}

fn verdict(pair: &MetricPair, metric: &Metric) -> String {
    let verdict = pair.compared.verdict;
    match (verdict.is_shown(), metric.better) {
        (true, Better::Lower | Better::Higher) => {
            let side = if pair.is_shown_worse(metric) { "worse" } else { "better" };
            format!("{} ({side})", verdict.as_str())
        }
        _ => match pair.compared.detectable_ratio {
            Some(times) => format!("{} ({}× could have been detected)", verdict.as_str(), ratio(times)),
            None => verdict.as_str().to_owned(),
        },
    }
}
