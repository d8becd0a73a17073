//! How a process ended.

use std::fmt;

use nix::sys::{signal::Signal, wait::WaitStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a process ended: `ok`, `exit status N`, `killed by SIG…`, or a description.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Exit {
    /// It exited with status 0.
    #[default]
    Ok,
    /// It exited with any other status.
    Status(i32),
    /// A signal killed it.
    Killed(Signal),
    /// It hung, or reported an error.
    Other(String),
}

impl Exit {
    /// Whether the process exited by itself and without an error.
    pub fn is_ok(&self) -> bool {
        *self == Self::Ok
    }
}

impl From<nix::Result<WaitStatus>> for Exit {
    fn from(waited: nix::Result<WaitStatus>) -> Self {
        match waited {
            Ok(WaitStatus::Exited(_, 0)) => Self::Ok,
            Ok(WaitStatus::Exited(_, status)) => Self::Status(status),
            Ok(WaitStatus::Signaled(_, signal, _)) => Self::Killed(signal),
            Ok(other) => Self::Other(format!("{other:?}")),
            Err(error) => Self::Other(format!("wait4: {error}")),
        }
    }
}

impl From<String> for Exit {
    fn from(text: String) -> Self {
        let status = || text.strip_prefix("exit status ")?.parse().ok().map(Self::Status);
        let signal = || text.strip_prefix("killed by ")?.parse().ok().map(Self::Killed);
        if text == "ok" { Self::Ok } else { status().or_else(signal).unwrap_or(Self::Other(text)) }
    }
}

impl From<Exit> for String {
    fn from(exit: Exit) -> Self {
        exit.to_string()
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Killed(signal) => write!(f, "killed by {signal}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_round_trip() {
        for (exit, name) in [
            (Exit::Ok, "ok"),
            (Exit::Status(101), "exit status 101"),
            (Exit::Killed(Signal::SIGKILL), "killed by SIGKILL"),
            (
                Exit::Other("did not stop within 10s: killed by SIGKILL".to_owned()),
                "did not stop within 10s: killed by SIGKILL",
            ),
        ] {
            assert_eq!(serde_json::to_value(&exit).unwrap(), name);
            assert_eq!(serde_json::from_value::<Exit>(name.into()).unwrap(), exit);
        }
    }
}
