//! One process accepts for all workers, and hands each connection to one of them (SCM_RIGHTS).
//!
//! `server.dispatch` chooses the worker: `round-robin`, or `least-connections`, that is, the worker with the fewest connections open
//! or on their way to it and, among equals, the lowest number.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result};
use mio::{Interest, Registry, net::TcpStream, unix::SourceFd};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Accepted, Acceptor, Helper, Source, TOKEN};
use crate::{
    ipc::{
        control::{Control, Count, Meter, Phase},
        tally::Tally,
    },
    record::{ErrorCount, Step},
    scenario::Dispatch,
    server::Listener,
    sys::{clock, fd_passing},
};

/// How long the dispatcher ignores the listener after running out of descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(10);
/// How long a stopping worker waits for the dispatcher to end.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// The dispatcher's end and a worker's end.
pub(super) struct Channel {
    dispatcher: OwnedFd,
    worker: OwnedFd,
}

impl Channel {
    pub(super) fn new() -> io::Result<Self> {
        let (dispatcher, worker) = fd_passing::channel()?;
        Ok(Self { dispatcher, worker })
    }

    /// The worker's side. It notices that the dispatcher has ended once every other process has closed its copy of the dispatcher's
    /// end.
    pub(super) fn into_acceptor(self) -> ChannelAcceptor {
        ChannelAcceptor { channel: self.worker, registry: None }
    }
}

/// The time of the accept, and the client's address and port; an IPv4 address is mapped into IPv6.
const MESSAGE_BYTES: usize = 8 + 16 + 2;

fn encode(accept_ns: u64, peer: SocketAddr) -> [u8; MESSAGE_BYTES] {
    let address = match peer.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut message = [0; MESSAGE_BYTES];
    message[..8].copy_from_slice(&accept_ns.to_ne_bytes());
    message[8..24].copy_from_slice(&address.octets());
    message[24..].copy_from_slice(&peer.port().to_ne_bytes());
    message
}

fn decode(message: &[u8; MESSAGE_BYTES]) -> (u64, SocketAddr) {
    let mut words = ([0; 8], [0; 16], [0; 2]);
    words.0.copy_from_slice(&message[..8]);
    words.1.copy_from_slice(&message[8..24]);
    words.2.copy_from_slice(&message[24..]);
    let address = Ipv6Addr::from(words.1).to_canonical();
    (u64::from_ne_bytes(words.0), SocketAddr::new(address, u16::from_ne_bytes(words.2)))
}

/// The dispatcher's process.
pub(super) struct Work {
    listener: Listener,
    dispatch: Dispatch,
    workers: Vec<OwnedFd>,
    /// Connections handed over, by worker.
    sent: Vec<u64>,
    /// Workers that have died.
    gone: Vec<bool>,
    /// The next worker, for round-robin.
    next: usize,
    errors: Tally,
}

impl Helper for Work {
    fn run(mut self: Box<Self>, control: &Control, meter: &mut Meter<'_>) -> Result<Vec<ErrorCount>> {
        while control.phase() == Phase::Running {
            wait(&[(self.listener.as_fd(), PollFlags::POLLIN), (control.wake().as_fd(), PollFlags::POLLIN)], None)?;
            self.accept(control, meter)?;
        }
        Ok(self.errors.counts())
    }
}

impl Work {
    pub(super) fn new(listener: Listener, dispatch: Dispatch, channels: Vec<Channel>) -> Self {
        let workers: Vec<OwnedFd> = channels.into_iter().map(|channel| channel.dispatcher).collect();
        let (sent, gone) = (vec![0; workers.len()], vec![false; workers.len()]);
        Self { listener, dispatch, workers, sent, gone, next: 0, errors: Tally::default() }
    }

