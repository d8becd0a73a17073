//! The server's half of a scenario.

use std::time::Duration;

use super::{error::ScenarioError, settings::Settings};
use crate::ipc::receipt::RECEIPT_BYTES;

/// Largest request and reply, so that one buffer per process suffices.
const EXCHANGE_LIMIT_BYTES: usize = 65_536;

/// How workers obtain connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Inherited listener in every worker's epoll, level-triggered.
    SharedEpoll,
    /// The same, edge-triggered.
    SharedEpollEdge,
    /// The same as the first, with EPOLLEXCLUSIVE.
    SharedEpollExclusive,
    /// A listener for each worker in one SO_REUSEPORT group.
    Reuseport,
}

impl Strategy {
    /// All strategies by their names in scenarios.
    pub const ALL: [(&'static str, Self); 4] = [
        ("shared-epoll", Self::SharedEpoll),
        ("shared-epoll-edge", Self::SharedEpollEdge),
        ("shared-epoll-exclusive", Self::SharedEpollExclusive),
        ("reuseport", Self::Reuseport),
    ];
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

/// Placement of workers on processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// The scheduler's.
    None,
    /// Worker k on the k-th allowed processor, counted round.
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
            strategy: settings.choice("server.strategy", &Strategy::ALL)?,
            workers: settings.integer("server.workers", 1..=512_u32)? as usize,
            backlog: settings.integer("server.backlog", 0..=65_535)?,
            accept_batch: settings
                .integer_or_word("server.accept_batch", "drain", 1..=u32::MAX)?
                .map_or(AcceptBatch::Drain, AcceptBatch::AtMost),
            accept_delay: settings.duration("server.accept_delay")?,
            pin: settings.choice("server.pin", &[("none", Pin::None), ("spread", Pin::Spread)])?,
            nodelay: settings.boolean("server.nodelay")?,
            app,
            service_time: ServiceTime::read(settings)?,
        })
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
