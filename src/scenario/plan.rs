//! The ordered list of trials: the matrix expanded, each block of repetitions shuffled by the seed.

use std::{collections::HashMap, fmt::Display};

use indexmap::IndexSet;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value as Json};
use toml::Value;

use super::{
    effective::{Effective, Reading},
    error::{Origin, Problem, ScenarioError},
    file::{self, Entry, File},
    idle,
    keys::{self, AnyKey, paths},
    limits,
    model::Scenario,
    population,
    schedule::ModeName,
    settings::{Log, Settings},
    variant::{self, Variant},
    whole::{Search, Whole, short_names},
};

/// Where a scenario's text comes from.
#[derive(Debug)]
pub struct Source<'a> {
    /// The name that errors show.
    pub name: &'a str,
    /// The TOML text.
    pub text: &'a str,
}

/// A combination of swept values and the scenario it makes.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Swept values by short name, as in records.
    pub values: Map<String, Json>,
    /// Swept keys with their values, as in `--set`.
    pub swept: Vec<(String, Value)>,
    /// The whole scenario.
    pub scenario: Scenario,
}

impl Cell {
    /// `strategy=reuseport workers=2`, or `(one cell)` where nothing is swept.
    pub fn label(&self) -> String {
        label(&self.values)
    }
}

/// Swept values in readable form.
pub fn label(values: &Map<String, Json>) -> String {
    if values.is_empty() {
        return "(one cell)".to_owned();
    }
    let show = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    values.iter().map(|(name, value)| format!("{name}={}", show(value))).collect::<Vec<_>>().join(" ")
}

/// One execution of one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Its number in order of execution, from 0.
    pub number: usize,
    /// Its block of repetitions, from 0.
    pub repetition: usize,
    /// Index into the plan's cells.
    pub cell: usize,
}

/// Everything that will be run, in order.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Settings of the scenario as a whole.
    pub whole: Whole,
    /// The cells, in the matrix's order.
    pub cells: Vec<Cell>,
    /// The trials in order of execution; with `[stop]`, the most there may be. A search chooses its own.
    pub trials: Vec<Trial>,
    /// Where a search starts: the scenario's value of the key it varies.
    pub search_from: Option<f64>,
    /// The scenario as TOML with every effective value; reading it gives the same plan.
    pub effective: String,
    source: String,
    /// Where keys are set.
    origins: HashMap<String, Origin>,
    /// The same for what a variant sets, by its name and the path.
    variant_origins: HashMap<(String, String), Origin>,
}

/// What of a scenario means nothing to a server that is already running.
#[derive(Debug)]
pub struct Useless {
    /// Its keys and tables.
    pub paths: Vec<String>,
    /// Whether its text asks a question about something that it varies among them.
    pub question: bool,
}

impl Plan {
    /// Reads a scenario with `--set` overrides and plans its trials.
    pub fn read(source: &Source<'_>, overrides: &[String]) -> Result<Self, ScenarioError> {
        Self::of(source.name, file::read(source.name, source.text, overrides)?)
    }

    /// The same cells with one value of the searched key, as the last swept key.
    pub fn read_at(
        source: &Source<'_>,
        overrides: &[String],
        search: &Search,
        value: f64,
    ) -> Result<Self, ScenarioError> {
        let mut file = file::read(source.name, source.text, overrides)?;
        let searched = paths::prefix(paths::SEARCH);
        file.values.retain(|path, _| !path.starts_with(&searched) && *path != search.variable);
        let value = if search.whole { Value::Integer(value as i64) } else { Value::Float(value) };
        file.matrix.push((search.variable.to_owned(), vec![Entry { value, origin: Origin::File }]));
        file.check();
        Self::of(source.name, file)
    }

    /// Whether a scenario or an override gives a key a value, in any of its cells. Fails if `problem` finds one with such a value.
    pub fn gives(
        source: &Source<'_>,
        overrides: &[String],
        key: &dyn AnyKey,
        problem: impl Fn(&Value) -> Option<String>,
    ) -> Result<bool, ScenarioError> {
        let path = key.path();
        let file = file::read(source.name, source.text, overrides)?;
        let swept = file.matrix.iter().filter(|(swept, _)| swept == path).flat_map(|(_, entries)| entries);
        let in_variants = file.variants.iter().filter_map(|variant| variant.values.get(path));
        let all: Vec<&Entry> = file.values.get(path).into_iter().chain(swept).chain(in_variants).collect();
        let wrong = |entry: &&Entry| {
            let problem = problem(&entry.value)?;
            Some(Problem::new(entry.origin.clone(), format_args!("`{path}`: {problem}")))
        };
        match all.iter().find_map(wrong) {
            Some(problem) => Err(ScenarioError::of(source.name, vec![problem])),
            None => Ok(!all.is_empty()),
        }
    }

