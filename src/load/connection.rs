//! A client's connection, or flow of datagrams, and where it is on its way.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
};

use mio::{
    Interest, Registry, Token,
    event::Source,
    net::{TcpStream, UdpSocket},
};
use socket2::Socket;

use crate::{
    ipc::{receipt::Tuple, tally::Step},
    scenario::Transport,
};

/// A client's socket.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    /// A connection on which an io_uring waits: for what comes, and for room for what does not go out at once.
    Ring(Socket),
    /// Connected to the server, so that the kernel picks a port of its own for it, and lets no other peer in.
    Udp(UdpSocket),
}

impl Stream {
    pub fn new(transport: Transport, socket: Socket) -> Self {
        match transport {
            Transport::Tcp => Self::Tcp(TcpStream::from_std(socket.into())),
            Transport::Udp => Self::Udp(UdpSocket::from_std(socket.into())),
        }
    }

    pub fn is_udp(&self) -> bool {
        matches!(self, Self::Udp(_))
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr(),
            Self::Ring(socket) => socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into()),
            Self::Udp(socket) => socket.local_addr(),
        }
    }

    /// Bytes of a connection, or one datagram.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Ring(_) => Err(io::ErrorKind::WouldBlock.into()),
            Self::Udp(socket) => socket.recv(buffer),
        }
    }

    /// Some of the bytes, or all of them as one datagram.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Ring(socket) => socket.send(bytes),
            Self::Udp(socket) => socket.send(bytes),
        }
    }

    fn source(&mut self) -> io::Result<&mut dyn Source> {
        match self {
            Self::Tcp(stream) => Ok(stream),
            Self::Udp(socket) => Ok(socket),
            Self::Ring(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Ring(socket) => socket.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
        }
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source()?.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source()?.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source()?.deregister(registry)
    }
}

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// connect(2) was called.
    Connecting,
    /// A request is under way, or its reply awaited; with app `close`, the server's close.
    Exchanging,
    /// All replies are here; the client keeps the connection open.
    Holding,
    /// All replies are here; the server closes first.
    AwaitingClose,
}

/// One connection of a loader, or flow.
#[derive(Debug)]
pub struct Connection {
    pub stream: Stream,
    pub phase: Phase,
    /// Tells it from later connections in the same slot.
    pub id: u64,
    /// Both ends. A local port of 0 means that the connection was over before its port could be read.
    pub tuple: Tuple,
    /// Number of its tuple group.
    pub group: usize,
    /// The schedule's time.
    pub intended_ns: u64,
    /// Just before connect(2).
    pub connect_ns: u64,
    /// Begin of the wait that a time-out would end.
    pub waiting_since_ns: u64,
    /// From when the reply under way counts: the intended start for the first, the sending of the request for others.
    pub response_from_ns: u64,
    /// The same from the actual start.
    pub service_from_ns: u64,
    /// Whether its figures are recorded.
    pub measured: bool,
    /// Whether a receipt has come: some worker has accepted it.
    pub served: bool,
    /// Nonce of the request under way.
    pub nonce: u32,
    /// Requests not yet begun.
    pub requests_left: u64,
    /// Whether a request went out before the connection was established (TCP_FASTOPEN).
    pub asked_early: bool,
    /// Whether the exchange under way is the scenario's follow-up.
    pub following_up: bool,
    /// When its hold ends, once it is held.
    pub hold_until_ns: u64,
    /// Who has answered so far.
    pub answered: Answered,
    /// Whether its stages are recorded.
    pub staged: bool,
    /// A reply's bytes so far, where it did not come whole.
    pub input: Vec<u8>,
    /// A request's bytes that the socket did not take.
    pub unsent: Vec<u8>,
}

/// Which workers have answered a flow.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answered {
    /// The first that did.
    pub first: Option<u16>,
    /// Replies.
    pub replies: u64,
    /// Whether another did as well.
    pub moved: bool,
}

impl Answered {
    pub fn by(&mut self, worker: u16) {
        self.replies += 1;
        let first = *self.first.get_or_insert(worker);
        self.moved |= first != worker;
    }
}

impl Connection {
    /// What the connection was about, for the count of errors.
    pub fn step(&self) -> Step {
        match self.phase {
            Phase::Connecting => Step::Connect,
            Phase::Exchanging if !self.unsent.is_empty() => Step::Send,
            Phase::Exchanging => Step::Receive,
            Phase::Holding | Phase::AwaitingClose => Step::Close,
        }
    }
}
