//! The server's half of a scenario.

use std::time::Duration;

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    error::ScenarioError,
    model::{Protocol, Transport},
    placement::{CPUS_LIMIT, Pin, Scheduler},
    settings::Settings,
};
use crate::ipc::receipt::RECEIPT_BYTES;

/// Largest request and reply, so that one buffer per process suffices.
const EXCHANGE_LIMIT_BYTES: usize = 65_536;
/// Largest payload of a datagram over IPv4: 65,535 less the headers of IP and UDP.
const DATAGRAM_LIMIT_BYTES: usize = 65_507;
/// How workers obtain connections. `server::accept` has a file for each.
#[derive(Debug, Clone, PartialEq)]
pub enum Strategy {
    /// Inherited listener; a thread of each worker blocks in accept(2).
    SharedBlocking,
    /// Inherited listener in every worker's epoll, level-triggered.
    SharedEpoll,
    /// The same, edge-triggered.
    SharedEpollEdge,
    /// The same as the first, with EPOLLEXCLUSIVE.
    SharedEpollExclusive,
    /// Inherited listener in the epoll of the worker that holds a lock.
    SharedAcceptMutex {
        /// How long a worker that did not get the lock waits before it tries again.
        delay: Duration,
    },
    /// Inherited listener, io_uring multishot accept in every worker.
    SharedUring,
    /// One process accepts for all workers.
    Dispatcher {
        /// To whom it hands a connection.
        dispatch: Dispatch,
    },
    /// A listener for each worker in one SO_REUSEPORT group.
    Reuseport,
    /// The same, io_uring multishot accept.
    ReuseportUring,
    /// The same as `Reuseport`, picked by the receiving processor's number (classic BPF).
    ReuseportCpu,
    /// The same as `Reuseport`, with SO_INCOMING_CPU on each listener.
    ReuseportIncomingCpu {
        /// The processors; worker k's is the k-th, counted round. `None` for those that may be used.
        cpus: Option<Vec<usize>>,
    },
    /// The same as `Reuseport`, picked in turn (eBPF).
    ReuseportRoundRobin,
    /// The same, picked at random.
    ReuseportRandom,
    /// The same, the worker with the fewest connections.
    ReuseportLeast,
    /// The same, directed by what the workers publish.
    ReuseportHermes {
        /// A worker whose loop has not come round for so long gets nothing.
        hang: Duration,
        /// A worker with more than (1 + θ) times the mean gets nothing.
        theta: f64,
    },
}

/// How connections can wait for one worker and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// They do not: all workers accept from one queue.
    Never,
    /// In the queue of the worker's own listener.
    InQueue,
    /// Handed over by a dispatcher, and not taken up yet.
    HandedOver,
    /// Where nobody but the worker can count them.
    Unseen,
}

/// To whom a dispatcher hands a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dispatch {
    /// To one worker after the other.
    RoundRobin,
    /// To the one with the fewest connections.
    LeastConnections,
}

impl Strategy {
    /// All strategies by their names in scenarios, without parameters.
    pub const ALL: [(&'static str, Self); 15] = [
        ("shared-blocking", Self::SharedBlocking),
        ("shared-epoll", Self::SharedEpoll),
        ("shared-epoll-edge", Self::SharedEpollEdge),
        ("shared-epoll-exclusive", Self::SharedEpollExclusive),
        ("shared-accept-mutex", Self::SharedAcceptMutex { delay: Duration::ZERO }),
        ("shared-uring", Self::SharedUring),
        ("dispatcher", Self::Dispatcher { dispatch: Dispatch::RoundRobin }),
        ("reuseport", Self::Reuseport),
        ("reuseport-uring", Self::ReuseportUring),
        ("reuseport-cpu", Self::ReuseportCpu),
        ("reuseport-incoming-cpu", Self::ReuseportIncomingCpu { cpus: None }),
        ("reuseport-round-robin", Self::ReuseportRoundRobin),
        ("reuseport-random", Self::ReuseportRandom),
        ("reuseport-least", Self::ReuseportLeast),
        ("reuseport-hermes", Self::ReuseportHermes { hang: Duration::ZERO, theta: 0.0 }),
    ];

    /// The name in scenarios.
    pub fn name(&self) -> &'static str {
        let same = |known: &Self| std::mem::discriminant(known) == std::mem::discriminant(self);
        Self::ALL.iter().find(|(_, known)| same(known)).map_or("?", |(name, _)| name)
    }

