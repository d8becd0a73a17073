//! The cells in order of a metric, each compared with the best of its group.

use std::cmp::Ordering;

use serde_json::{Map, Value as Json};

use crate::{
    record::Values,
    report::ranked::with_settings,
    stats::{Better, Compared, Difference, Kind, Metric, Summary, Waits, standing},
};

/// The swept key whose values are names of variants.
const VARIANT: &str = "variant";

/// All groups.
#[derive(Debug)]
pub struct Ranking {
    /// The metric that ranks.
    pub metric: &'static Metric,
    /// In the order of the scenario's matrix, but numbers and times ascend.
    pub groups: Vec<Group>,
}

/// Cells that differ only in the keys that compete.
#[derive(Debug)]
pub struct Group {
    /// The other swept values.
    pub settings: Map<String, Json>,
    /// By a metric of accept waits, if cells with these settings measured others than these: those are a group apart.
    pub waits: Option<Waits>,
    /// Best first; those without a figure last, unless that is the best that can be.
    pub rows: Vec<Row>,
    /// Where no cell is shown to differ from the best: the largest difference shown between two others.
    pub elsewhere: Option<Elsewhere>,
}

impl Group {
    /// What its cells have in common and other groups' have not, as a heading; empty if that is nothing.
    pub fn heading(&self) -> String {
        let waits = self.waits.map(|waits| waits.to_string());
        let parts: Vec<String> =
            [settings(&self.settings)].into_iter().filter(|text| !text.is_empty()).chain(waits).collect();
        parts.join(", ")
    }

    /// The same at a sentence's beginning: `at service_time = 2ms, `, `of waits until accept returned, `.
    pub fn prefix(&self) -> String {
        let at = if self.settings.is_empty() { String::new() } else { format!("at {}, ", settings(&self.settings)) };
        let of = self.waits.map(|waits| format!("of {waits}, "));
        at + &of.unwrap_or_default()
    }
}

/// A difference shown between two cells of a group, of which neither is the best.
#[derive(Debug)]
pub struct Elsewhere {
    /// Index of the row with the higher values.
    pub high: usize,
    /// Index of the row with the lower values.
    pub low: usize,
    /// The higher ÷ the lower; `None` if that is not a number.
    pub ratio: Option<f64>,
}

/// A cell's place.
#[derive(Debug)]
pub struct Row {
    /// Index into the summary's cells.
    pub cell: usize,
    /// Its value of the key that competes, or its values of several.
    pub name: String,
    /// Whether any of its trials is valid.
    pub is_valid: bool,
    /// The metric over its valid trials; `None` where none has it.
    pub values: Option<Values>,
    /// Whether those are upper bounds.
    pub is_bound: bool,
    /// Compared with the best of the group (`a`); `None` for the best itself, and where nothing was tested.
    pub against_best: Option<Compared>,
    /// Whether it differs from the best of its group; if repetitions decide, whether that was shown.
    pub is_worse: bool,
}

impl Row {
    /// One of its figures for display.
    pub fn show(&self, metric: &Metric, value: f64) -> String {
        let bound = if self.is_bound && value.is_finite() { "≤ " } else { "" };
        format!("{bound}{}", metric.unit.show(value))
    }

    /// Its median for display.
    pub fn median(&self, metric: &Metric) -> String {
        self.values.as_ref().map_or_else(
            || "–".to_owned(),
            |values| {
                if values.median.is_finite() { self.show(metric, values.median) } else { metric.show_median(values) }
            },
        )
    }

    /// All of its values for display, if a single trial settles them: the range where trials differ.
    pub fn exactly(&self, metric: &Metric) -> Option<String> {
        let Values { low, high, .. } = self.values.as_ref()?;
        let (low, high) = (self.show(metric, *low), self.show(metric, *high));
        Some(if low == high { low } else { format!("{low} to {high}") })
    }

    /// Its name with the settings of its group.
    pub fn full_name(&self, group: &Group) -> String {
        with_settings(&self.name, &group.settings)
    }
}

