//! Errors counted by phase and errno.

use std::{collections::BTreeMap, io};

use nix::errno::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a connection, or its process, was about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// socket(2) and its options, in a loader.
    Socket,
    /// bind(2) to a source address or port, in a loader.
    Bind,
    /// connect(2) until established.
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

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Bind => "bind",
            Self::Connect => "connect",
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Close => "close",
            Self::Accept => "accept",
            Self::Serve => "serve",
        }
    }
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The kernel said so.
    Errno(i32),
    /// The peer closed before it had answered.
    EndOfFile,
    /// The bytes are no reply, or one that belongs to another connection.
    BadReply,
    /// An HTTP status of 400 or above.
    Status(u16),
    /// Still under way at the trial's deadline.
    Deadline,
    /// Still under way when the user ended the load.
    Interrupted,
}

impl Cause {
    /// Given up by a time-out of the scenario.
    pub const TIMED_OUT: Self = Self::Errno(libc::ETIMEDOUT);

    fn name(self) -> String {
        match self {
            Self::Errno(number) => format!("{:?}", Errno::from_raw(number)),
            Self::EndOfFile => "EOF".to_owned(),
            Self::BadReply => "BADREPLY".to_owned(),
            Self::Status(code) => format!("HTTP{code}"),
            Self::Deadline => "DEADLINE".to_owned(),
            Self::Interrupted => "INTERRUPTED".to_owned(),
        }
    }
}

impl From<&io::Error> for Cause {
    fn from(error: &io::Error) -> Self {
        Self::Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// What the network, or this machine, said to attempts to connect, by names that scanners of ports have made common.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outcomes {
    /// Established.
    pub open: u64,
    /// Refused: a reset came back, since nobody listens (ECONNREFUSED).
    pub closed: u64,
    /// No answer within `load.connect_timeout` (ETIMEDOUT).
    pub filtered: u64,
    /// No way there (ENETUNREACH, EHOSTUNREACH).
    pub unreachable: u64,
    /// No source port left (EADDRNOTAVAIL; of bind to port 0, EADDRINUSE).
    pub exhausted: u64,
    /// No descriptor left (EMFILE, ENFILE).
    pub out_of_files: u64,
    /// Still under way at the trial's deadline, or when the user ended the load.
    pub interrupted: u64,
    /// Anything else.
    pub other: u64,
}

impl Outcomes {
    /// Sorts attempts to connect: so many were established, and these errors came from loaders.
    pub fn of(established: u64, errors: &[ErrorCount]) -> Self {
        let mut outcomes = Self { open: established, ..Self::default() };
        for error in errors.iter().filter(|error| ["socket", "bind", "connect"].contains(&error.phase.as_str())) {
            let class = match error.errno.as_str() {
                "ECONNREFUSED" => &mut outcomes.closed,
                "ETIMEDOUT" => &mut outcomes.filtered,
                "ENETUNREACH" | "EHOSTUNREACH" => &mut outcomes.unreachable,
                "EADDRNOTAVAIL" | "EADDRINUSE" => &mut outcomes.exhausted,
                "EMFILE" | "ENFILE" => &mut outcomes.out_of_files,
                "DEADLINE" | "INTERRUPTED" => &mut outcomes.interrupted,
                _ => &mut outcomes.other,
            };
            *class += error.count;
        }
        outcomes
    }
}

/// Counts. Only the first error of a kind allocates.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<(Step, Cause), u64>);

/// One kind of error, as in records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorCount {
    /// `socket`, `bind`, `connect`, `send`, `receive`, `close`, `accept` or `serve`.
    pub phase: String,
    /// The errno's name, or `EOF`, `BADREPLY`, `HTTP<status>`, `DEADLINE`, `INTERRUPTED`.
    pub errno: String,
    /// How often.
    pub count: u64,
}

impl Tally {
    /// Counts one error.
    pub fn add(&mut self, step: Step, cause: impl Into<Cause>) {
        *self.0.entry((step, cause.into())).or_default() += 1;
    }

    /// The counts by name.
    pub fn counts(&self) -> Vec<ErrorCount> {
        self.0
            .iter()
            .map(|(&(step, cause), &count)| ErrorCount { phase: step.name().to_owned(), errno: cause.name(), count })
            .collect()
    }
}

/// Adds up the counts of errors of one kind, ordered by phase and errno.
pub fn merged(errors: Vec<ErrorCount>) -> Vec<ErrorCount> {
    let mut sums: BTreeMap<(String, String), u64> = BTreeMap::new();
    for error in errors {
        *sums.entry((error.phase, error.errno)).or_default() += error.count;
    }
    sums.into_iter().map(|((phase, errno), count)| ErrorCount { phase, errno, count }).collect()
}
