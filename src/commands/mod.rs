//! The commands, one file each.

pub mod calibrate;
mod capacity;
pub mod compare;
pub mod complete;
pub mod completions;
pub mod doctor;
pub mod explain;
pub mod index;
pub mod list;
pub mod load;
pub mod man;
pub mod new;
pub mod observe;
mod output;
pub mod ports;
pub mod report;
pub mod run;
#[cfg(test)]
mod schemas;
pub mod serve;
mod shorthands;
pub mod show;
mod sources;
pub mod trace;

#[cfg(any(test, fuzzing))]
pub use sources::built_in_text;

use std::{
    fmt::Display,
    fs::{self, DirEntry},
    io::{BufWriter, ErrorKind, IsTerminal, Write, stderr, stdout},
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::{Context, Result};
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use thiserror::Error;

use crate::{
    format::{harmless, harmless_json},
    ipc::family::Cut,
    json,
    record::RecordExists,
    scenario::ScenarioError,
    suggest,
    sys::{folder::Folder, signals},
};

/// How a command ended, if it could run at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Completed.
    Done,
    /// Completed, but at least one trial is invalid or failed.
    Flawed,
    /// Completed, but a condition could be decided neither way.
    Undecided,
    /// Interrupted by a signal; finished trials are kept.
    Interrupted,
}

/// The command line asks for something that makes no sense.
#[derive(Debug, Error)]
#[error("{0}")]
struct Usage(String);

/// Whether the user has to fix the scenario or the command line (exit code 2).
pub fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<Usage>() || cause.is::<ScenarioError>() || cause.is::<RecordExists>())
}

/// Whether an error says that the user interrupted the command.
pub fn is_interrupt(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref() == Some(&Cut::Interrupted))
}

/// Opens the folder of a record that the user names.
fn folder(path: &Path) -> Result<Folder> {
    folder_to_be(path, "the folder of a run")
}

/// Opens a folder that the user names, which is to be what the words say.
fn folder_to_be(path: &Path, what: &str) -> Result<Folder> {
    Folder::open(path).with_context(|| {
        let folders = beside(path, |entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let meant = meant(&path.to_string_lossy(), folders.iter().map(String::as_str));
        format!("{}, which is to be {what}{meant}", path.display())
    })
}

/// At most so many entries of a folder are looked at for what a misspelt path may have meant.
const LOOKED_AT: usize = 10_000;

/// The paths of what is in the folder of `path`, as the user would write them.
fn beside(path: &Path, wanted: impl Fn(&DirEntry) -> bool) -> Vec<String> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let here = if folder == Path::new("") { Path::new(".") } else { folder };
    let entries = fs::read_dir(here).into_iter().flatten().take(LOOKED_AT).filter_map(Result::ok);
    let mut paths: Vec<String> = entries
        .filter(|entry| wanted(entry))
        .map(|entry| folder.join(entry.file_name()).to_string_lossy().into_owned())
        .collect();
    paths.sort_unstable();
    paths
}

/// The paths that a misspelt one may have meant, as the end of a sentence. Their last parts are compared: folders make all alike.
fn meant<'a>(path: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let name =
        |path: &str| Path::new(path).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let similar = suggest::similar_by(|known| suggest::similarity(&name(path), &name(known)), known);
    suggest::did_you_mean(&similar, |path| format!("\"{path}\""))
}

/// Whether standard output is a terminal.
fn prints_to_terminal() -> bool {
    stdout().is_terminal()
}

/// Prints a line to standard output, as text: it may have parts from anywhere.
fn say(line: impl Display) -> Result<()> {
    print(&harmless(&line.to_string()))
}

/// Prints lines as [`say`] does, many at a time.
fn say_all(lines: impl IntoIterator<Item = impl Display>) -> Result<()> {
    print_all(lines.into_iter().map(|line| harmless(&line.to_string()).into_owned()))
}

/// Prints a value to standard output, as JSON on one line, or on several.
fn say_json(value: &impl Serialize, lines: Lines) -> Result<()> {
    let json = match lines {
        Lines::One => json::line(value)?,
        Lines::Several => json::lines(value)?,
    };
    print(&harmless_json(&json))
}

/// How JSON is printed.
#[derive(Debug, Clone, Copy)]
enum Lines {
    One,
    Several,
}

/// A closed pipe (`| head`) is not an error.
fn print(line: &str) -> Result<()> {
    print_all([line])
}

/// The same for many lines, a block of them at a time.
fn print_all(lines: impl IntoIterator<Item = impl AsRef<str>>) -> Result<()> {
    let mut out = BufWriter::new(stdout().lock());
    match lines.into_iter().try_for_each(|line| writeln!(out, "{}", line.as_ref())).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("writing to standard output"),
    }
}

/// Demands what every command needs that looks at this machine.
pub fn demand_proc() -> Result<()> {
    let itself = "/proc/self/stat";
    std::fs::metadata(itself)
        .with_context(|| format!("{itself}: nothing can be learned of this machine: mount -t proc proc /proc"))?;
    Ok(())
}

/// Prints a line to standard error, at once: a launcher mixes the output of its processes. Failures are ignored: a closed terminal must
/// not end a run.
pub fn note(line: impl Display) {
    let _ = stderr().write_all(format!("{}\n", harmless(&line.to_string())).as_bytes());
}

/// The exit code of a command that was interrupted.
const INTERRUPTED: i32 = 130;

/// A flag set by SIGINT, SIGTERM and SIGHUP, except those ignored when the program started: its caller wants it to
/// continue. A second signal ends the program at once.
fn interrupt_flag() -> Result<Arc<AtomicBool>> {
    signals::interrupt_flag(&[SIGHUP, SIGINT, SIGTERM], INTERRUPTED).context("installing a signal handler")
}
