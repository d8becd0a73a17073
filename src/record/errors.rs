//! Failed connections: at which step they failed, and why.

use std::{collections::BTreeMap, fmt, io};

use nix::errno::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumCount, VariantArray};

/// What a connection, or its process, was doing when it failed.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    Display,
    EnumCount,
    VariantArray,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Step {
    /// socket(2) and its options, in a loader.
    Socket,
    /// bind(2) to a source address or port, in a loader.
    Bind,
    /// connect(2), until the connection is established.
    Connect,
    /// The TLS handshake, in a loader.
    Tls,
    /// Sending a request.
    Send,
    /// Waiting for a reply.
    Receive,
    /// Waiting for the server's close after the last reply, or for the end of the hold.
    Close,
    /// accept(2) and the accepted socket's options, in a worker.
    Accept,
    /// Reading requests and writing replies, in a worker.
    Serve,
}

/// Why it failed: the errno's name, or `EOF`, `TRUNCATED`, `HUNGUP`, `SELFCONNECTED`, `BADREPLY`, `MISMATCH`, `OVERLONG`, `UNASKED`, `HTTP101`,
/// `DEADLINE`, `INTERRUPTED`, `NOHEADER`, `BADHEADER`, `NOTTLS`, `NOCOMMONTLS`, `ALERT`, `UNTRUSTED`, `MISNAMED`, `EXPIRED`, `BADCERTIFICATE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Cause {
    /// The kernel returned an error.
    Errno(i32),
    /// The peer closed the connection before answering.
    EndOfFile,
    /// The peer closed the connection in the middle of a reply.
    Truncated,
    /// The peer closed a connection on which the client was to keep silent, before the client did.
    HungUp,
    /// The socket connected to itself: the kernel gave it the server's port, on which nothing listened, as its own.
    SelfConnected,
    /// The bytes are not a reply, or are a reply that belongs to another connection.
    BadReply,
    /// A reply that does not begin as the scenario expects.
    Mismatch,
    /// A reply with too many bytes besides its body.
    Overlong,
    /// Bytes that answer no request: they came before one, or after a whole reply.
    Unasked,
    /// HTTP's status 101: the server changed the protocol, which nobody had asked for.
    Upgraded,
    /// Still in progress at the trial's deadline.
    Deadline,
    /// Still in progress when the load was ended early: by the user, or because its packets would have left their networks.
    Interrupted,
    /// A connection to our server that was to begin with a PROXY protocol header began with other bytes.
    NoHeader,
    /// A PROXY protocol header that our server could not read, or only a part of one.
    BadHeader,
    /// The bytes are not TLS, or break its rules.
    NotTls,
    /// The two sides have no version of TLS, method or application protocol in common.
    NoCommonTls,
    /// The peer ended TLS with an alert.
    Alert,
    /// The server's certificate is not one that clients trust, or issued by one.
    Untrusted,
    /// The server's certificate does not have its name.
    Misnamed,
    /// The server's certificate has expired, or is not valid yet.
    Expired,
    /// The server's certificate has another fault.
    BadCertificate,
}

