//! A cell's scenario, valid by construction.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use indexmap::IndexSet;
use strum::{EnumIter, EnumString, IntoStaticStr, VariantNames};

use super::{
    bind::{Bind, LOOPBACK},
    crew::{self, Crew},
    event::{Act, Event, Reload},
    file::File,
    firewall::Firewall,
    keys::{self, AnyKey, Listens},
    load::{Around, CloseBy, CloseHow, Load},
    local,
    nat::Nat,
    ports::{Fill, Selection, Sources},
    schedule::Span,
    server::{App, Server},
    settings::{Log, Settings},
    subject::UnderTest,
};
use crate::sys::{
    unix::{SERVER_END, UnixAddress},
    veth,
};

/// What one trial does.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Whose network it uses.
    pub network: Network,
    /// What is exchanged.
    pub protocol: Protocol,
    /// Where the server listens; on a Unix socket, the end that stands for it.
    pub address: SocketAddr,
    /// The Unix socket that the server listens on, if it does.
    pub unix: Option<UnixAddress>,
    /// The server host that has the subject, by its rank in the job; 0 without one.
    pub server_host: usize,
    /// Whom our own server serves in a job.
    pub admit: Admit,
    /// The longest a trial may take.
    pub deadline: Duration,
    /// Sysctls of the trial's namespaces: name as written, value.
    pub sysctls: Vec<(String, String)>,
    /// What packets pass on their way to the server.
    pub firewall: Firewall,
    /// The NAT that its clients are behind.
    pub nat: Option<Nat>,
    /// How accept waits are measured.
    pub stamps: Stamps,
    /// How a probe counts accepts from outside the server.
    pub probe: Probe,
    /// Time between samples of the queues.
    pub queue_interval: Duration,
    /// The server under test.
    pub subject: UnderTest,
    /// Our own server; of another one, what loaders exchange with it and how many workers it is told to have.
    pub server: Server,
    /// When its load is measured.
    pub span: Span,
    /// The populations of connections that load the server at once: at least one.
    pub loads: Vec<Load>,
    /// Which of its connections our own server expects to begin with a PROXY protocol header.
    pub headers: Headers,
    /// What is done to workers during the trial.
    pub events: Vec<Event>,
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
    /// Connections by Multipath TCP (RFC 8684), for which both ends ask in the handshake.
    Mptcp,
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

/// How a probe counts accepts from outside the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Probe {
    /// The best way that works for somebody else's server; none for ours, which counts itself.
    Auto,
    /// Exact waits, with the kernel's type information.
    Btf,
    /// Exact waits, by the peer's address.
    Tracepoints,
    /// Counts only.
    Counts,
    /// Not at all.
    Off,
}

/// Whom our own server serves in a job of several hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Admit {
    /// The hosts of the job: connections from elsewhere are closed at once.
    Job,
    /// Whoever connects.
    Anyone,
}

/// Which connections begin with a PROXY protocol header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headers {
    /// No connection.
    None,
    /// Those of some populations, which a server cannot tell from the others beforehand.
    Some,
    /// All connections.
    All,
}

impl Headers {
    fn of(loads: &[Load]) -> Self {
        let connecting = || loads.iter().filter(|load| load.connects());
        match connecting().filter(|load| load.proxy_protocol.is_some()).count() {
            0 => Self::None,
            all if all == connecting().count() => Self::All,
            _ => Self::Some,
        }
    }
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
            Self::Tcp | Self::Mptcp => transport == Transport::Tcp,
            Self::Udp => transport == Transport::Udp,
            Self::Both => true,
        }
    }

    /// Whether sockets of its connections are MPTCP's.
    pub fn is_multipath(self) -> bool {
        self == Self::Mptcp
    }

    /// The transports it includes.
    pub fn transports(self) -> impl Iterator<Item = Transport> {
        [Transport::Tcp, Transport::Udp].into_iter().filter(move |transport| self.has(*transport))
    }
}

