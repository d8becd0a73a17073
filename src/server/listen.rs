//! Listening sockets, opened once before the workers are forked. A bound UDP socket counts as a listener here: it is the
//! worker's source of datagrams.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, BorrowedFd},
};

use mio::net::TcpStream;
use nix::{
    errno::Errno,
    sys::{
        socket::{setsockopt, sockopt},
        stat::fstat,
    },
};
use socket2::{Domain, SockRef, Socket, Type};

use crate::{
    observe::{holder, sysctl},
    scenario::{AcceptFlags, ListenOptions, Queues, Server, Transport, sharers},
    sys::socket,
};

/// The bits of sysctl tcp_fastopen that enable it for clients and for servers (ip-sysctl.rst).
const FASTOPEN_BOTH: u32 = 3;

/// Where a server listens, for how many workers, and with which options.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    pub address: SocketAddr,
    pub transport: Transport,
    /// Number of worker processes.
    pub workers: usize,
    pub options: ListenOptions,
    /// Whether listeners are opened such that others may join them at the same address later.
    pub joinable: bool,
}

impl Site {
    /// The site of a scenario's server, with listeners that others need not join.
    pub fn of(server: &Server, address: SocketAddr, transport: Transport) -> Self {
        Self { address, transport, workers: server.workers, options: server.listen, joinable: false }
    }
}

/// A worker's listener.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    transport: Transport,
    flags: AcceptFlags,
}

impl Listener {
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Calls accept4(2) with the scenario's flags. The connection is non-blocking in any case.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let flags = |wanted, flag| if wanted { flag } else { 0 };
        let (stream, peer) = self.socket.accept4(
            flags(self.flags.nonblock(), libc::SOCK_NONBLOCK) | flags(self.flags.cloexec(), libc::SOCK_CLOEXEC),
        )?;
        if !self.flags.nonblock() {
            stream.set_nonblocking(true)?;
        }
        let peer = peer.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok((TcpStream::from_std(stream.into()), peer))
    }

    /// The socket itself, for mechanisms that do not call accept.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<Listener> for TcpListener {
    fn from(listener: Listener) -> Self {
        listener.socket.into()
    }
}

/// The listeners of a trial, one per queue.
#[derive(Debug)]
pub struct Listeners {
    /// Worker w uses number w modulo their count.
    sockets: Vec<Socket>,
    site: Site,
}

/// Why a listener could not be opened.
#[derive(Debug)]
pub struct ListenError {
    address: SocketAddr,
    transport: Transport,
    call: &'static str,
    error: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.call, self.address, self.error)?;
        match (self.error.raw_os_error(), self.call) {
            (Some(libc::EADDRINUSE), _) => {
                let holder = holder::of_port(self.address.port(), self.transport);
                write!(f, "; {holder} holds it: stop that program, or choose another `port`")
            }
            (Some(libc::EADDRNOTAVAIL), _) => {
                write!(f, "; no network device here has this address: choose another `address`")
            }
            (Some(libc::EPERM), "setsockopt SO_BUSY_POLL") => {
                write!(f, "; `server.busy_poll` requires CAP_NET_ADMIN: run as root")
            }
            (Some(libc::EACCES), _) => {
                write!(f, "; ports below net.ipv4.ip_unprivileged_port_start require root: choose a higher `port`")
            }
            _ => Ok(()),
        }
    }
}

// The text already contains the system's error, so there is no `source`.
impl std::error::Error for ListenError {}

impl Listeners {
    /// Opens a listener for each queue. The kernel numbers the members of a SO_REUSEPORT group in listen(2) order, or for UDP in
    /// bind(2) order: queue k is member k.
    pub fn open(site: Site, queues: Queues) -> Result<Self, ListenError> {
        if site.joinable || queues.form_group() {
            // Another program's group of the same user would admit these sockets and take part of the load: bind without the
            // option first.
            bind(&socket(site, false)?, site)?;
        }
        let listeners = Self::prepare(site, queues)?;
        listeners.listen()?;
        Ok(listeners)
    }

    /// Makes the sockets, with all their options, of listeners that [`Self::listen`] opens later.
    pub fn prepare(site: Site, queues: Queues) -> Result<Self, ListenError> {
        let group = site.joinable || queues.form_group();
        let sockets = (0..queues.count(site.workers)).map(|_| socket(site, group)).collect::<Result<_, _>>()?;
        Ok(Self { sockets, site })
    }