impl Cause {
    /// Abandoned after one of the scenario's time-outs.
    pub const TIMED_OUT: Self = Self::Errno(libc::ETIMEDOUT);
    /// The causes that are not an errno, with their names and what they mean.
    const NAMED: [(Self, &'static str, &'static str); 20] = [
        (Self::EndOfFile, "EOF", "the server closed before it had answered"),
        (Self::Truncated, "TRUNCATED", "the server closed in the middle of a reply"),
        (Self::SelfConnected, "SELFCONNECTED", "nothing listened, and the socket connected to itself"),
        (Self::BadReply, "BADREPLY", "not a reply, or another connection's"),
        (Self::Overlong, "OVERLONG", "over 64 KiB besides the body"),
        (Self::Unasked, "UNASKED", "bytes that answer no request"),
        (Self::Upgraded, "HTTP101", "the server changed the protocol"),
        (Self::Deadline, "DEADLINE", "in progress at the deadline"),
        (Self::Interrupted, "INTERRUPTED", "in progress when the user interrupted the load"),
        (Self::NoHeader, "NOHEADER", "no PROXY protocol header came first"),
        (Self::BadHeader, "BADHEADER", "not a whole and valid PROXY protocol header"),
        (Self::HungUp, "HUNGUP", "the server closed before `load.hold` was over"),
        (Self::Mismatch, "MISMATCH", "the reply does not begin as `load.expect` says"),
        (Self::NotTls, "NOTTLS", "not TLS, or against its rules"),
        (Self::NoCommonTls, "NOCOMMONTLS", "no version of TLS, method or application protocol in common"),
        (Self::Alert, "ALERT", "the other side ended TLS with an alert"),
        (Self::Untrusted, "UNTRUSTED", "the server's certificate is not trusted: see `load.trust`"),
        (Self::Misnamed, "MISNAMED", "the server's certificate is for another name: see `load.server_name`"),
        (Self::Expired, "EXPIRED", "the server's certificate has expired, or is not valid yet"),
        (
            Self::BadCertificate,
            "BADCERTIFICATE",
            "the server's certificate cannot be used: one that signs itself needs `load.trust`",
        ),
    ];
    /// EHWPOISON. nix maps unknown numbers to 0.
    const LAST_ERRNO: i32 = 133;
    /// Number of causes.
    pub const PLACES: usize = Self::LAST_ERRNO as usize + 1 + Self::NAMED.len();

    /// The cause's place in a table of all causes. Unknown errnos share the first.
    pub fn place(self) -> usize {
        let named = |number: usize| Self::LAST_ERRNO as usize + 1 + number;
        match self {
            Self::Errno(number @ 0..=Self::LAST_ERRNO) => number as usize,
            Self::Errno(_) => 0,
            Self::EndOfFile => named(0),
            Self::Truncated => named(1),
            Self::SelfConnected => named(2),
            Self::BadReply => named(3),
            Self::Overlong => named(4),
            Self::Unasked => named(5),
            Self::Upgraded => named(6),
            Self::Deadline => named(7),
            Self::Interrupted => named(8),
            Self::NoHeader => named(9),
            Self::BadHeader => named(10),
            Self::HungUp => named(11),
            Self::Mismatch => named(12),
            Self::NotTls => named(13),
            Self::NoCommonTls => named(14),
            Self::Alert => named(15),
            Self::Untrusted => named(16),
            Self::Misnamed => named(17),
            Self::Expired => named(18),
            Self::BadCertificate => named(19),
        }
    }

    /// What it means, for one that has no errno's name.
    pub fn meaning(self) -> Option<&'static str> {
        Self::NAMED.iter().find(|(cause, ..)| *cause == self).map(|(.., meaning)| *meaning)
    }

    /// The causes that have no errno's name, each with its meaning.
    pub fn explained() -> impl Iterator<Item = (&'static str, &'static str)> {
        Self::NAMED.iter().map(|(_, name, meaning)| (*name, *meaning))
    }

    /// The cause at a place. Panics beyond [`Self::PLACES`].
    pub fn at(place: usize) -> Self {
        match place.checked_sub(Self::LAST_ERRNO as usize + 1) {
            None => Self::Errno(place as i32),
            Some(number) => Self::NAMED[number].0,
        }
    }
}

