//! Verdicts and what they mean.

use maud::html;

use super::Content;
use crate::{
    record::Outcome,
    report::{
        Ranked,
        html::parts::folded,
        verdicts::{self, Given, given, unused},
    },
};

/// Reasons beyond these are folded.
const OPEN: usize = 5;

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let record = ranked.record;
    let given = given(record, ranked.summary);
    let unused = unused(record);
    let lines = html! { ul { @for line in &unused { li { (line) } } } };
    let trials = |given: &Given| match given.trials {
        Some(trials) => format!("{trials} of {}", record.trials.len()),
        None => "together".to_owned(),
    };
    let figure = html! {
        @if !unused.is_empty() { h3 { "Not used" } @if unused.len() > OPEN { (folded(&format!("{} reasons", unused.len()), &lines)) } @else { (lines) } }
        @if !given.is_empty() {
            div.scroll tabindex="0" {
                table.words {
                    thead { tr { th scope="col" { "verdict" } th scope="col" { "trials" } th scope="col" { "what it means" } th scope="col" { "for example" } } }
                    tbody {
                        @for given in &given {
                            tr { td.name { (given.name) } td { (trials(given)) } td { (given.name.advice()) } td { (given.detail) } }
                        }
                    }
                }
            }
        }
    };
    Some(Content {
        title: "Verdicts and what they mean".to_owned(),
        finding: title(ranked, &given),
        figure: Some(figure),
        events: verdicts::notes(record, ranked.summary),
        ..Content::default()
    })
}

fn title(ranked: &Ranked<'_>, given: &[Given]) -> String {
    let trials = &ranked.record.trials;
    let unused = trials.iter().filter(|trial| trial.outcome != Outcome::Valid).count();
    let used = match (unused, trials.len()) {
        (_, 0) => "No trial was run".to_owned(),
        (0, 1) => "The one trial's figures are used".to_owned(),
        (0, all) => format!("The figures of all {all} trials are used"),
        (unused, all) => format!("{unused} of {all} trials must not be used"),
    };
    let advisory = given.iter().filter(|given| !given.name.invalidates());
    let most = advisory.filter_map(|given| Some((given.trials?, given.name))).max_by_key(|(trials, _)| *trials);
    let more = match (most, ranked.summary.verdicts.len()) {
        (None, 0) => ", and no verdict qualifies them".to_owned(),
        (None, _) => String::new(),
        (Some((trials, name)), _) => format!("; {trials} have the verdict {name}"),
    };
    let more = if unused > 0 && most.is_none() { String::new() } else { more };
    used + &more
}
