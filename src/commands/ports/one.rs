//! Explains one port.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use anyhow::{Context, Result};
use comfy_table::CellAlignment;
use serde::Serialize;

use super::{
    diagnosis::{Diagnosis, Severity},
    names, say, states, table,
};
use crate::{
    format::{self, thousands},
    observe::{
        holder::{self, Process},
        ports::{Class, Range},
        queues::Queue,
        services,
        sockets::{self, Socket, State},
        sysctl,
    },
    scenario::Transport,
};

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report {
    pub diagnosis: Diagnosis,
    port: u16,
    class: Class,
    /// Names in /etc/services.
    service: Service,
    /// Whether binding it requires CAP_NET_BIND_SERVICE.
    privileged: bool,
    /// The first port that does not require it: net.ipv4.ip_unprivileged_port_start.
    unprivileged_from: u16,
    /// The ephemeral range.
    range: (u16, u16),
    in_range: bool,
    reserved: bool,
    /// The command that reserves it for a server; `None` if clients are never given it anyway.
    remedy: Option<String>,
    tcp: Vec<Listener>,
    udp: Vec<DatagramSocket>,
    /// Non-listening TCP sockets with this local port.
    connections: BTreeMap<State, u64>,
}

#[derive(Debug, Serialize)]
struct Service {
    tcp: Option<String>,
    udp: Option<String>,
}

/// A listening TCP socket.
#[derive(Debug, Serialize)]
struct Listener {
    #[serde(flatten)]
    owned: Owned,
    queue: Queue,
    /// Whether the next connection would be dropped.
    full: bool,
}

/// A UDP socket.
#[derive(Debug, Serialize)]
struct DatagramSocket {
    #[serde(flatten)]
    owned: Owned,
    /// The peer, if connected.
    peer: Option<SocketAddr>,
    /// Memory used by queued datagrams, in bytes.
    bytes: u32,
    /// Limit of that memory, in bytes.
    limit: u32,
    /// Datagrams dropped because it was full.
    drops: u32,
}

/// A socket's address and owners.
#[derive(Debug, Serialize)]
struct Owned {
    address: SocketAddr,
    inode: u32,
    processes: Vec<Process>,
    /// Number of sockets with the same address, port and device (and peer), this one included. More than one means an
    /// SO_REUSEPORT group, or with UDP perhaps SO_REUSEADDR. A group of one cannot be told from a socket without the
    /// option.
    group: usize,
}

impl Report {
    /// Reads the caller's network namespace. Fails if /proc or sock_diag does not answer.
    pub fn read(port: u16) -> Result<Self> {
        let range = Range::read()?;
        let unprivileged_from: u16 = sysctl::read("ip_unprivileged_port_start")
            .and_then(|value| value.parse().ok())
            .context("/proc/sys/net/ipv4/ip_unprivileged_port_start cannot be read: mount /proc")?;
        let tcp = sockets::read(Transport::Tcp, Some(port))?;
        let udp = sockets::read(Transport::Udp, Some(port))?;
        let (listening, others): (Vec<Socket>, Vec<Socket>) =
            tcp.into_iter().partition(|socket| socket.state == State::LISTEN);
        let mut connections = BTreeMap::new();
        for socket in others {
            *connections.entry(socket.state).or_default() += 1;
        }
        let inodes = listening.iter().chain(&udp).map(|socket| u64::from(socket.inode)).collect();
        let holders = holder::of_sockets(&inodes);
        let (in_range, reserved) = (range.contains(port), range.is_reserved(port));
        let remedy = (in_range && !reserved).then(|| remedy(&range, port));
        let tcp: Vec<Listener> =
            owned(&listening, &holders).map(|(socket, owned)| Listener::of(socket, owned)).collect();
        let udp: Vec<DatagramSocket> =
            owned(&udp, &holders).map(|(socket, owned)| DatagramSocket::of(socket, owned)).collect();
        Ok(Self {
            diagnosis: diagnose(&tcp, &udp, remedy.as_deref()),
            port,
            class: Class::of(port),
            service: Service { tcp: services::name(port, Transport::Tcp), udp: services::name(port, Transport::Udp) },
            privileged: port < unprivileged_from,
            unprivileged_from,
            range: (range.low, range.high),
            in_range,
            reserved,
            remedy,
            tcp,
            udp,
            connections,
        })
    }

