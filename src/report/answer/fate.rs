//! What became of trials that cannot be used.

use crate::{
    format::{all_of, plural},
    record::{Outcome, TrialRecord},
};

/// Further reasons are left to the section on verdicts.
const REASONS: usize = 2;

/// Begins a line of a server's output in an error.
const QUOTED: &str = "  | ";

/// What failed, how often, and why: `2 of 3 trials failed (no such device); 1 of 3 is invalid (deadline: …)`.
pub(super) fn of(trials: &[&TrialRecord]) -> String {
    let mut reasons: Vec<(bool, String, String, usize)> = Vec::new();
    for trial in trials.iter().filter(|trial| trial.outcome != Outcome::Valid) {
        let failed = trial.outcome == Outcome::Failed;
        let (kind, text) = reason(trial);
        match reasons.iter_mut().find(|(other, known, ..)| (*other, known) == (failed, &kind)) {
            Some((.., count)) => *count += 1,
            None => reasons.push((failed, kind, text, 1)),
        }
    }
    reasons.sort_by_key(|(.., count)| std::cmp::Reverse(*count));
    let all = trials.len();
    let mut parts: Vec<String> = reasons
        .iter()
        .take(REASONS)
        .map(|(failed, _, text, count)| {
            let who = match (count, all) {
                (_, 1) => "the one trial".to_owned(),
                (count, all) if *count == all => format!("{} trials", all_of(all)),
                (count, all) => format!("{count} of {all} trials"),
            };
            let became = match (failed, count) {
                (true, _) => "failed",
                (false, 1) => "is invalid",
                (false, _) => "are invalid",
            };
            format!("{who} {became} ({text})")
        })
        .collect();
    if reasons.len() > REASONS {
        parts.push(plural(reasons.len() - REASONS, "further reason"));
    }
    parts.join("; ")
}

/// Why a trial cannot be used: what makes it the same reason as another's, and the reason in full.
fn reason(trial: &TrialRecord) -> (String, String) {
    if trial.outcome == Outcome::Failed {
        let error = trial.error.as_deref().unwrap_or("no reason given").trim();
        let first = error.lines().next().unwrap_or_default();
        // What a server printed differs from trial to trial, by its process ids and instants, and its last line is the nearest.
        if let Some(last) = error.lines().last().and_then(|line| line.strip_prefix(QUOTED)) {
            return (first.to_owned(), format!("{first} {last}"));
        }
        let error = error.trim_end_matches('.').replace('\n', "; ");
        return (error.clone(), error);
    }
    let verdict = trial.verdicts.iter().find(|verdict| verdict.invalidates);
    verdict.map_or_else(Default::default, |verdict| (verdict.name.to_string(), verdict.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::{Grounds, Unfinished, Verdict},
        stats::fixture,
    };

    #[test]
    fn every_reason_comes_with_its_number() {
        let trial = |outcome| fixture::trial(0, &json!({}), outcome);
        let failed = |why: &str| TrialRecord { error: Some(why.to_owned()), ..trial(Outcome::Failed) };
        let grounds = Grounds::Deadline { unfinished: Unfinished::Load };
        let invalid = TrialRecord { verdicts: vec![Verdict::from(grounds)], ..trial(Outcome::Invalid) };
        let fate = |trials: &[&TrialRecord]| of(trials);
        assert_eq!(fate(&[&failed("no such device.")]), "the one trial failed (no such device)");
        let (one, other) = (failed("no such device"), failed("no memory"));
        assert_eq!(fate(&[&one, &one, &one]), "all 3 trials failed (no such device)");
        let mixed = fate(&[&one, &invalid, &one, &trial(Outcome::Valid)]);
        assert!(
            mixed.starts_with("2 of 4 trials failed (no such device); 1 of 4 trials is invalid (deadline: "),
            "{mixed}"
        );
        assert!(fate(&[&one, &other, &invalid]).ends_with("; 1 further reason"));
        let ended = |line: &str| failed(&format!("it ended; its last output:\n  | starting\n  | {line}"));
        assert_eq!(
            fate(&[&ended("[1] no port ..."), &ended("[2] no port ...")]),
            "both trials failed (it ended; its last output: [1] no port ...)"
        );
        assert_eq!(fate(&[&failed("this\nand that")]), "the one trial failed (this; and that)");
    }
}
