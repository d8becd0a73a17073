//! The cells in order of the headline's metric, each with its median, interval and trials.

use super::Content;
use crate::{
    format::{plural, ratio},
    record::IntervalKind,
    report::{
        Grid, Group, Ranked, Row,
        claims::{self, p_value},
        html::standings::{Figures, Place, Places, Standings},
        plot::figure::{Axis, Scale, count_tick, duration_tick, log_ticks},
        ranked::with_settings,
        stopping,
    },
    stats::{Better, Difference, Kind, Looks, Metric, Unit},
};

/// From this ratio of the largest value to the smallest, a linear scale would hide the small ones.
const LOG_FROM: f64 = 20.0;
/// Of more trials of a cell, only this many are drawn.
const DOTS: usize = 40;
/// Columns of the table before those that compare a cell with the best.
const COMPARED: usize = 4;

/// Nothing where a search ran, whose results rank instead.
pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    ranked.summary.searches.is_empty().then(|| standings(ranked))?.map(Standings::content)
}

/// `None` where no cell has the metric.
fn standings(ranked: &Ranked<'_>) -> Option<Standings> {
    let ranking = &ranked.ranking;
    let metric = ranking.metric;
    let rows = || ranking.groups.iter().flat_map(|group| &group.rows);
    let values = || rows().filter_map(|row| row.values.as_ref());
    values().next()?;
    let better = match metric.better {
        Better::Lower => ", lower is better",
        Better::Higher => ", higher is better",
        Better::Neither => "",
    };
    let dots_left_out = values().any(|values| values.values.len() > DOTS);
    Some(Standings {
        title: claims::of_metric(ranked, metric.name),
        about: format!("Ranking by {}{better}", metric.label),
        axis: axis(
            metric,
            &values()
                .flat_map(|values| [values.low, values.high].into_iter().chain(values.values.iter().copied()))
                .collect::<Vec<_>>(),
        ),
        groups: ranking
            .groups
            .iter()
            .map(|group| Places {
                heading: group.heading(),
                places: group.rows.iter().map(|row| place(ranked, metric, group, row)).collect(),
            })
            .collect(),
        table: table(ranked, metric),
        notes: notes(
            metric,
            values().any(|values| values.interval == IntervalKind::Range),
            rows().any(|row| row.against_best.is_some()).then_some(&ranked.summary.looks),
            dots_left_out,
        ),
    })
}

fn axis(metric: &Metric, values: &[f64]) -> Axis {
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let low = finite().fold(f64::INFINITY, f64::min);
    let high = finite().reduce(f64::max).unwrap_or(1.0);
    let show = |value: f64| match metric.unit {
        Unit::Nanoseconds | Unit::Seconds if value == 0.0 => "0".to_owned(),
        Unit::Nanoseconds => duration_tick(value),
        Unit::Seconds => duration_tick(1e9 * value),
        Unit::PerSecond | Unit::Count | Unit::Bytes if value >= 10.0 => count_tick(value),
        Unit::Share => format!("{} %", crate::format::number(100.0 * value)),
        _ => crate::format::number(value),
    };
    if low > 0.0 && high / low > LOG_FROM {
        let (low, high) = (low / 1.3, high * 1.3);
        Axis { label: String::new(), scale: Scale::Log, low, high, ticks: log_ticks(low, high, show) }
    } else {
        Axis::from_zero("", high, show)
    }
}

fn place(ranked: &Ranked<'_>, metric: &Metric, group: &Group, row: &Row) -> Place {
    let show = |value: f64| row.show(metric, value);
    let figures = row.values.as_ref().map(|values| Figures {
        median: values.median,
        low: values.low,
        high: values.high,
        shown: row.median(metric),
        tip: format!(
            "{}\nmedian {}\n{}\n{}",
            row.name,
            row.median(metric),
            claims::interval(values, show),
            plural(values.values.len(), "valid trial")
        ),
        trials: thinned(&values.values),
    });
    let standing = match (&row.values, &row.against_best) {
        (None, _) if !row.is_valid => "no valid trial".to_owned(),
        (None, _) => metric.absent.unwrap_or("not measured in any valid trial").to_owned(),
        (_, None) => untested(group, row, metric),
        (_, Some(compared)) => {
            let times = compared.ratio.map_or_else(String::new, |times| format!("{}× · ", ratio(times)));
            match compared.verdict {
                Difference::AHigher | Difference::BHigher => format!("{times}shown"),
                Difference::NoDifferenceShown => format!("{times}not shown"),
                Difference::TooFewTrials if is_level(group, row, metric) => untested(group, row, metric),
                Difference::TooFewTrials if ranked.summary.is_one_trial_per_cell() => "not tested".to_owned(),
                Difference::TooFewTrials => format!("{times}too few trials"),
            }
        }
    };
    let standing = if ranked.summary.cells.len() == 1 { String::new() } else { standing };
    Place { name: row.name.clone(), figures, standing, is_worse: row.is_worse }
}

