//! Accept wait by percentile: a curve for each cell, from the merged histogram of its valid trials, with the spread of the trials.
//!
//! Percentiles are never averaged. The axis is logarithmic in 1/(1 − q), so that each nine of a percentile takes up the same
//! width; a curve ends where it would stand for less than one value.

use hdrhistogram::Histogram;

use maud::{Markup, html};

use super::{Content, In};
use crate::{
    format::{duration, plural},
    report::{
        Grid, Ranked,
        claims::{self, capital},
        distributions::{BEGIN, NAMED, grid, rarity, values_at},
        html::parts::{folded, legend, plot},
        plot::{
            NARROW, WIDE,
            figure::{Axis, Figure, Line, Scale, Stop},
        },
    },
};

/// Percentiles that the axis marks.
const MARKED: [&str; 7] = ["50", "90", "99", "99.9", "99.99", "99.999", "99.9999"];
/// The chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Percentiles {
    /// What it shows, in a few words.
    pub about: String,
    /// The finding.
    pub title: String,
    /// A figure for each group of cells that compete.
    pub figures: Vec<Figure>,
    /// The same in numbers, a row for each cell.
    pub table: Grid,
    /// How to read it.
    pub notes: Vec<String>,
}

/// A cell's curve.
struct Curve<'a> {
    /// Index into the ranked's cells.
    cell: usize,
    merged: &'a Histogram<u64>,
    bound: bool,
    trials: usize,
    /// Points of the line, and of its band.
    points: Vec<(f64, f64)>,
    band: Vec<(f64, f64, f64)>,
}

/// What is shown: accept waits, or how long datagrams waited where there are no connections.
struct Shown {
    histograms: &'static str,
    metric: &'static str,
    what: &'static str,
}

const ACCEPT_WAIT: Shown = Shown { histograms: "accept_wait", metric: "accept_wait_p99_ns", what: "accept wait" };
const RECEIVE_WAIT: Shown = Shown { histograms: "receive_wait", metric: "receive_wait_p99_ns", what: "receive wait" };

/// Panels beyond these are folded.
const OPEN: usize = 6;

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let chart = percentiles(ranked)?;
    let forms = if chart.figures.len() == 1 { &[WIDE, NARROW][..] } else { &[NARROW] };
    let drawn: Vec<Markup> = chart.figures.iter().map(|figure| plot(figure, forms)).collect();
    let panels = |panels: &[Markup]| html! { div.panels[drawn.len() > 1] { @for panel in panels { (panel) } } };
    let (open, more) = drawn.split_at(drawn.len().min(OPEN));
    Some(Content {
        title: chart.about,
        finding: chart.title,
        figure: Some(html! {
            (legend(chart.figures.iter().flat_map(|figure| &figure.lines)))
            (panels(open))
            @if !more.is_empty() { (folded(&plural(more.len(), "more setting"), &panels(more))) }
        }),
        notes: chart.notes.into_iter().map(|note| (In::Page, note)).collect(),
        tables: vec![(In::Page, chart.table)],
        ..Content::default()
    })
}

/// `None` where nothing waited.
fn percentiles(ranked: &Ranked<'_>) -> Option<Percentiles> {
    [ACCEPT_WAIT, RECEIVE_WAIT].iter().find_map(|shown| of(ranked, shown))
}

fn of(ranked: &Ranked<'_>, shown: &Shown) -> Option<Percentiles> {
    let curves: Vec<Curve<'_>> = (0..ranked.cells.len()).filter_map(|cell| curve(ranked, cell, shown)).collect();
    if curves.is_empty() {
        return None;
    }
    let bounds = curves.iter().filter(|curve| curve.bound).count();
    let label = if bounds == curves.len() { format!("{} (upper bound)", shown.what) } else { shown.what.to_owned() };
    let values = || curves.iter().flat_map(|curve| &curve.points).map(|(_, ns)| *ns);
    let bands = || curves.iter().flat_map(|curve| &curve.band).flat_map(|(_, low, high)| [*low, *high]);
    let y = Axis::log_ns(&label, values().chain(bands()));
    let most = curves.iter().map(|curve| curve.merged.len()).max().unwrap_or(1);
    let groups = 0..ranked.ranking.groups.len();
    let is_drawn = |curve: &&Curve<'_>| ranked.cells[curve.cell].style.is_some();
    let left_out = curves.iter().filter(|curve| !is_drawn(curve)).count();
    let figures = groups
        .map(|group| {
            let of_group = curves.iter().filter(|curve| ranked.cells[curve.cell].group == group);
            let curves: Vec<&Curve<'_>> = of_group.filter(is_drawn).collect();
            figure(ranked, group, &curves, most, &y)
        })
        .filter(|figure| !figure.lines.is_empty());
    Some(Percentiles {
        about: format!("{} by percentile", capital(shown.what)),
        title: title(ranked, shown, &curves),
        figures: figures.collect(),
        table: table(ranked, shown, &curves, most),
        notes: notes(shown, &curves, bounds, left_out),
    })
}

