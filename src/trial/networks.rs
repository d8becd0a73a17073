//! A trial's networks: the one its server listens in, and the one its loaders connect from.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    scenario::{Network, Scenario},
    sys::{
        clock,
        namespace::{self, Namespace},
        veth,
    },
};

/// How long to wait for a datagram before sending it again.
const SEND_AGAIN: Duration = Duration::from_millis(10);
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// How long devices may take until they carry packets.
const PATIENCE: Duration = Duration::from_secs(10);

/// The networks of a trial. The calling process is in the server's.
pub(crate) struct Networks {
    /// `None` if server and loaders share one network.
    apart: Option<Apart>,
}

/// Separate network namespaces for server and loaders.
struct Apart {
    server: Namespace,
    loaders: Namespace,
}

impl Networks {
    /// Creates the networks that the scenario asks for, and moves the calling process, which must be single-threaded, into the
    /// server's network. This may clear its parent-death signal, like [`namespace::enter_network`].
    pub(crate) fn enter(scenario: &Scenario) -> Result<Self> {
        let apart = match scenario.network {
            Network::Host => None,
            Network::Namespace => {
                namespace::enter_network()?;
                None
            }
            Network::Veth => Some(Apart::enter(scenario.address.ip())?),
        };
        Ok(Self { apart })
    }

    /// Whether server and loaders share a network.
    pub(crate) fn shared(&self) -> bool {
        self.apart.is_none()
    }

    /// Runs `body` in the loaders' network.
    pub(crate) fn for_loaders<T>(&self, body: impl FnOnce() -> Result<T>) -> Result<T> {
        match &self.apart {
            None => body(),
            Some(apart) => apart.for_loaders(body),
        }
    }

    /// Runs `body` in every network.
    pub(crate) fn in_each(&self, mut body: impl FnMut() -> Result<()>) -> Result<()> {
        body()?;
        match &self.apart {
            None => Ok(()),
            Some(apart) => apart.for_loaders(body),
        }
    }
}

impl Apart {
    fn enter(address: IpAddr) -> Result<Self> {
        namespace::enter_network()?;
        let loaders = Namespace::current()?;
        namespace::enter_network()?;
        let apart = Self { server: Namespace::current()?, loaders };
        veth::join(address, &apart.loaders)?;
        veth::set_up(address)?;
        apart.for_loaders(|| veth::set_up(veth::neighbour(address)))?;
        apart.await_crossing(address)?;
        Ok(apart)
    }

    fn for_loaders<T>(&self, body: impl FnOnce() -> Result<T>) -> Result<T> {
        self.loaders.enter()?;
        let result = body();
        self.server.enter()?;
        result
    }

    /// Waits until a datagram has crossed and another has come back. Devices and IPv6 routes are ready only a moment after the kernel
    /// reports them so, and no connection may lose its first packet to that.
    fn await_crossing(&self, address: IpAddr) -> Result<()> {
        let endpoint = |address| {
            let socket =
                UdpSocket::bind((address, 0)).with_context(|| format!("bind {address} on {}", veth::DEVICE))?;
            socket.set_read_timeout(Some(SEND_AGAIN)).context("setsockopt SO_RCVTIMEO")?;
            Ok(socket)
        };
        let there = endpoint(address)?;
        let here = self.for_loaders(|| endpoint(veth::neighbour(address)))?;
        let there_at = there.local_addr().context("getsockname")?;
        let here_at = here.local_addr().context("getsockname")?;
        let patience_ns = clock::monotonic_ns() + clock::nanoseconds(PATIENCE);
        loop {
            let crossed = carry(&here, &there, there_at).and_then(|()| carry(&there, &here, here_at));
            match crossed {
                Ok(()) => return Ok(()),
                Err(error) if clock::monotonic_ns() > patience_ns => {
                    return Err(error).with_context(|| {
                        format!(
                            "no datagram crossed {} to {address} and back within {PATIENCE:?}: use network = \"netns\"",
                            veth::DEVICE
                        )
                    });
                }
                // A refusal arrives immediately.
                Err(_) => thread::sleep(LOOK_AGAIN),
            }
        }
    }
}

fn carry(from: &UdpSocket, to: &UdpSocket, address: SocketAddr) -> io::Result<()> {
    from.send_to(&[0], address)?;
    to.recv(&mut [0]).map(drop)
}
