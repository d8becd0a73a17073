//! Accepts, queues and open connections of each worker over time, in one trial of each cell.

mod columns;
mod events;

use std::collections::BTreeSet;

use maud::{Markup, html};

use self::{
    columns::{Columns, KINDS, Kind, OPEN_CONNECTIONS, Points, QUEUE, columns},
    events::{spans, state, warmup},
};
use super::{Content, In};
use crate::{
    format::{plural, thousands},
    record::TrialRecord,
    report::{
        Grid, Ranked,
        claims::capital,
        html::parts::{bare_table, folded, legend, plot},
        plot::{
            COLOURS, DISTINCT, SMALL,
            figure::{Axis, Figure, Line, Stop},
        },
        ranked::{Cell, chosen},
    },
};

/// Cells beyond these are folded.
const OPEN: usize = 6;

/// Points of a line, at most: more intervals are joined.
const POINTS: usize = 60;
/// Cells shown, at most.
const CELLS: usize = 12;

/// The chart.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeSeries {
    /// The finding.
    pub title: String,
    /// In the order of the matrix.
    pub cells: Vec<CellSeries>,
    /// How to read it.
    pub notes: Vec<String>,
}

/// A cell's figures.
#[derive(Debug, Clone, PartialEq)]
pub struct CellSeries {
    /// Its name.
    pub name: String,
    /// Which of its trials is shown.
    pub trial: String,
    /// The events that the letters in the figures stand for.
    pub events: Vec<String>,
    /// Accepts per second, queue depth, open connections, as far as recorded.
    pub figures: Vec<Figure>,
    /// The same in numbers: a row for each interval.
    pub table: Grid,
}

impl CellSeries {
    /// The lines of figures with several.
    fn lines(&self) -> impl Iterator<Item = &Line> {
        self.figures.iter().filter(|figure| figure.lines.len() > 1).flat_map(|figure| &figure.lines)
    }
}

/// The rows of one cell before the axes are known.
struct Rows<'a> {
    cell: &'a Cell<'a>,
    trial: &'a TrialRecord,
    /// Ends of the intervals, in seconds from the trial's start.
    ends: Vec<f64>,
    columns: Vec<Columns>,
}

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let chart = series(ranked)?;
    // One legend for all cells, if a style has the same name in each.
    let lines: Vec<&Line> = chart.cells.iter().flat_map(CellSeries::lines).collect();
    let names: BTreeSet<(usize, &str)> = lines.iter().map(|line| (line.style, &line.name[..])).collect();
    let styles: BTreeSet<usize> = names.iter().map(|(style, _)| *style).filter(|style| *style < COLOURS).collect();
    let is_common = styles.len() == names.iter().filter(|(style, _)| *style < COLOURS).count();
    let drawn: Vec<Markup> = chart.cells.iter().map(|cell| draw(cell, !is_common)).collect();
    let (open, more) = drawn.split_at(drawn.len().min(OPEN));
    let figure = html! {
        @if is_common { (legend(lines.into_iter())) }
        @for cell in open { (cell) }
        @if !more.is_empty() { (folded(&plural(more.len(), "more cell"), &html! { @for cell in more { (cell) } })) }
    };
    Some(Content {
        title: format!("Over time, per {}", ranked.member()),
        finding: chart.title,
        figure: Some(figure),
        notes: chart.notes.into_iter().map(|note| (In::Page, note)).collect(),
        ..Content::default()
    })
}

/// `None` where no valid trial has series of workers.
fn series(ranked: &Ranked<'_>) -> Option<TimeSeries> {
    let candidates = ranked.cells.iter().filter(|cell| cell.trials.iter().any(|trial| has(trial)));
    let (chosen, left_out) = choose(ranked, candidates.collect());
    let trials: Vec<_> =
        chosen.into_iter().filter_map(|cell| Some((cell, cell.median_trial(ranked.ranking.metric, has)?))).collect();
    let kinds: Vec<&'static Kind> =
        KINDS.iter().filter(|kind| trials.iter().any(|(_, trial)| kind.is_shown(&trial.series))).collect();
    let rows: Vec<Rows<'_>> = trials.into_iter().map(|(cell, trial)| rows(ranked, cell, trial, &kinds)).collect();
    if rows.is_empty() {
        return None;
    }
    let axes: Vec<Axis> = KINDS.iter().map(|kind| axis(kind, &rows)).collect();
    let last = rows.iter().filter_map(|rows| rows.ends.last()).copied().fold(0.0, f64::max);
    let cells = rows.iter().map(|rows| of_cell(ranked, rows, &axes, last)).collect();
    Some(TimeSeries { title: title(ranked), cells, notes: notes(ranked, &rows, left_out) })
}

