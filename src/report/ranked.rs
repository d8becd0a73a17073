//! The basis of a report: a record with its cells ranked and named.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use crate::{
    record::{Outcome, TrialRecord},
    report::{Ranking, Reading, distributions::Distributions, plot::DISTINCT, ranking},
    scenario::label,
    stats::{CellSummary, Record, Summary},
};

/// A record whose cells are ranked and named.
pub struct Ranked<'a> {
    pub record: &'a Record,
    /// Distributions of latencies, by metric and cell.
    pub distributions: &'a Distributions,
    /// Medians, intervals, comparisons, verdicts.
    pub summary: &'a Summary,
    /// The cells, ranked by the ranking metric.
    pub ranking: Ranking,
    /// In the order of the scenario's matrix.
    pub cells: Vec<Cell<'a>>,
}

/// A cell.
pub struct Cell<'a> {
    /// Its value of the contested key.
    pub name: String,
    /// The same, with all other swept values.
    pub full_name: String,
    /// Index into the ranking's groups.
    pub group: usize,
    /// The style of its lines, from 0; `None` if it is not drawn because there are too many names to distinguish.
    pub style: Option<usize>,
    /// Its summary.
    pub summary: &'a CellSummary,
    /// Its valid trials.
    pub trials: Vec<&'a TrialRecord>,
}

impl<'a> Ranked<'a> {
    /// Ranks and names the cells of a reading, and finds their trials.
    pub fn of(reading: &'a Reading) -> Self {
        let Reading { record, distributions, summary } = reading;
        let ranking = ranking(summary);
        let mut trials: HashMap<String, Vec<&TrialRecord>> = HashMap::new();
        for trial in record.trials.iter().filter(|trial| trial.outcome == Outcome::Valid) {
            trials.entry(label(&trial.cell)).or_default().push(trial);
        }
        let places = ranking.groups.iter().enumerate().flat_map(|(number, group)| {
            group
                .rows
                .iter()
                .map(move |row| (row.cell, (number, row.name.clone(), with_settings(&row.name, &group.settings))))
        });
        let mut places: HashMap<usize, (usize, String, String)> = places.collect();
        let styles = styles(summary, &ranking);
        let mut cells = Vec::new();
        for (number, summary) in summary.cells.iter().enumerate() {
            let Some((group, name, full_name)) = places.remove(&number) else { continue };
            let style = styles.get(&name).copied();
            let trials = trials.remove(&label(&summary.cell)).unwrap_or_default();
            cells.push(Cell { name, full_name, group, style, summary, trials });
        }
        Self { record, distributions, summary, ranking, cells }
    }

    /// What the cells of a group have in common; empty where there is only one group.
    pub fn heading(&self, group: usize) -> String {
        let settings = &self.ranking.groups[group].settings;
        if settings.is_empty() { String::new() } else { label(settings) }
    }

    /// Whether some trial has accepted connections.
    pub fn has_connections(&self) -> bool {
        self.cells.iter().flat_map(|cell| &cell.trials).any(|trial| trial.connections.accepted > 0)
    }
}

/// Assigns styles to names, in the order of the matrix. If there are too many to distinguish, only names in the first
/// and last places of their groups get one.
fn styles(summary: &Summary, ranking: &Ranking) -> HashMap<String, usize> {
    let mut names: Vec<(usize, &str, f64)> = Vec::new();
    for group in &ranking.groups {
        for (place, row) in group.rows.iter().enumerate() {
            let place = place as f64 / group.rows.len() as f64;
            match names.iter_mut().find(|(_, name, _)| *name == row.name) {
                Some((cell, _, sum)) => (*cell, *sum) = (row.cell.min(*cell), *sum + place),
                None => names.push((row.cell.min(summary.cells.len()), &row.name, place)),
            }
        }
    }
    if names.len() > DISTINCT {
        names.sort_by(|one, other| one.2.total_cmp(&other.2));
        names.drain(DISTINCT.div_ceil(2)..names.len() - DISTINCT / 2);
    }
    names.sort_by_key(|(cell, _, _)| *cell);
    names.into_iter().enumerate().map(|(style, (_, name, _))| (name.to_owned(), style)).collect()
}

/// The swept keys.
pub fn keys(summary: &Summary) -> Vec<String> {
    summary.cells.first().map_or_else(Vec::new, |cell| cell.cell.keys().cloned().collect())
}

/// A cell's name with its other swept values.
pub fn with_settings(name: &str, settings: &Map<String, Json>) -> String {
    if settings.is_empty() { name.to_owned() } else { format!("{name} at {}", label(settings)) }
}
