//! Reads a record back. Also the names of its files.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value as Json;
use thiserror::Error;

use super::{SCHEMA, TrialRecord};

/// The effective scenario.
pub const SCENARIO: &str = "scenario.toml";
/// The machine it ran on.
pub const HOST: &str = "host.json";
/// The trials, one per line.
pub const TRIALS: &str = "trials.jsonl";
/// Every histogram.
pub const HISTOGRAMS: &str = "histograms.hlog";
/// The files that a run writes; all others are derived from these.
pub const FILES: [&str; 4] = [SCENARIO, HOST, TRIALS, HISTOGRAMS];

/// Why a folder cannot be read as a record.
#[derive(Debug, Error)]
pub enum ReadError {
    /// A file cannot be read.
    #[error("{}: {error}; is this the folder of a run?", path.display())]
    File { path: PathBuf, error: io::Error },
    /// A file does not hold what it should. Lines count from 1.
    #[error("{}, line {line}: {error}; if nothing else is wrong, remove the line", path.display())]
    Content { path: PathBuf, line: usize, error: serde_json::Error },
    /// The record was written by another version of the tool.
    #[error(
        "{}, line {line}: schema {schema} cannot be read, because this version reads only schema {SCHEMA}: \
         repeat the run with its `scenario.toml`, or read it with the version named in its `host.json`",
        path.display()
    )]
    Schema { path: PathBuf, line: usize, schema: u32 },
}

/// The contents of a record's folder.
#[derive(Debug, Default)]
pub struct RawRecord {
    /// `scenario.toml`, not parsed.
    pub scenario: String,
    /// `host.json`.
    pub host: Json,
    /// `trials.jsonl`, in order of execution.
    pub trials: Vec<TrialRecord>,
    /// Whether the last line of `trials.jsonl` was incomplete and left out.
    pub cut_off: bool,
}

impl RawRecord {
    /// Reads a record's folder. Leaves out a last line of `trials.jsonl` that is incomplete because the run was killed.
    pub fn read(folder: &Path) -> Result<Self, ReadError> {
        let host = text(folder, HOST)?;
        let host = serde_json::from_str(&host).map_err(|error| content(folder, HOST, error.line(), error))?;
        // Decides for a record without trials.
        let versioned = Versioned::deserialize(&host).map_err(|error| content(folder, HOST, 1, error))?;
        versioned.check(folder, HOST, 1)?;
        let lines = text(folder, TRIALS)?;
        let complete = lines.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let trials = complete.enumerate().map(|(i, line)| trial(folder, i + 1, line)).collect::<Result<_, _>>()?;
        let cut_off = !lines.is_empty() && !lines.ends_with('\n');
        Ok(Self { scenario: text(folder, SCENARIO)?, host, trials, cut_off })
    }
}

fn trial(folder: &Path, line: usize, text: &str) -> Result<TrialRecord, ReadError> {
    let damaged = |error| content(folder, TRIALS, line, error);
    serde_json::from_str::<Versioned>(text).map_err(damaged)?.check(folder, TRIALS, line)?;
    serde_json::from_str(text).map_err(damaged)
}

#[derive(Deserialize)]
struct Versioned {
    schema: u32,
}

impl Versioned {
    fn check(&self, folder: &Path, name: &str, line: usize) -> Result<(), ReadError> {
        match self.schema {
            SCHEMA => Ok(()),
            schema => Err(ReadError::Schema { path: folder.join(name), line, schema }),
        }
    }
}

fn text(folder: &Path, name: &str) -> Result<String, ReadError> {
    let path = folder.join(name);
    fs::read_to_string(&path).map_err(|error| ReadError::File { path, error })
}

fn content(folder: &Path, name: &str, line: usize, error: serde_json::Error) -> ReadError {
    ReadError::Content { path: folder.join(name), line, error }
}
