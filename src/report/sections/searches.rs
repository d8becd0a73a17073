//! What searches found: the highest value within the limit, and the lowest beyond it.

use serde_json::Value as Json;

use super::Content;
use crate::{
    format::number,
    report::{
        Grid, Ranked,
        answer::{status, value},
        html::standings::{Figures, Place, Places, Standings},
        plot::figure::{Axis, Scale, count_tick, log_ticks},
        short,
    },
    stats::{Better, CellSummary, Metric, search::Found},
};

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    standings(ranked).map(Standings::content)
}

/// `None` where nothing was searched for.
fn standings(ranked: &Ranked<'_>) -> Option<Standings> {
    let mut found: Vec<&Found> = ranked.summary.searches.iter().collect();
    let first = *found.first()?;
    let metric = ranked.summary.asked[0];
    found.sort_by(|one, other| other.within.unwrap_or(0.0).total_cmp(&one.within.unwrap_or(0.0)));
    let tried: Vec<f64> = found.iter().flat_map(|search| tried(ranked, search)).map(|(tried, _)| tried).collect();
    let place = |search: &&Found| Place {
        name: name(search),
        figures: search.within.map(|within| figures(ranked, metric, search, within)),
        standing: standing(search),
        is_worse: false,
    };
    Some(Standings {
        title: title(&found),
        about: format!(
            "Highest {} that keeps {} {} {}",
            first.variable,
            metric.label,
            if metric.better == Better::Higher { "at or above" } else { "within" },
            metric.unit.show(first.limit)
        ),
        axis: axis(&tried),
        groups: vec![Places { heading: String::new(), places: found.iter().map(place).collect() }],
        table: table(ranked, metric, &found),
        notes: vec![
            "Tick: the highest value whose median keeps the limit. Bar: up to the lowest that does not. Dots: values tried."
                .to_owned(),
        ],
    })
}

fn name(search: &Found) -> String {
    let name = short(&search.cell);
    if name.is_empty() { "the run".to_owned() } else { name }
}

fn title(found: &[&Found]) -> String {
    let known = |search: &&&Found| search.within.is_some();
    let (Some(best), Some(last)) = (found.iter().find(known), found.iter().rfind(known)) else {
        return "No value that keeps the limit was found".to_owned();
    };
    let figure = |search: &Found| {
        let more = if search.beyond.is_none() { " or more" } else { "" };
        format!("{}{more}", value(&search.variable, search.within.unwrap_or(0.0)))
    };
    if found.len() == 1 {
        return format!("{} keeps the limit", figure(best));
    }
    // Overlapping brackets show no difference.
    let apart = best.within > last.beyond.or(last.within);
    let (best_name, last_name) = (name(best), name(last));
    if apart {
        format!("{best_name} keeps the limit up to {}, {last_name} up to {}", figure(best), figure(last))
    } else {
        format!("All keep the limit up to about {}", figure(last))
    }
}

fn standing(search: &Found) -> String {
    match search.beyond {
        Some(beyond) => format!("{} does not · {}", value(&search.variable, beyond), status(search.status)),
        None => status(search.status).to_owned(),
    }
}

fn figures(ranked: &Ranked<'_>, metric: &Metric, search: &Found, within: f64) -> Figures {
    let figure = |value: Option<f64>| value.map_or_else(|| "not sustained".to_owned(), |value| metric.unit.show(value));
    let mut tip = format!(
        "{}\n{}: {} {}",
        name(search),
        value(&search.variable, within),
        metric.label,
        figure(search.within_figure)
    );
    if let Some(beyond) = search.beyond {
        tip += &format!("\n{}: {}", value(&search.variable, beyond), figure(search.beyond_figure));
    }
    Figures {
        median: within,
        low: within,
        high: search.beyond.unwrap_or(within),
        shown: value(&search.variable, within),
        tip,
        trials: tried(ranked, search).map(|(value, _)| value).collect(),
    }
}

/// The values that a search tried, with their cells.
fn tried<'a>(ranked: &'a Ranked<'_>, search: &'a Found) -> impl Iterator<Item = (f64, &'a CellSummary)> {
    ranked.summary.cells.iter().filter_map(|cell| {
        let same = search.cell.iter().all(|(key, value)| cell.cell.get(key) == Some(value));
        // The searched key is the last.
        cell.cell.values().next_back().and_then(Json::as_f64).filter(|_| same).map(|value| (value, cell))
    })
}

fn axis(values: &[f64]) -> Axis {
    /// Beyond the lowest and the highest value.
    const ROOM: f64 = 1.3;
    // A search doubles: on a linear scale, its first steps would coincide.
    let low = values.iter().copied().fold(f64::INFINITY, f64::min) / ROOM;
    let high = values.iter().copied().fold(1.0, f64::max) * ROOM;
    let show = |value: f64| if value >= 10.0 { count_tick(value) } else { number(value) };
    let low = if low.is_finite() { low.max(f64::MIN_POSITIVE) } else { 1.0 };
    Axis { label: String::new(), scale: Scale::Log, low, high, ticks: log_ticks(low, high, show) }
}

fn table(ranked: &Ranked<'_>, metric: &Metric, found: &[&Found]) -> Grid {
    let head = ["cell", "value tried", "trials", metric.label, "valid", "verdicts"];
    let rows = found.iter().flat_map(|search| {
        tried(ranked, search).map(|(tried, cell)| {
            let values = cell.metrics.get(metric.name);
            let verdicts: Vec<&str> = cell.verdicts.keys().map(|name| name.into()).collect();
            vec![
                name(search),
                value(&search.variable, tried),
                cell.trials().to_string(),
                values.map_or_else(|| "–".to_owned(), |values| metric.unit.show(values.median)),
                cell.valid.to_string(),
                verdicts.join(", "),
            ]
        })
    });
    Grid::new(head, 1, rows.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{report::sample::two_strategies, stats::search::SearchStatus};

    fn found(strategy: &str, within: Option<f64>, beyond: Option<f64>) -> Found {
        Found {
            cell: json!({ "strategy": strategy }).as_object().unwrap().clone(),
            variable: "load.rate".to_owned(),
            metric: "accept_wait_p99_ns".to_owned(),
            limit: 1e6,
            within,
            within_figure: within.map(|_| 9e5),
            beyond,
            beyond_figure: None,
            status: SearchStatus::Confirmed,
            trials: 9,
        }
    }

    fn title_of(found: Vec<Found>) -> String {
        let mut reading = two_strategies(1);
        reading.summary.searches = found;
        standings(&Ranked::of(&reading)).unwrap().title
    }

    #[test]
    fn overlapping_brackets_show_no_difference() {
        let apart = vec![found("a", Some(1_000.0), Some(1_100.0)), found("b", Some(2_000.0), Some(2_200.0))];
        assert_eq!(title_of(apart), "b keeps the limit up to 2,000/s, a up to 1,000/s");
        let level = vec![found("a", Some(1_000.0), Some(1_100.0)), found("b", Some(1_050.0), Some(1_100.0))];
        assert_eq!(title_of(level), "All keep the limit up to about 1,000/s");
        assert_eq!(title_of(vec![found("a", None, Some(9.0))]), "No value that keeps the limit was found");
    }
}
