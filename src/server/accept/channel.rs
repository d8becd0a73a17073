//! Channels that carry connections to a worker's process (SCM_RIGHTS).

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result};
use mio::{Interest, Registry, Token, net::TcpStream, unix::SourceFd};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Accepted, Acceptor, HandedOver, Source, Taken};
use crate::sys::{clock, fd_passing};

/// How long a stopping worker waits until nobody can hand it a connection any more.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Both ends of a worker's channel, which may have several senders.
pub(super) struct Channel {
    pub outlet: Outlet,
    pub inlet: OwnedFd,
}

impl Channel {
    pub fn new() -> io::Result<Self> {
        let (outlet, inlet) = fd_passing::channel()?;
        Ok(Self { outlet: Outlet(outlet), inlet })
    }

    /// The worker's side. It notices that nobody can send any more once every other process has closed its copy of the outlet.
    pub fn into_inlet(self, token: Token) -> Inlet {
        Inlet { channel: self.inlet, token, registry: None, is_added: false }
    }
}

/// The times of the wake-up and of the accept, and the client's address and port; an IPv4 address is mapped into IPv6.
const MESSAGE_BYTES: usize = 8 + 8 + 16 + 2;

fn encode(handed_over: Option<HandedOver>, peer: SocketAddr) -> [u8; MESSAGE_BYTES] {
    let address = match peer.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let (woke_ns, returned_ns) = handed_over.map_or((0, 0), |at| (at.woke_ns, at.returned_ns));
    let mut message = [0; MESSAGE_BYTES];
    message[..8].copy_from_slice(&woke_ns.to_ne_bytes());
    message[8..16].copy_from_slice(&returned_ns.to_ne_bytes());
    message[16..32].copy_from_slice(&address.octets());
    message[32..].copy_from_slice(&peer.port().to_ne_bytes());
    message
}

fn decode(message: &[u8; MESSAGE_BYTES]) -> (Option<HandedOver>, SocketAddr) {
    let mut words = ([0; 8], [0; 8], [0; 16], [0; 2]);
    words.0.copy_from_slice(&message[..8]);
    words.1.copy_from_slice(&message[8..16]);
    words.2.copy_from_slice(&message[16..32]);
    words.3.copy_from_slice(&message[32..]);
    let handed_over = HandedOver { woke_ns: u64::from_ne_bytes(words.0), returned_ns: u64::from_ne_bytes(words.1) };
    let address = Ipv6Addr::from(words.2).to_canonical();
    ((handed_over.returned_ns != 0).then_some(handed_over), SocketAddr::new(address, u16::from_ne_bytes(words.3)))
}

/// The sender's side.
pub(super) struct Outlet(OwnedFd);

impl Outlet {
    /// Hands a connection over. `handed_over` is `None` where nobody knows when it was accepted. Fails if the channel is full
    /// ([`fd_passing::is_full`]); after any other error the worker has died.
    pub fn send(&self, stream: BorrowedFd<'_>, handed_over: Option<HandedOver>, peer: SocketAddr) -> io::Result<()> {
        fd_passing::send(&self.0, &encode(handed_over, peer), stream)
    }
}

impl AsFd for Outlet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The worker's side.
pub(super) struct Inlet {
    channel: OwnedFd,
    token: Token,
    /// Stays: a worker that has no descriptor left could get no other.
    registry: Option<Registry>,
    is_added: bool,
}

impl Inlet {
    /// The next connection; `Ok(None)` once nobody can send any more.
    pub fn receive(&mut self) -> io::Result<Option<Accepted>> {
        let mut message = [0; MESSAGE_BYTES];
        let Some(descriptor) = fd_passing::receive(&self.channel, &mut message)? else { return Ok(None) };
        let (handed_over, peer) = decode(&message);
        let accepted = Accepted::now(TcpStream::from_std(descriptor.into()), Some(peer));
        Ok(Some(Accepted { handed_over, ..accepted }))
    }

    /// Everything that is still to come: until nobody can send any more, or for five seconds.
    pub fn drain(&mut self) -> io::Result<Vec<Accepted>> {
        let patience_ns = clock::monotonic_ns() + clock::nanoseconds(END_PATIENCE);
        let mut taken = Vec::new();
        while clock::monotonic_ns() < patience_ns {
            match self.receive() {
                Ok(Some(accepted)) => taken.push(accepted),
                Ok(None) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait(&[(self.channel.as_fd(), PollFlags::POLLIN)], Some(LOOK_AGAIN)).map_err(io::Error::other)?;
                }
                // Out of descriptors: this connection is lost, but the next may not be.
                Err(_) => {}
            }
        }
        Ok(taken)
    }
}

impl Source for Inlet {
    fn register(&mut self, registry: &Registry) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.channel.as_raw_fd()), self.token, Interest::READABLE)?;
        self.is_added = true;
        if self.registry.is_none() {
            self.registry = Some(registry.try_clone()?);
        }
        Ok(())
    }

    fn deregister(&mut self) -> io::Result<()> {
        match &self.registry {
            Some(registry) if std::mem::take(&mut self.is_added) => {
                registry.deregister(&mut SourceFd(&self.channel.as_raw_fd()))
            }
            _ => Ok(()),
        }
    }

    fn left_some(&mut self) -> io::Result<()> {
        match &self.registry {
            // Makes epoll check the descriptor again.
            Some(registry) if self.is_added => {
                registry.reregister(&mut SourceFd(&self.channel.as_raw_fd()), self.token, Interest::READABLE)
            }
            _ => Ok(()),
        }
    }
}

/// A worker that a dispatcher accepts for.
impl Acceptor for Inlet {
    fn accept(&mut self) -> io::Result<Option<Taken>> {
        match self.receive() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            // After the dispatcher has ended there is nothing more, and no event either.
            received => Ok(received?.map(Taken::Over)),
        }
    }

    fn receives(&self) -> bool {
        true
    }

    fn stop(&mut self) -> io::Result<Vec<Taken>> {
        Ok(self.drain()?.into_iter().map(Taken::Over).collect())
    }

    fn listeners(&self) -> Vec<BorrowedFd<'_>> {
        // They are the dispatcher's.
        Vec::new()
    }
}

/// Waits until one of these descriptors is ready, and tells which are.
pub(super) fn wait(descriptors: &[(BorrowedFd<'_>, PollFlags)], timeout: Option<Duration>) -> Result<Vec<bool>> {
    let mut ready: Vec<PollFd<'_>> = descriptors.iter().map(|(fd, events)| PollFd::new(*fd, *events)).collect();
    let timeout = timeout.map_or(PollTimeout::NONE, |span| PollTimeout::try_from(span).unwrap_or(PollTimeout::MAX));
    match poll(&mut ready, timeout) {
        Ok(_) => Ok(ready.iter().map(|one| one.any().unwrap_or(true)).collect()),
        Err(nix::errno::Errno::EINTR) => Ok(vec![false; descriptors.len()]),
        Err(error) => Err(error).context("poll"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_times_and_address() {
        for peer in ["127.0.0.1:40000", "[::1]:9", "[2001:db8::7]:65535"] {
            let peer: SocketAddr = peer.parse().unwrap();
            for handed_over in [Some(HandedOver { woke_ns: 12_345, returned_ns: 12_678 }), None] {
                assert_eq!(decode(&encode(handed_over, peer)), (handed_over, peer));
            }
        }
    }
}