fn has(trial: &TrialRecord) -> bool {
    trial.series.interval_ms > 0 && KINDS.iter().any(|kind| kind.is_shown(&trial.series))
}

/// At most [`CELLS`] cells, and the number left out. Cells with events come first, then the lowest and the highest medians.
fn choose<'a>(ranked: &Ranked<'_>, cells: Vec<&'a Cell<'a>>) -> (Vec<&'a Cell<'a>>, usize) {
    let all = cells.len();
    let disturbed = |cell: &&Cell<'_>| cell.trials.iter().any(|trial| !trial.events.is_empty());
    let cells = if all > CELLS && cells.iter().any(disturbed) {
        cells.into_iter().filter(|cell| disturbed(cell)).collect()
    } else {
        cells
    };
    if cells.len() <= CELLS {
        let left_out = all - cells.len();
        return (cells, left_out);
    }
    let median =
        |cell: &Cell<'_>| cell.summary.metrics.get(ranked.ranking.metric.name).map_or(f64::NAN, |values| values.median);
    let mut order: Vec<usize> = (0..cells.len()).collect();
    order.sort_by(|one, other| median(cells[*one]).total_cmp(&median(cells[*other])));
    let kept: Vec<usize> = order[..CELLS / 2].iter().chain(&order[order.len() - CELLS / 2..]).copied().collect();
    let left_out = all - kept.len();
    let kept = cells.into_iter().enumerate().filter(|(number, _)| kept.contains(number)).map(|(_, cell)| cell);
    (kept.collect(), left_out)
}

fn rows<'a>(ranked: &Ranked<'_>, cell: &'a Cell<'a>, trial: &'a TrialRecord, kinds: &[&'static Kind]) -> Rows<'a> {
    let series = &trial.series;
    let length = KINDS.iter().map(|kind| (kind.rows)(series).len()).max().unwrap_or(0);
    let joined = length.div_ceil(POINTS).max(1);
    let seconds = series.interval_ms as f64 / 1e3;
    let ends = (1..=length.div_ceil(joined)).map(|point| (point * joined).min(length) as f64 * seconds).collect();
    let load_end = warmup(&ranked.record.scenario, trial).unwrap_or(0.0) + trial.duration_s;
    let points = Points { joined, seconds, load_end };
    let columns = kinds
        .iter()
        .filter_map(|kind| columns(kind, series, points, cell.members(), &|number| cell.member_in(trial, number)))
        .collect();
    Rows { cell, trial, ends, columns }
}

