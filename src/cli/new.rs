//! Options of `listenbench new`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::Target;

/// `listenbench new`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  listenbench new mine.toml && listenbench run mine.toml --dry-run\n  \
                        listenbench new my-nginx.toml --for command\n  \
                        listenbench new site.toml --for running --at http://127.0.0.1:8080/\n  \
                        listenbench new | less")]
pub struct New {
    /// File to write; an existing one is left alone [default: -, which prints the scenario]
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// The server that the scenario is about
    #[arg(long = "for", value_enum, value_name = "SERVER", default_value_t = Whose::Own)]
    pub whose: Whose,
    /// Where the running server listens: a URL, HOST:PORT, or a port of this machine
    #[arg(long, value_name = "TARGET", required_if_eq("whose", "running"))]
    pub at: Option<Target>,
}

/// The server that a scenario is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Whose {
    /// listenbench's own, to compare strategies
    Own,
    /// A program that each trial starts: nginx with two configurations, to be replaced by any other
    Command,
    /// A server that is already running
    Running,
}