/// What can be said of a cell that was not tested: the best itself, and all cells of an exact metric.
fn untested(group: &Group, row: &Row, metric: &Metric) -> String {
    let known: Vec<&Row> = group.rows.iter().filter(|row| row.values.is_some()).collect();
    let first = known.first().is_some_and(|first| first.cell == row.cell);
    let median = |row: &Row| row.values.as_ref().map_or(f64::NAN, |values| values.median);
    let ends = |row: &Row| row.values.as_ref().map(|values| (values.low, values.high));
    let shared = known.iter().filter(|row| is_level(group, row, metric)).count() > 1;
    let with_others = if shared { " (tied)" } else { "" };
    match (metric.kind, metric.better) {
        _ if known.len() < 2 => String::new(),
        (_, Better::Neither) => String::new(),
        (Kind::Sampled, _) if first && known[1..].iter().all(|row| row.is_worse) => "best".to_owned(),
        (Kind::Sampled, Better::Lower) if is_level(group, row, metric) => format!("lowest median{with_others}"),
        (Kind::Sampled, _) if is_level(group, row, metric) => format!("highest median{with_others}"),
        (Kind::Sampled, _) => "not tested".to_owned(),
        // The best has no such limit.
        (Kind::Exact | Kind::Counted, _) if row.is_worse && group.rows[0].values.is_none() => String::new(),
        (Kind::Exact | Kind::Counted, better) if row.is_worse => match median(row) / median(known[0]) {
            times if times.is_finite() && times > 0.0 => format!("{}×", ratio(times)),
            _ if better == Better::Lower => "higher".to_owned(),
            _ => "lower".to_owned(),
        },
        (Kind::Exact | Kind::Counted, _) if known[1..].iter().all(|row| row.is_worse) => "best".to_owned(),
        (Kind::Counted, _) if known.iter().all(|other| ends(other) == ends(row)) => "equal".to_owned(),
        (Kind::Counted, Better::Lower) if is_level(group, row, metric) => format!("lowest median{with_others}"),
        (Kind::Counted, _) if is_level(group, row, metric) => format!("highest median{with_others}"),
        (Kind::Counted, _) => "ranges overlap".to_owned(),
        (Kind::Exact, _) if known.iter().all(|row| !row.is_worse) => "equal".to_owned(),
        (Kind::Exact, _) => "best (tied)".to_owned(),
    }
}

/// Whether a cell's median reads like the best one's.
fn is_level(group: &Group, row: &Row, metric: &Metric) -> bool {
    let best = group.rows.iter().find(|row| row.values.is_some());
    row.values.is_some() && best.is_some_and(|best| best.median(metric) == row.median(metric))
}

/// At most `DOTS` values, spaced evenly by rank, with the smallest and the largest.
fn thinned(values: &[f64]) -> Vec<f64> {
    let sorted = crate::stats::ascending(values);
    if sorted.len() <= DOTS {
        return sorted;
    }
    (0..DOTS).map(|i| sorted[i * (sorted.len() - 1) / (DOTS - 1)]).collect()
}