    /// Whether it means something for datagrams, which no call of accept precedes.
    pub fn takes_datagrams(&self) -> bool {
        match self {
            Self::SharedEpoll
            | Self::SharedEpollEdge
            | Self::SharedEpollExclusive
            | Self::Reuseport
            | Self::ReuseportCpu
            | Self::ReuseportIncomingCpu { .. }
            | Self::ReuseportRoundRobin
            | Self::ReuseportRandom
            | Self::ReuseportHermes { .. } => true,
            // A thread, a lock, a process or a ring for accepts; or a count of connections.
            Self::SharedBlocking
            | Self::SharedAcceptMutex { .. }
            | Self::SharedUring
            | Self::Dispatcher { .. }
            | Self::ReuseportUring
            | Self::ReuseportLeast => false,
        }
    }

    /// Whether each worker has a listener of its own.
    pub fn has_group(&self) -> bool {
        self.name().starts_with("reuseport")
    }

    /// Processors that the scenario names for listeners.
    pub fn incoming_cpus(&self) -> &[usize] {
        match self {
            Self::ReuseportIncomingCpu { cpus: Some(cpus) } => cpus,
            _ => &[],
        }
    }

    /// How connections can wait for one worker and no other.
    pub fn waiting(&self) -> Waiting {
        match self {
            Self::SharedEpoll | Self::SharedEpollEdge | Self::SharedEpollExclusive => Waiting::Never,
            Self::Dispatcher { .. } => Waiting::HandedOver,
            // In a thread's hands, in a ring, or for the holder of the lock.
            Self::SharedBlocking | Self::SharedUring | Self::SharedAcceptMutex { .. } | Self::ReuseportUring => {
                Waiting::Unseen
            }
            Self::Reuseport
            | Self::ReuseportCpu
            | Self::ReuseportIncomingCpu { .. }
            | Self::ReuseportRoundRobin
            | Self::ReuseportRandom
            | Self::ReuseportLeast
            | Self::ReuseportHermes { .. } => Waiting::InQueue,
        }
    }

    /// Whether it calls accept4(2); io_uring does without.
    fn calls_accept(&self) -> bool {
        !matches!(self, Self::SharedUring | Self::ReuseportUring)
    }

    fn read(settings: &Settings<'_>, protocol: Protocol) -> Result<Self, ScenarioError> {
        let words = Self::ALL.each_ref().map(|(name, strategy)| (*name, strategy));
        let strategy = match settings.choice("server.strategy", &words)? {
            Self::SharedAcceptMutex { .. } => {
                Self::SharedAcceptMutex { delay: settings.span("server.accept_mutex_delay")? }
            }
            Self::ReuseportHermes { .. } => {
                /// The program keeps its workers in the bits of one word.
                const MOST: u32 = 64;
                settings.integer("server.workers", 1..=MOST)?;
                Self::ReuseportHermes {
                    hang: settings.span("server.hermes_hang")?,
                    theta: settings.number("server.hermes_theta", 0.0..=1_000.0)?,
                }
            }
            Self::Dispatcher { .. } => {
                const WORDS: [(&str, Dispatch); 2] =
                    [("round-robin", Dispatch::RoundRobin), ("least-connections", Dispatch::LeastConnections)];
                Self::Dispatcher { dispatch: settings.choice("server.dispatch", &WORDS)? }
            }
            Self::ReuseportIncomingCpu { .. } => Self::ReuseportIncomingCpu { cpus: incoming_cpus(settings)? },
            strategy => strategy.clone(),
        };
        if protocol.has(Transport::Udp) && !strategy.takes_datagrams() {
            let able: Vec<&str> =
                Self::ALL.iter().filter(|(_, strategy)| strategy.takes_datagrams()).map(|(name, _)| *name).collect();
            return Err(settings.wrong(
                "server.strategy",
                format_args!(
                    "\"{}\" means nothing for datagrams (`protocol`): take one of {}",
                    strategy.name(),
                    able.join(", ")
                ),
            ));
        }
        Ok(strategy)
    }
}

fn incoming_cpus(settings: &Settings<'_>) -> Result<Option<Vec<usize>>, ScenarioError> {
    let path = "server.incoming_cpu";
    match settings.integers(path, 0..=CPUS_LIMIT)? {
        Some(cpus) if cpus.is_empty() => Err(settings.wrong(path, "is an empty list")),
        Some(cpus) => Ok(Some(cpus)),
        None => settings.choice(path, &[("spread", None::<()>)]).map(|_| None),
    }
}

