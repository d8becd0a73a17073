//! Verdicts and what they mean.

use maud::html;

use super::Content;
use crate::{
    record::Outcome,
    report::{
        Ranked,
        claims::capital,
        html::parts::folded,
        verdicts::{self, Said, meaning, of_trials, unused},
    },
};

/// More trials that are not used are folded.
const OPEN: usize = 5;

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let record = ranked.record;
    let said = of_trials(record);
    let unused = unused(record);
    let of_run = &ranked.summary.verdicts;
    let lines = html! { ul { @for line in &unused { li { (line) } } } };
    let all = record.trials.len();
    let figure = html! {
        @if !unused.is_empty() { h3 { "Not used" } @if unused.len() > OPEN { (folded(&format!("{} reasons", unused.len()), &lines)) } @else { (lines) } }
        @if !of_run.is_empty() || !said.is_empty() {
            div.scroll tabindex="0" {
                table.words {
                    thead { tr { th scope="col" { "verdict" } th scope="col" { "trials" } th scope="col" { "what it means" } th scope="col" { "for example" } } }
                    tbody {
                        @for verdict in of_run { tr { td.name { (verdict.name.as_str()) } td { "together" } td { (capital(meaning(verdict.name))) } td { (verdict.detail) } } }
                        @for said in &said {
                            tr {
                                td.name { (said.name.as_str()) } td { (said.trials) " of " (all) }
                                td { (capital(meaning(said.name))) } td { (said.example) ": " (said.detail) }
                            }
                        }
                    }
                }
            }
        }
    };
    Some(Content {
        title: "Verdicts and what they mean".to_owned(),
        finding: title(ranked, &said),
        figure: Some(figure),
        events: verdicts::notes(record, ranked.summary),
        ..Content::default()
    })
}

fn title(ranked: &Ranked<'_>, said: &[Said]) -> String {
    let trials = &ranked.record.trials;
    let unused = trials.iter().filter(|trial| trial.outcome != Outcome::Valid).count();
    let used = match (unused, trials.len()) {
        (_, 0) => "No trial was run".to_owned(),
        (0, 1) => "The one trial's figures are used".to_owned(),
        (0, all) => format!("The figures of all {all} trials are used"),
        (unused, all) => format!("{unused} of {all} trials must not be used"),
    };
    let advisory: Vec<&Said> = said.iter().filter(|said| !said.name.invalidates()).collect();
    let most = advisory.iter().max_by_key(|said| said.trials);
    let more = match (most, ranked.summary.verdicts.len()) {
        (None, 0) => ", and no verdict speaks against them".to_owned(),
        (None, _) => String::new(),
        (Some(said), _) => format!("; {} is said of {}", said.name.as_str(), said.trials),
    };
    let more = if unused > 0 && most.is_none() { String::new() } else { more };
    used + &more
}