    /// The names of the populations in a scenario's `[[load]]`; none where a single `[load]` is all.
    pub fn named_loads(source: &Source<'_>, overrides: &[String]) -> Result<Vec<String>, ScenarioError> {
        let file = file::read(source.name, source.text, overrides)?;
        let all: IndexSet<&str> =
            file.all_variants().flat_map(|variant| population::of(&file, variant)).map(|one| &one.name[..]).collect();
        Ok(all.into_iter().map(str::to_owned).collect())
    }

    /// What of the scenario's text, but for overrides, means nothing to a server that runs already in the host's network: variants, keys
    /// that no cell uses, sysctls, rules and NAT, and `compare` if it names one of them.
    pub fn of_no_use_to_running(source: &Source<'_>, overrides: &[String]) -> Result<Useless, ScenarioError> {
        let mut file = file::read(source.name, source.text, overrides)?;
        let mut idle = Vec::new();
        if !std::mem::take(&mut file.variants).is_empty() {
            idle.push(variant::PATH.to_owned());
        }
        let (whole, reading) = (Log::default(), Reading { variant: None, log: Log::default() });
        Whole::read(source.name, &file, &whole);
        if let Ok(count) = limits::cells(&file, 1, "trial") {
            expand(&file, &short_names(&file.swept()), count, &reading);
        }
        // They are for networks that trials create.
        let of_networks = [paths::SYSCTL, paths::FIREWALL, paths::NAT].map(paths::prefix);
        let useless = |path: &str| {
            !(whole.uses(path) || reading.log.uses(path)) || of_networks.iter().any(|table| path.starts_with(table))
        };
        let of_text = file.origins().filter(|(_, origin)| matches!(origin, Origin::Line(_)));
        idle.extend(of_text.map(|(path, _)| path).filter(|path| useless(path)).cloned());
        let compared = file.values.get(keys::COMPARE.path()).and_then(|entry| entry.value.as_array());
        let mut compared = compared.into_iter().flatten().filter_map(Value::as_str);
        if compared.any(|key| idle.iter().any(|idle| idle == key)) {
            idle.push(keys::COMPARE.path().to_owned());
        }
        let is_swept = |path: &String| path == variant::PATH || file.matrix.iter().any(|(swept, _)| swept == path);
        let has_question =
            file.values.get(keys::QUESTION.path()).is_some_and(|entry| matches!(entry.origin, Origin::Line(_)));
        Ok(Useless { question: has_question && idle.iter().any(is_swept), paths: idle })
    }

    /// The names of the load's populations, of all cells that have several.
    pub fn populations(&self) -> Vec<&str> {
        let several = self.cells.iter().map(|cell| &cell.scenario.loads).filter(|loads| loads.len() > 1);
        let names: IndexSet<&str> = several.flatten().map(|load| &load.name[..]).collect();
        names.into_iter().collect()
    }

    fn of(source: &str, mut file: File) -> Result<Self, ScenarioError> {
        let log = Log::default();
        let mut problems = std::mem::take(&mut file.problems);
        file.sweep_servers();
        let whole = Whole::read(source, &file, &log);
        problems.extend(log.take_problems());
        let (each, per) = match &whole.search {
            Some(search) => (search.max_trials, "trials of a search"),
            None => (whole.repetitions_at_most(), "repetitions"),
        };
        let per_variant = match limits::cells(&file, each, per) {
            Ok(count) => count,
            Err(problem) => {
                problems.push(problem);
                return Err(ScenarioError::of(source, problems));
            }
        };
        // Variants that are not to be run are read too: they may be what a key is for.
        let names = short_names(&file.swept());
        let mut cells = Vec::new();
        let mut readings = Vec::with_capacity(file.variants.len().max(1));
        for variant in file.all_variants() {
            let reading = Reading { variant, log: Log::default() };
            let read = expand(&file, &names, per_variant, &reading);
            if reading.runs() {
                cells.extend(read);
                problems.extend(reading.log.take_problems());
            }
            readings.push(reading);
        }
        // Which keys have no effect is known only if all values are known.
        if file.unknown.is_empty() {
            problems.extend(idle::problems(&file, &log, &readings));
        }
        let effective = Effective::new(&log, &readings, &file.matrix);
        let search_from = whole.search.as_ref().and_then(|search| begins_at(search, &file, &effective, &mut problems));
        if !problems.is_empty() {
            return Err(ScenarioError::of(source, problems));
        }
        let trials = order(whole.seed, whole.repetitions_at_most(), &[cells.len()]).map(|(_, trial)| trial).collect();
        let effective = effective.to_toml();
        let in_variants = file.chosen().flat_map(|variant| &variant.values).map(|(path, entry)| (path, &entry.origin));
        let origins = in_variants.chain(file.origins()).map(|(path, origin)| (path.clone(), origin.clone())).collect();
        let of_variant = |variant: &Variant| {
            let name = variant.name.clone();
            let origin = move |(path, entry): (&String, &Entry)| ((name.clone(), path.clone()), entry.origin.clone());
            variant.values.iter().map(origin).collect::<Vec<_>>()
        };
        let variant_origins = file.chosen().flat_map(of_variant).collect();
        let source = source.to_owned();
        Ok(Self { whole, cells, trials, search_from, effective, source, origins, variant_origins })
    }

