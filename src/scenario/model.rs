//! A cell's scenario, valid by construction.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{error::ScenarioError, keys::SYSCTL_PREFIX, settings::Settings};
use crate::ipc::receipt::RECEIPT_BYTES;

/// Largest request and reply, so that one buffer per process suffices.
const EXCHANGE_LIMIT_BYTES: usize = 65_536;

/// What one trial is to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Whose network.
    pub network: Network,
    /// Where the server listens.
    pub address: SocketAddr,
    /// Longest time from a trial's start to its end.
    pub deadline: Duration,
    /// Sysctls of the namespace: name as written, value.
    pub sysctls: Vec<(String, String)>,
    /// The server's half.
    pub server: Server,
    /// The load's half.
    pub load: Load,
}

/// Whose network a trial uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// A fresh network namespace for each trial.
    Namespace,
    /// The machine's own.
    Host,
}

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

/// The load's half of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// What starts a connection.
    pub mode: Mode,
    /// Requests per connection.
    pub requests: u64,
    /// Time the client keeps the connection after the last reply.
    pub hold: Duration,
    /// Who closes first.
    pub close_by: CloseBy,
    /// How the first closer closes.
    pub close_how: CloseHow,
    /// What ends the trial.
    pub bound: Bound,
    /// Load before the measured span.
    pub warmup: Duration,
    /// Loader processes; `None` for as many as needed.
    pub loaders: Option<usize>,
    /// When an attempt to connect is given up.
    pub connect_timeout: Duration,
    /// When a reply is given up.
    pub reply_timeout: Duration,
    /// Path of HTTP requests.
    pub path: String,
}

/// What starts a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// The end of another.
    Closed {
        /// Connections under way at once, all loaders together.
        concurrency: usize,
    },
    /// A schedule.
    Open(Arrivals),
}

/// An open loop's schedule, all loaders together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrivals {
    /// At equal distances.
    Constant {
        /// Starts per second.
        rate: f64,
    },
    /// With exponentially distributed gaps.
    Poisson {
        /// Mean starts per second.
        rate: f64,
    },
    /// Many at once, then none.
    Burst {
        /// Starts at one instant.
        size: u64,
        /// Time between the instants.
        every: Duration,
    },
}

impl Arrivals {
    /// Mean starts per second.
    pub fn per_second(&self) -> f64 {
        match *self {
            Self::Constant { rate } | Self::Poisson { rate } => rate,
            Self::Burst { size, every } => size as f64 / every.as_secs_f64(),
        }
    }
}

/// Who closes a connection first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseBy {
    /// The loader.
    Client,
    /// The worker.
    Server,
}

/// How a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseHow {
    /// FIN.
    Fin,
    /// Reset.
    Rst,
}

/// What ends a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// So many measured connections.
    Connections(u64),
    /// The end of the measured span.
    Duration(Duration),
}

impl Scenario {
    pub(super) fn read(settings: &Settings<'_>) -> Result<Self, ScenarioError> {
        let network = settings.choice("network", &[("netns", Network::Namespace), ("host", Network::Host)])?;
        let address = settings.string("address")?;
        let address: IpAddr =
            address.parse().map_err(|_| settings.wrong("address", format_args!("\"{address}\" is no IP address")))?;
        if network == Network::Namespace && !address.is_loopback() {
            return Err(settings.wrong(
                "address",
                format_args!(
                    "{address} does not exist in a trial's namespace: use a loopback address, or network = \"host\""
                ),
            ));
        }
        let address = SocketAddr::new(address, settings.integer("port", 1..=u16::MAX)?);
        let sysctls = sysctls(settings, network)?;
        let server = Server::read(settings)?;
        let load = Load::read(settings, server.app)?;
        let deadline = settings.duration_or_word("deadline", "auto")?;
        let planned = load.planned();
        if let Some(deadline) = deadline.filter(|deadline| *deadline <= load.warmup + planned) {
            return Err(settings.wrong(
                "deadline",
                format_args!("{deadline:?} ends the trial before its {:?} of load do", load.warmup + planned),
            ));
        }
        let deadline = deadline.unwrap_or_else(|| load.automatic_deadline());
        Ok(Self { network, address, deadline, sysctls, server, load })
    }
}

