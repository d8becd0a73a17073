//! Scenario files, and what `--set` adds to them.

use rand::{Rng, RngExt, seq::IndexedRandom};

use crate::{
    commands,
    scenario::{
        Plan, Source,
        keys::{self, AnyKey},
    },
};

/// A scenario's text.
pub fn file(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    check(text, &[]);
}

/// Values for `--set`, one a line. If the first line is the name of a built-in scenario, they are set in that one.
pub fn overrides(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let base = lines.first().and_then(|name| commands::built_in_text(name)).unwrap_or_default();
    if !base.is_empty() {
        lines.remove(0);
    }
    check(base, &lines);
}

/// What is accepted says in full what it is: read again, it is the same plan.
fn check(text: &str, overrides: &[String]) {
    let read = |text: &str, overrides: &[String]| Plan::read(&Source { name: "input.toml", text }, overrides);
    let plan = match read(text, overrides) {
        Ok(plan) => plan,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let again = match read(&plan.effective, &[]) {
        Ok(again) => again,
        Err(error) => panic!("the effective scenario is refused: {error}\n{}", plan.effective),
    };
    assert_eq!(again.effective, plan.effective);
    assert_eq!((&again.whole, &again.trials, again.search_from), (&plan.whole, &plan.trials, plan.search_from));
    assert_eq!(again.cells.len(), plan.cells.len());
    for (again, cell) in again.cells.iter().zip(&plan.cells) {
        assert_eq!((&again.values, &again.swept), (&cell.values, &cell.swept));
        assert_eq!(again.scenario, cell.scenario);
    }
}

/// Sets a random key, on a line of its own, to its default or to what another one may have.
pub fn mutate(input: &mut Vec<u8>, random: &mut impl Rng) {
    let keys: Vec<&dyn AnyKey> = keys::all().collect();
    let (Some(key), Some(other)) = (keys.choose(random), keys.choose(random)) else { return };
    let value = if random.random_ratio(3, 4) { key } else { other }.default_toml();
    let value = value.map_or_else(|| ODD.choose(random).map_or("", |odd| odd).to_owned(), |value| value.to_string());
    let breaks: Vec<usize> =
        input.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    let at = breaks.choose(random).copied().unwrap_or(0);
    // Below a table's head, a key is only the rest of its path.
    let path = if random.random_ratio(1, 2) { key.path() } else { key.path().rsplit('.').next().unwrap_or_default() };
    input.splice(at..at, format!("{path}={value}\n").into_bytes());
}

/// Values that some keys take and no default shows.
const ODD: [&str; 14] = [
    "0",
    "1",
    "-1",
    "9223372036854775807",
    "1e308",
    "nan",
    "\"\"",
    "[]",
    "{}",
    "\"auto\"",
    "\"1ns\"",
    "\"30days\"",
    "[0, 65535]",
    "\"127.0.0.2-127.0.0.9\"",
];
