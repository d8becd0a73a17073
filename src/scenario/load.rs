//! The load's half of a scenario.

use std::time::Duration;

use super::{
    error::ScenarioError,
    model::{Protocol, Transport},
    placement::{Pin, Scheduler},
    server::{App, Server},
    settings::Settings,
};

/// The load's half of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// What starts a connection.
    pub mode: Mode,
    /// Requests per connection.
    pub requests: u32,
    /// Time the client keeps the connection after the last reply.
    pub hold: Duration,
    /// When, counted from the trial's start, all connections that are held send one request more.
    pub follow_up: Option<Duration>,
    /// Share of starts that are flows of datagrams, 0 to 1.
    pub udp_share: f64,
    /// Who closes first.
    pub close_by: CloseBy,
    /// How the first closer closes.
    pub close_how: CloseHow,
    /// What moves the bytes.
    pub engine: Engine,
    /// What becomes of a socket whose connection is over.
    pub sockets: Sockets,
    /// Whether the kernel may acknowledge at once (TCP_QUICKACK).
    pub quickack: bool,
    /// What ends the trial.
    pub bound: Bound,
    /// Load before the measured span.
    pub warmup: Duration,
    /// Loader processes; `None` for as many as needed.
    pub loaders: Option<usize>,
    /// Placement of loaders on processors.
    pub pin: Pin,
    /// How the kernel schedules loaders.
    pub scheduler: Scheduler,
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
    Open {
        /// How starts spread in time.
        arrivals: Arrivals,
        /// How a loader waits for the next.
        pacer: Pacer,
    },
}

/// How a loader waits for the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pacer {
    /// A timer wakes it.
    Sleep,
    /// It sleeps until shortly before, and then looks at the clock and at its connections in turn.
    Spin,
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

impl CloseHow {
    pub(super) const WORDS: [(&'static str, Self); 2] = [("fin", Self::Fin), ("rst", Self::Rst)];
}

/// What moves a loader's bytes. `load::engine` has a file for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// mio's epoll.
    Mio,
    /// io_uring.
    Uring,
    /// The faster of those that can be had.
    Auto {
        /// Whether io_uring can do what the scenario asks for.
        ring: bool,
    },
}

impl Engine {
    fn read(settings: &Settings<'_>, protocol: Protocol, server: &Server) -> Result<Self, ScenarioError> {
        let path = "load.engine";
        let unable = if protocol.has(Transport::Udp) {
            Some("\"uring\" moves connections only, no datagrams (`protocol`): take \"mio\"")
        } else if server.listen.fastopen > 0 {
            Some("\"uring\" connects before it sends, without TCP_FASTOPEN (`server.fastopen`): take \"mio\"")
        } else {
            None
        };
        let words = [("mio", Self::Mio), ("uring", Self::Uring), ("auto", Self::Auto { ring: unable.is_none() })];
        match (settings.choice(path, &words)?, unable) {
            (Self::Uring, Some(why)) => Err(settings.wrong(path, why)),
            (engine, _) => Ok(engine),
        }
    }
}

/// What becomes of a client's socket whose connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sockets {
    /// It is closed; the next connection has a new one.
    Fresh,
    /// It is disconnected by reset, and serves the next connection.
    Recycled,
}

impl Sockets {
    fn read(settings: &Settings<'_>, close_how: CloseHow, server: &Server) -> Result<Self, ScenarioError> {
        let path = "load.sockets";
        let sockets = settings.choice(path, &[("fresh", Self::Fresh), ("recycled", Self::Recycled)])?;
        if sockets == Self::Fresh {
            return Ok(sockets);
        }
        if close_how == CloseHow::Fin {
            return Err(settings.wrong(
                path,
                "\"recycled\" disconnects sockets, which resets their connections: set load.close_how = \"rst\"",
            ));
        }
        if server.listen.fastopen > 0 {
            return Err(settings.wrong(
                path,
                "on a \"recycled\" socket TCP_FASTOPEN_CONNECT stalls every other connection (seen on Linux 6.18): set \
                 server.fastopen = 0",
            ));
        }
        if settings.is_text_of("load.source_ports", "explicit") {
            return Err(settings.wrong(
                path,
                "\"recycled\" sockets cannot change a port that the program has chosen: take load.source_ports other than \
                 \"explicit\"",
            ));
        }
        Ok(sockets)
    }
}

/// What ends a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// So many measured connections.
    Connections(u64),
    /// The end of the measured span.
    Duration(Duration),
}

