//! Between one queue and one per worker: what a number of listeners costs in wake-ups, and what it does to the tail.

use maud::html;
use serde_json::{Map, Value as Json};

use super::{Content, In};
use crate::{
    record::Values,
    report::{
        Grid, Ranked,
        claims::{self, capital},
        html::parts::{legend, plot},
        plot::{
            NARROW, WIDE,
            figure::{Axis, Figure, Line, Mark, Stop},
        },
        ranked::Cell,
        short,
    },
    stats::{Comparison, Difference, Metric, metric_named},
};

/// The short name of `server.listeners`.
const LISTENERS: &str = "listeners";
/// A worker goes to sleep as often as it is woken, even where epoll puts it back before it returns.
const WAKE_UPS: &str = "voluntary_switches_per_accept";
const TAIL: &str = "response_p99_ns";

/// The cells that differ only in their number of listeners, fewest first.
struct Curve<'a> {
    name: String,
    points: Vec<Point<'a>>,
}

/// A cell on its curve.
struct Point<'a> {
    cell: &'a Map<String, Json>,
    listeners: &'a Json,
    wake_ups: &'a Values,
    tail: &'a Values,
}

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let (wake_ups, tail) = (metric_named(WAKE_UPS)?, metric_named(TAIL)?);
    let curves = curves(ranked);
    if curves.is_empty() {
        return None;
    }
    let figure = figure(&curves, wake_ups, tail);
    let how = format!(
        "Medians of valid trials. Each mark is a number of listeners, joined from the fewest to the most, whose mark is a cross. {} count \
         wake-ups, including those after which epoll_wait() does not return. Lower and further left is better.",
        capital(wake_ups.label)
    );
    Some(Content {
        title: "From one queue to one per worker".to_owned(),
        finding: finding(&curves, wake_ups, tail, &ranked.summary.comparisons),
        figure: Some(html! {
            (legend(figure.lines.iter()))
            (plot(&figure, &[WIDE, NARROW]))
        }),
        tables: vec![(In::Page, table(&curves, wake_ups, tail))],
        notes: vec![(In::Page, how)],
        ..Content::default()
    })
}

/// A curve for each set of cells with at least two numbers of listeners.
fn curves<'a>(ranked: &'a Ranked<'_>) -> Vec<Curve<'a>> {
    let mut curves: Vec<(Map<String, Json>, Curve<'a>)> = Vec::new();
    for cell in &ranked.cells {
        let Some(point) = point(cell) else { continue };
        let mut others = cell.summary.cell.clone();
        others.shift_remove(LISTENERS);
        match curves.iter_mut().find(|(known, _)| *known == others) {
            Some((_, curve)) => curve.points.push(point),
            None => {
                let name = if others.is_empty() { "this load".to_owned() } else { short(&others) };
                curves.push((others, Curve { name, points: vec![point] }));
            }
        }
    }
    let mut curves: Vec<Curve<'_>> = curves.into_iter().map(|(_, curve)| curve).collect();
    curves.retain(|curve| curve.points.len() > 1);
    for curve in &mut curves {
        // One per worker is the most there can be.
        curve.points.sort_by_key(|point| point.listeners.as_u64().unwrap_or(u64::MAX));
    }
    curves
}

/// `None` where the number of listeners is not swept, or nothing was measured.
fn point<'a>(cell: &'a Cell<'_>) -> Option<Point<'a>> {
    let of = |metric: &str| cell.summary.metrics.get(metric).filter(|values| values.median.is_finite());
    let cell = cell.summary;
    Some(Point { cell: &cell.cell, listeners: cell.cell.get(LISTENERS)?, wake_ups: of(WAKE_UPS)?, tail: of(TAIL)? })
}

impl Point<'_> {
    fn listeners(&self) -> String {
        match self.listeners.as_u64() {
            Some(1) => "1 listener".to_owned(),
            Some(count) => format!("{count} listeners"),
            None => "one listener per worker".to_owned(),
        }
    }

    fn at(&self) -> (f64, f64) {
        (self.wake_ups.median, self.tail.median)
    }
}

