//! A command line that is still being typed: the words before the cursor, and what can stand there.

use clap::{Arg, ArgAction, Command};

/// Splits a line into words as a shell would. A quotation mark may still be open.
pub(super) fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = Some(String::new());
    let (mut quote, mut chars) = (None, line.chars());
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.push(word.unwrap_or_default());
    words
}

/// What stands at the cursor.
pub(super) enum Place<'a> {
    /// The name of a command.
    Command(&'a Command),
    /// An option of a command.
    Option(&'a Command),
    /// The value of an argument, and what precedes it in the same word.
    Value(&'a Arg, String),
    Nothing,
}

/// The place of the last word, the program's name being the first.
pub(super) fn place<'a>(main: &'a Command, words: &[String]) -> Place<'a> {
    let Some((last, before)) = words.split_last() else { return Place::Nothing };
    let (mut command, mut positionals, mut escaped, mut waiting) = (main, 0, false, None);
    for word in before.iter().skip(1) {
        if waiting.take().is_some() {
            continue;
        }
        if escaped {
            positionals += 1;
        } else if word == "--" {
            (escaped, positionals) = (true, 0);
        } else if let Some((option, value)) = option(command, word) {
            waiting = value.is_none().then_some(option).filter(|option| takes_value(option));
        } else if !word.starts_with('-') {
            match command.find_subcommand(word) {
                Some(found) => (command, positionals) = (found, 0),
                None => positionals += 1,
            }
        }
    }
    if let Some(option) = waiting {
        return Place::Value(option, String::new());
    }
    match option(command, last) {
        _ if escaped => {}
        Some((option, Some(value))) if takes_value(option) => {
            return Place::Value(option, last[..last.len() - value.len()].to_owned());
        }
        _ if last.starts_with('-') => return Place::Option(command),
        _ => {}
    }
    if command.has_subcommands() {
        return Place::Command(command);
    }
    let all = command.get_positionals().filter(|argument| argument.is_last_set() == (escaped && has_last(command)));
    let all: Vec<&Arg> = all.collect();
    let several = |argument: &Arg| argument.get_num_args().is_some_and(|count| count.max_values() > 1);
    let argument = all.get(positionals).or(all.last().filter(|argument| several(argument)));
    argument.map_or(Place::Nothing, |argument| Place::Value(argument, String::new()))
}

fn has_last(command: &Command) -> bool {
    command.get_positionals().any(Arg::is_last_set)
}

fn takes_value(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Set | ArgAction::Append)
}

/// The option that a word is, and the value in the same word.
fn option<'a, 'w>(command: &'a Command, word: &'w str) -> Option<(&'a Arg, Option<&'w str>)> {
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        let has = |argument: &&Arg| argument.get_long_and_visible_aliases().is_some_and(|all| all.contains(&name));
        return Some((command.get_arguments().find(has)?, value));
    }
    let short = word.strip_prefix('-')?;
    let name = short.chars().next()?;
    let argument = command.get_arguments().find(|argument| argument.get_short() == Some(name))?;
    let value = &short[name.len_utf8()..];
    Some((argument, Some(value).filter(|value| !value.is_empty())))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn lines_are_split_as_shells_do() {
        for (line, expected) in [
            ("listenbench ", &["listenbench", ""][..]),
            ("listenbench run", &["listenbench", "run"]),
            ("a  b\tc", &["a", "b", "c"]),
            ("a 'b c' \"d e", &["a", "b c", "d e"]),
            ("a b\\ c 'd\\", &["a", "b c", "d\\"]),
            ("a '' x=\"y z\"", &["a", "", "x=y z"]),
            ("a b\\", &["a", "b"]),
            ("", &[""]),
        ] {
            assert_eq!(split(line), expected, "{line:?}");
        }
    }

    #[test]
    fn every_place_is_found() {
        let mut main = Cli::command();
        main.build();
        let at = |line: &str| match place(&main, &split(line)) {
            Place::Command(_) => "command".to_owned(),
            Place::Option(command) => format!("option of {}", command.get_name()),
            Place::Value(argument, before) => format!("{} {before}", argument.get_id()),
            Place::Nothing => "nothing".to_owned(),
        };
        for (line, expected) in [
            ("listenbench r", "command"),
            ("listenbench --color never r", "command"),
            ("listenbench run ", "scenarios "),
            ("listenbench run quick tail ", "scenarios "),
            ("listenbench run --ou", "option of run"),
            ("listenbench run --out ", "out "),
            ("listenbench run --out=x", "out --out="),
            ("listenbench run -o ", "out "),
            ("listenbench run -sload.ra", "set -s"),
            ("listenbench run --quiet qu", "scenarios "),
            ("listenbench run --set load.rate=5 -s ser", "set "),
            ("listenbench compare a b", "base "),
            ("listenbench compare a --metric ", "metrics "),
            ("listenbench compare a -- b", "new "),
            ("listenbench compare a -- b --x", "new "),
            ("listenbench doctor x", "nothing"),
            ("listenbench man r", "command "),
            ("listenbench man run x", "nothing"),
        ] {
            assert_eq!(at(line), expected, "{line:?}");
        }
    }
}
