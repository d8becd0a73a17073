//! The answer of a scenario that asks whether its trials can be run at all.

use super::{NAMED, fate};
use crate::{
    format::{all_of, plural},
    report::{claims::capital, ranking::short},
    stats::{Record, Summary},
};

/// How many cells of all are valid, and what became of the others.
pub(super) fn answer(record: &Record, summary: &Summary) -> (String, Vec<String>) {
    let all = summary.cells.len();
    let flawed: Vec<String> = summary
        .cells
        .iter()
        .filter(|cell| cell.invalid + cell.failed > 0)
        .map(|cell| {
            let trials: Vec<_> = record.trials.iter().filter(|trial| trial.cell == cell.cell).collect();
            let name = short(&cell.cell);
            if name.is_empty() { fate::of(&trials) } else { format!("{name}: {}", fate::of(&trials)) }
        })
        .collect();
    let sentence = match (all, flawed.len()) {
        (1, 0) => format!(
            "All of the {} valid.",
            if record.trials.len() == 1 {
                "one trial is".to_owned()
            } else {
                format!("{} are", plural(record.trials.len(), "trial"))
            }
        ),
        (all, 0) => format!("{} cells are valid, in {}.", capital(&all_of(all)), plural(record.trials.len(), "trial")),
        (1, _) => format!("Not all trials are valid: {}.", flawed[0]),
        (all, some @ 1..=NAMED) => format!("{} of {all} cells are valid; {}.", all - some, flawed.join("; ")),
        (all, some) => format!("{} of {all} cells are valid; of the {some} others, {}.", all - some, flawed[0]),
    };
    (sentence, flawed)
}
