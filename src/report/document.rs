//! A report's content, independent of its format.

use super::{
    Ranked,
    answer::{Answer, answers},
    claims::capital,
    sections::{Content, sections},
    stopping,
    verdicts::missing,
};
use crate::{
    format::{harmless, plural},
    record::Outcome,
};

/// The content of every form of a report.
pub struct Document {
    /// Name of the scenario.
    pub title: String,
    /// The scenario's question; may be empty.
    pub question: String,
    /// Metric by metric, the headline first. Never empty.
    pub answers: Vec<Answer>,
    /// What was run, as short phrases.
    pub facts: Vec<String>,
    /// Why the run ended when it did, as a sentence, if its results decided that.
    pub stopped: Option<String>,
    /// What the record lacks, as a sentence.
    pub missing: Option<String>,
    pub sections: Vec<Content>,
}

impl Document {
    /// The document for a ranked record.
    pub fn of(ranked: &Ranked<'_>) -> Self {
        let record = ranked.record;
        let valid = record.trials.iter().filter(|trial| trial.outcome == Outcome::Valid).count();
        let cells = ranked.cells.len();
        let sections = sections(ranked);
        #[cfg(test)]
        super::columns::all_explained(&sections);
        let mut facts =
            vec![plural(cells, "cell"), format!("{valid} of {} valid", plural(record.trials.len(), "trial"))];
        let began = record.trials.iter().map(|trial| &trial.started_at).min();
        facts.extend(began.and_then(|at| at.get(..10)).filter(|date| !date.is_empty()).map(str::to_owned));
        Self {
            title: ranked.summary.scenario.clone(),
            question: harmless(&record.whole.question).into_owned(),
            answers: answers(record, ranked.summary),
            facts,
            stopped: stopping::sentence(record, ranked.summary),
            missing: missing(record, ranked.flaws).map(|missing| capital(&missing) + "."),
            sections,
        }
    }
}