/// The same for all cells, for comparison by eye.
fn axis(kind: &Kind, rows: &[Rows<'_>]) -> Axis {
    let columns = rows.iter().flat_map(|rows| &rows.columns).filter(|columns| columns.kind.heading == kind.heading);
    let most = columns.flat_map(|columns| columns.values.iter().flatten()).copied().fold(0.0, f64::max);
    Axis::counts(kind.heading, most)
}

fn of_cell(ranked: &Ranked<'_>, rows: &Rows<'_>, axes: &[Axis], last: f64) -> CellSeries {
    // One time axis for all, except for cells that ended long before the others.
    let own = rows.ends.last().copied().unwrap_or(last);
    let last = if own < last / 2.0 { own } else { last };
    let x = Axis::from_zero("", last, |value| {
        if value == 0.0 { "0".to_owned() } else { format!("{} s", crate::format::number(value)) }
    });
    let x = Axis { high: last, ticks: x.ticks.into_iter().filter(|(value, _)| *value <= last).collect(), ..x };
    let (spans, events) = spans(&ranked.record.scenario, rows.trial);
    let figure = |columns: &Columns| {
        let line = |(number, (name, values)): (usize, (&String, &Vec<f64>))| Line {
            name: name.clone(),
            style: if number < COLOURS { number } else { DISTINCT },
            bound: false,
            points: rows.ends.iter().copied().zip(values.iter().copied()).collect(),
            band: Vec::new(),
            marks: Vec::new(),
        };
        let stop = |(point, end): (usize, &f64)| Stop {
            x: *end,
            label: format!("{end:.1} s"),
            values: columns
                .values
                .iter()
                .map(|values| values.get(point).map_or_else(String::new, |value| thousands(*value)))
                .collect(),
        };
        let axis = KINDS.iter().position(|kind| kind.heading == columns.kind.heading).unwrap_or(0);
        Figure {
            heading: columns.kind.heading.to_owned(),
            x: x.clone(),
            y: Axis { label: String::new(), ..axes[axis].clone() },
            lines: columns.names.iter().zip(&columns.values).enumerate().map(line).collect(),
            spans: spans.clone(),
            stops: rows.ends.iter().enumerate().map(stop).collect(),
        }
    };
    CellSeries {
        name: rows.cell.full_name.clone(),
        trial: format!("trial {}, repetition {}", rows.trial.trial, rows.trial.repetition),
        events,
        figures: rows.columns.iter().map(figure).collect(),
        table: table(rows),
    }
}

fn table(rows: &Rows<'_>) -> Grid {
    let mut head = vec!["until".to_owned()];
    for columns in &rows.columns {
        head.extend(columns.names.iter().map(|name| format!("{}, {name}", columns.kind.heading)));
    }
    let row = |(point, end): (usize, &f64)| {
        let mut row = vec![format!("{end:.1} s")];
        let values = rows.columns.iter().flat_map(|columns| &columns.values);
        row.extend(values.map(|values| values.get(point).map_or_else(|| "–".to_owned(), |value| thousands(*value))));
        row
    };
    Grid::new(head, 0, rows.ends.iter().enumerate().map(row).collect())
}

/// The longest queue of all valid trials, where, and when.
fn title(ranked: &Ranked<'_>) -> String {
    let trials = ranked.cells.iter().flat_map(|cell| cell.trials.iter().map(move |trial| (cell, *trial)));
    let peaks = trials.flat_map(|(cell, trial)| {
        let queues = KINDS.iter().filter(|kind| kind.shared && kind.is_shown(&trial.series));
        queues.flat_map(move |kind| {
            let lengths = (kind.rows)(&trial.series).iter().map(|row| row.iter().copied().max().unwrap_or(0));
            lengths.enumerate().map(move |(point, length)| (length, point, cell, trial, kind))
        })
    });
    let peaks: Vec<_> = peaks.collect();
    let Some(most) = peaks.iter().map(|(length, ..)| *length).max() else {
        return format!("What each {} did over time", ranked.member());
    };
    let mut longest: Vec<_> = peaks.into_iter().filter(|(length, ..)| *length == most).collect();
    longest.sort_by_key(|(_, point, _, trial, _)| (trial.trial, *point));
    let (_, point, cell, trial, kind) = longest[0];
    let (what, unit) = if kind.heading == QUEUE { ("accept queue", "connection") } else { ("socket queue", "byte") };
    if most == 0 {
        return format!("Every {what} was empty in every sample of all valid trials");
    }
    let end = (point + 1) as f64 * trial.series.interval_ms as f64 / 1e3;
    let event = trial.events.iter().find(|event| event.at_s <= end && end <= event.at_s + event.lasted_s + 0.1);
    let event = event.map_or_else(String::new, |event| format!(", while {}", state(event)));
    let trials: BTreeSet<usize> = longest.iter().map(|(_, _, _, trial, _)| trial.trial).collect();
    let (ties, first) = match trials.len() {
        1 => (String::new(), ""),
        several => (format!(", in {several} of them"), "first in "),
    };
    let ending = if most == 1 { "" } else { "s" };
    format!(
        "The longest {what} of all valid trials held {} {unit}{ending}{ties}: {first}{}, trial {}, at {end:.1} s{event}",
        thousands(most as f64),
        cell.full_name,
        trial.trial
    )
}

fn notes(ranked: &Ranked<'_>, rows: &[Rows<'_>], left_out: usize) -> Vec<String> {
    let metric = ranked.ranking.metric;
    let measured = |rows: &Rows<'_>| rows.cell.trials.iter().any(|trial| metric.read(trial).is_some());
    let measured = rows.iter().filter(|rows| measured(rows)).count();
    let trials: Vec<usize> =
        rows.iter().map(|rows| rows.cell.trials.iter().filter(|trial| has(trial)).count()).collect();
    let mut notes = vec![format!(
        "Shows {}. All charts of a kind share a vertical scale. Light grey: warm-up, not \
         measured. Rates end with the load; what is still under way is served after that, and counted in trials.jsonl.",
        chosen(metric.label, &trials, measured)
    )];
    if rows.iter().flat_map(|rows| &rows.columns).any(|columns| columns.kind.heading == OPEN_CONNECTIONS) {
        notes.push(
            "Open connections are those at the end of each interval: what opens and closes in between does not show."
                .to_owned(),
        );
    }
    let intervals = rows.iter().map(|rows| {
        let length = KINDS.iter().map(|kind| (kind.rows)(&rows.trial.series).len()).max().unwrap_or(0);
        length.div_ceil(POINTS)
    });
    let joined = intervals.max().unwrap_or(1);
    if joined > 1 {
        notes.push(format!(
            "Each point stands for up to {joined} intervals of the record: their sum, their maximum or their last value."
        ));
    }
    if rows.iter().any(|rows| rows.columns.iter().any(|columns| columns.names.len() > COLOURS)) {
        let members = capital(ranked.member());
        notes.push(format!("{members}s from {COLOURS} on are drawn in grey; the table has all of them."));
    }
    if left_out > 0 {
        notes.push(format!(
            "{} left out: cells with events come first, then the lowest and highest medians. All series are in trials.jsonl.",
            if left_out == 1 { "1 cell is".to_owned() } else { format!("{left_out} cells are") }
        ));
    }
    notes
}

