//! The cells in order of the ranking metric, each compared with the best of its group.

use serde_json::{Map, Value as Json};

use crate::{
    record::Values,
    scenario::label,
    stats::{Better, Compared, METRICS, Metric, Summary, metric_named},
};

/// The key that cells compete in if it is swept.
const CONTEST: &str = "strategy";

/// All groups.
#[derive(Debug)]
pub struct Ranking {
    /// The metric that ranks.
    pub metric: &'static Metric,
    /// The swept key whose values compete; `None` with a single cell.
    pub contest: Option<String>,
    /// In the order of the scenario's matrix.
    pub groups: Vec<Group>,
}

/// Cells that differ only in the contested key.
#[derive(Debug)]
pub struct Group {
    /// The other swept values.
    pub settings: Map<String, Json>,
    /// Best first; those without a figure last.
    pub rows: Vec<Row>,
}

/// A cell's place.
#[derive(Debug)]
pub struct Row {
    /// Index into the summary's cells.
    pub cell: usize,
    /// Its value of the contested key.
    pub name: String,
    /// The metric over its valid trials; `None` where none has it.
    pub values: Option<Values>,
    /// Whether those are upper bounds.
    pub is_bound: bool,
    /// Compared with the best of the group (`a`); `None` for the best itself, and where no comparison was possible.
    pub against_best: Option<Compared>,
}

impl Row {
    /// One of its figures for display.
    pub fn show(&self, metric: &Metric, value: f64) -> String {
        format!("{}{}", if self.is_bound { "≤ " } else { "" }, metric.unit.show(value))
    }

    /// Its median for display.
    pub fn median(&self, metric: &Metric) -> String {
        self.values.as_ref().map_or_else(|| "–".to_owned(), |values| self.show(metric, values.median))
    }

    /// Whether it was shown to differ from the best of its group.
    pub fn is_shown_worse(&self) -> bool {
        self.against_best.as_ref().is_some_and(|compared| compared.verdict.is_shown())
    }
}

/// Ranks a summary's cells.
pub fn ranking(summary: &Summary) -> Ranking {
    let metric = metric_named(&summary.metric).unwrap_or(&METRICS[0]);
    let keys = || summary.cells.iter().flat_map(|cell| cell.cell.keys());
    let contest = keys().find(|key| *key == CONTEST).or_else(|| keys().next()).cloned();
    let mut groups: Vec<Group> = Vec::new();
    for (number, cell) in summary.cells.iter().enumerate() {
        let mut settings = cell.cell.clone();
        let name = contest.as_ref().and_then(|key| settings.shift_remove(key));
        let name = name.map_or_else(|| "the run".to_owned(), |name| plain(&name));
        let is_bound = cell.bounds(metric);
        let values = cell.metrics.get(metric.name).cloned();
        let row = Row { cell: number, name, values, is_bound, against_best: None };
        match groups.iter_mut().find(|group| group.settings == settings) {
            Some(group) => group.rows.push(row),
            None => groups.push(Group { settings, rows: vec![row] }),
        }
    }
    for group in &mut groups {
        order(group, metric);
        let best = group.rows[0].cell;
        for row in &mut group.rows[1..] {
            let (a, b) = (&summary.cells[best].cell, &summary.cells[row.cell].cell);
            row.against_best = summary.between(metric.name, a, b);
        }
    }
    Ranking { metric, contest, groups }
}

fn order(group: &mut Group, metric: &Metric) {
    let badness = |row: &Row| match (&row.values, metric.better) {
        (None, _) => f64::INFINITY,
        (Some(values), Better::Lower) => values.median,
        (Some(values), Better::Higher) => -values.median,
        (Some(_), Better::Neither) => 0.0,
    };
    group.rows.sort_by(|one, other| badness(one).total_cmp(&badness(other)));
}

/// A swept value for display.
pub fn plain(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What distinguishes a cell: only its value if one key is swept; nothing if none is.
pub fn short(cell: &Map<String, Json>) -> String {
    match cell.len() {
        0 => String::new(),
        1 => cell.values().map(plain).collect(),
        _ => label(cell),
    }
}
