//! From a due start to a session.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;

use super::{Driver, ERROR_PAUSE_NS};
use crate::{
    ipc::control::LoaderCount,
    load::{
        clock::Clock,
        engine::{Close, Engine, Taken},
        observer::Observer,
        pacer::Planned,
        session::{Action, Hold, Rest, Session, Start},
    },
    record::{Cause, Latency, Step},
    scenario::Transport,
};

/// A connection or flow that is due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub intended_ns: u64,
    pub requests: u32,
    /// How long it is to be held after the last of them.
    pub hold: Hold,
    /// Whether its figures are recorded.
    pub measured: bool,
    /// Whether it was due by the schedule, and not because a server ended another.
    pub scheduled: bool,
    /// The slot of a connection that is kept.
    pub slot: Option<u32>,
}

impl<E: Engine, O: Observer, C: Clock> Driver<E, O, C> {
    /// Starts a connection or flow that was due, of which a trace may say what it is to do.
    pub(super) fn start(&mut self, planned: Planned) -> Result<()> {
        let transport = self.transports.next();
        let intended_ns = planned.at_ns;
        let measured = self.window.measures(intended_ns);
        let (requests, hold) = self.task_of(planned);
        self.begin(transport, Due { intended_ns, requests, hold, measured, scheduled: true, slot: None })
    }

    /// How many requests a connection or flow makes, and how long it is held.
    pub(super) fn task_of(&self, planned: Planned) -> (u32, Hold) {
        let policy = &self.shared.policy;
        planned.task((policy.requests, policy.close_by))
    }

    /// Starts a connection for the rest of the requests of one that the server has ended.
    pub(super) fn resume(&mut self, rest: Rest) -> Result<()> {
        self.shared.account.add(LoaderCount::Reconnected, 1);
        let Rest { since_ns, requests, measured, hold } = rest;
        self.begin(
            Transport::Tcp,
            Due { intended_ns: since_ns, requests, hold, measured, scheduled: false, slot: None },
        )
    }

    pub(super) fn begin(&mut self, transport: Transport, due: Due) -> Result<()> {
        self.shared.account.add(LoaderCount::Attempted, 1);
        match self.connect(transport, due) {
            Ok((key, session)) => {
                let connect_ns = session.connect_ns();
                self.table.insert(key, session);
                if let Some(slot) = due.slot {
                    self.pacer.kept().opened(slot, key, connect_ns);
                }
                if self.send_first(key) {
                    self.engine.watch(key)?;
                }
            }
            Err((step, cause)) => {
                let now_ns = self.clock.now_ns();
                if due.measured {
                    self.shared.lose_start(transport, due.intended_ns, (due.requests, due.hold));
                }
                self.shared.failed(step, cause, now_ns);
                match due.slot {
                    Some(slot) => self.lose_overdue(slot, now_ns),
                    None => self.pacer.freed(now_ns + ERROR_PAUSE_NS),
                }
            }
        }
        Ok(())
    }

    fn connect(&mut self, transport: Transport, due: Due) -> Result<(usize, Session), (Step, Cause)> {
        let Due { intended_ns, requests, hold, measured, scheduled, .. } = due;
        let opened = self.engine.open(transport, &self.dialler);
        let recycled = opened.as_ref().is_ok_and(|opened| opened.recycled);
        self.shared.account.add(LoaderCount::Recycled, u64::from(recycled));
        // Taken after the attempt to open a socket, so that it marks the connect call.
        let connect_ns = self.clock.now_ns();
        if measured && scheduled {
            self.record_lag(intended_ns, connect_ns);
            self.shared.account.add(LoaderCount::InTime, u64::from(connect_ns < self.window.measure_to_ns));
        }
        let key = opened.map_err(|error| (Step::Socket, Cause::from(&error)))?.key;
        let group = self.shared.ends.group_for(self.shared.account.get(LoaderCount::Attempted));
        let connected = self.engine.connect(key, &mut self.dialler, &group);
        let client = connected.map_err(|(step, error)| {
            if measured && step == Step::Connect && transport == Transport::Tcp {
                self.shared.measures.record(Latency::FailedConnect, self.clock.now_ns() - connect_ns);
            }
            (step, Cause::from(&error))
        })?;
        if is_itself(client, group.destination) {
            self.engine.close(key, Close::Rst);
            self.dialler.freed(&group, client.port());
            if transport == Transport::Tcp {
                self.shared.account.add(LoaderCount::Established, 1);
                self.shared.account.add(LoaderCount::SelfConnected, 1);
            }
            return Err((Step::Connect, Cause::SelfConnected));
        }
        let own_end = self.shared.ends.number(&group, client);
        let start = Start { intended_ns, connect_ns };
        Ok((key, Session::new(transport, own_end, start, requests, measured).held_for(hold)))
    }

    /// Records how late a start was and, by whether another had to be made first, what for.
    pub(super) fn record_lag(&self, due_ns: u64, now_ns: u64) {
        let cause = if due_ns < self.made_ns { Latency::QueuedLag } else { Latency::TimerLag };
        for latency in [Latency::SendLag, cause] {
            self.shared.measures.record(latency, now_ns - due_ns);
        }
    }

    /// Sends the first request if it can go out at once. Returns whether the connection goes on.
    fn send_first(&mut self, key: usize) -> bool {
        let session = &mut self.table[key];
        let action = session.on_started(&mut self.shared);
        if action == Action::Continue {
            return true;
        }
        let now_ns = self.clock.now_ns();
        if session.is_flow() {
            return self.carry_out(key, action, now_ns);
        }
        let before = self.shared.asking_for_multipath();
        let action = match self.engine.send(key, &self.shared.out) {
            Ok(taken) => {
                session.on_taken(&mut self.shared, taken);
                // A socket that takes bytes is established. Otherwise wait for the event of its handshake.
                let connected = taken != Taken::Nothing;
                if connected { session.on_connected(&mut self.shared, now_ns) } else { Action::Continue }
            }
            Err(error) => session.on_send_failed(&mut self.shared, Cause::from(&error), now_ns),
        };
        self.count_fallback(key, before);
        self.carry_out(key, action, now_ns)
    }
}

/// Whether a socket with this local address has connected to itself. Where nothing listens on a port of the ephemeral range, the kernel
/// may choose just that port for the client, whose SYN then meets its own socket.
#[inline]
pub(super) fn is_itself(client: SocketAddr, target: SocketAddr) -> bool {
    client.port() == target.port()
        && match target.ip() {
            // The kernel connects to the loopback address instead.
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => client.ip() == Ipv4Addr::LOCALHOST,
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => client.ip() == Ipv6Addr::LOCALHOST,
            ip => client.ip() == ip,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_its_own_peer_at_the_same_address_and_port() {
        for (client, target, expected) in [
            ("127.0.0.1:7000", "127.0.0.1:7000", true),
            ("127.0.0.1:7001", "127.0.0.1:7000", false),
            ("127.0.0.2:7000", "127.0.0.1:7000", false),
            ("127.0.0.1:7000", "0.0.0.0:7000", true),
            ("127.0.0.2:7000", "0.0.0.0:7000", false),
            ("[::1]:7000", "[::1]:7000", true),
            ("[::1]:7000", "[::]:7000", true),
            ("[::2]:7000", "[::1]:7000", false),
        ] {
            assert_eq!(is_itself(client.parse().unwrap(), target.parse().unwrap()), expected, "{client} {target}");
        }
    }
}
