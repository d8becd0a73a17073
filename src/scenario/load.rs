//! The load's half of a scenario.

use std::{borrow::Cow, net::IpAddr, time::Duration};

use strum::{EnumString, IntoStaticStr, VariantNames};

use super::{
    engine::Engine,
    keys::{self, AnyKey, alternatives, paths},
    model::{Network, Protocol, Transport},
    placement::{Pin, Scheduler},
    population,
    ports::{Selection, Sources},
    replay::Replay,
    schedule::{Arrivals, Bound, Mode, Span},
    security::Security,
    server::{App, Server},
    settings::Settings,
    subject::UnderTest,
};
use crate::ipc::proxy_header::{DISTINCT_BYTES, Version};

/// A population of connections: the task of some of the loaders.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// What tells it from the scenario's others.
    pub name: String,
    /// From when on, from the trial's start, its connections are due.
    pub start: Duration,
    /// Until when; `None` for the end of the load.
    pub end: Option<Duration>,
    /// What starts a connection.
    pub mode: Mode,
    /// The trace that it replays, if a trace says when its connections start.
    pub replay: Option<Replay>,
    /// Requests per connection.
    pub requests: u32,
    /// After how many of them a flow continues from another port; 0 for never.
    pub rebind_after: u32,
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
    /// Whether the kernel acknowledges the server's SYN-ACK at once.
    pub quickack: bool,
    /// Loader processes; `None` for as many as necessary.
    pub loaders: Option<usize>,
    /// Placement of loaders on processors.
    pub pin: Pin,
    /// How the kernel schedules loaders.
    pub scheduler: Scheduler,
    /// What connect(2) does where a Unix socket's queue is full.
    pub connect: Connect,
    /// When to give up on connecting.
    pub connect_timeout: Duration,
    /// When to give up on a reply.
    pub reply_timeout: Duration,
    /// Version of the PROXY protocol header that each connection begins with, if any.
    pub proxy_protocol: Option<Version>,
    /// What its clients ask of TLS, with app `https`.
    pub security: Option<Security>,
    /// What HTTP requests ask for.
    pub http: HttpRequest,
    /// What is sent and expected with app `line`.
    pub line: LineExchange,
    /// How its clients get their source ports.
    pub sources: Sources,
}

/// What an HTTP request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The Host header; `None` for the address and port connected to.
    pub host: Option<String>,
    /// More headers: name, value.
    pub headers: Vec<(String, String)>,
    /// The body; empty for a request without one.
    pub body: String,
}

impl HttpRequest {
    fn read(settings: &Settings<'_>) -> Self {
        let request = Self {
            method: settings.get(keys::LOAD_METHOD).into_owned(),
            path: settings.get(keys::LOAD_PATH).into_owned(),
            host: settings.get(keys::LOAD_HOST).map(Cow::into_owned),
            headers: settings.get(keys::LOAD_HEADERS),
            body: settings.get(keys::LOAD_BODY).into_owned(),
        };
        if request.method == "TRACE" && !request.body.is_empty() {
            let problem =
                "a TRACE request has no body (RFC 9110, section 9.3.8): leave it out, or use another load.method";
            settings.conflict(keys::LOAD_BODY, &[keys::LOAD_METHOD], problem);
        }
        request
    }

    fn by_default() -> Self {
        Self {
            method: keys::LOAD_METHOD.default().into_owned(),
            path: keys::LOAD_PATH.default().into_owned(),
            host: None,
            headers: Vec::new(),
            body: String::new(),
        }
    }
}

/// What a client of app `line` sends, and the reply that it expects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LineExchange {
    /// What each request consists of; empty if the server speaks first.
    pub send: Vec<u8>,
    /// How a reply must begin.
    pub expect: Vec<u8>,
    /// What ends a reply.
    pub end: ReplyEnd,
}

/// What ends a reply of app `line`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyEnd {
    /// The first line that begins like this.
    LastLine(Vec<u8>),
    /// Its size.
    Bytes(usize),
}

impl Default for ReplyEnd {
    /// The first line is the last.
    fn default() -> Self {
        Self::LastLine(Vec::new())
    }
}