fn sysctls(settings: &Settings<'_>, network: Network) -> Result<Vec<(String, String)>, ScenarioError> {
    let mut sysctls = Vec::new();
    for (name, value) in settings.below(SYSCTL_PREFIX) {
        let path = format!("{SYSCTL_PREFIX}{name}");
        if network == Network::Host {
            return Err(settings.wrong(&path, "network = \"host\" writes no sysctl: use \"netns\", or remove it"));
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

impl Server {
    fn read(settings: &Settings<'_>) -> Result<Self, ScenarioError> {
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

impl Load {
    fn read(settings: &Settings<'_>, app: App) -> Result<Self, ScenarioError> {
        let close_by = close_by(settings, app)?;
        let hold = match close_by {
            CloseBy::Client => settings.duration("load.hold")?,
            CloseBy::Server => Duration::ZERO,
        };
        let bound = if settings.is_set("load.connections") {
            if settings.is_set("load.duration") {
                return Err(settings.wrong("load.connections", "excludes `load.duration`: keep one bound"));
            }
            Bound::Connections(settings.integer("load.connections", 1..=u64::MAX / 2)?)
        } else {
            Bound::Duration(settings.span("load.duration")?)
        };
        let path = if matches!(app, App::Http { .. }) { settings.string("load.path")? } else { "/".to_owned() };
        if !path.starts_with('/') || path.len() > 1024 || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(settings.wrong("load.path", "must begin with `/` and hold visible ASCII, 1024 bytes at most"));
        }
        let load = Self {
            mode: Mode::read(settings)?,
            requests: if app == App::Close { 0 } else { settings.integer("load.requests", 1..=u64::MAX / 2)? },
            hold,
            close_by,
            close_how: settings.choice("load.close_how", &[("fin", CloseHow::Fin), ("rst", CloseHow::Rst)])?,
            bound,
            warmup: settings.duration("load.warmup")?,
            loaders: settings.integer_or_word("load.loaders", "auto", 1..=512_u32)?.map(|count| count as usize),
            connect_timeout: settings.span("load.connect_timeout")?,
            reply_timeout: settings.span("load.reply_timeout")?,
            path,
        };
        let loaders = load.loaders.unwrap_or(1) as u64;
        if let Mode::Closed { concurrency } = load.mode
            && (concurrency as u64) < loaders
        {
            return Err(settings.wrong(
                "load.loaders",
                format_args!("{loaders} loaders for {concurrency} connections at once: some would do nothing"),
            ));
        }
        Ok(load)
    }

    /// The measured span as far as the scenario fixes it.
    fn planned(&self) -> Duration {
        match self.bound {
            Bound::Duration(span) => span,
            Bound::Connections(_) => Duration::ZERO,
        }
    }

    fn automatic_deadline(&self) -> Duration {
        const GRACE: Duration = Duration::from_secs(10);
        /// For a closed loop bound by a number of connections, whose time nobody knows beforehand.
        const UNPLANNED: Duration = Duration::from_secs(120);
        let load = match (self.bound, self.mode) {
            (Bound::Duration(span), _) => span,
            (Bound::Connections(count), Mode::Open(arrivals)) => {
                // A Poisson schedule of n starts is rarely twice as long as its mean.
                UNPLANNED + Duration::from_secs_f64((2.0 * count as f64 / arrivals.per_second()).min(1e7))
            }
            (Bound::Connections(_), Mode::Closed { .. }) => UNPLANNED,
        };
        self.warmup + load + self.hold + self.connect_timeout + self.reply_timeout + GRACE
    }
}

fn close_by(settings: &Settings<'_>, app: App) -> Result<CloseBy, ScenarioError> {
    let default = if app == App::Close { "server" } else { "client" };
    let close_by =
        settings.choice_or("load.close_by", default, &[("client", CloseBy::Client), ("server", CloseBy::Server)])?;
    if app == App::Close && close_by == CloseBy::Client {
        return Err(settings.wrong("load.close_by", "with server.app = \"close\" the server closes: remove it"));
    }
    Ok(close_by)
}

impl Mode {
    fn read(settings: &Settings<'_>) -> Result<Self, ScenarioError> {
        if settings.choice("load.mode", &[("closed", true), ("open", false)])? {
            return Ok(Self::Closed { concurrency: settings.integer("load.concurrency", 1..=1_000_000_u32)? as usize });
        }
        /// Beyond a start per 100 ns per machine a schedule means nothing.
        const HIGHEST_RATE: f64 = 10_000_000.0;
        let rate = || settings.number("load.rate", 0.001..=HIGHEST_RATE);
        let arrivals = match settings.choice("load.arrivals", &[("constant", 'c'), ("poisson", 'p'), ("burst", 'b')])? {
            'c' => Arrivals::Constant { rate: rate()? },
            'p' => Arrivals::Poisson { rate: rate()? },
            _ => Arrivals::Burst {
                size: settings.integer("load.burst_size", 1..=1_000_000_u64)?,
                every: settings.span("load.burst_every")?,
            },
        };
        Ok(Self::Open(arrivals))
    }
}
