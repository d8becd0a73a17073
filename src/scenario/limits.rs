//! How large a scenario may be. A larger one is taken to be a mistake, and refused before it takes a minute to plan.

use std::{cmp::Reverse, collections::HashSet};

use super::{
    error::{Origin, Problem},
    file::{Entry, File},
    keys::paths,
    variant::Variant,
};
use crate::{
    format::{plural, thousands},
    record::bounds,
};

/// The characters of a key.
pub(super) const PATH_CHARACTERS: usize = 255;
/// The variants of a scenario.
pub(super) const VARIANTS: usize = 1_000;
/// The populations of a load.
pub(super) const POPULATIONS: usize = 64;
/// The events in one list of `[[event]]`.
pub(super) const EVENTS: usize = 20_000;
/// The occurrences of a periodic event.
pub(super) const OCCURRENCES: usize = 1_000;
/// The events of all cells together.
const EVENTS_OF_ALL: usize = 200_000;
/// The keys that a scenario sweeps.
pub(super) const SWEPT_KEYS: usize = 64;
/// The cells, and the trials.
const TRIALS: usize = 100_000;
/// The bytes of the values of all cells together, keys included.
const BYTES_OF_ALL: usize = 256 << 20;
/// The problems that an error lists; it counts the others.
pub(super) const PROBLEMS: usize = 100;

/// The limits that a user may meet, each with the most there may be, and of what.
pub const LIMITS: &[(&str, usize, &str)] = &[
    ("scenario bytes", bounds::TEXT_BYTES as usize, "Bytes of a scenario's text."),
    ("variants", VARIANTS, "[[variant]] tables of a scenario."),
    ("populations", POPULATIONS, "[[load]] tables of a scenario."),
    ("events", EVENTS, "[[event]] tables of a scenario, or of a variant."),
    ("events of all cells", EVENTS_OF_ALL, "Events of all cells together."),
    ("occurrences", OCCURRENCES, "Times that an event with `event.every` happens in a trial."),
    ("swept keys", SWEPT_KEYS, "Keys that a scenario gives lists of values."),
    ("cells", TRIALS, "Combinations of swept values and variants."),
    ("trials", TRIALS, "Trials of a scenario: cells × repetitions, or × the trials of a search."),
    ("bytes of all values", BYTES_OF_ALL, "Bytes that the values of all cells take, keys included."),
];

/// The number of cells of each variant. Fails if all cells or trials are more than can be planned. `each` is the number of trials of a
/// cell, and `per` what the scenario calls that number.
pub(super) fn cells(file: &File, each: usize, per: &str) -> Result<usize, Problem> {
    // The longest list is likely the mistake.
    let longest = file.matrix.iter().max_by_key(|(_, values)| values.len()).and_then(|(_, values)| values.first());
    let wrong = |problem: String| Problem::new(longest.map_or(Origin::File, |entry| entry.origin.clone()), problem);
    let cells = file.matrix.iter().try_fold(1_usize, |count, (_, values)| count.checked_mul(values.len()));
    let all = cells.and_then(|cells| cells.checked_mul(file.variants.len().max(1)));
    let (Some(cells), Some(..=TRIALS)) = (cells, all) else {
        let more = if file.variants.is_empty() { "" } else { ", for each [[variant]]," };
        return Err(wrong(format!(
            "{}{more} are more than {} combinations: sweep fewer values",
            swept(file),
            large(TRIALS)
        )));
    };
    let chosen = cells * file.chosen().count().max(1);
    if chosen.saturating_mul(each) > TRIALS {
        return Err(wrong(format!(
            "{} cells × {each} {per} are more than {} trials: sweep fewer values, or lower the number of {per}",
            large(chosen),
            large(TRIALS)
        )));
    }
    let weights: Vec<Weight> = file.all_variants().map(|variant| Weight::of(file, variant)).collect();
    let total = |of: fn(&Weight) -> usize| {
        weights.iter().fold(0_usize, |sum, weight| sum.saturating_add(of(weight).saturating_mul(cells)))
    };
    let (events, bytes) = (total(|weight| weight.events), total(|weight| weight.bytes));
    if events > EVENTS_OF_ALL {
        return Err(wrong(format!(
            "its cells have {} events in all, and no more than {} can be planned: sweep fewer values, or remove some [[event]]",
            large(events),
            large(EVENTS_OF_ALL)
        )));
    }
    if bytes > BYTES_OF_ALL {
        return Err(wrong(format!(
            "the values of its cells are {} MiB in all, and no more than {} MiB can be planned: sweep fewer values, or shorten the \
             longest",
            bytes >> 20,
            BYTES_OF_ALL >> 20
        )));
    }
    Ok(cells)
}