impl LineExchange {
    fn read(settings: &Settings<'_>) -> Self {
        let expect = settings.get(keys::LOAD_EXPECT);
        if expect.is_none() {
            let problem =
                "is missing: say how a correct reply begins, such as \"+PONG\", or set \"\" if any reply will do";
            settings.conflict(keys::LOAD_EXPECT, &[keys::SERVER_APP], problem);
        }
        let (last_line, reply_bytes) = (settings.get(keys::LOAD_LAST_LINE), settings.get(keys::LOAD_REPLY_BYTES));
        if reply_bytes.is_some() && !last_line.is_empty() {
            let problem = "excludes load.reply_bytes, which ends the reply too: keep one of the two";
            settings.conflict(keys::LOAD_LAST_LINE, &[keys::LOAD_REPLY_BYTES], problem);
        }
        let end = reply_bytes.map_or(ReplyEnd::LastLine(last_line), ReplyEnd::Bytes);
        let exchange = Self { send: settings.get(keys::LOAD_SEND), expect: expect.unwrap_or_default(), end };
        exchange.check(settings);
        exchange
    }

    /// Rejects an expectation that no reply can meet, because the reply ends before it does.
    fn check(&self, settings: &Settings<'_>) {
        let problem = match &self.end {
            ReplyEnd::Bytes(bytes) if self.expect.len() > *bytes => {
                format!("is {} bytes long, and a reply has load.reply_bytes = {bytes}: raise that", self.expect.len())
            }
            ReplyEnd::LastLine(last) => {
                let mut lines = self.expect.split_inclusive(|byte| *byte == b'\n');
                let is_last = |line: &[u8]| line.ends_with(b"\n") && line.starts_with(last);
                match lines.position(is_last) {
                    Some(line) if lines.next().is_some() => format!(
                        "goes on after its line {}, which ends the reply: set load.last_line to how the last line begins",
                        line + 1
                    ),
                    _ => return,
                }
            }
            ReplyEnd::Bytes(_) => return,
        };
        settings.conflict(keys::LOAD_EXPECT, &[keys::LOAD_LAST_LINE, keys::LOAD_REPLY_BYTES], problem);
    }
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

/// What connect(2) does where a Unix socket's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Connect {
    /// It fails.
    AtOnce,
    /// It waits for room.
    Blocking,
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
        let sockets = settings.get_of_networks(keys::LOAD_SOCKETS);
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

/// What the rest of a scenario decides about a population.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub protocol: Protocol,
    pub network: Network,
    /// Where its clients connect to.
    pub target: IpAddr,
    pub subject: &'a UnderTest,
    pub server: &'a Server,
    pub span: Span,
}

impl Load {
    /// The name of the only population of a scenario that names none.
    pub const UNNAMED: &'static str = "load";

    /// All populations of a cell.
    pub(super) fn read_all(settings: &Settings<'_>, around: Around<'_>) -> Vec<Self> {
        let all = settings.of_loads();
        let loads = all.iter().map(|(name, settings)| {
            let load = Self::read(settings, around);
            Self { name: name.unwrap_or(Self::UNNAMED).to_owned(), ..load }
        });
        let loads: Vec<Self> = loads.collect();
        if loads.len() > 1 && matches!(around.span.bound, Bound::Connections(_)) {
            let problem = "counts the connections of one population: with several, set load.duration instead";
            settings.conflict(keys::LOAD_CONNECTIONS, &[], problem);
        }
        for ((_, settings), load) in all.iter().zip(&loads) {
            load.check_server_closes_alike(settings, &loads[0], around.subject);
            if let Some(first) = loads.iter().find(|load| load.connects()) {
                load.check_header_is_expected(settings, first, around);
            }
        }
        loads
    }

    /// Rejects a population whose connections our server would have to end otherwise than those of the first: it cannot tell them apart.
    fn check_server_closes_alike(&self, settings: &Settings<'_>, first: &Self, subject: &UnderTest) {
        let closes = |load: &Self| load.close_by == CloseBy::Server;
        if !subject.runs_ours() || !(closes(self) || closes(first)) {
            return;
        }
        let alike = [
            (keys::LOAD_CLOSE_BY as &dyn AnyKey, closes(self) == closes(first)),
            (keys::LOAD_CLOSE_HOW, self.close_how == first.close_how),
            (keys::LOAD_REQUESTS, self.requests == first.requests),
        ];
        if let Some((key, _)) = alike.into_iter().find(|(_, is_alike)| !is_alike) {
            let problem = format!(
                "differs from that of population \"{}\", and a server that closes first cannot tell their connections apart: set both \
                 alike, or close_by = \"client\" in both",
                first.name
            );
            settings.conflict(key, &[keys::LOAD_CLOSE_BY, keys::SERVER_APP], problem);
        }
    }

