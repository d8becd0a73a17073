//! Reads a record back, and names its files.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value as Json;
use thiserror::Error;

use super::{SCHEMA, TrialRecord};

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
    /// It was written by another version of the tool.
    #[error(
        "{}, line {line}: schema {schema}, and this version reads schema {SCHEMA} only: \
         repeat the run with its `scenario.toml`, or read it with the version named in its `host.json`",
        path.display()
    )]
    Schema {
        /// Which.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Its schema.
        schema: u32,
    },
}

/// What a run left in its folder, the scenario as text.
#[derive(Debug, Default)]
pub struct RawRecord {
    /// `scenario.toml`.
    pub scenario: String,
    /// `host.json`.
    pub host: Json,
    /// `trials.jsonl`, in the order of execution.
    pub trials: Vec<TrialRecord>,
    /// Whether its last line had no end and is left out.
    pub cut_off: bool,
}

impl RawRecord {
    /// Reads a record's folder. A last line of `trials.jsonl` that was cut off, as by a kill, is left out.
    pub fn read(folder: &Path) -> Result<Self, ReadError> {
        let host = text(folder, HOST)?;
        let host = serde_json::from_str(&host).map_err(|error| content(folder, HOST, error.line(), error))?;
        let lines = text(folder, TRIALS)?;
        let complete = lines.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let trials = complete.enumerate().map(|(i, line)| trial(folder, i + 1, line)).collect::<Result<_, _>>()?;
        let cut_off = !lines.is_empty() && !lines.ends_with('\n');
        Ok(Self { scenario: text(folder, SCENARIO)?, host, trials, cut_off })
    }
}

fn trial(folder: &Path, line: usize, text: &str) -> Result<TrialRecord, ReadError> {
    #[derive(Deserialize)]
    struct Versioned {
        schema: u32,
    }
    let damaged = |error| content(folder, TRIALS, line, error);
    match serde_json::from_str(text).map_err(damaged)? {
        Versioned { schema: SCHEMA } => serde_json::from_str(text).map_err(damaged),
        Versioned { schema } => Err(ReadError::Schema { path: folder.join(TRIALS), line, schema }),
    }
}

fn text(folder: &Path, name: &str) -> Result<String, ReadError> {
    let path = folder.join(name);
    fs::read_to_string(&path).map_err(|error| ReadError::File { path, error })
}

fn content(folder: &Path, name: &str, line: usize, error: serde_json::Error) -> ReadError {
    ReadError::Content { path: folder.join(name), line, error }
}