/// What comparisons show, or how long connections wait if the ranking's finding says that already.
fn title(ranked: &Ranked<'_>, shown: &Shown, curves: &[Curve<'_>]) -> String {
    if ranked.ranking.metric.name != shown.metric {
        return claims::of_metric(ranked, shown.metric);
    }
    let span = |q: f64| {
        let values = || curves.iter().map(|curve| curve.merged.value_at_quantile(q) as f64);
        let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
        let (low, high) = (duration(low), duration(high));
        if low == high { format!("is {low}") } else { format!("lies between {low} and {high}") }
    };
    let by_cell = if curves.len() > 1 { "By cell, the" } else { "The" };
    format!("{by_cell} median {} {}, and the 99th percentile {}", shown.what, span(0.5), span(0.99))
}

/// `None` where the cell's trials have no such histogram.
fn curve<'a>(ranked: &Ranked<'a>, cell: usize, shown: &Shown) -> Option<Curve<'a>> {
    let of = ranked.distributions.of(shown.histograms, cell)?;
    let grid = grid(of.merged.len());
    let quantiles: Vec<f64> = grid.iter().map(|rarity| 1.0 - 1.0 / rarity).collect();
    // The spread is unknown beyond the last value of the trial with the fewest.
    let fewest = of.trials.iter().map(|trial| trial.values.len()).min().filter(|_| of.trials.len() > 1).unwrap_or(0);
    let spread = |(point, rarity): (usize, &f64)| {
        let values = || of.trials.iter().map(|trial| trial.values[point]);
        (*rarity, values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max))
    };
    Some(Curve {
        cell,
        // Receive waits are always bounds, as the notes say; dots set bounds apart from exact waits.
        bound: ranked.cells[cell].summary.waits_are_bounds(),
        trials: of.trials.len(),
        points: grid.iter().copied().zip(values_at(&of.merged, &quantiles)).collect(),
        band: grid[..fewest].iter().enumerate().map(spread).collect(),
        merged: &of.merged,
    })
}

fn figure(ranked: &Ranked<'_>, group: usize, curves: &[&Curve<'_>], most: u64, y: &Axis) -> Figure {
    let x = Axis {
        label: "percentile".to_owned(),
        scale: Scale::Log,
        low: BEGIN,
        high: most.max(10) as f64,
        ticks: NAMED
            .iter()
            .filter(|(name, q)| MARKED.contains(name) && rarity(*q) <= most.max(10) as f64)
            .map(|(name, q)| (rarity(*q), (*name).to_owned()))
            .collect(),
    };
    let line = |curve: &&Curve<'_>| {
        let cell = &ranked.cells[curve.cell];
        Line {
            name: cell.name.clone(),
            style: cell.style.unwrap_or(usize::MAX),
            bound: curve.bound,
            points: curve.points.clone(),
            band: curve.band.clone(),
            marks: Vec::new(),
        }
    };
    let longest = curves.iter().map(|curve| curve.merged.len()).max().unwrap_or(0);
    let stops = NAMED.iter().filter(|(_, q)| rarity(*q) <= longest as f64).map(|(name, q)| Stop {
        x: rarity(*q),
        label: format!("{name} %"),
        values: curves.iter().map(|curve| shown_at(curve, *q).unwrap_or_default()).collect(),
    });
    Figure {
        heading: ranked.heading(group),
        x,
        y: y.clone(),
        lines: curves.iter().map(line).collect(),
        spans: Vec::new(),
        stops: stops.collect(),
    }
}

/// A curve's value at a quantile, if it reaches that far.
fn shown_at(curve: &Curve<'_>, q: f64) -> Option<String> {
    (rarity(q) <= curve.merged.len() as f64).then(|| shown(curve, curve.merged.value_at_quantile(q)))
}

fn shown(curve: &Curve<'_>, ns: u64) -> String {
    format!("{}{}", if curve.bound { "≤ " } else { "" }, duration(ns as f64))
}

