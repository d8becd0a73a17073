//! The populations of a load, each by itself: what became of its connections, and how long it waited for replies.

use maud::html;

use super::{
    Content, In,
    percentiles::{self, Percentiles, Shown},
};
use crate::{
    format::thousands,
    record::LoadRow,
    report::{
        Grid, Ranked,
        claims::{self, capital},
        distributions::of_population,
        ranked::Cell,
    },
    stats::metric_named,
};

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let populations = ranked.record.populations();
    let of_charts = populations.iter().filter_map(|population| Some((*population, chart(ranked, population)?)));
    let (charted, charts): (Vec<&str>, Vec<Percentiles>) = of_charts.unzip();
    let rows: Vec<Vec<String>> = ranked.cells.iter().flat_map(|cell| rows(cell, &populations)).collect();
    if rows.is_empty() {
        return None;
    }
    let head = [
        "cell",
        "population",
        "connections",
        "completed",
        "failed",
        "unserved",
        "requests answered",
        "response p50",
        "response p99",
        "longest (median)",
    ];
    let table = Grid { labels: 2, ..Grid::new(head, 0, rows) };
    let mut tables = vec![(In::Page, table)];
    let mut notes = vec![
        "A population is what one [[load]] table asks for: connections of its own, from loaders of its own. Counts are of all valid trials \
         of the cell, warm-up included: connections begun, and what became of them; unserved ended without a sign that a member accepted \
         them. Responses, the longest too, are medians over the trials."
            .to_owned(),
    ];
    let figure = (!charts.is_empty()).then(|| {
        html! { @for chart in &charts { h3 { (chart.about) } (percentiles::drawn(chart)) } }
    });
    let is_common = |note: &String| charts.iter().all(|chart| chart.notes.contains(note));
    let (common, own): (Vec<_>, Vec<_>) = charts
        .iter()
        .zip(&charted)
        .flat_map(|(chart, population)| chart.notes.iter().map(move |note| (population, note)))
        .partition(|(_, note)| is_common(note));
    for (_, note) in common {
        if !notes.contains(note) {
            notes.push(note.clone());
        }
    }
    notes.extend(own.into_iter().map(|(population, note)| format!("{population}: {note}")));
    for chart in charts {
        tables.push((In::Page, Grid { title: chart.about, ..chart.table }));
    }
    Some(Content {
        title: "Populations".to_owned(),
        finding: finding(ranked, &populations),
        figure,
        tables,
        notes: notes.into_iter().map(|note| (In::Page, note)).collect(),
        ..Content::default()
    })
}

fn chart(ranked: &Ranked<'_>, population: &str) -> Option<Percentiles> {
    let what = format!("response of {population}");
    let (histograms, metric) = (of_population(population, "response"), p99(population));
    percentiles::of(ranked, &Shown { histograms: &histograms, metric: &metric, what: &what, is_wait: false })
}

fn p99(population: &str) -> String {
    format!("{population}.response_p99_ns")
}

/// What comparisons show of the responses of each population that the ranking is not about.
fn finding(ranked: &Ranked<'_>, populations: &[&str]) -> String {
    let ranked_by = ranked.ranking.metric.name;
    let names = populations.iter().map(|population| p99(population)).filter(|name| *name != ranked_by);
    let known = names.filter(|name| ranked.cells.iter().any(|cell| cell.summary.metrics.contains_key(name)));
    let findings: Vec<String> = known.map(|name| claims::of_metric(ranked, &name)).collect();
    if findings.is_empty() { "Each population by itself".to_owned() } else { capital(&findings.join("; ")) }
}

/// A row for each population of a cell with a valid trial.
fn rows(cell: &Cell<'_>, populations: &[&str]) -> Vec<Vec<String>> {
    let row = |population: &&str| {
        let loads =
            || cell.trials.iter().flat_map(|trial| trial.populations()).filter(|load| load.name == **population);
        loads().next()?;
        let sum = |count: fn(&LoadRow) -> u64| thousands(loads().map(count).sum::<u64>() as f64);
        let median = |figure: &str| {
            let metric = metric_named(&format!("{population}.response_{figure}_ns"));
            let known = metric.and_then(|metric| Some((metric, cell.summary.metrics.get(metric.name)?)));
            known.map_or_else(|| "–".to_owned(), |(metric, values)| metric.show_median(values))
        };
        Some(vec![
            cell.full_name.clone(),
            (*population).to_owned(),
            sum(|load| load.connections.attempted),
            sum(|load| load.connections.completed),
            sum(|load| load.connections.failed() + load.connections.in_flight),
            sum(|load| load.connections.unserved),
            sum(|load| load.requests_completed),
            median("p50"),
            median("p99"),
            median("max"),
        ])
    };
    populations.iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{mixed, two_strategies};

    #[test]
    fn each_population_has_a_chart_and_a_row() {
        let reading = mixed(20);
        let content = section(&Ranked::of(&reading)).unwrap();
        let [counts, kept, storm] = &content.tables[..] else { panic!("{} tables", content.tables.len()) };
        let rows: Vec<&[String]> = counts.1.rows.iter().map(|row| &row[..7]).collect();
        assert_eq!(
            rows,
            [
                ["reuseport", "kept", "1,005", "1,000", "5", "0", "1,000"],
                ["reuseport", "storm", "2,005", "2,000", "5", "0", "2,000"],
                ["shared", "kept", "1,005", "1,000", "5", "0", "1,000"],
                ["shared", "storm", "2,005", "2,000", "5", "0", "2,000"],
            ]
        );
        assert_eq!(
            (&kept.1.title[..], &storm.1.title[..]),
            ("Response of kept by percentile", "Response of storm by percentile")
        );
        // The ranking is about the kept connections, so that the finding is about the others.
        assert_eq!(
            content.finding,
            "No difference in response p99 of storm is shown; 1.01× is the smallest ratio 5 trials could have shown"
        );
    }

    #[test]
    fn a_single_population_is_the_whole_load() {
        assert!(section(&Ranked::of(&two_strategies(9))).is_none());
    }
}
