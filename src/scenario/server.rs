//! The server's half of a scenario.

use std::time::Duration;

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use strum::{EnumDiscriminants, EnumString, IntoStaticStr, VariantNames};

use super::{
    bind::Bind,
    engine::Engine,
    file::File,
    keys::{self, AnyKey},
    model::{Protocol, Transport},
    placement::{Pin, Scheduler},
    security::CertificateFiles,
    settings::{Log, Settings},
    strategy::{Steering, Strategy},
};
use crate::ipc::{connection_id, receipt::RECEIPT_BYTES};

/// Largest payload of a datagram over IPv4: 65,535 minus the headers of IP and UDP.
pub(super) const DATAGRAM_LIMIT_BYTES: usize = 65_507;

/// The server's half of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// How workers obtain connections.
    pub strategy: Strategy,
    /// Worker processes.
    pub workers: usize,
    /// What the listeners are bound to.
    pub bind: Bind,
    /// Options of the listeners.
    pub listen: ListenOptions,
    /// Workers whose UDP sockets are connected to a peer that never sends.
    pub connected: Vec<usize>,
    /// Accepts or receptions per wake-up.
    pub accept_batch: AcceptBatch,
    /// How long a worker that has open connections lets others accept before it does; 0 for not at all.
    pub accept_later: Duration,
    /// Time from the trial's start until workers begin to accept.
    pub accept_delay: Duration,
    /// The most open files of each of the server's processes; `None` for what the machine allows.
    pub open_files: Option<u64>,
    /// What a worker does that has no descriptor left for a connection.
    pub at_open_files: AtOpenFiles,
    /// The order in which workers add their listeners to epoll.
    pub registration: Registration,
    /// Placement on processors.
    pub pin: Pin,
    /// How the kernel schedules workers.
    pub scheduler: Scheduler,
    /// What moves the bytes of its connections.
    pub engine: Engine,
    /// What is served.
    pub app: App,
    /// Where its certificate is, with app `https`; `None` for one that is made at start.
    pub certificate: Option<CertificateFiles>,
    /// Whether its datagrams may be larger than the requests where other machines ask.
    pub larger_datagrams: bool,
    /// CPU burnt per request.
    pub service_time: ServiceTime,
}

/// Options of listening sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenOptions {
    /// Second argument of listen(2).
    pub backlog: i32,
    /// Flags of accept4(2).
    pub accept_flags: AcceptFlags,
    /// TCP_NODELAY, which connections inherit from their listener.
    pub nodelay: bool,
    /// TCP_DEFER_ACCEPT in seconds; 0 for off.
    pub defer_accept_s: u32,
    /// TCP_FASTOPEN: the most pending connections; 0 for off.
    pub fastopen: u32,
    /// SO_BUSY_POLL in microseconds; 0 for off.
    pub busy_poll_us: u32,
    /// SO_RCVBUF in bytes; 0 for the system's default.
    pub receive_buffer_bytes: u32,
    /// Whether they, and their clients, are sockets of IPPROTO_MPTCP.
    pub multipath: bool,
}

/// Flags of accept4(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum AcceptFlags {
    /// SOCK_NONBLOCK and SOCK_CLOEXEC.
    #[strum(serialize = "nonblock+cloexec")]
    NonblockCloexec,
    /// SOCK_NONBLOCK.
    Nonblock,
    /// SOCK_CLOEXEC.
    Cloexec,
    /// Neither.
    None,
}

impl AcceptFlags {
    /// Whether SOCK_NONBLOCK is among them.
    pub fn nonblock(self) -> bool {
        matches!(self, Self::NonblockCloexec | Self::Nonblock)
    }

    /// Whether SOCK_CLOEXEC is among them.
    pub fn cloexec(self) -> bool {
        matches!(self, Self::NonblockCloexec | Self::Cloexec)
    }
}

impl Default for ListenOptions {
    /// A listener without options.
    fn default() -> Self {
        Self {
            backlog: keys::SERVER_BACKLOG.default(),
            accept_flags: keys::SERVER_ACCEPT_FLAGS.default(),
            nodelay: false,
            defer_accept_s: 0,
            fastopen: 0,
            busy_poll_us: 0,
            receive_buffer_bytes: 0,
            multipath: false,
        }
    }
}

