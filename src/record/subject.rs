//! The server under test.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Exit, SubjectKind};

/// The subject: the server that accepted a trial's connections.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// Whether it is listenbench's own server or the user's.
    pub kind: SubjectKind,
    /// Name of the server.
    pub name: String,
    /// The command that started it; `null` for listenbench's own workers.
    pub command: Option<String>,
    /// Version of the server.
    pub version: Option<String>,
    /// The file in the record that keeps what the server printed; `null` if it printed nothing, or nobody could see it.
    pub output: Option<String>,
    /// When nobody listened on its address any more, in seconds from the trial's start; `null` if it listened until the load was over.
    pub ended_after_s: Option<f64>,
    /// How the process that the trial started ended, if it did so before it was stopped; `null` otherwise.
    pub exit: Option<Exit>,
}

impl Subject {
    /// listenbench's own workers.
    pub fn own() -> Self {
        Self {
            kind: SubjectKind::Own,
            name: env!("CARGO_PKG_NAME").to_owned(),
            command: None,
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            output: None,
            ended_after_s: None,
            exit: None,
        }
    }
}
