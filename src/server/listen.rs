//! Listening sockets, opened once before the workers are forked.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
};

use nix::sys::stat::fstat;
use socket2::{Domain, SockRef, Socket, Type};

use crate::observe::holder;

/// The listeners of a trial: one that all workers share, or one each.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<TcpListener>,
}

/// A listener could not be opened.
#[derive(Debug)]
pub struct ListenError {
    address: SocketAddr,
    call: &'static str,
    error: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.call, self.address, self.error)?;
        match self.error.raw_os_error() {
            Some(libc::EADDRINUSE) => {
                let holder = holder::of_port(self.address.port());
                write!(f, "; held by {holder}: stop it, or choose another `port`")
            }
            Some(libc::EADDRNOTAVAIL) => write!(f, "; no device here has this address: choose another `address`"),
            Some(libc::EACCES) => write!(f, "; ports below net.ipv4.ip_unprivileged_port_start want privilege"),
            _ => Ok(()),
        }
    }
}

// The text holds the system's error already.
impl std::error::Error for ListenError {}

impl Listeners {
    /// One listener for all workers.
    pub fn shared(address: SocketAddr, backlog: i32) -> Result<Self, ListenError> {
        Ok(Self { sockets: vec![listener(address, backlog, false)?] })
    }

    /// One listener per worker in one SO_REUSEPORT group. Members are numbered in listen(2) order: worker k has
    /// member k.
    pub fn group(address: SocketAddr, backlog: i32, workers: usize) -> Result<Self, ListenError> {
        // A stranger's group of the same user would let us in and take part of the load: bind without the option first.
        bound(address, false)?;
        let sockets = (0..workers).map(|_| listener(address, backlog, true)).collect::<Result<_, _>>()?;
        Ok(Self { sockets })
    }

    /// Keeps one worker's listener and closes the others: a sibling's inherited listener left open would go on
    /// receiving connections that nobody accepts.
    pub fn take(self, worker: usize) -> TcpListener {
        let own = if self.sockets.len() == 1 { 0 } else { worker };
        self.sockets.into_iter().nth(own).expect("one listener, or one per worker")
    }

    /// One of them, for options that concern the file or the group.
    pub fn any(&self) -> &TcpListener {
        &self.sockets[0]
    }

    /// Each of them, in the order of the workers.
    pub fn each(&self) -> impl Iterator<Item = SockRef<'_>> {
        self.sockets.iter().map(SockRef::from)
    }

    /// The socket inode of each worker's listener, by which sock_diag tells members of a group apart.
    pub fn inodes(&self, workers: usize) -> io::Result<Vec<u32>> {
        let inodes = self
            .sockets
            .iter()
            .map(|socket| Ok(fstat(socket.as_fd())?.st_ino as u32))
            .collect::<io::Result<Vec<u32>>>()?;
        Ok((0..workers).map(|worker| inodes[if inodes.len() == 1 { 0 } else { worker }]).collect())
    }

    /// The address in force.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.sockets[0].local_addr()
    }
}

fn listener(address: SocketAddr, backlog: i32, reuse_port: bool) -> Result<TcpListener, ListenError> {
    let socket = bound(address, reuse_port)?;
    socket.listen(backlog).map_err(|error| ListenError { address, call: "listen", error })?;
    Ok(socket.into())
}

fn bound(address: SocketAddr, reuse_port: bool) -> Result<Socket, ListenError> {
    let failed = |call| move |error| ListenError { address, call, error };
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, None).map_err(failed("socket"))?;
    // So that connections of an earlier run in TIME_WAIT do not stand in the way; a listener still does.
    socket.set_reuse_address(true).map_err(failed("setsockopt SO_REUSEADDR"))?;
    if reuse_port {
        socket.set_reuse_port(true).map_err(failed("setsockopt SO_REUSEPORT"))?;
    }
    socket.bind(&address.into()).map_err(failed("bind"))?;
    Ok(socket)
}
