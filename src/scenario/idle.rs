//! Keys that no cell uses: an option that is silently ignored is an option that lies.

use indexmap::IndexMap;
use strum::VariantArray;
use toml::Value;

use super::{
    effective::Reading,
    error::{Origin, Problem},
    event,
    file::{Entry, File},
    keys::{self, AnyKey, paths},
    local,
    model::Scenario,
    population,
    schedule::ModeName,
    settings::{Log, Settings},
    strategy::PRESETS,
    subject::SubjectName,
    variant::Variant,
};
use crate::{record::EventKind, sys::unix};

/// The keys whose lack of effect is explained; of further ones, it is only said.
const EXPLAINED: usize = 20;

/// The variants among which a common explanation is looked for.
const COMPARED: usize = 20;

/// A problem for each such key, with what makes it idle and the remedy. A key of a variant must have an effect in its cells,
/// any other in some cell of any variant.
pub(super) fn problems(file: &File, whole: &Log, readings: &[Reading<'_>]) -> Vec<Problem> {
    // Finding a remedy means reading the scenario hundreds of times.
    let mut explained = 0;
    let mut explain = |path: &str, explanation: &dyn Fn() -> String| {
        explained += 1;
        if explained > EXPLAINED { format!("`{path}` has no effect: {}", remove(path)) } else { explanation() }
    };
    let shared = file.origins().filter_map(|(path, origin)| {
        // An override is for what is run now; what the scenario sets may be for a variant that is not.
        let all = readings.iter().filter(|reading| reading.runs() || !matches!(origin, Origin::Override(_)));
        let used = whole.uses(path) || all.clone().any(|reading| reading.uses_fixed(path));
        (!used).then(|| {
            unsuitable_in_all(file, all.clone(), path)
                .unwrap_or_else(|| Problem::new(origin.clone(), explain(path, &|| in_all(file, all.clone(), path))))
        })
    });
    let shared: Vec<Problem> = shared.collect();
    let of_variants = readings.iter().filter(|reading| reading.runs()).flat_map(|reading| {
        let values = reading.variant.into_iter().flat_map(|variant| &variant.values);
        let idle = values.filter(|(path, _)| !reading.log.uses(path));
        let problem = |(path, entry): (&String, &Entry)| {
            unsuitable(file, reading, path).unwrap_or_else(|| {
                let problem = explain(path, &|| Context::new(file, reading, path).problem());
                Problem::new(entry.origin.clone(), problem)
            })
        };
        idle.map(problem).collect::<Vec<_>>()
    });
    shared.into_iter().chain(of_variants).collect()
}

/// That the event of a key has a kind for another server, which is one problem however many keys the event has.
fn unsuitable(file: &File, reading: &Reading<'_>, path: &str) -> Option<Problem> {
    let number = paths::instance(path)?;
    let swept = file.matrix.iter().filter_map(|(path, values)| Some((&path[..], values.first()?))).collect();
    let log = Log::default();
    event::check_kind(&Settings::new(file, swept, &log).in_variant(reading.variant).of_instance(paths::EVENTS, number));
    log.take_problems().pop()
}

/// The same of an event that the scenario sets for all cells.
fn unsuitable_in_all<'a>(file: &File, readings: impl Iterator<Item = &'a Reading<'a>>, path: &str) -> Option<Problem> {
    let mut all = without_own(readings, path).map(|reading| unsuitable(file, reading, path));
    let first = all.next()??;
    all.all(|other| other.is_some()).then_some(first)
}

/// Those that do not replace what the scenario sets for all cells.
fn without_own<'a>(
    readings: impl Iterator<Item = &'a Reading<'a>>,
    path: &str,
) -> impl Iterator<Item = &'a Reading<'a>> {
    readings.filter(move |reading| !reading.variant.is_some_and(|variant| variant.replaces(path)))
}

