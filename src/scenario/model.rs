//! A cell's scenario, valid by construction.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    error::ScenarioError,
    fault::Fault,
    file::Flat,
    keys::SYSCTL_PREFIX,
    load::{Bound, CloseHow, Load},
    ports::{Fill, Sources},
    server::Server,
    settings::Settings,
};
use crate::sys::veth;

/// What one trial is to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Whose network.
    pub network: Network,
    /// What is exchanged.
    pub protocol: Protocol,
    /// Where the server listens.
    pub address: SocketAddr,
    /// Longest time from a trial's start to its end.
    pub deadline: Duration,
    /// Sysctls of the trial's namespaces: name as written, value.
    pub sysctls: Vec<(String, String)>,
    /// How accept waits are measured.
    pub stamps: Stamps,
    /// Distance of samples of the queues.
    pub queue_interval: Duration,
    /// The server's half.
    pub server: Server,
    /// The load's half.
    pub load: Load,
    /// What is done to workers meanwhile.
    pub faults: Vec<Fault>,
    /// How clients get their source ports.
    pub sources: Sources,
    /// What a scenario of kind `ports` does, in place of server and load.
    pub fill: Option<Fill>,
}

/// What is exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
    /// Both, on the same port number.
    Both,
}

/// How accept waits are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamps {
    /// Exactly where that can be had, else from the client's connect call.
    Auto,
    /// Exactly, by a sock_ops program.
    SockOps,
    /// From the client's connect call: an upper bound.
    ConnectCall,
    /// Both, side by side.
    Both,
}

impl Stamps {
    const WORDS: [(&'static str, Self); 4] =
        [("auto", Self::Auto), ("sock_ops", Self::SockOps), ("connect-call", Self::ConnectCall), ("both", Self::Both)];

    /// Datagrams are never accepted: without connections the key has no use.
    fn read(settings: &Settings<'_>, protocol: Protocol) -> Result<Self, ScenarioError> {
        if protocol.has(Transport::Tcp) { settings.choice("stamps", &Self::WORDS) } else { Ok(Self::ConnectCall) }
    }
}

/// Of what kind a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// Whether it includes a transport.
    pub fn has(self, transport: Transport) -> bool {
        match self {
            Self::Tcp => transport == Transport::Tcp,
            Self::Udp => transport == Transport::Udp,
            Self::Both => true,
        }
    }

    /// The transports it includes.
    pub fn transports(self) -> impl Iterator<Item = Transport> {
        [Transport::Tcp, Transport::Udp].into_iter().filter(move |transport| self.has(*transport))
    }
}

/// Whose network a trial uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// A fresh network namespace for each trial.
    Namespace,
    /// Two of them for each trial, joined by a veth pair: the server's and the loaders'.
    Veth,
    /// The machine's own.
    Host,
}

impl Network {
    /// All, by the key's values.
    pub const ALL: [(&str, Self); 3] = [("netns", Self::Namespace), ("veth", Self::Veth), ("host", Self::Host)];
}

impl Scenario {
    pub(super) fn read(settings: &Settings<'_>) -> Result<Self, ScenarioError> {
        let network = settings.choice("network", &Network::ALL)?;
        let address = address(settings, network)?;
        let address = SocketAddr::new(address, settings.integer("port", 1..=u16::MAX)?);
        let sysctls = sysctls(settings, network)?;
        let sources = Sources::read(settings, network, address.ip())?;
        if settings.choice("kind", &[("listen", false), ("ports", true)])? {
            return Self::of_ports(settings, network, address, sysctls, sources);
        }
        let words = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("tcp+udp", Protocol::Both)];
        let protocol = settings.choice("protocol", &words)?;
        let stamps = Stamps::read(settings, protocol)?;
        let queue_interval = queue_interval(settings)?;
        let server = Server::read(settings, protocol)?;
        let load = Load::read(settings, protocol, &server)?;
        let deadline = settings.duration_or_word("deadline", "auto")?;
        let planned = load.planned();
        if let Some(deadline) = deadline.filter(|deadline| *deadline <= load.warmup + planned) {
            return Err(settings.wrong(
                "deadline",
                format_args!("{deadline:?} ends the trial before its {:?} of load do", load.warmup + planned),
            ));
        }
        let deadline = deadline.unwrap_or_else(|| load.automatic_deadline());
        let load_span = matches!(load.bound, Bound::Duration(_)).then_some(load.warmup + planned);
        let faults = Fault::read_all(settings, server.workers, load_span)?;
        Ok(Self {
            network,
            protocol,
            address,
            deadline,
            sysctls,
            stamps,
            queue_interval,
            server,
            load,
            faults,
            sources,
            fill: None,
        })
    }
}

