//! Where processes run, and how the kernel schedules them there.

use anyhow::{Context, Result};

use strum::{EnumString, IntoStaticStr, VariantNames};

use super::{
    keys::{self, WordOrList},
    settings::Settings,
};
use crate::sys::scheduler::{self, Policy};

/// Placement of processes on processors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// Wherever the scheduler puts them.
    None,
    /// Process k on the k-th allowed processor, starting over at the end.
    Spread,
    /// Process k on the k-th of these, starting over at the end.
    List(Vec<usize>),
    /// Loader k on worker k's processor, starting over at the last worker.
    Pair {
        /// Where the workers run.
        workers: Box<Pin>,
        /// How many workers there are.
        count: usize,
    },
}

/// Where workers run, if not on a list of processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum WorkerPlaces {
    /// [`Pin::None`].
    None,
    /// [`Pin::Spread`].
    Spread,
}

/// Where loaders run, if not on a list of processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum LoaderPlaces {
    /// [`Pin::None`].
    None,
    /// [`Pin::Spread`].
    Spread,
    /// [`Pin::Pair`].
    Pair,
}

impl Pin {
    /// Where workers run. Loaders can run beside them only if they are pinned.
    pub(super) fn of_workers(settings: &Settings<'_>) -> Self {
        let is_pair = |load: &Settings<'_>| load.peek(keys::LOAD_PIN) == WordOrList::Word(LoaderPlaces::Pair);
        let paired = settings.of_loads().iter().any(|(_, load)| is_pair(load));
        let default = if paired { WordOrList::Word(WorkerPlaces::Spread) } else { keys::SERVER_PIN.default() };
        match settings.get_or(keys::SERVER_PIN, default) {
            WordOrList::Word(WorkerPlaces::None) => Self::None,
            WordOrList::Word(WorkerPlaces::Spread) => Self::Spread,
            WordOrList::List(cpus) => Self::List(cpus),
        }
    }

    /// Where loaders run; `workers` is the number of our own workers under test.
    pub(super) fn of_loaders(settings: &Settings<'_>, workers: Option<usize>) -> Self {
        match settings.get(keys::LOAD_PIN) {
            WordOrList::Word(LoaderPlaces::None) => Self::None,
            WordOrList::Word(LoaderPlaces::Spread) => Self::Spread,
            WordOrList::Word(LoaderPlaces::Pair) => {
                let Some(workers) = workers else {
                    settings.conflict(
                        keys::LOAD_PIN,
                        &[keys::SERVER_SUBJECT],
                        "\"pair\" runs loaders beside workers of ours: use \"spread\", or set server.subject = \"own\"",
                    );
                    return Self::None;
                };
                let placed = Self::of_workers(settings);
                if placed == Self::None {
                    settings.conflict(
                        keys::LOAD_PIN,
                        &[keys::SERVER_PIN],
                        "\"pair\" runs loaders beside workers, whose placement server.pin = \"none\" leaves to the scheduler: \
                         remove that, or pin the workers",
                    );
                }
                Self::Pair { workers: Box::new(placed), count: workers }
            }
            WordOrList::List(cpus) => Self::List(cpus),
        }
    }

    /// The processor of process `number`, given those that are `allowed`; `None` if the scheduler decides.
    pub fn processor(&self, number: usize, allowed: &[usize]) -> Option<usize> {
        let cpus = match self {
            Self::None => return None,
            Self::Spread => allowed,
            Self::List(cpus) => cpus,
            Self::Pair { workers, count } => return workers.processor(number % count, allowed),
        };
        cpus.get(number % cpus.len().max(1)).copied()
    }

    /// The processors it names.
    pub fn named(&self) -> &[usize] {
        match self {
            Self::List(cpus) => cpus,
            Self::None | Self::Spread | Self::Pair { .. } => &[],
        }
    }
}

/// How the kernel schedules processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduler(pub Policy);

impl Scheduler {
    /// Applies the policy to the calling process and the threads it starts. Returns the name of the resulting policy,
    /// as the kernel reports it. The path of its key is named in the error.
    pub fn enforce(self, path: &str) -> Result<Option<String>> {
        scheduler::set(self.0).with_context(|| format!("`{path}` = \"{}\"", self.name()))?;
        Ok(scheduler::in_force()?.map(|policy| Self(policy).name().to_owned()))
    }

    /// The name in scenarios.
    pub fn name(self) -> &'static str {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::{Plan, Source};

    type Places = Vec<Option<usize>>;

    fn processors(text: &str) -> Result<(Places, Places), String> {
        let plan = Plan::read(&Source { name: "t", text }, &[]).map_err(|error| error.to_string())?;
        let scenario = &plan.cells[0].scenario;
        let allowed = [4, 5, 6, 7];
        let places =
            |pin: &super::Pin, count| -> Places { (0..count).map(|number| pin.processor(number, &allowed)).collect() };
        Ok((places(&scenario.server.pin, 2), places(&scenario.loads[0].pin, 4)))
    }

    #[test]
    fn pairs_share_processors_also_where_loaders_outnumber_workers() {
        let some = |cpus: &[usize]| cpus.iter().copied().map(Some).collect::<Vec<_>>();
        assert_eq!(processors("").unwrap(), (vec![None; 2], vec![None; 4]));
        let spread = processors("[server]\npin = \"spread\"\n[load]\npin = \"spread\"").unwrap();
        assert_eq!(spread, (some(&[4, 5]), some(&[4, 5, 6, 7])));
        assert_eq!(processors("[load]\npin = \"pair\"").unwrap(), (some(&[4, 5]), some(&[4, 5, 4, 5])));
        let listed = processors("[server]\npin = [7, 9]\n[load]\npin = \"pair\"").unwrap();
        assert_eq!(listed, (some(&[7, 9]), some(&[7, 9, 7, 9])));
        let nowhere = processors("[server]\npin = \"none\"\n[load]\npin = \"pair\"").unwrap_err();
        assert!(nowhere.contains("`load.pin`") && nowhere.contains("server.pin"), "{nowhere}");
    }
}