fn figure(curves: &[Curve<'_>], wake_ups: &Metric, tail: &Metric) -> Figure {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let most = points().map(|point| point.wake_ups.median).fold(0.0, f64::max);
    let mut stops: Vec<Stop> = Vec::new();
    for (number, curve) in curves.iter().enumerate() {
        stops.extend(curve.points.iter().map(|point| {
            let mut values = vec![String::new(); curves.len()];
            values[number] = tail.show_median(point.tail);
            let label = format!("{}, {} {}", point.listeners(), wake_ups.show_median(point.wake_ups), wake_ups.label);
            Stop { x: point.wake_ups.median, label, values }
        }));
    }
    stops.sort_by(|one, other| one.x.total_cmp(&other.x));
    Figure {
        heading: String::new(),
        x: Axis::from_zero(wake_ups.label, most, |value| wake_ups.unit.show(value)),
        y: Axis::log_ns(tail.label, points().map(|point| point.tail.median)),
        lines: curves.iter().enumerate().map(|(style, curve)| line(curve, style)).collect(),
        spans: Vec::new(),
        stops,
    }
}

fn line(curve: &Curve<'_>, style: usize) -> Line {
    let last = curve.points.len() - 1;
    let mark = |(number, point): (usize, &Point<'_>)| {
        let (x, y) = point.at();
        (x, y, if number == last { Mark::Cross } else { Mark::Dot })
    };
    Line {
        name: curve.name.clone(),
        style,
        bound: false,
        // The most listeners take the fewest wake-ups, and are furthest left.
        points: curve.points.iter().rev().map(Point::at).collect(),
        band: Vec::new(),
        marks: curve.points.iter().enumerate().map(mark).collect(),
    }
}

/// The ends of the curve whose tails are furthest apart, and whether a test tells these apart.
fn finding(curves: &[Curve<'_>], wake_ups: &Metric, tail: &Metric, comparisons: &[Comparison]) -> String {
    let span = |curve: &Curve<'_>| {
        let tails = || curve.points.iter().map(|point| point.tail.median);
        tails().fold(0.0, f64::max) / tails().fold(f64::INFINITY, f64::min).max(1.0)
    };
    let Some(widest) = curves.iter().max_by(|one, other| span(one).total_cmp(&span(other))) else {
        return String::new();
    };
    let by = |of: fn(&Point<'_>) -> f64| move |one: &&Point<'_>, other: &&Point<'_>| of(one).total_cmp(&of(other));
    let (tails, sleeps) = (by(|point| point.tail.median), by(|point| point.wake_ups.median));
    let points = || widest.points.iter();
    let ends = points().min_by(tails).zip(points().max_by(tails)).zip(points().min_by(sleeps));
    let Some(((lowest, highest), fewest)) = ends else { return String::new() };
    let shown = |point: &Point<'_>| {
        let [tail_is, sleeps] =
            [(tail, point.tail), (wake_ups, point.wake_ups)].map(|(of, values)| of.show_median(values));
        format!("{}: {tail_is} at {sleeps} {}", point.listeners(), wake_ups.label)
    };
    let place = match curves.len() {
        1 => String::new(),
        count => format!("At {}, where the tails differ most of {count} curves: ", widest.name),
    };
    let is_both = lowest.listeners == fewest.listeners;
    let told = if is_both {
        format!("{place}lowest medians of {} and of {} with {}", tail.label, wake_ups.label, shown(lowest))
    } else {
        let (lowest, fewest) = (shown(lowest), shown(fewest));
        format!("{place}lowest median {} with {lowest}; fewest {} with {fewest}", tail.label, wake_ups.label)
    };
    let told = if place.is_empty() { capital(&told) } else { told };
    let from = if is_both { format!(" from {}", highest.listeners()) } else { String::new() };
    let tested = test(comparisons, lowest, if is_both { highest } else { fewest });
    let tested = tested.map_or_else(String::new, |verdict| {
        let difference = format!("difference in {}{from}", tail.label);
        match verdict {
            verdict if verdict.is_shown() => format!("; the {difference} is shown"),
            Difference::TooFewTrials => format!("; {}", claims::TOO_FEW),
            _ => format!("; no {difference} is shown"),
        }
    });
    told + &tested
}

/// What the test of two points' tails shows; `None` if they were not compared.
fn test(comparisons: &[Comparison], one: &Point<'_>, other: &Point<'_>) -> Option<Difference> {
    let is_of = |found: &&Comparison| {
        let cells = [&found.a, &found.b];
        found.metric == TAIL && cells.contains(&one.cell) && cells.contains(&other.cell)
    };
    comparisons.iter().find(is_of).map(|found| found.compared.verdict)
}

fn table(curves: &[Curve<'_>], wake_ups: &Metric, tail: &Metric) -> Grid {
    let rows = curves.iter().flat_map(|curve| {
        curve.points.iter().map(|point| {
            let listeners = point.listeners.as_u64().map_or_else(|| "one per worker".to_owned(), |k| k.to_string());
            vec![curve.name.clone(), listeners, wake_ups.show_median(point.wake_ups), tail.show_median(point.tail)]
        })
    });
    let head = ["curve", "listeners", wake_ups.label, tail.label];
    Grid { labels: 2, title: "Listeners, wake-ups and tail".to_owned(), ..Grid::new(head, 0, rows.collect()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::{LatencySummary, WorkerCounts},
        report::sample::Sample,
        scenario::keys::{AnyKey, SERVER_LISTENERS},
    };

    /// A cell's number of listeners, its sleeps over 10 accepts, and its response p99 in ms.
    fn content(cells: &[(Json, u64, u64)]) -> Option<Content> {
        let mut sample = Sample::new("How many listeners?");
        for (cell, sleeps, p99_ms) in cells {
            let trial = sample.trial(cell.clone(), &[5, 5], 1_000);
            for worker in &mut trial.workers {
                let counts = WorkerCounts { voluntary_switches: Some(*sleeps / 2), ..worker.total.clone() };
                worker.measured = counts;
            }
            let figure = Some(p99_ms * 1_000_000);
            trial.latency_ns.response = LatencySummary { count: 10, due: 10, p99: figure, ..LatencySummary::default() };
        }
        section(&Ranked::of(&sample.reading()))
    }

    #[test]
    fn a_curve_leads_from_the_best_tail_to_the_fewest_wake_ups() {
        assert_eq!(SERVER_LISTENERS.path().rsplit('.').next(), Some(LISTENERS));
        let cell = |listeners: Json, time: &str| json!({ "listeners": listeners, "service_time": time });
        let content = content(&[
            (cell(json!("per-worker"), "2ms"), 10, 9),
            (cell(json!(1), "2ms"), 40, 3),
            (cell(json!(2), "2ms"), 20, 5),
            (cell(json!(1), "0us"), 40, 1),
            (cell(json!(2), "0us"), 20, 1),
            // A single number of listeners makes no curve.
            (cell(json!(1), "1s"), 10, 1),
        ])
        .unwrap();
        assert_eq!(
            content.finding,
            "At service_time = 2ms, where the tails differ most of 2 curves: lowest median response p99 with 1 listener: 3.00 ms at 4.00 sleeps \
             per accept; fewest sleeps per accept with one listener per worker: 9.00 ms at 1.00 sleeps per accept; too few trials to show \
             any difference"
        );
        let rows: Vec<&[String]> = content.tables[0].1.rows.iter().map(|row| &row[1..3]).collect();
        let expected = [["1", "4.00"], ["2", "2.00"], ["one per worker", "1.00"], ["1", "4.00"], ["2", "2.00"]];
        assert!(rows.iter().zip(&expected).all(|(row, expected)| row == expected) && rows.len() == 5, "{rows:?}");
    }

    #[test]
    fn ends_of_a_curve_are_told_apart_only_by_a_test() {
        let finding = |far_ms: u64| {
            let cell = |listeners: u64| json!({ "listeners": listeners });
            let trials =
                (0..5).flat_map(|n| [(cell(1), 40, 10 + n), (cell(2), 20, far_ms + n), (cell(4), 10, far_ms + n)]);
            content(&trials.collect::<Vec<_>>()).unwrap().finding
        };
        let ends = |far: &str| {
            format!(
                "Lowest median response p99 with 1 listener: 12.0 ms at 4.00 sleeps per accept; fewest sleeps per accept with 4 listeners: {far} \
                 at 1.00 sleeps per accept"
            )
        };
        assert_eq!(finding(11), ends("13.0 ms") + "; no difference in response p99 is shown");
        assert_eq!(finding(90), ends("92.0 ms") + "; the difference in response p99 is shown");
    }

    #[test]
    fn one_number_can_be_best_at_both_and_other_scenarios_have_no_curve() {
        let both = content(&[(json!({ "listeners": 1 }), 40, 3), (json!({ "listeners": 2 }), 20, 2)]).unwrap();
        assert_eq!(
            both.finding,
            "Lowest medians of response p99 and of sleeps per accept with 2 listeners: 2.00 ms at 2.00 sleeps per accept; too few trials to \
             show any difference"
        );
        assert!(content(&[(json!({ "strategy": "reuseport" }), 10, 1)]).is_none());
        assert!(content(&[(json!({ "listeners": 2 }), 10, 1)]).is_none());
    }
}