    /// Accepts and hands over until the queue is empty.
    fn accept(&mut self, control: &Control, meter: &mut Meter<'_>) -> Result<()> {
        while control.phase() == Phase::Running {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    let accept_ns = clock::monotonic_ns();
                    meter.pass(accept_ns);
                    self.hand_over(&stream, &encode(accept_ns, peer), control)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.errors.add(Step::Accept, &error);
                    if error.kind() != ErrorKind::ConnectionAborted {
                        std::thread::sleep(EXHAUSTED_PAUSE);
                    }
                }
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, stream: &TcpStream, message: &[u8], control: &Control) -> Result<()> {
        // With no worker left, the connection is lost when the stream is dropped.
        while let Some(worker) = self.pick(control) {
            let channel = &self.workers[worker];
            match fd_passing::send(channel, message, stream.as_fd()) {
                Ok(()) => {
                    self.sent[worker] += 1;
                    control.handed_over(worker);
                    return Ok(());
                }
                // A worker that does not keep up blocks the dispatcher, and so every worker: that is inherent in this strategy.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if control.phase() != Phase::Running {
                        return Ok(());
                    }
                    wait(&[(channel.as_fd(), PollFlags::POLLOUT), (control.wake().as_fd(), PollFlags::POLLIN)], None)?;
                    self.next = worker;
                }
                Err(error) => {
                    // The worker has died: it gets no more connections, and this one goes to another.
                    self.errors.add(Step::Accept, &error);
                    self.gone[worker] = true;
                }
            }
        }
        Ok(())
    }

    /// The worker that gets the next connection; `None` when all have died.
    fn pick(&mut self, control: &Control) -> Option<usize> {
        let count = self.workers.len();
        match self.dispatch {
            Dispatch::RoundRobin => {
                let worker =
                    (self.next..self.next + count).map(|worker| worker % count).find(|&worker| !self.gone[worker])?;
                self.next = (worker + 1) % count;
                Some(worker)
            }
            Dispatch::LeastConnections => {
                let load = |worker: &usize| {
                    let under_way = self.sent[*worker].saturating_sub(control.count(*worker, Count::Accepted));
                    control.count(*worker, Count::Open) + under_way
                };
                (0..count).filter(|&worker| !self.gone[worker]).min_by_key(load)
            }
        }
    }
}

fn wait(descriptors: &[(std::os::fd::BorrowedFd<'_>, PollFlags)], timeout: Option<Duration>) -> Result<()> {
    let mut ready: Vec<PollFd<'_>> = descriptors.iter().map(|(fd, events)| PollFd::new(*fd, *events)).collect();
    let timeout = timeout.map_or(PollTimeout::NONE, |span| PollTimeout::try_from(span).unwrap_or(PollTimeout::MAX));
    match poll(&mut ready, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error).context("poll"),
    }
}

/// The worker's side.
pub(super) struct ChannelAcceptor {
    channel: OwnedFd,
    registry: Option<Registry>,
}

impl ChannelAcceptor {
    /// `Ok(None)` when the dispatcher has ended.
    fn receive(&mut self) -> io::Result<Option<Accepted>> {
        let mut message = [0; MESSAGE_BYTES];
        let Some(descriptor) = fd_passing::receive(&self.channel, &mut message)? else { return Ok(None) };
        let (accept_ns, peer) = decode(&message);
        let stream = TcpStream::from_std(descriptor.into());
        Ok(Some(Accepted { stream, peer: Some(peer), accept_ns }))
    }
}

impl Source for ChannelAcceptor {
    fn register(&mut self, registry: &Registry) -> io::Result<()> {
        let registry = registry.try_clone()?;
        registry.register(&mut SourceFd(&self.channel.as_raw_fd()), TOKEN, Interest::READABLE)?;
        self.registry = Some(registry);
        Ok(())
    }

    fn deregister(&mut self) -> io::Result<()> {
        match self.registry.take() {
            Some(registry) => registry.deregister(&mut SourceFd(&self.channel.as_raw_fd())),
            None => Ok(()),
        }
    }

    fn left_some(&mut self) -> io::Result<()> {
        match &self.registry {
            // Makes epoll check the descriptor again.
            Some(registry) => registry.reregister(&mut SourceFd(&self.channel.as_raw_fd()), TOKEN, Interest::READABLE),
            None => Ok(()),
        }
    }
}

impl Acceptor for ChannelAcceptor {
    fn accept(&mut self) -> io::Result<Accepted> {
        // After the dispatcher has ended there is nothing more, and no event either.
        self.receive()?.ok_or_else(|| ErrorKind::WouldBlock.into())
    }

    fn stop(&mut self) -> io::Result<Vec<Accepted>> {
        let patience_ns = clock::monotonic_ns() + clock::nanoseconds(END_PATIENCE);
        let mut taken = Vec::new();
        while clock::monotonic_ns() < patience_ns {
            match self.receive() {
                Ok(Some(accepted)) => taken.push(accepted),
                Ok(None) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait(&[(self.channel.as_fd(), PollFlags::POLLIN)], Some(EXHAUSTED_PAUSE))
                        .map_err(io::Error::other)?;
                }
                // Out of descriptors: this connection is lost, but the next may not be.
                Err(_) => {}
            }
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_time_and_address() {
        for peer in ["127.0.0.1:40000", "[::1]:9", "[2001:db8::7]:65535"] {
            let peer: SocketAddr = peer.parse().unwrap();
            assert_eq!(decode(&encode(12_345, peer)), (12_345, peer));
        }
    }
}
