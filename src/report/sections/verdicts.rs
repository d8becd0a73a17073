//! Verdicts and what they mean.

use maud::html;

use super::{Content, In};
use crate::{
    format::{all_of, duration},
    record::{Outcome, TrialRecord, VerdictName},
    report::{
        Ranked,
        html::parts::{folded, scroll},
        ranking::listed,
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
            (scroll("Verdicts", &html! {
                table.words {
                    thead { tr { th scope="col" { "verdict" } th scope="col" { "trials" } th scope="col" { "what it means" } th scope="col" { "for example" } } }
                    tbody {
                        @for given in &given {
                            tr { td.name { (given.name) } td { (trials(given)) } td { (given.name.advice()) } td { (given.detail) } }
                        }
                    }
                }
            }))
        }
    };
    Some(Content {
        title: "Verdicts and what they mean".to_owned(),
        finding: title(ranked, &given),
        figure: Some(figure),
        notes: send_lag(ranked).into_iter().map(|note| (In::All, note)).collect(),
        events: verdicts::notes(record, ranked.summary, ranked.flaws),
        ..Content::default()
    })
}

/// How late the loaders were, if that is a good part of the responses in most trials of an open loop.
fn send_lag(ranked: &Ranked<'_>) -> Option<String> {
    // What populations of different kinds offer has no sum.
    let is_on_schedule = |trial: &&&TrialRecord| {
        let loads = trial.populations();
        trial.rates.offered_per_s.is_some()
            || !loads.is_empty() && loads.iter().all(|load| load.rates.offered_per_s.is_some())
    };
    let trials = ranked.cells.iter().flat_map(|cell| &cell.trials).filter(is_on_schedule);
    let all = trials.clone().count();
    // Loaders that lack processor time are late for that reason.
    let is_saturated =
        |trial: &&&TrialRecord| trial.verdicts.iter().any(|one| one.name == VerdictName::LoaderSaturated);
    let trials = trials.filter(|trial| !is_saturated(trial));
    let lags = trials.map(|trial| trial.latency_ns.send_lag.lag_beside(&trial.latency_ns.response));
    let lags: Vec<Option<(u64, u64)>> = lags.collect();
    let long: Vec<(u64, u64)> = lags.iter().copied().flatten().collect();
    if 2 * long.len() <= lags.len() {
        return None;
    }
    let apart = if lags.len() < all { " that are not loader-saturated" } else { "" };
    let place = match (long.len(), lags.len()) {
        (some, judged) if some == judged && judged == all => String::new(),
        (some, judged) if some == judged => format!(" in the {some} of {all} trials{apart}"),
        (some, judged) => format!(" in {some} of {judged} trials{apart}"),
    };
    let [lags, responses] = [|of: &(u64, u64)| of.0, |of: &(u64, u64)| of.1].map(|part| from_to(long.iter().map(part)));
    let remedy = if ranked.record.scenario.contains("arrivals = \"burst\"") {
        "The connections of a burst are due at once, and a loader starts one after another."
    } else if ranked.record.scenario.contains("pacer = \"spin\"") {
        "A quieter machine would shorten it."
    } else {
        "`load.pacer = \"spin\"` keeps the loaders awake."
    };
    Some(verdicts::send_lag(&place, &lags?, &responses?, remedy))
}

/// `120 µs`, or `120 µs to 26.6 ms`.
fn from_to(values: impl Iterator<Item = u64> + Clone) -> Option<String> {
    let (low, high) = (values.clone().min()?, values.max()?);
    let [low, high] = [low, high].map(|ns| duration(ns as f64));
    Some(if low == high { low } else { format!("{low} to {high}") })
}

fn title(ranked: &Ranked<'_>, given: &[Given]) -> String {
    let trials = &ranked.record.trials;
    let unused = trials.iter().filter(|trial| trial.outcome != Outcome::Valid).count();
    let used = match (unused, trials.len()) {
        (_, 0) => "No trial was run".to_owned(),
        (0, 1) => "The one trial's figures are used".to_owned(),
        (0, all) => format!("The figures of {} trials are used", all_of(all)),
        (_, 1) => "The one trial's figures must not be used".to_owned(),
        (unused, all) if unused == all => format!("The figures of {} trials must not be used", all_of(all)),
        (unused, all) => format!("The figures of {unused} of {all} trials must not be used"),
    };
    // Failed trials have no verdicts, and a reader must not take another one for the reason.
    let reasons = given.iter().filter(|given| given.name.invalidates() && given.trials.is_some());
    let reasons: Vec<String> = reasons.map(|given| given.name.to_string()).collect();
    let used = if reasons.is_empty() { used } else { format!("{used} ({})", reasons.join(", ")) };
    let also = if unused == trials.len() && !trials.is_empty() { "also " } else { "" };
    let more = match frequent(given) {
        Some((_, names)) if trials.len() == 1 => {
            format!("; it {also}has the {} {}", if names.len() == 1 { "verdict" } else { "verdicts" }, listed(&names))
        }
        Some((times, names)) => match &names[..] {
            [name] => format!("; {times} {also}{} the verdict {name}", if times == 1 { "has" } else { "have" }),
            _ => format!("; the verdicts {} {also}concern {times} each", listed(&names)),
        },
        None if unused > 0 || !ranked.summary.verdicts.is_empty() => String::new(),
        None if given.is_empty() => ", and no verdict qualifies them".to_owned(),
        None => format!(", and no verdict but {} qualifies them", VerdictName::Events),
    };
    used + &more
}

