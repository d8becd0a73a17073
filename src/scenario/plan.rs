//! The ordered list of trials: the matrix expanded, each block of repetitions shuffled by the seed.

use std::{collections::HashMap, fmt::Display};

use indexmap::IndexMap;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value as Json};
use toml::Value;

use super::{
    error::{Origin, Problem, ScenarioError},
    file::{self, Entry, File},
    keys::{self, AnyKey, paths},
    model::Scenario,
    settings::{Log, Settings},
    whole::{Search, Whole},
};

/// More cells or trials than this are taken to be a mistake.
const TRIALS_LIMIT: usize = 100_000;

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
        file.values.retain(|path, _| !path.starts_with(&searched) && path != search.variable);
        let value = if search.whole { Value::Integer(value as i64) } else { Value::Float(value) };
        file.matrix.push((search.variable.to_owned(), vec![Entry { value, origin: Origin::File }]));
        file.check();
        Self::of(source.name, file)
    }

    fn of(source: &str, mut file: File) -> Result<Self, ScenarioError> {
        let log = Log::default();
        let mut problems = std::mem::take(&mut file.problems);
        let whole = Whole::read(source, &file, &log);
        let cells = match count(&file.matrix, whole.repetitions_at_most()) {
            Ok(count) => expand(&file, count, &log),
            Err(problem) => {
                problems.push(Problem::new(Origin::File, problem));
                return Err(ScenarioError::of(source, problems));
            }
        };
        problems.extend(log.take_problems());
        // Which keys have no effect is known only if all values are known.
        if file.unknown.is_empty() {
            problems.extend(idle(&file, &log));
        }
        let effective = log.effective();
        let search_from = whole.search.as_ref().and_then(|search| begins_at(search, &file, &effective, &mut problems));
        if !problems.is_empty() {
            return Err(ScenarioError::of(source, problems));
        }
        let trials = order(whole.seed, whole.repetitions_at_most(), cells.len());
        let effective = to_toml(&effective, &file.matrix);
        let origins = file.origins().map(|(path, origin)| (path.clone(), origin.clone())).collect();
        Ok(Self { whole, cells, trials, search_from, effective, source: source.to_owned(), origins })
    }

    /// An error about a key's value that depends on this machine or on the caller.
    pub fn wrong(&self, key: &dyn AnyKey, problem: impl Display) -> ScenarioError {
        self.refused(key.path(), problem)
    }

    /// An error about a sysctl rejected by the kernel. `name` is as written in the scenario.
    pub fn refused_sysctl(&self, name: &str, problem: impl Display) -> ScenarioError {
        self.refused(&format!("{}{name}", paths::prefix(paths::SYSCTL)), problem)
    }

    fn refused(&self, path: &str, problem: impl Display) -> ScenarioError {
        let origin = self.origins.get(path).cloned().unwrap_or(Origin::File);
        ScenarioError::of(&self.source, vec![Problem::new(origin, format_args!("`{path}`: {problem}"))])
    }
}

/// The scenario's value of the searched key, which some cell must use.
fn begins_at(
    search: &Search,
    file: &File,
    effective: &IndexMap<String, Value>,
    problems: &mut Vec<Problem>,
) -> Option<f64> {
    let value = effective.get(search.variable);
    let number = value.and_then(|value| value.as_float().or_else(|| value.as_integer().map(|number| number as f64)));
    let variable = keys::SEARCH_VARIABLE.path();
    if number.is_none() && problems.is_empty() {
        let origin = file.values.get(variable).map(|entry| &entry.origin).or_else(|| file.table_of(variable));
        problems.push(Problem::new(
            origin.cloned().unwrap_or(Origin::File),
            format_args!("`{variable}`: `{}` has no effect in this scenario: check load.mode", search.variable),
        ));
    }
    number
}

/// The number of cells, unless there are too many cells or trials.
fn count(matrix: &[(String, Vec<Entry>)], repetitions: usize) -> Result<usize, String> {
    let cells = matrix.iter().try_fold(1_usize, |count, (_, values)| count.checked_mul(values.len()));
    let cells = cells
        .filter(|cells| *cells <= TRIALS_LIMIT)
        .ok_or_else(|| format!("[matrix] has more than {TRIALS_LIMIT} combinations"))?;
    if cells * repetitions > TRIALS_LIMIT {
        return Err(format!("{cells} cells × {repetitions} repetitions are more than {TRIALS_LIMIT} trials"));
    }
    Ok(cells)
}

/// Every combination of swept values, the last key fastest.
fn expand(file: &File, count: usize, log: &Log) -> Vec<Cell> {
    let names = short_names(&file.matrix);
    let cell = |mut index: usize| {
        let mut swept = Vec::with_capacity(file.matrix.len());
        for (path, choices) in file.matrix.iter().rev() {
            swept.push((path.as_str(), &choices[index % choices.len()]));
            index /= choices.len();
        }
        swept.reverse();
        let values = names.iter().zip(&swept).map(|(name, (_, entry))| (name.clone(), to_json(&entry.value))).collect();
        let paths = swept.iter().map(|(path, entry)| ((*path).to_owned(), entry.value.clone())).collect();
        Cell { values, swept: paths, scenario: Scenario::read(&Settings::new(file, swept, log)) }
    };
    (0..count).map(cell).collect()
}

