//! The server under test.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SubjectKind;

/// What a trial's connections were accepted by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// What kind of server it is.
    pub kind: SubjectKind,
    /// Its name.
    pub name: String,
    /// The command that started it; `null` of listenbench's own workers.
    pub command: Option<String>,
    /// Its version.
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