/// How a server is to end connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// Who closes first.
    pub close_by: CloseBy,
    /// How the side that closes first does so.
    pub close_how: CloseHow,
    /// The requests of a connection.
    pub requests: u32,
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
    /// The workers of our own server, those that events bring included.
    pub fn crew(&self) -> Crew {
        Crew::of(&self.server, &self.events)
    }

    /// How many they are.
    pub fn all_workers(&self) -> usize {
        self.crew().workers.len()
    }

    /// Whether an event changes which workers serve.
    pub fn changes_workers(&self) -> bool {
        self.events.iter().any(|event| event.act.changes_workers())
    }

    /// Whether an event replaces all workers.
    pub fn reloads(&self) -> bool {
        self.events.iter().any(|event| matches!(event.act, Act::Reload { .. }))
    }

    /// Whether new listeners are to join the group of those that a reload closes.
    pub fn reopens(&self) -> bool {
        self.events.iter().any(|event| matches!(event.act, Act::Reload { how: Reload::Reopen, .. }))
    }

    /// Where its clients connect to.
    pub fn destinations(&self) -> &[SocketAddr] {
        self.fill.as_ref().map_or(std::slice::from_ref(&self.address), |fill| &fill.destinations)
    }

    /// Where clients find the server.
    pub fn place(&self) -> String {
        self.unix.as_ref().map_or_else(|| self.address.to_string(), ToString::to_string)
    }

    /// Whether what is sent arrives as messages, each whole.
    pub fn has_messages(&self) -> bool {
        self.unix.as_ref().is_some_and(UnixAddress::has_messages)
    }

    /// What requests name as their host, unless the scenario says.
    pub fn host_header(&self) -> String {
        if self.unix.is_some() { "localhost".to_owned() } else { self.address.to_string() }
    }

    /// Whether other programs may connect to the server: they share its network, or the file of its Unix socket.
    pub fn is_open_to_others(&self) -> bool {
        self.network == Network::Host || self.unix.as_ref().is_some_and(|unix| unix.path().is_some())
    }

    /// The scenario of our own server behind the one under test, if that is a proxy. It listens on the next port, and lets the
    /// proxy decide how long connections last if the app's requests say so.
    pub fn backend(&self) -> Option<Self> {
        let UnderTest::Command(command) = &self.subject else { return None };
        let mut server = (**command.backend.as_ref()?).clone();
        // A proxy connects to it by plain TCP, whatever its own clients speak.
        server.listen.multipath = false;
        let protocol = if self.protocol.is_multipath() { Protocol::Tcp } else { self.protocol };
        let port = if self.address.port() == u16::MAX { u16::MAX - 1 } else { self.address.port() + 1 };
        let ip = match self.address.ip() {
            // A server that listens at every address also does at this one.
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let is_http = server.app.is_http();
        let close_by = |load: &Load| if is_http { CloseBy::Client } else { load.close_by };
        Some(Self {
            subject: UnderTest::Own,
            protocol,
            // They happen to the proxy.
            events: Vec::new(),
            address: SocketAddr::new(ip, port),
            headers: if command.backend_headers { Headers::All } else { Headers::None },
            loads: self.loads.iter().map(|load| Load { close_by: close_by(load), ..load.clone() }).collect(),
            server,
            ..self.clone()
        })
    }

    /// What its server knows of how connections end, which is the same for all populations.
    pub fn closing(&self) -> Closing {
        let Load { close_by, close_how, requests, .. } = self.loads[0];
        Closing { close_by, close_how, requests }
    }

    /// Its population, if it has only one.
    pub fn only_load(&self) -> Option<&Load> {
        if let [only] = &self.loads[..] { Some(only) } else { None }
    }

    /// How the clients of all its populations together get their ports: from the kernel unless it chooses for none of them.
    pub fn sources(&self) -> Sources {
        let all = || self.loads.iter().map(|load| &load.sources);
        let addresses: IndexSet<IpAddr> = all().flat_map(|sources| &sources.addresses).copied().collect();
        let searched = all().map(|sources| sources.selection).find(|selection| *selection != Selection::Explicit);
        Sources { selection: searched.unwrap_or(Selection::Explicit), addresses: addresses.into_iter().collect() }
    }

    /// The time from a trial's start until the last connection that it measures may close, if the scenario fixes it.
    pub fn length(&self) -> Option<Duration> {
        let hold = self.loads.iter().map(Load::longest_hold).max().unwrap_or_default();
        self.span.fixed().filter(|_| self.fill.is_none()).map(|load| load + hold)
    }

    /// What the server is bound to; of another one, only where clients connect to is known.
    pub fn bound(&self) -> Vec<SocketAddr> {
        self.server.bind.bound(self.address)
    }

    /// The server's end of all connections to our own server, if it is bound to a single address.
    pub fn only_end(&self) -> Option<SocketAddr> {
        if let [only] = self.bound()[..] { Some(only).filter(|only| !only.ip().is_unspecified()) } else { None }
    }

    /// Whether other machines may reach the server, should its network be connected with theirs.
    pub fn is_beyond_loopback(&self) -> bool {
        self.beyond_loopback().next().is_some()
    }

    /// What it is bound to beyond loopback.
    pub fn beyond_loopback(&self) -> impl Iterator<Item = SocketAddr> {
        // What others send does not arrive at the loopback device. An IPv4-mapped address is IPv4's.
        let all = if self.server.bind.device.as_deref() == Some(LOOPBACK) { Vec::new() } else { self.bound() };
        all.into_iter().filter(|bound| !bound.ip().to_canonical().is_loopback())
    }

    /// Why our own server may not listen on its address in a network that other machines reach; `None` if it may.
    pub fn amplifies(&self) -> Option<String> {
        let App::Echo { request_bytes, reply_bytes } = self.server.app else { return None };
        let others_ask = self.subject.is_own() && self.protocol.has(Transport::Udp) && self.is_beyond_loopback();
        let all = self.beyond_loopback().map(|bound| bound.to_string()).collect::<Vec<_>>().join(", ");
        (others_ask && reply_bytes > request_bytes && !self.server.larger_datagrams).then(|| {
            format!(
                "on {all}, other machines may ask, and {reply_bytes}-byte datagrams in reply to {request_bytes} bytes from a forged sender \
                 would flood that sender: use at most server.request_bytes, a loopback address, or server.larger_datagrams = true"
            )
        })
    }

    /// Reads a cell. If settings are found to contradict each other, `settings` keeps the complaints and the scenario is useless.
    pub(super) fn read(settings: &Settings<'_>) -> Self {
        let network = settings.get(keys::NETWORK);
        let (address, unix) = match address(settings, network) {
            Listens::At(ip) => (SocketAddr::new(ip, settings.get(keys::PORT)), None),
            Listens::On(unix) => (SERVER_END, Some(unix)),
        };
        let sysctls = sysctls(settings, network);
        if settings.get(keys::KIND) == Kind::Ports {
            if unix.is_some() {
                settings.conflict(
                    keys::KIND,
                    &[keys::ADDRESS],
                    "\"ports\" fills ports, and a Unix socket (`address`) has none",
                );
            }
            return Self::of_ports(settings, network, address, sysctls);
        }
        let protocol = settings.get(keys::PROTOCOL);
        let has_tcp = protocol.has(Transport::Tcp);
        let (mut subject, mut server) = UnderTest::read(settings, protocol, network);
        if unix.is_some() {
            local::check(settings, protocol, &subject, &server);
        }
        if let Some(ours) = subject.ours(&mut server) {
            ours.bind = Bind::read(settings, network, address.ip());
        }
        // Datagrams are never accepted, and only our own server, under test or behind one, matches its accepts to stamps.
        let stamps = if has_tcp && unix.is_none() && subject.runs_ours() {
            settings.get(keys::STAMPS)
        } else {
            Stamps::ConnectCall
        };
        let of_proxy = !subject.is_own() && subject.runs_ours();
        if of_proxy && unix.is_none() && matches!(stamps, Stamps::ConnectCall | Stamps::Both) {
            let problem = "a proxy's connections to its upstream are not ours: use \"auto\" or \"sock_ops\"";
            settings.conflict(keys::STAMPS, &[keys::SERVER_BACKEND], problem);
        }
        // Our own server on a Unix socket counts itself.
        let probes = has_tcp && (unix.is_none() || !subject.is_own());
        let probe = if probes { settings.get(keys::PROBE) } else { Probe::Off };
        if unix.is_some() && matches!(probe, Probe::Tracepoints | Probe::Counts) {
            let problem = "tells connections of Unix sockets (`address`) apart by the kernel's type information only: use \"btf\", \"auto\" or \"off\"";
            settings.conflict(keys::PROBE, &[keys::ADDRESS], problem);
        }
        let firewall = Firewall::read(settings, network, protocol);
        let nat = Nat::read(settings, network, protocol);
        let queue_interval = settings.get(keys::QUEUE_INTERVAL);
        let span = Span::read(settings);
        let around = Around { protocol, network, target: address.ip(), subject: &subject, server: &server, span };
        let loads = Load::read_all(settings, around);
        let last = settings.peek(keys::HOSTS_SERVERS) - 1;
        let server_host = settings.get_within(
            keys::HOSTS_SERVER,
            0..=last,
            &[keys::HOSTS_SERVERS],
            "(the last rank of `hosts.servers`)",
        );
        let admit = settings.get(keys::HOSTS_ADMIT);
        let deadline = settings.get(keys::DEADLINE);
        let least = span.warmup + span.measured();
        if let Some(deadline) = deadline.filter(|deadline| *deadline <= least) {
            settings.conflict(
                keys::DEADLINE,
                &[keys::LOAD_WARMUP, keys::LOAD_DURATION],
                format_args!("{deadline:?} ends the trial before its {least:?} of load are over"),
            );
        }
        let deadline = deadline.unwrap_or_else(|| Load::longest_deadline(&loads, span));
        let fixed = span.fixed();
        let events = Event::read_all(settings, subject.is_own().then_some(server.workers), fixed);
        crew::check(settings, &server, &events);
        if subject.is_own() {
            Event::check_processes(settings, &server.strategy, &events);
        }
        let headers = if subject.is_own() { Headers::of(&loads) } else { Headers::None };
        let scenario = Self {
            network,
            protocol,
            address,
            unix,
            server_host,
            admit,
            deadline,
            sysctls,
            firewall,
            nat,
            stamps,
            probe,
            queue_interval,
            subject,
            server,
            span,
            headers,
            loads,
            events,
            fill: None,
        };
        if network == Network::Host
            && let Some(problem) = scenario.amplifies()
        {
            let others: [&dyn AnyKey; 3] = [keys::PROTOCOL, keys::ADDRESS, keys::SERVER_REQUEST_BYTES];
            settings.conflict(keys::SERVER_REPLY_BYTES, &others, problem);
        }
        scenario
    }

    /// A scenario of kind `ports`, with the defaults for server and load.
    fn of_ports(
        settings: &Settings<'_>,
        network: Network,
        address: SocketAddr,
        sysctls: Vec<(String, String)>,
    ) -> Self {
        /// Connecting takes milliseconds at the wall; this is enough for a million connects and closes.
        const LONGEST: Duration = Duration::from_secs(1_800);
        if network == Network::Host {
            let problem = "\"ports\" would take this machine's own ports: use network = \"netns\"";
            settings.conflict(keys::KIND, &[keys::NETWORK], problem);
        }
        let sources = Sources::read(settings, network, address.ip());
        let fill = Fill::read(settings, address);
        let close_how = settings.get(keys::LOAD_CLOSE_HOW);
        let deadline = settings.get(keys::DEADLINE).unwrap_or(LONGEST + fill.recover_within);
        let (nothing, log) = (File::default(), Log::default());
        let defaults = Settings::new(&nothing, Vec::new(), &log);
        let (subject, server, span) = (UnderTest::Own, Server::by_default(), Span::read(&defaults));
        let protocol = Protocol::Tcp;
        let around = Around { protocol, network, target: address.ip(), subject: &subject, server: &server, span };
        let loads = Load::read_all(&defaults, around);
        let loads = loads.into_iter().map(|load| Load { close_how, sources: sources.clone(), ..load }).collect();
        Self {
            network,
            protocol,
            address,
            unix: None,
            server_host: keys::HOSTS_SERVER.default(),
            admit: keys::HOSTS_ADMIT.default(),
            deadline,
            sysctls,
            firewall: Firewall::default(),
            nat: None,
            stamps: Stamps::ConnectCall,
            probe: Probe::Off,
            queue_interval: Duration::from_millis(100),
            span,
            headers: Headers::None,
            loads,
            subject,
            server,
            events: Vec::new(),
            fill: Some(fill),
        }
    }
}