fn table(ranked: &Ranked<'_>, metric: &Metric) -> Grid {
    let head = ["cell", "median", "interval", "trials", "× best", "interval", "p", "p adjusted", "verdict"];
    let groups = ranked.ranking.groups.iter();
    let rows = groups.flat_map(|group| group.rows.iter().map(move |row| (group, row)));
    let none = || "–".to_owned();
    let row = |(group, row): (&Group, &Row)| {
        let compared = row.against_best.as_ref();
        let tested = compared.filter(|_| !ranked.summary.is_one_trial_per_cell());
        let show = |value: f64| row.show(metric, value);
        let interval = row.values.as_ref().filter(|values| values.values.len() > 1);
        let ends = compared.and_then(|compared| compared.low.zip(compared.high));
        vec![
            with_settings(&row.name, &group.settings) + &of_waits(group),
            row.median(metric),
            interval.map_or_else(none, |values| format!("{} to {}", show(values.low), show(values.high))),
            row.values.as_ref().map_or(0, |values| values.values.len()).to_string(),
            compared.and_then(|compared| compared.ratio).map_or_else(none, ratio),
            ends.map_or_else(none, |(low, high)| format!("{} to {}", ratio(low), ratio(high))),
            tested.map_or_else(none, |compared| p_value(compared.p_value)),
            tested.map_or_else(none, |compared| p_value(compared.p_adjusted)),
            match (compared, tested) {
                (None, _) => none(),
                (Some(_), None) => "not tested".to_owned(),
                (_, Some(compared)) => claims::relation(compared.verdict).to_owned(),
            },
        ]
    };
    compared(Grid::new(head, 1, rows.map(row).collect()))
}

/// Without the columns of comparisons if nothing was compared.
fn compared(grid: Grid) -> Grid {
    let is_none = |row: &Vec<String>| row[COMPARED..].iter().all(|value| value == "–");
    if !grid.rows.iter().all(is_none) {
        return grid;
    }
    let cut = |row: &[String]| row[..COMPARED].to_vec();
    Grid { head: cut(&grid.head), rows: grid.rows.iter().map(|row| cut(row)).collect(), ..grid }
}

/// ` (waits until accept returned)`; empty unless other cells' waits are different.
fn of_waits(group: &Group) -> String {
    group.waits.map_or_else(String::new, |waits| format!(" ({waits})"))
}

fn notes(metric: &Metric, ranges: bool, compared: Option<&Looks>, dots_left_out: bool) -> Vec<String> {
    if metric.kind == Kind::Counted {
        return vec![
            "Tick: median of the valid trials. Bar: from the smallest to the largest trial. Dots: trials. Each trial's count is complete, \
             but may depend on chance, and nothing is tested: a ratio, or a word such as higher, says that every trial counted more than \
             each of the best's."
                .to_owned(),
        ];
    }
    if !metric.is_tested() {
        return vec![
            "Tick: median of the valid trials. Bar: from the smallest to the largest trial. Dots: trials. One trial settles this \
             figure, so that nothing is tested."
                .to_owned(),
        ];
    }
    let bar = if ranges {
        "95 % bootstrap interval of the median; of fewer than five trials, from the smallest to the largest"
    } else {
        "95 % bootstrap interval of the median"
    };
    let mut notes = vec![format!("Tick: median of the valid trials. Bar: {bar}. Dots: trials.")];
    if let Some(looks) = compared {
        notes[0] += &format!(
            " Shown: the permutation test's p-value, after Holm's correction over all pairs and answers{}, is at most 0.05.",
            stopping::for_looks(looks)
        );
    }
    if dots_left_out {
        notes.push(format!("{DOTS} trials of each cell are drawn, spaced evenly by rank."));
    }
    notes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::sample::Sample;

    #[test]
    fn a_single_cell_is_compared_with_nothing() {
        let standings = |cells: &[&str]| {
            let mut sample = Sample::new("");
            for cell in cells {
                sample.trial(json!({ "strategy": cell }), &[5, 5], 1_000);
            }
            standings(&Ranked::of(&sample.reading())).unwrap()
        };
        let one = standings(&["a"]);
        assert_eq!(one.table.head, ["cell", "median", "interval", "trials"]);
        assert_eq!(one.table.rows[0].len(), COMPARED);
        assert!(one.notes[0].ends_with("Dots: trials."), "{}", one.notes[0]);
        let two = standings(&["a", "b"]);
        assert_eq!(two.table.head[COMPARED..], ["× best", "interval", "p", "p adjusted", "verdict"]);
        assert!(two.notes[0].contains("Shown: the permutation test's p-value"), "{}", two.notes[0]);
    }

    #[test]
    fn many_trials_are_thinned_by_rank() {
        let values: Vec<f64> = (0..250).rev().map(f64::from).collect();
        let thinned = thinned(&values);
        assert_eq!((thinned.len(), thinned[0], thinned[DOTS - 1]), (DOTS, 0.0, 249.0));
    }
}
