//! Options of `listenbench list`.

use clap::Args;

/// `listenbench list`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  listenbench list\n  \
                        listenbench list --json | jq -r '.[] | select(.requires == []) | .name'\n\n\
                        Times are those of the plan: warm-ups, windows and holds of all trials, without what servers take to start and \
                        ports to recover. How long it takes to fill ports, or to open connections without a schedule, only this machine decides.")]
pub struct List {
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}