impl Load {
    pub(super) fn read(settings: &Settings<'_>, protocol: Protocol, server: &Server) -> Result<Self, ScenarioError> {
        let app = server.app;
        let close_by = close_by(settings, protocol, app)?;
        let has_tcp = protocol.has(Transport::Tcp);
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
        let close_how = if has_tcp { settings.choice("load.close_how", &CloseHow::WORDS)? } else { CloseHow::Fin };
        let load = Self {
            mode: Mode::read(settings)?,
            requests: if app == App::Close { 0 } else { settings.integer("load.requests", 1..=u32::MAX)? },
            hold,
            follow_up: follow_up(settings, hold)?,
            udp_share: match protocol {
                Protocol::Tcp => 0.0,
                Protocol::Udp => 1.0,
                Protocol::Both => settings.number("load.udp_share", 0.0..=1.0)?,
            },
            close_by,
            close_how,
            engine: Engine::read(settings, protocol, server)?,
            sockets: if has_tcp { Sockets::read(settings, close_how, server)? } else { Sockets::Fresh },
            quickack: !has_tcp || quickack(settings, server)?,
            bound,
            warmup: settings.duration("load.warmup")?,
            loaders: settings.integer_or_word("load.loaders", "auto", 1..=512_u32)?.map(|count| count as usize),
            pin: Pin::of_loaders(settings, server.workers)?,
            scheduler: Scheduler::read(settings, "load.scheduler")?,
            connect_timeout: if has_tcp { settings.span("load.connect_timeout")? } else { Duration::ZERO },
            reply_timeout: settings.span("load.reply_timeout")?,
            path,
        };
        let last = load.warmup + load.planned() + load.hold;
        if let (Some(follow_up), Bound::Duration(_)) = (load.follow_up, load.bound)
            && follow_up >= last
        {
            return Err(settings.wrong(
                "load.follow_up",
                format_args!(
                    "{follow_up:?} after the start nobody is held any more: the last hold ends at about {last:?}"
                ),
            ));
        }
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
    pub(super) fn planned(&self) -> Duration {
        match self.bound {
            Bound::Duration(span) => span,
            Bound::Connections(_) => Duration::ZERO,
        }
    }

    pub(super) fn automatic_deadline(&self) -> Duration {
        const GRACE: Duration = Duration::from_secs(10);
        /// For a closed loop bound by a number of connections, whose time nobody knows beforehand.
        const UNPLANNED: Duration = Duration::from_secs(120);
        let load = match (self.bound, self.mode) {
            (Bound::Duration(span), _) => span,
            (Bound::Connections(count), Mode::Open { arrivals, .. }) => {
                // A Poisson schedule of n starts is rarely twice as long as its mean.
                UNPLANNED + Duration::from_secs_f64((2.0 * count as f64 / arrivals.per_second()).min(1e7))
            }
            (Bound::Connections(_), Mode::Closed { .. }) => UNPLANNED,
        };
        self.warmup + load + self.hold + self.connect_timeout + self.reply_timeout + GRACE
    }
}

/// A follow-up is for connections that are held, so it is read only where there are such.
fn follow_up(settings: &Settings<'_>, hold: Duration) -> Result<Option<Duration>, ScenarioError> {
    if hold.is_zero() || !settings.is_set("load.follow_up") {
        return Ok(None);
    }
    settings.duration("load.follow_up").map(Some)
}

/// An acknowledgement that waits wants data to ride with.
fn quickack(settings: &Settings<'_>, server: &Server) -> Result<bool, ScenarioError> {
    let path = "load.quickack";
    let quickack = settings.boolean(path)?;
    let why = match server {
        _ if quickack => return Ok(true),
        Server { app: App::Close, .. } => "the client of server.app = \"close\" sends nothing",
        Server { listen, .. } if listen.fastopen > 0 => {
            "with server.fastopen the request is gone already, with the SYN,"
        }
        _ => return Ok(false),
    };
    Err(settings.wrong(path, format_args!("{why} that the handshake's acknowledgement could wait for: set it to true")))
}

fn close_by(settings: &Settings<'_>, protocol: Protocol, app: App) -> Result<CloseBy, ScenarioError> {
    // A flow of datagrams has no close that the other side would see.
    if !protocol.has(Transport::Tcp) {
        return Ok(CloseBy::Client);
    }
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
        let pacer = settings.choice("load.pacer", &[("sleep", Pacer::Sleep), ("spin", Pacer::Spin)])?;
        Ok(Self::Open { arrivals, pacer })
    }
}
