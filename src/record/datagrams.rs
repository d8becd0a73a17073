//! Where datagrams went.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LatencySummary;

/// Where the datagrams of a trial went: sent = received + left_in_queue + lost + filtered + refused + aborted + unaccounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Datagrams {
    /// Requests sent, by the loaders' count.
    pub sent: u64,
    /// Datagrams among those received, left in a queue and aborted that came from outside the job, if it has several hosts. Answered only
    /// with `hosts.admit = "anyone"`.
    #[serde(default)]
    pub foreign: u64,
    /// Requests received, by the workers' count.
    pub received: u64,
    /// Requests found in the workers' sockets after the load's end.
    pub left_in_queue: u64,
    /// Requests lost because a worker's socket buffer was full, by the kernel's count.
    pub lost: u64,
    /// Requests that `firewall.action` dropped or refused, by a counter of the generated rules; 0 if it accepts. What rules of one's own
    /// (`firewall.rules`) drop is in no count.
    #[serde(default)]
    pub filtered: u64,
    /// Requests that arrived when no worker had the port, because it had died (UdpNoPorts, less the replies whose client was gone).
    pub refused: u64,
    /// Requests that vanished with a socket, because its worker died or, in a change of workers, closed it.
    pub aborted: u64,
    /// The rest; negative if more was received than sent. Must be 0. `null` if a loader died, which may have left a datagram uncounted.
    pub unaccounted: Option<i64>,
    /// Replies that came back.
    pub replies: u64,
    /// Late replies to abandoned flows, received by the next flow on the same port.
    pub stale: u64,
    /// Flows begun: client sockets, each with a 4-tuple of its own.
    pub flows: u64,
    /// Flows answered at least once.
    pub answered_flows: u64,
    /// Flows with several replies, all from one worker.
    pub sticky_flows: u64,
    /// Flows with several replies, from more than one worker.
    pub moved_flows: u64,
    /// Flows that went on from another port of their client (`load.rebind_after`).
    #[serde(default)]
    pub rebound_flows: u64,
    /// Of these, those that were answered before and after it by known workers. `null` if the scenario has no such flows, or nobody knows who
    /// answered.
    #[serde(default)]
    pub after_rebinding: Option<Followed>,
    /// Flows that the old workers of a reload had answered, at their first answer to a request made when the new workers had taken over: from then
    /// on, old ones receive only the flows that they keep. A flow stayed if that is from the old worker that had answered last. `null` without
    /// a reload, or if loaders are on other hosts, which do not know when.
    #[serde(default)]
    pub after_reload: Option<Followed>,
}

/// Flows that went on after a change, by the worker that answered next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Followed {
    /// Those that the worker answered that had answered them last.
    pub stayed: u64,
    /// Those that another answered.
    pub moved: u64,
}

impl Followed {
    /// The part of them that stayed; `None` without any.
    pub fn share(self) -> Option<f64> {
        let all = self.stayed + self.moved;
        (all > 0).then(|| self.stayed as f64 / all as f64)
    }

    /// Adds those of another loader.
    pub fn add(&mut self, other: Self) {
        self.stayed += other.stayed;
        self.moved += other.moved;
    }
}

impl Datagrams {
    /// sent + foreign − received − left_in_queue − lost − filtered − refused − aborted.
    fn rest(&self) -> i64 {
        let parts = [self.received, self.left_in_queue, self.lost, self.filtered, self.refused, self.aborted];
        (self.sent + self.foreign) as i64 - parts.iter().sum::<u64>() as i64
    }

    /// Fills in `refused` and `unaccounted`, and adds to `aborted`. `unreachable` datagrams found no socket (UdpNoPorts): requests, or replies to
    /// clients that had given up. If a worker died, its socket took the rest of what is missing with it.
    pub fn balanced(mut self, unreachable: u64, worker_died: bool) -> Self {
        let missing = |datagrams: &Self| u64::try_from(datagrams.rest()).unwrap_or(0);
        let replies_lost = self.received.saturating_sub(self.replies + self.stale + self.foreign);
        self.refused = unreachable.saturating_sub(replies_lost).min(missing(&self));
        if worker_died {
            self.aborted += missing(&self);
        }
        self.unaccounted = Some(self.rest());
        self
    }

