//! Options of `listenbench doctor`.

use clap::Args;

/// `listenbench doctor`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  listenbench doctor\n  listenbench doctor --json | jq '.[] | select(.status != \"ok\")'\n  \
                        sudo listenbench doctor    what root could do\n\nExit codes: 0 all is available, 3 something is limited or missing, 1 the default run needs \
                        what is missing"
)]
pub struct Doctor {
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}