fn large(number: usize) -> String {
    thousands(number as f64)
}

/// The keys that the scenario sweeps, the longest list first, and how many values each has.
fn swept(file: &File) -> String {
    /// Enough to find the mistake.
    const NAMED: usize = 3;
    let mut lists: Vec<(&str, usize)> = file.matrix.iter().map(|(path, values)| (&path[..], values.len())).collect();
    lists.sort_by_key(|(_, length)| Reverse(*length));
    let named = lists.iter().take(NAMED).map(|(path, length)| format!("`{path}` ({})", plural(*length, "value")));
    let others = lists.len().saturating_sub(NAMED);
    let others = (others > 0).then(|| format!("{} more", plural(others, "key")));
    named.chain(others).collect::<Vec<_>>().join(" × ")
}

/// What one cell takes to read.
struct Weight {
    events: usize,
    bytes: usize,
}

impl Weight {
    fn of(file: &File, variant: Option<&Variant>) -> Self {
        let fixed = file.values.iter().filter(|(path, _)| !variant.is_some_and(|one| one.replaces(path)));
        let set = fixed.chain(variant.into_iter().flat_map(|variant| &variant.values));
        let size = |path: &str, entry: &Entry| path.len() + entry.value.to_string().len();
        let swept = file.matrix.iter().filter(|(path, _)| !file.values.contains_key(path));
        let longest = swept.map(|(path, entries)| entries.iter().map(|entry| size(path, entry)).max().unwrap_or(0));
        let mut events = HashSet::new();
        let mut bytes = longest.sum();
        for (path, entry) in set {
            bytes += size(path, entry);
            events.extend(paths::instance(path));
        }
        Self { events: events.len(), bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Plan, Source, file},
        *,
    };

    /// The numbers from 1 as a list.
    fn list(length: usize) -> String {
        format!("[{}]", (1..=length).map(|number| number.to_string()).collect::<Vec<_>>().join(","))
    }

    fn events(count: usize) -> String {
        format!("event = [{}]\n", "{ at = \"1ms\", kind = \"kill\" },".repeat(count))
    }

    fn counted(text: &str) -> Result<usize, String> {
        let file = file::read("test.toml", text, &[]).map_err(|error| error.to_string())?;
        match file.problems.first() {
            Some(problem) => Err(problem.text.clone()),
            None => cells(&file, 2, "repetitions").map_err(|problem| problem.text),
        }
    }

