//! Accept queues, read through sock_diag: the kernel reports the length and limit of each listener's queue.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
};

use anyhow::{Context, Result};
use netlink_packet_sock_diag::{
    constants::{AF_INET, AF_INET6},
    inet::StateFlags,
};
use serde::Serialize;

use super::{
    listeners::{ListenerReader, Place},
    sockets::{self, SockDiag},
    unix::UnixQueues,
};
use crate::{
    scenario::{Scenario, Transport},
    sys::{clock, unix::UnixAddress},
};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Connections waiting (`idiag_rqueue`).
    pub length: u32,
    /// The effective backlog (`idiag_wqueue`); the queue holds one more.
    pub limit: u32,
    /// Segments this listener has dropped so far (`sk_drops` of INET_DIAG_SKMEMINFO): its part of ListenDrops.
    pub drops: u32,
}

impl Queue {
    /// Whether the queue is full: the kernel's test is `>`, so a queue with limit 0 holds one connection.
    pub fn is_full(&self) -> bool {
        self.length > self.limit
    }
}

/// Reads the accept queues of one port's listeners, reusing its buffers, or that of a Unix socket.
pub struct QueueReader {
    unix: Option<UnixQueues>,
    /// One for each family.
    questions: Vec<(u8, SockDiag)>,
    /// Where the listeners are, all on one port.
    places: Vec<Place>,
    /// Inodes of the listeners that get connections to these places, as of the last reading.
    group: Vec<u32>,
}

impl QueueReader {
    /// A reader for the listeners on an address's port in the current network namespace.
    pub fn new(address: SocketAddr) -> Result<Self> {
        Self::of(vec![Place::at(address)])
    }

    /// A reader for the listeners on the port of places in the current network namespace, in the families of connections to them.
    pub fn of(places: Vec<Place>) -> Result<Self> {
        let questions = sockets::one_of_each_family(&places)
            .map(|any| {
                let family = if any.is_ipv4() { AF_INET } else { AF_INET6 };
                Ok((family, SockDiag::new(Transport::Tcp, StateFlags::LISTEN, any)?))
            })
            .collect::<Result<_>>()?;
        Ok(Self { unix: None, questions, places, group: Vec::new() })
    }

    /// A reader for a Unix socket that something in the current network namespace listens on.
    pub fn of_unix(address: &UnixAddress) -> Result<Self> {
        let unix = Some(UnixQueues::new(address)?);
        Ok(Self { unix, questions: Vec::new(), places: Vec::new(), group: Vec::new() })
    }

    /// The inodes of all listeners on the reader's own places, as of the last reading: whoever holds one gets its share of the
    /// connections. Listeners on the port at other addresses are not among them, unless one of the places stands for all.
    pub fn group(&self) -> &[u32] {
        &self.group
    }

    /// The queues by their listener's inode.
    pub fn read(&mut self) -> Result<HashMap<u32, Queue>> {
        let mut queues = HashMap::new();
        let Self { unix, questions, places, group } = self;
        group.clear();
        if let Some(unix) = unix {
            queues = unix.read()?;
            group.extend(queues.keys());
        }
        for (family, question) in questions {
            question.each(|response| {
                let header = &response.header;
                let (ip, port) = (header.socket_id.source_address, header.socket_id.source_port);
                if header.family == *family && places.iter().any(|place| place.address.port() == port) {
                    if places.iter().any(|place| place.is_shared_by(ip)) {
                        group.push(header.inode);
                    }
                    let drops = sockets::memory(response).map_or(0, |memory| memory.drops);
                    let (length, limit) = (header.recv_queue, header.send_queue);
                    queues.insert(header.inode, Queue { length, limit, drops });
                }
            })?;
        }
        Ok(queues)
    }
}

/// Reads the accept queues of a server in the current network namespace, whatever program it is.
pub struct ServerQueues(Readable);

enum Readable {
    At(ListenerReader, SocketAddr),
    On(UnixQueues),
}

impl ServerQueues {
    /// A reader for the listeners that get connections to this address.
    pub fn new(address: SocketAddr) -> Result<Self> {
        Ok(Self(Readable::At(ListenerReader::new()?, address)))
    }

    /// A reader for the listeners on a Unix socket.
    pub fn of_unix(address: &UnixAddress) -> Result<Self> {
        Ok(Self(Readable::On(UnixQueues::new(address)?)))
    }

    /// A reader for the listeners that get connections to a scenario's server.
    pub fn of(scenario: &Scenario) -> Result<Self> {
        scenario.unix.as_ref().map_or_else(|| Self::new(scenario.address), Self::of_unix)
    }

    /// The queues by their listener's inode.
    pub fn read(&mut self) -> Result<HashMap<u32, Queue>> {
        let (listeners, address) = match &mut self.0 {
            Readable::At(listeners, address) => (listeners.read()?, *address),
            Readable::On(unix) => return unix.read(),
        };
        let places = Place::of_connections_to(address, listeners.iter().map(|listener| listener.place));
        let these = listeners.iter().filter(|listener| places.contains(&listener.place));
        Ok(these.map(|listener| (listener.inode, listener.queue)).collect())
    }
}

/// The median cost of sampling one listener's queue on this machine, over a hundred samples, in nanoseconds.
pub fn sample_cost_ns() -> Result<u64> {
    let listener = TcpListener::bind("127.0.0.1:0").context("bind 127.0.0.1")?;
    let mut reader = QueueReader::new(listener.local_addr().context("getsockname")?)?;
    let mut costs = Vec::with_capacity(100);
    for _ in 0..100 {
        let before_ns = clock::monotonic_ns();
        reader.read()?;
        costs.push(clock::monotonic_ns() - before_ns);
    }
    costs.sort_unstable();
    Ok(costs[costs.len() / 2])
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn a_queue_is_full_with_one_connection_more_than_its_limit() {
        for (length, limit, full) in [(0, 0, false), (1, 0, true), (1, 1, false), (2, 1, true), (128, 128, false)] {
            assert_eq!(Queue { length, limit, drops: 0 }.is_full(), full, "{length} of {limit}");
        }
    }

    #[test]
    fn a_wildcard_listener_serves_the_families_it_takes() {
        let listening = |ipv6_only: bool| {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
            socket.set_only_v6(ipv6_only).unwrap();
            socket.bind(&SocketAddr::from(([0_u16; 8], 0)).into()).unwrap();
            socket.listen(1).unwrap();
            let port = socket.local_addr().unwrap().as_socket().unwrap().port();
            (socket, port)
        };
        let queues = |address: SocketAddr| ServerQueues::new(address).unwrap().read().unwrap().len();
        for (ipv6_only, over_ipv4) in [(false, 1), (true, 0)] {
            let (_listener, port) = listening(ipv6_only);
            assert_eq!(queues(([127, 0, 0, 1], port).into()), over_ipv4, "{ipv6_only}");
            assert_eq!(queues(([0, 0, 0, 0, 0, 0, 0, 1], port).into()), 1, "{ipv6_only}");
        }
    }

    #[test]
    fn a_group_is_at_one_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _elsewhere = TcpListener::bind(("127.0.0.2", address.port())).unwrap();
        let group = |address: SocketAddr| {
            let mut reader = QueueReader::new(address).unwrap();
            (reader.read().unwrap().len(), reader.group().len())
        };
        assert_eq!(group(address), (2, 1));
        assert_eq!(group(([127, 0, 0, 3], address.port()).into()), (2, 0));
        assert_eq!(group(([0; 4], address.port()).into()), (2, 2));
    }
}
