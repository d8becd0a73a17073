//! The server under test.

use std::{fmt, net::SocketAddr};

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
    /// What the listeners of listenbench's own server were bound to, in order; absent of another's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound: Vec<Bound>,
}

/// What listeners were bound to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Bound {
    /// Address and port.
    pub address: String,
    /// Whether listeners on every address of IPv6 left IPv4 alone; absent of other addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6only: Option<bool>,
    /// The network device at which packets had to arrive; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

impl Bound {
    /// Whether it stands for every address of its family.
    pub fn is_wildcard(&self) -> bool {
        self.address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_unspecified())
    }
}

/// `[::]:7000 (IPv4 too) on lo`.
impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)?;
        match self.v6only {
            Some(true) => f.write_str(" (IPv6 only)")?,
            Some(false) => f.write_str(" (IPv4 too)")?,
            None => {}
        }
        self.device.iter().try_for_each(|device| write!(f, " on {device}"))
    }
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
            bound: Vec::new(),
        }
    }
}
