//! Listening sockets, opened once before the workers are forked. A bound UDP socket counts as a listener here: it is the
//! worker's source of datagrams.
//!
//! A server may be bound to several addresses. Each queue of the strategy then has a listener on each of them, in the order of
//! `server.bind`, and so the listeners on one address form a group of their own.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileTypeExt,
    },
    path::{Path, PathBuf},
};

use mio::net::TcpStream;
use nix::{
    errno::Errno,
    net::if_::{if_nameindex, if_nametoindex},
    sys::{
        socket::{setsockopt, sockopt},
        stat::fstat,
    },
};
use socket2::{Domain, SockRef, Socket, Type};

use crate::{
    observe::{holder, listeners::Place, mptcp, sysctl},
    scenario::{
        AcceptFlags, ListenOptions, Queues, Scenario, Transport,
        keys::{self, AnyKey},
        sharers,
    },
    sys::{
        socket,
        unix::{self, UnixAddress},
    },
};

/// The bits of sysctl tcp_fastopen that enable it for clients and for servers (ip-sysctl.rst).
const FASTOPEN_BOTH: u32 = 3;

/// Where a server listens, for how many workers, and with which options.
#[derive(Debug, Clone)]
pub struct Site {
    /// What its listeners are bound to: at least one address.
    pub bound: Vec<SocketAddr>,
    /// The Unix socket that it listens on in place of that one address, if it does.
    pub unix: Option<UnixAddress>,
    /// Path of the key that names these addresses.
    pub named_by: &'static str,
    pub transport: Transport,
    /// Number of worker processes.
    pub workers: usize,
    pub options: ListenOptions,
    /// IPV6_V6ONLY of IPv6 listeners; `None` for the kernel's default.
    pub v6only: Option<bool>,
    /// The network device that its listeners are bound to, if any.
    pub device: Option<String>,
    /// Whether listeners are opened such that others may join them at the same addresses later.
    pub joinable: bool,
}

impl Site {
    /// The site of a scenario's server, with listeners that others need not join.
    pub fn of(scenario: &Scenario, transport: Transport) -> Self {
        let Scenario { server, address, .. } = scenario;
        let bind = &server.bind;
        Self {
            bound: scenario.bound(),
            unix: scenario.unix.clone(),
            named_by: if bind.addresses.is_empty() { keys::ADDRESS.path() } else { keys::SERVER_BIND.path() },
            v6only: bind.v6only,
            device: bind.device.clone(),
            options: server.listen,
            ..Self::at(*address, transport, server.workers)
        }
    }

    /// A site at one address, without options.
    pub fn at(address: SocketAddr, transport: Transport, workers: usize) -> Self {
        Self {
            bound: vec![address],
            unix: None,
            named_by: keys::ADDRESS.path(),
            transport,
            workers,
            options: ListenOptions::default(),
            v6only: None,
            device: None,
            joinable: false,
        }
    }
}

/// A worker's part: the listeners of its queue, one on each address. Where there are several, they take turns.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<Socket>,
    transport: Transport,
    flags: AcceptFlags,
    multipath: bool,
    turns: Turns,
}

impl Listener {
    fn new(sockets: Vec<Socket>, transport: Transport, options: &ListenOptions) -> Self {
        let turns = Turns::of(sockets.len());
        Self { sockets, transport, flags: options.accept_flags, multipath: options.multipath, turns }
    }

    /// Whether it is MPTCP's.
    pub fn is_multipath(&self) -> bool {
        self.multipath
    }

    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The sockets themselves, for mechanisms that do not call accept.
    pub fn sockets(&self) -> &[Socket] {
        &self.sockets
    }

    /// The same, to be kept.
    pub fn into_sockets(self) -> Vec<Socket> {
        self.sockets
    }

