//! Forks a load's loaders and collects their accounts, for trials and for `listenbench load`.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use crate::{
    context::TrialContext,
    ipc::family::{Account, Family, Patience},
    load::{Loader, LoaderReport, Part, histogram},
    record::Exit,
};

/// How long a loader may take to exit once it has closed its pipe.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);

/// Histograms by `w<worker>.<metric>`, `l<loader>.<metric>` and `f<fault>.<metric>`.
pub type Histograms = BTreeMap<String, Histogram<u64>>;

/// A loader's account.
#[derive(Debug)]
pub struct LoaderAccount {
    pub pid: i32,
    pub exit: Exit,
    /// Its report; `None` if the loader died.
    pub report: Option<LoaderReport>,
}

/// The forked loaders.
pub type Loaders = Family<LoaderReport>;

/// Forks the loaders. They wait at the control block's barrier.
pub fn fork_loaders(context: &TrialContext, loaders: usize) -> Result<Loaders> {
    let mut family = Loaders::default();
    for number in 0..loaders {
        let loader = Loader { part: Part { loader: number, loaders }, context: context.clone() };
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

/// The accounts and histograms of loaders that have ended. The histograms of a worker or fault are merged over all loaders.
pub fn loader_accounts(loaders: Loaders) -> Result<(Vec<LoaderAccount>, Histograms)> {
    let mut histograms = Histograms::new();
    let mut accounts = Vec::with_capacity(loaders.len());
    for (number, account) in loaders.finish(Patience::of(EXIT_PATIENCE)).into_iter().enumerate() {
        let Account { pid, exit, report, histograms: parts, .. } = account;
        for (name, part) in parts {
            // Histograms of a worker or a fault already carry its name, whichever loader measured them.
            let name = if name.contains('.') { name } else { format!("l{number}.{name}") };
            histograms.entry(name).or_insert_with(histogram).add(&part).context("merging histograms")?;
        }
        accounts.push(LoaderAccount { pid, exit, report });
    }
    Ok((accounts, histograms))
}
