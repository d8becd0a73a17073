//! Accept wait by percentile: a curve for each cell, from the merged histogram of its valid trials, with the spread of the trials.
//!
//! Percentiles are never averaged. The axis is logarithmic in 1/(1 − q), so that each nine of a percentile takes up the same
//! width; a curve ends where it would stand for less than one value.

use maud::{Markup, html};

use super::{Content, In};
use crate::{
    format::{duration, percent, plural, thousands},
    record::Counts,
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
    stats::{Waits, metric_named},
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
    merged: &'a Counts,
    /// Attempts beside the values that have none.
    lost: u64,
    bound: bool,
    trials: usize,
    /// Points of the line, and of its band.
    points: Vec<(f64, f64)>,
    band: Vec<(f64, f64, f64)>,
}

/// What is shown: accept waits, how long datagrams waited where there are no connections, or the responses of a population.
pub(super) struct Shown<'a> {
    /// Its key among the distributions.
    pub histograms: &'a str,
    /// The metric by which cells are compared.
    pub metric: &'a str,
    pub what: &'a str,
    /// Whether it is a wait that may only be bounded.
    pub is_wait: bool,
}

const ACCEPT_WAIT: Shown<'_> =
    Shown { histograms: "accept_wait", metric: "accept_wait_p99_ns", what: "accept wait", is_wait: true };
const RECEIVE_WAIT: Shown<'_> =
    Shown { histograms: "receive_wait", metric: "receive_wait_p99_ns", what: "receive wait", is_wait: true };

/// So many attempts the 99th percentile distinguishes.
const COMPARED_FROM: u64 = 100;
/// Panels beyond these are folded.
const OPEN: usize = 6;

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let chart = percentiles(ranked)?;
    let figure = drawn(&chart);
    Some(Content {
        title: chart.about,
        finding: chart.title,
        figure: Some(figure),
        notes: chart.notes.into_iter().map(|note| (In::Page, note)).collect(),
        tables: vec![(In::Page, chart.table)],
        ..Content::default()
    })
}

/// Its figures, with their legend.
pub(super) fn drawn(chart: &Percentiles) -> Markup {
    let forms = if chart.figures.len() == 1 { &[WIDE, NARROW][..] } else { &[NARROW] };
    let drawn: Vec<Markup> = chart.figures.iter().map(|figure| plot(figure, forms)).collect();
    let panels = |panels: &[Markup]| html! { div.panels[drawn.len() > 1] { @for panel in panels { (panel) } } };
    let (open, more) = drawn.split_at(drawn.len().min(OPEN));
    html! {
        (legend(chart.figures.iter().flat_map(|figure| &figure.lines)))
        (panels(open))
        @if !more.is_empty() { (folded(&plural(more.len(), "more setting"), &panels(more))) }
    }
}

/// `None` where nothing waited.
fn percentiles(ranked: &Ranked<'_>) -> Option<Percentiles> {
    [ACCEPT_WAIT, RECEIVE_WAIT].iter().find_map(|shown| of(ranked, shown))
}

