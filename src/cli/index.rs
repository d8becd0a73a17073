//! Options of `listenbench index`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// `listenbench index`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  listenbench index results    writes results/index.html\n\nA change is claimed where a permutation test over at \
                  least four runs on either side shows one, after Holm's correction over all of the page. Links within the \
                  folder are not followed.\n\nExit codes: 3 if a record is damaged or cannot be read; the page names it."
)]
pub struct Index {
    /// Folder with records in it, at any depth up to six
    #[arg(value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub folder: PathBuf,
}