    /// Rejects a population that sends a header where the first sends none, or the reverse, if our server cannot tell their connections apart.
    fn check_header_is_expected(&self, settings: &Settings<'_>, first: &Self, around: Around<'_>) {
        let begins = |load: &Self| load.proxy_protocol.is_some();
        if !around.subject.is_own() || !self.connects() || begins(self) == begins(first) {
            return;
        }
        let (why, remedy) = match around.server.app {
            App::Close => (
                "with server.app = \"close\" the server cannot tell a connection without a header from one whose header is still on its way"
                    .to_owned(),
                "use another server.app".to_owned(),
            ),
            App::Echo { request_bytes, .. } if request_bytes < DISTINCT_BYTES => (
                format!("the server cannot tell all requests of {request_bytes} bytes from the beginning of a header"),
                format!("raise server.request_bytes to {DISTINCT_BYTES}"),
            ),
            // Whatever may come first is told apart from a header, or never answered.
            App::Echo { .. } | App::Http { .. } | App::Https { .. } | App::Connect | App::Line => return,
        };
        let problem =
            format!("differs from that of population \"{}\", and {why}: set both alike, or {remedy}", first.name);
        settings.conflict(keys::LOAD_PROXY_PROTOCOL, &[keys::SERVER_APP, keys::SERVER_REQUEST_BYTES], problem);
    }

    fn read(settings: &Settings<'_>, around: Around<'_>) -> Self {
        let Around { protocol, network, target, subject, server, .. } = around;
        let app = server.app;
        let has_tcp = protocol.has(Transport::Tcp);
        let mode = Mode::read(settings, around.span);
        let is_kept = matches!(mode, Mode::Kept { .. });
        let udp_share = match protocol {
            Protocol::Tcp | Protocol::Mptcp => 0.0,
            Protocol::Udp => 1.0,
            Protocol::Both if is_kept => 0.0,
            Protocol::Both => settings.get(keys::LOAD_UDP_SHARE),
        };
        let connects = udp_share < 1.0;
        let close_by = close_by(settings, connects, app);
        let line = if app == App::Line { LineExchange::read(settings) } else { LineExchange::default() };
        let says_nothing = match app {
            App::Close | App::Connect => true,
            App::Line => line.send.is_empty(),
            App::Echo { .. } | App::Http { .. } | App::Https { .. } => false,
        };
        let hold = match close_by {
            CloseBy::Client if !is_kept => settings.get(keys::LOAD_HOLD),
            CloseBy::Client | CloseBy::Server => Duration::ZERO,
        };
        let is_http = app.is_http();
        // Another server closes as it pleases.
        let decides = connects && !settings.is_unix() && (subject.is_own() || close_by == CloseBy::Client);
        let close_how = if decides { settings.get(keys::LOAD_CLOSE_HOW) } else { CloseHow::Fin };
        let connect = if settings.is_unix() { settings.get(keys::LOAD_CONNECT) } else { Connect::AtOnce };
        let proxy_protocol =
            if connects || !has_tcp { Version::of(settings.get_of_networks(keys::LOAD_PROXY_PROTOCOL)) } else { None };
        if !has_tcp && proxy_protocol.is_some() {
            let problem = "is about connections, and protocol = \"udp\" has none: set it to 0, or protocol = \"tcp\"";
            settings.conflict(keys::LOAD_PROXY_PROTOCOL, &[keys::PROTOCOL], problem);
        }
        if app == App::Connect && hold.is_zero() && proxy_protocol.is_some() {
            let problem = "has the client send a header, and with server.app = \"connect\" and load.hold = \"0s\" it closes before that is on its \
                           way: set load.hold, such as \"10ms\"";
            settings.conflict(keys::LOAD_PROXY_PROTOCOL, &[keys::SERVER_APP, keys::LOAD_HOLD], problem);
        }
        let load = Self {
            name: Self::UNNAMED.to_owned(),
            start: settings.get(keys::LOAD_START),
            end: settings.get(keys::LOAD_END),
            replay: matches!(mode, Mode::Open { arrivals: Arrivals::Trace(_), .. })
                .then(|| Replay::read(settings, around)),
            mode,
            requests: match app {
                App::Close | App::Connect => 0,
                // One at a time.
                _ if is_kept => 1,
                App::Echo { .. } | App::Http { .. } | App::Https { .. } | App::Line => {
                    settings.get(keys::LOAD_REQUESTS)
                }
            },
            rebind_after: 0,
            hold,
            // Only held connections can be followed up, by clients that ask something.
            follow_up: if hold.is_zero() || app == App::Connect { None } else { settings.get(keys::LOAD_FOLLOW_UP) },
            udp_share,
            close_by,
            close_how,
            engine: Engine::of_loaders(settings, protocol, server),
            sockets: if connects { Sockets::read(settings, close_how, server) } else { Sockets::Fresh },
            quickack: !connects || quickack(settings, server, says_nothing && proxy_protocol.is_none()),
            loaders: settings.get(keys::LOAD_LOADERS),
            pin: Pin::of_loaders(settings, subject.is_own().then_some(server.workers)),
            scheduler: Scheduler(settings.get(keys::LOAD_SCHEDULER)),
            connect,
            connect_timeout: match connect {
                _ if !connects => Duration::ZERO,
                Connect::AtOnce => settings.get_of_networks(keys::LOAD_CONNECT_TIMEOUT),
                Connect::Blocking => settings.get(keys::LOAD_CONNECT_TIMEOUT),
            },
            // Where nothing is asked, nothing is waited for.
            reply_timeout: if app == App::Connect { Duration::ZERO } else { settings.get(keys::LOAD_REPLY_TIMEOUT) },
            proxy_protocol,
            security: app.is_secured().then(|| Security::read(settings, subject)),
            http: if is_http { HttpRequest::read(settings) } else { HttpRequest::by_default() },
            line,
            sources: Sources::read(settings, network, target),
        };
        let rebind_after = if load.udp_share > 0.0 { settings.get(keys::LOAD_REBIND_AFTER) } else { 0 };
        let load = Self { rebind_after, ..load };
        load.check(settings, around);
        load
    }

