//! Keys of the load.

use std::{borrow::Cow, collections::HashSet, time::Duration};

use toml::{Table, Value};

use super::{
    AnyKey, EMPTY,
    bytes::{Bytes, bytes},
    domain::{
        Boolean, Choice, Domain, Integer, Number, Optional, OrWord, POSITIVE_SPAN, SPAN, Span, Text, choice, integer,
        number, or_word, shown, span, text,
    },
    keys,
    lists::{Addresses, ChoiceOrNumbers, WordOrList, choice_or},
    rows::{NO_ROWS, Rows},
    server::{EXCHANGE_LIMIT_BYTES, PATH, PROCESSORS},
};
use crate::{
    scenario::{
        engine::EngineName,
        load::{CloseBy, CloseHow, Connect, Sockets},
        placement::LoaderPlaces,
        ports::Selection,
        schedule::{ArrivalsName, ModeName, Pacer},
        security::TlsVersion,
        times::DistributionName,
    },
    sys::scheduler::Policy,
    trace,
};

/// Lowest and highest rate. Beyond one start per 100 ns, a schedule is meaningless.
pub(super) const LOWEST_RATE: f64 = 0.001;
pub(in crate::scenario) const HIGHEST_RATE: f64 = 10_000_000.0;

/// How long one of two alternating rates lasts. Shorter ones are noise that a pacer does not reproduce.
const DWELL: Span = span(Duration::from_millis(1), Duration::from_secs(24 * 3600));

const HTTP_PATH: Text = text("string", |path| {
    let allowed = path.starts_with('/') && path.len() <= 1_024 && path.bytes().all(|byte| byte.is_ascii_graphic());
    (!allowed).then_some("must begin with `/` and consist of at most 1024 visible ASCII characters")
});

const HTTP_HOST: Text = text("string", |host| {
    let allowed = (1..=255).contains(&host.len()) && host.bytes().all(|byte| byte.is_ascii_graphic());
    (!allowed).then_some("must consist of 1 to 255 visible ASCII characters")
});

const HTTP_METHOD: Text = text("string", |method| {
    let allowed = (1..=32).contains(&method.len()) && method.bytes().all(|byte| byte.is_ascii_uppercase());
    match method {
        "CONNECT" => Some("must ask for a reply, and CONNECT asks for a tunnel: use another method"),
        _ => (!allowed).then_some("must be a method in capitals, such as \"GET\" or \"POST\""),
    }
});

/// An application protocol, by its name in IANA's registry (RFC 7301).
const PROTOCOL_NAME: Text = text("string", |name| match name {
    "h2" | "h3" | "spdy/3" => Some(
        "must be a protocol that clients of app \"https\" speak, and they speak HTTP/1.1: use \"http/1.1\", or \"\" to offer none",
    ),
    _ => (name.len() > 255 || !name.bytes().all(|byte| byte.is_ascii_graphic()))
        .then_some("must consist of at most 255 visible ASCII characters"),
});

/// A name for which there are certificates: not an address, which needs no name.
const SERVER_NAME: Text = text("string", |name| {
    let allowed = (1..=253).contains(&name.len())
        && name.split('.').all(|part| {
            (1..=63).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        })
        && !name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    (!allowed).then_some("must be a host name, such as \"www.example.org\"")
});

const TRACE_FORMAT: Text = text("string", |format| {
    let is_one = trace::FORMAT_WORDS.contains(&format) || format.contains('$');
    (!is_one).then_some(
        "must be \"auto\", \"access-log\", \"json\", \"csv\", \"pcap\", \"pcapng\", or an access log's `log_format` with nginx's variables, such as \
         '$remote_addr:$remote_port [$msec] $request_time'",
    )
});

const HTTP_BODY: Text =
    text("string", |body| (body.len() > EXCHANGE_LIMIT_BYTES).then_some("must be at most 65536 bytes long"));

