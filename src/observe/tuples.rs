//! What connections take of the ephemeral ports, by tuple group: source address, destination address and destination port.
//! Within a group a local port belongs to one connection, and each group has all usable ports to itself.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use serde::Serialize;

use super::{
    ports::Range,
    sockets::{Socket, State},
};

/// How full a tuple group is. Counts of ports.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fill {
    /// Taken by the group's connections, or barred to every group.
    pub used: u64,
    /// There for a group: where no more is to be had (EADDRNOTAVAIL), the wall.
    pub usable: u64,
    /// `used` ÷ `usable`; 1 where nothing is usable.
    pub share: f64,
    /// Where connect without bind becomes slow: the ports of the parity that it tries first.
    pub knee: u64,
    /// Ports left of those.
    pub to_knee: u64,
    /// Ports left at all.
    pub to_wall: u64,
}

/// A tuple group and what it has of the range.
#[derive(Debug, Clone, Serialize)]
pub struct TupleGroup {
    /// The source address.
    pub source: IpAddr,
    /// The destination address and port.
    pub destination: SocketAddr,
    /// Local ports inside the range that its connections have.
    pub connections: u64,
    /// Of them, those in TIME_WAIT.
    pub time_wait: u64,
    /// How full it is.
    pub fill: Fill,
}

/// What is used of a range.
#[derive(Debug)]
pub struct Usage {
    /// Sockets whose local port is inside the range and which were asked for, by state.
    pub by_state: BTreeMap<State, u64>,
    /// Their inodes; 0 where a socket belongs to no descriptor.
    pub inodes: Vec<u32>,
    /// Their local ports, each once.
    pub ports: u64,
    /// Usable ports that some socket listens on or is bound to: connect without bind passes them over in every group,
    /// whatever their address. Ports of sockets that were bound and then connected are so too, but cannot be told apart.
    pub barred: u64,
    /// The groups that were asked for, fullest first.
    pub groups: Vec<TupleGroup>,
    /// How full the fullest is; without one, a new group.
    pub fill: Fill,
}

impl Usage {
    /// Counts sockets of TCP; with a destination, only its connections.
    pub fn of(range: &Range, sockets: &[Socket], to: Option<SocketAddr>) -> Self {
        let inside = || sockets.iter().filter(|socket| range.contains(socket.local.port()));
        let barred: HashSet<u16> = inside().filter(|socket| is_bound_only(socket)).map(|s| s.local.port()).collect();
        let usable_barred: HashSet<u16> = barred.iter().copied().filter(|port| !range.is_reserved(*port)).collect();
        let asked = || inside().filter(|socket| to.is_none_or(|to| socket.remote == to));

        let mut by_state = BTreeMap::new();
        let mut ports = HashSet::new();
        // By group, each port and whether it is in TIME_WAIT.
        let mut taken: HashMap<(IpAddr, SocketAddr), HashMap<u16, bool>> = HashMap::new();
        for socket in asked() {
            let port = socket.local.port();
            *by_state.entry(socket.state).or_default() += 1;
            ports.insert(port);
            // A connection on a port that is listened on was accepted: it takes no port of its own.
            if !barred.contains(&port) && !range.is_reserved(port) && socket.remote.port() != 0 {
                let group = taken.entry((socket.local.ip(), socket.remote)).or_default();
                group.insert(port, socket.state == State::TIME_WAIT);
            }
        }
        let gauge = Gauge { range, usable: range.usable(), knee: range.first_pass(), barred: &usable_barred };
        let mut groups: Vec<TupleGroup> = taken
            .into_iter()
            .map(|((source, destination), ports)| TupleGroup {
                source,
                destination,
                connections: ports.len() as u64,
                time_wait: ports.values().filter(|time_wait| **time_wait).count() as u64,
                fill: gauge.fill(ports.keys()),
            })
            .collect();
        groups.sort_unstable_by_key(|group| (u64::MAX - group.connections, group.source, group.destination));
        Self {
            by_state,
            inodes: asked().map(|socket| socket.inode).collect(),
            ports: ports.len() as u64,
            barred: usable_barred.len() as u64,
            fill: groups.first().map_or_else(|| gauge.fill([].iter()), |group| group.fill),
            groups,
        }
    }

    /// Sockets counted.
    pub fn sockets(&self) -> u64 {
        self.by_state.values().sum()
    }

    /// Of them, those in TIME_WAIT.
    pub fn time_wait(&self) -> u64 {
        self.by_state.get(&State::TIME_WAIT).copied().unwrap_or(0)
    }
}

/// Listening, or bound and no more.
fn is_bound_only(socket: &Socket) -> bool {
    socket.remote.port() == 0
}

/// A range against which ports are counted.
struct Gauge<'a> {
    range: &'a Range,
    usable: u64,
    knee: u64,
    barred: &'a HashSet<u16>,
}

impl Gauge<'_> {
    /// With these usable ports taken, none of them barred.
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
            // A listener inside the range, and two connections that it has accepted.
            socket("127.0.0.1:40001", "0.0.0.0:0", State::LISTEN),
            socket("127.0.0.1:40001", "127.0.0.1:40002", State::ESTABLISHED),
            socket("127.0.0.1:40001", "127.0.0.1:40004", State::ESTABLISHED),
            // Their clients, and a third that is over.
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
        // 40000, 40002, 40004, 40006 come first; two of them are taken, and of all eight also 40003 and the listener's.
        let fill = Fill { used: 4, usable: 8, share: 0.5, knee: 4, to_knee: 2, to_wall: 4 };
        assert_eq!(usage.fill, fill);
        assert_eq!(usage.groups[0].fill, fill);
    }

    #[test]
    fn a_destination_is_asked_for_alone() {
        let range = Range::parse("40000 40009", "").unwrap();
        let usage = Usage::of(&range, &sockets(), Some("127.0.0.1:80".parse().unwrap()));
        assert_eq!((usage.sockets(), usage.groups.len(), usage.groups[0].connections), (2, 1, 2));
        // Nobody goes there: what a new group would find.
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