fn table(ranked: &Ranked<'_>, metric: &Shown, curves: &[Curve<'_>], most: u64) -> Grid {
    let reached: Vec<_> = NAMED.iter().filter(|(_, q)| rarity(*q) <= most as f64).collect();
    let mut head = vec!["cell".to_owned(), "trials".to_owned(), "values".to_owned()];
    head.extend(reached.iter().map(|(name, _)| format!("{name} %")));
    head.extend(["longest".to_owned(), "99 %, median of trials".to_owned()]);
    let row = |curve: &Curve<'_>| {
        let mut row = vec![
            ranked.cells[curve.cell].full_name.clone(),
            curve.trials.to_string(),
            crate::format::thousands(curve.merged.len() as f64),
        ];
        row.extend(reached.iter().map(|(_, q)| shown_at(curve, *q).unwrap_or_else(|| "–".to_owned())));
        row.push(shown(curve, curve.merged.max()));
        // What is compared, and what findings are about: the unit is the trial.
        let of_trials = ranked.cells[curve.cell].summary.metrics.get(metric.metric);
        row.push(of_trials.map_or_else(|| "–".to_owned(), |values| shown(curve, values.median as u64)));
        row
    };
    Grid::new(head, 0, curves.iter().map(row).collect())
}

fn notes(shown: &Shown, curves: &[Curve<'_>], bounds: usize, left_out: usize) -> Vec<String> {
    let mut notes = vec![
        "Line: the merged histogram of a cell's valid trials. Band: from the lowest to the highest trial. The axis \
         is logarithmic in the distance to 100 %."
            .to_owned(),
    ];
    if shown.histograms == RECEIVE_WAIT.histograms {
        notes.push(
            "A receive wait is measured from the client's send: an upper bound on the time in the worker's socket."
                .to_owned(),
        );
    } else if bounds == curves.len() {
        notes.push(
            "≤: all accept waits are upper bounds, measured from the client's connect call; the true waits are shorter by the handshake."
                .to_owned(),
        );
    } else if bounds > 0 {
        notes.push(
            "Dotted and ≤: upper bounds on the accept wait, measured from the client's connect call. Do not compare them \
             with exact ones."
                .to_owned(),
        );
    }
    if left_out > 0 {
        notes.push(format!(
            "{left_out} of {} cells {} no line: only the first and last places are drawn. The table has all cells.",
            curves.len(),
            if left_out == 1 { "has" } else { "have" }
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::WaitMethod,
        report::sample::{Sample, two_strategies},
    };

    #[test]
    fn a_curve_is_the_merged_histogram_and_its_band_the_trials() {
        let reading = two_strategies(2);
        let chart = percentiles(&Ranked::of(&reading)).unwrap();
        let line = &chart.figures[0].lines[1];
        assert_eq!((line.name.as_str(), line.style, line.bound), ("shared", 1, false));
        let of = reading.distributions.of("accept_wait", 1).unwrap();
        let merged = &of.merged;
        assert_eq!(merged.len(), 1_200);
        for (rarity, ns) in &line.points {
            assert_eq!(*ns, merged.value_at_quantile(1.0 - 1.0 / rarity) as f64);
        }
        assert!(line.points[line.points.len() - 1].0 > 1_000.0, "of 1,200 values");
        // Trials hold 240 values each: there the band ends.
        let (rarity, low, high) = line.band[line.band.len() - 1];
        assert!(rarity <= 240.0 && low < high);
        let p99 = line.band.iter().find(|(rarity, _, _)| *rarity == 100.0).unwrap();
        // Of 240 values at equal distances, the 238th is the 99th percentile.
        assert!((p99.1 / 476_000.0 - 1.0).abs() < 1e-3 && (p99.2 / (238.0 * 2_040.0) - 1.0).abs() < 1e-3, "{p99:?}");
        let stop = chart.figures[0].stops.iter().find(|stop| stop.label == "99 %").unwrap();
        let column = chart.table.head.iter().position(|head| head == "99 %").unwrap();
        assert_eq!(stop.values, [chart.table.rows[0][column].clone(), chart.table.rows[1][column].clone()]);
    }

    #[test]
    fn bounds_are_marked() {
        let mut sample = Sample::new("");
        sample.trial(json!({ "stamps": "exact" }), &[50], 1_000);
        sample.trial(json!({ "stamps": "bound" }), &[50], 1_000).latency_ns.accept_wait.method =
            Some(WaitMethod::ConnectCall);
        let reading = sample.reading();
        let chart = percentiles(&Ranked::of(&reading)).unwrap();
        assert_eq!(chart.figures[0].lines.iter().map(|line| line.bound).collect::<Vec<_>>(), [false, true]);
        assert!(chart.table.rows[1][4].starts_with("≤ ") && !chart.table.rows[0][4].starts_with("≤ "));
    }
}