keys! { LOAD:
    LOAD_START: Span = "load.start", SPAN, Duration::ZERO,
        "When the population starts to open connections, from the trial's start.";
    LOAD_END: Optional<Span> = "load.end", Optional(POSITIVE_SPAN), None,
        "When it stops opening connections, from the trial's start; by default, when the measured time ends. Not with `load.connections`.";
    LOAD_MODE: Choice<ModeName> = "load.mode", choice(), ModeName::Closed,
        "`closed`: a connection starts when another ends. `open`: connections start on schedule, whatever the server does. `kept`: \
         connections stay open until `load.end`, or for their `load.lifetime`, and send requests on schedule, whatever the server does, or a \
         `load.think_time` after each reply; each is opened for its first request, and reopened for the next one if it fails.";
    LOAD_CONCURRENCY: Integer<usize> = "load.concurrency", integer(1, 1_000_000), 64,
        "`closed` and `kept`: how many connections are open at once, all loaders together.";
    LOAD_RATE: Number = "load.rate", number(LOWEST_RATE, HIGHEST_RATE).unit("connections/s"), 1_000.0,
        "`open` with `constant` or `poisson` arrivals: connections started per second, all loaders together.";
    LOAD_RATE_FROM: Number = "load.rate_from", number(0.0, HIGHEST_RATE).unit("connections/s"), 0.0,
        "`ramp`: the rate at the population's start.";
    LOAD_RATE_TO: Number = "load.rate_to", number(0.0, HIGHEST_RATE).unit("connections/s"), 1_000.0,
        "`ramp`: the rate at its end. In between, and over the warm-up too, the rate changes linearly.";
    LOAD_RATE_LOW: Number = "load.rate_low", number(0.0, HIGHEST_RATE).unit("connections/s"), 500.0,
        "`mmpp`: the lower of the two rates. The mean rate is (`rate_low` × `dwell_low` + `rate_high` × `dwell_high`) ÷ (`dwell_low` + \
         `dwell_high`): 1000 per second by default.";
    LOAD_RATE_HIGH: Number = "load.rate_high", number(LOWEST_RATE, HIGHEST_RATE).unit("connections/s"), 5_500.0,
        "`mmpp`: the higher of the two rates.";
    LOAD_DWELL_LOW: Span = "load.dwell_low", DWELL, Duration::from_millis(900),
        "`mmpp`: the mean time for which the rate stays low.";
    LOAD_DWELL_HIGH: Span = "load.dwell_high", DWELL, Duration::from_millis(100),
        "`mmpp`: the mean time for which the rate stays high.";
    LOAD_RATES: Rows = "load.rates", Rows, NO_ROWS,
        "`rates`: a CSV file of `time,rate` rows, relative to the scenario file (to the working directory in `--set`), or the rows, such as \
         `[[0, 100], [60, 200]]`. A time is in seconds, or in a file also a time of day such as `13:30`; times ascend, and the first row is at \
         the population's start, whatever its time. A rate is in connections per second, and holds until the next row's time, the last one \
         until the load's end; what comes after that end is not used. A file's first line may be `time,rate`, and lines that begin with `#` \
         are comments. The record has the rows, so that it can be run again without the file.";
    LOAD_RATES_SPEED: Number = "load.rates_speed", number(0.001, 1_000_000.0), 1.0,
        "`rates`: how many times as fast as written the times pass: 1440 replays a day in a minute. Rates stay as written, so that there are as \
         many times fewer connections.";
    LOAD_REQUEST_RATE: Number = "load.request_rate", number(LOWEST_RATE, HIGHEST_RATE).unit("requests/s"), 10.0,
        "`kept`, without `load.think_time`: requests per second on each connection. The response time of each counts from when it was due.";
    LOAD_THINK_TIME: Optional<Span> = "load.think_time", Optional(POSITIVE_SPAN), None,
        "`kept`: have each connection send its next request this long after the reply to the previous one, on average, in place of \
         `load.request_rate`. Its first is due after a random part of such a time. A server that is slow is then asked less often: response times \
         leave out the requests that it has put off.";
    LOAD_THINK_DISTRIBUTION: Choice<DistributionName> = "load.think_distribution", choice(), DistributionName::Exponential,
        "How think times are distributed around their mean. `fixed`: all are `load.think_time`. `exponential`: many are short. `lognormal` and \
         `pareto`: a few are very long, as `load.think_shape` says.";
    LOAD_THINK_SHAPE: Number = "load.think_shape", number(0.01, 100.0), 1.5,
        "The shape of think times: of `lognormal`, the standard deviation of their logarithm, at most 2.5; of `pareto`, the exponent of its tail, \
         at least 1.2: the lower, the more a few of them weigh.";
    LOAD_LIFETIME: Optional<Span> = "load.lifetime", Optional(POSITIVE_SPAN), None,
        "`kept`: close each connection this long after it was opened, on average, once it waits for no reply. Its next request opens another, in whose \
         response time the connection's set-up counts, and the record counts that as `replaced`. Left out: connections stay open until `load.end`.";
    LOAD_LIFETIME_DISTRIBUTION: Choice<DistributionName> =
        "load.lifetime_distribution", choice(), DistributionName::Exponential,
        "How lifetimes are distributed around their mean, in the words of `load.think_distribution`.";
    LOAD_LIFETIME_SHAPE: Number = "load.lifetime_shape", number(0.01, 100.0), 1.5,
        "The shape of lifetimes, as `load.think_shape`.";
    LOAD_ARRIVALS: Choice<ArrivalsName> = "load.arrivals", choice(), ArrivalsName::Poisson,
        "`open`: how starts are spread over time; `kept`: how requests are, by the first three. `constant`: evenly; of `kept`, on each connection and \
         over all of them. `poisson`: at random. `burst`: many at once, then none; of `kept`, on all connections at once. `ramp`: at random, \
         at a rate that changes linearly over the load's time. `mmpp`: at random, at a low and a high rate, which alternate for exponentially \
         distributed times (a Markov-modulated Poisson process). `rates`: at random, at the rates of a table. `trace`: as in a file, `load.trace`; the \
         load then ends with the trace, unless `load.duration` ends it earlier.";
    LOAD_PACER: Choice<Pacer> = "load.pacer", choice(), Pacer::Sleep,
        "`open` and `kept`: how a loader waits for the next start or request. `sleep`: a timer wakes it, about 50 µs late. `spin`: it spins for the \
         last millisecond.";
    LOAD_BURST_SIZE: Integer<u64> = "load.burst_size", integer(1, 1_000_000), 100,
        "`burst`: connections started at once.";
    LOAD_BURST_EVERY: Span = "load.burst_every", POSITIVE_SPAN, Duration::from_secs(1),
        "`burst`: time between bursts.";
    LOAD_TRACE: Optional<Text> = "load.trace", Optional(PATH), None,
        "`trace`: the file whose connections are replayed. An access log of nginx or Apache, a table of times (CSV), or a capture (pcap, pcapng), of \
         which SYNs count; gzip is unpacked. Its path is relative to the scenario file (to the working directory in `--set`), and the record has it in full. \
         `listenbench trace FILE` shows what would be replayed.";
    LOAD_TRACE_FORMAT: Text = "load.trace_format", TRACE_FORMAT, Cow::Borrowed("auto"),
        "`trace`: the file's format: `auto` (by its content), `access-log`, `json`, `csv`, `pcap` or `pcapng`. Or the `log_format` with which lines of \
         an access log begin, in nginx's notation, such as `'$remote_addr:$remote_port [$msec] $request_time'`.";
    LOAD_TRACE_SPEED: Number = "load.trace_speed", number(0.000_001, 1_000_000.0), 1.0,
        "`trace`: how much faster than in the trace connections start: 2 halves the time between them. Holds stay as they are.";
    LOAD_TRACE_FROM: Span = "load.trace_from", SPAN, Duration::ZERO,
        "`trace`: where the replayed part begins, counted in the trace from its first start.";
    LOAD_TRACE_TO: Optional<Span> = "load.trace_to", Optional(POSITIVE_SPAN), None,
        "`trace`: where the replayed part ends, counted in the same way; by default, with the trace.";
    LOAD_TRACE_REPEAT: Integer<u64> = "load.trace_repeat", integer(1, 1_000_000), 1,
        "`trace`: how often the part is replayed, one repetition after the other.";
    LOAD_TRACE_MAX_MALFORMED: Number = "load.trace_max_malformed", number(0.0, 1.0), 0.01,
        "`trace`: the share of malformed lines (of captures, packets) above which the trace is refused. Fewer are left out, counted and shown.";
    LOAD_REQUESTS: Integer<u32> = "load.requests", integer(1, u32::MAX), 1,
        "Requests per connection, each sent after the reply to the previous one. Not for apps `close` and `connect`, nor for mode `kept`.";
    LOAD_REBIND_AFTER: Integer<u32> = "load.rebind_after", integer(0, u32::MAX), 0,
        "Flows of datagrams: after so many requests, the client continues the flow from another port, as if a router on the way had forgotten its \
         address translation (NAT rebinding). Less than `load.requests`. 0: never. Each flow then takes two ports.";
    LOAD_HOLD: Span = "load.hold", SPAN, Duration::ZERO,
        "How long a client keeps its connection open after the last reply, or with app `connect` once it is established. Only if the client \
         closes first.";
    LOAD_CLOSE_BY: Choice<CloseBy> = "load.close_by", choice(), CloseBy::Client,
        "Who closes first; always the server with app `close`, and the client with app `connect`.";
    LOAD_CLOSE_HOW: Choice<CloseHow> = "load.close_how", choice(), CloseHow::Fin,
        "How the side that closes first does so. `fin`: by FIN, leaving TIME_WAIT on its side. `rst`: by reset (SO_LINGER 0), leaving \
         nothing.";
    LOAD_ENGINE: Choice<EngineName> = "load.engine", choice(), EngineName::Mio,
        "What moves the loaders' bytes. `mio`: epoll. `uring`: io_uring. `auto`: io_uring where the kernel and the scenario allow it, \
         else epoll.";
    LOAD_SOCKETS: Choice<Sockets> = "load.sockets", choice(), Sockets::Fresh,
        "Which socket a connection gets. `fresh`: a new one. `recycled`: one that a reset has disconnected; requires \
         `load.close_how = \"rst\"`.";
    LOAD_QUICKACK: Boolean = "load.quickack", Boolean, true,
        "Whether the kernel acknowledges the server's SYN-ACK at once, as by default, or together with the first request.";
    LOAD_CONNECTIONS: Optional<Integer<u64>> = "load.connections", Optional(integer(1, i64::MAX as u64)), None,
        "End a trial after this many measured connections, all loaders together, instead of `load.duration`. Not with several \
         populations.";
    LOAD_DURATION: Span = "load.duration", POSITIVE_SPAN, Duration::from_secs(1),
        "End a trial after this measured time, which all populations share.";
    LOAD_WARMUP: Span = "load.warmup", SPAN, Duration::ZERO,
        "Load before the measured time, the same for all populations. Its connections count in the balance but are not measured.";
    LOAD_LOADERS: OrWord<Integer<usize>> = "load.loaders", or_word("auto", integer(1, 512)), None,
        "Loader processes. `auto`: as many as the open-file limit, the rate and the concurrency require.";
    LOAD_PIN: ChoiceOrNumbers<LoaderPlaces> = "load.pin", choice_or(PROCESSORS), WordOrList::Word(LoaderPlaces::None),
        "Like `server.pin`, for loaders. `pair`: loader k runs where worker k does, starting over at the last \
         worker; `server.pin` is then `spread` by default.";
    LOAD_SCHEDULER: Choice<Policy> = "load.scheduler", choice(), Policy::Normal,
        "How the kernel schedules loaders. The words mean what they do for `server.scheduler`.";
    LOAD_PROXY_PROTOCOL: Integer<u8> = "load.proxy_protocol", integer(0, 2), 0,
        "Version of the PROXY protocol header that each connection begins with, as if a proxy passed it on: `1` is text, `2` binary, `0` none. \
         It names the connection's own ends. Our own server reads it, and its receipts show that it did. Not with datagrams only.";
    LOAD_CONNECT: Choice<Connect> = "load.connect", choice(), Connect::AtOnce,
        "What connect(2) does where the queue of a Unix socket is full. `at-once`: it fails (EAGAIN), as with sockets that are O_NONBLOCK. \
         `blocking`: it waits for room, at most `load.connect_timeout`, as with others; each client is then a loader of its own.";
    LOAD_CONNECT_TIMEOUT: Span = "load.connect_timeout", POSITIVE_SPAN, Duration::from_secs(10),
        "Give up on a connection not established within this time (ETIMEDOUT). The kernel resends a SYN after 1, 2, \
         3, 4, 5, 7 and 11 s.";
    LOAD_REPLY_TIMEOUT: Span = "load.reply_timeout", POSITIVE_SPAN, Duration::from_secs(10),
        "Give up on a reply, or on the server's close, that takes longer than this (ETIMEDOUT).";
    LOAD_SOURCE_PORTS: Choice<Selection> = "load.source_ports", choice(), Selection::Kernel,
        "How a client's socket gets its port. `kernel`: connect(2) chooses it. `bind-zero`: bind(2) to port 0 does. `bind-no-port`: connect(2) \
         does, after bind has set the address (IP_BIND_ADDRESS_NO_PORT). `range-window`: connect(2) does, within a window \
         (IP_LOCAL_PORT_RANGE). `explicit`: the program does.";
    LOAD_SOURCE_ADDRESSES: Addresses = "load.source_addresses", Addresses, Vec::new(),
        "Addresses to connect from, in turn: `127.0.0.2`, a range `127.0.0.2-127.0.0.9`, a network `127.0.1.0/28`, \
         or several of these separated by commas; at most 256. Empty: the kernel chooses.";
    LOAD_FOLLOW_UP: Optional<Span> = "load.follow_up", Optional(SPAN), None,
        "Time from the trial's start at which every held connection (`load.hold`) sends one more request, all at \
         once. Not for app `connect`.";
    LOAD_UDP_SHARE: Number = "load.udp_share", number(0.0, 1.0), 0.5,
        "`tcp+udp`: share of the starts that are flows of datagrams; the others are connections.";
    LOAD_PATH: Text = "load.path", HTTP_PATH, Cow::Borrowed("/"),
        "`http`, `https`: the path to request, with its query if any.";
    LOAD_HOST: Optional<Text> = "load.host", Optional(HTTP_HOST), None,
        "`http`, `https`: the Host header; the address and port connected to if left out.";
    LOAD_METHOD: Text = "load.method", HTTP_METHOD, Cow::Borrowed("GET"),
        "`http`, `https`: the method.";
    LOAD_HEADERS: Headers = "load.headers", Headers, Vec::new(),
        "`http`, `https`: more headers; one named User-Agent replaces `listenbench`. Host is `load.host`; Connection, Content-Length and \
         Transfer-Encoding follow from other keys.";
    LOAD_BODY: Text = "load.body", HTTP_BODY, EMPTY,
        "`http`, `https`: the body of each request, at most 65536 bytes; empty for none.";
    LOAD_TLS_VERSION: Choice<TlsVersion> = "load.tls_version", choice(), TlsVersion::Any,
        "`https`: the versions of TLS that clients offer. `any`: 1.3 and 1.2, of which servers choose the higher. `1.3` and `1.2`: only that.";
    LOAD_RESUMPTION: Number = "load.resumption", number(0.0, 1.0), 0.0,
        "`https`: share of connections that resume an earlier session, drawn from the seed. Each loader keeps the tickets that it is given, as a \
         client program would; those of TLS 1.3 serve once. Without one, as at first, the handshake is a full one and is counted as such.";
    LOAD_ALPN: Text = "load.alpn", PROTOCOL_NAME, Cow::Borrowed("http/1.1"),
        "`https`: the application protocol that clients offer (ALPN). Empty: none.";
    LOAD_SERVER_NAME: Optional<Text> = "load.server_name", Optional(SERVER_NAME), None,
        "`https`: the name that clients ask for (SNI), and that the certificate must have. Left out: none, and the certificate must have the \
         address; of `load https://NAME`, that name; of a Unix socket, `localhost`.";
    LOAD_VERIFY: Boolean = "load.verify", Boolean, true,
        "`https`: whether clients verify the server's certificate: that it is trusted, has its name, and has not expired.";
    LOAD_TRUST: Optional<Text> = "load.trust", Optional(PATH), None,
        "`https`: the file of certificates that clients trust, in PEM form: of authorities, or the server's own. Its path is relative to the \
         scenario file (to the working directory in `--set`). Left out: the certificate that our own server made at start, or those that the machine trusts.";
    LOAD_SEND: Bytes = "load.send", bytes(EXCHANGE_LIMIT_BYTES), Vec::new(),
        "`line`: what a client sends for each request, such as `'PING\\r\\n'`. `\\r`, `\\n`, `\\t`, `\\0` and `\\xHH`, for any byte, \
         are escapes, here and in the keys below; `\\\\` is a backslash. Empty: the server speaks first, and once.";
    LOAD_EXPECT: Optional<Bytes> = "load.expect", Optional(bytes(1_024)), None,
        "`line`: how a reply must begin, such as `'+PONG'`; with the line's end, such as `'+PONG\\r\\n'`, all of it. Empty: any reply \
         will do. Another reply fails the connection (MISMATCH), and the report shows it.";
    LOAD_LAST_LINE: Bytes = "load.last_line", bytes(1_024), Vec::new(),
        "`line`: how the last line of a reply begins, such as `'END'` or `'250 '`; a line ends with `\\n`. Empty: a reply is a single line.";
    LOAD_REPLY_BYTES: Optional<Integer<usize>> =
        "load.reply_bytes", Optional(integer(1, EXCHANGE_LIMIT_BYTES).unit("bytes")), None,
        "`line`: the exact size of a reply, in place of lines.";
}