/// The verdicts that most trials have, and how many do. Whoever wrote the scenario knows of its events.
fn frequent(given: &[Given]) -> Option<(usize, Vec<String>)> {
    let counted = || given.iter().filter_map(|given| Some((given.trials?, given.name)));
    let advisory = || counted().filter(|(_, name)| !name.invalidates() && *name != VerdictName::Events);
    let most = advisory().map(|(trials, _)| trials).max()?;
    Some((most, advisory().filter(|(trials, _)| *trials == most).map(|(_, name)| name.to_string()).collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::{Grounds, LatencySummary, Verdict},
        report::sample::Sample,
    };

    /// The title of trials that are valid or not, of which the first have a verdict each.
    fn titled(outcomes: &[Outcome], contended: usize) -> String {
        let mut sample = Sample::new("What is used?");
        for (number, outcome) in outcomes.iter().enumerate() {
            let trial = sample.trial(json!({}), &[5, 5], 1_000);
            trial.outcome = *outcome;
            if number < contended {
                trial.verdicts.push(Verdict::from(Grounds::CpuContended { share: 0.5, host: None }));
            }
        }
        section(&Ranked::of(&sample.reading())).unwrap().finding
    }

    #[test]
    fn a_title_counts_trials_in_the_right_number() {
        use Outcome::{Invalid, Valid};
        for (outcomes, contended, title) in [
            (&[Valid][..], 0, "The one trial's figures are used, and no verdict qualifies them"),
            (&[Valid], 1, "The one trial's figures are used; it has the verdict cpu-contended"),
            (&[Valid, Valid], 1, "The figures of both trials are used; 1 has the verdict cpu-contended"),
            (&[Valid, Valid, Valid], 2, "The figures of all 3 trials are used; 2 have the verdict cpu-contended"),
            (&[Invalid], 0, "The one trial's figures must not be used"),
            (&[Invalid, Invalid], 0, "The figures of both trials must not be used"),
            (&[Invalid, Valid, Valid], 0, "The figures of 1 of 3 trials must not be used"),
        ] {
            assert_eq!(titled(outcomes, contended), title);
        }
    }

    #[test]
    fn a_title_names_every_verdict_that_most_trials_have() {
        let told = |given: &[&[Grounds]]| {
            let mut sample = Sample::new("What is used?");
            for grounds in given {
                sample.trial(json!({}), &[5, 5], 1_000).verdicts = grounds.iter().cloned().map(Verdict::from).collect();
            }
            section(&Ranked::of(&sample.reading())).unwrap().finding
        };
        let steal = Grounds::CpuSteal { share: 0.5, host: None };
        let contended = Grounds::CpuContended { share: 0.5, host: None };
        let events = Grounds::Events { events: Vec::new() };
        let both = &[steal.clone(), contended.clone(), events.clone()][..];
        assert_eq!(
            told(&[both, both, &[contended, events.clone()]]),
            "The figures of all 3 trials are used; 3 have the verdict cpu-contended"
        );
        assert_eq!(
            told(&[both, both]),
            "The figures of both trials are used; the verdicts cpu-steal and cpu-contended concern 2 each"
        );
        assert_eq!(told(&[both]), "The one trial's figures are used; it has the verdicts cpu-steal and cpu-contended");
        assert_eq!(
            told(&[std::slice::from_ref(&events), std::slice::from_ref(&events), &[steal]]),
            "The figures of all 3 trials are used; 1 has the verdict cpu-steal"
        );
    }

    #[test]
    fn events_alone_qualify_nothing() {
        let mut sample = Sample::new("What is used?");
        sample.trial(json!({}), &[5, 5], 1_000).verdicts = vec![Grounds::Events { events: Vec::new() }.into()];
        assert_eq!(
            section(&Ranked::of(&sample.reading())).unwrap().finding,
            "The one trial's figures are used, and no verdict but events qualifies them"
        );
    }

    #[test]
    fn a_title_names_the_verdict_that_makes_a_trial_invalid() {
        let mut sample = Sample::new("What is used?");
        let trial = sample.trial(json!({}), &[5, 5], 1_000);
        trial.outcome = Outcome::Invalid;
        trial.connections.attempted = 7;
        let died = Grounds::ProcessDied {
            process: "loader 0 (pid 7)".to_owned(),
            exit: "killed by SIGKILL".to_owned().into(),
            in_flight: 0,
        };
        trial.verdicts = [died, Grounds::CpuContended { share: 0.5, host: None }].map(Verdict::from).into();
        let content = section(&Ranked::of(&sample.reading())).unwrap();
        assert_eq!(
            content.finding,
            "The one trial's figures must not be used (process-died); it also has the verdict cpu-contended"
        );
        // Texts say what the verdict means and where the figures are.
        assert!(content.events.contains(&format!("process-died: {}", VerdictName::ProcessDied.advice())));
        let kept = "What invalid trials measured is kept in trials.jsonl and histograms.hlog.";
        assert!(content.events.iter().any(|line| line == kept), "{:?}", content.events);
    }

    #[test]
    fn send_lag_is_stated_beside_the_median_response() {
        let mut sample = Sample::new("How late?");
        for lag_ns in [1_120_000, 1_120_000, 1] {
            let trial = sample.trial(json!({}), &[5, 5], 1_000);
            trial.rates.offered_per_s = Some(1_000.0);
            let at = |p50, p99| LatencySummary { due: 1, p50, p99, ..LatencySummary::default() };
            trial.latency_ns.send_lag = at(Some(1), Some(lag_ns));
            trial.latency_ns.response = at(Some(321_000), Some(1_500_000));
        }
        let notes = |sample: Sample| section(&Ranked::of(&sample.reading())).unwrap().notes;
        assert_eq!(
            notes(sample)[0].1,
            "Send lag: the loaders started late in 2 of 3 trials; its p99 (1.12 ms) is over 10 % of the median response (321 µs), \
             which includes it. `load.pacer = \"spin\"` keeps the loaders awake."
        );
    }
}
