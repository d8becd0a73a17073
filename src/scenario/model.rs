//! A cell's scenario, valid by construction.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use strum::{EnumIter, EnumString, IntoStaticStr, VariantNames};

use super::{
    fault::Fault,
    file::File,
    keys,
    load::Load,
    ports::{Fill, Sources},
    schedule::Bound,
    server::Server,
    settings::{Log, Settings},
};
use crate::sys::veth;

/// What one trial does.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Whose network it uses.
    pub network: Network,
    /// What is exchanged.
    pub protocol: Protocol,
    /// Where the server listens.
    pub address: SocketAddr,
    /// The longest a trial may take.
    pub deadline: Duration,
    /// Sysctls of the trial's namespaces: name as written, value.
    pub sysctls: Vec<(String, String)>,
    /// How accept waits are measured.
    pub stamps: Stamps,
    /// Time between samples of the queues.
    pub queue_interval: Duration,
    /// The server's half.
    pub server: Server,
    /// The load's half.
    pub load: Load,
    /// What is done to workers during the trial.
    pub faults: Vec<Fault>,
    /// How clients get their source ports.
    pub sources: Sources,
    /// What a scenario of kind `ports` does, in place of server and load.
    pub fill: Option<Fill>,
}

/// What a scenario is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Kind {
    /// A server under load.
    Listen,
    /// Filling the ephemeral ports.
    Ports,
}

/// What is exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
    /// Both, on the same port number.
    #[strum(serialize = "tcp+udp")]
    Both,
}

/// How accept waits are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Stamps {
    /// Exactly where possible, else from the client's connect call.
    Auto,
    /// Exactly, by a sock_ops program.
    #[strum(serialize = "sock_ops")]
    SockOps,
    /// From the client's connect call: an upper bound.
    ConnectCall,
    /// Both, side by side.
    Both,
}

/// What a socket carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// Whether it includes this transport.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Network {
    /// A fresh network namespace for each trial.
    #[strum(serialize = "netns")]
    Namespace,
    /// Two namespaces for each trial, the server's and the loaders', joined by a veth pair.
    Veth,
    /// The machine's own network.
    Host,
}

impl Scenario {
    /// Reads a cell. If settings are found to contradict each other, `settings` keeps the complaints and the scenario is useless.
    pub(super) fn read(settings: &Settings<'_>) -> Self {
        let network = settings.get(keys::NETWORK);
        let address = SocketAddr::new(address(settings, network), settings.get(keys::PORT));
        let sysctls = sysctls(settings, network);
        let sources = Sources::read(settings, network, address.ip());
        if settings.get(keys::KIND) == Kind::Ports {
            return Self::of_ports(settings, network, address, sysctls, sources);
        }
        let protocol = settings.get(keys::PROTOCOL);
        let has_tcp = protocol.has(Transport::Tcp);
        // Datagrams are never accepted.
        let stamps = if has_tcp { settings.get(keys::STAMPS) } else { Stamps::ConnectCall };
        let queue_interval = settings.get(keys::QUEUE_INTERVAL);
        let server = Server::read(settings, protocol);
        let load = Load::read(settings, protocol, &server);
        let span = load.warmup + load.planned();
        let deadline = settings.get(keys::DEADLINE);
        if let Some(deadline) = deadline.filter(|deadline| *deadline <= span) {
            settings.conflict(
                keys::DEADLINE,
                &[keys::LOAD_WARMUP, keys::LOAD_DURATION],
                format_args!("{deadline:?} ends the trial before its {span:?} of load are over"),
            );
        }
        let deadline = deadline.unwrap_or_else(|| load.automatic_deadline());
        let fixed = matches!(load.bound, Bound::Duration(_)).then_some(span);
        let faults = Fault::read_all(settings, server.workers, fixed);
        Self {
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
        }
    }

    /// A scenario of kind `ports`, with the defaults for server and load.
    fn of_ports(
        settings: &Settings<'_>,
        network: Network,
        address: SocketAddr,
        sysctls: Vec<(String, String)>,
        sources: Sources,
    ) -> Self {
        /// Connecting takes milliseconds at the wall; this is enough for a million connects and closes.
        const LONGEST: Duration = Duration::from_secs(1_800);
        if network == Network::Host {
            let problem = "\"ports\" would take this machine's own ports: use network = \"netns\"";
            settings.conflict(keys::KIND, &[keys::NETWORK], problem);
        }
        let fill = Fill::read(settings, address);
        let close_how = settings.get(keys::LOAD_CLOSE_HOW);
        let deadline = settings.get(keys::DEADLINE).unwrap_or(LONGEST + fill.recover_within);
        let (nothing, log) = (File::default(), Log::default());
        let defaults = Settings::new(&nothing, Vec::new(), &log);
        let server = Server::read(&defaults, Protocol::Tcp);
        Self {
            network,
            protocol: Protocol::Tcp,
            address,
            deadline,
            sysctls,
            stamps: Stamps::ConnectCall,
            queue_interval: Duration::from_millis(100),
            load: Load { close_how, ..Load::read(&defaults, Protocol::Tcp, &server) },
            server,
            faults: Vec::new(),
            sources,
            fill: Some(fill),
        }
    }
}

fn address(settings: &Settings<'_>, network: Network) -> IpAddr {
    /// RFC 2544 sets 198.18.0.0/15 aside for benchmarks.
    const BENCHMARK: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
    let default = if network == Network::Veth { IpAddr::V4(BENCHMARK) } else { keys::ADDRESS.default() };
    let address = settings.get_or(keys::ADDRESS, default);
    let problem = match network {
        Network::Namespace if !address.is_loopback() => format!(
            "{address} does not exist in a trial's namespace: use a loopback address, or network = \"veth\" or \"host\""
        ),
        Network::Veth if !crosses(address) || !crosses(veth::neighbour(address)) => format!(
            "{address} cannot be at one end of a veth pair with {} at the other: use a unicast address such as \
             {BENCHMARK} or 2001:2::1, or network = \"netns\" for loopback",
            veth::neighbour(address)
        ),
        _ => return address,
    };
    settings.conflict(keys::ADDRESS, &[keys::NETWORK], problem);
    address
}

/// Whether a device can have an address and be reached at it from another.
fn crosses(address: IpAddr) -> bool {
    let of_no_device = match address {
        IpAddr::V4(address) => address.is_broadcast(),
        // A link-local address means nothing without its link, and a mapped one is IPv4's.
        IpAddr::V6(address) => address.is_unicast_link_local() || address.to_ipv4_mapped().is_some(),
    };
    !(of_no_device || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

fn sysctls(settings: &Settings<'_>, network: Network) -> Vec<(String, String)> {
    let sysctls = settings.sysctls();
    if network == Network::Host {
        for (name, _) in &sysctls {
            let problem = "network = \"host\" writes no sysctl: use \"netns\" or \"veth\", or remove it";
            settings.refuse_sysctl(name, problem);
        }
    }
    sysctls
}