/// The keys that hold for all populations of a load.
const OF_ALL: [&dyn AnyKey; 3] = [LOAD_CONNECTIONS, LOAD_DURATION, LOAD_WARMUP];

/// Whether a key of the load holds for all its populations.
pub fn is_of_all_loads(path: &str) -> bool {
    OF_ALL.iter().any(|key| key.path() == path)
}

/// HTTP headers: names and values.
#[derive(Debug, Clone, Copy)]
pub struct Headers;

impl Headers {
    /// Headers that other keys decide, and which ones.
    const DECIDED: [(&'static str, &'static str); 5] = [
        ("host", "load.host sets it"),
        ("connection", "it follows from load.requests and load.close_by"),
        ("content-length", "it follows from load.body"),
        ("transfer-encoding", "load.body is sent as it is"),
        ("x-nonce", "each request has its own, by which replies are told apart"),
    ];

    fn problem(name: &str, value: &Value) -> Option<String> {
        // The characters of a token: RFC 9110, section 5.6.2.
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return Some(format!("{} is not the name of a header", Value::String(name.to_owned())));
        }
        if let Some((_, why)) = Self::DECIDED.iter().find(|(decided, _)| name.eq_ignore_ascii_case(decided)) {
            return Some(format!("leave out {name}: {why}"));
        }
        let visible = |byte: u8| byte == b' ' || byte == b'\t' || byte.is_ascii_graphic();
        let allowed = value.as_str().is_some_and(|text| text.bytes().all(visible) && text.trim() == text);
        (!allowed).then(|| {
            format!("the value of {name} must be a string of visible ASCII characters and spaces, not {}", shown(value))
        })
    }
}

impl Domain for Headers {
    type Value = Vec<(String, String)>;

    fn parse(&self, value: &Value) -> Result<Self::Value, String> {
        let table = value
            .as_table()
            .ok_or_else(|| format!("must be a table such as {{ Accept = \"text/html\" }}, not {}", shown(value)))?;
        let bytes = table.iter().map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum::<usize>();
        if bytes > EXCHANGE_LIMIT_BYTES {
            return Err(format!("must have at most {EXCHANGE_LIMIT_BYTES} bytes in all"));
        }
        let mut known = HashSet::new();
        let mut headers: Self::Value = Vec::with_capacity(table.len());
        for (name, value) in table {
            if let Some(problem) = Self::problem(name, value) {
                return Err(problem);
            }
            if !known.insert(name.to_ascii_lowercase()) {
                return Err(format!("lists {name} twice"));
            }
            headers.push((name.clone(), value.as_str().unwrap_or_default().to_owned()));
        }
        Ok(headers)
    }

    fn to_toml(&self, value: &Self::Value) -> Option<Value> {
        let table: Table = value.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
        Some(Value::Table(table))
    }

    fn describe(&self) -> String {
        "table of names and values".to_owned()
    }
}
