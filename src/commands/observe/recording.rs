//! The record that an observation leaves, and its metrics file.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    cli,
    observe::host::{self, NetworkFacts, Probe},
    record::{Destination, Writer},
    report::{Reading, derived_files},
    scenario::{Plan, Source},
    sys::folder::Folder,
    watch::Watch,
};

/// The name of an observation in its record.
const NAME: &str = "observe";

/// A record to be left in a folder.
pub(super) struct Recording {
    writer: Writer,
}

impl Recording {
    /// Begins the record. Fails if the folder holds one.
    pub fn begin(folder: &Path, watch: &Watch) -> Result<Self> {
        let text = scenario(&watch.addresses());
        let plan = Plan::read(&Source { name: NAME, text: &text }, &[])?;
        let note = "# What `listenbench observe` watched. It generated no load; `run` with this file would, with the defaults below.\n";
        let destination = Destination::named(folder);
        destination.check(derived_files())?;
        let probe = Probe {
            stamps_error: Some("`observe` counts from outside the servers, by tracepoints".to_owned()),
            completions_error: None,
            queue_sample_ns: watch.sample_cost_ns(),
        };
        let host = host::read(plan.whole.seed, "host", NetworkFacts::read(), &probe);
        let scenario = format!("{note}{}", plan.effective);
        Ok(Self { writer: Writer::create(destination.make()?, derived_files(), &scenario, &host)? })
    }

    /// Writes what was seen, even if the observation has failed, and the reports.
    pub fn end(mut self, watch: &Watch, options: &cli::Observe, error: Option<String>) -> Result<PathBuf> {
        let (record, histograms) = watch.record(NAME, options.interval, error)?;
        self.writer.trial(record, &histograms, None)?;
        let folder = self.writer.folder();
        Reading::of(folder)?.report().write(folder)?;
        Ok(folder.path().to_owned())
    }
}

/// A scenario of a server that runs, at the only address if there is just one.
fn scenario(addresses: &[SocketAddr]) -> String {
    let place = match addresses {
        [only] => {
            let ip = match only {
                SocketAddr::V4(v4) if v4.ip().is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(v6) if v6.ip().is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                only => only.ip(),
            };
            format!("address = \"{ip}\"\nport = {}\n", only.port())
        }
        _ => String::new(),
    };
    format!(
        "name = \"{NAME}\"\nquestion = \"Who accepts, and how long do connections wait?\"\nnetwork = \"host\"\nrepetitions = 1\nanswers = \
         [\"accepted_per_s\"]\n{place}[server]\nsubject = \"running\"\n[load]\nduration = \"10s\"\n"
    )
}

/// The metrics file.
pub(super) struct Metrics {
    folder: Folder,
    name: String,
}

impl Metrics {
    /// Writes the first metrics into the file that the user names.
    pub fn begin(file: &Path, watch: &Watch) -> Result<Self> {
        let (folder, name) = Folder::of_file(file).with_context(|| format!("--metrics {}", file.display()))?;
        folder.sweep();
        let metrics = Self { folder, name };
        metrics.write(watch).map(|()| metrics)
    }

    /// Replaces the file, so that a reader finds either the old or the new one whole.
    pub fn write(&self, watch: &Watch) -> Result<()> {
        let written = self.folder.replace(&self.name, watch.metrics().as_bytes());
        written.with_context(|| format!("writing {}", self.folder.path().join(&self.name).display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenario_of_an_observation_can_be_read() {
        for addresses in [&[][..], &["0.0.0.0:80"], &["[::]:80"], &["192.0.2.1:80"], &["127.0.0.1:80", "[::1]:80"]] {
            let addresses: Vec<SocketAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
            let plan = Plan::read(&Source { name: NAME, text: &scenario(&addresses) }, &[]).unwrap();
            assert_eq!((plan.cells.len(), plan.trials.len()), (1, 1), "{addresses:?}");
        }
    }
}
