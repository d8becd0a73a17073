//! Reads a record back. Summaries and reports know a run only through this.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value as Json;
use thiserror::Error;

use super::TrialRecord;
use crate::scenario::{Plan, ScenarioError, Source, Whole};

/// The scenario as run.
pub const SCENARIO: &str = "scenario.toml";
/// The machine.
pub const HOST: &str = "host.json";
/// One trial a line.
pub const TRIALS: &str = "trials.jsonl";
/// Every histogram.
pub const HISTOGRAMS: &str = "histograms.hlog";
/// The files that a run writes; all others are made from these.
pub const FILES: [&str; 4] = [SCENARIO, HOST, TRIALS, HISTOGRAMS];

/// A record as read from its folder.
#[derive(Debug)]
pub struct Record {
    /// `scenario.toml` as text.
    pub scenario: String,
    /// What it says of the scenario as a whole.
    pub whole: Whole,
    /// `host.json`.
    pub host: Json,
    /// `trials.jsonl`, in the order of execution.
    pub trials: Vec<TrialRecord>,
    /// Whether its last line had no end and is left out.
    pub cut_off: bool,
}

/// A folder that is no record, or a damaged one.
#[derive(Debug, Error)]
pub enum ReadError {
    /// A file cannot be read.
    #[error("{}: {error}; is this the folder of a run?", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}, line {line}: {error}; remove the line, if nothing else is wrong", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Why.
        error: serde_json::Error,
    },
    /// The scenario cannot be read.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
}

impl Record {
    /// Reads a record's folder. A last line of `trials.jsonl` that was cut off, as by a kill, is left out.
    pub fn read(folder: &Path) -> Result<Self, ReadError> {
        let host = text(folder, HOST)?;
        let host = serde_json::from_str(&host).map_err(|error| content(folder, HOST, error.line(), error))?;
        let lines = text(folder, TRIALS)?;
        let trials = lines
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .enumerate()
            .map(|(i, line)| serde_json::from_str(line).map_err(|error| content(folder, TRIALS, i + 1, error)))
            .collect::<Result<_, _>>()?;
        let scenario = text(folder, SCENARIO)?;
        let whole = Whole::parse(&folder.join(SCENARIO).display().to_string(), &scenario)?;
        let cut_off = !lines.is_empty() && !lines.ends_with('\n');
        Ok(Self { scenario, whole, host, trials, cut_off })
    }

    /// How many trials the scenario asks for, where that is known beforehand.
    pub fn planned(&self) -> Option<usize> {
        if self.whole.stop.is_some() || self.whole.search.is_some() {
            return None;
        }
        let plan = Plan::read(&Source { name: SCENARIO, text: &self.scenario }, &[]).ok()?;
        Some(plan.trials.len())
    }
}

fn text(folder: &Path, name: &str) -> Result<String, ReadError> {
    let path = folder.join(name);
    fs::read_to_string(&path).map_err(|error| ReadError::File { path, error })
}

fn content(folder: &Path, name: &str, line: usize, error: serde_json::Error) -> ReadError {
    ReadError::Content { path: folder.join(name), line, error }
}
