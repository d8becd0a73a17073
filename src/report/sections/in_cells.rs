//! Lines of a record's conditions that may be true of some of its cells only.

use indexmap::IndexSet;

use super::conditions::{Common, in_common};
use crate::{record::TrialRecord, scenario::label, stats::Record};

/// More cells than this are counted in place of named.
const CELLS_NAMED: usize = 2;

/// What is said of trials, each once, with the cells that it is true of, unless that are all: `packet filter (with count=1): 1 rule …`.
pub(super) fn lines(record: &Record, of: impl Fn(&TrialRecord) -> Option<(String, String)>) -> Vec<String> {
    let cells = |trials: &mut dyn Iterator<Item = &TrialRecord>| -> IndexSet<String> {
        trials.map(|trial| label(&trial.cell)).collect()
    };
    let all = cells(&mut record.trials.iter()).len();
    let line = |Common { head, what, trials }: Common<'_>| {
        let its = cells(&mut trials.into_iter());
        let place = match its.len() {
            some if some == all => String::new(),
            some if some <= CELLS_NAMED => format!(" (with {})", Vec::from_iter(its).join(" and with ")),
            some => format!(" (in {some} of {all} cells)"),
        };
        format!("{head}{place}: {what}")
    };
    in_common(record, of).into_iter().map(line).collect()
}