    #[test]
    fn a_scenario_may_be_as_large_as_each_limit_and_no_larger() {
        let matrix = |lengths: &[usize]| {
            let keys =
                ["server.backlog", "load.concurrency", "load.requests", "server.accept_batch", "server.fastopen"];
            let lists = keys.iter().zip(lengths).map(|(key, length)| format!("{key} = {}\n", list(*length)));
            format!("[matrix]\n{}", lists.collect::<String>())
        };
        let sysctls = |count: usize| {
            let swept = (0..count).map(|number| format!("sysctl.a{number} = [1]\n"));
            format!("[matrix]\n{}", swept.collect::<String>())
        };
        let question = |bytes: usize| format!("question = \"{}\"\n{}", "a".repeat(bytes), matrix(&[256]));
        for (text, expected) in [
            (matrix(&[50, 1_000]), Ok(50_000)),
            (matrix(&[50, 1_001]), Err("50,050 cells × 2 repetitions are more than 100,000 trials")),
            (
                matrix(&[200, 501]),
                Err(
                    "`load.concurrency` (501 values) × `server.backlog` (200 values) are more than 100,000 combinations: sweep",
                ),
            ),
            (
                matrix(&[60_000; 5]),
                Err(
                    "`server.backlog` (60,000 values) × `server.accept_batch` (60,000 values) × `server.fastopen` (60,000 values) × 2 keys more",
                ),
            ),
            (events(EVENTS), Ok(1)),
            (events(EVENTS + 1), Err("20001 events are more than the 20000 that a scenario may have: remove some")),
            (events(1_000) + &matrix(&[200]), Ok(200)),
            (
                events(1_000) + &matrix(&[201]),
                Err("its cells have 201,000 events in all, and no more than 200,000 can"),
            ),
            (sysctls(SWEPT_KEYS), Ok(1)),
            (
                sysctls(SWEPT_KEYS + 1),
                Err("`matrix.sysctl.a64`: no more than 64 keys can be swept: set this one to a single value"),
            ),
            (question((1 << 20) - 64), Ok(256)),
            (
                question(1 << 20),
                Err("the values of its cells are 256 MiB in all, and no more than 256 MiB can be planned"),
            ),
            (format!("sysctl.{} = 1", "a".repeat(PATH_CHARACTERS - "sysctl.".len())), Ok(1)),
            (format!("sysctl.\"{}\" = 1", "ä".repeat(1_000_000)), Err("unknown key `sysctl.ä")),
            (format!("{} = 1", "a".repeat(1_000_000)), Err("unknown key `aaa")),
        ] {
            let found = counted(&text);
            let begin: String = text.chars().take(60).collect();
            match expected {
                Ok(cells) => assert_eq!(found, Ok(cells), "{begin}"),
                Err(problem) => {
                    let found = found.unwrap_err();
                    assert!(found.starts_with(problem) && found.len() < 200, "{begin}: {found}");
                }
            }
        }
    }

    #[test]
    fn variants_are_counted_before_they_are_read() {
        let variants =
            |count: usize| (0..count).map(|number| format!("[[variant]]\nname = \"{number}\"\n")).collect::<String>();
        let counted = |count: usize| counted(&variants(count));
        assert_eq!(counted(VARIANTS), Ok(1));
        assert_eq!(
            counted(VARIANTS + 1).unwrap_err(),
            "1001 variants are more than the 1000 that a scenario may have: remove some [[variant]]"
        );
    }

    fn error(text: &str, overrides: &[String]) -> String {
        Plan::read(&Source { name: "test.toml", text }, overrides).unwrap_err().to_string()
    }

    #[test]
    fn an_error_lists_a_hundred_problems_and_counts_the_others() {
        let text = |keys: usize| (0..keys).map(|number| format!("k{number} = 1\n")).collect::<String>();
        let last = |keys: usize| error(&text(keys), &[]).lines().last().unwrap_or_default().to_owned();
        assert!(last(PROBLEMS).starts_with("test.toml:100: unknown key `k99`"));
        assert_eq!(last(PROBLEMS + 1), "test.toml: 1 more problem");
        // Each of these events has a key without effect.
        let idle = |worker: usize| format!("{{ at = \"1ms\", kind = \"kill\", for = \"1s\", worker = {worker} }},");
        let idle = (0..60).map(idle).collect::<String>();
        let error = error(&format!("event = [{idle}]\nserver.workers = 60"), &[]);
        assert_eq!(error.lines().count(), 60, "{error}");
        assert!(error.contains("`event.0.for` has no effect with "), "{error}");
        assert!(error.contains("`event.59.for` has no effect: remove it"), "{error}");
    }

    #[test]
    fn a_long_override_is_shortened_and_a_deep_one_is_read() {
        let of = |value: String| error("", &[format!("server.strategy={value}")]);
        assert!(of("a".repeat(100_000)).len() < 1_000);
        let deep = of(format!("{}x{}", "[".repeat(50_000), "]".repeat(50_000)));
        assert!(deep.contains("`server.strategy`: must be one of") && deep.len() < 1_000, "{deep}");
    }

    #[test]
    fn a_search_counts_the_trials_it_may_take() {
        let text = |cells: usize| {
            format!(
                "[search]\nmetric = \"response_p99\"\nlimit = \"1ms\"\nmax_trials = 100\n[load]\nmode = \"open\"\n\
                 [matrix]\nserver.backlog = {}",
                list(cells)
            )
        };
        assert_eq!(
            error(&text(1_001), &[]),
            "test.toml:8: 1,001 cells × 100 trials of a search are more than 100,000 trials: sweep fewer values, or lower the number of \
             trials of a search"
        );
    }
}