    /// Their descriptors.
    pub fn descriptors(&self) -> impl ExactSizeIterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(AsFd::as_fd)
    }

    /// Which of them the kernel has just reported to have something. Until then, all of them may.
    pub fn report(&mut self, places: impl Iterator<Item = usize>) {
        self.turns.report(places);
    }

    /// All of them may have something.
    pub fn report_all(&mut self) {
        self.turns.report(0..self.sockets.len());
    }

    /// The one to be asked next: of those that have been reported and not found empty since.
    pub fn turn(&self) -> Option<usize> {
        self.turns.next()
    }

    /// One of them has given something: it is the next one's turn.
    pub fn gave(&mut self, place: usize) {
        self.turns.gave(place);
    }

    /// One of them was found empty. Returns whether another is to be asked.
    pub fn emptied(&mut self, place: usize) -> bool {
        self.turns.emptied(place)
    }

    /// Calls accept4(2) on the listener whose turn it is, as [`Self::accept_at`] does. Fails with `WouldBlock` if that one is empty, or
    /// all of them have been found so.
    pub fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let Some(place) = self.turns.next() else { return Err(io::ErrorKind::WouldBlock.into()) };
        let accepted = self.accept_at(place);
        match &accepted {
            Ok(_) => self.turns.gave(place),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => drop(self.turns.emptied(place)),
            Err(_) => {}
        }
        accepted
    }

    /// Whether one of several has been reported, and not found empty since: the last call of [`Self::accept`] then was not about all.
    pub fn has_another(&self) -> bool {
        self.turns.has_another()
    }

    /// Calls accept4(2) with the scenario's flags. The connection is non-blocking in any case. A client's IPv4 address is one, whatever
    /// the listener's family.
    pub fn accept_at(&self, place: usize) -> io::Result<(TcpStream, SocketAddr)> {
        let flags = |wanted, flag| if wanted { flag } else { 0 };
        let (stream, peer) = self.sockets[place].accept4(
            flags(self.flags.nonblock(), libc::SOCK_NONBLOCK) | flags(self.flags.cloexec(), libc::SOCK_CLOEXEC),
        )?;
        if !self.flags.nonblock() {
            stream.set_nonblocking(true)?;
        }
        let peer = unix::end(&peer).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        // For mio, a connection of a Unix socket is a stream like any other.
        Ok((TcpStream::from_std(stream.into()), peer))
    }
}

/// Whose turn it is among the listeners of a worker.
#[derive(Debug, Clone, Copy)]
struct Turns {
    count: usize,
    /// A bit for each that has been reported, and not found empty since.
    reported: u32,
    first: usize,
}

impl Turns {
    fn of(count: usize) -> Self {
        Self { count, reported: u32::MAX, first: 0 }
    }

    fn report(&mut self, places: impl Iterator<Item = usize>) {
        // A single one is asked whenever something is reported.
        if self.count > 1 {
            self.reported = places.fold(0, |all, place| all | 1 << place);
        }
    }

    fn next(&self) -> Option<usize> {
        (self.first..self.first + self.count)
            .map(|place| place % self.count)
            .find(|place| self.reported >> place & 1 == 1)
    }

    fn gave(&mut self, place: usize) {
        self.first = (place + 1) % self.count;
    }

    fn emptied(&mut self, place: usize) -> bool {
        if self.count > 1 {
            self.reported &= !(1 << place);
        }
        self.has_another()
    }

    fn has_another(&self) -> bool {
        self.count > 1 && self.next().is_some()
    }
}

/// The listeners of a trial: for each queue, one on each address.
#[derive(Debug)]
pub struct Listeners {
    /// Worker w uses queue w modulo their count.
    queues: Vec<Vec<Socket>>,
    site: Site,
}

/// Why a listener could not be opened.
#[derive(Debug)]
pub struct ListenError {
    address: SocketAddr,
    unix: Option<Box<UnixAddress>>,
    transport: Transport,
    call: &'static str,
    error: io::Error,
    named_by: &'static str,
    multipath: bool,
    device: Option<String>,
}

impl ListenError {
    /// Path of the key whose value is at fault on this machine, if it is one of where to listen.
    pub fn key(&self) -> Option<&'static str> {
        match (self.error.raw_os_error(), self.call) {
            (Some(libc::ENODEV | libc::EPERM), BIND_TO_DEVICE) => Some(keys::SERVER_DEVICE.path()),
            (Some(libc::EADDRNOTAVAIL), "bind") => Some(self.named_by),
            (Some(errno), SOCKET) if self.multipath && mptcp::is_lack(errno) => Some(keys::PROTOCOL.path()),
            (Some(_), "bind") if self.unix.is_some() => Some(self.named_by),
            _ => None,
        }
    }
}

