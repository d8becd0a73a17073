//! `listenbench completions`: completion scripts for shells.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::{Ended, say};
use crate::cli;

/// Runs the command.
pub fn run(options: &cli::Completions) -> Result<Ended> {
    say(script(options.shell).trim_end())?;
    Ok(Ended::Done)
}

/// In these shells the script asks listenbench itself what can stand at the cursor; in others, it knows the commands and options.
fn script(shell: Shell) -> String {
    match shell {
        Shell::Bash => include_str!("completions/listenbench.bash").to_owned(),
        Shell::Zsh => include_str!("completions/listenbench.zsh").to_owned(),
        Shell::Fish => include_str!("completions/listenbench.fish").to_owned(),
        shell => {
            let mut script = Vec::new();
            generate(shell, &mut cli::Cli::command(), "listenbench", &mut script);
            String::from_utf8_lossy(&script).into_owned()
        }
    }
}
