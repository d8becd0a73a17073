//! A trial's networks: the one its server listens in, and the one its loaders connect from.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use thiserror::Error;

use crate::{
    context::{Role, Side},
    observe::reach::{Reach, Routes},
    scenario::{
        Network, Scenario, Transport, UnderTest,
        keys::{self, AnyKey},
    },
    sys::{
        addresses, clock,
        namespace::{self, Namespace},
        rtnetlink::RoutingChanges,
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

/// A packet to this address would leave the trial's networks, or it would claim to come from another machine.
#[derive(Debug, Error)]
#[error("`{path}`: {problem}")]
pub struct Stray {
    /// Path of the key with the address.
    pub path: String,
    pub problem: String,
}

impl Networks {
    /// Creates the networks that the scenario asks for, and moves the calling process, which must be single-threaded, into the
    /// server's network.
    ///
    /// Fails with a [`Stray`] if the scenario's packets would not stay in these networks. `allow_remote`: a running server may be on
    /// another machine. `role`: which other hosts have agreed to the load.
    pub(crate) fn enter(scenario: &Scenario, allow_remote: bool, role: Role<'_>) -> Result<Self> {
        let apart = match scenario.network {
            Network::Host => None,
            Network::Namespace => {
                namespace::enter_network()?;
                None
            }
            Network::Veth => Some(Apart::enter(scenario)?),
        };
        let networks = Self { apart };
        networks.confine(scenario, allow_remote, role)?;
        Ok(networks)
    }

    /// The network of the calling process, for server and loaders alike.
    pub(crate) fn shared_with_caller() -> Self {
        Self { apart: None }
    }

    /// Demands that the scenario's packets stay in these networks, by the kernel's own routing: a source address is one of the
    /// loaders' network, a destination one of the server's, and where the two are one network, no rule leads astray what goes from the
    /// one to the other or back. `allow_remote`: a running server may be on another machine.
    ///
    /// Between hosts, packets may also go to the addresses of the job's hosts. Each host answers for its own end: the load's for its
    /// source addresses and where it connects to, the server's for where it listens.
    pub(crate) fn confine(&self, scenario: &Scenario, allow_remote: bool, role: Role<'_>) -> Result<()> {
        if scenario.unix.is_some() {
            // No packet comes of what is sent to a Unix socket.
            return Ok(());
        }
        let may_be_remote = scenario.subject == UnderTest::Running;
        let refuse = |path: &str, packets: String, reach: Reach| match reach.objection() {
            Some(objection) => {
                let unless = match reach {
                    Reach::Remote if may_be_remote && path == keys::ADDRESS.path() => {
                        ", or add --allow-remote if the owner of that machine agrees"
                    }
                    _ => "",
                };
                let whose = match role.side {
                    Side::Load if path != keys::LOAD_SOURCE_ADDRESSES.path() => "an address of the job's server host",
                    Side::Server if path == keys::ADDRESS.path() => {
                        "an address of the server host, on which this was found, or leave the key out"
                    }
                    Side::Whole | Side::Server | Side::Load => "one of this machine's own addresses",
                };
                let problem = format!("{packets}{objection}; use {whose}{unless}");
                Err(Stray { path: path.to_owned(), problem })
            }
            None => Ok(()),
        };
        let agreed = |reach: Reach, to: IpAddr| reach == Reach::Remote && role.agreed(to);
        let sources = match role.side {
            Side::Whole | Side::Load => scenario.sources().addresses,
            // Its clients' sources are not addresses of this host.
            Side::Server => Vec::new(),
        };
        self.for_loaders(|| {
            let routes = Routes::open()?;
            for transport in scenario.protocol.transports() {
                for load in &scenario.loads {
                    for source in load.sources.addresses.iter().filter(|source| sources.contains(source)) {
                        let reach = routes.reach(transport, None, SocketAddr::new(*source, 0))?;
                        refuse(&load.path(keys::LOAD_SOURCE_ADDRESSES), format!("{source} is "), reach)?;
                    }
                }
            }
            Ok(())
        })?;
        let routes = Routes::open()?;
        for transport in scenario.protocol.transports() {
            // Across a pair of devices, the server's network has no route from the loaders' addresses to its own.
            let sources = sources.iter().filter(|_| self.shared()).copied().map(Some).chain([None]);
            for source in sources {
                for destination in scenario.destinations() {
                    let key: &'static dyn AnyKey = if destination.ip() == scenario.address.ip() {
                        keys::ADDRESS
                    } else {
                        keys::PORTS_DESTINATION_ADDRESSES
                    };
                    let (there, back) = if self.shared() {
                        let ways = routes.reach_of_both(transport, source, *destination)?;
                        (ways.there, ways.back)
                    } else {
                        (routes.reach(transport, source, *destination)?, None)
                    };
                    let elsewhere = role.side == Side::Load && agreed(there, destination.ip());
                    if !(elsewhere || allow_remote && may_be_remote && there == Reach::Remote) {
                        refuse(key.path(), format!("{} is ", destination.ip()), there)?;
                    }
                    if let Some((client, reach)) = back
                        && !agreed(reach, client)
                    {
                        refuse(
                            key.path(),
                            format!("{client}, the address that {destination} would reply to, is "),
                            reach,
                        )?;
                    }
                }
            }
        }
        Ok(())
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

/// Demands that packets stay in their networks for as long as a load lasts.
pub(crate) struct Confinement<'a> {
    networks: &'a Networks,
    scenario: &'a Scenario,
    allow_remote: bool,
    role: Role<'a>,
    /// `None` in networks of the trial's own, which no device connects with others.
    changes: Option<RoutingChanges>,
    /// Why packets would have left their networks.
    broken: Option<String>,
}

impl<'a> Confinement<'a> {
    /// To be called right before the load begins. Fails like [`Networks::confine`].
    pub fn begin(networks: &'a Networks, scenario: &'a Scenario, allow_remote: bool, role: Role<'a>) -> Result<Self> {
        let changes = || RoutingChanges::watch().context("socket(NETLINK_ROUTE)");
        // Watched from before the first look.
        let changes = (scenario.network == Network::Host).then(changes).transpose()?;
        networks.confine(scenario, allow_remote, role)?;
        Ok(Self { networks, scenario, allow_remote, role, changes, broken: None })
    }

    /// Looks again if a device, an address, a route or a rule has changed since the last look. Returns whether packets still stay in
    /// their networks.
    pub fn hold(&mut self) -> Result<bool> {
        if self.changes.as_ref().is_some_and(RoutingChanges::any)
            && let Err(error) = self.networks.confine(self.scenario, self.allow_remote, self.role)
        {
            self.broken = Some(error.downcast::<Stray>()?.to_string());
        }
        Ok(self.broken.is_none())
    }

    /// Why packets would have left their networks, if [`Self::hold`] has found that.
    pub fn broken(self) -> Option<String> {
        self.broken
    }
}

impl Apart {
    fn enter(scenario: &Scenario) -> Result<Self> {
        let address = scenario.address.ip();
        namespace::enter_network()?;
        let loaders = Namespace::current()?;
        namespace::enter_network()?;
        let apart = Self { server: Namespace::current()?, loaders };
        veth::join(address, &apart.loaders)?;
        veth::set_up(address)?;
        let clients = scenario.nat.map_or_else(Vec::new, |nat| nat.addresses(address));
        apart.for_loaders(|| {
            veth::set_up(veth::neighbour(address))?;
            clients.iter().copied().try_for_each(addresses::add_to_loopback)?;
            await_local(&clients)
        })?;
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

/// Waits until the calling process's network takes these addresses for its own, which IPv6 does a moment after it has been told.
fn await_local(addresses: &[IpAddr]) -> Result<()> {
    let patience_ns = clock::monotonic_ns() + clock::nanoseconds(PATIENCE);
    let routes = Routes::open()?;
    for address in addresses {
        let is_local = || {
            let reach = routes.reach(Transport::Tcp, None, SocketAddr::new(*address, 0));
            reach.is_ok_and(|reach| reach.objection().is_none())
        };
        while !is_local() {
            if clock::monotonic_ns() > patience_ns {
                bail!("{address} did not become local to the clients' network within {PATIENCE:?}");
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
    Ok(())
}

fn carry(from: &UdpSocket, to: &UdpSocket, address: SocketAddr) -> io::Result<()> {
    from.send_to(&[0], address)?;
    to.recv(&mut [0]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Plan, Source};

    /// What a host objects to in a scenario with this server and this source address.
    fn objection(address: &str, source: &str, allow_remote: bool, role: Role<'_>) -> Option<String> {
        let sources = if source.is_empty() {
            String::new()
        } else {
            format!("source_addresses = \"{source}\"\nsource_ports = \"bind-no-port\"\n")
        };
        let subject = if allow_remote { "[server]\nsubject = \"running\"\n" } else { "" };
        let text = format!(
            "name = \"x\"\nnetwork = \"host\"\naddress = \"{address}\"\n{subject}\
             [load]\nduration = \"1s\"\n{sources}"
        );
        let plan = Plan::read(&Source { name: "test.toml", text: &text }, &[]).unwrap();
        let confined = Networks::shared_with_caller().confine(&plan.cells[0].scenario, allow_remote, role);
        confined.err().map(|error| error.downcast::<Stray>().unwrap().to_string())
    }

    #[test]
    fn packets_leave_a_host_only_for_those_of_its_job() {
        // Reserved for documentation: no machine has these.
        let job: Vec<IpAddr> = ["127.0.0.1", "203.0.113.1", "203.0.113.2"].map(|one| one.parse().unwrap()).into();
        let [alone, server, load] =
            [Side::Whole, Side::Server, Side::Load].map(|side| Role { side, job: &job, clients: &job });
        let alone = Role { job: &[], clients: &[], ..alone };
        let of_job = |address, source, role| objection(address, source, false, role);
        assert_eq!(of_job("127.0.0.1", "", alone), None);
        assert!(of_job("203.0.113.1", "", alone).unwrap().contains("use one of this machine's own addresses"));
        assert_eq!(objection("203.0.113.1", "", true, alone), None);
        // Each host answers for its own end.
        assert_eq!(of_job("203.0.113.1", "", load), None);
        assert_eq!(of_job("203.0.113.1", "127.0.0.1", load), None);
        assert!(
            of_job("203.0.113.1", "203.0.113.2", load).unwrap().starts_with("`load.source_addresses`: 203.0.113.2 ")
        );
        assert!(of_job("203.0.113.9", "", load).unwrap().contains("use an address of the job's server host"));
        assert_eq!(of_job("127.0.0.1", "203.0.113.2", server), None);
        assert!(of_job("203.0.113.1", "203.0.113.2", server).unwrap().starts_with("`address`: 203.0.113.1 "));
        // Hosts of a job may be processes on one machine.
        assert_eq!(of_job("127.0.0.1", "", load), None);
        // Being in the job makes no host of what is none.
        assert!(of_job("224.0.0.1", "", Role { job: &["224.0.0.1".parse().unwrap()], ..load }).is_some());
    }
}
