//! The server's half of a scenario.

use std::time::Duration;

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{error::ScenarioError, settings::Settings};
use crate::ipc::receipt::RECEIPT_BYTES;

/// Largest request and reply, so that one buffer per process suffices.
const EXCHANGE_LIMIT_BYTES: usize = 65_536;

/// How workers obtain connections. `server::accept` has a file for each.
#[derive(Debug, Clone, Copy, PartialEq)]
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
    ReuseportIncomingCpu,
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
        ("reuseport-incoming-cpu", Self::ReuseportIncomingCpu),
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

    fn read(settings: &Settings<'_>) -> Result<Self, ScenarioError> {
        Ok(match settings.choice("server.strategy", &Self::ALL)? {
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
            strategy => strategy,
        })
    }
}

/// The server's half of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// How workers obtain connections.
    pub strategy: Strategy,
    /// Worker processes.
    pub workers: usize,
    /// Second argument of listen(2).
    pub backlog: i32,
    /// Accepts per wake-up.
    pub accept_batch: AcceptBatch,
    /// Time from the trial's start until workers begin to accept.
    pub accept_delay: Duration,
    /// In which order workers add their listeners to epoll.
    pub registration: Registration,
    /// Placement on processors.
    pub pin: Pin,
    /// TCP_NODELAY on accepted connections.
    pub nodelay: bool,
    /// What is served.
    pub app: App,
    /// CPU burnt per request.
    pub service_time: ServiceTime,
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

/// Placement of processes on processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// The scheduler's.
    None,
    /// Worker, or loader, k on the k-th allowed processor, counted round.
    Spread,
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
    pub(super) fn read(settings: &Settings<'_>) -> Result<Self, ScenarioError> {
        enum Kind {
            Close,
            Echo,
            Http,
        }
        let words = [("close", &Kind::Close), ("echo", &Kind::Echo), ("http", &Kind::Http)];
        let app = match settings.choice("server.app", &words)? {
            Kind::Close => App::Close,
            Kind::Echo => App::Echo {
                request_bytes: settings.integer("server.request_bytes", 4..=EXCHANGE_LIMIT_BYTES as u32)? as usize,
                reply_bytes: settings
                    .integer("server.reply_bytes", RECEIPT_BYTES as u32..=EXCHANGE_LIMIT_BYTES as u32)?
                    as usize,
            },
            Kind::Http => App::Http {
                body_bytes: settings.integer("server.reply_bytes", 0..=EXCHANGE_LIMIT_BYTES as u32)? as usize,
            },
        };
        Ok(Self {
            strategy: Strategy::read(settings)?,
            workers: settings.integer("server.workers", 1..=512_u32)? as usize,
            backlog: settings.integer("server.backlog", 0..=65_535)?,
            accept_batch: settings
                .integer_or_word("server.accept_batch", "drain", 1..=u32::MAX)?
                .map_or(AcceptBatch::Drain, AcceptBatch::AtMost),
            accept_delay: settings.duration("server.accept_delay")?,
            registration: settings.choice("server.registration", &Registration::WORDS)?,
            pin: Pin::read(settings, "server.pin")?,
            nodelay: settings.boolean("server.nodelay")?,
            app,
            service_time: ServiceTime::read(settings)?,
        })
    }
}

impl Pin {
    pub(super) fn read(settings: &Settings<'_>, path: &str) -> Result<Self, ScenarioError> {
        settings.choice(path, &[("none", Self::None), ("spread", Self::Spread)])
    }
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