impl ListenOptions {
    fn read(settings: &Settings<'_>, protocol: Protocol, strategy: &Strategy, app: App) -> Self {
        let mut options = Self {
            busy_poll_us: settings.get_of_networks(keys::SERVER_BUSY_POLL).as_micros() as u32,
            receive_buffer_bytes: settings.get_of_networks(keys::SERVER_RECEIVE_BUFFER),
            multipath: protocol.is_multipath(),
            ..Self::default()
        };
        if protocol.has(Transport::Tcp) {
            options.backlog = settings.get(keys::SERVER_BACKLOG);
            options.nodelay = !settings.is_unix() && settings.get(keys::SERVER_NODELAY);
            if strategy.calls_accept() {
                options.accept_flags = settings.get(keys::SERVER_ACCEPT_FLAGS);
            }
            // Clients that send nothing give the kernel no data to wait for, and none to put into the SYN.
            if !matches!(app, App::Close | App::Connect) {
                options.defer_accept_s = settings.get_of_networks(keys::SERVER_DEFER_ACCEPT).as_secs() as u32;
                options.fastopen = settings.get_of_networks(keys::SERVER_FASTOPEN);
            }
        }
        options
    }
}

/// How many connections a worker accepts per wake-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptBatch {
    /// Until the queue is empty.
    Drain,
    /// At most this many.
    AtMost(u32),
}

/// What a worker does when accept(2) fails because it has no descriptor left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum AtOpenFiles {
    /// It accepts nothing until one of its connections closes.
    Pause,
    /// It tries again at once.
    Spin,
    /// It has a spare descriptor, with which it accepts the connection and closes it.
    Reserve,
}

/// The order in which workers add their listeners to epoll. With EPOLLEXCLUSIVE it decides which one is woken first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Registration {
    /// Worker 0 first.
    Ascending,
    /// Worker 0 last.
    Descending,
    /// In an order given by seed and repetition.
    Shuffled,
}

impl Registration {
    /// The rank of each worker; the first to register has 0.
    pub fn ranks(self, workers: usize, seed: u64, repetition: usize) -> Vec<usize> {
        let mut ranks: Vec<usize> = (0..workers).collect();
        match self {
            Self::Ascending => {}
            Self::Descending => ranks.reverse(),
            Self::Shuffled => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                // A stream used by neither workers, whose streams have the top bit set, nor schedules.
                rng.set_stream(1 << 62 | repetition as u64);
                ranks.shuffle(&mut rng);
            }
        }
        ranks
    }
}

/// What is exchanged on a connection. An app's name is its variant's, in kebab case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumDiscriminants)]
#[strum_discriminants(
    name(AppName),
    doc = "The name of an app.",
    derive(EnumString, IntoStaticStr, VariantNames),
    strum(serialize_all = "kebab-case")
)]
pub enum App {
    /// The server accepts and closes.
    Close,
    /// Clients connect, say nothing, and close.
    Connect,
    /// Fixed-size requests and replies.
    Echo {
        /// Size of a request.
        request_bytes: usize,
        /// Size of a reply.
        reply_bytes: usize,
    },
    /// HTTP/1.1.
    Http {
        /// Size of a reply's body.
        body_bytes: usize,
    },
    /// The same over TLS.
    Https {
        /// Size of a reply's body.
        body_bytes: usize,
    },
    /// What the scenario has clients send, and the reply it expects: for other servers.
    Line,
}

/// CPU time burnt per request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ServiceTime {
    /// Always the same.
    Fixed(Duration),
    /// Exponentially distributed with this mean.
    Exponential(Duration),
    /// Mostly short, sometimes long.
    Bimodal {
        /// The usual time.
        short: Duration,
        /// The unusual time.
        long: Duration,
        /// Share of requests that take the long time, from 0 to 1.
        long_share: f64,
    },
}

/// The name of a distribution of service times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum ServiceDistribution {
    /// [`ServiceTime::Fixed`].
    Fixed,
    /// [`ServiceTime::Exponential`].
    Exponential,
    /// [`ServiceTime::Bimodal`].
    Bimodal,
}

