//! The server's half of a scenario.

use std::time::Duration;

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    error::ScenarioError,
    model::{Protocol, Transport},
    placement::{Pin, Scheduler},
    settings::Settings,
    strategy::{Queues, Strategy},
};
use crate::ipc::receipt::RECEIPT_BYTES;

/// Largest request and reply, so that one buffer per process suffices.
const EXCHANGE_LIMIT_BYTES: usize = 65_536;
/// Largest payload of a datagram over IPv4: 65,535 less the headers of IP and UDP.
const DATAGRAM_LIMIT_BYTES: usize = 65_507;

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
        let workers = settings.integer("server.workers", 1..=512_u32)? as usize;
        let strategy = Strategy::read(settings, protocol, workers)?;
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
    if !protocol.has(Transport::Udp) || strategy.queues != Queues::PerWorker {
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