/// The last part of each path if unambiguous, otherwise the whole path.
fn short_names(matrix: &[(String, Vec<Entry>)]) -> Vec<String> {
    let leaf = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    matrix
        .iter()
        .map(|(path, _)| {
            let alone = matrix.iter().filter(|(other, _)| leaf(other) == leaf(path)).count() == 1;
            if alone { leaf(path) } else { path.clone() }
        })
        .collect()
}

/// Keys that no cell uses: an option that is silently ignored is an option that lies.
fn idle(file: &File, log: &Log) -> Vec<Problem> {
    let idle = file.origins().filter(|(path, _)| !log.uses(path));
    idle.map(|(path, origin)| {
        let problem = format_args!(
            "`{path}` has no effect with the protocol, strategy, app, mode, arrivals, closing and faults that this \
             scenario sets: remove it (`--set {path}=` does)"
        )
        .to_string();
        Problem::new(origin.clone(), problem)
    })
    .collect()
}

fn order(seed: u64, repetitions: usize, cells: usize) -> Vec<Trial> {
    let mut trials = Vec::with_capacity(repetitions * cells);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for repetition in 0..repetitions {
        let mut block: Vec<usize> = (0..cells).collect();
        block.shuffle(&mut rng);
        for cell in block {
            trials.push(Trial { number: trials.len(), repetition, cell });
        }
    }
    trials
}

fn to_json(value: &Value) -> Json {
    serde_json::to_value(value).expect("single TOML values are JSON values")
}

/// Flat values and the matrix as a scenario file.
fn to_toml(effective: &IndexMap<String, Value>, matrix: &[(String, Vec<Entry>)]) -> String {
    let mut root = toml::Table::new();
    let mut sections: IndexMap<&str, toml::Table> = IndexMap::new();
    let mut faults: Vec<toml::Table> = Vec::new();
    let is_swept = |path: &str| matrix.iter().any(|(swept, _)| swept == path);
    for (path, value) in effective.iter().filter(|(path, _)| !is_swept(path)) {
        let Some((table, name)) = path.split_once('.') else {
            root.insert(path.clone(), value.clone());
            continue;
        };
        let (table, name) = match name.split_once('.') {
            Some((number, name)) if table == paths::FAULTS => {
                let number: usize = number.parse().expect("faults are numbered");
                faults.resize(faults.len().max(number + 1), toml::Table::new());
                (&mut faults[number], name)
            }
            _ => (sections.entry(table).or_default(), name),
        };
        table.insert(name.to_owned(), value.clone());
    }
    if !matrix.is_empty() {
        let values = |entries: &[Entry]| Value::Array(entries.iter().map(|entry| entry.value.clone()).collect());
        let table = matrix.iter().map(|(path, entries)| (path.clone(), values(entries))).collect();
        sections.insert("matrix", table);
    }
    if !faults.is_empty() {
        root.insert(paths::FAULTS.to_owned(), Value::Array(faults.into_iter().map(Value::Table).collect()));
    }
    root.extend(sections.into_iter().map(|(name, table)| (name.to_owned(), Value::Table(table))));
    toml::to_string(&root).expect("TOML values serialize")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
    fn the_effective_scenario_plans_the_same_trials() {
        for text in [
            SWEEP,
            "",
            "[matrix]\nload.mode=[\"open\",\"closed\"]\n[load]\nrate=5.0\n[sysctl]\ntcp_tw_reuse=0",
            "[matrix]\nnetwork=[\"netns\",\"veth\"]\nserver.app=[\"echo\",\"close\"]",
        ] {
            let first = plan(text, &["seed=9"]).unwrap();
            let again = plan(&first.effective, &[]).unwrap();
            assert_eq!(first.trials, again.trials);
            assert_eq!(first.effective, again.effective);
            for (a, b) in first.cells.iter().zip(&again.cells) {
                assert_eq!((&a.values, &a.scenario), (&b.values, &b.scenario));
            }
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
            open.cells[0].scenario.load.mode.clone(),
            plan("[load]\nmode = \"open\"", &[]).unwrap().cells[0].scenario.load.mode
        );
        let swept = plan("[load]\nconnections = 5", &["server.workers=[1,2]", "load.duration=200ms"]).unwrap();
        assert_eq!(swept.cells.len(), 2);
        let error = plan("", &["server.workers=0"]).unwrap_err().to_string();
        assert!(error.starts_with("--set server.workers=0: `server.workers`"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,80}", set in "\\PC{0,30}") {
            let _ = plan(&text, &[]);
            let _ = plan("", &[&set]);
        }
    }
}
