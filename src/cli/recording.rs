//! How trials run and are recorded: the options that `run` and `load` share.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::{Overrides, Shorthands};

/// How to run trials and record them.
#[derive(Debug, Args)]
#[command(mut_arg("set", |set| set.help(
    "Override a value of the scenario, e.g. load.requests=4; a list such as [1, 2] sweeps the key, and an empty value restores the default"
)))]
pub struct Recording {
    /// Folder for the record, or for one folder per scenario if there are several [default: `results/TIME-SCENARIO`]
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// List the trials in order without running them, after all checks that a run would make of this machine; with --quiet, only check
    #[arg(short = 'n', long, visible_alias = "list")]
    pub dry_run: bool,
    /// Run even if the load needs more ports, memory or open files of the whole machine than there are; what one process may open
    /// (`ulimit -n`) decides how many loaders there are, and is not ignored
    #[arg(long)]
    pub force: bool,
    /// Allow a running server to which packets leave this machine; get its owner's consent first. Multicast and broadcast addresses
    /// are always refused
    #[arg(long)]
    pub allow_remote: bool,
    /// Add the overhead measured by `calibrate --out` to the record; it must come from this machine, kernel and build
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub calibration: Option<PathBuf>,
    /// How to show progress
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Progress::Auto)]
    pub progress: Progress,
    /// Print only errors, and on standard output each record's folder, or what --json prints
    #[arg(short, long, conflicts_with = "progress")]
    pub quiet: bool,
    /// Print a JSON object per line instead of the report: each trial as it ends, at last each record's summary
    /// (results/run.schema.json)
    #[arg(long, conflicts_with = "dry_run")]
    pub json: bool,
    /// Say why: how loaders and workers were sized, what was fallen back to, what each trial waits for, and what it took
    #[arg(short, long, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Short forms of --set.
    #[command(flatten)]
    pub shorthands: Shorthands,
    /// Values that override the scenario's.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// How to show a run's progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// A full-screen view if standard input and standard error are a terminal of at least 80×24 (q quits and keeps finished
    /// trials), plain lines otherwise
    Auto,
    /// One line per trial, plus a line for every problem
    Plain,
}