/// `None` where no cell has it.
pub(super) fn of(ranked: &Ranked<'_>, shown: &Shown<'_>) -> Option<Percentiles> {
    let curves: Vec<Curve<'_>> = (0..ranked.cells.len()).filter_map(|cell| curve(ranked, cell, shown)).collect();
    if curves.is_empty() {
        return None;
    }
    let bounds = curves.iter().filter(|curve| curve.bound).count();
    let label = if bounds == curves.len() { format!("{} (upper bound)", shown.what) } else { shown.what.to_owned() };
    let values = || curves.iter().flat_map(|curve| &curve.points).map(|(_, ns)| *ns);
    let bands = || curves.iter().flat_map(|curve| &curve.band).flat_map(|(_, low, high)| [*low, *high]);
    let y = Axis::log_ns(&label, values().chain(bands()));
    let most = curves.iter().map(|curve| curve.merged.len() + curve.lost).max().unwrap_or(1);
    let waits = |curve: &Curve<'_>| {
        let metric = metric_named(shown.metric)?;
        Waits::of_metric(metric, ranked.cells[curve.cell].summary)
    };
    // What was measured differently is drawn apart.
    let mut groups: Vec<(usize, Option<Waits>)> = Vec::new();
    for group in 0..ranked.groups() {
        let of_group = curves.iter().filter(|curve| ranked.cells[curve.cell].group == group);
        for waits in of_group.map(waits) {
            if !groups.contains(&(group, waits)) {
                groups.push((group, waits));
            }
        }
    }
    let is_split = |group: usize| groups.iter().filter(|(other, _)| *other == group).count() > 1;
    let is_drawn = |curve: &&Curve<'_>| ranked.cells[curve.cell].style.is_some();
    let left_out = curves.iter().filter(|curve| !is_drawn(curve)).count();
    let figures = groups
        .iter()
        .map(|(group, alike)| {
            let of_group = curves.iter().filter(|curve| ranked.cells[curve.cell].group == *group);
            let curves: Vec<&Curve<'_>> = of_group.filter(|curve| waits(curve) == *alike).filter(is_drawn).collect();
            let alike = alike.filter(|_| is_split(*group)).map(|waits| waits.to_string());
            let parts: Vec<String> = [ranked.heading(*group), alike.unwrap_or_default()]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect();
            figure(parts.join(", "), ranked, &curves, most, &y)
        })
        .filter(|figure| !figure.lines.is_empty());
    Some(Percentiles {
        about: format!("{} by percentile", capital(shown.what)),
        title: title(ranked, shown, &curves),
        figures: figures.collect(),
        table: table(ranked, shown, &curves, most),
        notes: notes(shown, &curves, bounds, left_out, (0..ranked.groups()).any(is_split)),
    })
}

/// What comparisons show, or how long connections wait if the ranking's finding says that already.
fn title(ranked: &Ranked<'_>, shown: &Shown<'_>, curves: &[Curve<'_>]) -> String {
    if ranked.ranking.metric.name != shown.metric {
        return claims::of_metric(ranked, shown.metric);
    }
    let span = |q: f64| {
        let mut values: Vec<Option<u64>> = curves.iter().map(|curve| curve.merged.value_at(curve.lost, q)).collect();
        let all = values.len();
        values.retain(Option::is_some);
        let shown = |ns: Option<&Option<u64>>| ns.copied().flatten().map(|ns| duration(ns as f64)).unwrap_or_default();
        let (low, high) = (shown(values.iter().min()), shown(values.iter().max()));
        let missing = all - values.len();
        match missing {
            0 if low == high => format!("is {low}"),
            0 => format!("lies between {low} and {high}"),
            _ if values.is_empty() => "is not reached".to_owned(),
            _ => format!("is at least {low}, and not reached in {missing} of {all} cells"),
        }
    };
    let by_cell = if curves.len() > 1 { "By cell, the" } else { "The" };
    format!("{by_cell} median {} {}, and the 99th percentile {}", shown.what, span(0.5), span(0.99))
}

/// `None` where the cell's trials have no such histogram.
fn curve<'a>(ranked: &Ranked<'a>, cell: usize, shown: &Shown<'_>) -> Option<Curve<'a>> {
    let of = ranked.distributions.of(shown.histograms, cell)?;
    let grid = grid(of.merged.len(), of.lost);
    let quantiles: Vec<f64> = grid.iter().map(|rarity| 1.0 - 1.0 / rarity).collect();
    // The spread is unknown beyond the last value of the trial with the fewest.
    let fewest = of.trials.iter().map(|trial| trial.values.len()).min().filter(|_| of.trials.len() > 1).unwrap_or(0);
    // Nor beyond the merged curve, which ends sooner if another trial lost most of its attempts.
    let fewest = fewest.min(grid.len());
    let spread = |(point, rarity): (usize, &f64)| {
        let values = || of.trials.iter().map(|trial| trial.values[point]);
        (*rarity, values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max))
    };
    Some(Curve {
        cell,
        // Receive waits are always bounds, as the notes say; dots set bounds apart from exact waits.
        bound: shown.is_wait && ranked.cells[cell].summary.waits_are_bounds(),
        trials: of.trials.len(),
        points: grid.iter().copied().zip(values_at(&of.merged, of.lost, &quantiles)).collect(),
        band: grid[..fewest].iter().enumerate().map(spread).collect(),
        merged: &of.merged,
        lost: of.lost,
    })
}