    /// The seed of its schedule, which other populations do not change.
    pub fn seed(&self, seed: u64) -> u64 {
        if self.name == Self::UNNAMED {
            return seed;
        }
        // FNV-1a.
        let hash = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        seed ^ self.name.bytes().fold(0xcbf2_9ce4_8422_2325, hash)
    }

    /// Whether any of its starts are connections, not flows of datagrams.
    pub fn connects(&self) -> bool {
        self.udp_share < 1.0
    }

    /// Whether a connection may make more than one request.
    pub fn asks_again(&self) -> bool {
        self.requests > 1 || self.follow_up.is_some() || matches!(self.mode, Mode::Kept { .. })
    }

    /// The longest time that a client keeps one of its connections open after the last reply.
    pub fn longest_hold(&self) -> Duration {
        match self.mode {
            Mode::Open { arrivals: Arrivals::Trace(figures), .. } => self.hold.max(figures.longest_hold),
            _ => self.hold,
        }
    }

    /// The most ports that a flow takes at once.
    pub fn ports_of_flow(&self) -> u64 {
        if self.rebind_after > 0 { 2 } else { 1 }
    }

    /// The path of one of its keys in the scenario.
    pub fn path(&self, key: &dyn AnyKey) -> Cow<'static, str> {
        match &self.name[..] {
            Self::UNNAMED => Cow::Borrowed(key.path()),
            name => Cow::Owned(population::path(name, paths::leaf(key.path()))),
        }
    }

    /// The keys of the scenario that decide how many connections it has open at once: `` `load.rate` or `load.hold` ``.
    pub fn size_keys(&self) -> String {
        let keys: &[&dyn AnyKey] = match &self.mode {
            Mode::Closed { .. } | Mode::Kept { .. } => &[keys::LOAD_CONCURRENCY],
            Mode::Open { arrivals, .. } => match arrivals {
                Arrivals::Constant { .. } | Arrivals::Poisson { .. } => &[keys::LOAD_RATE, keys::LOAD_HOLD],
                Arrivals::Burst { .. } => &[keys::LOAD_BURST_SIZE, keys::LOAD_HOLD],
                Arrivals::Ramp(_) => &[keys::LOAD_RATE_FROM, keys::LOAD_RATE_TO, keys::LOAD_HOLD],
                Arrivals::Mmpp(_) => &[keys::LOAD_RATE_HIGH, keys::LOAD_HOLD],
                Arrivals::Rates(_) => &[keys::LOAD_RATES, keys::LOAD_HOLD],
                Arrivals::Trace(_) => &[keys::LOAD_TRACE_SPEED, keys::LOAD_HOLD],
            },
        };
        alternatives(keys.iter().map(|key| format!("`{}`", self.path(*key))))
    }

    /// Rejects what makes no sense of connections that stay open and ask again.
    fn check_kept(&self, settings: &Settings<'_>, Around { protocol, server, span, .. }: Around<'_>) {
        let problem: Option<(&str, &[&dyn AnyKey])> = if !protocol.has(Transport::Tcp) {
            Some((
                "\"kept\" is about connections, and protocol = \"udp\" has none: use \"open\" or \"closed\"",
                &[keys::PROTOCOL],
            ))
        } else if server.app == App::Close {
            Some((
                "\"kept\" connections send requests, and server.app = \"close\" answers none: use another app",
                &[keys::SERVER_APP],
            ))
        } else if server.app == App::Connect {
            Some((
                "\"kept\" connections send requests, and those of server.app = \"connect\" say nothing: use \"open\" or \"closed\" with \
                 load.hold",
                &[keys::SERVER_APP],
            ))
        } else if self.close_by == CloseBy::Server {
            let problem = "\"kept\" connections stay open until the client closes them: set load.close_by = \"client\"";
            Some((problem, &[keys::LOAD_CLOSE_BY]))
        } else if matches!(span.bound, Bound::Connections(_)) {
            let problem = "\"kept\" connections stay open until the load's end, which load.connections leaves open: set load.duration";
            Some((problem, &[keys::LOAD_CONNECTIONS]))
        } else {
            None
        };
        if let Some((problem, others)) = problem {
            settings.conflict(keys::LOAD_MODE, others, problem);
        }
    }

    /// Rejects a population that never runs, a follow-up that comes too late, and loaders without work.
    fn check(&self, settings: &Settings<'_>, around: Around<'_>) {
        let span = around.span;
        if matches!(self.mode, Mode::Kept { .. }) {
            self.check_kept(settings, around);
        }
        if around.server.app == App::Line && self.line.send.is_empty() && self.asks_again() {
            let problem = "is empty, so that the server speaks first, and it does so once: set it to a request, or leave out \
                           load.requests, load.follow_up and load.mode = \"kept\"";
            settings.conflict(keys::LOAD_SEND, &[keys::LOAD_REQUESTS, keys::LOAD_FOLLOW_UP, keys::LOAD_MODE], problem);
        }
        match (self.end, span.fixed()) {
            (Some(_), None) if matches!(span.bound, Bound::Connections(_)) => {
                let problem = "excludes `load.connections`, which ends the load: keep one of the two";
                settings.conflict(keys::LOAD_END, &[keys::LOAD_CONNECTIONS], problem);
            }
            (Some(end), Some(load)) if end > load => {
                let others: &[&dyn AnyKey] = &[keys::LOAD_WARMUP, keys::LOAD_DURATION];
                settings.conflict(keys::LOAD_END, others, format_args!("is after the end of the load, {load:?}"));
            }
            (end, load) => {
                if let Some(end) = end.or(load).filter(|end| self.start >= *end) {
                    let others: &[&dyn AnyKey] = &[keys::LOAD_END, keys::LOAD_WARMUP, keys::LOAD_DURATION];
                    let problem = format_args!("is not before its end, {end:?}").to_string();
                    settings.conflict(keys::LOAD_START, others, problem);
                }
            }
        }
        if let (Some(follow_up), Some(load)) = (self.follow_up, span.fixed())
            && let last = load + self.hold
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
        // What a trace asks for is known once it has been read.
        if self.replay.is_none()
            && let Some(problem) = self.never_rebinds(self.requests, "load.requests")
        {
            let problem = format!("{problem}; raise load.requests");
            settings.conflict(keys::LOAD_REBIND_AFTER, &[keys::LOAD_REQUESTS], problem);
        }
        let loaders = self.loaders.unwrap_or(1);
        if self.connect == Connect::Blocking && !self.is_one_client_a_loader() {
            settings.conflict(
                keys::LOAD_CONNECT,
                &[keys::LOAD_MODE, keys::LOAD_CONCURRENCY, keys::LOAD_LOADERS],
                "\"blocking\" stops a loader while it waits, and with it all of its clients: have one each, by load.mode = \"closed\" and as many \
                 load.loaders as load.concurrency",
            );
        }
        if let Some(concurrency) = self.mode.concurrency()
            && concurrency < loaders
        {
            settings.conflict(
                keys::LOAD_LOADERS,
                &[keys::LOAD_MODE, keys::LOAD_CONCURRENCY],
                format_args!("{loaders} loaders for {concurrency} connections at once: lower load.loaders, since some would be idle"),
            );
        }
    }

    /// What is wrong if no flow of at most so many requests goes on from another port, as it was to.
    pub(super) fn never_rebinds(&self, requests: u32, whose: &str) -> Option<String> {
        (self.rebind_after > 0 && self.rebind_after >= requests).then(|| {
            let after = self.rebind_after;
            format!("must be less than {whose}, {requests}, not {after}: no request would follow from the other port")
        })
    }

    fn is_one_client_a_loader(&self) -> bool {
        matches!(self.mode, Mode::Closed { concurrency } if self.loaders == Some(concurrency))
    }

    /// How long a trial with these populations may take unless the scenario says so.
    pub(super) fn longest_deadline(loads: &[Self], span: Span) -> Duration {
        loads.iter().map(|load| load.automatic_deadline(span)).max().unwrap_or_default()
    }

    /// How long a trial with this population may take unless the scenario says so.
    pub(super) fn automatic_deadline(&self, span: Span) -> Duration {
        const GRACE: Duration = Duration::from_secs(10);
        /// For a closed loop bound by a number of connections, whose length is not known in advance.
        const UNPLANNED: Duration = Duration::from_secs(120);
        let load = match (span.bound, &self.mode) {
            (Bound::Duration(span), _) => span,
            (Bound::Connections(count), Mode::Open { arrivals, .. }) => {
                // A Poisson schedule of n starts is rarely twice as long as its mean.
                let by_rate = Duration::from_secs_f64((2.0 * count as f64 / arrivals.per_second()).min(1e7));
                // Few starts may take several times in the low state, which is rarely ten times as long as its mean.
                let by_dwell = if let Arrivals::Mmpp(mmpp) = arrivals { 10 * mmpp.cycle() } else { Duration::ZERO };
                UNPLANNED + by_rate + by_dwell
            }
            (Bound::Connections(_), Mode::Closed { .. } | Mode::Kept { .. }) => UNPLANNED,
        };
        span.warmup + load + self.longest_hold() + self.connect_timeout + self.reply_timeout + GRACE
    }
}

