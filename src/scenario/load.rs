//! The load's half of a scenario.

use std::time::Duration;

use strum::{EnumString, IntoStaticStr, VariantNames};

use super::{
    keys,
    model::{Protocol, Transport},
    placement::{Pin, Scheduler},
    ports::Selection,
    schedule::{Bound, Mode},
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
    /// How long the client keeps a connection open after the last reply.
    pub hold: Duration,
    /// When all held connections send one more request, counted from the trial's start.
    pub follow_up: Option<Duration>,
    /// Share of starts that are flows of datagrams, from 0 to 1.
    pub udp_share: f64,
    /// Who closes first.
    pub close_by: CloseBy,
    /// How the side that closes first does so.
    pub close_how: CloseHow,
    /// What moves the bytes.
    pub engine: Engine,
    /// What happens to a socket after its connection ends.
    pub sockets: Sockets,
    /// Whether the kernel acknowledges at once (TCP_QUICKACK).
    pub quickack: bool,
    /// What ends the trial.
    pub bound: Bound,
    /// Load before the measured span.
    pub warmup: Duration,
    /// Loader processes; `None` for as many as necessary.
    pub loaders: Option<usize>,
    /// Placement of loaders on processors.
    pub pin: Pin,
    /// How the kernel schedules loaders.
    pub scheduler: Scheduler,
    /// When to give up on connecting.
    pub connect_timeout: Duration,
    /// When to give up on a reply.
    pub reply_timeout: Duration,
    /// Path of HTTP requests.
    pub path: String,
}

/// Who closes a connection first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum CloseBy {
    /// The loader.
    Client,
    /// The worker.
    Server,
}

/// How a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum CloseHow {
    /// FIN.
    Fin,
    /// Reset.
    Rst,
}

/// What moves a loader's bytes. `load::engine` has a file for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// mio's epoll.
    Mio,
    /// io_uring.
    Uring,
    /// io_uring where possible, else epoll.
    Auto {
        /// Whether io_uring can do what the scenario requires.
        ring: bool,
    },
}

/// The name of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum EngineName {
    /// [`Engine::Mio`].
    Mio,
    /// [`Engine::Uring`].
    Uring,
    /// [`Engine::Auto`].
    Auto,
}

impl Engine {
    fn read(settings: &Settings<'_>, protocol: Protocol, server: &Server) -> Self {
        let unable = if protocol.has(Transport::Udp) {
            Some("\"uring\" moves connections only, no datagrams (`protocol`): use \"mio\"")
        } else if server.listen.fastopen > 0 {
            Some("\"uring\" connects before it sends, without TCP_FASTOPEN (`server.fastopen`): use \"mio\"")
        } else {
            None
        };
        match (settings.get(keys::LOAD_ENGINE), unable) {
            (EngineName::Mio, _) => Self::Mio,
            (EngineName::Auto, unable) => Self::Auto { ring: unable.is_none() },
            (EngineName::Uring, None) => Self::Uring,
            (EngineName::Uring, Some(why)) => {
                settings.conflict(keys::LOAD_ENGINE, &[keys::PROTOCOL, keys::SERVER_FASTOPEN], why);
                Self::Uring
            }
        }
    }
}

/// What happens to a client's socket after its connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Sockets {
    /// Closed; the next connection gets a new one.
    Fresh,
    /// Disconnected by a reset and reused for the next connection.
    Recycled,
}

impl Sockets {
    fn read(settings: &Settings<'_>, close_how: CloseHow, server: &Server) -> Self {
        let sockets = settings.get(keys::LOAD_SOCKETS);
        if sockets == Self::Fresh {
            return sockets;
        }
        if close_how == CloseHow::Fin {
            settings.conflict(
                keys::LOAD_SOCKETS,
                &[keys::LOAD_CLOSE_HOW],
                "\"recycled\" disconnects sockets, which resets their connections: set load.close_how = \"rst\"",
            );
        }
        if server.listen.fastopen > 0 {
            settings.conflict(
                keys::LOAD_SOCKETS,
                &[keys::SERVER_FASTOPEN],
                "on \"recycled\" sockets, TCP_FASTOPEN_CONNECT stalls every other connection (seen on Linux 6.18): set \
                 server.fastopen = 0",
            );
        }
        if settings.peek(keys::LOAD_SOURCE_PORTS) == Selection::Explicit {
            settings.conflict(
                keys::LOAD_SOCKETS,
                &[keys::LOAD_SOURCE_PORTS],
                "a \"recycled\" socket cannot change a port that the program has chosen: use another load.source_ports than \
                 \"explicit\"",
            );
        }
        sockets
    }
}

