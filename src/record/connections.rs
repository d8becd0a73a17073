//! Where connections went.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ErrorCount, Outcomes};

/// Where the connections of a trial went: established − self_connected + cookies + foreign = accepted + left_in_queue + aborted +
/// unaccounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connections {
    /// Connections and datagram flows that loaders began; = completed + the loaders' errors + in_flight.
    pub attempted: u64,
    /// Connections established, by the loaders' count.
    pub established: u64,
    /// Those of them that the kernel connected to themselves (local address = peer address): they never reached the server.
    pub self_connected: u64,
    /// Connections among those established that asked for MPTCP and are plain TCP: the server does not speak it, or SYNs were lost, and those sent
    /// again no longer asked. `null` unless `protocol` is `mptcp`.
    #[serde(default)]
    pub fell_back: Option<u64>,
    /// Connections among those established that asked for MPTCP and were reset before it could be seen what they are. `null` as above.
    #[serde(default)]
    pub fallback_unknown: Option<u64>,
    /// Connections established on the server's side only, accepted or left in a queue: by a SYN cookie, for a client that had already
    /// given up or been served.
    pub cookies: u64,
    /// Connections that the server accepted or left in a queue, but that did not come from a loader: another program's, with
    /// `network = "host"`. By the port ledger; of another server, by the probe. If that does not tell connections apart, at least so
    /// many did: those beyond what the loaders established.
    pub foreign: u64,
    /// Connections accepted: by the members' count, and by `foreign_members`. `null`, like `aborted` and `unaccounted`, if nobody could
    /// count them.
    pub accepted: Option<u64>,
    /// Connections among those accepted that the server closed at once, having no descriptor left to hold them (`server.at_open_files`
    /// = `reserve`). `null` if nobody could tell.
    #[serde(default)]
    pub shed: Option<u64>,
    /// Connections among those accepted that are plain TCP, though the listener is MPTCP's: their clients fell back, or never asked for MPTCP. `null`
    /// unless `protocol` is `mptcp` and the server is listenbench's own.
    #[serde(default)]
    pub accepted_fell_back: Option<u64>,
    /// Connections and datagram flows that ran to their planned end, or to a server's close after a reply.
    pub completed: u64,
    /// Connections and datagram flows that were in progress when their loader died: what became of them is unknown.
    #[serde(default)]
    pub in_flight: u64,
    /// Connections in accept queues when the workers stopped, by the kernel's count.
    pub left_in_queue: u64,
    /// Connections established but never accepted, by the port ledger, and not left in a queue. `null`, like `unaccounted`, if a
    /// loader died, which may have left connections uncounted.
    pub aborted: Option<u64>,
    /// The rest. Must be 0.
    pub unaccounted: Option<i64>,
    /// Other processes with a socket on the server's address and port. Must be empty.
    pub foreign_members: Vec<ForeignMember>,
    /// Replies that belong to another connection, request or 4-tuple. Must be 0.
    pub misdelivered: u64,
    /// Replies received.
    pub replies: u64,
    /// Replies checked by their receipt.
    pub verified: u64,
    /// Those of them that came through a proxy or translated addresses: the server saw another 4-tuple.
    #[serde(default)]
    pub proxied: u64,
    /// Those of them whose proxy had named the client's own connection to the server in a PROXY protocol header.
    #[serde(default)]
    pub named: u64,
    /// Connections among those attempted that continued the requests of one that the server had ended after a reply.
    #[serde(default)]
    pub reconnected: u64,
    /// Connections among those attempted that replaced one whose lifetime was over (`load.lifetime`).
    #[serde(default)]
    pub replaced: u64,
    /// Requests that the server had left unanswered as it ended their connection, and that were made again.
    #[serde(default)]
    pub retried: u64,
    /// SYNs that the kernel sent again for these connections.
    #[serde(default)]
    pub syn_retries: u64,
    /// Connections that needed them, established or not.
    #[serde(default)]
    pub syn_retried: u64,
    /// HTTP replies by status; `null` if there were none.
    pub statuses: Option<Statuses>,
    /// What the server sent that was not expected: with app `line`, replies that do not begin as `load.expect` says; with app `connect`, anything. `null` if
    /// there was nothing.
    #[serde(default)]
    pub unexpected: Option<Unexpected>,
    /// Errors by phase and errno.
    pub errors: Vec<ErrorCount>,
    /// Attempts to connect by outcome.
    pub outcomes: Outcomes,
}