/// A delayed acknowledgement needs data to travel with.
fn quickack(settings: &Settings<'_>, server: &Server, says_nothing: bool) -> bool {
    let quickack = settings.is_unix() || settings.get(keys::LOAD_QUICKACK);
    let why = match server {
        _ if quickack => return true,
        Server { app, .. } if says_nothing => format!("the client of server.app = \"{}\" sends nothing", app.name()),
        Server { listen, .. } if listen.fastopen > 0 => {
            "with server.fastopen the request goes with the SYN and leaves nothing".to_owned()
        }
        _ => return false,
    };
    settings.conflict(
        keys::LOAD_QUICKACK,
        &[keys::SERVER_APP, keys::SERVER_FASTOPEN, keys::LOAD_SEND],
        format_args!("{why} that the handshake's acknowledgement could travel with: set it to true"),
    );
    false
}

fn close_by(settings: &Settings<'_>, connects: bool, app: App) -> CloseBy {
    // The other side would not see a flow of datagrams close.
    if !connects {
        return CloseBy::Client;
    }
    let default = if app == App::Close { CloseBy::Server } else { keys::LOAD_CLOSE_BY.default() };
    let close_by = settings.get_or(keys::LOAD_CLOSE_BY, default);
    if app == App::Connect && close_by == CloseBy::Server {
        let problem = "with server.app = \"connect\" the client closes, after load.hold; where the server closes earlier, the connection \
                       fails (HUNGUP): remove it";
        settings.conflict(keys::LOAD_CLOSE_BY, &[keys::SERVER_APP], problem);
    }
    if app == App::Close && close_by == CloseBy::Client {
        let problem = "with server.app = \"close\" the server closes first: remove it";
        settings.conflict(keys::LOAD_CLOSE_BY, &[keys::SERVER_APP], problem);
    }
    close_by
}
