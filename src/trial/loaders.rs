//! The loaders of a load: forking them, and their accounts. A trial and `listenbench load` use the same.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use super::gathered::LoaderAccount;
use crate::{
    ipc::{
        control::Control,
        family::{Account, Family, Patience},
        ledger::Ledger,
    },
    load::{Loader, LoaderReport, Part, Waits, histogram},
    observe::stamps::Stamps,
    scenario::Scenario,
};

/// How long a loader may take to exit once it has closed its pipe.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);

/// Histograms by `w<worker>.<metric>`, `l<loader>.<metric>` and `f<fault>.<metric>`.
pub type Histograms = BTreeMap<String, Histogram<u64>>;

/// What all loaders of a load have in common.
#[derive(Clone, Copy)]
pub struct LoadJob<'a> {
    /// The cell's scenario.
    pub scenario: &'a Arc<Scenario>,
    /// Where to connect.
    pub target: SocketAddr,
    /// The port ledger; there is none for another program's server.
    pub ledger: Option<&'a Arc<Ledger>>,
    /// Where stamps of connections are, if there are any.
    pub stamps: Option<&'a Arc<Stamps>>,
    /// Which accept waits are recorded.
    pub waits: Waits,
    /// Seed of the schedule.
    pub seed: u64,
    /// Repetition, from 0.
    pub repetition: usize,
}

/// The forked loaders.
pub type Loaders = Family<LoaderReport>;

/// Forks the loaders. They wait at the control block's barrier.
pub fn fork_loaders(job: LoadJob<'_>, loaders: usize, control: &Arc<Control>) -> Result<Loaders> {
    let mut family = Loaders::default();
    for number in 0..loaders {
        let loader = Loader {
            part: Part { loader: number, loaders },
            scenario: Arc::clone(job.scenario),
            target: job.target,
            seed: job.seed,
            repetition: job.repetition,
            control: Arc::clone(control),
            ledger: job.ledger.cloned(),
            stamps: job.stamps.cloned(),
            waits: job.waits,
        };
        family.fork(&format!("lb:loader{number}"), format!("loader {number}"), |sender| {
            let (report, measures) = loader.run()?;
            for (name, histogram) in measures.named() {
                sender.histogram(&name, &histogram)?;
            }
            Ok(report)
        })?;
    }
    Ok(family)
}

/// The accounts of loaders that have ended, and their histograms. Accept waits are added to those of the worker, whoever
/// measured them.
pub fn loader_accounts(loaders: Loaders) -> Result<(Vec<LoaderAccount>, Histograms)> {
    let mut histograms = Histograms::new();
    let mut accounts = Vec::with_capacity(loaders.len());
    for (number, account) in loaders.finish(Patience::of(EXIT_PATIENCE)).into_iter().enumerate() {
        let Account { pid, exit, report, histograms: parts, .. } = account;
        for (name, part) in parts {
            // What is of a worker or of a fault, whichever loader measured it, has its name already.
            let name = if name.contains('.') { name } else { format!("l{number}.{name}") };
            histograms.entry(name).or_insert_with(histogram).add(&part).context("merging histograms")?;
        }
        accounts.push(LoaderAccount { pid, exit, report });
    }
    Ok((accounts, histograms))
}