/// What a server sent that was not expected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unexpected {
    /// How many replies were not as expected; with app `connect`, on how many connections the server sent anything.
    pub count: u64,
    /// How one of the first began: at most 80 bytes, with escapes such as `\n` or `\xff` for those that are not visible text.
    pub first: String,
}

/// A process outside of the trial that had a socket on the server's address and port: the kernel may give it a share of the
/// connections or datagrams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ForeignMember {
    /// Its process id; `null` if nobody was seen to hold the socket: the process is another user's, or was gone at once.
    pub pid: Option<i32>,
    /// Its command name, as in /proc/PID/comm; `null` as above.
    pub name: Option<String>,
    /// Connections that went to it: established, but neither accepted by a worker nor left in a worker's queue. `null` if several
    /// processes shared them, because the port ledger cannot tell them apart; `accepted` includes their sum.
    pub accepted: Option<u64>,
}

impl fmt::Display for ForeignMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.pid) {
            (Some(name), Some(pid)) => write!(f, "{name} (pid {pid})"),
            _ => f.write_str("an unseen process (another user's, or gone at once)"),
        }
    }
}

impl Connections {
    /// established − self_connected + cookies + foreign − accepted − left_in_queue − aborted; `None` if a part is unknown.
    pub fn unaccounted(&self) -> Option<i64> {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let [came, went] = [
            [self.established, self.cookies, self.foreign].iter().sum(),
            [self.self_connected, self.accepted?, self.left_in_queue, self.aborted?].iter().sum(),
        ];
        Some(signed(came) - signed(went))
    }

    /// Fills in `unaccounted`.
    pub fn balanced(self) -> Self {
        Self { unaccounted: self.unaccounted(), ..self }
    }
}

/// HTTP replies by class of their status code. All of them are replies: a request with any of these is completed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Statuses {
    /// Successful.
    #[serde(rename = "2xx")]
    pub successful: u64,
    /// Redirections; they are not followed.
    #[serde(rename = "3xx")]
    pub redirected: u64,
    /// The server blames the client.
    #[serde(rename = "4xx")]
    pub client_errors: u64,
    /// The server blames itself, or the code is not one of the four classes.
    #[serde(rename = "5xx")]
    pub server_errors: u64,
}

impl Statuses {
    /// All replies.
    pub fn all(&self) -> u64 {
        self.successful + self.redirected + self.client_errors + self.server_errors
    }

    /// Those that refuse the request or fail it.
    pub fn errors(&self) -> u64 {
        self.client_errors + self.server_errors
    }

    /// Adds another loader's.
    pub fn add(&mut self, other: &Self) {
        self.successful += other.successful;
        self.redirected += other.redirected;
        self.client_errors += other.client_errors;
        self.server_errors += other.server_errors;
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { successful, redirected, client_errors, server_errors } = self;
        write!(f, "2xx ×{successful}, 3xx ×{redirected}, 4xx ×{client_errors}, 5xx ×{server_errors}")
    }
}

/// Counts over the measured window.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// Connections and datagram flows intended to start in the window. Of kept connections (`load.mode`), requests are due instead:
    /// `kept` has them.
    pub planned: u64,
    /// Planned connections that began before the window's end.
    pub in_time: u64,
    /// Planned connections that began late because the loader had not yet begun earlier ones.
    pub queued: u64,
    /// Planned connections that were completed, in the window or later.
    pub completed: u64,
    /// The same of the requests that were due on kept connections; absent if no population keeps its connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Due>,
    /// Connections and datagram flows completed in the window, whenever they were due.
    pub completed_in_window: u64,
    /// The same after the window's end.
    pub completed_in_drain: u64,
    /// Requests answered in the window.
    pub requests_in_window: u64,
    /// The same after the window's end.
    pub requests_in_drain: u64,
    /// Accepts in the window; `null` if nobody could count them.
    pub accepted: Option<u64>,
    /// Datagrams received in the window; `null` as above.
    pub datagrams: Option<u64>,
    /// Accepts over the whole trial whose exact wait is unknown; `null` if no exact wait is.
    pub unstamped: Option<u64>,
    /// Accepts over the whole trial with an exact wait, but from an io_uring whose completion of the accept has no known time; absent
    /// if times of completions are not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hand_over_unknown: Option<u64>,
    /// Stamps earlier than the client's connect call or later than accept. Must be 0.
    pub stamps_impossible: u64,
}

