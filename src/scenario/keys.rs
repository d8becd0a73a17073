//! Every key of a scenario, once: its type, its default and what it means. `bench-configs/README.md` shows this table.

use std::borrow::Cow;

use super::fault::PREFIX as FAULTS;

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted path, e.g. `server.workers`.
    pub path: &'static str,
    /// Type and unit, as a reader of the documentation wants them.
    pub kind: &'static str,
    /// Default as TOML; empty when the key has none.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

const fn key(path: &'static str, kind: &'static str, default: &'static str, meaning: &'static str) -> Key {
    Key { path, kind, default, meaning }
}

/// Whether a key describes the whole scenario and cannot be swept.
pub fn of_whole(path: &str) -> bool {
    ["name", "question", "seed", "repetitions", "metric"].contains(&path)
        || path.starts_with("stop.")
        || path.starts_with("search.")
}

/// The table.
pub const KEYS: &[Key] = &[
    key("name", "string", "", "Name in records and folders. Default: the file's name without `.toml`."),
    key("question", "string", "\"\"", "The question that this scenario answers; printed above the results."),
    key("seed", "integer ≥ 0", "1", "Fixes the order of trials, the arrival times and the service times."),
    key(
        "repetitions",
        "integer 1–10000",
        "5",
        "Trials of each cell, interleaved in random blocks: every block holds each cell once. With `[stop]` at least, with `[search]` for each end of the answer. Five are the fewest that give intervals and, for up to six pairs of cells, verdicts.",
    ),
    key(
        "metric",
        "metric or `auto`",
        "\"auto\"",
        "The metric that ranks the cells in reports and that `[stop]` looks at: a name of results/README.md. `auto`: the one that fits what was run.",
    ),
    key(
        "stop.relative_error",
        "number 0.0001–10",
        "",
        "Repeat until half of the 95 % interval of every cell's median, divided by that median, is at most this; or say that it never was.",
    ),
    key("stop.max_repetitions", "integer 1–10000", "30", "`[stop]`: trials of each cell at most."),
    key(
        "search.metric",
        "metric",
        "",
        "`[search]`: find the highest value of a key at which this metric, its median over `repetitions` trials, is not worse than the limit.",
    ),
    key("search.limit", "duration or number", "", "`[search]`: the limit, a duration where the metric is a time."),
    key(
        "search.variable",
        "`load.rate`, `load.concurrency`, `load.burst_size` or `server.workers`",
        "\"load.rate\"",
        "`[search]`: the key. Its value in the scenario is where the search begins.",
    ),
    key(
        "search.precision",
        "number 0.001–10",
        "0.05",
        "`[search]`: the answer is a bracket, of a value within the limit and one beyond; they need not be nearer than this part of the lower.",
    ),
    key("search.highest", "number", "1000000.0", "`[search]`: values above are not tried."),
    key(
        "search.max_trials",
        "integer 2–10000",
        "60",
        "`[search]`: trials of each combination of swept values at most.",
    ),
    key(
        "kind",
        "`listen` or `ports`",
        "\"listen\"",
        "`listen`: a server, a load, and what happens between them. `ports`: how many connections the ephemeral ports take, and what a connect costs as they fill; nobody accepts, and of `[server]` and `[load]` only `load.source_ports`, `load.source_addresses` and `load.close_how` have a use.",
    ),
    key(
        "network",
        "`netns`, `veth` or `host`",
        "\"netns\"",
        "`netns`: each trial in a network namespace of its own, loopback only. `veth`: server and loaders of each trial in two, joined by a pair of virtual Ethernet devices. `host`: the machine's network; no sysctl is written.",
    ),
    key(
        "address",
        "IP address",
        "\"127.0.0.1\"",
        "Address the server listens on and the loaders connect to. `veth`: any unicast address but loopback, `198.18.0.1` by default; the loaders have the one that differs in the last bit.",
    ),
    key(
        "protocol",
        "`tcp`, `udp` or `tcp+udp`",
        "\"tcp\"",
        "What is exchanged: connections, datagrams, or both on the same port number, as DNS servers do. `udp` wants app `echo` and a strategy that means something for datagrams.",
    ),
    key(
        "stamps",
        "`auto`, `sock_ops`, `connect-call` or `both`",
        "\"auto\"",
        "How accept waits are measured. `sock_ops`: exactly, from the kernel's own ESTABLISHED to accept's return, by a BPF program; wants root. `connect-call`: from the client's connect call, an upper bound. `both`: side by side. `auto`: exactly where that can be had.",
    ),
    key(
        "queue_interval",
        "duration, 1–100 ms",
        "\"10ms\"",
        "Distance of samples of the listeners' queues (sock_diag). `host.json` says what a sample costs.",
    ),
    key("port", "integer 1–65535", "7000", "Port the server listens on."),
    key(
        "deadline",
        "duration or `auto`",
        "\"auto\"",
        "A trial not ended this long after its start is ended and invalid. `auto`: warm-up, bound, hold and time-outs plus 10 s; two minutes in place of a bound by `load.connections`.",
    ),
    key("server.strategy", "strategy", "\"reuseport\"", "How workers obtain connections: see the strategies below."),
    key("server.workers", "integer 1–512", "2", "Worker processes."),
    key(
        "server.backlog",
        "integer 0–65535",
        "1024",
        "Second argument of listen(2). The queue holds min(backlog, somaxconn) + 1 connections.",
    ),
    key(
        "server.accept_batch",
        "`drain` or integer ≥ 1",
        "\"drain\"",
        "Accepts per wake-up, before any of them is served: until the queue is empty, or at most so many. With a service time, a worker that drains a shared queue makes others' connections wait for it: set 1, as nginx does. Datagrams are answered one by one, 64 per wake-up at most.",
    ),
    key(
        "server.accept_flags",
        "`nonblock+cloexec`, `nonblock`, `cloexec` or `none`",
        "\"nonblock+cloexec\"",
        "Flags of accept4(2). Without `nonblock`, two further system calls make the connection non-blocking. Not for `*-uring`.",
    ),
    key(
        "server.defer_accept",
        "duration, whole seconds",
        "\"0s\"",
        "TCP_DEFER_ACCEPT: a connection is delivered only when its request is there, or after about so long. `0s`: off. Not for app `close`.",
    ),
    key(
        "server.fastopen",
        "integer 0–65535",
        "0",
        "TCP_FASTOPEN: requests may come with the SYN, of at most so many connections under way; loaders use TCP_FASTOPEN_CONNECT. 0: off. Wants `sysctl.tcp_fastopen = 3`. Not for app `close`.",
    ),
    key(
        "server.busy_poll",
        "duration, whole microseconds",
        "\"0us\"",
        "SO_BUSY_POLL on listeners, and so on their connections: a read that finds nothing polls the device so long. `0us`: off. Some kernels want root. Loopback has no device queue to poll.",
    ),
    key(
        "server.receive_buffer",
        "integer 0–1073741824, bytes",
        "0",
        "SO_RCVBUF of the listeners; the kernel doubles it, and more than sysctl net.core.rmem_max wants root. With `udp` it is the queue. 0: the system's default.",
    ),
    key(
        "server.connected",
        "list of workers",
        "[]",
        "`udp`, a socket per worker: these workers' sockets, not all, are connected to a peer that never sends, and get nothing from others.",
    ),
    key(
        "server.incoming_cpu",
        "`spread` or list of processors",
        "\"spread\"",
        "`reuseport-incoming-cpu`: the processor that worker k's listener is marked with: the k-th of those that may be used, or of the list, counted round.",
    ),
    key(
        "server.accept_delay",
        "duration",
        "\"0s\"",
        "Workers begin to accept this long after the trial's start. Longer than the trial: they never do.",
    ),
    key(
        "server.accept_mutex_delay",
        "duration",
        "\"500ms\"",
        "`shared-accept-mutex`: how long a worker that did not get the lock waits before it tries again.",
    ),
    key(
        "server.dispatch",
        "`round-robin` or `least-connections`",
        "\"round-robin\"",
        "`dispatcher`: which worker gets a connection.",
    ),
    key(
        "server.hermes_hang",
        "duration",
        "\"100ms\"",
        "`reuseport-hermes`: a worker whose loop has not come round for so long gets no connections.",
    ),
    key(
        "server.hermes_theta",
        "number 0–1000",
        "0.5",
        "`reuseport-hermes`: a worker with more than 1 + θ times the mean of connections, or of pending events, gets no connections.",
    ),
    key(
        "server.registration",
        "`ascending`, `descending` or `shuffled`",
        "\"ascending\"",
        "Order in which workers add their listeners to epoll, by their numbers. With EPOLLEXCLUSIVE the first that is idle is woken.",
    ),
    key(
        "server.pin",
        "`none`, `spread` or list of processors",
        "\"none\"",
        "`spread`: worker k runs only on the k-th of the allowed processors, counted round. A list: on the k-th of the list.",
    ),
    key(
        "server.scheduler",
        "`normal`, `batch` or `fifo`",
        "\"normal\"",
        "How the kernel schedules workers: as it does users' own servers; SCHED_BATCH, so that an arrival preempts nobody; or SCHED_FIFO, before all others, which wants root or RLIMIT_RTPRIO.",
    ),
    key("server.nodelay", "boolean", "true", "TCP_NODELAY on both ends' sockets."),
    key(
        "server.app",
        "`close`, `echo` or `http`",
        "\"echo\"",
        "`close`: accept, then close. `echo`: fixed-size requests and replies. `http`: HTTP/1.1, a small fixed reply.",
    ),
    key(
        "server.request_bytes",
        "integer 4–65536, bytes",
        "64",
        "Size of an `echo` request. Its first 4 bytes are the client's nonce.",
    ),
    key(
        "server.reply_bytes",
        "integer, bytes",
        "64",
        "Size of an `echo` reply (16–65536; from 52 bytes on it carries the whole 4-tuple, below only its digest) or of the body of an `http` reply (0–65536).",
    ),
    key(
        "server.service_time",
        "duration",
        "\"0us\"",
        "CPU time a worker burns per request (app `close`: per connection). The mean, or the short time of `bimodal`.",
    ),
    key("server.service_distribution", "`fixed`, `exponential` or `bimodal`", "\"fixed\"", "How service times spread."),
    key("server.service_time_long", "duration", "\"10ms\"", "`bimodal`: the long service time."),
    key("server.service_long_share", "number 0–1", "0.01", "`bimodal`: share of requests that take the long time."),
    key(
        "load.mode",
        "`closed` or `open`",
        "\"closed\"",
        "`closed`: a connection starts when one ends. `open`: connections start by schedule, whatever the server does.",
    ),
    key("load.concurrency", "integer 1–1000000", "64", "`closed`: connections under way at once."),
    key(
        "load.rate",
        "number > 0, connections/s",
        "1000.0",
        "`open` with `constant` or `poisson` arrivals: connections started per second, all loaders together.",
    ),
    key("load.arrivals", "`constant`, `poisson` or `burst`", "\"poisson\"", "`open`: how starts spread in time."),
    key(
        "load.pacer",
        "`sleep` or `spin`",
        "\"sleep\"",
        "`open`: how a loader waits for the next start. `sleep`: until a timer wakes it, some 50 µs late. `spin`: for the last millisecond it looks at the clock and at its connections in turn, on time to a few µs if it has a processor for itself, which it then takes. With `load.scheduler` = `fifo` besides, a loader that never sleeps is stopped for 50 ms of each second (sysctl kernel.sched_rt_runtime_us).",
    ),
    key("load.burst_size", "integer ≥ 1", "100", "`burst`: connections started at once."),
    key("load.burst_every", "duration", "\"1s\"", "`burst`: time between bursts."),
    key("load.requests", "integer ≥ 1", "1", "Requests on each connection, one after the other. Not for app `close`."),
    key(
        "load.hold",
        "duration",
        "\"0s\"",
        "Time a client keeps its connection open after the last reply. Only where the client closes.",
    ),
    key("load.close_by", "`client` or `server`", "\"client\"", "Who closes first. Default with app `close`: `server`."),
    key(
        "load.close_how",
        "`fin` or `rst`",
        "\"fin\"",
        "How the first closer closes: orderly, leaving TIME_WAIT on its side, or by reset (SO_LINGER 0), leaving nothing.",
    ),
    key(
        "load.engine",
        "`mio`, `uring` or `auto`",
        "\"mio\"",
        "What moves the loaders' bytes: epoll, as in most programs, or io_uring, to which all receives of a turn are handed with their buffers in one call, so that no socket is registered or read by itself. `auto`: io_uring where the kernel and the scenario allow it (no datagrams, no `server.fastopen`), since it was never the slower one in `ceiling`, else epoll; `engine` in each trial says which ran. Of connections that are held, each keeps a buffer with io_uring.",
    ),
    key(
        "load.sockets",
        "`fresh` or `recycled`",
        "\"fresh\"",
        "`fresh`: a socket a connection, as users' clients do. `recycled`: where `load.close_how` is `rst`, a socket whose connection has ended as planned is disconnected by connect(2) to AF_UNSPEC, which sends the reset, and serves the next connection; the server sees no other connection, and the loader spares socket(2), close(2) and epoll. For small exchanges: a disconnect does not clear all that a socket has learnt, and with send buffers of one segment, replies of 64 KiB took 40 ms for delayed acknowledgements. Not with `explicit` source ports, and not with `server.fastopen`.",
    ),
    key(
        "load.quickack",
        "boolean",
        "true",
        "`false`: TCP_QUICKACK 0 on clients' sockets before they connect: the handshake's acknowledgement rides with the request, and the reply's with what follows it: 6 segments where one small exchange takes 8. It changes what is measured: the server learns that a connection is established from its first request, so accept waits begin there. `true`: as the kernel does, at once. Not for app `close` and `server.fastopen`, where no request follows the handshake.",
    ),
    key(
        "load.connections",
        "integer ≥ 1",
        "",
        "Bound by number: measured connections of a trial, all loaders together. Excludes `load.duration`.",
    ),
    key("load.duration", "duration", "\"1s\"", "Bound by time: the measured span of a trial."),
    key(
        "load.warmup",
        "duration",
        "\"0s\"",
        "Load before the measured span; its connections are balanced but not measured.",
    ),
    key(
        "load.loaders",
        "`auto` or integer 1–512",
        "\"auto\"",
        "Loader processes. `auto`: as many as the open-file limit, the rate and the concurrency demand.",
    ),
    key(
        "load.pin",
        "`none`, `spread`, `pair` or list of processors",
        "\"none\"",
        "`spread`: loader k runs only on the k-th of the allowed processors, counted round. A list: on the k-th of the list. `pair`: where worker k runs, counted round the workers; `server.pin` is then `spread` unless set.",
    ),
    key(
        "load.scheduler",
        "`normal`, `batch` or `fifo`",
        "\"normal\"",
        "How the kernel schedules loaders, as `server.scheduler`.",
    ),
    key(
        "load.connect_timeout",
        "duration",
        "\"10s\"",
        "A connection not established by then is given up (ETIMEDOUT). The kernel retries SYNs after 1, 2, 3, 4, 5, 7, 11 s.",
    ),
    key(
        "load.reply_timeout",
        "duration",
        "\"10s\"",
        "A reply, or the server's close, not there by then is given up (ETIMEDOUT).",
    ),
    key(
        "load.source_ports",
        "`kernel`, `bind-zero`, `bind-no-port`, `range-window` or `explicit`",
        "\"kernel\"",
        "How a client's socket gets its port: see the selections below.",
    ),
    key(
        "load.source_addresses",
        "string",
        "\"\"",
        "Addresses to connect from, in turn: `127.0.0.2`, a range `127.0.0.2-127.0.0.9`, a network `127.0.1.0/28`, or several of these with commas between. Empty: the kernel picks.",
    ),
    key(
        "load.follow_up",
        "duration",
        "",
        "So long after the trial's start, every connection that is held (`load.hold`) sends one request more, all at once.",
    ),
    key(
        "load.udp_share",
        "number 0–1",
        "0.5",
        "`tcp+udp`: share of the starts that are flows of datagrams; the others are connections.",
    ),
    key("load.path", "string", "\"/\"", "`http`: the path that is requested."),
    key(
        "ports.destination_addresses",
        "string",
        "\"\"",
        "Addresses to connect to, in turn, as in `load.source_addresses`. Empty: `address`.",
    ),
    key("ports.destination_ports", "string", "\"\"", "Ports to connect to, e.g. `7000-7003,8000`. Empty: `port`."),
    key("ports.until", "number 0.001–1", "1.0", "Stop at this part of the capacity; 1: at the wall."),
    key("ports.steps", "integer 10–1000", "200", "Points of the curve."),
    key(
        "ports.recover",
        "number 0–1",
        "0.0",
        "Once all is closed, how long until this part of the capacity can be had again? 0: does not ask.",
    ),
    key("ports.recover_within", "duration", "\"90s\"", "Longest time to wait for that."),
    key(
        "fault.kind",
        "`stall`, `burn`, `kill` or `none`",
        "\"stall\"",
        "`stall`: the worker is stopped (SIGSTOP). `burn`: it burns CPU and serves nobody. `kill`: SIGKILL. `none`: nothing, for sweeps.",
    ),
    key("fault.worker", "integer 0–511", "0", "The worker's number."),
    key("fault.at", "duration", "", "When, counted from the trial's start. Must be given."),
    key(
        "fault.for",
        "duration",
        "",
        "How long. Must be given with `burn`; without it a stall lasts to the end of the trial. Not for `kill`.",
    ),
];

