//! Options of `listenbench report`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// `listenbench report`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  listenbench report results/20260131T120000Z-quick")]
pub struct Report {
    /// Folders of records
    #[arg(value_name = "DIR", required = true, value_hint = ValueHint::DirPath)]
    pub records: Vec<PathBuf>,
}
