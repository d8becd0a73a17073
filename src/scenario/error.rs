//! Errors in scenarios.

use std::{collections::HashSet, fmt, sync::Arc};

use thiserror::Error;

/// Everything wrong with a scenario, one problem per line. The user can fix it, so commands exit with 2.
#[derive(Debug, Error)]
pub struct ScenarioError {
    /// The file, or the built-in scenario's name.
    source_name: String,
    /// In the order of the file; problems of overrides come last.
    problems: Vec<Problem>,
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
        Self { origin, text: text.to_string().chars().map(one_line).collect() }
    }
}

impl ScenarioError {
    /// A problem with the scenario as a whole.
    pub fn other(source_name: &str, problem: impl fmt::Display) -> Self {
        Self::of(source_name, vec![Problem::new(Origin::File, problem)])
    }

    /// All problems, without duplicates.
    pub(super) fn of(source_name: &str, mut problems: Vec<Problem>) -> Self {
        let mut seen = HashSet::new();
        problems.retain(|problem| seen.insert(problem.clone()));
        problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        Self { source_name: source_name.to_owned(), problems }
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
                Origin::Override(given) => write!(f, "--set {given}: {text}")?,
            }
        }
        Ok(())
    }
}
