//! The server under test.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SubjectKind;

/// The subject: the server that accepted a trial's connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// Whether it is listenbench's own server or the user's.
    pub kind: SubjectKind,
    /// Name of the server.
    pub name: String,
    /// The command that started it; `null` for listenbench's own workers.
    pub command: Option<String>,
    /// Version of the server.
    pub version: Option<String>,
}

impl Subject {
    /// listenbench's own workers.
    pub fn own() -> Self {
        Self {
            kind: SubjectKind::Own,
            name: env!("CARGO_PKG_NAME").to_owned(),
            command: None,
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        }
    }
}
