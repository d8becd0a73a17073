//! Use of the ephemeral ports by tuple group: source address, destination address and destination port. Within a group
//! each connection needs its own local port; each group can use all usable ports.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use serde::Serialize;

use super::{
    ports::Range,
    sockets::{Socket, State},
};

/// The fill of a tuple group, in ports.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fill {
    /// Taken by the group's connections, or barred for every group.
    pub used: u64,
    /// The group's usable ports: beyond them is the wall (EADDRNOTAVAIL).
    pub usable: u64,
    /// `used` ÷ `usable`; 1 where nothing is usable.
    pub share: f64,
    /// The knee, where connect without bind becomes slow: the number of ports of the parity it tries first.
    pub knee: u64,
    /// Free ports before the knee.
    pub to_knee: u64,
    /// Free ports before the wall.
    pub to_wall: u64,
}

/// A tuple group and its use of the range.
#[derive(Debug, Clone, Serialize)]
pub struct TupleGroup {
    pub source: IpAddr,
    pub destination: SocketAddr,
    /// Local ports inside the range taken by its connections.
    pub connections: u64,
    /// Of them, those in TIME_WAIT.
    pub time_wait: u64,
    /// Of them, those in CLOSE_WAIT.
    pub close_wait: u64,
    pub fill: Fill,
    /// The same if all ports in TIME_WAIT were free.
    pub fill_without_time_wait: Fill,
}

/// The use of a port range.
#[derive(Debug)]
pub struct Usage {
    /// Selected sockets with a local port inside the range, by state.
    pub by_state: BTreeMap<State, u64>,
    /// Their inodes; 0 for a socket without a descriptor.
    pub inodes: Vec<u32>,
    /// Distinct local ports of these sockets.
    pub ports: u64,
    /// Usable ports that some socket listens on or is bound to: connect without bind skips them in every group,
    /// whatever the address. It also skips ports of sockets bound before connecting, but those cannot be told apart.
    pub barred: u64,
    /// The selected groups, fullest first.
    pub groups: Vec<TupleGroup>,
    /// The fill of the fullest group, or of a new group if there is none.
    pub fill: Fill,
    /// The fill of the range by the ports of all groups together: what bind() to port 0 finds.
    pub all: Fill,
    /// Distinct ports that connections have although connect() without bind() would have taken others first. bind() to port 0
    /// prefers them (`inet_csk_find_open_port` in net/ipv4/inet_connection_sock.c).
    pub early: u64,
}

impl Usage {
    /// Counts TCP sockets; with a destination, only connections to it.
    pub fn of(range: &Range, sockets: &[Socket], to: Option<SocketAddr>) -> Self {
        let inside = || sockets.iter().filter(|socket| range.contains(socket.local.port()));
        let barred: HashSet<u16> = inside().filter(|socket| socket.is_bound_only()).map(|s| s.local.port()).collect();
        let usable_barred: HashSet<u16> = barred.iter().copied().filter(|port| !range.is_reserved(*port)).collect();
        let asked = || inside().filter(|socket| to.is_none_or(|to| socket.remote == to));

        let mut by_state = BTreeMap::new();
        let mut ports = HashSet::new();
        let mut taken: HashMap<(IpAddr, SocketAddr), HashMap<u16, State>> = HashMap::new();
        for socket in asked() {
            let port = socket.local.port();
            *by_state.entry(socket.state).or_default() += 1;
            ports.insert(port);
            // A connection on a listener's port was accepted and takes no port of its own.
            if !barred.contains(&port) && !range.is_reserved(port) && socket.remote.port() != 0 {
                let group = taken.entry((socket.local.ip(), socket.remote)).or_default();
                group.insert(port, socket.state);
            }
        }
        let gauge = Gauge { range, usable: range.usable(), knee: range.first_pass(), barred: &usable_barred };
        let early: HashSet<u16> = taken
            .values()
            .filter(|ports| gauge.fill(ports.keys()).to_knee > 0)
            .flat_map(|ports| ports.keys().copied().filter(|port| !range.is_first_pass(*port)))
            .collect();
        let together: HashSet<u16> = taken.values().flat_map(HashMap::keys).copied().collect();
        let mut groups: Vec<TupleGroup> = taken
            .into_iter()
            .map(|((source, destination), ports)| {
                let in_state = |wanted: State| ports.values().filter(|state| **state == wanted).count() as u64;
                let lasting = ports.iter().filter(|(_, state)| **state != State::TIME_WAIT);
                TupleGroup {
                    source,
                    destination,
                    connections: ports.len() as u64,
                    time_wait: in_state(State::TIME_WAIT),
                    close_wait: in_state(State::CLOSE_WAIT),
                    fill: gauge.fill(ports.keys()),
                    fill_without_time_wait: gauge.fill(lasting.map(|(port, _)| port)),
                }
            })
            .collect();
        groups.sort_unstable_by_key(|group| (u64::MAX - group.connections, group.source, group.destination));
        Self {
            by_state,
            inodes: asked().map(|socket| socket.inode).collect(),
            ports: ports.len() as u64,
            barred: usable_barred.len() as u64,
            fill: groups.first().map_or_else(|| gauge.fill([].iter()), |group| group.fill),
            all: gauge.fill(together.iter()),
            early: early.len() as u64,
            groups,
        }
    }

