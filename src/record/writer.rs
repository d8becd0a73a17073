//! Writes a record, a line per trial as it ends, so that what was measured survives whatever comes after.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use hdrhistogram::{
    Histogram,
    serialization::{
        V2DeflateSerializer,
        interval_log::{IntervalLogWriterBuilder, Tag},
    },
};
use serde::Serialize;
use thiserror::Error;

use super::{TrialRecord, reader};

/// The folder already holds a record.
#[derive(Debug, Error)]
#[error(
    "{} already holds a record ({found}), and records are never overwritten: choose another folder with --out",
    folder.display()
)]
pub struct RecordExists {
    folder: PathBuf,
    found: String,
}

/// A record being written.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    trials: File,
    histograms: File,
    began: SystemTime,
}

impl Writer {
    /// Fails if a folder holds any part of a record, `derived` files included.
    pub fn check(folder: &Path, derived: impl Iterator<Item = &'static str>) -> Result<()> {
        match reader::FILES.into_iter().chain(derived).find(|name| folder.join(name).exists()) {
            Some(found) => bail!(RecordExists { folder: folder.to_owned(), found: found.to_owned() }),
            None => Ok(()),
        }
    }

    /// Creates a record's folder if it does not exist.
    pub fn make_folder(folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)
            .with_context(|| format!("creating the folder {} (choose another with --out)", folder.display()))
    }

    /// Begins a record in a folder. Fails if the folder holds any part of a record, `derived` files included.
    pub fn create(folder: &Path, derived: impl Iterator<Item = &'static str>, scenario_toml: &str) -> Result<Self> {
        Self::check(folder, derived)?;
        Self::make_folder(folder)?;
        // `create_new` settles a race between two runs with the same folder.
        let trials = create_new(&folder.join(reader::TRIALS))?;
        let mut histograms = create_new(&folder.join(reader::HISTOGRAMS))?;
        let began = SystemTime::now();
        let mut serializer = V2DeflateSerializer::new();
        IntervalLogWriterBuilder::new()
            .add_comment(
                "Logged by listenbench; values in ns; tags t<trial>.w<worker>.<metric>, t<trial>.l<loader>.<metric>",
            )
            .with_start_time(began)
            .with_base_time(began)
            .begin_log_with(&mut histograms, &mut serializer)
            .context("writing the header of the histogram log")?;
        let writer = Self { folder: folder.to_owned(), trials, histograms, began };
        writer.write_text(reader::SCENARIO, scenario_toml)?;
        Ok(writer)
    }

    /// The record's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a trial that has ended: first its histograms, then its line, which completes it.
    pub fn trial(&mut self, record: &TrialRecord, histograms: &BTreeMap<String, Histogram<u64>>) -> Result<()> {
        let mut log = Vec::new();
        for (name, histogram) in histograms.iter().filter(|(_, histogram)| !histogram.is_empty()) {
            let tag = format!("t{}.{name}", record.trial);
            self.interval(&mut log, &tag, record, histogram).with_context(|| format!("encoding {tag}"))?;
        }
        self.histograms.write_all(&log).context("writing the histogram log")?;
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.trials.write_all(&line).and_then(|()| self.trials.flush()).context("writing trials.jsonl")
    }

    fn interval(&self, log: &mut Vec<u8>, tag: &str, record: &TrialRecord, histogram: &Histogram<u64>) -> Result<()> {
        let mut serializer = V2DeflateSerializer::new();
        let mut text = Vec::new();
        // The builder writes a header with every writer, but a log has only one: keep just the histogram's line.
        let mut writer = IntervalLogWriterBuilder::new().begin_log_with(&mut text, &mut serializer)?;
        let started = humantime::parse_rfc3339(&record.started_at).unwrap_or(UNIX_EPOCH);
        let since = started.duration_since(self.began).unwrap_or_default();
        let length = Duration::try_from_secs_f64(record.duration_s).unwrap_or_default();
        let tag = Tag::new(tag).context("a tag may not hold a comma, a space or a line break")?;
        if let Err(error) = writer.write_histogram(histogram, since, length, Some(tag)) {
            bail!("{error:?}");
        }
        let line = text.split_inclusive(|byte| *byte == b'\n').find(|line| line.starts_with(b"Tag="));
        log.extend_from_slice(line.context("the histogram log has no line for it")?);
        Ok(())
    }

    /// Writes a JSON file of the record.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        self.write_text(name, &text)
    }

    /// Writes a text file of the record.
    pub fn write_text(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }
}

/// Writes or replaces a file derived from a record, atomically.
pub fn write_derived(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    let parent = path.parent().unwrap_or(folder);
    let new = path.with_extension("new");
    let written =
        fs::create_dir_all(parent).and_then(|()| fs::write(&new, text)).and_then(|()| fs::rename(&new, &path));
    written.with_context(|| format!("writing {}", path.display()))
}

fn create_new(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => anyhow::Error::new(RecordExists {
            folder: path.parent().unwrap_or(path).to_owned(),
            found: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        }),
        _ => anyhow::Error::new(error).context(format!("creating {}", path.display())),
    })
}