const SOCKET: &str = "socket";
const BIND_TO_DEVICE: &str = "setsockopt SO_BINDTODEVICE";

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (BIND_TO_DEVICE, Some(device)) = (self.call, &self.device) {
            write!(f, "{BIND_TO_DEVICE} \"{device}\": {}", self.error)?;
        } else if let Some(unix) = &self.unix {
            write!(f, "{} {unix}: {}", self.call, self.error)?;
            return self.remedy_of_unix(f, unix);
        } else {
            write!(f, "{} {}: {}", self.call, self.address, self.error)?;
        }
        let key = self.named_by;
        match (self.error.raw_os_error(), self.call) {
            (Some(libc::EADDRINUSE), _) => {
                let holder = holder::of_port(self.address.port(), self.transport);
                write!(f, "; {holder} holds it: stop that program, or choose another `port`")
            }
            (Some(libc::EADDRNOTAVAIL), _) => {
                write!(f, "; no network device here has this address: choose another `{key}`")
            }
            (Some(libc::ENODEV), BIND_TO_DEVICE) => {
                write!(f, "; the devices here are {}: choose one of them", devices().join(", "))
            }
            (Some(libc::EPERM), BIND_TO_DEVICE) => {
                write!(f, "; before Linux 5.7, `server.device` requires CAP_NET_RAW: run as root")
            }
            (Some(libc::EPERM), "setsockopt SO_BUSY_POLL") => {
                write!(f, "; `server.busy_poll` requires CAP_NET_ADMIN: run as root")
            }
            (Some(errno), SOCKET) if self.multipath && mptcp::is_lack(errno) => write!(f, "; {}", mptcp::remedy(errno)),
            (Some(libc::EMFILE), _) => {
                write!(f, "; each queue has a listener on each address: raise the limit of open files (ulimit -Hn)")
            }
            (Some(libc::EACCES), _) => {
                write!(f, "; ports below net.ipv4.ip_unprivileged_port_start require root: choose a higher `port`")
            }
            _ => Ok(()),
        }
    }
}

/// Whether the file itself, not what a link leads to, is a socket.
fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

impl ListenError {
    fn remedy_of_unix(&self, f: &mut fmt::Formatter<'_>, unix: &UnixAddress) -> fmt::Result {
        let key = self.named_by;
        match (self.error.raw_os_error(), unix.path()) {
            (Some(libc::EADDRINUSE), Some(path)) if !is_socket(Path::new(path)) => {
                write!(f, "; there is something else than a socket: choose another `{key}`")
            }
            // To connect would tell whether somebody listens, and be a connection that nobody there expects.
            (Some(libc::EADDRINUSE), Some(_)) => write!(
                f,
                "; there is such a socket: stop the program that listens there, or remove the file if none does, or choose another `{key}`"
            ),
            (Some(libc::EADDRINUSE), None) => {
                write!(f, "; another program has this name: stop it, or choose another `{key}`")
            }
            (Some(libc::ENOENT | libc::ENOTDIR), _) => {
                write!(f, "; there is no such folder: make it, or choose another `{key}`")
            }
            (Some(libc::EACCES | libc::EROFS), _) => {
                write!(f, "; this user may not make a file there: choose another `{key}`")
            }
            _ => Ok(()),
        }
    }
}

// The text already contains the system's error, so there is no `source`.
impl std::error::Error for ListenError {}

/// A Unix socket's file. Closing the socket leaves it, so it is removed when this is dropped, in the process that made it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    owner: u32,
}