    /// What errors call the scenario.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the scenario or an override sets a key, by its path.
    pub fn sets(&self, path: &str) -> bool {
        self.origins.contains_key(path)
    }

    /// An error about a key's value that depends on this machine or on the caller.
    pub fn wrong(&self, key: &dyn AnyKey, problem: impl Display) -> ScenarioError {
        self.refused(key.path(), problem)
    }

    /// The same for the value that a key has in a cell.
    pub fn wrong_in(&self, cell: &Cell, key: &dyn AnyKey, problem: impl Display) -> ScenarioError {
        self.refused_in(cell, key.path(), problem)
    }

    /// The same for the value that an event of a cell has of a key of events.
    pub fn wrong_in_event(&self, cell: &Cell, event: usize, key: &dyn AnyKey, problem: impl Display) -> ScenarioError {
        self.refused_in(cell, &format!("{}.{event}.{}", paths::EVENTS, paths::leaf(key.path())), problem)
    }

    fn refused_in(&self, cell: &Cell, path: &str, problem: impl Display) -> ScenarioError {
        let variant = cell.values.get(variant::PATH).and_then(Json::as_str);
        let origin = variant.and_then(|name| self.variant_origins.get(&(name.to_owned(), path.to_owned())));
        match origin {
            Some(origin) => self.refused_at(origin.clone(), path, problem),
            None => self.refused(path, problem),
        }
    }

    /// The same by the cell's number and the key's path.
    pub(super) fn refused_of_cell(&self, cell: usize, path: &str, problem: impl Display) -> ScenarioError {
        self.refused_in(&self.cells[cell], path, problem)
    }

    /// The same for a key by its path.
    pub fn refused(&self, path: &str, problem: impl Display) -> ScenarioError {
        self.refused_at(self.origins.get(path).cloned().unwrap_or(Origin::File), path, problem)
    }

    fn refused_at(&self, origin: Origin, path: &str, problem: impl Display) -> ScenarioError {
        ScenarioError::of(&self.source, vec![Problem::new(origin, format_args!("`{path}`: {problem}"))])
    }
}

/// The scenario's value of the searched key, which some cell must use.
fn begins_at(search: &Search, file: &File, effective: &Effective<'_>, problems: &mut Vec<Problem>) -> Option<f64> {
    let value = effective.of_all(&search.variable);
    let number = value.and_then(|value| value.as_float().or_else(|| value.as_integer().map(|number| number as f64)));
    let variable = keys::SEARCH_VARIABLE.path();
    if number.is_none() && problems.is_empty() {
        let origin = file.values.get(variable).map(|entry| &entry.origin).or_else(|| file.table_of(variable));
        problems.push(Problem::new(
            origin.cloned().unwrap_or(Origin::File),
            format_args!(
                "`{variable}`: `{}` has no effect in this scenario: {}",
                search.variable,
                without_effect(search, effective)
            ),
        ));
    }
    number
}

/// Why the searched key may have no effect, and the remedy.
fn without_effect(search: &Search, effective: &Effective<'_>) -> String {
    let path = |key: &dyn AnyKey| match paths::population(&search.variable) {
        Some((name, _)) => population::path(name, paths::leaf(key.path())),
        None => key.path().to_owned(),
    };
    let is_rate = paths::find(&search.variable).is_some_and(|key| key.path() == keys::LOAD_RATE.path());
    let (arrivals, mode) = (path(keys::LOAD_ARRIVALS), path(keys::LOAD_MODE));
    let word = |path: &str| effective.of_all(path).and_then(|value| value.as_str());
    match word(&arrivals) {
        Some(other) if is_rate && word(&mode) == Some(ModeName::Open.into()) => {
            format!("`{arrivals} = \"{other}\"` has no such rate to vary: use \"poisson\" or \"constant\"")
        }
        _ => format!("check {mode}"),
    }
}

