//! Accepts, queues and open connections of each worker over time, in one trial of each cell.

mod columns;
mod faults;

use maud::{Markup, html};

use self::{
    columns::{Columns, KINDS, Kind, Points, QUEUE, columns},
    faults::{spans, state, warmup},
};
use super::{Content, In};
use crate::{
    format::{plural, thousands},
    record::TrialRecord,
    report::{
        Grid, Ranked,
        html::parts::{bare_table, folded, legend, plot},
        plot::{
            COLOURS, DISTINCT, SMALL,
            figure::{Axis, Figure, Line, Stop},
        },
        ranked::Cell,
    },
    stats::Metric,
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
    /// The faults that the letters in the figures stand for.
    pub faults: Vec<String>,
    /// Accepts per second, queue depth, open connections, as far as recorded.
    pub figures: Vec<Figure>,
    /// The same in numbers: a row for each interval.
    pub table: Grid,
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
    let drawn: Vec<Markup> = chart.cells.iter().map(draw).collect();
    let lines = chart.cells.iter().flat_map(|cell| &cell.figures).filter(|figure| figure.lines.len() > 1);
    let (open, more) = drawn.split_at(drawn.len().min(OPEN));
    let figure = html! {
        (legend(lines.flat_map(|figure| &figure.lines)))
        @for cell in open { (cell) }
        @if !more.is_empty() { (folded(&plural(more.len(), "more cell"), &html! { @for cell in more { (cell) } })) }
    };
    Some(Content {
        title: "Over time, per worker".to_owned(),
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
        chosen.into_iter().filter_map(|cell| Some((cell, median_trial(cell, ranked.ranking.metric)?))).collect();
    let kinds: Vec<&'static Kind> =
        KINDS.iter().filter(|kind| trials.iter().any(|(_, trial)| kind.is_shown(&trial.series))).collect();
    let rows: Vec<Rows<'_>> = trials.into_iter().map(|(cell, trial)| rows(ranked, cell, trial, &kinds)).collect();
    if rows.is_empty() {
        return None;
    }
    let axes: Vec<Axis> = KINDS.iter().map(|kind| axis(kind, &rows)).collect();
    let last = rows.iter().filter_map(|rows| rows.ends.last()).copied().fold(0.0, f64::max);
    let cells = rows.iter().map(|rows| of_cell(ranked, rows, &axes, last)).collect();
    Some(TimeSeries { title: title(&rows), cells, notes: notes(ranked, &rows, left_out) })
}

fn has(trial: &TrialRecord) -> bool {
    trial.series.interval_ms > 0 && KINDS.iter().any(|kind| kind.is_shown(&trial.series))
}

/// At most [`CELLS`] cells, and the number left out. Cells with faults come first, then the lowest and the highest medians.
fn choose<'a>(ranked: &Ranked<'_>, cells: Vec<&'a Cell<'a>>) -> (Vec<&'a Cell<'a>>, usize) {
    let all = cells.len();
    let faulty = |cell: &&Cell<'_>| cell.trials.iter().any(|trial| !trial.events.is_empty());
    let cells = if all > CELLS && cells.iter().any(faulty) {
        cells.into_iter().filter(|cell| faulty(cell)).collect()
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

/// The valid trial with the median of the ranking metric, the lower of two.
fn median_trial<'a>(cell: &Cell<'a>, metric: &Metric) -> Option<&'a TrialRecord> {
    let mut trials: Vec<&TrialRecord> = cell.trials.iter().copied().filter(|trial| has(trial)).collect();
    trials.sort_by(|one, other| {
        let value = |trial| (metric.read)(trial).unwrap_or(f64::INFINITY);
        value(one).total_cmp(&value(other))
    });
    trials.get(trials.len().checked_sub(1)? / 2).copied()
}

fn rows<'a>(ranked: &Ranked<'_>, cell: &'a Cell<'a>, trial: &'a TrialRecord, kinds: &[&'static Kind]) -> Rows<'a> {
    let series = &trial.series;
    let length = KINDS.iter().map(|kind| (kind.rows)(series).len()).max().unwrap_or(0);
    let joined = length.div_ceil(POINTS).max(1);
    let seconds = series.interval_ms as f64 / 1e3;
    let ends = (1..=length.div_ceil(joined)).map(|point| (point * joined).min(length) as f64 * seconds).collect();
    let load_end = warmup(&ranked.record.scenario, trial).unwrap_or(0.0) + trial.duration_s;
    let points = Points { joined, seconds, load_end };
    let columns = kinds.iter().filter_map(|kind| columns(kind, series, points)).collect();
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
    let (spans, faults) = spans(&ranked.record.scenario, rows.trial);
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
        faults,
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

/// The longest queue, where, and when.
fn title(rows: &[Rows<'_>]) -> String {
    let peaks = rows.iter().flat_map(|rows| {
        let queues = rows.columns.iter().filter(|columns| columns.kind.shared);
        queues.flat_map(move |columns| {
            let values = columns.values.iter().flat_map(|values| values.iter().copied().enumerate());
            values.map(move |(point, value)| (value, point, rows, columns.kind))
        })
    });
    let Some((most, point, at, kind)) = peaks.max_by(|one, other| one.0.total_cmp(&other.0)) else {
        return "What each worker did over time".to_owned();
    };
    let (what, unit) = if kind.heading == QUEUE { ("accept queue", "connections") } else { ("socket queue", "bytes") };
    if most == 0.0 {
        return format!("Every {what} was empty in every sample");
    }
    let end = at.ends[point];
    let fault = at.trial.events.iter().find(|fault| fault.at_s <= end && end <= fault.at_s + fault.lasted_s + 0.1);
    let fault = fault.map_or_else(String::new, |fault| format!(", while worker {} {}", fault.worker, state(fault)));
    format!("The longest {what} holds {} {unit}: {} at {end:.1} s{fault}", thousands(most), at.cell.full_name)
}

fn notes(ranked: &Ranked<'_>, rows: &[Rows<'_>], left_out: usize) -> Vec<String> {
    let mut notes = vec![format!(
        "Shows each cell's valid trial with the median {}. All charts of a kind share a vertical scale. Light grey: warm-up, not \
         measured. Rates end with the load; connections still under way are served after that, and counted in trials.jsonl.",
        ranked.ranking.metric.label
    )];
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
        notes.push(format!("Workers from {COLOURS} on are drawn in grey; the table has all of them."));
    }
    if left_out > 0 {
        notes.push(format!(
            "{} left out: cells with faults come first, then the lowest and highest medians. All series are in trials.jsonl.",
            if left_out == 1 { "1 cell is".to_owned() } else { format!("{left_out} cells are") }
        ));
    }
    notes
}

fn draw(cell: &CellSeries) -> Markup {
    html! {
        div.group {
            h3 { (cell.name) " " span.remark { (cell.trial) } }
            @if !cell.faults.is_empty() { p.faults { @for fault in &cell.faults { span.key { (fault) } " " } } }
            div.panels { @for figure in &cell.figures { (plot(figure, &[SMALL])) } }
            (folded(&format!("Numbers: {} intervals", cell.table.rows.len()), &bare_table(&cell.table)))
        }
    }
}