fn address(settings: &Settings<'_>, network: Network) -> Result<IpAddr, ScenarioError> {
    // RFC 2544 sets 198.18.0.0/15 aside for benchmarks.
    let default = if network == Network::Veth { "198.18.0.1" } else { "127.0.0.1" };
    let text = settings.string_or("address", default)?;
    let address: IpAddr =
        text.parse().map_err(|_| settings.wrong("address", format_args!("\"{text}\" is no IP address")))?;
    match network {
        Network::Namespace if !address.is_loopback() => Err(settings.wrong(
            "address",
            format_args!(
                "{address} does not exist in a trial's namespace: use a loopback address, or network = \"veth\" or \"host\""
            ),
        )),
        Network::Veth if !crosses(address) || !crosses(veth::neighbour(address)) => Err(settings.wrong(
            "address",
            format_args!(
                "{address} cannot be at one end of a veth pair with {} at the other: use a unicast address such as \
                 198.18.0.1 or 2001:2::1, or network = \"netns\" for loopback",
                veth::neighbour(address)
            ),
        )),
        _ => Ok(address),
    }
}

/// Whether an address can be a device's and be reached from another's.
fn crosses(address: IpAddr) -> bool {
    let of_no_device = match address {
        IpAddr::V4(address) => address.is_broadcast(),
        // A link-local address means nothing without its link, and a mapped one is IPv4's.
        IpAddr::V6(address) => address.is_unicast_link_local() || address.to_ipv4_mapped().is_some(),
    };
    !(of_no_device || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

impl Scenario {
    /// A scenario of kind `ports`: of server and load it has the defaults.
    fn of_ports(
        settings: &Settings<'_>,
        network: Network,
        address: SocketAddr,
        sysctls: Vec<(String, String)>,
        sources: Sources,
    ) -> Result<Self, ScenarioError> {
        /// What a connect may take at the wall is milliseconds; a million of them, and the closing, is this.
        const LONGEST: Duration = Duration::from_secs(1_800);
        if network == Network::Host {
            return Err(
                settings.wrong("kind", "\"ports\" would take this machine's own ports: use network = \"netns\"")
            );
        }
        let fill = Fill::read(settings, address)?;
        let close_how = settings.choice("load.close_how", &CloseHow::WORDS)?;
        let deadline = settings.duration_or_word("deadline", "auto")?.unwrap_or(LONGEST + fill.recover_within);
        let (nothing, nowhere) = (Flat::new(), HashMap::new());
        let defaults = Settings::new("defaults", &nothing, &nowhere);
        let server = Server::read(&defaults, Protocol::Tcp)?;
        Ok(Self {
            network,
            protocol: Protocol::Tcp,
            address,
            deadline,
            sysctls,
            stamps: Stamps::ConnectCall,
            queue_interval: Duration::from_millis(100),
            load: Load { close_how, ..Load::read(&defaults, Protocol::Tcp, &server)? },
            server,
            faults: Vec::new(),
            sources,
            fill: Some(fill),
        })
    }
}

fn queue_interval(settings: &Settings<'_>) -> Result<Duration, ScenarioError> {
    /// A sample costs about a tenth of it.
    const SHORTEST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(100);
    let interval = settings.duration("queue_interval")?;
    if (SHORTEST..=LONGEST).contains(&interval) && interval.subsec_nanos() % 1_000_000 == 0 {
        return Ok(interval);
    }
    Err(settings.wrong("queue_interval", format_args!("must be whole milliseconds from 1 to 100, not {interval:?}")))
}

fn sysctls(settings: &Settings<'_>, network: Network) -> Result<Vec<(String, String)>, ScenarioError> {
    let mut sysctls = Vec::new();
    for (name, value) in settings.below(SYSCTL_PREFIX) {
        let path = format!("{SYSCTL_PREFIX}{name}");
        if network == Network::Host {
            return Err(
                settings.wrong(&path, "network = \"host\" writes no sysctl: use \"netns\" or \"veth\", or remove it")
            );
        }
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            other => return Err(settings.wrong(&path, format_args!("must be a number or a string, not {other}"))),
        };
        sysctls.push((name, value));
    }
    Ok(sysctls)
}
