//! From arguments to options. What is wrong with them is said with help that helps.

use std::ffi::OsString;

use clap::{
    ColorChoice, Command, CommandFactory, Error, FromArgMatches, ValueEnum,
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::Cli;

impl Cli {
    /// Reads a command line, the program's name first. The error may be help that was asked for.
    pub fn read(arguments: &[OsString]) -> Result<Self, Error> {
        // Help and errors are printed in colour or not, and the options are not known by then.
        let mut command = Self::command().color(asked(arguments));
        let matches = command.try_get_matches_from_mut(arguments);
        let matches = matches.map_err(|error| with_help(error, &command))?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }
}

/// What `--color` says, if it says something.
fn asked(arguments: &[OsString]) -> ColorChoice {
    let options = arguments.iter().take_while(|argument| *argument != "--").map(|argument| argument.to_string_lossy());
    let mut asked = ColorChoice::Auto;
    let mut follows = false;
    for option in options {
        let value = if follows { Some(&*option) } else { option.strip_prefix("--color=") };
        asked = value.and_then(|value| ColorChoice::from_str(value, false).ok()).unwrap_or(asked);
        follows = option == "--color";
    }
    asked
}

/// Names the commands that have an unknown option, in place of clap's advice to write `-- OPTION`: no command takes such a value.
fn with_help(mut error: Error, command: &Command) -> Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let mut tips = match error.remove(ContextKind::Suggested) {
        Some(ContextValue::StyledStrs(tips)) => tips,
        _ => Vec::new(),
    };
    tips.retain(|tip| !tip.to_string().contains("as a value, use"));
    if let (true, Some(ContextValue::String(unknown))) = (tips.is_empty(), error.get(ContextKind::InvalidArg)) {
        let having = command.get_subcommands().filter(|one| has(one, unknown)).map(Command::get_name);
        let having: Vec<String> = having.map(|name| format!("`listenbench {name}`")).collect();
        if !having.is_empty() {
            tips.push(StyledStr::from(format!("'{unknown}' is an option of {}", having.join(", "))));
        }
    }
    if !tips.is_empty() {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

fn has(command: &Command, option: &str) -> bool {
    let long = option.strip_prefix("--").map(|long| long.split('=').next().unwrap_or(long));
    let short = option.strip_prefix('-').and_then(|rest| rest.chars().next()).filter(|_| long.is_none());
    command.get_arguments().any(|argument| {
        let longs = argument.get_long_and_visible_aliases().unwrap_or_default();
        long.is_some_and(|long| longs.contains(&long)) || short.is_some() && argument.get_short() == short
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &str) -> Result<Cli, Error> {
        let all: Vec<OsString> = arguments.split_whitespace().map(OsString::from).collect();
        Cli::read(&all)
    }

    #[test]
    fn colours_are_asked_for_before_anything_is_printed() {
        for (arguments, expected) in [
            ("l run", ColorChoice::Auto),
            ("l --color always run", ColorChoice::Always),
            ("l run --color=never", ColorChoice::Never),
            ("l run --color=never --color always", ColorChoice::Always),
            ("l run --color=pink", ColorChoice::Auto),
            ("l run -- --color=never", ColorChoice::Auto),
        ] {
            let all: Vec<OsString> = arguments.split(' ').map(OsString::from).collect();
            assert_eq!(asked(&all), expected, "{arguments}");
        }
    }

    #[test]
    fn an_unknown_option_is_explained() {
        for (arguments, tip) in [
            ("listenbench serve quick -o x", Some("'-o' is an option of `listenbench run`, `listenbench load`")),
            ("listenbench load 80 --workers 4", Some("'--workers' is an option of `listenbench run`")),
            ("listenbench load 80 --workers=4", Some("'--workers' is an option of `listenbench run`")),
            ("listenbench run --ouf x", Some("'--out'")),
            ("listenbench run -z", None),
            ("listenbench run --zzzz", None),
            ("listenbench ports --list", Some("'--list' is an option of `listenbench run`")),
        ] {
            let error = read(arguments).unwrap_err();
            let text = error.render().to_string();
            assert!(error.exit_code() == 2 && !text.contains("as a value"), "{text}");
            assert_eq!(text.contains("tip: "), tip.is_some(), "{text}");
            assert!(tip.is_none_or(|tip| text.contains(tip)) && text.contains("Usage:"), "{text}");
        }
    }
}