fn address(settings: &Settings<'_>, network: Network) -> Listens {
    /// RFC 2544 sets 198.18.0.0/15 aside for benchmarks.
    const BENCHMARK: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
    let default = if network == Network::Veth { Listens::At(BENCHMARK.into()) } else { keys::ADDRESS.default() };
    let listens = settings.get_or(keys::ADDRESS, default);
    let Listens::At(address) = listens else {
        if network == Network::Veth {
            let problem =
                "is a Unix socket's, which packets of a veth pair cannot reach: set network = \"netns\" or \"host\"";
            settings.conflict(keys::ADDRESS, &[keys::NETWORK], problem);
        }
        return listens;
    };
    let problem = match network {
        Network::Namespace if !address.is_loopback() => format!(
            "{address} is not a loopback address, and network = \"netns\" has no others: use one, or network = \"host\" for an address \
             of this machine, or network = \"veth\" for an address that trials give to a device of their own"
        ),
        Network::Veth if !crosses(address) || !crosses(veth::neighbour(address)) => format!(
            "{address} cannot be at one end of a veth pair with {} at the other: use a unicast address such as \
             {BENCHMARK} or 2001:2::1, or network = \"netns\" for loopback",
            veth::neighbour(address)
        ),
        _ => return listens,
    };
    settings.conflict(keys::ADDRESS, &[keys::NETWORK], problem);
    listens
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
    local::check_sysctls(settings, &sysctls);
    if network == Network::Host {
        for (name, _) in &sysctls {
            let problem = "network = \"host\" writes no sysctl: use \"netns\" or \"veth\", or remove it";
            settings.refuse_sysctl(name, problem);
        }
    }
    sysctls
}