impl From<&io::Error> for Cause {
    fn from(error: &io::Error) -> Self {
        Self::Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::from(&error)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, Self::NAMED.iter().find(|(cause, ..)| cause == self)) {
            (Self::Errno(number), _) => write!(f, "{:?}", Errno::from_raw(*number)),
            (_, Some((_, name, _))) => f.write_str(name),
            (_, None) => unreachable!("`NAMED` lists every cause that is not an errno"),
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
        (0..Self::PLACES)
            .map(Self::at)
            .find(|cause| cause.to_string() == name)
            .ok_or_else(|| format!("unknown cause `{name}`: expected an errno's name, or one of the schema's words"))
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

    /// With what the cause means, unless it is an errno: `receive EOF ×3 (the server closed before it had answered)`.
    pub fn explained(&self) -> String {
        let meaning = match (self.phase, self.errno) {
            // Only of Unix sockets (unix(7)).
            (Step::Connect, Cause::Errno(libc::EAGAIN)) => Some("the accept queue was full"),
            (Step::Close, Cause::EndOfFile) => {
                Some("the server closed after its last reply: too early, or not as `load.close_how` says")
            }
            _ => self.errno.meaning(),
        };
        let meaning = meaning.map(|meaning| format!(" ({meaning})"));
        format!("{self}{}", meaning.unwrap_or_default())
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
    /// Established with the server.
    pub open: u64,
    /// Refused (ECONNREFUSED): with a reset, as by a port on which nothing listens, or by ICMP's port unreachable, as firewalls do, which a
    /// client cannot tell apart; `kernel.IcmpDestUnreachs` counts the latter. Or connected to itself (SELFCONNECTED), because nothing listens.
    pub closed: u64,
    /// No answer within `load.connect_timeout` (ETIMEDOUT).
    pub filtered: u64,
    /// No route to the address (ENETUNREACH, EHOSTUNREACH), or ICMP said so. Of IPv4, a firewall's "administratively prohibited" is
    /// EHOSTUNREACH, too.
    pub unreachable: u64,
    /// Not permitted: by a firewall, as ICMPv6's "administratively prohibited" says (EACCES), by a rule on the client's own machine (EPERM), or
    /// by the permissions of a Unix socket's file or of a low source port (EACCES).
    #[serde(default)]
    pub prohibited: u64,
    /// No source port left (EADDRNOTAVAIL; from bind to port 0, EADDRINUSE).
    pub exhausted: u64,
    /// No file descriptor left (EMFILE, ENFILE).
    pub out_of_files: u64,
    /// Still in progress at the trial's deadline, or when the load was ended early.
    pub interrupted: u64,
    /// Any other error.
    pub other: u64,
}

impl Outcomes {
    /// Classifies attempts to connect: `open` reached the server, and loaders reported `errors`.
    pub fn of(open: u64, errors: &[ErrorCount]) -> Self {
        let mut outcomes = Self { open, ..Self::default() };
        for error in errors.iter().filter(|error| matches!(error.phase, Step::Socket | Step::Bind | Step::Connect)) {
            let class = match error.errno {
                Cause::Errno(libc::ECONNREFUSED) | Cause::SelfConnected => &mut outcomes.closed,
                Cause::Errno(libc::ETIMEDOUT) => &mut outcomes.filtered,
                Cause::Errno(libc::ENETUNREACH | libc::EHOSTUNREACH) => &mut outcomes.unreachable,
                Cause::Errno(libc::EACCES | libc::EPERM) => &mut outcomes.prohibited,
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
            (Cause::Truncated, "TRUNCATED"),
            (Cause::SelfConnected, "SELFCONNECTED"),
            (Cause::BadReply, "BADREPLY"),
            (Cause::Overlong, "OVERLONG"),
            (Cause::Unasked, "UNASKED"),
            (Cause::Upgraded, "HTTP101"),
            (Cause::Deadline, "DEADLINE"),
            (Cause::Interrupted, "INTERRUPTED"),
            (Cause::NoHeader, "NOHEADER"),
            (Cause::BadHeader, "BADHEADER"),
            (Cause::HungUp, "HUNGUP"),
            (Cause::Mismatch, "MISMATCH"),
            (Cause::NotTls, "NOTTLS"),
            (Cause::NoCommonTls, "NOCOMMONTLS"),
            (Cause::Alert, "ALERT"),
            (Cause::Untrusted, "UNTRUSTED"),
            (Cause::Misnamed, "MISNAMED"),
            (Cause::Expired, "EXPIRED"),
            (Cause::BadCertificate, "BADCERTIFICATE"),
        ] {
            assert_eq!(serde_json::to_value(cause).unwrap(), name);
            assert_eq!(serde_json::from_value::<Cause>(name.into()).unwrap(), cause);
        }
        assert!(serde_json::from_value::<Cause>("ENONSENSE".into()).is_err());
        for place in 0..Cause::PLACES {
            assert_eq!(Cause::at(place).place(), place);
        }
        assert_eq!(Cause::Errno(9_999).place(), 0);
    }

    #[test]
    fn serde_and_display_spell_steps_alike() {
        for step in
            [Step::Socket, Step::Bind, Step::Connect, Step::Tls, Step::Send, Step::Receive, Step::Close, Step::Accept]
        {
            assert_eq!(serde_json::to_value(step).unwrap(), step.to_string());
        }
    }
}