fn figure(heading: String, ranked: &Ranked<'_>, curves: &[&Curve<'_>], most: u64, y: &Axis) -> Figure {
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
    let longest = curves.iter().map(|curve| curve.merged.len() + curve.lost).max().unwrap_or(0);
    let stops = NAMED.iter().filter(|(_, q)| rarity(*q) <= longest as f64).map(|(name, q)| Stop {
        x: rarity(*q),
        label: format!("{name} %"),
        values: curves
            .iter()
            .map(|curve| if reaches(curve, *q) { shown_at(curve, *q) } else { String::new() })
            .collect(),
    });
    Figure {
        heading,
        x,
        y: y.clone(),
        lines: curves.iter().map(line).collect(),
        spans: Vec::new(),
        stops: stops.collect(),
    }
}

/// A cell's value at a quantile: of fewer attempts than it distinguishes, the longest.
fn shown_at(curve: &Curve<'_>, q: f64) -> String {
    curve.merged.value_at(curve.lost, q).map_or_else(|| not_reached(curve), |ns| shown(curve, ns))
}

/// Whether the cell has as many attempts as a quantile distinguishes: so far its curve goes.
fn reaches(curve: &Curve<'_>, q: f64) -> bool {
    rarity(q) <= (curve.merged.len() + curve.lost) as f64
}

/// `not reached (1.3 % lost)`.
fn not_reached(curve: &Curve<'_>) -> String {
    let due = curve.merged.len() + curve.lost;
    format!("not reached ({} lost)", percent(curve.lost as f64 / due as f64))
}

fn shown(curve: &Curve<'_>, ns: u64) -> String {
    format!("{}{}", if curve.bound { "≤ " } else { "" }, duration(ns as f64))
}

/// `1,200`, or `1,200 of 1,250`: how many of those that were due have a value.
fn values(curve: &Curve<'_>) -> String {
    let count = thousands(curve.merged.len() as f64);
    if curve.lost == 0 { count } else { format!("{count} of {}", thousands((curve.merged.len() + curve.lost) as f64)) }
}

/// The percentiles of a table, if the cell with the most attempts has so many. The 99th, by which cells are compared, is never missing.
fn columns(most: u64) -> impl Iterator<Item = &'static (&'static str, f64)> {
    NAMED.iter().filter(move |(_, q)| rarity(*q) <= most.max(COMPARED_FROM) as f64)
}

fn table(ranked: &Ranked<'_>, metric: &Shown<'_>, curves: &[Curve<'_>], most: u64) -> Grid {
    let reached: Vec<_> = columns(most).collect();
    let mut head = vec!["cell".to_owned(), "trials".to_owned(), "values".to_owned()];
    head.extend(reached.iter().map(|(name, _)| format!("{name} %")));
    head.extend(["longest".to_owned(), "99 %, median of trials".to_owned()]);
    let row = |curve: &Curve<'_>| {
        let mut row = vec![ranked.cells[curve.cell].full_name.clone(), curve.trials.to_string(), values(curve)];
        row.extend(reached.iter().map(|(_, q)| shown_at(curve, *q)));
        row.push(if curve.lost > 0 { not_reached(curve) } else { shown(curve, curve.merged.max()) });
        // What is compared, and what findings are about: the unit is the trial.
        let of_trials = ranked.cells[curve.cell].summary.metrics.get(metric.metric);
        row.push(of_trials.map_or_else(
            || "–".to_owned(),
            |values| {
                let lost = || format!("not reached{}", values.lost_in_words());
                if values.median.is_finite() { shown(curve, values.median as u64) } else { lost() }
            },
        ));
        row
    };
    Grid::new(head, 0, curves.iter().map(row).collect())
}