/// The problem of a key that the scenario sets for all cells.
fn in_all<'a>(file: &File, readings: impl Iterator<Item = &'a Reading<'a>>, path: &str) -> String {
    // An event may be for some of the variants.
    let mut all = without_own(readings, path).filter(|reading| unsuitable(file, reading, path).is_none());
    let Some(first) = all.next() else {
        return format!("`{path}` has no effect: every [[variant]] replaces it; {}", remove(path));
    };
    let rest: Vec<_> = all.collect();
    if rest.len() >= COMPARED {
        return format!("`{path}` has no effect in any variant: {}", remove(path));
    }
    let problem = Context::new(file, first, path).problem();
    if rest.into_iter().all(|reading| Context::new(file, reading, path).problem() == problem) {
        return problem;
    }
    format!("`{path}` has no effect in any variant, for different reasons; {}", remove(path))
}

fn remove(path: &str) -> String {
    format!("remove it (`--set {path}=` does)")
}

/// A key without effect, and the values of one variant, or of a scenario without variants.
struct Context<'a> {
    /// What has an effect in some cell.
    used: &'a Log,
    /// As the scenario writes it.
    path: &'a str,
    /// Those that decide what has an effect: no sysctl does, and of the events, just the key's own, or else the first, by number 0.
    values: IndexMap<String, Entry>,
    /// The first of each key's swept values.
    matrix: Vec<(String, Entry)>,
    /// The key among these values.
    asked: String,
    /// The population of the key, or the first, if there are several: it stands here for all of them, as the only one.
    population: Option<&'a str>,
    /// What of these values has an effect in the first cell.
    log: Log,
    /// What is wrong with them anyway, and no reason for the key to have no effect.
    known: Vec<Problem>,
}

/// Another value of a key, which would give an idle one an effect.
#[derive(Clone)]
struct Switch {
    key: &'static dyn AnyKey,
    is: Option<Value>,
    must_be: Value,
    /// Whether the scenario sets the key.
    set: bool,
}

/// What a key does after a change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Idle,
    /// It has an effect, but the scenario still lacks something.
    Incomplete,
    Works,
}

/// Keys of a population that are about its connections.
const OF_CONNECTIONS: [&dyn AnyKey; 6] = [
    keys::LOAD_PROXY_PROTOCOL,
    keys::LOAD_CLOSE_BY,
    keys::LOAD_CLOSE_HOW,
    keys::LOAD_SOCKETS,
    keys::LOAD_QUICKACK,
    keys::LOAD_CONNECT_TIMEOUT,
];

/// Keys that have an effect only with another one, which is a number or a name: no word of it could be proposed.
const NEEDS_ANOTHER: [(&[&dyn AnyKey], &dyn AnyKey); 3] = [
    (&[keys::FIREWALL_SHAPE, keys::FIREWALL_MATCH], keys::FIREWALL_COUNT),
    (&[keys::FIREWALL_FILES], keys::FIREWALL_RULES),
    (&[keys::NAT_PORTS, keys::NAT_PORT_COUNT], keys::NAT_CLIENTS),
];

impl<'a> Context<'a> {
    fn new(file: &'a File, reading: &'a Reading<'_>, path: &'a str) -> Self {
        let event = paths::instance(path).unwrap_or(0);
        let population = match paths::population(path) {
            Some((name, _)) => Some(name),
            None => population::of(file, reading.variant).first().map(|first| &first.name[..]),
        };
        let among = |path: &str| match paths::instance(path) {
            None if paths::population(path).is_some() => {
                let (name, leaf) = paths::population(path)?;
                (Some(name) == population).then(|| format!("{}{leaf}", paths::prefix(paths::LOADS)))
            }
            Some(number) if number != event => None,
            Some(_) => Some(format!("{}.0.{}", paths::EVENTS, paths::leaf(path))),
            None if path.starts_with(&paths::prefix(paths::SYSCTL)) => None,
            None => Some(path.to_owned()),
        };
        let replaced = |path: &str| reading.variant.is_some_and(|variant: &Variant| variant.replaces(path));
        let own = reading.variant.into_iter().flat_map(|variant| &variant.values);
        let values = file.values.iter().filter(|(path, _)| !replaced(path)).chain(own);
        let values = values.filter_map(|(path, entry)| Some((among(path)?, entry.clone()))).collect();
        let asked = among(path).unwrap_or_default();
        let matrix = file.matrix.iter().filter_map(|(path, values)| Some((among(path)?, values.first()?.clone())));
        let matrix = matrix.collect();
        let context = Self {
            used: &reading.log,
            path,
            values,
            matrix,
            asked,
            population,
            log: Log::default(),
            known: Vec::new(),
        };
        let log = context.read(&[]);
        Self { known: log.take_problems(), log, ..context }
    }