/// Every combination of a variant with swept values, the last key fastest.
fn expand(file: &File, names: &[String], count: usize, reading: &Reading<'_>) -> Vec<Cell> {
    let variant = reading.variant.map(|variant| Value::String(variant.name.clone()));
    let cell = |mut index: usize| {
        let mut swept = Vec::with_capacity(file.matrix.len());
        for (path, choices) in file.matrix.iter().rev() {
            swept.push((path.as_str(), &choices[index % choices.len()]));
            index /= choices.len();
        }
        swept.reverse();
        let named = variant.iter().map(|name| (variant::PATH, name));
        let all: Vec<_> = named.chain(swept.iter().map(|(path, entry)| (*path, &entry.value))).collect();
        let values = names.iter().zip(&all).map(|(name, (_, value))| (name.clone(), to_json(value))).collect();
        let paths = all.iter().map(|(path, value)| ((*path).to_owned(), (*value).clone())).collect();
        let settings = Settings::new(file, swept, &reading.log).in_variant(reading.variant);
        Cell { values, swept: paths, scenario: Scenario::read(&settings) }
    };
    (0..count).map(cell).collect()
}

/// The trials of several plans as one experiment, in order of execution, each with its plan's place: every block holds each cell of
/// each plan once, in an order that the first plan's seed shuffles. All plans have as many repetitions as the first.
pub fn interleaved(plans: &[&Plan]) -> Vec<(usize, Trial)> {
    let Some(first) = plans.first() else { return Vec::new() };
    let cells: Vec<usize> = plans.iter().map(|plan| plan.cells.len()).collect();
    order(first.whole.seed, first.whole.repetitions_at_most(), &cells).collect()
}

/// The trials of plans with so many cells each. They are numbered plan by plan.
fn order(seed: u64, repetitions: usize, cells: &[usize]) -> impl Iterator<Item = (usize, Trial)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let all: Vec<(usize, usize)> =
        cells.iter().enumerate().flat_map(|(plan, cells)| (0..*cells).map(move |cell| (plan, cell))).collect();
    let mut next = vec![0; cells.len()];
    (0..repetitions).flat_map(move |repetition| {
        let mut block = all.clone();
        block.shuffle(&mut rng);
        let number = |(plan, cell): (usize, usize)| {
            let number = next[plan];
            next[plan] += 1;
            (plan, Trial { number, repetition, cell })
        };
        block.into_iter().map(number).collect::<Vec<_>>()
    })
}

