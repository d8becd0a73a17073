//! Keys of the load.

use std::{borrow::Cow, time::Duration};

use super::{
    domain::{
        Boolean, Choice, Integer, Number, Optional, OrWord, POSITIVE_SPAN, SPAN, Span, Text, choice, integer, number,
        or_word, text,
    },
    keys,
    lists::{Addresses, ChoiceOrNumbers, WordOrList, choice_or},
    server::PROCESSORS,
};
use crate::{
    scenario::{
        load::{CloseBy, CloseHow, EngineName, Sockets},
        placement::LoaderPlaces,
        ports::Selection,
        schedule::{ArrivalsName, ModeName, Pacer},
    },
    sys::scheduler::Policy,
};

/// Lowest and highest rate. Beyond one start per 100 ns, a schedule is meaningless.
pub(super) const LOWEST_RATE: f64 = 0.001;
pub(super) const HIGHEST_RATE: f64 = 10_000_000.0;

const HTTP_PATH: Text = text("string", |path| {
    let allowed = path.starts_with('/') && path.len() <= 1_024 && path.bytes().all(|byte| byte.is_ascii_graphic());
    (!allowed).then_some("must begin with `/` and consist of at most 1024 visible ASCII characters")
});

keys! { LOAD:
    LOAD_MODE: Choice<ModeName> = "load.mode", choice(), ModeName::Closed,
        "`closed`: a connection starts when another ends. `open`: connections start on schedule, whatever the server does.";
    LOAD_CONCURRENCY: Integer<usize> = "load.concurrency", integer(1, 1_000_000), 64,
        "`closed`: connections at once, all loaders together.";
    LOAD_RATE: Number = "load.rate", number(LOWEST_RATE, HIGHEST_RATE).unit("connections/s"), 1_000.0,
        "`open` with `constant` or `poisson` arrivals: connections started per second, all loaders together.";
    LOAD_ARRIVALS: Choice<ArrivalsName> = "load.arrivals", choice(), ArrivalsName::Poisson,
        "`open`: how starts are spread over time.";
    LOAD_PACER: Choice<Pacer> = "load.pacer", choice(), Pacer::Sleep,
        "`open`: how a loader waits for the next start: until a timer wakes it, about 50 µs late, or by spinning for the last \
         millisecond.";
    LOAD_BURST_SIZE: Integer<u64> = "load.burst_size", integer(1, 1_000_000), 100,
        "`burst`: connections started at once.";
    LOAD_BURST_EVERY: Span = "load.burst_every", POSITIVE_SPAN, Duration::from_secs(1),
        "`burst`: time between bursts.";
    LOAD_REQUESTS: Integer<u32> = "load.requests", integer(1, u32::MAX), 1,
        "Requests per connection, each sent after the reply to the previous one. Not for app `close`.";
    LOAD_HOLD: Span = "load.hold", SPAN, Duration::ZERO,
        "How long a client keeps its connection open after the last reply. Only if the client closes first.";
    LOAD_CLOSE_BY: Choice<CloseBy> = "load.close_by", choice(), CloseBy::Client,
        "Who closes first; always the server with app `close`.";
    LOAD_CLOSE_HOW: Choice<CloseHow> = "load.close_how", choice(), CloseHow::Fin,
        "How the side that closes first does so: by FIN, leaving TIME_WAIT on its side, or by reset (SO_LINGER 0), \
         leaving nothing.";
    LOAD_ENGINE: Choice<EngineName> = "load.engine", choice(), EngineName::Mio,
        "What moves the loaders' bytes: epoll (`mio`) or io_uring. `auto`: io_uring where the kernel and the scenario allow \
         it.";
    LOAD_SOCKETS: Choice<Sockets> = "load.sockets", choice(), Sockets::Fresh,
        "Whether each connection gets a new socket or one that a reset has disconnected; `recycled` requires \
         `load.close_how = \"rst\"`.";
    LOAD_QUICKACK: Boolean = "load.quickack", Boolean, true,
        "Whether the kernel acknowledges at once (TCP_QUICKACK), as by default, or together with the next data.";
    LOAD_CONNECTIONS: Optional<Integer<u64>> = "load.connections", Optional(integer(1, i64::MAX as u64)), None,
        "End a trial after this many measured connections, all loaders together, instead of `load.duration`.";
    LOAD_DURATION: Span = "load.duration", POSITIVE_SPAN, Duration::from_secs(1),
        "End a trial after this measured time.";
    LOAD_WARMUP: Span = "load.warmup", SPAN, Duration::ZERO,
        "Load before the measured time. Its connections count in the balance but are not measured.";
    LOAD_LOADERS: OrWord<Integer<usize>> = "load.loaders", or_word("auto", integer(1, 512)), None,
        "Loader processes. `auto`: as many as the open-file limit, the rate and the concurrency require.";
    LOAD_PIN: ChoiceOrNumbers<LoaderPlaces> = "load.pin", choice_or(PROCESSORS), WordOrList::Word(LoaderPlaces::None),
        "Like `server.pin`, for loaders. `pair`: loader k runs where worker k does, starting over at the last \
         worker; `server.pin` is then `spread` by default.";
    LOAD_SCHEDULER: Choice<Policy> = "load.scheduler", choice(), Policy::Normal,
        "How the kernel schedules loaders: see `server.scheduler`.";
    LOAD_CONNECT_TIMEOUT: Span = "load.connect_timeout", POSITIVE_SPAN, Duration::from_secs(10),
        "Give up on a connection not established within this time (ETIMEDOUT). The kernel resends a SYN after 1, 2, \
         3, 4, 5, 7 and 11 s.";
    LOAD_REPLY_TIMEOUT: Span = "load.reply_timeout", POSITIVE_SPAN, Duration::from_secs(10),
        "Give up on a reply, or on the server's close, that takes longer than this (ETIMEDOUT).";
    LOAD_SOURCE_PORTS: Choice<Selection> = "load.source_ports", choice(), Selection::Kernel,
        "How a client's socket gets its port: see the table under Ports.";
    LOAD_SOURCE_ADDRESSES: Addresses = "load.source_addresses", Addresses, Vec::new(),
        "Addresses to connect from, in turn: `127.0.0.2`, a range `127.0.0.2-127.0.0.9`, a network `127.0.1.0/28`, \
         or several of these separated by commas; at most 256. Empty: the kernel chooses.";
    LOAD_FOLLOW_UP: Optional<Span> = "load.follow_up", Optional(SPAN), None,
        "Time from the trial's start at which every held connection (`load.hold`) sends one more request, all at \
         once.";
    LOAD_UDP_SHARE: Number = "load.udp_share", number(0.0, 1.0), 0.5,
        "`tcp+udp`: share of the starts that are flows of datagrams; the others are connections.";
    LOAD_PATH: Text = "load.path", HTTP_PATH, Cow::Borrowed("/"),
        "`http`: the path to request.";
}