    pub fn sockets(&self) -> u64 {
        self.by_state.values().sum()
    }

    /// Of them, those in TIME_WAIT.
    pub fn time_wait(&self) -> u64 {
        self.by_state.get(&State::TIME_WAIT).copied().unwrap_or(0)
    }
}

/// A range to count ports against.
struct Gauge<'a> {
    range: &'a Range,
    usable: u64,
    knee: u64,
    barred: &'a HashSet<u16>,
}

impl Gauge<'_> {
    /// The fill with these usable ports taken, none of them barred.
    fn fill<'a>(&self, taken: impl Iterator<Item = &'a u16>) -> Fill {
        let (mut used, mut first_pass) = (0, 0);
        for port in taken.copied().chain(self.barred.iter().copied()) {
            used += 1;
            first_pass += u64::from(self.range.is_first_pass(port));
        }
        let share = if self.usable == 0 { 1.0 } else { used as f64 / self.usable as f64 };
        let (knee, usable) = (self.knee, self.usable);
        Fill { used, usable, share, knee, to_knee: knee - first_pass, to_wall: usable - used }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(local: &str, remote: &str, state: State) -> Socket {
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        Socket { local, remote, state, interface: 0, inode: 7, received: 0, sending: 0, drops: 0, receive_buffer: 0 }
    }

    fn sockets() -> Vec<Socket> {
        vec![
            // A listener inside the range, and two connections it has accepted.
            socket("127.0.0.1:40001", "0.0.0.0:0", State::LISTEN),
            socket("127.0.0.1:40001", "127.0.0.1:40002", State::ESTABLISHED),
            socket("127.0.0.1:40001", "127.0.0.1:40004", State::ESTABLISHED),
            // Their clients, and a third connection in TIME_WAIT.
            socket("127.0.0.1:40002", "127.0.0.1:40001", State::ESTABLISHED),
            socket("127.0.0.1:40004", "127.0.0.1:40001", State::ESTABLISHED),
            socket("127.0.0.1:40003", "127.0.0.1:40001", State::TIME_WAIT),
            // Another group of the same destination, another destination, a reserved port, and one outside.
            socket("127.0.0.2:40002", "127.0.0.1:40001", State::ESTABLISHED),
            socket("127.0.0.1:40002", "127.0.0.1:80", State::ESTABLISHED),
            socket("127.0.0.1:40009", "127.0.0.1:80", State::ESTABLISHED),
            socket("127.0.0.1:80", "127.0.0.1:40002", State::ESTABLISHED),
        ]
    }

    #[test]
    fn groups_are_counted_apart() {
        let range = Range::parse("40000 40009", "40008-40009").unwrap();
        let usage = Usage::of(&range, &sockets(), None);
        let found: Vec<_> =
            usage.groups.iter().map(|g| (g.source.to_string(), g.destination.port(), g.connections)).collect();
        let group = |source: &str, port, connections| (source.to_owned(), port, connections);
        assert_eq!(found, [group("127.0.0.1", 40_001, 3), group("127.0.0.1", 80, 1), group("127.0.0.2", 40_001, 1)]);
        assert_eq!(usage.groups[0].time_wait, 1);
        assert_eq!((usage.sockets(), usage.time_wait(), usage.ports, usage.barred), (9, 1, 5, 1));
        // 40000, 40002, 40004 and 40006 come first, and two of them are taken; of all eight usable ports, 40003 and the
        // listener's are taken, too.
        let fill = Fill { used: 4, usable: 8, share: 0.5, knee: 4, to_knee: 2, to_wall: 4 };
        assert_eq!(usage.fill, fill);
        assert_eq!(usage.groups[0].fill, fill);
    }

    #[test]
    fn a_destination_is_asked_for_alone() {
        let range = Range::parse("40000 40009", "").unwrap();
        let usage = Usage::of(&range, &sockets(), Some("127.0.0.1:80".parse().unwrap()));
        assert_eq!((usage.sockets(), usage.groups.len(), usage.groups[0].connections), (2, 1, 2));
        // No connections: what a new group would find.
        let usage = Usage::of(&range, &sockets(), Some("127.0.0.1:81".parse().unwrap()));
        assert_eq!((usage.sockets(), usage.groups.len()), (0, 0));
        assert_eq!((usage.fill.used, usage.fill.to_knee, usage.fill.to_wall), (1, 5, 9));
    }

    #[test]
    fn nothing_usable_is_full() {
        let range = Range::parse("40000 40009", "40000-40009").unwrap();
        let fill = Usage::of(&range, &sockets(), None).fill;
        assert_eq!((fill.share, fill.knee, fill.to_wall), (1.0, 0, 0));
    }
}
