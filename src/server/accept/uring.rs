//! An io_uring multishot accept, armed until the kernel ends it, in a ring whose descriptor is in the worker's epoll instance.
//!
//! The kernel accepts connections as they arrive: a batch limits only how many the worker processes per wake-up, and the listener's
//! queue stays empty as long as descriptors last.

use std::{io, os::fd::AsRawFd};

use anyhow::{Context, Result};
use mio::{Interest, Registry, net::TcpStream, unix::SourceFd};

use super::{Accepted, Acceptor, Source, TOKEN};
use crate::{
    server::Listener,
    sys::{clock, uring::AcceptRing},
};

/// Number of completions that fit in the ring.
const ENTRIES: u32 = 1_024;

pub(super) struct UringAcceptor {
    ring: AcceptRing,
    registry: Option<Registry>,
}

impl UringAcceptor {
    pub(super) fn new(listener: Listener) -> Result<Self> {
        let ring = AcceptRing::new(listener.into(), ENTRIES).context(
            "io_uring_setup; it may be switched off (sysctl kernel.io_uring_disabled) or forbidden by a sandbox",
        )?;
        Ok(Self { ring, registry: None })
    }
}

fn accepted(stream: std::net::TcpStream) -> Accepted {
    // A multishot accept gives no address, and a client that has reset no longer has one.
    let peer = stream.peer_addr().ok();
    Accepted { stream: TcpStream::from_std(stream), peer, accept_ns: clock::monotonic_ns() }
}

impl Source for UringAcceptor {
    fn register(&mut self, registry: &Registry) -> io::Result<()> {
        let registry = registry.try_clone()?;
        registry.register(&mut SourceFd(&self.ring.as_raw_fd()), TOKEN, Interest::READABLE)?;
        self.registry = Some(registry);
        self.ring.arm()
    }

    fn deregister(&mut self) -> io::Result<()> {
        if let Some(registry) = self.registry.take() {
            registry.deregister(&mut SourceFd(&self.ring.as_raw_fd()))?;
        }
        Ok(())
    }

    fn left_some(&mut self) -> io::Result<()> {
        if let Some(registry) = &self.registry {
            // Makes epoll check again: the ring is readable as long as it holds a completion.
            registry.reregister(&mut SourceFd(&self.ring.as_raw_fd()), TOKEN, Interest::READABLE)?;
        }
        Ok(())
    }
}

impl Acceptor for UringAcceptor {
    fn accept(&mut self) -> io::Result<Accepted> {
        match self.ring.next() {
            Some(Ok(stream)) => {
                // The kernel may end a multishot accept at any time, for example when the ring is full.
                if !self.ring.is_armed() {
                    self.ring.arm()?;
                }
                Ok(accepted(stream))
            }
            // The error has ended the multishot accept; registering arms it again.
            Some(Err(error)) => Err(error),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn stop(&mut self) -> io::Result<Vec<Accepted>> {
        Ok(self.ring.stop()?.into_iter().map(accepted).collect())
    }
}
