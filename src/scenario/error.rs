//! What is wrong with a scenario.

use std::{collections::HashSet, fmt, sync::Arc};

use thiserror::Error;

/// A scenario that cannot be run as written: everything that is wrong with it, one line each. The user can mend it, so
/// commands exit with 2.
#[derive(Debug, Error)]
pub struct ScenarioError {
    /// The file, or the built-in scenario's name.
    source_name: String,
    /// In the order of the file; what overrides got wrong comes last.
    problems: Vec<Problem>,
}

/// Where something stands in a scenario.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Origin {
    /// On a line of the file, counted from 1.
    Line(usize),
    /// In the file as a whole.
    File,
    /// In an override, as it was given.
    Override(Arc<str>),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Problem {
    pub origin: Origin,
    /// Key, problem and remedy, on one line.
    pub text: String,
}

impl Problem {
    pub(super) fn new(origin: Origin, text: impl fmt::Display) -> Self {
        // A key or value may be quoted that has line breaks.
        let one_line = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        Self { origin, text: text.to_string().chars().map(one_line).collect() }
    }
}

impl ScenarioError {
    /// Something that is wrong with the scenario as a whole.
    pub fn other(source_name: &str, problem: impl fmt::Display) -> Self {
        Self::of(source_name, vec![Problem::new(Origin::File, problem)])
    }

    /// Everything that is wrong, each problem once.
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
