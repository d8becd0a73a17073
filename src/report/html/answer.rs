//! The question, and the answer with its evidence.

use maud::{Markup, html};

use super::parts::{folded, unbroken};
use crate::{
    record::Outcome,
    report::{
        answer,
        charts::{Subject, capital},
        verdicts::missing,
    },
};

/// More lines of evidence are folded.
const OPEN: usize = 6;

/// The section that opens the page.
pub fn section(subject: &Subject<'_>) -> Markup {
    let record = subject.record;
    let answer = answer(subject.summary, subject.ranking);
    let question = &record.whole.question;
    let heading = if question.is_empty() { &subject.summary.scenario } else { question };
    let valid = record.trials.iter().filter(|trial| trial.outcome == Outcome::Valid).count();
    let began = record.trials.iter().map(|trial| &trial.started_at).min().map_or("", |at| at.get(..10).unwrap_or(at));
    let evidence = html! { ul.evidence { @for line in &answer.evidence { li { (line) } } } };
    html! {
        header {
            p.about {
                "listenbench · " (subject.summary.scenario)
                " · " (subject.cells.len()) @if subject.cells.len() == 1 { " cell" } @else { " cells" }
                " · " (valid) " of " (record.trials.len()) " trials valid"
                @if !began.is_empty() { " · " (began) }
            }
            @if let Some(missing) = missing(record) { p.about { (capital(&missing)) "." } }
            h1 { (heading) }
            p.answer { (unbroken(&answer.sentence)) }
            @if answer.evidence.len() > OPEN { (folded(&format!("Evidence: {} comparisons", answer.evidence.len()), &evidence)) } @else { (evidence) }
        }
    }
}
