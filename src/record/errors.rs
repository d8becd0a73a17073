//! Failed connections: at which step they failed, and why.

use std::{collections::BTreeMap, fmt, io};

use nix::errno::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::Display;

/// What a connection, or its process, was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Step {
    /// socket(2) and its options, in a loader.
    Socket,
    /// bind(2) to a source address or port, in a loader.
    Bind,
    /// connect(2), until the connection is established.
    Connect,
    /// Sending a request.
    Send,
    /// Waiting for a reply.
    Receive,
    /// Waiting for the server's close after the last reply.
    Close,
    /// accept(2) and the accepted socket's options, in a worker.
    Accept,
    /// Reading requests and writing replies, in a worker.
    Serve,
}

/// Why it failed: the errno's name, or `EOF`, `BADREPLY`, `HTTP<status>`, `DEADLINE`, `INTERRUPTED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Cause {
    /// The kernel returned an error.
    Errno(i32),
    /// The peer closed the connection before answering.
    EndOfFile,
    /// The bytes are not a reply, or are a reply that belongs to another connection.
    BadReply,
    /// An HTTP status of 400 or above.
    Status(u16),
    /// Still in progress at the trial's deadline.
    Deadline,
    /// Still in progress when the user interrupted the load.
    Interrupted,
}

impl Cause {
    /// Abandoned after one of the scenario's time-outs.
    pub const TIMED_OUT: Self = Self::Errno(libc::ETIMEDOUT);
}

impl From<&io::Error> for Cause {
    fn from(error: &io::Error) -> Self {
        Self::Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(number) => write!(f, "{:?}", Errno::from_raw(*number)),
            Self::EndOfFile => f.write_str("EOF"),
            Self::BadReply => f.write_str("BADREPLY"),
            Self::Status(code) => write!(f, "HTTP{code}"),
            Self::Deadline => f.write_str("DEADLINE"),
            Self::Interrupted => f.write_str("INTERRUPTED"),
        }
    }
}

impl From<Cause> for String {
    fn from(cause: Cause) -> Self {
        cause.to_string()
    }
}

impl TryFrom<String> for Cause {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        /// EHWPOISON. nix maps unknown numbers to 0.
        const LAST_ERRNO: i32 = 133;
        Ok(match name.as_str() {
            "EOF" => Self::EndOfFile,
            "BADREPLY" => Self::BadReply,
            "DEADLINE" => Self::Deadline,
            "INTERRUPTED" => Self::Interrupted,
            _ => {
                let status = name.strip_prefix("HTTP").and_then(|code| code.parse().ok()).map(Self::Status);
                let errno = || (0..=LAST_ERRNO).map(Self::Errno).find(|errno| errno.to_string() == name);
                status.or_else(errno).ok_or_else(|| {
                    format!("unknown cause `{name}`: expected an errno's name, or one of the schema's words")
                })?
            }
        })
    }
}

/// One kind of error and how often it occurred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorCount {
    /// The step that failed.
    pub phase: Step,
    /// Why it failed.
    pub errno: Cause,
    /// How often it failed that way.
    pub count: u64,
}

impl ErrorCount {
    /// Merges errors of the same kind, ordered by phase and errno.
    pub fn merged(errors: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut sums: BTreeMap<(Step, Cause), u64> = BTreeMap::new();
        for error in errors {
            *sums.entry((error.phase, error.errno)).or_default() += error.count;
        }
        sums.into_iter().map(|((phase, errno), count)| Self { phase, errno, count }).collect()
    }
}

impl fmt::Display for ErrorCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ×{}", self.phase, self.errno, self.count)
    }
}

/// Outcomes of the attempts to connect, named as port scanners name them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outcomes {
    /// Established.
    pub open: u64,
    /// Refused with a reset, because nothing listens on the port (ECONNREFUSED).
    pub closed: u64,
    /// No answer within `load.connect_timeout` (ETIMEDOUT).
    pub filtered: u64,
    /// No route to the address (ENETUNREACH, EHOSTUNREACH).
    pub unreachable: u64,
    /// No source port left (EADDRNOTAVAIL; from bind to port 0, EADDRINUSE).
    pub exhausted: u64,
    /// No file descriptor left (EMFILE, ENFILE).
    pub out_of_files: u64,
    /// Still in progress at the trial's deadline, or when the user interrupted the load.
    pub interrupted: u64,
    /// Any other error.
    pub other: u64,
}

impl Outcomes {
    /// Classifies attempts to connect: `established` succeeded, and loaders reported `errors`.
    pub fn of(established: u64, errors: &[ErrorCount]) -> Self {
        let mut outcomes = Self { open: established, ..Self::default() };
        for error in errors.iter().filter(|error| matches!(error.phase, Step::Socket | Step::Bind | Step::Connect)) {
            let class = match error.errno {
                Cause::Errno(libc::ECONNREFUSED) => &mut outcomes.closed,
                Cause::Errno(libc::ETIMEDOUT) => &mut outcomes.filtered,
                Cause::Errno(libc::ENETUNREACH | libc::EHOSTUNREACH) => &mut outcomes.unreachable,
                Cause::Errno(libc::EADDRNOTAVAIL | libc::EADDRINUSE) => &mut outcomes.exhausted,
                Cause::Errno(libc::EMFILE | libc::ENFILE) => &mut outcomes.out_of_files,
                Cause::Deadline | Cause::Interrupted => &mut outcomes.interrupted,
                _ => &mut outcomes.other,
            };
            *class += error.count;
        }
        outcomes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_survive_a_round_trip() {
        for (cause, name) in [
            (Cause::Errno(libc::EADDRNOTAVAIL), "EADDRNOTAVAIL"),
            (Cause::EndOfFile, "EOF"),
            (Cause::BadReply, "BADREPLY"),
            (Cause::Status(503), "HTTP503"),
            (Cause::Deadline, "DEADLINE"),
            (Cause::Interrupted, "INTERRUPTED"),
        ] {
            assert_eq!(serde_json::to_value(cause).unwrap(), name);
            assert_eq!(serde_json::from_value::<Cause>(name.into()).unwrap(), cause);
        }
        assert!(serde_json::from_value::<Cause>("ENONSENSE".into()).is_err());
    }

    #[test]
    fn serde_and_display_spell_steps_alike() {
        for step in [Step::Socket, Step::Bind, Step::Connect, Step::Send, Step::Receive, Step::Close, Step::Accept] {
            assert_eq!(serde_json::to_value(step).unwrap(), step.to_string());
        }
    }
}