impl SocketFile {
    /// The file of a server that the calling process has just opened, if it has one.
    pub fn of(unix: Option<&UnixAddress>) -> Option<Self> {
        Some(Self { path: unix?.path()?.into(), owner: std::process::id() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            // Its folder may have been removed before.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The network devices of the calling process's network.
fn devices() -> Vec<String> {
    let all = if_nameindex().ok();
    let names = all.iter().flat_map(|all| all.iter()).map(|device| device.name().to_string_lossy().into_owned());
    let names: Vec<String> = names.collect();
    if names.is_empty() { vec!["unknown".to_owned()] } else { names }
}

impl Listeners {
    /// Opens the listeners of each queue. The kernel numbers the members of a SO_REUSEPORT group in listen(2) order, or for UDP in
    /// bind(2) order: queue k is member k of the group on each address.
    pub fn open(site: Site, queues: Queues) -> Result<Self, ListenError> {
        if site.joinable || queues.form_group() {
            // Another program's group of the same user would admit these sockets and take part of the load: bind without the
            // option first.
            for address in &site.bound {
                bind(&socket(&site, *address, false)?, &site, *address)?;
            }
        }
        let listeners = Self::prepare(site, queues)?;
        listeners.listen()?;
        Ok(listeners)
    }

    /// Makes the sockets, with all their options, of listeners that [`Self::listen`] opens later.
    pub fn prepare(site: Site, queues: Queues) -> Result<Self, ListenError> {
        let group = site.joinable || queues.form_group();
        let of_queue = |_| site.bound.iter().map(|address| socket(&site, *address, group)).collect();
        let queues = (0..queues.count(site.workers)).map(of_queue).collect::<Result<_, _>>()?;
        Ok(Self { queues, site })
    }

    /// Opens the listeners.
    pub fn listen(&self) -> Result<(), ListenError> {
        let site = &self.site;
        for queue in &self.queues {
            for (socket, address) in queue.iter().zip(&site.bound) {
                bind(socket, site, *address)?;
                if site.transport == Transport::Tcp {
                    socket.listen(site.options.backlog).map_err(failed(site, *address, "listen"))?;
                }
            }
        }
        Ok(())
    }

    /// The number of the queue that a worker accepts from.
    pub fn queue_of(&self, worker: usize) -> usize {
        worker % self.queues.len()
    }

    /// How many queues there are.
    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    /// How many workers accept from each queue.
    pub fn sharers(&self) -> impl ExactSizeIterator<Item = usize> {
        let (queues, workers) = (self.queues.len(), self.site.workers);
        (0..queues).map(move |queue| sharers(queue, queues, workers))
    }

    /// Connects the sockets of some workers to a peer that never sends.
    pub fn connect(&self, workers: &[usize]) -> io::Result<()> {
        /// discard (RFC 863).
        const NOBODY: u16 = 9;
        workers.iter().flat_map(|worker| self.queues[self.queue_of(*worker)].iter().zip(&self.site.bound)).try_for_each(
            |(socket, bound)| {
                let port = if bound.port() == NOBODY { NOBODY + 1 } else { NOBODY };
                socket.connect(&SocketAddr::new(bound.ip(), port).into())
            },
        )
    }

    /// Keeps the listeners of one worker's queue and closes the others: a sibling's inherited listener left open would go on
    /// receiving connections that nobody accepts.
    pub fn take(mut self, worker: usize) -> Listener {
        let sockets = self.queues.swap_remove(self.queue_of(worker));
        Listener::new(sockets, self.site.transport, &self.site.options)
    }

    /// The listeners on each address, in the order of the queues. Options of a whole group may be set on any one of them.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = impl ExactSizeIterator<Item = SockRef<'_>>> {
        (0..self.site.bound.len()).map(|place| self.queues.iter().map(move |queue| SockRef::from(&queue[place])))
    }

    /// Every listener.
    pub fn each(&self) -> impl Iterator<Item = SockRef<'_>> {
        self.queues.iter().flatten().map(SockRef::from)
    }

    /// The socket inodes of a worker's listeners, which distinguish the members of a group in the kernel's tables.
    pub fn inodes_of(&self, worker: usize) -> io::Result<Vec<u32>> {
        let inode = |socket: &Socket| Ok(fstat(socket.as_fd())?.st_ino as u32);
        self.queues[self.queue_of(worker)].iter().map(inode).collect()
    }

    /// What the listeners are bound to, as the kernel has it.
    pub fn places(&self) -> io::Result<Vec<Place>> {
        let device = self.site.device.as_deref().map(if_nametoindex).transpose()?.unwrap_or(0);
        let place = |(socket, address): (&Socket, &SocketAddr)| {
            let is_any = address.is_ipv6() && address.ip().is_unspecified();
            let dual_stack = is_any && !socket.only_v6()?;
            Ok(Place { address: *address, dual_stack, device })
        };
        self.queues.first().into_iter().flatten().zip(&self.site.bound).map(place).collect()
    }
}

fn failed(site: &Site, address: SocketAddr, call: &'static str) -> impl FnOnce(io::Error) -> ListenError {
    let (transport, named_by, device, unix) =
        (site.transport, site.named_by, site.device.clone(), site.unix.clone().map(Box::new));
    let multipath = site.options.multipath;
    move |error| ListenError { address, unix, transport, call, error, named_by, multipath, device }
}

/// A socket with the site's options.
fn socket(site: &Site, address: SocketAddr, reuse_port: bool) -> Result<Socket, ListenError> {
    let Site { transport, options, .. } = *site;
    let failed = |call| failed(site, address, call);
    if let Some(unix) = &site.unix {
        // The options that follow are those of networks.
        return socket::unix(unix).map_err(failed(SOCKET));
    }
    let domain = Domain::for_address(address);
    let opened = match transport {
        Transport::Tcp => socket::stream(domain, options.multipath),
        Transport::Udp => Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), None),
    };
    let socket = opened.map_err(failed(SOCKET))?;
    if let (true, Some(v6only)) = (address.is_ipv6(), site.v6only) {
        socket.set_only_v6(v6only).map_err(failed("setsockopt IPV6_V6ONLY"))?;
    }
    if let Some(device) = &site.device {
        socket.bind_device(Some(device.as_bytes())).map_err(failed(BIND_TO_DEVICE))?;
    }
    if options.receive_buffer_bytes > 0 {
        set_receive_buffer(&socket, options.receive_buffer_bytes as usize).map_err(failed("setsockopt SO_RCVBUF"))?;
    }
    if options.busy_poll_us > 0 {
        socket.set_busy_poll(options.busy_poll_us).map_err(failed("setsockopt SO_BUSY_POLL"))?;
    }
    match transport {
        Transport::Tcp => {
            // An earlier run's connections in TIME_WAIT do not then block the port; another listener still does.
            socket.set_reuse_address(true).map_err(failed("setsockopt SO_REUSEADDR"))?;
            if options.nodelay {
                // Connections inherit it, which saves a system call for each.
                socket.set_tcp_nodelay(true).map_err(failed("setsockopt TCP_NODELAY"))?;
            }
            if options.defer_accept_s > 0 {
                socket::set_defer_accept(&socket, options.defer_accept_s)
                    .map_err(failed("setsockopt TCP_DEFER_ACCEPT"))?;
            }
            if options.fastopen > 0 {
                fastopen_allowed().map_err(failed("setsockopt TCP_FASTOPEN"))?;
                socket::set_fastopen(&socket, options.fastopen).map_err(failed("setsockopt TCP_FASTOPEN"))?;
            }
        }
        Transport::Udp => {
            // The kernel then reports with each datagram how many the socket has lost so far.
            setsockopt(&socket, sockopt::RxqOvfl, &1)
                .map_err(|errno: Errno| failed("setsockopt SO_RXQ_OVFL")(errno.into()))?;
            if address.ip().is_unspecified() {
                tell_destinations(&socket, address).map_err(failed("setsockopt IP_PKTINFO"))?;
            }
        }
    }
    if reuse_port {
        socket.set_reuse_port(true).map_err(failed("setsockopt SO_REUSEPORT"))?;
    }
    Ok(socket)
}

