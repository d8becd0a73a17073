//! A report's content, before it takes a form.

use super::{
    Ranked,
    answer::{Answer, answer},
    claims::capital,
    sections::{Content, sections},
    verdicts::missing,
};
use crate::record::Outcome;

/// What every form of a report is made of.
pub struct Document {
    /// Name of the scenario.
    pub title: String,
    /// Its question; may be empty.
    pub question: String,
    /// Its answer.
    pub answer: Answer,
    /// What was run, in a few words each.
    pub facts: Vec<String>,
    /// What the record lacks, as a sentence.
    pub missing: Option<String>,
    /// The sections, in order.
    pub sections: Vec<Content>,
}

impl Document {
    /// Of a ranked record.
    pub fn of(ranked: &Ranked<'_>) -> Self {
        let record = ranked.record;
        let valid = record.trials.iter().filter(|trial| trial.outcome == Outcome::Valid).count();
        let cells = ranked.cells.len();
        let mut facts = vec![
            format!("{cells} {}", if cells == 1 { "cell" } else { "cells" }),
            format!("{valid} of {} trials valid", record.trials.len()),
        ];
        let began = record.trials.iter().map(|trial| &trial.started_at).min();
        facts.extend(began.and_then(|at| at.get(..10)).filter(|date| !date.is_empty()).map(str::to_owned));
        Self {
            title: ranked.summary.scenario.clone(),
            question: record.whole.question.clone(),
            answer: answer(ranked.summary, &ranked.ranking),
            facts,
            missing: missing(record).map(|missing| capital(&missing) + "."),
            sections: sections(ranked),
        }
    }
}