impl Server {
    /// Our own server with so many workers.
    pub(super) fn read(settings: &Settings<'_>, protocol: Protocol, workers: usize) -> Self {
        let app = App::read(settings, protocol, true);
        let strategy = Strategy::read(settings, protocol, workers);
        app.check_room_for_ids(settings, &strategy);
        let engine = Engine::of_workers(settings, protocol, &strategy);
        let later = protocol.has(Transport::Tcp) && strategy.leaves_others_time(workers);
        let accept_later = if later { settings.get(keys::SERVER_ACCEPT_LATER) } else { Duration::ZERO };
        Self {
            // Known once it is known whose server this is.
            bind: Bind::default(),
            listen: ListenOptions::read(settings, protocol, &strategy, app),
            connected: connected(settings, protocol, &strategy, workers),
            strategy,
            workers,
            accept_batch: settings.get(keys::SERVER_ACCEPT_BATCH).map_or(AcceptBatch::Drain, AcceptBatch::AtMost),
            accept_later,
            accept_delay: settings.get(keys::SERVER_ACCEPT_DELAY),
            open_files: None,
            // Datagrams take no descriptors.
            at_open_files: if protocol.has(Transport::Tcp) {
                settings.get(keys::SERVER_AT_OPEN_FILES)
            } else {
                keys::SERVER_AT_OPEN_FILES.default()
            },
            registration: settings.get(keys::SERVER_REGISTRATION),
            pin: Pin::of_workers(settings),
            scheduler: Scheduler(settings.get(keys::SERVER_SCHEDULER)),
            engine,
            app,
            certificate: None,
            larger_datagrams: protocol.has(Transport::Udp) && settings.get(keys::SERVER_LARGER_DATAGRAMS),
            service_time: ServiceTime::read(settings),
        }
    }

    /// The same under the limit of open files that the scenario sets for the server under test.
    pub(super) fn limited(self, settings: &Settings<'_>, protocol: Protocol) -> Self {
        let limit = || settings.get(keys::SERVER_OPEN_FILES);
        Self { open_files: protocol.has(Transport::Tcp).then(limit).flatten(), ..self }
    }

    /// The same with the certificate that it presents to its clients.
    pub(super) fn certified(self, settings: &Settings<'_>) -> Self {
        let certificate = if self.app.is_secured() { CertificateFiles::read(settings) } else { None };
        Self { certificate, ..self }
    }

    /// Our own server as it is by default.
    pub(super) fn by_default() -> Self {
        let (nothing, log) = (File::default(), Log::default());
        Self::read(&Settings::new(&nothing, Vec::new(), &log), Protocol::Tcp, keys::SERVER_WORKERS.default())
    }

    /// Somebody else's server: what loaders exchange with it, and the defaults for whatever only ours has.
    pub(super) fn of_others(settings: &Settings<'_>, protocol: Protocol, workers: usize) -> Self {
        let mut server = Self { app: App::read(settings, protocol, false), workers, ..Self::by_default() };
        server.listen.nodelay = !settings.is_unix() && settings.get(keys::SERVER_NODELAY);
        // Of its listeners nothing is known, but its clients ask.
        server.listen.multipath = protocol.is_multipath();
        server
    }
}

impl App {
    /// `own`: whether our own server runs it.
    fn read(settings: &Settings<'_>, protocol: Protocol, own: bool) -> Self {
        let has_udp = protocol.has(Transport::Udp);
        let name = settings.get(keys::SERVER_APP);
        if has_udp && name != AppName::Echo {
            settings.conflict(keys::SERVER_APP, &[keys::PROTOCOL], "datagrams (`protocol`) require app \"echo\"");
        }
        let (most, why) = if has_udp {
            (DATAGRAM_LIMIT_BYTES, "with app \"echo\" and datagrams (`protocol`)")
        } else {
            (keys::SERVER_REQUEST_BYTES.max(), "with app \"echo\"")
        };
        let bytes = |key, least| settings.get_within(key, least..=most, &[keys::SERVER_APP, keys::PROTOCOL], why);
        match name {
            AppName::Close => Self::Close,
            AppName::Connect => Self::Connect,
            AppName::Line => {
                if own {
                    let others: [&dyn keys::AnyKey; 2] = [keys::SERVER_SUBJECT, keys::SERVER_BACKEND];
                    let problem = "listenbench's own server has no answers to \"line\": use \"echo\" or \"http\", or test another server \
                                   (server.subject = \"command\" or \"running\")";
                    settings.conflict(keys::SERVER_APP, &others, problem);
                }
                Self::Line
            }
            AppName::Echo => Self::Echo {
                request_bytes: bytes(keys::SERVER_REQUEST_BYTES, keys::SERVER_REQUEST_BYTES.min()),
                reply_bytes: bytes(keys::SERVER_REPLY_BYTES, if own { RECEIPT_BYTES } else { 1 }),
            },
            // Another server's reply has the size that it has.
            AppName::Http | AppName::Https => {
                let body_bytes = if own { settings.get(keys::SERVER_REPLY_BYTES) } else { 0 };
                if name == AppName::Http { Self::Http { body_bytes } } else { Self::Https { body_bytes } }
            }
        }
    }