fn to_json(value: &Value) -> Json {
    serde_json::to_value(value).expect("single TOML values are JSON values")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{
        super::{Load, Until},
        *,
    };

    fn plan(text: &str, overrides: &[&str]) -> Result<Plan, ScenarioError> {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        Plan::read(&Source { name: "test.toml", text }, &overrides)
    }

    const SWEEP: &str = r#"
        repetitions = 3
        [matrix]
        server.strategy = ["reuseport", "shared-epoll"]
        server.workers = [1, 2, 4]
    "#;

    #[test]
    fn each_block_holds_each_cell_once() {
        let plan = plan(SWEEP, &[]).unwrap();
        assert_eq!(plan.cells.len(), 6);
        for block in plan.trials.chunks(6) {
            let mut cells: Vec<usize> = block.iter().map(|trial| trial.cell).collect();
            cells.sort_unstable();
            assert_eq!(cells, [0, 1, 2, 3, 4, 5]);
        }
        assert_eq!(plan.cells[1].label(), "strategy=reuseport workers=2");
    }

    #[test]
    fn interleaved_plans_share_their_blocks() {
        let (one, other) = (plan(SWEEP, &[]).unwrap(), plan("repetitions = 3", &[]).unwrap());
        let alone: Vec<Trial> = interleaved(&[&one]).into_iter().map(|(_, trial)| trial).collect();
        assert_eq!(alone, one.trials);
        let both = interleaved(&[&one, &other, &one]);
        assert_eq!(both.len(), 3 * (6 + 1 + 6));
        for (repetition, block) in both.chunks(13).enumerate() {
            assert!(block.iter().all(|(_, trial)| trial.repetition == repetition));
            let mut cells: Vec<(usize, usize)> = block.iter().map(|(plan, trial)| (*plan, trial.cell)).collect();
            assert!(!cells.is_sorted(), "{cells:?}");
            cells.sort_unstable();
            let whole = |plan| (0..6).map(move |cell| (plan, cell));
            assert_eq!(cells, whole(0).chain([(1, 0)]).chain(whole(2)).collect::<Vec<_>>());
        }
        // Each record numbers its own trials without gaps.
        let numbers = |of: usize| both.iter().filter(move |(plan, _)| *plan == of).map(|(_, trial)| trial.number);
        assert!(numbers(0).eq(0..18) && numbers(1).eq(0..3) && numbers(2).eq(0..18));
    }

    const POPULATIONS: &str = r#"
        [[load]]
        name = "kept"
        concurrency = 8
        requests = 20
        duration = "500ms"
        [[load]]
        name = "storm"
        mode = "open"
        start = "200ms"
    "#;

    #[test]
    fn populations_have_keys_of_their_own_and_share_the_window() {
        let plan_of = plan(POPULATIONS, &["load.storm.rate=[5, 6]", "load.kept.hold=1ms", "load.duration=2s"]).unwrap();
        let loads = |cell: usize| &plan_of.cells[cell].scenario.loads;
        assert_eq!((loads(0)[0].name.as_str(), loads(1)[1].name.as_str()), ("kept", "storm"));
        let rates = [0, 1].map(|cell| loads(cell)[1].mode.starts_per_second());
        assert_eq!(rates, [Some(5.0), Some(6.0)]);
        assert_eq!((loads(0)[0].hold, loads(0)[1].hold), (Duration::from_millis(1), Duration::ZERO));
        assert_eq!((loads(0)[0].requests, loads(0)[1].requests), (20, 1));
        assert_eq!(plan_of.cells[0].scenario.span.measured(), Duration::from_secs(2));
        assert_eq!(plan_of.cells[1].label(), "storm.rate=6");
        // A name makes no difference to the only population but in its schedule.
        let alone = plan("[[load]]\nname = \"x\"\nhold = \"1ms\"", &[]).unwrap().cells.remove(0).scenario.loads;
        let unnamed = plan("[load]\nhold = \"1ms\"", &[]).unwrap().cells.remove(0).scenario.loads;
        assert_eq!([Load { name: unnamed[0].name.clone(), ..alone[0].clone() }], unnamed[..]);
        assert_ne!(alone[0].seed(1), unnamed[0].seed(1));
        let storm = "[search]\nmetric = \"response_p99\"\nlimit = \"5ms\"\nvariable = \"load.storm.rate\"\n";
        let search = plan(&format!("{storm}{POPULATIONS}"), &["load.storm.rate=70"]).unwrap();
        assert_eq!((search.search_from, search.whole.compare), (Some(70.0), vec!["storm.rate".to_owned()]));
    }

    #[test]
    fn a_value_counts_wherever_it_is_given() {
        let gives = |text: &str, overrides: &[&str], wrong: &'static str| {
            let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
            let problem = |value: &Value| (value.as_str() == Some(wrong)).then(|| "no".to_owned());
            Plan::gives(&Source { name: "test.toml", text }, &overrides, keys::NETWORK, problem)
        };
        let swept = "[matrix]\nnetwork = [\"netns\", \"host\"]";
        let variant = "\n[[variant]]\nname = \"a\"\nnetwork = \"host\"";
        assert!(!gives("port = 80", &[], "").unwrap());
        for text in ["network = \"host\"", swept, variant] {
            assert!(gives(text, &[], "veth").unwrap(), "{text}");
            assert!(gives(text, &[], "host").unwrap_err().to_string().contains("`network`: no"), "{text}");
        }
        assert!(gives("", &["network=host"], "veth").unwrap());
        let error = gives("\nnetwork = \"veth\"", &[], "veth").unwrap_err().to_string();
        assert_eq!(error, "test.toml:2: `network`: no");
    }

    #[test]
    fn a_number_of_repetitions_replaces_the_rule_that_decides_it_and_vice_versa() {
        let whole = |text: &str, overrides: &[&str]| plan(text, overrides).unwrap().whole;
        let stop = "stop = { difference = 0.1, min_repetitions = 3, max_repetitions = 4 }";
        let decides = whole(stop, &["stop.max_repetitions=8"]);
        assert_eq!((decides.repetitions, decides.repetitions_at_most()), (3, 8));
        let fixed = whole(stop, &["repetitions=2"]);
        assert_eq!((fixed.stop, fixed.repetitions), (None, 2));
        let until = Until::Decided(0.3);
        for again in
            [whole("repetitions = 7", &["stop.difference=0.3"]), whole(stop, &["repetitions=", "stop.difference=0.3"])]
        {
            assert_eq!(again.stop.unwrap().until, until);
        }
        // Without it, a search does not lose anything.
        let search = "repetitions = 3\nload.mode = \"open\"\n[search]\nmetric = \"response_p99\"\nlimit = \"5ms\"";
        assert!(whole(search, &["repetitions=2"]).search.is_some());
    }

    #[test]
    fn several_server_hosts_are_swept() {
        let labels = |text: &str, overrides: &[&str]| {
            let plan = plan(text, overrides).unwrap();
            (plan.cells.iter().map(Cell::label).collect::<Vec<_>>(), plan.whole.compare)
        };
        let both = ["server=0 workers=1", "server=0 workers=2", "server=1 workers=1", "server=1 workers=2"];
        let swept = "[matrix]\nserver.workers = [1, 2]\n";
        assert_eq!(labels(swept, &["hosts.servers=2"]), (both.map(str::to_owned).to_vec(), vec!["server".to_owned()]));
        assert_eq!(labels(swept, &["hosts.servers=1"]).0, ["workers=1", "workers=2"]);
        assert_eq!(labels(swept, &["hosts.servers=2", "hosts.server=1"]).0, ["workers=1", "workers=2"]);
        assert_eq!(labels("", &["hosts.servers=3", "hosts.server=[2, 0]"]).0, ["server=2", "server=0"]);
        assert_eq!(plan("", &["hosts.servers=2"]).unwrap().cells[1].scenario.server_host, 1);
        let beyond = plan("", &["hosts.servers=2", "hosts.server=2"]).unwrap_err().to_string();
        assert!(beyond.contains("`hosts.server`") && beyond.contains("from 0 to 1"), "{beyond}");
        assert_round_trip(&plan(swept, &["hosts.servers=2"]).unwrap());
        let search =
            "[search]\nmetric = \"response_p99\"\nlimit = \"5ms\"\nvariable = \"load.rate\"\n[load]\nmode = \"open\"\n";
        let source = Source { name: "test.toml", text: search };
        let overrides = ["hosts.servers=2".to_owned()];
        let whole = Plan::read(&source, &overrides).unwrap().whole;
        let at = Plan::read_at(&source, &overrides, &whole.search.unwrap(), 70.0).unwrap();
        assert_eq!(at.cells.iter().map(Cell::label).collect::<Vec<_>>(), ["server=0 rate=70.0", "server=1 rate=70.0"]);
    }

    #[test]
    fn a_variant_has_the_populations_of_all_or_its_own() {
        let text = format!(
            "{POPULATIONS}[[variant]]\nname = \"a\"\nload.storm.rate = 7\n[[variant]]\nname = \"b\"\n[[variant.load]]\nname = \"lone\""
        );
        let plan_of = plan(&text, &[]).unwrap();
        let names =
            |cell: usize| plan_of.cells[cell].scenario.loads.iter().map(|load| &load.name[..]).collect::<Vec<_>>();
        assert_eq!((names(0), names(1)), (vec!["kept", "storm"], vec!["lone"]));
        assert_eq!(plan_of.cells[0].scenario.loads[1].mode.starts_per_second(), Some(7.0));
    }

    /// Reading the effective scenario gives the same plan.
    #[track_caller]
    fn assert_round_trip(first: &Plan) {
        let again = plan(&first.effective, &[]).unwrap_or_else(|error| panic!("{error}\n{}", first.effective));
        assert_eq!(first.trials, again.trials);
        assert_eq!(first.effective, again.effective);
        assert_eq!(first.whole, again.whole);
        for (a, b) in first.cells.iter().zip(&again.cells) {
            assert_eq!((&a.values, &a.swept, &a.scenario), (&b.values, &b.swept, &b.scenario));
        }
    }

    #[test]
    fn the_effective_scenario_plans_the_same_trials() {
        for set in ["seed=3", "variant=nginx", "variant=[7, nginx]", "variant=", "server.workers=[4, 5]"] {
            let first = plan(VARIANTS, &["seed=9", "name=t", set]);
            assert_round_trip(&first.unwrap());
        }
        for text in [
            SWEEP,
            POPULATIONS,
            // Values of a variant for populations of all, and populations of its own.
            &format!(
                "{POPULATIONS}[[variant]]\nname = \"a\"\n[[variant]]\nname = \"b\"\nload.storm.rate = 7\nload.warmup = \"1ms\""
            ),
            &format!(
                "{POPULATIONS}[[variant]]\nname = \"a\"\n[[variant]]\nname = \"b\"\n[[variant.load]]\nname = \"lone\"\nhold = \"1ms\""
            ),
            "",
            "server.workers = [1, 2]\nload.close_how = \"rst\"",
            "stop = { difference = 0.2, min_repetitions = 3 }",
            "stop = { relative_error = 0.2, max_repetitions = 6 }",
            "[matrix]\nload.mode=[\"open\",\"closed\"]\n[load]\nrate=5.0\n[sysctl]\ntcp_tw_reuse=0",
            "[matrix]\nnetwork=[\"netns\",\"veth\"]\nserver.app=[\"echo\",\"close\"]",
            "[matrix]\nserver.command=[\"nginx -c 'a b'\", \"haproxy -f {dir}/{workers}\"]\n[server]\nsubject=\"command\"\napp=\"http\"\n\
             stop_signal=\"SIGQUIT\"\nbackend=true\n[server.files]\n\"b.conf\"=\"two\\nlines {backend}\"\n\"a.conf\"=\"\"\n\
             [load.headers]\nX-B=\"1\"\nX-A=\"2\"",
            "network=\"host\"\nprobe=\"counts\"\n[server]\nsubject=\"running\"",
        ] {
            assert_round_trip(&plan(text, &["seed=9"]).unwrap());
        }
    }

    const VARIANTS: &str = r#"
        load.duration = "300ms"
        server.workers = 2
        [[event]]
        at = "1ms"
        [[variant]]
        name = "reuseport, 3 workers"
        server = { strategy = "reuseport", workers = 3 }
        [[variant.event]]
        at = "2ms"
        kind = "kill"
        [[variant]]
        name = "7"
        load.connections = 5
        sysctl.tcp_rmem = "1 2 3"
        [[variant]]
        name = "nginx"
        [variant.server]
        subject = "command"
        command = "nginx -p {dir} -g 'worker_processes {workers};'"
        app = "http"
        stop_signal = "SIGQUIT"
        files = { "nginx.conf" = "a\nb {\n}" }
        [matrix]
        load.concurrency = [1, 2]
    "#;

    #[test]
    fn variants_are_swept_most_slowly_and_replace_what_others_share() {
        let all = plan(VARIANTS, &[]).unwrap();
        assert_eq!(all.cells.len(), 6);
        assert_eq!(all.cells[1].label(), "variant=reuseport, 3 workers concurrency=2");
        assert_eq!(all.whole.compare, ["variant"]);
        let of = |cell: usize| &all.cells[cell].scenario;
        assert_eq!([0, 2, 4].map(|cell| of(cell).server.workers), [3, 2, 2]);
        assert_eq!(
            [0, 2, 4].map(|cell| of(cell).server.strategy.name)[..2],
            ["reuseport", keys::SERVER_STRATEGY.default().name]
        );
        assert_eq!(
            [0, 2, 4].map(|cell| of(cell).events.iter().map(|event| event.at.as_millis()).collect::<Vec<_>>()),
            [vec![2], vec![1], vec![]]
        );
        assert!(of(2).span.bound == super::super::Bound::Connections(5) && of(4).subject != of(2).subject);
        assert_eq!([0, 2].map(|cell| of(cell).sysctls.len()), [0, 1]);
        let chosen = |set: &str| {
            let plan = plan(VARIANTS, &[set]).unwrap();
            plan.cells.iter().map(|cell| cell.values.get("variant").cloned()).step_by(2).collect::<Vec<_>>()
        };
        assert_eq!(chosen("variant=7"), [Some("7".into())]);
        assert_eq!(chosen("variant=reuseport, 3 workers"), [Some("reuseport, 3 workers".into())]);
        assert_eq!(chosen("variant=[nginx, 7]"), [Some("7".into()), Some("nginx".into())]);
        assert_eq!(chosen("variant="), [None]);
        // An override holds for all variants.
        let set = plan(VARIANTS, &["server.workers=[4, 5]"]).unwrap();
        assert_eq!(set.cells.len(), 12);
        assert!(set.cells.iter().step_by(2).all(|cell| cell.scenario.server.workers == 4));
    }

    #[test]
    fn what_competes_is_swept() {
        let compare = |text: &str, overrides: &[&str]| plan(text, overrides).map(|plan| plan.whole.compare);
        let two = "[matrix]\nserver.workers = [1, 2]\nload.close_how = [\"fin\", \"rst\"]\n";
        assert_eq!(compare(two, &[]).unwrap(), ["workers"]);
        assert_eq!(compare(SWEEP, &[]).unwrap(), ["strategy"]);
        assert_eq!(compare(SWEEP, &["compare=[\"server.workers\"]"]).unwrap(), ["workers"]);
        assert_eq!(compare(SWEEP, &["server.strategy=reuseport"]).unwrap(), ["workers"]);
        assert_eq!(compare("", &[]).unwrap(), Vec::<String>::new());
        let search = "[search]\nmetric = \"response_p99\"\nlimit = \"1ms\"\n[load]\nmode = \"open\"";
        assert_eq!(compare(search, &[]).unwrap(), ["rate"]);
        let named = "compare = [\"server.strategy\"]\n".to_owned();
        for (text, overrides, problem) in [
            (
                named.clone() + two,
                &[][..],
                "test.toml:1: `compare`: `server.strategy` is not swept; this scenario sweeps `server.workers`, \
                 `load.close_how`: name what competes, or remove it (`--set compare=` does)",
            ),
            (
                named.clone(),
                &[],
                "test.toml:1: `compare`: `server.strategy` is not swept; this scenario sweeps nothing: remove it (`--set compare=` does)",
            ),
            (
                String::new(),
                &["compare=[]"],
                "--set compare=[]: `compare`: must be a list of swept keys, e.g. [\"server.strategy\"], not []; or write \
                 \"auto\"",
            ),
        ] {
            assert_eq!(compare(&text, overrides).unwrap_err().to_string(), problem);
        }
    }

    #[test]
    fn overrides_replace_values_sweeps_and_bounds() {
        let one = plan(SWEEP, &["server.workers=3", "load.duration=200ms", "server.strategy=shared-epoll"]).unwrap();
        assert_eq!(one.cells.len(), 1);
        assert_eq!(one.cells[0].scenario.server.workers, 3);
        let bare = plan("", &["server.service_time=[0us, 2ms]", "server.strategy=[reuseport,shared-epoll]"]).unwrap();
        assert_eq!(bare.cells.len(), 4);
        let open = plan("[load]\nconcurrency = 5", &["load.mode=open", "load.concurrency="]).unwrap();
        assert_eq!(
            open.cells[0].scenario.loads[0].mode.clone(),
            plan("[load]\nmode = \"open\"", &[]).unwrap().cells[0].scenario.loads[0].mode
        );
        let swept = plan("[load]\nconnections = 5", &["server.workers=[1,2]", "load.duration=200ms"]).unwrap();
        assert_eq!(swept.cells.len(), 2);
        let error = plan("", &["server.workers=0"]).unwrap_err().to_string();
        assert!(error.starts_with("--set server.workers=0: `server.workers`"), "{error}");
    }

    /// Keys of a variant or of all of them, each of which has an effect by itself.
    fn settings() -> impl Strategy<Value = Vec<&'static str>> {
        let own = vec![
            "server.workers = 3",
            "server.backlog = 7",
            "server.strategy = \"reuseport\"",
            "server.app = \"http\"",
            "load.hold = \"1ms\"",
            "load.close_how = \"rst\"",
            "load.connections = 9",
            "sysctl.somaxconn = 5",
            "network = \"veth\"",
            "event = [{ at = \"1ms\", kind = \"kill\" }, { at = \"2ms\", worker = 1 }]",
            "load.mode = \"open\"\nload.rate = 5.0",
        ];
        proptest::sample::subsequence(own, 0..5)
    }

    fn foreign() -> impl Strategy<Value = Vec<&'static str>> {
        let keys = vec![
            "server.files = { a = \"1\\n'\\\"\", \"b.c/d\" = \"{workers}\" }",
            "server.stop_signal = \"SIGQUIT\"",
            "load.headers = { X-A = \"b\" }\nload.method = \"POST\"",
            "probe = \"counts\"",
        ];
        proptest::sample::subsequence(keys, 0..4).prop_map(|keys| {
            let all = ["server.subject = \"command\"", "server.command = \"a 'b c' {port}\"", "server.app = \"http\""];
            all.into_iter().chain(keys).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn variants_survive_being_written(
            shared in settings(),
            variants in proptest::collection::vec((settings(), foreign(), any::<bool>()), 1..4),
            swept in any::<bool>(),
            only in any::<bool>(),
        ) {
            // All that is shared has an effect in a variant that adds nothing.
            let mut text = shared.join("\n") + "\n";
            if swept {
                text += "[matrix]\nload.warmup = [\"1ms\", \"2ms\"]\n";
            }
            text += "[[variant]]\nname = \"plain\"\n";
            for (number, (own, foreign, is_own)) in variants.iter().enumerate() {
                text += &format!("[[variant]]\nname = \"v {number}\"\n{}\n", if *is_own { own } else { foreign }.join("\n"));
            }
            let set = if only { vec!["variant=v 0"] } else { Vec::new() };
            assert_round_trip(&plan(&text, &set).unwrap());
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,80}", set in "\\PC{0,30}") {
            let _ = plan(&text, &[]);
            let _ = plan("", &[&set]);
            let _ = plan(VARIANTS, &[&format!("variant={set}")]);
        }
    }
}