/// Ranks a summary's cells by a metric.
pub fn ranking(summary: &Summary, metric: &'static Metric) -> Ranking {
    let mut groups: Vec<Group> = Vec::new();
    for (number, cell) in summary.cells.iter().enumerate() {
        let (competing, settings): (Map<_, _>, Map<_, _>) =
            cell.cell.clone().into_iter().partition(|(key, _)| summary.compare.contains(key));
        let name = if competing.is_empty() { "the run".to_owned() } else { short(&competing) };
        let is_bound = cell.bounds(metric);
        let values = cell.metrics.get(metric.name).cloned();
        let row =
            Row { cell: number, name, is_valid: cell.valid > 0, values, is_bound, against_best: None, is_worse: false };
        let waits = Waits::of_metric(metric, cell);
        // A cell without a figure is in nobody's way.
        let alike = |group: &&mut Group| {
            group.settings == settings && group.waits.zip(waits).is_none_or(|(one, other)| one.are_like(other))
        };
        match groups.iter_mut().find(alike) {
            Some(group) => {
                group.rows.push(row);
                group.waits = group.waits.or(waits);
            }
            None => groups.push(Group { settings, waits, rows: vec![row], elsewhere: None }),
        }
    }
    let split: Vec<bool> =
        groups.iter().map(|group| groups.iter().filter(|other| other.settings == group.settings).count() > 1).collect();
    for (group, split) in groups.iter_mut().zip(split) {
        group.waits = group.waits.filter(|_| split);
    }
    let mut groups = by_size(groups);
    for group in &mut groups {
        order(group, metric);
        group.elsewhere = elsewhere(summary, group, metric);
        let Some((best, others)) = group.rows.split_first_mut() else { continue };
        for row in others {
            let (a, b) = (&summary.cells[best.cell].cell, &summary.cells[row.cell].cell);
            match metric.kind {
                Kind::Sampled => {
                    row.against_best = summary.between(metric.name, a, b);
                    row.is_worse = row.against_best.as_ref().is_some_and(|compared| compared.verdict.is_shown());
                }
                // Every trial is worse than each of the best's.
                Kind::Counted => {
                    let apart = |low: &Values, high: &Values| low.high < high.low;
                    row.is_worse = best.values.as_ref().zip(row.values.as_ref()).is_some_and(|(best, row)| {
                        if metric.better == Better::Higher { apart(row, best) } else { apart(best, row) }
                    });
                }
                Kind::Exact => {
                    let ends = |values: &Values| (values.low, values.high);
                    row.is_worse =
                        row.values.is_some() && row.values.as_ref().map(ends) != best.values.as_ref().map(ends);
                }
            }
        }
    }
    Ranking { metric, groups }
}

fn elsewhere(summary: &Summary, group: &Group, metric: &Metric) -> Option<Elsewhere> {
    let compared = |one: usize, other: usize| {
        let (a, b) = (&summary.cells[group.rows[one].cell].cell, &summary.cells[group.rows[other].cell].cell);
        summary.between(metric.name, a, b).filter(|compared| compared.verdict.is_shown())
    };
    let count = group.rows.len();
    if !metric.is_tested() || (1..count).any(|other| compared(0, other).is_some()) {
        return None;
    }
    let median = |row: usize| group.rows[row].values.as_ref().map_or(f64::NAN, |values| values.median);
    let pairs = (1..count).flat_map(|one| (one + 1..count).map(move |other| (one, other)));
    let shown = pairs.filter_map(|(one, other)| {
        Some(match compared(one, other)? {
            Compared { verdict: Difference::AHigher, ratio, .. } => {
                Elsewhere { high: one, low: other, ratio: ratio.map(|ratio| 1.0 / ratio) }
            }
            Compared { ratio, .. } => Elsewhere { high: other, low: one, ratio },
        })
    });
    shown.max_by(|one, other| {
        let size = |pair: &Elsewhere| distance(median(pair.high), median(pair.low));
        by_distance(size(one), size(other))
    })
}

/// How far two medians are apart: by their ratio first, of which 0 and what was not reached have an infinite one, and among those
/// by their difference.
pub fn distance(one: f64, other: f64) -> (f64, f64) {
    let ratio = if one == other { 0.0 } else { (one / other).ln().abs() };
    let difference = if one == other { 0.0 } else { (one - other).abs() };
    (if ratio.is_nan() { 0.0 } else { ratio }, difference)
}