/// Makes the kernel say with each datagram which address it was sent to. A client takes no reply from another.
fn tell_destinations(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv4() {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        // Of an IPv4 client of a socket for both, it tells the mapped address.
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    Ok(())
}

fn bind(socket: &Socket, site: &Site, address: SocketAddr) -> Result<(), ListenError> {
    let to = site.unix.as_ref().map_or_else(|| Ok(address.into()), UnixAddress::sockaddr);
    to.and_then(|to| socket.bind(&to)).map_err(failed(site, address, "bind"))
}

/// Sets the buffer's size or fails: by default, the kernel silently reduces a size beyond the sysctl's limit.
fn set_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    if setsockopt(socket, sockopt::RcvBufForce, &bytes).is_ok() {
        return Ok(());
    }
    socket.set_recv_buffer_size(bytes)?;
    let given = socket.recv_buffer_size()?;
    if given >= bytes {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "the kernel grants {given} of {bytes} bytes: raise sysctl net.core.rmem_max, or run as root"
    )))
}

/// Fails unless the sysctl enables TCP Fast Open: without it, the kernel accepts the option but ignores it.
fn fastopen_allowed() -> io::Result<()> {
    let value: u32 = sysctl::read("tcp_fastopen").and_then(|text| text.parse().ok()).unwrap_or(0);
    if value & FASTOPEN_BOTH == FASTOPEN_BOTH {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "sysctl net.ipv4.tcp_fastopen is {value}, but `server.fastopen` requires 3 (client and server): set \
         `sysctl.tcp_fastopen = 3`, or for the machine's own network run sysctl -w net.ipv4.tcp_fastopen=3"
    )))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpListener, TcpStream};

    use super::*;

    /// A site on a port that was free a moment ago.
    fn site(workers: usize) -> Site {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Site::at(address, Transport::Tcp, workers)
    }

    fn inodes(listener: &Listener) -> Vec<u32> {
        listener.descriptors().map(|fd| fstat(fd).unwrap().st_ino as u32).collect()
    }

    #[test]
    fn workers_share_queues_by_their_numbers() {
        for (queues, shared_as) in [
            (Queues::One, [0, 0, 0, 0, 0]),
            (Queues::Group(2), [0, 1, 0, 1, 0]),
            (Queues::Group(3), [0, 1, 2, 0, 1]),
            (Queues::PerWorker, [0, 1, 2, 3, 4]),
        ] {
            let listeners = Listeners::open(site(5), queues).unwrap();
            let own: Vec<u32> = listeners.each().map(|socket| fstat(socket.as_fd()).unwrap().st_ino as u32).collect();
            assert_eq!(own.len(), queues.count(5));
            let inodes = [0, 1, 2, 3, 4].map(|worker| listeners.inodes_of(worker).unwrap());
            assert_eq!(inodes, shared_as.map(|queue: usize| vec![own[queue]]));
            assert_eq!([0, 1, 2, 3, 4].map(|worker| listeners.queue_of(worker)), shared_as);
        }
    }

    /// The kernel spreads connections over all members of a group that any process has open: once a worker has taken its own and
    /// closed the others, every connection goes there, on each address.
    #[test]
    fn a_worker_that_takes_its_listeners_closes_the_others() {
        for worker in 0..5 {
            let mut site = site(5);
            let address = site.bound[0];
            let other = SocketAddr::new([127, 0, 0, 2].into(), address.port());
            site.bound.push(other);
            let listeners = Listeners::open(site, Queues::Group(3)).unwrap();
            let expected = listeners.inodes_of(worker).unwrap();
            let mut own = listeners.take(worker);
            assert_eq!(inodes(&own), expected);
            let clients =
                [address, other].map(|to| (0..20).map(|_| TcpStream::connect(to).unwrap()).collect::<Vec<_>>());
            // They take turns.
            for (first, second) in clients[0].iter().zip(&clients[1]) {
                let peers = [own.accept().unwrap().1, own.accept().unwrap().1];
                assert_eq!(peers, [first.local_addr().unwrap(), second.local_addr().unwrap()]);
            }
            assert!(own.accept().is_err() && own.has_another() && own.accept().is_err() && !own.has_another());
        }
    }

    #[test]
    fn an_ipv4_client_of_a_listener_for_both_has_its_own_address() {
        let port = site(1).bound[0].port();
        for (v6only, takes_both) in [(Some(false), true), (Some(true), false)] {
            let site = Site { v6only, ..Site::at((Ipv6Addr::UNSPECIFIED, port).into(), Transport::Tcp, 1) };
            let listeners = Listeners::open(site, Queues::One).unwrap();
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            assert_eq!(listeners.places().unwrap()[0].fit(address).is_some(), takes_both);
            let client = TcpStream::connect(address);
            assert_eq!(client.is_ok(), takes_both);
            if let Ok(client) = client {
                assert_eq!(listeners.take(0).accept().unwrap().1, client.local_addr().unwrap());
            }
        }
    }

    #[test]
    fn an_unknown_device_is_named_with_those_that_exist() {
        let site = Site { device: Some("nosuch0".to_owned()), ..site(1) };
        let error = Listeners::open(site, Queues::One).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("\"nosuch0\"") && text.contains("the devices here are") && text.contains("lo"), "{text}");
        assert_eq!(error.key(), Some("server.device"));
    }
}
