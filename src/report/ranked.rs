//! The basis of a report: a record with its cells ranked and named.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use crate::{
    record::{MemberRow, Outcome, SubjectKind, TrialRecord},
    report::{
        Group, Ranking, Reading,
        distributions::Distributions,
        plot::DISTINCT,
        ranking::{self, ranking},
    },
    scenario::label,
    stats::{CellSummary, Metric, Record, Summary},
};

/// A record whose cells are ranked and named.
pub struct Ranked<'a> {
    pub record: &'a Record,
    /// Distributions of latencies, by metric and cell.
    pub distributions: &'a Distributions,
    /// Medians, intervals, comparisons, verdicts.
    pub summary: &'a Summary,
    /// How the log of histograms and the trials differ, a clause each.
    pub flaws: &'a [String],
    /// The cells, ranked by the headline's metric.
    pub ranking: Ranking,
    /// The swept values that do not compete, in the ranking's order: cells compete with those of the same settings.
    settings: Vec<Map<String, Json>>,
    /// In the order of the scenario's matrix.
    pub cells: Vec<Cell<'a>>,
}

/// A cell.
pub struct Cell<'a> {
    /// Its value of the key that competes, or its values of several.
    pub name: String,
    /// The same, with all other swept values.
    pub full_name: String,
    /// Index into the settings.
    pub group: usize,
    /// The style of its lines, from 0; `None` if it is not drawn because there are too many names to distinguish.
    pub style: Option<usize>,
    /// Its summary.
    pub summary: &'a CellSummary,
    /// Its valid trials.
    pub trials: Vec<&'a TrialRecord>,
}

impl<'a> Cell<'a> {
    /// The valid trial with the median of a metric, the lower of two, among those that have what is to be shown.
    pub fn median_trial(&self, metric: &Metric, has: impl Fn(&TrialRecord) -> bool) -> Option<&'a TrialRecord> {
        let mut trials: Vec<&TrialRecord> = self.trials.iter().copied().filter(|trial| has(trial)).collect();
        trials.sort_by(|one, other| {
            let value = |trial| metric.read(trial).unwrap_or(f64::INFINITY);
            value(one).total_cmp(&value(other))
        });
        trials.get(trials.len().checked_sub(1)? / 2).copied()
    }

    /// Whether all its trials are of listenbench's own server, whose members are its workers.
    pub fn is_own(&self) -> bool {
        self.trials.iter().all(|trial| trial.subject.kind == SubjectKind::Own)
    }

    /// A member's name: `worker 1`, or of another server `nginx 4711`, by its thread id, which is the pid of a process's first thread;
    /// `member 1` if its trials had different ones.
    pub fn member(&self, number: usize) -> String {
        if self.is_own() {
            return format!("worker {number}");
        }
        let mut rows =
            self.trials.iter().filter_map(|trial| trial.workers.iter().find(|member| member.member == number));
        let Some(first) = rows.next() else { return format!("member {number}") };
        let MemberRow { comm, pid, tid, .. } = first;
        let is_same = rows.all(|row| (&row.comm, row.pid, row.tid) == (comm, *pid, *tid));
        if is_same { format!("{comm} {tid}") } else { format!("member {number}") }
    }

    /// A member's name in one of its trials: `worker 1`, or of another server `nginx 4711`.
    pub fn member_in(&self, trial: &TrialRecord, number: usize) -> String {
        match trial.workers.iter().find(|row| row.member == number) {
            Some(row) if !self.is_own() => format!("{} {}", row.comm, row.tid),
            _ => format!("{} {number}", self.members()),
        }
    }

    /// What its members are.
    pub fn members(&self) -> &'static str {
        if self.is_own() { "worker" } else { "member" }
    }
}

