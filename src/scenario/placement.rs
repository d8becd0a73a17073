//! Where processes run, and how the kernel schedules them there.

use anyhow::{Context, Result};

use super::{error::ScenarioError, settings::Settings};
use crate::sys::scheduler::{self, Policy};

/// Largest number of a processor that sched_setaffinity(2) of the C library takes.
pub(super) const CPUS_LIMIT: u32 = 1_023;

/// Placement of processes on processors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// The scheduler's.
    None,
    /// Worker, or loader, k on the k-th allowed processor, counted round.
    Spread,
    /// On the k-th of these, counted round.
    List(Vec<usize>),
    /// Loader k beside worker k, counted round the workers.
    Pair {
        /// How the workers are placed.
        workers: Box<Pin>,
        /// How many they are.
        count: usize,
    },
}

const SERVER: &str = "server.pin";
const LOAD: &str = "load.pin";
const PAIR: &str = "pair";

impl Pin {
    /// The workers'. A loader can be beside a worker only where that has a place.
    pub(super) fn of_workers(settings: &Settings<'_>) -> Result<Self, ScenarioError> {
        let default = if settings.is_text_of(LOAD, PAIR) { "spread" } else { "none" };
        Self::read(settings, SERVER, default, &[("none", Self::None), ("spread", Self::Spread)])
    }

    /// The loaders'.
    pub(super) fn of_loaders(settings: &Settings<'_>, workers: usize) -> Result<Self, ScenarioError> {
        let pair = || -> Result<Self, ScenarioError> {
            match Self::of_workers(settings)? {
                Self::None => Err(settings.wrong(
                    LOAD,
                    "\"pair\" puts loaders beside workers, which `server.pin` = \"none\" leaves to the scheduler: remove that, \
                     or place them",
                )),
                placed => Ok(Self::Pair { workers: Box::new(placed), count: workers }),
            }
        };
        let pair = if settings.is_text_of(LOAD, PAIR) { pair()? } else { Self::None };
        Self::read(settings, LOAD, "none", &[("none", Self::None), ("spread", Self::Spread), (PAIR, pair)])
    }

    fn read(settings: &Settings<'_>, path: &str, default: &str, words: &[(&str, Self)]) -> Result<Self, ScenarioError> {
        match settings.integers(path, 0..=CPUS_LIMIT)? {
            Some(cpus) if cpus.is_empty() => Err(settings.wrong(path, "is an empty list")),
            Some(cpus) => Ok(Self::List(cpus)),
            None => {
                let words: Vec<(&str, &Self)> = words.iter().map(|(word, pin)| (*word, pin)).collect();
                settings.choice_or(path, default, &words).cloned()
            }
        }
    }

    /// The processor of the `number`-th process, `allowed` being those that may be used; `None` where the scheduler decides.
    pub fn processor(&self, number: usize, allowed: &[usize]) -> Option<usize> {
        let cpus = match self {
            Self::None => return None,
            Self::Spread => allowed,
            Self::List(cpus) => cpus,
            Self::Pair { workers, count } => return workers.processor(number % count, allowed),
        };
        cpus.get(number % cpus.len().max(1)).copied()
    }

    /// Processors it names.
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
    const WORDS: [(&'static str, Policy); 3] =
        [("normal", Policy::Normal), ("batch", Policy::Batch), ("fifo", Policy::Fifo)];

    pub(super) fn read(settings: &Settings<'_>, path: &str) -> Result<Self, ScenarioError> {
        settings.choice(path, &Self::WORDS).map(Self)
    }

    /// Makes the calling process, and threads that it will start, be scheduled so. Returns the name of what is in force then, by
    /// the kernel's word. `path` is the key, for the error.
    pub fn enforce(self, path: &str) -> Result<Option<String>> {
        scheduler::set(self.0).with_context(|| format!("`{path}` = \"{}\"", self.name()))?;
        Ok(scheduler::in_force()?.map(|policy| Self(policy).name().to_owned()))
    }

    /// The name in scenarios.
    pub fn name(self) -> &'static str {
        Self::WORDS.iter().find(|(_, policy)| *policy == self.0).map_or("?", |(name, _)| name)
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
        Ok((places(&scenario.server.pin, 2), places(&scenario.load.pin, 4)))
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
