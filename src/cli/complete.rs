//! Options of the command that completion scripts call.

use clap::Args;

/// `listenbench complete`
#[derive(Debug, Args)]
pub struct Complete {
    /// The command line up to the cursor, as it was typed
    #[arg(long, allow_hyphen_values = true, conflicts_with = "words")]
    pub line: Option<String>,
    /// Its words, the one at the cursor last
    #[arg(last = true)]
    pub words: Vec<String>,
}