/// Orders such distances.
pub fn by_distance(one: (f64, f64), other: (f64, f64)) -> Ordering {
    one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1))
}

/// Best first.
fn order(group: &mut Group, metric: &Metric) {
    let standing = |row: &Row| standing(metric, row.values.as_ref(), row.is_valid);
    group.rows.sort_by(|one, other| standing(one).order(&standing(other)));
}

/// Sorts groups by their settings: numbers and times by size, words in the order of the matrix.
fn by_size(groups: Vec<Group>) -> Vec<Group> {
    let mut words: Vec<String> = Vec::new();
    let mut place = |value: &Json| {
        size(value).unwrap_or_else(|| {
            let text = value.to_string();
            let place = words.iter().position(|word| *word == text).unwrap_or_else(|| {
                words.push(text);
                words.len() - 1
            });
            place as f64
        })
    };
    let mut keyed: Vec<(Vec<f64>, Group)> =
        groups.into_iter().map(|group| (group.settings.values().map(&mut place).collect(), group)).collect();
    keyed.sort_by(|(one, _), (other, _)| {
        let orders = one.iter().zip(other).map(|(one, other)| one.total_cmp(other));
        orders.fold(Ordering::Equal, Ordering::then)
    });
    keyed.into_iter().map(|(_, group)| group).collect()
}

/// A number, or a time in seconds.
fn size(value: &Json) -> Option<f64> {
    let time = |text: &str| Some(humantime::parse_duration(text).ok()?.as_secs_f64());
    value.as_f64().or_else(|| time(value.as_str()?))
}

/// A swept value for display where its key is known.
pub fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Number(number) if number.is_f64() => number.as_f64().map_or_else(String::new, |value| value.to_string()),
        other => other.to_string(),
    }
}

/// A swept value in words: a name such as `reuseport` stands alone; a number, a time or an address needs its key.
pub fn named(key: &str, value: &Json) -> String {
    const SAYS_NOTHING_ALONE: [&str; 5] = ["none", "auto", "all", "on", "off"];
    let is_name = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
            && !SAYS_NOTHING_ALONE.contains(&text)
    };
    match value.as_str() {
        // A variant's name says what it is.
        Some(text) if is_name(text) || key == VARIANT => text.to_owned(),
        _ => assigned(key, value),
    }
}

fn assigned(key: &str, value: &Json) -> String {
    format!("{key} = {}", plain(value))
}

/// Swept values in words: `workers = 2 and service_time = 2ms`.
pub fn settings(values: &Map<String, Json>) -> String {
    listed(&values.iter().map(|(key, value)| assigned(key, value)).collect::<Vec<_>>())
}

/// What distinguishes a cell; empty if nothing is swept.
pub fn short(cell: &Map<String, Json>) -> String {
    match cell.iter().next() {
        Some((key, value)) if cell.len() == 1 => named(key, value),
        _ => settings(cell),
    }
}

/// A metric of a cell as the subject of a sentence whose metric is known: `b's is`, `with service_time = 1ms it is`.
pub fn whose(name: &str, metric: &Metric) -> String {
    match (is_setting(name), metric.is()) {
        (false, is) => format!("{name}'s {is}"),
        (true, "are") => format!("with {name} they are"),
        (true, is) => format!("with {name} it {is}"),
    }
}

/// The same as what another is compared with: `b's`, `that with service_time = 1ms`.
pub fn compared_with(name: &str, metric: &Metric) -> String {
    match (is_setting(name), metric.is()) {
        (false, _) => format!("{name}'s"),
        (true, "are") => format!("those with {name}"),
        (true, _) => format!("that with {name}"),
    }
}

/// Whether a cell's name is an assignment, which has no genitive.
pub fn is_setting(name: &str) -> bool {
    name.contains(" = ")
}