/// The prefix of keys that set a sysctl of the trial's namespace.
pub const SYSCTL_PREFIX: &str = "sysctl.";

/// Looks a key up. The number in `fault.0.at` is not part of the key's name.
pub fn find(path: &str) -> Option<&'static Key> {
    let name = match path.strip_prefix(FAULTS).and_then(|rest| rest.split_once('.')) {
        Some((number, leaf)) if number.parse::<usize>().is_ok() => Cow::Owned(format!("{FAULTS}{leaf}")),
        _ => Cow::Borrowed(path),
    };
    KEYS.iter().find(|key| key.path == name)
}

/// Keys of which a list is one value, and not several to be swept.
const LISTS: [&str; 4] = ["server.connected", "server.incoming_cpu", "server.pin", "load.pin"];

/// Whether a list is one value of the key.
pub fn takes_list(path: &str) -> bool {
    LISTS.contains(&path)
}

/// The known key most like a misspelt one.
pub fn nearest(path: &str) -> Option<&'static str> {
    let leaf = |path: &'_ str| path.rsplit('.').next().unwrap_or_default().to_owned();
    // A fault's keys are alike to others', and are written in tables of their own.
    let candidates = KEYS.iter().filter(|key| key.path.starts_with(FAULTS) == path.starts_with(FAULTS));
    candidates
        .map(|key| {
            // A key in the wrong table is as common a slip as a misspelt one.
            let alike = strsim::jaro_winkler(key.path, path).max(strsim::jaro_winkler(&leaf(key.path), &leaf(path)));
            (alike, key.path)
        })
        .filter(|(alike, _)| *alike > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    /// The documentation's table is this table: print what is missing, so that mending it is pasting.
    #[test]
    fn the_readme_documents_every_key_once() {
        let readme = include_str!("../../bench-configs/README.md");
        let mut missing = String::new();
        for key in KEYS {
            let default = if key.default.is_empty() { "none".to_owned() } else { format!("`{}`", key.default) };
            let row = format!("| `{}` | {} | {default} | {} |", key.path, key.kind, key.meaning);
            if readme.lines().filter(|line| *line == row).count() != 1 {
                writeln!(missing, "{row}").unwrap();
            }
        }
        assert!(missing.is_empty(), "bench-configs/README.md wants exactly once:\n{missing}");
        // Four columns: no other table has as many.
        let rows = readme.lines().filter(|line| line.starts_with("| `") && line.split(" | ").count() >= 4).count();
        assert_eq!(rows, KEYS.len(), "a documented key is none");
    }

    #[test]
    fn a_slip_finds_the_key_meant() {
        assert_eq!(nearest("server.worker"), Some("server.workers"));
        assert_eq!(nearest("workers"), Some("server.workers"));
        assert_eq!(nearest("zzz"), None);
    }
}