    fn problem(&self) -> String {
        let path = self.path;
        let remove = remove(path);
        if path == keys::REPETITIONS.path() {
            let least = keys::STOP_MIN_REPETITIONS.path();
            return format!("`{path}` has no effect with [stop], which decides it: use `{least}`, or {remove}");
        }
        if path == keys::SERVER_WORKERS.path() && self.subject() == Some(SubjectName::Command) {
            return format!(
                "`{path}` has no effect: neither `server.command` nor a file of `server.files` says {{workers}}; write it there, \
                 or {remove}"
            );
        }
        let share = self.values.get(&self.place(keys::LOAD_UDP_SHARE)).map(|entry| &entry.value);
        let share = share.and_then(|value| value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64)));
        let of_connections = OF_CONNECTIONS.iter().any(|key| key.path() == self.asked);
        if of_connections && share.is_some_and(|share| share >= 1.0) {
            return format!(
                "`{path}` has no effect with `{} = 1`, which leaves no connections; lower that, or {remove}",
                self.shown(keys::LOAD_UDP_SHARE)
            );
        }
        if let Some(why) = local::idle(path).filter(|_| self.is_unix()) {
            return format!("`{path}` has no effect with a Unix socket (`{}`): {why}; {remove}", keys::ADDRESS.path());
        }
        if self.asked == keys::LOAD_CONNECT.path() {
            return format!(
                "`{path}` has no effect without a Unix socket (`{}`): to a port, connect() waits for the answer alone; {remove}",
                keys::ADDRESS.path()
            );
        }
        if let Some(why) = self.without_times() {
            return format!("`{path}` has no effect {why}; {remove}");
        }
        let needs = NEEDS_ANOTHER.iter().find(|(keys, _)| keys.iter().any(|key| key.path() == self.asked));
        if let Some((_, needs)) = needs.filter(|(_, needs)| self.log.uses(needs.path())) {
            return format!("`{path}` has no effect without `{}`: set that, or {remove}", needs.path());
        }
        let switches = self.remedy(&self.asked);
        // Where our own server runs.
        let binds = self.log.uses(keys::SERVER_BIND.path());
        if switches.is_empty() && binds && path == keys::SERVER_V6ONLY.path() {
            return format!(
                "`{path}` has no effect without a listener on `::`; add that to `{}`, or {remove}",
                keys::SERVER_BIND.path()
            );
        }
        if switches.is_empty() && paths::instance(path).is_some() {
            let kind = keys::EVENT_KIND;
            let cause = if self.is_swept(kind) {
                format!("with any of the values of `{}`", self.shown(kind))
            } else {
                self.cause(kind, &self.words(kind).first().and_then(|switch| switch.is.clone()))
            };
            return format!("`{path}` has no effect {cause}; {remove}");
        }
        if switches.is_empty() {
            return format!(
                "`{path}` has no effect with the subject, protocol, strategy, app, mode, arrivals, closing and events that this \
                 scenario sets: {remove}"
            );
        }
        let causes: Vec<String> = switches.iter().map(|switch| self.cause(switch.key, &switch.is)).collect();
        let set = switches.iter().map(|switch| format!("`{} = {}`", self.shown(switch.key), switch.must_be));
        let set: Vec<String> = set.collect();
        format!("`{path}` has no effect {}; set {}, or {remove}", causes.join(" and "), set.join(" and "))
    }

    /// What a key depends on that is a time and not a word, so that no [`Switch`] could say it.
    fn without_times(&self) -> Option<String> {
        let is_set = |key| self.values.contains_key(&self.place(key)) || self.is_swept(key);
        let is_kept = self.log.uses(&self.place(keys::LOAD_THINK_TIME));
        let asked = |keys: &[&dyn AnyKey]| keys.iter().any(|key| key.path() == self.asked);
        for (time, of_time) in [
            (keys::LOAD_THINK_TIME, [keys::LOAD_THINK_DISTRIBUTION as &dyn AnyKey, keys::LOAD_THINK_SHAPE]),
            (keys::LOAD_LIFETIME, [keys::LOAD_LIFETIME_DISTRIBUTION, keys::LOAD_LIFETIME_SHAPE]),
        ] {
            if is_kept && !is_set(time) && asked(&of_time) {
                return Some(format!("without `{}`", self.shown(time)));
            }
        }
        let by_schedule = asked(&[keys::LOAD_REQUEST_RATE, keys::LOAD_ARRIVALS]);
        (is_kept && is_set(keys::LOAD_THINK_TIME) && by_schedule)
            .then(|| format!("with `{}`, by which requests follow from replies", self.shown(keys::LOAD_THINK_TIME)))
    }

    fn is_swept(&self, key: &dyn AnyKey) -> bool {
        self.matrix.iter().any(|(swept, _)| *swept == self.place(key))
    }

    /// The path of a key among these values: of events, the one of number 0.
    fn place(&self, key: &dyn AnyKey) -> String {
        match key.path().strip_prefix(&paths::prefix(paths::EVENTS)) {
            Some(leaf) => format!("{}.0.{leaf}", paths::EVENTS),
            None => key.path().to_owned(),
        }
    }

    /// The path of a key as the scenario writes it.
    fn shown(&self, key: &dyn AnyKey) -> String {
        if let Some(leaf) = key.path().strip_prefix(&paths::prefix(paths::EVENTS)) {
            return format!("{}.{}.{leaf}", paths::EVENTS, paths::instance(self.path).unwrap_or(0));
        }
        let leaf = key.path().strip_prefix(&paths::prefix(paths::LOADS));
        self.population.zip(leaf).map_or_else(|| key.path().to_owned(), |(name, leaf)| population::path(name, leaf))
    }

    fn cause(&self, key: &dyn AnyKey, is: &Option<Value>) -> String {
        match (key.path(), is) {
            (path, Some(value))
                if path == keys::LOAD_MODE.path()
                    && self.population.is_none()
                    && value.as_str() != Some(ModeName::Kept.into()) =>
            {
                let mode = value.as_str().unwrap_or_default();
                format!("in {} {mode} loop", if mode.starts_with('o') { "an" } else { "a" })
            }
            (_, Some(value)) => format!("with `{} = {value}`", self.shown(key)),
            (_, None) => format!("without `{}`", self.shown(key)),
        }
    }

    fn is_unix(&self) -> bool {
        let swept = || self.matrix.iter().find(|(path, _)| path == keys::ADDRESS.path()).map(|(_, entry)| entry);
        let address = self.values.get(keys::ADDRESS.path()).or_else(swept);
        address.and_then(|entry| entry.value.as_str()).is_some_and(unix::is_meant)
    }

    fn subject(&self) -> Option<SubjectName> {
        self.values.get(keys::SERVER_SUBJECT.path())?.value.as_str()?.parse().ok()
    }

    /// The keys that, with one of their other words, would give this one an effect: a single key, or else two of them, of which
    /// the scenario sets one.
    fn remedy(&self, path: &str) -> Vec<Switch> {
        // The keys of a population or an event have other paths here than in the cells.
        let is_elsewhere = self.population.is_some() || paths::instance(self.path).is_some();
        let used = if is_elsewhere { &self.log } else { self.used };
        let switches = self.switches(used, path);
        let alone: Vec<Outcome> = switches.iter().map(|switch| self.after(&[switch], path).0).collect();
        let first =
            |outcome| alone.iter().position(|alone| *alone == outcome).map(|place| vec![switches[place].clone()]);
        let pair = || switches.iter().filter(|switch| switch.set).find_map(|switch| self.pair(switch, path));
        first(Outcome::Works).or_else(pair).or_else(|| first(Outcome::Incomplete)).unwrap_or_default()
    }

    /// A switch, and another one of a key that the scenario uses then.
    fn pair(&self, one: &Switch, path: &str) -> Option<Vec<Switch>> {
        let (_, log) = self.after(&[one], path);
        let others = self.switches(&log, path).into_iter().filter(|other| other.key.path() != one.key.path());
        let other = others.into_iter().find(|other| self.after(&[one, other], path).0 == Outcome::Works)?;
        Some(vec![one.clone(), other])
    }

    /// The other words of keys that are used and hold for all cells. What the scenario sets is a likelier cause than a default,
    /// and a key of the same table than another.
    fn switches(&self, log: &Log, path: &str) -> Vec<Switch> {
        let matrix = &self.matrix;
        let is_of_event = paths::instance(path).is_some();
        let switches = keys::all().filter(|key| {
            let path = self.place(*key);
            // An event's keys decide about those of no other table.
            (is_of_event || paths::instance(&path).is_none())
                && log.uses(&path)
                && !keys::is_of_whole(&path)
                && !matrix.iter().any(|(swept, _)| *swept == path)
        });
        let mut switches: Vec<Switch> = switches.flat_map(|key| self.words(key)).collect();
        let table = |path: &str| path.rsplit_once('.').map(|(table, _)| table.to_owned());
        switches.sort_by_key(|switch| {
            let other = self.place(switch.key);
            // Another kind of scenario would do something else entirely.
            (other == keys::KIND.path(), !switch.set, table(&other) != table(path))
        });
        switches
    }

    fn words(&self, key: &'static dyn AnyKey) -> Vec<Switch> {
        let set = self.values.get(&self.place(key)).map(|entry| entry.value.clone());
        let is = set.clone().or_else(|| key.default_toml());
        let others = words(key).into_iter().filter(|word| Some(word) != is.as_ref() && key.check(word).is_ok());
        others.map(|must_be| Switch { key, is: is.clone(), must_be, set: set.is_some() }).collect()
    }

    /// What the key does in the first cell after some switches, and what that cell uses.
    fn after(&self, switches: &[&Switch], path: &str) -> (Outcome, Log) {
        let log = self.read(switches);
        let outcome = match log.uses(path) {
            false => Outcome::Idle,
            true if log.take_problems().iter().all(|problem| self.known.contains(problem)) => Outcome::Works,
            true => Outcome::Incomplete,
        };
        (outcome, log)
    }

    /// What the first cell uses after some switches, and what is wrong with it.
    fn read(&self, switches: &[&Switch]) -> Log {
        let mut values = self.values.clone();
        for Switch { key, must_be, .. } in switches {
            values.insert(self.place(*key), Entry { value: must_be.clone(), origin: Origin::File });
        }
        let changed = File { values, ..File::default() };
        let swept = self.matrix.iter().map(|(path, entry)| (&path[..], entry)).collect();
        let log = Log::default();
        Scenario::read(&Settings::new(&changed, swept, &log));
        log
    }
}

/// The words that a key takes: strategies, kinds of events, or those of its description, such as ``` `a`, `b` or `c` ```.
fn words(key: &dyn AnyKey) -> Vec<Value> {
    if key.path() == keys::SERVER_STRATEGY.path() {
        return PRESETS.iter().map(|preset| Value::String(preset.name.to_owned())).collect();
    }
    if key.path() == keys::EVENT_KIND.path() {
        // An event of kind `none` keeps whatever keys it has.
        return EventKind::VARIANTS.iter().map(|kind| Value::String(kind.name().to_owned())).collect();
    }
    if let Some(Value::Boolean(_)) = key.default_toml() {
        return vec![Value::Boolean(true), Value::Boolean(false)];
    }
    key.domain().split('`').skip(1).step_by(2).map(|word| Value::String(word.to_owned())).collect()
}
