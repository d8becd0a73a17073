//! The cells in order of the ranking metric, each with its median, interval and trials.

use super::Content;
use crate::{
    format::ratio,
    record::IntervalKind,
    report::{
        Grid, Group, Ranked, Row,
        claims::{self, p_value},
        html::standings::{Figures, Place, Places, Standings},
        plot::figure::{Axis, Scale, count_tick, duration_tick, log_ticks},
        ranked::with_settings,
    },
    stats::{Better, Difference, Metric, Unit},
};

/// From this ratio of the largest value to the smallest, a linear scale would hide the small ones.
const LOG_FROM: f64 = 20.0;
/// Of more trials of a cell, only this many are drawn.
const DOTS: usize = 40;

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
            .enumerate()
            .map(|(number, group)| Places {
                heading: ranked.heading(number),
                places: group.rows.iter().map(|row| place(ranked, metric, row)).collect(),
            })
            .collect(),
        table: table(ranked, metric),
        notes: notes(values().any(|values| values.interval == IntervalKind::Range), dots_left_out),
    })
}

fn axis(metric: &Metric, values: &[f64]) -> Axis {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
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

fn place(ranked: &Ranked<'_>, metric: &Metric, row: &Row) -> Place {
    let show = |value: f64| row.show(metric, value);
    let figures = row.values.as_ref().map(|values| Figures {
        median: values.median,
        low: values.low,
        high: values.high,
        shown: show(values.median),
        tip: format!(
            "{}\nmedian {}\n{} {} to {}\n{} valid trials",
            row.name,
            show(values.median),
            match values.interval {
                IntervalKind::Bootstrap => "95 % interval",
                IntervalKind::Range => "trials from",
            },
            show(values.low),
            show(values.high),
            values.values.len()
        ),
        trials: thinned(&values.values),
    });
    let standing = match (&row.values, &row.against_best) {
        (None, _) => "not measured in any valid trial".to_owned(),
        (_, None) => "best".to_owned(),
        (_, Some(compared)) => {
            let times = compared.ratio.map_or_else(String::new, |times| format!("{}× · ", ratio(times)));
            match compared.verdict {
                Difference::AHigher | Difference::BHigher => format!("{times}shown"),
                Difference::NoDifferenceShown => format!("{times}not shown"),
                Difference::TooFewTrials => format!("{times}too few trials"),
            }
        }
    };
    let standing = if ranked.summary.cells.len() == 1 { String::new() } else { standing };
    Place { name: row.name.clone(), figures, standing, is_worse: row.is_shown_worse() }
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
        let show = |value: f64| row.show(metric, value);
        let ends = compared.and_then(|compared| compared.low.zip(compared.high));
        vec![
            with_settings(&row.name, &group.settings),
            row.values.as_ref().map_or_else(none, |values| show(values.median)),
            row.values.as_ref().map_or_else(none, |values| format!("{} to {}", show(values.low), show(values.high))),
            row.values.as_ref().map_or(0, |values| values.values.len()).to_string(),
            compared.and_then(|compared| compared.ratio).map_or_else(none, ratio),
            ends.map_or_else(none, |(low, high)| format!("{} to {}", ratio(low), ratio(high))),
            compared.map_or_else(none, |compared| p_value(compared.p_value)),
            compared.map_or_else(none, |compared| p_value(compared.p_adjusted)),
            compared.map_or("–", |compared| claims::relation(compared.verdict)).to_owned(),
        ]
    };
    Grid::new(head, 1, rows.map(row).collect())
}

fn notes(ranges: bool, dots_left_out: bool) -> Vec<String> {
    let bar = if ranges {
        "from the smallest to the largest trial (too few for an interval)"
    } else {
        "95 % bootstrap interval of the median"
    };
    let mut notes = vec![format!(
        "Tick: median of the valid trials. Bar: {bar}. Dots: trials. Shown: the permutation test's p-value, after Holm's \
         correction for all comparisons of the metric, is at most 0.05."
    )];
    if dots_left_out {
        notes.push(format!("{DOTS} trials of each cell are drawn, spaced evenly by rank."));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_trials_are_thinned_by_rank() {
        let values: Vec<f64> = (0..250).rev().map(f64::from).collect();
        let thinned = thinned(&values);
        assert_eq!((thinned.len(), thinned[0], thinned[DOTS - 1]), (DOTS, 0.0, 249.0));
    }
}
