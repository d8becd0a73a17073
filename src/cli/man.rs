//! Options of `listenbench man`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// `listenbench man`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  listenbench man | man -l -         read listenbench's page\n  \
                        listenbench man run | man -l -     read the page of one command\n  \
                        listenbench man scenario | man -l -    read about every key of a scenario\n  \
                        listenbench man --dir ~/.local/share/man")]
pub struct Man {
    /// Print the page of this command, or of the format `scenario`, instead of listenbench's own
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
    /// Write all pages below this folder: those of commands to man1, that of the format to man5
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "command")]
    pub dir: Option<PathBuf>,
}
