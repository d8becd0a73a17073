//! How workers obtain connections.

use std::time::Duration;

use super::{
    error::ScenarioError,
    model::{Protocol, Transport},
    placement::CPUS_LIMIT,
    settings::Settings,
};

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
    pub(super) fn calls_accept(&self) -> bool {
        !matches!(self, Self::SharedUring | Self::ReuseportUring)
    }

    pub(super) fn read(settings: &Settings<'_>, protocol: Protocol) -> Result<Self, ScenarioError> {
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
