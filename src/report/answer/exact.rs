//! What an exact metric answers. A single trial settles it, so that nothing is tested and no number of trials is too small.

use super::{NAMED, rows, the};
use crate::{
    format::{all_of, plural},
    report::{
        claims::capital,
        ranking::{Group, Ranking, Row, listed},
    },
    stats::{Better, Metric},
};

/// Cells whose values are the same.
struct Level<'a> {
    shown: String,
    cells: Vec<(&'a Group, &'a Row)>,
}

/// Every value with its cells, as a sentence without a full stop.
pub fn clause(ranking: &Ranking) -> String {
    let metric = ranking.metric;
    let levels = levels(ranking);
    let absent = absent(ranking);
    let label = capital(metric.label);
    let known: usize = levels.iter().map(|level| level.cells.len()).sum();
    // Otherwise a value is that of the cells it names: others may have no valid trial.
    let is_of_all = known == rows(ranking).count();
    let values = match &levels[..] {
        [] => return format!("{} {} unknown", the(metric), metric.is()),
        [only] if is_of_all && known == 1 => {
            return if metric.is() == "are" {
                format!("{label}: {}", only.shown)
            } else {
                format!("{} is {}", the(metric), only.shown)
            };
        }
        [only] if is_of_all => format!("{label}: {} in {} cells", only.shown, all_of(known)),
        levels if levels.len() <= NAMED => {
            let parts: Vec<String> =
                levels.iter().map(|level| format!("{} ({})", level.shown, level.names())).collect();
            format!("{label}: {}", parts.join(", "))
        }
        [first, .., last] => {
            let (low, high) = if metric.better == Better::Lower { (first, last) } else { (last, first) };
            // Where trials of a cell differ, a level is a range itself.
            let spanned = |level: &Level<'_>| level.shown.replace(" to ", "–");
            format!("{label}: from {} ({}) to {} ({})", spanned(low), low.example(), spanned(high), high.example())
        }
        [_] => unreachable!("a single value is always listed by name"),
    };
    values + &absent.map_or_else(String::new, |absent| format!("; no figure for {absent}"))
}

/// The cells of each value, a line each.
pub(super) fn evidence(ranking: &Ranking) -> Vec<String> {
    let levels = levels(ranking);
    let line = |level: &Level<'_>| {
        let names: Vec<String> = level.cells.iter().map(|(group, row)| row.full_name(group)).collect();
        let trials: usize = level.cells.iter().filter_map(|(_, row)| Some(row.values.as_ref()?.values.len())).sum();
        format!("{}: {} ({})", level.shown, names.join("; "), plural(trials, "valid trial"))
    };
    levels.iter().map(line).collect()
}

/// The best value first.
fn levels(ranking: &Ranking) -> Vec<Level<'_>> {
    let mut levels: Vec<(f64, Level<'_>)> = Vec::new();
    for (group, row) in rows(ranking) {
        let Some((shown, values)) = row.exactly(ranking.metric).zip(row.values.as_ref()) else { continue };
        match levels.iter_mut().find(|(_, level)| level.shown == shown) {
            Some((_, level)) => level.cells.push((group, row)),
            None => levels.push((values.median, Level { shown, cells: vec![(group, row)] })),
        }
    }
    levels.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    if ranking.metric.better != Better::Lower {
        levels.reverse();
    }
    levels.into_iter().map(|(_, level)| level).collect()
}

impl Level<'_> {
    fn names(&self) -> String {
        names(&self.cells)
    }

    /// One of its cells, and how many others there are.
    fn example(&self) -> String {
        let (group, row) = self.cells[0];
        match self.cells.len() - 1 {
            0 => row.full_name(group),
            others => format!("{}; {}", row.full_name(group), plural(others, "more cell")),
        }
    }
}

/// Cells by name, or their number if there are many.
fn names(cells: &[(&Group, &Row)]) -> String {
    let names: Vec<String> = cells.iter().map(|(group, row)| row.full_name(group)).collect();
    match names.len() {
        1..=NAMED if !names.iter().any(|name| [", ", " and ", " at "].iter().any(|word| name.contains(word))) => {
            listed(&names)
        }
        1..=NAMED => names.join("; "),
        count => format!("{count} cells"),
    }
}

/// Which cells have no value although their trials are valid, and what that means: `a; b: the ports did not run out`.
pub(super) fn absent(ranking: &Ranking) -> Option<String> {
    let Metric { absent, .. } = ranking.metric;
    let cells: Vec<_> = rows(ranking).filter(|(_, row)| row.values.is_none() && row.is_valid).collect();
    let meaning = absent.map(|meaning| format!(": {meaning}")).unwrap_or_default();
    (!cells.is_empty()).then(|| format!("{}{meaning}", names(&cells)))
}