    /// Opens the listeners.
    pub fn listen(&self) -> Result<(), ListenError> {
        let site = self.site;
        for socket in &self.sockets {
            bind(socket, site)?;
            if site.transport == Transport::Tcp {
                let failed =
                    |error| ListenError { address: site.address, transport: site.transport, call: "listen", error };
                socket.listen(site.options.backlog).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// The number of the queue that a worker accepts from.
    pub fn queue_of(&self, worker: usize) -> usize {
        worker % self.sockets.len()
    }

    /// How many workers accept from each queue.
    pub fn sharers(&self) -> impl ExactSizeIterator<Item = usize> {
        let (queues, workers) = (self.sockets.len(), self.site.workers);
        (0..queues).map(move |queue| sharers(queue, queues, workers))
    }

    /// Connects the sockets of some workers to a peer that never sends.
    pub fn connect(&self, workers: &[usize]) -> io::Result<()> {
        /// discard (RFC 863).
        const NOBODY: u16 = 9;
        let port = if self.site.address.port() == NOBODY { NOBODY + 1 } else { NOBODY };
        let peer = SocketAddr::new(self.site.address.ip(), port);
        workers.iter().try_for_each(|&worker| self.sockets[self.queue_of(worker)].connect(&peer.into()))
    }

    /// Keeps one worker's listener and closes the others: a sibling's inherited listener left open would go on
    /// receiving connections that nobody accepts.
    pub fn take(mut self, worker: usize) -> Listener {
        let socket = self.sockets.swap_remove(self.queue_of(worker));
        Listener { socket, transport: self.site.transport, flags: self.site.options.accept_flags }
    }

    /// Any one of the listeners, for options that apply to the whole group.
    pub fn any(&self) -> &Socket {
        &self.sockets[0]
    }

    /// Every listener, in the order of the queues.
    pub fn each(&self) -> impl ExactSizeIterator<Item = SockRef<'_>> {
        self.sockets.iter().map(SockRef::from)
    }

    /// The socket inode of a worker's listener, which distinguishes the members of a group in the kernel's tables.
    pub fn inode_of(&self, worker: usize) -> io::Result<u32> {
        Ok(fstat(self.sockets[self.queue_of(worker)].as_fd())?.st_ino as u32)
    }
}

/// A socket with the site's options.
fn socket(site: Site, reuse_port: bool) -> Result<Socket, ListenError> {
    let Site { address, transport, options, .. } = site;
    let failed = |call| move |error| ListenError { address, transport, call, error };
    let kind = match transport {
        Transport::Tcp => Type::STREAM,
        Transport::Udp => Type::DGRAM,
    };
    let socket =
        Socket::new(Domain::for_address(address), kind.nonblocking().cloexec(), None).map_err(failed("socket"))?;
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
        // The kernel then reports with each datagram how many the socket has lost so far.
        Transport::Udp => setsockopt(&socket, sockopt::RxqOvfl, &1)
            .map_err(|errno: Errno| failed("setsockopt SO_RXQ_OVFL")(errno.into()))?,
    }
    if reuse_port {
        socket.set_reuse_port(true).map_err(failed("setsockopt SO_REUSEPORT"))?;
    }
    Ok(socket)
}

fn bind(socket: &Socket, site: Site) -> Result<(), ListenError> {
    let Site { address, transport, .. } = site;
    socket.bind(&address.into()).map_err(|error| ListenError { address, transport, call: "bind", error })
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
    use std::net::TcpStream;

    use super::*;

    /// A site on a port that was free a moment ago.
    fn site(workers: usize) -> Site {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Site { address, transport: Transport::Tcp, workers, options: ListenOptions::default(), joinable: false }
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
            let inodes = [0, 1, 2, 3, 4].map(|worker| listeners.inode_of(worker).unwrap());
            assert_eq!(inodes, shared_as.map(|queue: usize| own[queue]));
            assert_eq!([0, 1, 2, 3, 4].map(|worker| listeners.queue_of(worker)), shared_as);
        }
    }

    /// The kernel spreads connections over all members of a group that any process has open: once a worker has taken its own and
    /// closed the others, every connection goes there.
    #[test]
    fn a_worker_that_takes_its_listener_closes_the_others() {
        for worker in 0..5 {
            let listeners = Listeners::open(site(5), Queues::Group(3)).unwrap();
            let inode = listeners.inode_of(worker).unwrap();
            let address = listeners.site.address;
            let own = listeners.take(worker);
            assert_eq!(fstat(own.as_fd()).unwrap().st_ino as u32, inode);
            let clients: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
            assert!(clients.iter().all(|_| own.accept().is_ok()));
        }
    }
}
