//! Options of `listenbench completions`.

use clap::Args;
use clap_complete::Shell;

/// `listenbench completions`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  source <(listenbench completions bash)    for the current bash session\n  \
                        listenbench completions bash > ~/.local/share/bash-completion/completions/listenbench\n  \
                        listenbench completions fish > ~/.config/fish/completions/listenbench.fish\n  \
                        listenbench completions zsh > ~/.zfunc/_listenbench    if ~/.zfunc is in $fpath")]
pub struct Completions {
    /// Shell to generate the script for
    pub shell: Shell,
}