/// What was due in the measured window, and what became of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Due {
    /// Due in the window.
    pub planned: u64,
    /// Those of them that began before the window's end.
    pub in_time: u64,
    /// Those that began late because the loader had not yet begun earlier ones.
    pub queued: u64,
    /// Those that were completed, in the window or later.
    pub completed: u64,
}

impl Due {
    fn add(&mut self, other: Self) {
        self.planned += other.planned;
        self.in_time += other.in_time;
        self.queued += other.queued;
        self.completed += other.completed;
    }
}

impl Measured {
    /// What was due, requests on kept connections or else connections; `None` if both were, which have no sum.
    pub fn due(&self) -> Option<Due> {
        match self.kept {
            None => Some(self.connections_due()),
            Some(kept) => (self.planned == 0).then_some(kept),
        }
    }

    /// Enters what was due of one population after the other.
    pub fn with_due(self, due: impl Iterator<Item = (Due, bool)>) -> Self {
        due.fold(self, |mut sum, (due, is_kept)| {
            if is_kept {
                sum.kept.get_or_insert_default().add(due);
                return sum;
            }
            let mut all = sum.connections_due();
            all.add(due);
            let Due { planned, in_time, queued, completed } = all;
            Self { planned, in_time, queued, completed, ..sum }
        })
    }

    fn connections_due(&self) -> Due {
        let Self { planned, in_time, queued, completed, .. } = *self;
        Due { planned, in_time, queued, completed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_on_kept_connections_are_counted_apart() {
        let due = |planned| Due { planned, in_time: 3, queued: 2, completed: 1 };
        let of = |all: &[(u64, bool)]| {
            let measured = Measured::default().with_due(all.iter().map(|(planned, kept)| (due(*planned), *kept)));
            (measured.planned, measured.kept.map(|kept| kept.planned), measured.due().map(|due| due.planned))
        };
        assert_eq!(of(&[(5, false), (6, false)]), (11, None, Some(11)));
        assert_eq!(of(&[(5, true), (6, true)]), (0, Some(11), Some(11)));
        assert_eq!(of(&[(5, true), (6, false)]), (6, Some(5), None));
    }

    #[test]
    fn established_connections_are_accounted_for() {
        for ([established, self_connected, cookies, foreign], [accepted, left_in_queue, aborted], unaccounted) in [
            ([0, 0, 0, 0], [0, 0, 0], 0),
            ([10, 0, 0, 0], [10, 0, 0], 0),
            ([10, 0, 0, 0], [6, 3, 1], 0),
            ([10, 0, 0, 0], [6, 1, 1], 2),
            // Counting too many is an imbalance too.
            ([10, 0, 0, 0], [12, 0, 0], -2),
            ([0, 0, 0, 0], [0, 1, 1], -2),
            // A connection to itself reaches no server.
            ([12, 2, 0, 0], [10, 0, 0], 0),
            ([12, 2, 0, 0], [12, 0, 0], -2),
            // Cookies and other programs' connections are accepted on top.
            ([60, 0, 2, 0], [62, 0, 0], 0),
            ([60, 0, 0, 0], [62, 0, 0], -2),
            ([60, 0, 0, 3], [63, 0, 0], 0),
            ([60, 1, 2, 3], [60, 3, 1], 0),
        ] {
            let part = Connections {
                established,
                self_connected,
                cookies,
                foreign,
                accepted: Some(accepted),
                left_in_queue,
                aborted: Some(aborted),
                ..Connections::default()
            };
            assert_eq!(part.unaccounted(), Some(unaccounted), "{part:?}");
            assert_eq!(part.balanced().unaccounted, Some(unaccounted));
        }
        let uncounted = Connections { established: 10, ..Connections::default() };
        assert_eq!(uncounted.balanced().unaccounted, None, "nobody counted the accepts");
    }
}
