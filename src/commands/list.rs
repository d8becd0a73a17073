//! `listenbench list`: the built-in scenarios, each with its question, its length and what it requires.

use anyhow::Result;
use indexmap::IndexSet;
use serde::Serialize;

use super::{
    Ended, Lines, run, say, say_json,
    sources::{self, Takes},
};
use crate::{
    cli,
    format::{plural, thousands},
    load,
    report::terminal,
    scenario::{Plan, UnderTest},
};

/// Loads that hold fewer connections at once fit everywhere.
const MENTION_FROM: u64 = 5_000;

/// A built-in scenario.
#[derive(Debug, Serialize)]
struct Entry {
    name: &'static str,
    question: String,
    cells: usize,
    /// Trials; the fewest there may be, if `[stop]` or `[search]` decides.
    trials_least: usize,
    /// The most there may be.
    trials_most: usize,
    /// About how many seconds it takes in all, with the fewest trials.
    seconds_least: u64,
    /// The same with the most.
    seconds_most: u64,
    /// Programs that must be installed, and privileges without which nothing of it runs.
    requires: Vec<String>,
    /// What root adds.
    as_root: Option<String>,
    /// The most connections that it holds open at once.
    holds: u64,
}

/// Runs the command.
pub fn run(options: &cli::List) -> Result<Ended> {
    let entries: Vec<Entry> = sources::built_in().map(entry).collect::<Result<_>>()?;
    if options.json {
        say_json(&entries, Lines::Several)?;
        return Ok(Ended::Done);
    }
    let width = entries.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
    for entry in &entries {
        say(terminal::prose(&format!("{:<width$}  {}", entry.name, entry.in_short())))?;
        say(terminal::prose(&format!("  {}", entry.question)))?;
    }
    say(terminal::prose("Run one with `listenbench run NAME`, print it with `listenbench show NAME`."))?;
    Ok(Ended::Done)
}

fn entry(name: &'static str) -> Result<Entry> {
    let plan = Plan::read(&sources::text(name)?.source(), &[])?;
    let whole = &plan.whole;
    let cells = plan.cells.len();
    let (trials_least, trials_most) = match &whole.search {
        // A trial within the limit, one beyond it, and those that confirm them.
        Some(search) => (2 * whole.repetitions * cells, search.max_trials * cells),
        None => (whole.repetitions * cells, plan.trials.len()),
    };
    let Takes(seconds_least, seconds_most) = sources::takes(name).expect("a built-in scenario");
    let held = plan.cells.iter().map(|cell| load::held_at_once(&cell.scenario)).max().unwrap_or(0);
    let (requires, as_root) = needs(&plan);
    Ok(Entry {
        name,
        question: whole.question.clone(),
        cells,
        trials_least,
        trials_most,
        seconds_least,
        seconds_most,
        requires,
        as_root,
        holds: held,
    })
}

/// What a scenario's trials require, and what root adds.
fn needs(plan: &Plan) -> (Vec<String>, Option<String>) {
    let mut requires: Vec<String> = run::programs_of(plan).into_iter().collect();
    let strategies: IndexSet<(&str, bool)> = plan
        .cells
        .iter()
        .filter(|cell| cell.scenario.fill.is_none() && cell.scenario.subject.is_own())
        .map(|cell| (cell.scenario.server.strategy.name, cell.scenario.server.strategy.requires_root()))
        .collect();
    let privileged: Vec<String> =
        strategies.iter().filter(|(_, root)| *root).map(|(name, _)| (*name).to_owned()).collect();
    if !privileged.is_empty() && privileged.len() == strategies.len() {
        requires.push("root".to_owned());
        return (requires, None);
    }
    let is_foreign = plan.cells.iter().any(|cell| cell.scenario.subject != UnderTest::Own);
    let as_root = if !privileged.is_empty() {
        Some(format!("also {}", privileged.join(", ")))
    } else {
        is_foreign.then(|| "who accepted what, and how long connections waited for it".to_owned())
    };
    (requires, as_root)
}

impl Entry {
    /// `about 1 to 3 min, 28 to 64 trials; requires nginx; as root: …`.
    fn in_short(&self) -> String {
        let least =
            if self.trials_least == self.trials_most { String::new() } else { format!("{} to ", self.trials_least) };
        let trials = plural(self.trials_most, "trial");
        let mut parts = vec![format!("about {}, {least}{trials}", Takes(self.seconds_least, self.seconds_most))];
        if self.holds >= MENTION_FROM {
            parts.push(format!("holds {} connections", thousands(self.holds as f64)));
        }
        if !self.requires.is_empty() {
            parts.push(format!("requires {}", self.requires.join(" and ")));
        }
        parts.extend(self.as_root.as_ref().map(|what| format!("as root: {what}")));
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_built_in_scenario_says_what_it_takes() {
        let entries: Vec<Entry> = sources::built_in().map(|name| entry(name).unwrap()).collect();
        let of = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap();
        assert!(entries.iter().all(|entry| !entry.question.is_empty() && entry.trials_least > 0));
        assert!(entries.iter().all(|entry| entry.trials_least <= entry.trials_most && entry.seconds_least > 0));
        assert_eq!((of("quick").cells, of("quick").trials_least, of("quick").trials_most), (4, 28, 40));
        assert!(of("sustain").in_short().starts_with("about 3 min, 18 to 75 trials"), "{}", of("sustain").in_short());
        for name in sources::built_in() {
            let plan = Plan::read(&sources::text(name).unwrap().source(), &[]).unwrap();
            let least = |trials: usize| {
                let of_trials = plan.trials[..trials].iter();
                of_trials.map(|trial| plan.cells[trial.cell].scenario.expected_length()).sum::<Option<Duration>>()
            };
            let Entry { seconds_least, seconds_most, trials_least, .. } = *of(name);
            for (trials, seconds) in
                [(trials_least.min(plan.trials.len()), seconds_least), (plan.trials.len(), seconds_most)]
            {
                // To the minute.
                let takes = Duration::from_secs(seconds + 30);
                assert!(least(trials).is_none_or(|least| least <= takes), "{name}: {:?}", least(trials));
            }
        }
        assert_eq!(of("nginx").requires, ["nginx"]);
        assert_eq!(of("haproxy").requires, ["haproxy"]);
        assert_eq!(of("gunicorn").requires, ["gunicorn"]);
        assert_eq!(of("quick").requires, [""; 0]);
        assert_eq!(of("stalled-worker").as_root.as_deref(), Some("also reuseport-hermes"));
        assert!(of("nginx").as_root.is_some() && of("quick").as_root.is_none());
        assert_eq!((of("million").holds, of("quick").holds < MENTION_FROM), (1_000_000, true));
    }
}