impl Load {
    pub(super) fn read(settings: &Settings<'_>, protocol: Protocol, server: &Server) -> Self {
        let app = server.app;
        let close_by = close_by(settings, protocol, app);
        let has_tcp = protocol.has(Transport::Tcp);
        let hold = match close_by {
            CloseBy::Client => settings.get(keys::LOAD_HOLD),
            CloseBy::Server => Duration::ZERO,
        };
        let path =
            if matches!(app, App::Http { .. }) { settings.get(keys::LOAD_PATH) } else { keys::LOAD_PATH.default() };
        let close_how = if has_tcp { settings.get(keys::LOAD_CLOSE_HOW) } else { CloseHow::Fin };
        let load = Self {
            mode: Mode::read(settings),
            requests: if app == App::Close { 0 } else { settings.get(keys::LOAD_REQUESTS) },
            hold,
            // Only held connections can be followed up.
            follow_up: if hold.is_zero() { None } else { settings.get(keys::LOAD_FOLLOW_UP) },
            udp_share: match protocol {
                Protocol::Tcp => 0.0,
                Protocol::Udp => 1.0,
                Protocol::Both => settings.get(keys::LOAD_UDP_SHARE),
            },
            close_by,
            close_how,
            engine: Engine::read(settings, protocol, server),
            sockets: if has_tcp { Sockets::read(settings, close_how, server) } else { Sockets::Fresh },
            quickack: !has_tcp || quickack(settings, server),
            bound: Bound::read(settings),
            warmup: settings.get(keys::LOAD_WARMUP),
            loaders: settings.get(keys::LOAD_LOADERS),
            pin: Pin::of_loaders(settings, server.workers),
            scheduler: Scheduler(settings.get(keys::LOAD_SCHEDULER)),
            connect_timeout: if has_tcp { settings.get(keys::LOAD_CONNECT_TIMEOUT) } else { Duration::ZERO },
            reply_timeout: settings.get(keys::LOAD_REPLY_TIMEOUT),
            path: path.into_owned(),
        };
        load.check(settings);
        load
    }

    /// Rejects a follow-up that comes too late, and loaders without work.
    fn check(&self, settings: &Settings<'_>) {
        let last = self.warmup + self.planned() + self.hold;
        if let (Some(follow_up), Bound::Duration(_)) = (self.follow_up, self.bound)
            && follow_up >= last
        {
            settings.conflict(
                keys::LOAD_FOLLOW_UP,
                &[keys::LOAD_WARMUP, keys::LOAD_DURATION, keys::LOAD_HOLD],
                format_args!(
                    "{follow_up:?} is too late: the last held connection closes about {last:?} after the start"
                ),
            );
        }
        let loaders = self.loaders.unwrap_or(1);
        if let Mode::Closed { concurrency } = self.mode
            && concurrency < loaders
        {
            settings.conflict(
                keys::LOAD_LOADERS,
                &[keys::LOAD_MODE, keys::LOAD_CONCURRENCY],
                format_args!("{loaders} loaders for {concurrency} connections at once: lower load.loaders, since some would be idle"),
            );
        }
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
        /// For a closed loop bound by a number of connections, whose length is not known in advance.
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

/// A delayed acknowledgement needs data to travel with.
fn quickack(settings: &Settings<'_>, server: &Server) -> bool {
    let quickack = settings.get(keys::LOAD_QUICKACK);
    let why = match server {
        _ if quickack => return true,
        Server { app: App::Close, .. } => "the client of server.app = \"close\" sends nothing",
        Server { listen, .. } if listen.fastopen > 0 => {
            "with server.fastopen the request goes with the SYN and leaves nothing"
        }
        _ => return false,
    };
    settings.conflict(
        keys::LOAD_QUICKACK,
        &[keys::SERVER_APP, keys::SERVER_FASTOPEN],
        format_args!("{why} that the handshake's acknowledgement could travel with: set it to true"),
    );
    false
}

fn close_by(settings: &Settings<'_>, protocol: Protocol, app: App) -> CloseBy {
    // The other side would not see a flow of datagrams close.
    if !protocol.has(Transport::Tcp) {
        return CloseBy::Client;
    }
    let default = if app == App::Close { CloseBy::Server } else { keys::LOAD_CLOSE_BY.default() };
    let close_by = settings.get_or(keys::LOAD_CLOSE_BY, default);
    if app == App::Close && close_by == CloseBy::Client {
        let problem = "with server.app = \"close\" the server closes first: remove it";
        settings.conflict(keys::LOAD_CLOSE_BY, &[keys::SERVER_APP], problem);
    }
    close_by
}