    /// Rejects datagrams too short for the ids that a strategy goes by.
    fn check_room_for_ids(self, settings: &Settings<'_>, strategy: &Strategy) {
        let Self::Echo { request_bytes, reply_bytes } = self else { return };
        let name = strategy.name;
        let check = |key: &'static dyn AnyKey, is: usize, least: usize| {
            if strategy.steering == Steering::ConnectionId && is < least {
                let problem = format!(
                    "must be at least {least} with \"{name}\", since its datagrams carry connection ids, not {is}: raise it, or use \
                     another strategy"
                );
                settings.conflict(key, &[keys::SERVER_STRATEGY], problem);
            }
        };
        check(keys::SERVER_REQUEST_BYTES, request_bytes, connection_id::REQUEST_BYTES);
        check(keys::SERVER_REPLY_BYTES, reply_bytes, connection_id::REPLY_BYTES);
    }

    /// Whether requests and replies are HTTP's.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http { .. } | Self::Https { .. })
    }

    /// Whether TLS protects them.
    pub fn is_secured(self) -> bool {
        matches!(self, Self::Https { .. })
    }

    /// What a proxy speaks with the server behind it: TLS ends at the proxy.
    pub(super) fn behind_proxy(self) -> Self {
        if let Self::Https { body_bytes } = self { Self::Http { body_bytes } } else { self }
    }

    /// What clients speak with a proxy, given what it speaks with the server behind it.
    pub(super) fn at_proxy(self, settings: &Settings<'_>) -> Self {
        match self {
            Self::Http { body_bytes } if settings.get(keys::SERVER_APP) == AppName::Https => Self::Https { body_bytes },
            app => app,
        }
    }

    /// The name in scenarios.
    pub fn name(self) -> &'static str {
        AppName::from(self).into()
    }

    /// How much of a reply depends on the scenario. Sizes clients' buffers.
    pub fn reply_bytes(self) -> usize {
        match self {
            // A line is short.
            Self::Close | Self::Connect | Self::Line => 0,
            Self::Echo { reply_bytes, .. } => reply_bytes,
            Self::Http { body_bytes } | Self::Https { body_bytes } => body_bytes,
        }
    }
}

fn connected(settings: &Settings<'_>, protocol: Protocol, strategy: &Strategy, workers: usize) -> Vec<usize> {
    if !protocol.has(Transport::Udp) || strategy.queues.count(workers) != workers || !strategy.queues.form_group() {
        return Vec::new();
    }
    let key = keys::SERVER_CONNECTED;
    let connected = settings.get(key);
    if let Some(worker) = connected.iter().find(|worker| **worker >= workers) {
        settings.conflict(key, &[keys::SERVER_WORKERS], no_such_worker(*worker, workers));
    } else if connected.len() == workers {
        let problem = "names all workers: none would be left to receive datagrams";
        settings.conflict(key, &[keys::SERVER_WORKERS], problem);
    }
    connected
}

/// The problem of a nonexistent worker number.
pub(super) fn no_such_worker(worker: usize, workers: usize) -> String {
    format!("there is no worker {worker}: workers are numbered from 0 to {}", workers - 1)
}

impl ServiceTime {
    /// Whether there is none.
    pub fn is_zero(&self) -> bool {
        *self == Self::Fixed(Duration::ZERO)
    }

    fn read(settings: &Settings<'_>) -> Self {
        let time = settings.get(keys::SERVER_SERVICE_TIME);
        match settings.get(keys::SERVER_SERVICE_DISTRIBUTION) {
            ServiceDistribution::Fixed => Self::Fixed(time),
            ServiceDistribution::Exponential => Self::Exponential(time),
            ServiceDistribution::Bimodal => Self::Bimodal {
                short: time,
                long: settings.get(keys::SERVER_SERVICE_TIME_LONG),
                long_share: settings.get(keys::SERVER_SERVICE_LONG_SHARE),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke_runs_every_app() {
        let smoke: toml::Table = include_str!("../../bench-configs/smoke.toml").parse().unwrap();
        let listed = smoke["matrix"]["server"]["app"].as_array().unwrap();
        // Our own server has no answers to `line`.
        let line: &str = AppName::Line.into();
        let apps: Vec<&str> = AppName::VARIANTS.iter().copied().filter(|app| *app != line).collect();
        assert!(
            listed.iter().filter_map(toml::Value::as_str).eq(apps.iter().copied()),
            "smoke.toml should list {apps:?}"
        );
    }
}