/// The server's half of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// How workers obtain connections.
    pub strategy: Strategy,
    /// Worker processes.
    pub workers: usize,
    /// Options of the listeners.
    pub listen: ListenOptions,
    /// Workers whose sockets of UDP are connected to a peer that never sends.
    pub connected: Vec<usize>,
    /// Accepts, or receptions, per wake-up.
    pub accept_batch: AcceptBatch,
    /// Time from the trial's start until workers begin to accept.
    pub accept_delay: Duration,
    /// In which order workers add their listeners to epoll.
    pub registration: Registration,
    /// Placement on processors.
    pub pin: Pin,
    /// How the kernel schedules workers.
    pub scheduler: Scheduler,
    /// What is served.
    pub app: App,
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
    /// TCP_FASTOPEN: connections under way at most; 0 for off.
    pub fastopen: u32,
    /// SO_BUSY_POLL in microseconds; 0 for off.
    pub busy_poll_us: u32,
    /// SO_RCVBUF in bytes; 0 for the system's default.
    pub receive_buffer_bytes: u32,
}

/// Flags of accept4(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptFlags {
    /// SOCK_NONBLOCK.
    pub nonblock: bool,
    /// SOCK_CLOEXEC.
    pub cloexec: bool,
}

impl AcceptFlags {
    const WORDS: [(&'static str, Self); 4] = [
        ("nonblock+cloexec", Self { nonblock: true, cloexec: true }),
        ("nonblock", Self { nonblock: true, cloexec: false }),
        ("cloexec", Self { nonblock: false, cloexec: true }),
        ("none", Self { nonblock: false, cloexec: false }),
    ];
}

impl Default for ListenOptions {
    /// A listener without options.
    fn default() -> Self {
        Self {
            backlog: 1_024,
            accept_flags: AcceptFlags::WORDS[0].1,
            nodelay: false,
            defer_accept_s: 0,
            fastopen: 0,
            busy_poll_us: 0,
            receive_buffer_bytes: 0,
        }
    }
}

impl ListenOptions {
    fn read(settings: &Settings<'_>, protocol: Protocol, strategy: &Strategy, app: App) -> Result<Self, ScenarioError> {
        const SECOND_NS: u128 = 1_000_000_000;
        const MICROSECOND_NS: u128 = 1_000;
        let mut options = Self {
            busy_poll_us: whole(settings, "server.busy_poll", "microseconds", MICROSECOND_NS)?,
            receive_buffer_bytes: settings.integer("server.receive_buffer", 0..=1 << 30)?,
            ..Self::default()
        };
        if protocol.has(Transport::Tcp) {
            options.backlog = settings.integer("server.backlog", 0..=65_535)?;
            options.nodelay = settings.boolean("server.nodelay")?;
            if strategy.calls_accept() {
                options.accept_flags = settings.choice("server.accept_flags", &AcceptFlags::WORDS)?;
            }
            // Where the server speaks first, there are no data to wait for, or to send with the SYN.
            if app != App::Close {
                options.defer_accept_s = whole(settings, "server.defer_accept", "seconds", SECOND_NS)?;
                options.fastopen = settings.integer("server.fastopen", 0..=65_535)?;
            }
        }
        Ok(options)
    }
}

/// A duration that is a whole number of units.
fn whole(settings: &Settings<'_>, path: &str, units: &str, unit_ns: u128) -> Result<u32, ScenarioError> {
    let span = settings.duration(path)?;
    let number = u32::try_from(span.as_nanos() / unit_ns).ok().filter(|number| *number <= i32::MAX as u32);
    number
        .filter(|_| span.as_nanos() % unit_ns == 0)
        .ok_or_else(|| settings.wrong(path, format_args!("{span:?} is no whole number of {units}")))
}

/// How many connections a worker accepts per wake-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptBatch {
    /// Until the queue is empty.
    Drain,
    /// At most so many.
    AtMost(u32),
}

/// In which order workers add their listeners to epoll. With EPOLLEXCLUSIVE it decides who is woken first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Worker 0 first.
    Ascending,
    /// Worker 0 last.
    Descending,
    /// In an order that seed and repetition fix.
    Shuffled,
}