impl<'a> Ranked<'a> {
    /// What the members of all cells are: workers, if every server is listenbench's own.
    pub fn member(&self) -> &'static str {
        if self.cells.iter().all(Cell::is_own) { "worker" } else { "member" }
    }

    /// Ranks and names the cells of a reading, and finds their trials.
    pub fn of(reading: &'a Reading) -> Self {
        let Reading { record, distributions, summary, flaws } = reading;
        let ranking = ranking(summary, summary.asked[0]);
        let mut trials: HashMap<String, Vec<&TrialRecord>> = HashMap::new();
        for trial in record.trials.iter().filter(|trial| trial.outcome == Outcome::Valid) {
            trials.entry(label(&trial.cell)).or_default().push(trial);
        }
        let mut settings: Vec<Map<String, Json>> = Vec::new();
        for group in &ranking.groups {
            if !settings.contains(&group.settings) {
                settings.push(group.settings.clone());
            }
        }
        let number = |group: &Group| settings.iter().position(|known| *known == group.settings).unwrap_or(0);
        let places = ranking.groups.iter().flat_map(|group| {
            group.rows.iter().map(move |row| {
                (row.cell, (number(group), row.name.clone(), with_settings(&row.name, &group.settings)))
            })
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
        Self { record, distributions, summary, flaws, ranking, settings, cells }
    }

    /// What the cells of a group have in common; empty where there is only one group.
    pub fn heading(&self, group: usize) -> String {
        ranking::settings(&self.settings[group])
    }

    /// The number of groups of cells that compete with each other.
    pub fn groups(&self) -> usize {
        self.settings.len()
    }

    /// Whether some trial has accepted connections.
    pub fn has_connections(&self) -> bool {
        self.cells.iter().flat_map(|cell| &cell.trials).any(|trial| trial.connections.accepted > Some(0))
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

/// Which of its valid trials [`Cell::median_trial`] chose of each cell, as in `each cell's valid trial with the median response p99`: by
/// a metric's label, the numbers of trials to choose from, by cell, and the number of cells that have the metric.
pub fn chosen(metric: &str, trials: &[usize], measured: usize) -> String {
    let choice = if trials.iter().any(|trials| trials % 2 == 0) {
        format!("each cell's valid trial nearest to the median {metric}, the lower of two")
    } else {
        format!("each cell's valid trial with the median {metric}")
    };
    match measured {
        0 => "one valid trial of each cell".to_owned(),
        some if some == trials.len() => choice,
        _ => format!("{choice}, or any where none has it"),
    }
}

/// The swept keys.
pub fn keys(summary: &Summary) -> Vec<String> {
    summary.cells.first().map_or_else(Vec::new, |cell| cell.cell.keys().cloned().collect())
}

/// A cell's name with its other swept values.
pub fn with_settings(name: &str, settings: &Map<String, Json>) -> String {
    if settings.is_empty() { name.to_owned() } else { format!("{name} at {}", ranking::settings(settings)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{record::WaitEnd, report::sample::Sample};

    #[test]
    fn no_trial_has_the_median_of_an_even_number() {
        for (trials, measured, expected) in [
            (&[1, 3][..], 2, "each cell's valid trial with the median m"),
            (&[1, 2], 2, "each cell's valid trial nearest to the median m, the lower of two"),
            (&[1, 3], 1, "each cell's valid trial with the median m, or any where none has it"),
            (&[2, 2], 0, "one valid trial of each cell"),
        ] {
            assert_eq!(chosen("m", trials, measured), expected);
        }
    }

    #[test]
    fn members_of_a_trial_are_named_as_in_its_table() {
        let mut sample = Sample::new("");
        sample.trial(json!({ "variant": "own" }), &[1, 2], 1);
        sample.of_nginx(json!({ "variant": "nginx" }), &[1, 2], 1, WaitEnd::Accept);
        let reading = sample.reading();
        let ranked = Ranked::of(&reading);
        let names: Vec<String> = ranked.cells.iter().map(|cell| cell.member_in(cell.trials[0], 1)).collect();
        assert_eq!(names, ["worker 1", "nginx 101"]);
        assert_eq!(ranked.cells[1].member_in(ranked.cells[1].trials[0], 2), "member 2");
    }
}