fn notes(shown: &Shown<'_>, curves: &[Curve<'_>], bounds: usize, left_out: usize, is_split: bool) -> Vec<String> {
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
            "≤: all accept waits are upper bounds, measured from the client's connect call; the true waits are shorter by what connect() took (with TCP, the handshake)."
                .to_owned(),
        );
    } else if bounds > 0 {
        notes
            .push("Dotted and ≤: upper bounds on the accept wait, measured from the client's connect call.".to_owned());
    }
    let (lost, due) =
        curves.iter().fold((0, 0), |(lost, due), curve| (lost + curve.lost, due + curve.lost + curve.merged.len()));
    if lost > 0 {
        let is_exact = shown.histograms == ACCEPT_WAIT.histograms && bounds < curves.len();
        notes.push(format!(
            "Percentiles are of {} attempts that were due{}; {} of them failed and count as slower than any other. A curve ends where \
             its values do.",
            thousands(due as f64),
            if is_exact { " and whose establishment, if there was one, was seen" } else { "" },
            thousands(lost as f64)
        ));
    }
    let fewest = curves.iter().map(|curve| curve.merged.len() + curve.lost).min().unwrap_or(0);
    let most = curves.iter().map(|curve| curve.merged.len() + curve.lost).max().unwrap_or(0);
    let beyond: Vec<_> = columns(most).filter(|(_, q)| rarity(*q) > fewest as f64).collect();
    if let Some((name, q)) = beyond.first() {
        notes.push(format!(
            "In the table, a percentile of fewer attempts than it distinguishes ({} for {name} %) is the longest of them; the curve \
             ends before it.",
            thousands(rarity(*q))
        ));
    }
    if is_split {
        notes.push(
            "Waits that were measured differently, or end at different events, are drawn apart: do not compare them."
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
    fn a_trial_that_lost_all_ends_the_curve_of_all() {
        let mut sample = Sample::new("");
        for _ in 0..2 {
            sample.trial(json!({}), &[50, 50], 1_000);
        }
        sample.trial(json!({}), &[0, 0], 1_000).latency_ns.accept_wait.lost = 1 << 50;
        let reading = sample.reading();
        let of = reading.distributions.of("accept_wait", 0).unwrap();
        assert!(of.trials.iter().all(|trial| trial.values.len() > grid(of.merged.len(), of.lost).len()));
        let chart = percentiles(&Ranked::of(&reading)).unwrap();
        assert!(chart.figures.iter().flat_map(|figure| &figure.lines).all(|line| line.band.is_empty()));
    }

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
            assert_eq!(Some(*ns as u64), merged.value_at(0, 1.0 - 1.0 / rarity));
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
    fn a_percentile_of_too_few_values_is_the_longest_everywhere() {
        let table = |accepts: &[u64]| {
            let mut sample = Sample::new("");
            for (cell, accepts) in accepts.iter().enumerate() {
                sample.trial(json!({ "cell": cell }), &[*accepts], 1_000);
            }
            let reading = sample.reading();
            let chart = percentiles(&Ranked::of(&reading)).unwrap();
            let at = |head: &str| chart.table.head.iter().position(|name| name == head).unwrap();
            let columns = ["99 %", "longest", "99 %, median of trials"].map(at);
            let rows = chart.table.rows.iter();
            let row = |row: &Vec<String>| columns.map(|column| row[column].clone());
            let note = chart.notes.iter().find(|note| note.contains("fewer attempts")).cloned();
            (rows.map(row).collect::<Vec<_>>(), note.unwrap_or_default())
        };
        let (rows, note) = table(&[50]);
        assert!(rows[0].iter().all(|shown| *shown == rows[0][0] && shown.starts_with("50.0")), "{rows:?}");
        assert!(note.contains("(100 for 99 %) is the longest"), "{note}");
        // Beside a cell with more of them too.
        let (rows, note) = table(&[50, 200]);
        assert!(rows[0].iter().all(|shown| *shown == rows[0][0]), "{rows:?}");
        assert!(rows[1][0] == rows[1][2] && rows[1][0] != rows[1][1], "{rows:?}");
        assert!(note.contains("(100 for 99 %)"), "{note}");
        assert_eq!(table(&[200]).1, "");
    }

    #[test]
    fn bounds_are_marked() {
        let mut sample = Sample::new("");
        sample.trial(json!({ "stamps": "exact" }), &[50], 1_000);
        sample.trial(json!({ "stamps": "bound" }), &[50], 1_000).latency_ns.accept_wait.method =
            Some(WaitMethod::ConnectCall);
        let reading = sample.reading();
        let chart = percentiles(&Ranked::of(&reading)).unwrap();
        let bounds: Vec<_> = chart.figures.iter().map(|figure| (&figure.heading[..], figure.lines[0].bound)).collect();
        let until = "waits until the serving worker has the connection";
        assert_eq!(bounds, [(until, false), (&format!("upper bounds of {until}"), true)]);
        assert!(chart.table.rows[1][4].starts_with("≤ ") && !chart.table.rows[0][4].starts_with("≤ "));
    }
}