impl Registration {
    const WORDS: [(&'static str, Self); 3] =
        [("ascending", Self::Ascending), ("descending", Self::Descending), ("shuffled", Self::Shuffled)];

    /// The rank of each worker, from 0 for the first that registers.
    pub fn ranks(self, workers: usize, seed: u64, repetition: usize) -> Vec<usize> {
        let mut ranks: Vec<usize> = (0..workers).collect();
        match self {
            Self::Ascending => {}
            Self::Descending => ranks.reverse(),
            Self::Shuffled => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                // Neither a worker's stream, which has the top bit set, nor a schedule's.
                rng.set_stream(1 << 62 | repetition as u64);
                ranks.shuffle(&mut rng);
            }
        }
        ranks
    }
}

/// What is exchanged on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum App {
    /// The server accepts and closes.
    Close,
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
        /// Share of requests that take the long time, 0 to 1.
        long_share: f64,
    },
}

impl Server {
    pub(super) fn read(settings: &Settings<'_>, protocol: Protocol) -> Result<Self, ScenarioError> {
        enum Kind {
            Close,
            Echo,
            Http,
        }
        let words = [("close", &Kind::Close), ("echo", &Kind::Echo), ("http", &Kind::Http)];
        let kind = settings.choice("server.app", &words)?;
        if protocol.has(Transport::Udp) && !matches!(kind, Kind::Echo) {
            return Err(settings.wrong("server.app", "datagrams (`protocol`) want app \"echo\""));
        }
        let app = match kind {
            Kind::Close => App::Close,
            Kind::Echo => {
                let most =
                    if protocol.has(Transport::Udp) { DATAGRAM_LIMIT_BYTES } else { EXCHANGE_LIMIT_BYTES } as u32;
                App::Echo {
                    request_bytes: settings.integer("server.request_bytes", 4..=most)? as usize,
                    reply_bytes: settings.integer("server.reply_bytes", RECEIPT_BYTES as u32..=most)? as usize,
                }
            }
            Kind::Http => App::Http {
                body_bytes: settings.integer("server.reply_bytes", 0..=EXCHANGE_LIMIT_BYTES as u32)? as usize,
            },
        };
        let strategy = Strategy::read(settings, protocol)?;
        let workers = settings.integer("server.workers", 1..=512_u32)? as usize;
        Ok(Self {
            listen: ListenOptions::read(settings, protocol, &strategy, app)?,
            connected: connected(settings, protocol, &strategy, workers)?,
            strategy,
            workers,
            accept_batch: settings
                .integer_or_word("server.accept_batch", "drain", 1..=u32::MAX)?
                .map_or(AcceptBatch::Drain, AcceptBatch::AtMost),
            accept_delay: settings.duration("server.accept_delay")?,
            registration: settings.choice("server.registration", &Registration::WORDS)?,
            pin: Pin::of_workers(settings)?,
            scheduler: Scheduler::read(settings, "server.scheduler")?,
            app,
            service_time: ServiceTime::read(settings)?,
        })
    }
}

fn connected(
    settings: &Settings<'_>,
    protocol: Protocol,
    strategy: &Strategy,
    workers: usize,
) -> Result<Vec<usize>, ScenarioError> {
    let path = "server.connected";
    if !protocol.has(Transport::Udp) || !strategy.has_group() {
        return Ok(Vec::new());
    }
    let Some(connected) = settings.integers(path, 0..=workers as u32 - 1)? else {
        return Err(settings.wrong(path, "must be a list of workers, e.g. [0, 1]"));
    };
    if connected.len() == workers {
        return Err(settings.wrong(path, "names all workers: nobody would be left to get datagrams"));
    }
    Ok(connected)
}

impl ServiceTime {
    fn read(settings: &Settings<'_>) -> Result<Self, ScenarioError> {
        let time = settings.duration("server.service_time")?;
        let bimodal = |settings: &Settings<'_>| {
            Ok(Self::Bimodal {
                short: time,
                long: settings.duration("server.service_time_long")?,
                long_share: settings.number("server.service_long_share", 0.0..=1.0)?,
            })
        };
        match settings.choice("server.service_distribution", &[("fixed", 0), ("exponential", 1), ("bimodal", 2)])? {
            0 => Ok(Self::Fixed(time)),
            1 => Ok(Self::Exponential(time)),
            _ => bimodal(settings),
        }
    }
}
