//! Creates sockets with the scenario's options, and connects them from the ports it selects.

use std::{io, net::SocketAddr, time::Duration};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, SockAddr, Socket, Type};

use super::source::{Group, Source};
use crate::{
    record::Step,
    scenario::{Connect, Load, Scenario, Transport},
    sys::{socket, unix::UnixAddress},
};

/// How many ports, or windows of ports, to try before giving up.
const TRIES: usize = 64;

/// Makes and connects sockets.
pub(super) struct Dialler {
    target: SockAddr,
    unix: Option<UnixAddress>,
    /// How long connect(2) may wait for room in a Unix socket's queue, if it does.
    waits: Option<Duration>,
    nodelay: bool,
    fastopen: bool,
    multipath: bool,
    quickack: bool,
    source: Box<dyn Source>,
}

impl Dialler {
    pub fn new(scenario: &Scenario, load: &Load, target: SocketAddr, source: Box<dyn Source>) -> io::Result<Self> {
        let listen = &scenario.server.listen;
        let (nodelay, fastopen, multipath) = (listen.nodelay, listen.fastopen > 0, listen.multipath);
        let target = scenario.unix.as_ref().map_or_else(|| Ok(target.into()), UnixAddress::sockaddr)?;
        let waits = (load.connect == Connect::Blocking).then_some(load.connect_timeout);
        Ok(Self {
            target,
            unix: scenario.unix.clone(),
            waits,
            nodelay,
            fastopen,
            multipath,
            quickack: load.quickack,
            source,
        })
    }

    /// A new socket with the scenario's options.
    pub fn socket(&self, transport: Transport) -> io::Result<Socket> {
        if let Some(unix) = &self.unix {
            let socket = socket::unix(unix)?;
            if self.waits.is_some() {
                // unix(7): what limits a send limits how long connect waits.
                socket.set_write_timeout(self.waits)?;
                socket.set_nonblocking(false)?;
            }
            return Ok(socket);
        }
        let domain = Domain::from(i32::from(self.target.family()));
        let socket = match transport {
            Transport::Tcp => socket::stream(domain, self.multipath)?,
            Transport::Udp => Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), None)?,
        };
        if transport == Transport::Tcp && self.nodelay {
            socket.set_tcp_nodelay(true)?;
        }
        if transport == Transport::Tcp && self.fastopen {
            setsockopt(&socket, sockopt::TcpFastOpenConnect, &true)?;
        }
        if transport == Transport::Tcp && !self.quickack {
            // On a client's socket, this holds back the handshake's acknowledgement until there is something to send
            // (tcp_rcv_synsent_state_process), as TCP_QUICKACK = 0 does; but a disconnect leaves it set, so a recycled socket needs no
            // system call of its own for each connection.
            socket::set_defer_accept(&socket, 1)?;
        }
        Ok(socket)
    }

    /// Begins to connect a socket from a port that the scenario selects. Returns the socket that replaces it, if a further attempt
    /// needed a new one. Fails with the step that failed.
    pub fn connect(
        &mut self,
        socket: &Socket,
        transport: Transport,
        group: &Group,
    ) -> Result<Option<Socket>, (Step, io::Error)> {
        let connected = self.try_connect(socket, transport, group);
        if connected.is_err() {
            self.source.given_up(group);
        }
        connected
    }

    fn try_connect(
        &mut self,
        socket: &Socket,
        transport: Transport,
        group: &Group,
    ) -> Result<Option<Socket>, (Step, io::Error)> {
        let mut another = None;
        for tries in 1.. {
            let socket = another.as_ref().unwrap_or(socket);
            self.source.prepare(socket, group).map_err(|error| (Step::Bind, error))?;
            match self.dial(socket) {
                Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => break,
                Err(error)
                    if error.raw_os_error() == Some(libc::EADDRNOTAVAIL)
                        && tries < TRIES
                        && self.source.try_elsewhere(group) =>
                {
                    another = Some(self.socket(transport).map_err(|error| (Step::Socket, error))?);
                }
                Err(error) => return Err((Step::Connect, error)),
                Ok(()) => break,
            }
        }
        Ok(another)
    }

    fn dial(&self, socket: &Socket) -> io::Result<()> {
        let connected = socket.connect(&self.target);
        if self.waits.is_none() {
            return connected;
        }
        socket.set_nonblocking(true)?;
        match connected {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::Error::from_raw_os_error(libc::ETIMEDOUT))
            }
            connected => connected,
        }
    }

    /// Called when a connection from this port is over.
    pub fn freed(&mut self, group: &Group, port: u16) {
        self.source.freed(group, port);
    }
}