    /// The same, if a loader died: nobody knows whether it adds up.
    pub fn of_dead_loader(self) -> Self {
        Self { unaccounted: None, ..self }
    }

    /// Whether `unaccounted` is what the other parts leave, as far as it is known.
    pub fn adds_up(&self) -> bool {
        self.unaccounted.is_none_or(|unaccounted| unaccounted == self.rest())
    }
}

/// A worker's datagram socket. The figures of a shared socket are repeated in every worker's row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DatagramSocketRow {
    /// Flows that this worker answered first.
    pub flows: u64,
    /// Datagrams that the socket lost because its buffer was full (SO_RXQ_OVFL; at the end, /proc/net/udp).
    pub lost: u64,
    /// The most bytes in its buffer among the samples, the kernel's overhead included.
    pub queue_peak_bytes: u64,
    /// From sending to receiving, for the datagrams that this worker received.
    pub receive_wait: LatencySummary,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sent_datagrams_are_accounted_for() {
        for (sent, received, left_in_queue, lost, refused, aborted, unaccounted) in [
            (0, 0, 0, 0, 0, 0, 0),
            (495, 241, 0, 0, 254, 0, 0),
            (10, 4, 3, 2, 1, 0, 0),
            (10, 4, 1, 1, 1, 1, 2),
            // Counting too many is an imbalance too.
            (15, 15, 0, 0, 15, 0, -15),
            (10, 12, 0, 0, 0, 0, -2),
        ] {
            let part = Datagrams { sent, received, left_in_queue, lost, refused, aborted, ..Datagrams::default() };
            assert_eq!(part.rest(), unaccounted, "{part:?}");
            assert_eq!(Datagrams { filtered: 3, ..part.clone() }.rest(), unaccounted - 3, "{part:?}");
        }
    }

    #[test]
    fn what_rules_drop_is_neither_refused_nor_aborted() {
        let part = Datagrams { sent: 10, received: 4, replies: 4, filtered: 6, ..Datagrams::default() };
        let balanced = part.balanced(6, true);
        assert_eq!((balanced.refused, balanced.aborted, balanced.unaccounted), (0, 0, Some(0)));
    }

    #[test]
    fn strangers_datagrams_are_no_clients() {
        let part =
            Datagrams { sent: 10, foreign: 3, received: 12, left_in_queue: 1, replies: 10, ..Datagrams::default() };
        assert_eq!(part.clone().balanced(0, false).unaccounted, Some(0));
        // Nor do they answer for replies that found their client gone.
        let refused = |foreign| Datagrams { sent: 20, foreign, ..part.clone() }.balanced(11, false).refused;
        assert_eq!([refused(3), refused(2)], [10, 9]);
    }

    #[test]
    fn missing_datagrams_were_refused_or_died_with_a_worker() {
        for (sent, received, replies, unreachable, worker_died, [refused, aborted], unaccounted) in [
            // The only worker was killed: what came later was refused.
            (495, 241, 241, 254, true, [254, 0], 0),
            // Four were still in its socket.
            (495, 241, 241, 250, true, [250, 4], 0),
            // Replies whose client was gone are not requests.
            (100, 100, 60, 40, false, [0, 0], 0),
            (100, 90, 80, 12, true, [2, 8], 0),
            // Others on this machine send to closed ports too.
            (100, 100, 100, 7, false, [0, 0], 0),
            (100, 90, 90, 0, false, [0, 0], 10),
            (100, 103, 100, 0, true, [0, 0], -3),
        ] {
            // Some more were in a socket that a change of workers closed.
            for dropped in [0, 5] {
                let part =
                    Datagrams { sent: sent + dropped, received, replies, aborted: dropped, ..Datagrams::default() };
                let balanced = part.balanced(unreachable, worker_died);
                assert_eq!(
                    ([balanced.refused, balanced.aborted], balanced.unaccounted),
                    ([refused, aborted + dropped], Some(unaccounted))
                );
                assert!(balanced.adds_up() && balanced.of_dead_loader().adds_up());
            }
        }
    }
}
