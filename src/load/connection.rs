//! A client's connection, or flow of datagrams, and where it is on its way.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    num::NonZeroU16,
    os::fd::{AsFd, BorrowedFd},
};

use mio::{
    Interest, Registry, Token,
    event::Source,
    net::{TcpStream, UdpSocket},
};
use socket2::Socket;

use crate::{record::Step, scenario::Transport};

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

/// One connection of a loader, or flow. A loader may hold tens of thousands that do nothing, so it is kept small: what all have
/// in common lies in [`super::work::Work`], and what few have, in [`Buffers`].
#[derive(Debug)]
pub struct Connection {
    pub stream: Stream,
    pub phase: Phase,
    /// Its own port. 0 means that the connection was over before its port could be read.
    pub port: u16,
    /// Number of its own address: that of its tuple group where groups name addresses, else among those that the kernel picked.
    pub address: u16,
    /// Nonce of the request under way.
    pub nonce: u32,
    /// The schedule's time.
    pub intended_ns: u64,
    /// Just before connect(2).
    pub connect_ns: u64,
    /// Begin of the wait that a time-out would end: of the connect, of the exchange under way, or of the close.
    pub waiting_since_ns: u64,
    /// When its hold ends, once it is held.
    pub hold_until_ns: u64,
    /// Requests not yet begun.
    pub requests_left: u32,
    /// Which exchange is under way.
    pub exchange: Exchange,
    /// Whether its figures are recorded.
    pub measured: bool,
    /// Whether a receipt has come: some worker has accepted it.
    pub served: bool,
    /// Whether its first request was made before the loader knew that it is established.
    pub asked_early: bool,
    /// Whether its stages are recorded.
    pub staged: bool,
    /// Who has answered so far.
    pub answered: Answered,
    /// What epoll watches its socket for, if it does.
    pub watched: Option<Interest>,
    /// The list in which it waits: for [`super::connections::Connections`] to say.
    pub wait: Option<Wait>,
    /// Bytes that did not come or go whole, while there are any.
    pub buffers: Option<Box<Buffers>>,
}

/// Which of a connection's exchanges is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// Its response time counts from the intended start, its service time from the connect call.
    First,
    /// Both count from the request.
    Further,
    /// The scenario's follow-up: its response time counts from the instant that the scenario names.
    FollowUp,
}

/// Bytes that a connection has to keep, where they did not come or go whole.
#[derive(Debug, Default)]
pub struct Buffers {
    /// A reply so far.
    pub input: Vec<u8>,
    /// What the socket did not take of a request.
    pub unsent: Vec<u8>,
}

impl Buffers {
    pub fn is_empty(&self) -> bool {
        self.input.is_empty() && self.unsent.is_empty()
    }
}

/// What a connection waits for, and so which time-out ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// To be established.
    Connect,
    /// A reply, or the server's close.
    Reply,
    /// The end of its hold.
    Hold,
}

impl Wait {
    pub const ALL: [Self; 3] = [Self::Connect, Self::Reply, Self::Hold];
}

/// Which workers have answered a flow.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answered {
    /// The first that did, its number plus one.
    first: Option<NonZeroU16>,
    /// Whether there was more than one reply.
    pub again: bool,
    /// Whether another worker answered as well.
    pub moved: bool,
}

impl Answered {
    pub fn by(&mut self, worker: u16) {
        self.again = self.first.is_some();
        let first = *self.first.get_or_insert(NonZeroU16::MIN.saturating_add(worker));
        self.moved |= first.get() - 1 != worker;
    }

    /// The worker that answered first.
    pub fn first(&self) -> Option<u16> {
        self.first.map(|first| first.get() - 1)
    }
}

impl Connection {
    /// A connection, or flow, that was begun from an own end: `address` and `port`, as its fields have them.
    pub fn begun(stream: Stream, (address, port): (u16, u16), (intended_ns, connect_ns): (u64, u64)) -> Self {
        Self {
            stream,
            phase: Phase::Connecting,
            port,
            address,
            nonce: 0,
            intended_ns,
            connect_ns,
            waiting_since_ns: connect_ns,
            hold_until_ns: 0,
            requests_left: 0,
            exchange: Exchange::First,
            measured: false,
            served: false,
            asked_early: false,
            staged: false,
            answered: Answered::default(),
            watched: None,
            wait: None,
            buffers: None,
        }
    }

    /// A reply's bytes so far, where it did not come whole.
    pub fn input(&self) -> &[u8] {
        self.buffers.as_ref().map_or(&[], |buffers| &buffers.input)
    }

    /// A request's bytes that the socket did not take.
    #[inline]
    pub fn unsent(&self) -> &[u8] {
        self.buffers.as_ref().map_or(&[], |buffers| &buffers.unsent)
    }

    /// What the connection was about, for the count of errors.
    pub fn step(&self) -> Step {
        match self.phase {
            Phase::Connecting => Step::Connect,
            Phase::Exchanging if !self.unsent().is_empty() => Step::Send,
            Phase::Exchanging => Step::Receive,
            Phase::Holding | Phase::AwaitingClose => Step::Close,
        }
    }
}