fn draw(cell: &CellSeries, has_legend: bool) -> Markup {
    html! {
        div.group {
            h3 { (cell.name) " " span.remark { (cell.trial) } }
            @if !cell.events.is_empty() { p.events { @for event in &cell.events { span.key { (event) } " " } } }
            @if has_legend { (legend(cell.lines())) }
            div.panels { @for figure in &cell.figures { (plot(figure, &[SMALL])) } }
            (folded(&format!("Numbers: {}", plural(cell.table.rows.len(), "interval")), &bare_table(&cell.table)))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{record::WaitEnd, report::sample::Sample};

    /// The title and the first note of trials whose queues peak at these lengths.
    fn read(peaks: &[(&str, u64)]) -> (String, String) {
        let mut sample = Sample::new("Who waits?");
        for (strategy, peak) in peaks {
            let trial = sample.trial(json!({ "strategy": strategy }), &[5, 5], 1_000);
            trial.series.queue_peak = vec![vec![0, 0], vec![*peak, 0], vec![0, *peak]];
        }
        let reading = sample.reading();
        let mut chart = series(&Ranked::of(&reading)).unwrap();
        (chart.title, chart.notes.remove(0))
    }

    #[test]
    fn the_longest_queue_is_one_trials_only_if_no_other_has_as_long_a_one() {
        let title = |peaks: &[(&str, u64)]| read(peaks).0;
        for (peaks, expected) in [
            (&[("a", 1)][..], "The longest accept queue of all valid trials held 1 connection: a, trial 0, at 0.2 s"),
            (
                &[("a", 3), ("b", 64), ("a", 64), ("b", 63)],
                "The longest accept queue of all valid trials held 64 connections, in 2 of them: first in b, trial 1, at 0.2 s",
            ),
            (&[("a", 0), ("b", 0)], "Every accept queue was empty in every sample of all valid trials"),
        ] {
            assert_eq!(title(peaks), expected);
        }
    }

    #[test]
    fn no_median_is_named_where_no_trial_has_one() {
        let first = read(&[("a", 1), ("b", 2)]).1;
        assert!(
            first.starts_with("Shows each cell's valid trial with the median accept wait p99. All charts"),
            "{first}"
        );
        let first = read(&[("a", 1), ("a", 2)]).1;
        assert!(first.contains("nearest to the median accept wait p99, the lower of two. All charts"), "{first}");
    }

    #[test]
    fn members_of_another_server_are_named_as_in_their_table() {
        let mut sample = Sample::new("");
        sample.trial(json!({ "variant": "own" }), &[5, 5], 1_000);
        sample.of_nginx(json!({ "variant": "nginx" }), &[5, 5], 1_000, WaitEnd::Accept);
        let reading = sample.reading();
        let ranked = Ranked::of(&reading);
        let chart = series(&ranked).unwrap();
        let names = |cell: &CellSeries| cell.lines().take(2).map(|line| line.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&chart.cells[0]), ["worker 0", "worker 1"]);
        assert_eq!(names(&chart.cells[1]), ["nginx 100", "nginx 101"]);
        assert!(
            chart.notes[1].starts_with("Open connections are those at the end of each interval"),
            "{:?}",
            chart.notes
        );
        // Each has its own legend.
        let figure = section(&ranked).unwrap().figure.unwrap().into_string();
        assert_eq!(figure.matches("class=\"legend\"").count(), 2);
    }
}