/// `a, b and c`.
pub fn listed(names: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match &names[..] {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_ascend_as_times_and_words_stay_as_listed() {
        let group = |(close, time): (&str, &str)| Group {
            settings: json!({ "close": close, "time": time }).as_object().unwrap().clone(),
            waits: None,
            rows: Vec::new(),
            elsewhere: None,
        };
        let listed = [("rst", "1s"), ("rst", "10ms"), ("rst", "2ms"), ("fin", "10ms"), ("fin", "2ms")];
        let sorted = by_size(listed.map(group).into());
        let shown: Vec<String> =
            sorted.iter().map(|group| group.settings.values().map(plain).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(shown, ["rst 2ms", "rst 10ms", "rst 1s", "fin 2ms", "fin 10ms"]);
    }

    #[test]
    fn a_difference_from_nothing_is_the_largest() {
        let apart =
            |one: (f64, f64), other: (f64, f64)| by_distance(distance(one.0, one.1), distance(other.0, other.1));
        assert_eq!(apart((204.0, 0.0), (9.0, 1.0)), Ordering::Greater);
        assert_eq!(apart((0.0, 3.0), (204.0, 0.0)), Ordering::Less);
        assert_eq!(apart((f64::INFINITY, 1.0), (9.0, 1.0)), Ordering::Greater);
        assert_eq!(apart((1.0, 9.0), (2.0, 1.0)), Ordering::Greater);
        assert_eq!(apart((0.0, 0.0), (f64::INFINITY, f64::INFINITY)), Ordering::Equal);
    }

    #[test]
    fn assignments_have_no_genitive() {
        let metric = |name| crate::stats::metric_named(name).unwrap();
        let (wait, accepts) = (metric("accept_wait_p99"), metric("accepted_per_s"));
        let texts =
            |name| [whose(name, wait), whose(name, accepts), compared_with(name, wait), compared_with(name, accepts)];
        assert_eq!(texts("b"), ["b's is", "b's are", "b's", "b's"]);
        let expected = ["with w = 1 it is", "with w = 1 they are", "that with w = 1", "those with w = 1"];
        assert_eq!(texts("w = 1"), expected);
    }

    #[test]
    fn a_limit_that_was_not_met_is_the_best_and_what_never_came_is_not() {
        let row = |name: &str, is_valid: bool, median: Option<f64>, lost: u64| Row {
            cell: 0,
            name: name.to_owned(),
            is_valid,
            values: median.map(|median| Values {
                attempts: Some(crate::record::Attempts { due: 100, lost }),
                ..crate::stats::Bootstrap::new(1).estimate(vec![median]).unwrap()
            }),
            is_bound: false,
            against_best: None,
            is_worse: false,
        };
        let sorted = |metric: &str, rows: Vec<Row>| {
            let mut group = Group { settings: Map::new(), waits: None, rows, elsewhere: None };
            order(&mut group, crate::stats::metric_named(metric).unwrap());
            group.rows.into_iter().map(|row| row.name).collect::<String>()
        };
        let rows = || {
            vec![
                row("f", false, None, 0),
                row("n", true, None, 0),
                row("l", true, Some(1.0), 0),
                row("h", true, Some(2.0), 0),
            ]
        };
        assert_eq!(sorted("ports_knee", rows()), "nhlf");
        assert_eq!(sorted("recovered_after_s", rows()), "lhnf");
        let lost = vec![row("80", true, Some(f64::INFINITY), 80), row("76", true, Some(f64::INFINITY), 76)];
        assert_eq!(sorted("response_p99", lost), "7680");
    }

    #[test]
    fn only_names_stand_alone() {
        for (value, shown) in [
            (json!("reuseport-least"), "reuseport-least"),
            (json!("fin"), "fin"),
            (json!(0), "k = 0"),
            (json!(true), "k = true"),
            (json!(200.0), "k = 200"),
            (json!("2ms"), "k = 2ms"),
            (json!("none"), "k = none"),
            (json!("fd00::1"), "k = fd00::1"),
            (json!("40000 43999"), "k = 40000 43999"),
        ] {
            assert_eq!(named("k", &value), shown);
        }
        let cell = |value: Json| settings(value.as_object().unwrap());
        assert_eq!(cell(json!({"a": 1, "b": "x", "c": "2ms"})), "a = 1, b = x and c = 2ms");
    }
}
