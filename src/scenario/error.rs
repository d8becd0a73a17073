//! Errors in scenarios.

use std::{borrow::Cow, collections::HashSet, fmt, path::Path, sync::Arc};

use thiserror::Error;

use super::limits;
use crate::format::plural;

/// Everything wrong with a scenario, one problem per line. The user can fix it, so commands exit with 2.
#[derive(Debug, Error)]
pub struct ScenarioError {
    /// The file, or the built-in scenario's name.
    source_name: String,
    /// In the order of the file; problems of overrides come last.
    problems: Vec<Problem>,
    /// How many more there are.
    others: usize,
}

/// The place of a setting in a scenario.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Origin {
    /// A line of the file, counted from 1.
    Line(usize),
    /// The file as a whole.
    File,
    /// An override, as given.
    Override(Arc<str>),
    /// Words of the command line that stand for an override.
    Words(Arc<str>),
}

impl Origin {
    /// Whether it is in the scenario's file.
    pub(super) fn is_of_file(&self) -> bool {
        matches!(self, Self::Line(_) | Self::File)
    }

    /// The folder that a file named there is relative to: the scenario's, or the working directory for an override.
    pub(super) fn folder<'a>(&self, source: &'a str) -> &'a Path {
        match self {
            Self::Override(_) | Self::Words(_) => Path::new(""),
            Self::Line(_) | Self::File => Path::new(source).parent().unwrap_or(Path::new("")),
        }
    }
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Problem {
    pub origin: Origin,
    /// Key, problem and remedy, on one line.
    pub text: String,
}

impl Problem {
    pub(super) fn new(origin: Origin, text: impl fmt::Display) -> Self {
        // A quoted key or value may contain line breaks.
        let one_line = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        let mut text: String = text.to_string().chars().map(one_line).collect();
        if matches!(origin, Origin::Override(_)) {
            // Only TOML asks for quotation marks.
            text = text.replacen(" in quotes, ", ", ", 1);
        }
        Self { origin, text }
    }
}

impl ScenarioError {
    /// A problem with the scenario as a whole.
    pub fn other(source_name: &str, problem: impl fmt::Display) -> Self {
        Self::of(source_name, vec![Problem::new(Origin::File, problem)])
    }

    /// The same, where the user has typed other words than an override: those that `words` finds for it.
    pub fn named_as_typed(mut self, words: impl Fn(&str) -> Option<String>) -> Self {
        for problem in &mut self.problems {
            if let Origin::Override(given) = &problem.origin
                && let Some(words) = words(given)
            {
                problem.origin = Origin::Words(words.into());
            }
        }
        self
    }

    /// All problems, without duplicates.
    pub(super) fn of(source_name: &str, mut problems: Vec<Problem>) -> Self {
        let mut seen = HashSet::new();
        problems.retain(|problem| seen.insert(problem.clone()));
        problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        let others = problems.len().saturating_sub(limits::PROBLEMS);
        problems.truncate(limits::PROBLEMS);
        Self { source_name: source_name.to_owned(), problems, others }
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Problem { origin, text }) in self.problems.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            match origin {
                Origin::Line(line) => write!(f, "{}:{line}: {text}", self.source_name)?,
                Origin::File => write!(f, "{}: {text}", self.source_name)?,
                Origin::Override(given) => write!(f, "--set {}: {text}", beginning(given))?,
                Origin::Words(given) => write!(f, "{}: {text}", beginning(given))?,
            }
        }
        if self.others > 0 {
            write!(f, "\n{}: {}", self.source_name, plural(self.others, "more problem"))?;
        }
        Ok(())
    }
}

/// As much of it as fits into a line.
fn beginning(given: &str) -> Cow<'_, str> {
    match given.char_indices().nth(limits::PATH_CHARACTERS) {
        Some((end, _)) => format!("{}…", &given[..end]).into(),
        None => given.into(),
    }
}