    /// Prints the report as tables.
    pub fn print(&self) -> Result<()> {
        let mut facts = table();
        facts.add_row(["diagnosis", &self.diagnosis.lines()]);
        facts.add_row(["port", &format!("{}: {}", self.port, self.class.name())]);
        let service = [("TCP", &self.service.tcp), ("UDP", &self.service.udp)].into_iter();
        let service: Vec<String> =
            service.filter_map(|(over, name)| Some(format!("{} over {over}", name.as_ref()?))).collect();
        facts.add_row([
            "service",
            &if service.is_empty() { "no entry in /etc/services".to_owned() } else { service.join(", ") },
        ]);
        facts.add_row(["privilege", &self.privilege()]);
        facts.add_row(["ephemeral", &self.ephemeral()]);
        facts.add_row(["TCP", &places(self.tcp.iter().map(|listener| &listener.owned), "an SO_REUSEPORT group")]);
        facts.add_row([
            "UDP",
            &places(self.udp.iter().map(|socket| &socket.owned), "sharing by SO_REUSEPORT or SO_REUSEADDR"),
        ]);
        if !self.connections.is_empty() {
            facts.add_row(["other sockets", &format!("TCP with this local port: {}", states(&self.connections))]);
        }
        say(facts)?;
        self.print_sockets()
    }

    fn privilege(&self) -> String {
        let start = format!("net.ipv4.ip_unprivileged_port_start is {}", self.unprivileged_from);
        if self.privileged {
            format!("binding it requires CAP_NET_BIND_SERVICE: {start}")
        } else {
            format!("any user may bind it: {start}")
        }
    }

    fn ephemeral(&self) -> String {
        let (low, high) = self.range;
        match (self.in_range, &self.remedy) {
            (false, _) => format!("outside the range {low}–{high}: clients are never given it automatically"),
            (true, None) => {
                format!("inside the range {low}–{high} but reserved: clients are never given it automatically")
            }
            (true, Some(remedy)) => format!(
                "inside the range {low}–{high} and not reserved: while no server is bound to it (during a restart, say), a client's \
                 connect() can take it, and the server's bind() then fails with EADDRINUSE; reserve it:\n{remedy}"
            ),
        }
    }

    /// One line per socket.
    fn print_sockets(&self) -> Result<()> {
        let rows = self.tcp.iter().map(|listener| {
            let Queue { length, limit, drops } = listener.queue;
            let full = if listener.full { ", full" } else { "" };
            let queue = format!("{} (backlog {}){full}", thousands(length.into()), thousands(limit.into()));
            ("TCP", &listener.owned, None, queue, drops)
        });
        let datagrams = self.udp.iter().map(|socket| {
            let queue = format!("{} of {} B", thousands(socket.bytes.into()), thousands(socket.limit.into()));
            ("UDP", &socket.owned, socket.peer, queue, socket.drops)
        });
        let mut grid = table();
        grid.set_header(["", "address", "process", "group", "queue", "drops"]);
        for (over, owned, peer, queue, drops) in rows.chain(datagrams) {
            let address = peer.map_or(owned.address.to_string(), |peer| format!("{}\nfrom {peer}", owned.address));
            let (processes, group) = (names(&owned.processes), owned.group.to_string());
            grid.add_row([over, &address, &processes, &group, &queue, &thousands(drops.into())]);
        }
        for column in grid.column_iter_mut().skip(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if grid.is_empty() { Ok(()) } else { say(grid) }
    }
}

impl Listener {
    fn of(socket: &Socket, owned: Owned) -> Self {
        let queue = Queue { length: socket.received, limit: socket.sending, drops: socket.drops };
        Self { owned, queue, full: queue.is_full() }
    }
}

impl DatagramSocket {
    fn of(socket: &Socket, owned: Owned) -> Self {
        Self {
            owned,
            peer: (socket.remote.port() != 0).then_some(socket.remote),
            bytes: socket.received,
            limit: socket.receive_buffer,
            drops: socket.drops,
        }
    }
}

/// What is wrong with the sockets of a port, worst first.
fn diagnose(tcp: &[Listener], udp: &[DatagramSocket], reserve: Option<&str>) -> Diagnosis {
    let full = tcp.iter().filter(|listener| listener.full).count();
    let drops: u64 = tcp.iter().map(|listener| u64::from(listener.queue.drops)).sum();
    let lost: u64 = udp.iter().map(|socket| u64::from(socket.drops)).sum();
    let faster =
        "accept faster: more workers, or more connections per wake-up; `listenbench observe` shows who accepts"
            .to_owned();
    let longer =
        "lengthen the queue: a larger backlog in the server's listen(), and net.core.somaxconn at least as large"
            .to_owned();
    let (severity, finding, remedies) = if full > 0 {
        let finding = format!(
            "{} full: the kernel drops further connections, and clients retry after a second or more",
            format::counted(full as u64, "accept queue is", "accept queues are")
        );
        (Severity::Critical, finding, vec![faster, longer])
    } else if drops > 0 {
        let finding = format!(
            "listeners have dropped {}, retries included, since they were opened",
            format::counted(drops, "segment", "segments")
        );
        (Severity::Warning, finding, vec![longer, faster])
    } else if lost > 0 {
        let finding =
            format!("sockets have dropped {} for lack of memory", format::counted(lost, "datagram", "datagrams"));
        let buffer = "enlarge the receive buffer: SO_RCVBUF, and net.core.rmem_max at least as large".to_owned();
        (Severity::Warning, finding, vec![buffer, "read faster: more workers, or recvmmsg()".to_owned()])
    } else if let (Some(command), false) = (reserve, tcp.is_empty() && udp.is_empty()) {
        let finding =
            "a client can be given this port while no server is bound to it, such as during a restart".to_owned();
        (Severity::Warning, finding, vec![format!("reserve it: `{command}`")])
    } else {
        (Severity::Ok, "nothing is wrong with the sockets of this port".to_owned(), Vec::new())
    };
    Diagnosis { severity, finding, remedies }
}

/// Sockets with their processes and the size of their group.
fn owned<'a>(
    sockets: &'a [Socket],
    holders: &'a HashMap<u64, Vec<Process>>,
) -> impl Iterator<Item = (&'a Socket, Owned)> {
    let place = |socket: &Socket| (socket.local, socket.remote, socket.interface);
    sockets.iter().map(move |socket| {
        let group = sockets.iter().filter(|other| place(other) == place(socket)).count();
        let processes = holders.get(&u64::from(socket.inode)).cloned().unwrap_or_default();
        (socket, Owned { address: socket.local, inode: socket.inode, processes, group })
    })
}

