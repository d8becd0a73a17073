//! `listenbench complete`: what can stand at the cursor of a command line. The scripts that `completions` prints call it.
//!
//! It prints the word at the cursor, `files`, `folders` or `none` for the paths that may stand there too, and then a candidate per line: the whole word, and after a tab what it means.

mod line;
mod values;

use anyhow::Result;
use clap::{Command, CommandFactory};

use self::{
    line::Place,
    values::{Candidate, Paths},
};
use super::{Ended, say_all};
use crate::cli;

/// Runs the command.
pub fn run(options: &cli::Complete) -> Result<Ended> {
    let words = options.line.as_ref().map_or_else(|| options.words.clone(), |line| line::split(line));
    let mut main = cli::Cli::command();
    main.build();
    let (candidates, paths) = candidates(&main, &words);
    let paths = match paths {
        Some(Paths::Files) => "files",
        Some(Paths::Folders) => "folders",
        None => "none",
    };
    let word = words.last().cloned().unwrap_or_default();
    let shown = candidates.into_iter().map(|(value, meaning)| {
        let meaning = meaning.lines().next().unwrap_or_default().replace('\t', " ");
        if meaning.is_empty() { value } else { format!("{value}\t{meaning}") }
    });
    say_all([word, paths.to_owned()].into_iter().chain(shown))?;
    Ok(Ended::Done)
}

/// What begins like the last word, and which paths may stand there.
fn candidates(main: &Command, words: &[String]) -> (Vec<Candidate>, Option<Paths>) {
    let last = words.last().map_or("", String::as_str);
    let (mut all, paths) = match line::place(main, words) {
        Place::Nothing => (Vec::new(), None),
        Place::Command(command) => (commands(command), None),
        Place::Option(command) => (options(command), None),
        Place::Value(argument, before) => {
            let values = values::of(main, argument, &last[before.len()..]);
            let values = values.into_iter().map(|(value, meaning)| (format!("{before}{value}"), meaning));
            (values.collect(), values::paths(argument))
        }
    };
    all.retain(|(value, _)| value.starts_with(last));
    (all, paths)
}

fn commands(command: &Command) -> Vec<Candidate> {
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    shown.map(|command| (command.get_name().to_owned(), about(command.get_about()))).collect()
}

fn options(command: &Command) -> Vec<Candidate> {
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let longs = shown.flat_map(|argument| {
        let names = argument.get_long_and_visible_aliases().unwrap_or_default();
        names.into_iter().map(|name| (format!("--{name}"), about(argument.get_help()))).collect::<Vec<_>>()
    });
    longs.collect()
}

fn about(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}
