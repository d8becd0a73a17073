//! Verdicts that most of a cell's trials have and that touch every figure: they belong next to the headline.

use std::collections::BTreeMap;

use super::NAMED;
use crate::{
    format::all_of,
    record::VerdictName,
    report::ranking::short,
    stats::{CellSummary, Summary},
};

/// One line for each such verdict.
pub(super) fn lines(summary: &Summary) -> Vec<String> {
    let mut qualified: BTreeMap<VerdictName, Vec<&CellSummary>> = BTreeMap::new();
    for cell in &summary.cells {
        let trials = cell.trials();
        let most = cell.verdicts.iter().filter(|(name, count)| name.qualifies_all() && 2 * **count > trials);
        most.for_each(|(name, _)| qualified.entry(*name).or_default().push(cell));
    }
    let line = |(name, cells): (VerdictName, Vec<&CellSummary>)| {
        let share = |cell: &CellSummary| format!("{} of {}", cell.verdicts[&name], cell.trials());
        let is_in_all = |cell: &&CellSummary| cell.verdicts[&name] == cell.trials();
        let most = if cells.iter().all(is_in_all) { "all" } else { "most" };
        let place = match (cells.len(), summary.cells.len()) {
            (1, 1) if share(cells[0]) == "1 of 1" => "in the one trial".to_owned(),
            (1, 1) => format!("in {} trials", share(cells[0])),
            (named @ 1..=NAMED, all) if named < all => {
                let named: Vec<String> =
                    cells.iter().map(|cell| format!("{} ({})", short(&cell.cell), share(cell))).collect();
                format!("in {most} trials of {}", named.join("; "))
            }
            (some, all) if some == all => format!("in {most} trials of {} cells", all_of(all)),
            (some, all) => format!("in {most} trials of {some} of {all} cells"),
        };
        format!("{name} {place}: {}", name.meaning())
    };
    qualified.into_iter().map(line).collect()
}
