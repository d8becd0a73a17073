//! Forks a load's loaders and reads their accounts.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{
    context::TrialContext,
    ipc::{
        control::{Account, LoaderCount, Window},
        family::{self, Family, Patience},
    },
    load::{Dead, Loader, LoaderReport, Measures, SetUp, Sizing, source::Share},
    record::{Counts, Exit},
    scenario::Scenario,
    sys::clock::CpuUse,
};

/// How long a loader may take to exit once it has closed its pipe.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);

/// Histograms by `w<worker>.<metric>`, `l<loader>.<metric>`, of several hosts `h<rank>.<metric>` in its place, and
/// `e<event>-<occurrence>.<metric>`, with what loaders measured behind `<population>.` if there are several.
pub type Histograms = BTreeMap<String, Counts>;

/// What is known of a loader that has ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct LoaderAccount {
    /// The rank of its host; `None` if that is the only one.
    pub host: Option<usize>,
    /// The number of its population.
    pub load: usize,
    pub pid: i32,
    pub exit: Exit,
    /// What it used of the processors from the barrier on.
    pub cpu: CpuUse,
    pub set_up: SetUp,
    /// Its figures, up to its end.
    pub report: LoaderReport,
}

/// The forked loaders.
pub type Loaders = Family<SetUp>;

/// Forks the loaders of a host, which are counted from 0. They wait at the control block's barrier.
pub(super) fn fork_loaders(context: &TrialContext, sizing: &Sizing, host: usize) -> Result<Loaders> {
    let mut family = Loaders::default();
    // Those that choose ports in the same way share them, whichever population they belong to.
    let selections = || sizing.parts(host).map(|(load, _)| context.scenario.loads[load].sources.selection);
    for (number, (load, part)) in sizing.parts(host).enumerate() {
        let selection = context.scenario.loads[load].sources.selection;
        let alike = |others: usize| selections().take(others).filter(|other| *other == selection).count();
        let share = Share { process: alike(number), processes: alike(sizing.loaders()) };
        let loader = Loader { number, share, load, part, context: context.clone() };
        family.fork(&format!("lb:loader{number}"), format!("loader {number}"), |sender| {
            loader.run(|set_up| sender.json(set_up))
        })?;
    }
    Ok(family)
}

/// What the loaders leave.
pub(super) struct Left {
    pub accounts: Vec<LoaderAccount>,
    /// The histograms of all; those of a worker or event are merged over the loaders of a population.
    pub histograms: Histograms,
    /// The same of each population by itself, without its name.
    pub of_loads: Vec<Histograms>,
}

impl Left {
    /// Nothing of a scenario's populations yet.
    pub fn nothing(scenario: &Scenario) -> Self {
        Self {
            accounts: Vec::new(),
            histograms: Histograms::new(),
            of_loads: vec![Histograms::new(); scenario.loads.len()],
        }
    }

    /// Adds a histogram of a population, by its name without the population's.
    pub fn add(&mut self, scenario: &Scenario, load: usize, name: &str, part: &Counts) {
        let tag = match scenario.only_load() {
            Some(_) => name.to_owned(),
            None => format!("{}.{name}", scenario.loads[load].name),
        };
        for (all, name) in [(&mut self.histograms, tag), (&mut self.of_loads[load], name.to_owned())] {
            all.entry(name).and_modify(|sum| sum.add(part)).or_insert_with(|| part.clone());
        }
    }
}

/// The accounts and histograms of loaders that have ended, however they ended. `sizing` and `host` are those that they were forked for;
/// `rank` is that of one of several hosts.
pub(super) fn loader_accounts(
    context: &TrialContext,
    (sizing, host, rank): (&Sizing, usize, Option<usize>),
    window: Window,
    loaders: Loaders,
) -> Result<Left> {
    let TrialContext { scenario, waits, control, .. } = context;
    let mut left = Left::nothing(scenario);
    let ended = loaders.finish(Patience::of(EXIT_PATIENCE)).into_iter().zip(sizing.parts(host));
    for (number, (ended, (load, part))) in ended.enumerate() {
        let family::Account { pid, exit, cpu, report: set_up, .. } = ended;
        let account = control.account(number);
        let measures = Measures::new(scenario, *waits, account.clone(), control.records());
        let mut report = LoaderReport::read(&account);
        let parts: Vec<_> = measures.named().collect();
        // Without histograms, nothing has a value.
        if !exit.is_ok() && control.records() {
            let (seed, repetition, interrupted_ns) = (context.seed, context.repetition, control.interrupted_ns());
            Dead { scenario, load: &scenario.loads[load], part, window, seed, repetition, interrupted_ns }
                .complete(&mut report, &parts);
        }
        let owner = rank.map_or_else(|| format!("l{number}"), |rank| format!("h{rank}"));
        for (name, part) in parts {
            // Histograms of a worker or an event already carry its name, whichever loader measured them.
            let name = if name.contains('.') { name } else { format!("{owner}.{name}") };
            left.add(scenario, load, &name, &part);
        }
        let (cpu, set_up) = (since_barrier(&account, cpu), set_up.unwrap_or_default());
        left.accounts.push(LoaderAccount { host: rank, load, pid, exit, cpu, set_up, report });
    }
    Ok(left)
}

/// What a loader used of the processors from the barrier on, of what it used in all.
fn since_barrier(account: &Account, all: CpuUse) -> CpuUse {
    let since = |all: u64, before| all.saturating_sub(account.get(before));
    CpuUse {
        user_ns: since(all.user_ns, LoaderCount::CpuUserNs),
        system_ns: since(all.system_ns, LoaderCount::CpuSystemNs),
        voluntary_switches: since(all.voluntary_switches, LoaderCount::VoluntarySwitches),
        involuntary_switches: since(all.involuntary_switches, LoaderCount::InvoluntarySwitches),
    }
}
