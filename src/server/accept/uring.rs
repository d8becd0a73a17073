//! An io_uring multishot accept, armed until the kernel ends it, in a ring whose descriptor is in the worker's epoll instance: a ring for
//! each of its listeners.
//!
//! The kernel accepts connections as they arrive: a batch limits only how many the worker processes per wake-up, and the listener's
//! queue stays empty as long as descriptors last. A completion carries no time: how much of the accept wait a connection spends in the
//! ring is known only where a program records it, in [`Completions`].

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    sync::Arc,
};

use anyhow::{Context, Result};
use mio::{Interest, Registry, net::TcpStream, unix::SourceFd};
use socket2::SockRef;

use super::{Accepted, Acceptor, HandedOver, Source, TOKEN, Taken};
use crate::{
    observe::completions::Completions,
    server::Listener,
    sys::{unix, uring::AcceptRing},
};

/// Number of completions that fit in the ring.
const ENTRIES: u32 = 1_024;

pub(super) struct UringAcceptor {
    /// They take turns.
    rings: Vec<AcceptRing>,
    turn: usize,
    /// Stays: a worker that has no descriptor left could get no other.
    registry: Option<Registry>,
    is_added: bool,
    /// Whether the kernel is to accept.
    started: bool,
    worker: usize,
    completions: Option<Arc<Completions>>,
}

impl UringAcceptor {
    pub(super) fn new(listener: Listener, worker: usize, completions: Option<Arc<Completions>>) -> Result<Self> {
        let user_data = completions.as_ref().map_or(1, |completions| completions.user_data(worker));
        let rings =
            listener.into_sockets().into_iter().map(|socket| AcceptRing::new(socket.into(), ENTRIES, user_data));
        let rings = rings.collect::<io::Result<_>>().context(
            "io_uring_setup; it may be switched off (sysctl kernel.io_uring_disabled) or forbidden by a sandbox",
        )?;
        Ok(Self { rings, turn: 0, registry: None, is_added: false, started: false, worker, completions })
    }

    fn accepted(&self, stream: std::net::TcpStream) -> Accepted {
        // A multishot accept gives no address, and a client that has reset no longer has one.
        let peer = SockRef::from(&stream).peer_addr().ok().as_ref().and_then(unix::end);
        let descriptor = stream.as_raw_fd();
        let accepted = Accepted::now(TcpStream::from_std(stream), peer);
        let completions = self.completions.as_ref();
        let handed_over = completions
            .and_then(|completions| completions.take(self.worker, descriptor, accepted.accept_ns))
            // The kernel accepts by itself: nothing has to wake up for it.
            .map(|returned_ns| HandedOver { woke_ns: returned_ns, returned_ns });
        Accepted { handed_over, ..accepted }
    }
}

impl Source for UringAcceptor {
    fn register(&mut self, registry: &Registry) -> io::Result<()> {
        for ring in &self.rings {
            registry.register(&mut SourceFd(&ring.as_raw_fd()), TOKEN, Interest::READABLE)?;
        }
        self.is_added = true;
        if self.registry.is_none() {
            self.registry = Some(registry.try_clone()?);
        }
        if self.started { self.rings.iter_mut().try_for_each(AcceptRing::arm) } else { Ok(()) }
    }

    fn deregister(&mut self) -> io::Result<()> {
        if let (true, Some(registry)) = (std::mem::take(&mut self.is_added), &self.registry) {
            self.rings.iter().try_for_each(|ring| registry.deregister(&mut SourceFd(&ring.as_raw_fd())))?;
        }
        Ok(())
    }

    fn left_some(&mut self) -> io::Result<()> {
        if let (true, Some(registry)) = (self.is_added, &self.registry) {
            for ring in &mut self.rings {
                // An error has ended it.
                ring.arm()?;
                // Makes epoll check again: a ring is readable as long as it holds a completion.
                registry.reregister(&mut SourceFd(&ring.as_raw_fd()), TOKEN, Interest::READABLE)?;
            }
        }
        Ok(())
    }
}

impl Acceptor for UringAcceptor {
    fn accept(&mut self) -> io::Result<Option<Taken>> {
        let count = self.rings.len();
        for place in (self.turn..self.turn + count).map(|place| place % count) {
            let ring = &mut self.rings[place];
            match ring.next() {
                Some(Ok(stream)) => {
                    // The kernel may end a multishot accept at any time, for example when the ring is full.
                    if !ring.is_armed() {
                        ring.arm()?;
                    }
                    self.turn = (place + 1) % count;
                    return Ok(Some(Taken::Own(self.accepted(stream))));
                }
                // The error has ended the multishot accept; registering arms it again.
                Some(Err(error)) => return Err(error),
                None => {}
            }
        }
        Ok(None)
    }

    fn start(&mut self) -> io::Result<()> {
        self.started = true;
        self.rings.iter_mut().try_for_each(AcceptRing::arm)
    }

    fn accept_spared(&mut self) -> io::Result<Option<Taken>> {
        let count = self.rings.len();
        for place in (self.turn..self.turn + count).map(|place| place % count) {
            let ring = &mut self.rings[place];
            if ring.is_armed()
                && let Some(Ok(stream)) = ring.next()
            {
                self.turn = (place + 1) % count;
                return Ok(Some(Taken::Own(self.accepted(stream))));
            }
            if ring.is_armed() {
                continue;
            }
            // It has failed for want of the descriptor that there is now.
            match ring.accept() {
                Ok(stream) => {
                    stream.set_nonblocking(true)?;
                    let peer = SockRef::from(&stream).peer_addr().ok().as_ref().and_then(unix::end);
                    self.turn = (place + 1) % count;
                    return Ok(Some(Taken::Own(Accepted::now(TcpStream::from_std(stream), peer))));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn stop(&mut self) -> io::Result<Vec<Taken>> {
        let taken = self.rings.iter_mut().map(AcceptRing::stop).collect::<io::Result<Vec<_>>>()?;
        Ok(taken.into_iter().flatten().map(|stream| Taken::Own(self.accepted(stream))).collect())
    }

    fn listeners(&self) -> Vec<BorrowedFd<'_>> {
        self.rings.iter().map(AcceptRing::listener).collect()
    }
}
