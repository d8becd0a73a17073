//! `listenbench completions`: completion scripts for shells.

use anyhow::Result;
use clap::{CommandFactory, builder::PossibleValuesParser};
use clap_complete::{Shell, generate};

use super::{Ended, say, sources};
use crate::cli;

/// Commands and their arguments that take scenarios.
const SCENARIOS: [(&str, &str); 3] = [("run", "scenarios"), ("serve", "scenario"), ("load", "scenario")];

/// Runs the command.
pub fn run(options: &cli::Completions) -> Result<Ended> {
    say(script(options.shell).trim_end())?;
    Ok(Ended::Done)
}

fn script(shell: Shell) -> String {
    let mut command = cli::Cli::command();
    if shell == Shell::Bash {
        // Bash falls back to file names if no listed value matches. Other shells would offer only the listed values, but a
        // scenario may be any file.
        for (name, argument) in SCENARIOS {
            let names = PossibleValuesParser::new(sources::built_in());
            command = command.mut_subcommand(name, |command| command.mut_arg(argument, |arg| arg.value_parser(names)));
        }
    }
    let mut script = Vec::new();
    generate(shell, &mut command, "listenbench", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_has_every_command() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for command in cli::Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }

    #[test]
    fn bash_knows_the_built_in_scenarios() {
        let script = script(Shell::Bash);
        for name in sources::built_in() {
            assert!(script.matches(&format!(" {name}")).count() >= SCENARIOS.len(), "{name}");
        }
    }
}
