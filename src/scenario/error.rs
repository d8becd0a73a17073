//! What can be wrong with a scenario.

use thiserror::Error;

/// A scenario that cannot be run as written. Always the user's to mend, so commands exit with 2.
#[derive(Debug, Error)]
#[error("{source_name}: {problem}")]
pub struct ScenarioError {
    /// The file, `--set` or the embedded scenario's name.
    pub source_name: String,
    /// Key, problem and remedy.
    pub problem: String,
}

impl ScenarioError {
    pub(crate) fn new(source_name: &str, problem: impl Into<String>) -> Self {
        Self { source_name: source_name.to_owned(), problem: problem.into() }
    }
}