/// The command that reserves the port in addition to those already reserved.
fn remedy(range: &Range, port: u16) -> String {
    let reserved = range.reserved.iter().map(|ports| match (ports.start(), ports.end()) {
        (low, high) if low == high => format!("{low},"),
        (low, high) => format!("{low}-{high},"),
    });
    format!("sysctl -w net.ipv4.ip_local_reserved_ports={}{port}", reserved.collect::<String>())
}

/// `2 sockets on 127.0.0.1:80: an SO_REUSEPORT group`, one line per address.
fn places<'a>(sockets: impl Iterator<Item = &'a Owned>, shared: &str) -> String {
    let mut places: BTreeMap<SocketAddr, (usize, bool)> = BTreeMap::new();
    for owned in sockets {
        let (count, is_shared) = places.entry(owned.address).or_default();
        *count += 1;
        *is_shared |= owned.group > 1;
    }
    let lines = places.into_iter().map(|(address, (count, is_shared))| {
        let noun = if count == 1 { "socket" } else { "sockets" };
        let note = if is_shared { format!(": {shared}") } else { String::new() };
        format!("{count} {noun} on {address}{note}")
    });
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() { "no socket".to_owned() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worst_is_said() {
        let listener = |length, limit, drops| {
            let owned = Owned { address: ([127, 0, 0, 1], 80).into(), inode: 1, processes: Vec::new(), group: 1 };
            let queue = Queue { length, limit, drops };
            Listener { owned, queue, full: queue.is_full() }
        };
        let found = |tcp: &[Listener], reserve| {
            let Diagnosis { severity, remedies, .. } = diagnose(tcp, &[], reserve);
            (severity, remedies.first().map(|remedy| remedy.split(':').next().unwrap().to_owned()))
        };
        let some = |text: &str| Some(text.to_owned());
        // A queue of 7 holds 8.
        assert_eq!(found(&[listener(8, 7, 1)], Some("x")), (Severity::Critical, some("accept faster")));
        assert_eq!(found(&[listener(7, 7, 1)], Some("x")), (Severity::Warning, some("lengthen the queue")));
        assert_eq!(found(&[listener(7, 7, 0)], Some("x")), (Severity::Warning, some("reserve it")));
        assert_eq!(found(&[listener(7, 7, 0)], None), (Severity::Ok, None));
        assert_eq!(found(&[], Some("x")), (Severity::Ok, None));
    }

    #[test]
    fn the_remedy_keeps_ports_that_are_already_reserved() {
        let remedy = |reserved| remedy(&Range::parse("32768 60999", reserved).unwrap(), 40_000);
        assert_eq!(remedy(""), "sysctl -w net.ipv4.ip_local_reserved_ports=40000");
        assert_eq!(remedy("80,90-99"), "sysctl -w net.ipv4.ip_local_reserved_ports=80,90-99,40000");
    }
}
