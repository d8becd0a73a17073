//! Keys of the server.

use std::{collections::HashSet, path::Path, time::Duration};

use nix::sys::signal::Signal;
use toml::{Table, Value};

use super::{
    domain::{
        Boolean, Choice, Domain, Integer, Number, Optional, OrWord, POSITIVE_SPAN, SPAN, Span, Text, choice, integer,
        not_one_of, number, or_word, shown, span, text,
    },
    keys,
    lists::{ChoiceOrNumbers, LocalAddresses, Numbers, WordOrList, choice_or, numbers},
};
use crate::{
    scenario::{
        engine::EngineName,
        placement::WorkerPlaces,
        server::{AcceptFlags, AppName, AtOpenFiles, Registration, ServiceDistribution},
        strategy::{Balance, DEFAULT, Dispatch, IncomingPlaces, PRESETS, Preset, WakeName},
        subject::{CommandLine, ServerFile, SubjectName},
    },
    sys::scheduler::Policy,
};

/// The most bytes of a request or reply, so that one buffer per process is enough.
pub(super) const EXCHANGE_LIMIT_BYTES: usize = 65_536;
/// What the kernel takes for TCP_DEFER_ACCEPT and SO_BUSY_POLL is an `int`.
const WHOLE_SECONDS: Span = SPAN.step(Duration::from_secs(1), "seconds");
const WHOLE_MICROSECONDS: Span =
    span(Duration::ZERO, Duration::from_micros(i32::MAX as u64)).step(Duration::from_micros(1), "microseconds");
/// The processors that sched_setaffinity(2) of the C library can name: 0 to 1,023.
pub(super) const PROCESSORS: Numbers = numbers("processors", 1_023);
/// A file.
pub(super) const PATH: Text = text("path", |path| {
    let allowed = (1..=4_096).contains(&path.len()) && !path.contains('\0');
    (!allowed).then_some("must be the path of a file")
});
/// A network device, by a name that the kernel can have for it (IFNAMSIZ).
const DEVICE: Text = text("network device", |name| {
    let is_name = (1..=15).contains(&name.len())
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0');
    (!is_name).then_some("must be the name of a network device, such as \"lo\" or \"eth0\"")
});

keys! { SERVER:
    SERVER_SUBJECT: Choice<SubjectName> = "server.subject", choice(), SubjectName::Own,
        "The server under test. Of other servers than `own`, keys that describe our workers and listeners have no effect. `own`: \
         listenbench's, whose workers obtain connections as `server.strategy` says. `command`: a program that each trial starts. \
         `running`: one that is already running on this machine, which requires `network = \"host\"`.";
    SERVER_COMMAND: Optional<Command> = "server.command", Optional(Command), None,
        "`command`: what starts the server in its own folder, split into words as a shell would, but run without one. \
         `{dir}`, `{address}` (IPv6 in brackets), `{port}`, `{workers}` and `{backend}` are replaced here and in \
         `server.files`; other braces stay. It may stay in the foreground or exit with 0 and leave processes behind.";
    SERVER_FILES: Files = "server.files", Files, Vec::new(),
        "`command`: the text files in the server's folder, `{dir}`: a table of names and contents, or a folder, relative to \
         the scenario file (to the working directory in `--set`). A file that begins with `#!` can be executed. With app `https`, the trial adds a certificate that loaders trust: tls.crt, its key \
         tls.key, and tls.pem with both.";
    SERVER_READY_WITHIN: Span = "server.ready_within", POSITIVE_SPAN, Duration::from_secs(10),
        "`command`: the longest until the server must listen on `address` and `port`.";
    SERVER_STOP_SIGNAL: SignalName = "server.stop_signal", SignalName, Signal::SIGTERM,
        "`command`: the signal that asks the server to end. SIGKILL follows if it does not.";
    SERVER_BACKEND: Boolean = "server.backend", Boolean, false,
        "`command`: the server is a proxy. Our own server runs behind it as its upstream, as the keys of `own` describe; \
         `{backend}` is where it listens: `address` and the next port.";
    SERVER_BACKEND_WORKERS: Integer<usize> = "server.backend_workers", integer(1, 512), 1,
        "`server.backend`: worker processes of the server behind the proxy.";
    SERVER_BACKEND_PROXY_PROTOCOL: Boolean = "server.backend_proxy_protocol", Boolean, false,
        "`server.backend`: whether the proxy begins each connection to it with a PROXY protocol header, of either version, as HAProxy does \
         with `send-proxy-v2`. Connections without one are then closed, and counted as NOHEADER.";
    SERVER_STRATEGY: StrategyName = "server.strategy", StrategyName, DEFAULT,
        "How workers obtain connections; `listenbench explain` describes each strategy under its name.";
    SERVER_WORKERS: Integer<usize> = "server.workers", integer(1, 512), 2,
        "Worker processes. For a `command`: what `{workers}` stands for.";
    SERVER_LISTENERS: OrWord<Integer<usize>> =
        "server.listeners", or_word("per-worker", integer(1, SERVER_WORKERS.max())), None,
        "`reuseport*`: listeners in the group. With fewer than `server.workers`, worker w accepts from listener w mod their number, and \
         steering chooses among listeners: HAProxy calls them shards.";
    SERVER_WAKE: Choice<WakeName> = "server.wake", choice(), WakeName::Level,
        "`reuseport*` except `reuseport-uring`: how the workers of a listener learn of a connection. `level`: as in `shared-epoll`. \
         `edge`: as in `shared-epoll-edge`. `exclusive`: as in `shared-epoll-exclusive`. `blocking`: as in `shared-blocking`; not with \
         `udp`. `uring`: as in `shared-uring`; not with `udp`.";
    SERVER_BALANCE: Choice<Balance> = "server.balance", choice(), Balance::Off,
        "Whether workers pass on what they accept. Not for `dispatcher` or `shared-threads`. `off`: they keep it. `least`: a worker that \
         has more connections than the mean hands over what it accepts to the worker that has the fewest (SCM_RIGHTS), as Envoy's \
         exact balance does.";
    SERVER_BIND: LocalAddresses = "server.bind", LocalAddresses, Vec::new(),
        "Our own server's local addresses, if they are not just `address`: one, such as \"0.0.0.0\" or \"::\", or a list of up to 16. Each \
         queue of the strategy then has a listener on each of them. Clients still connect to `address`, which one of them must take.";
    SERVER_V6ONLY: Optional<Boolean> = "server.v6only", Optional(Boolean), None,
        "IPV6_V6ONLY of listeners on `::`: whether they leave IPv4 alone. Left out: as sysctl net.ipv6.bindv6only says, which is 0 unless \
         somebody has changed it; the record says what the listeners had.";
    SERVER_DEVICE: Optional<Text> = "server.device", Optional(DEVICE), None,
        "SO_BINDTODEVICE: the network device at which packets must arrive for our own server's listeners to take them. `lo` with \
         network `netns`, `veth0` with `veth`, and with `host` any, but what loaders on the same machine send arrives at `lo`.";
    SERVER_BACKLOG: Integer<i32> = "server.backlog", integer(0, 65_535), 1_024,
        "Second argument of listen(2). The queue holds min(backlog, somaxconn) + 1 connections.";
    SERVER_ACCEPT_BATCH: OrWord<Integer<u32>> = "server.accept_batch", or_word("drain", integer(1, u32::MAX)), None,
        "Most accepts per wake-up before the accepted connections are served. `drain`: until the queue is empty.";
    SERVER_ACCEPT_FLAGS: Choice<AcceptFlags> = "server.accept_flags", choice(), AcceptFlags::NonblockCloexec,
        "Flags of accept4(2). Without `nonblock`, making a connection non-blocking takes two more system calls. Not for \
         `*-uring`.";
    SERVER_DEFER_ACCEPT: Span = "server.defer_accept", WHOLE_SECONDS, Duration::ZERO,
        "TCP_DEFER_ACCEPT: accept a connection once its request has arrived, or after about this long. `0s`: off. \
         Not for apps `close` and `connect`.";
    SERVER_FASTOPEN: Integer<u32> = "server.fastopen", integer(0, 65_535), 0,
        "TCP_FASTOPEN: how many pending connections may send their request in the SYN. 0: off. Requires \
         `sysctl.tcp_fastopen = 3`. Not for apps `close` and `connect`.";
    SERVER_BUSY_POLL: Span = "server.busy_poll", WHOLE_MICROSECONDS, Duration::ZERO,
        "SO_BUSY_POLL of listeners and their connections: how long a read that finds nothing polls the device. `0s`: off. \
         Some kernels require root; loopback has nothing to poll.";
    SERVER_RECEIVE_BUFFER: Integer<u32> = "server.receive_buffer", integer(0, 1 << 30).unit("bytes"), 0,
        "SO_RCVBUF of the listeners, which the kernel doubles; with `udp` it is the queue. 0: the system's default. More \
         than sysctl net.core.rmem_max requires root.";
    SERVER_CONNECTED: Numbers = "server.connected", numbers("workers", SERVER_WORKERS.max() - 1), Vec::new(),
        "`udp` with a socket per worker: connect these workers' sockets to a peer that never sends, so that they receive \
         nothing else. Not all workers.";
    SERVER_INCOMING_CPU: ChoiceOrNumbers<IncomingPlaces> =
        "server.incoming_cpu", choice_or(PROCESSORS), WordOrList::Word(IncomingPlaces::Spread),
        "`reuseport-incoming-cpu`: which processor marks worker k's listener: the k-th allowed one, or the k-th of the list, \
         starting over at the end.";
    SERVER_ACCEPT_DELAY: Span = "server.accept_delay", SPAN, Duration::ZERO,
        "Time from the trial's start until workers begin to accept; never if the trial is shorter.";
    SERVER_ACCEPT_LATER: Span = "server.accept_later", SPAN, Duration::ZERO,
        "Where workers share a listener in epoll, and `server.balance` is `off`: how long a worker that has open connections lets others \
         go first. It waits before each accept, until they are closed. Puma waits 5 ms. `0s`: not at all.";
    SERVER_ACCEPT_MUTEX_DELAY: Span = "server.accept_mutex_delay", POSITIVE_SPAN, Duration::from_millis(500),
        "`shared-accept-mutex`: how long a worker that failed to get the lock waits before retrying.";
    SERVER_DISPATCH: Choice<Dispatch> = "server.dispatch", choice(), Dispatch::RoundRobin,
        "`dispatcher`: which worker gets a connection. `round-robin`: each in turn. `least-connections`: the one that has the fewest.";
    SERVER_HERMES_HANG: Span = "server.hermes_hang", POSITIVE_SPAN, Duration::from_millis(100),
        "`reuseport-hermes`: a listener whose workers' event loops have all been stuck for this long gets no connections.";
    SERVER_HERMES_THETA: Number = "server.hermes_theta", number(0.0, 1_000.0), 0.5,
        "`reuseport-hermes`: a listener whose workers have more than 1 + θ times the mean of connections or pending events \
         each gets no connections.";
    SERVER_OPEN_FILES: OrWord<Integer<u64>> = "server.open_files", or_word("unchanged", integer(8, 1 << 30)), None,
        "RLIMIT_NOFILE of each process of the server; at most the hard limit of listenbench's own (`ulimit -Hn`). `own`: of each worker, \
         or of the process whose threads the workers are, and of a dispatcher. A worker can hold as many connections as it has descriptors free \
         before the first: its member in the record has both numbers, in `descriptors`. `command`: the soft and the hard limit of what it starts, \
         which some servers raise as root. `unchanged`: workers of `own` have the hard limit, a command what listenbench was started with.";
    SERVER_AT_OPEN_FILES: Choice<AtOpenFiles> = "server.at_open_files", choice(), AtOpenFiles::Pause,
        "What a worker does when accept(2) fails for want of a descriptor (EMFILE, ENFILE). `pause`: it takes its listener out of epoll \
         until one of its connections closes, and the others wait in the queue. `spin`: it leaves it there, is woken again at once, and so on. \
         `reserve`: it frees a spare descriptor, accepts, closes the connection and takes a spare one again, as libuv does.";
    SERVER_REGISTRATION: Choice<Registration> = "server.registration", choice(), Registration::Ascending,
        "Order in which workers add their listeners to epoll; EPOLLEXCLUSIVE wakes the first idle one. `ascending`: worker 0 first. \
         `descending`: worker 0 last. `shuffled`: as seed and repetition decide.";
    SERVER_PIN: ChoiceOrNumbers<WorkerPlaces> =
        "server.pin", choice_or(PROCESSORS), WordOrList::Word(WorkerPlaces::None),
        "`spread`: worker k runs on the k-th allowed processor only, starting over at the end. A list: on the k-th of the \
         list.";
    SERVER_SCHEDULER: Choice<Policy> = "server.scheduler", choice(), Policy::Normal,
        "How the kernel schedules workers. `normal`: as usual. `batch`: SCHED_BATCH, where waking up preempts no other process. \
         `fifo`: SCHED_FIFO, ahead of everything else, which requires root or RLIMIT_RTPRIO.";
    SERVER_ENGINE: Choice<EngineName> = "server.engine", choice(), EngineName::Mio,
        "What moves the bytes of workers' connections. `mio`: epoll. `uring`: io_uring (Linux 6.1), not with EPOLLEXCLUSIVE. `auto`: \
         `uring` where kernel and strategy allow it, else `mio`.";
    SERVER_NODELAY: Boolean = "server.nodelay", Boolean, true,
        "TCP_NODELAY on the sockets of both ends.";
    SERVER_APP: Choice<AppName> = "server.app", choice(), AppName::Echo,
        "`close`: accept, then close. `connect`: clients connect, say nothing for `load.hold`, and close. `echo`: fixed-size requests and replies. \
         `http`: HTTP/1.1 with a fixed reply. `https`: the same over TLS. `line`: for another server: send `load.send`, expect `load.expect`.";
    SERVER_REQUEST_BYTES: Integer<usize> = "server.request_bytes", integer(4, EXCHANGE_LIMIT_BYTES).unit("bytes"), 64,
        "Size of an `echo` request, which begins with the client's 4-byte nonce. At most 65507 with `udp`.";
    SERVER_REPLY_BYTES: Integer<usize> = "server.reply_bytes", integer(0, EXCHANGE_LIMIT_BYTES).unit("bytes"), 64,
        "Size of an `echo` reply (at least 16; at most 65507 with `udp`; from 52 on it carries the whole 4-tuple, not just a \
         digest) or of the body of an `http` or `https` reply.";
    SERVER_CERTIFICATE: Optional<Text> = "server.certificate", Optional(PATH), None,
        "`https`: the file with our own server's certificate in PEM form, and after it those that lead to one that clients trust. Its path is \
         relative to the scenario file (to the working directory in `--set`), as the key's. Left out: a certificate made at start, which loaders trust and other clients do not.";
    SERVER_PRIVATE_KEY: Optional<Text> = "server.private_key", Optional(PATH), None,
        "`https`: the file that has the certificate's key in PEM form.";
    SERVER_LARGER_DATAGRAMS: Boolean = "server.larger_datagrams", Boolean, false,
        "`udp`: reply with datagrams larger than the requests on an address beyond loopback, too. Whoever forges a request's sender can \
         then have other machines flooded.";
    SERVER_SERVICE_TIME: Span = "server.service_time", SPAN, Duration::ZERO,
        "CPU time a worker burns per request, or per connection with apps `close` and `connect`: the mean, or the short time of `bimodal`.";
    SERVER_SERVICE_DISTRIBUTION: Choice<ServiceDistribution> =
        "server.service_distribution", choice(), ServiceDistribution::Fixed,
        "How service times are distributed. `fixed`: all are `server.service_time`. `exponential`: that is their mean. `bimodal`: a share of \
         them, `server.service_long_share`, takes `server.service_time_long` instead.";
    SERVER_SERVICE_TIME_LONG: Span = "server.service_time_long", SPAN, Duration::from_millis(10),
        "`bimodal`: the long service time.";
    SERVER_SERVICE_LONG_SHARE: Number = "server.service_long_share", number(0.0, 1.0), 0.01,
        "`bimodal`: share of requests that take the long time.";
}

/// The name of a strategy.
#[derive(Debug, Clone, Copy)]
pub struct StrategyName;

impl Domain for StrategyName {
    type Value = &'static Preset;

    fn parse(&self, value: &Value) -> Result<Self::Value, String> {
        let named = PRESETS.iter().find(|preset| value.as_str() == Some(preset.name));
        named.copied().ok_or_else(|| not_one_of(&self.words(), "", value))
    }

    fn to_toml(&self, value: &Self::Value) -> Option<Value> {
        Some(Value::String(value.name.to_owned()))
    }

    fn describe(&self) -> String {
        "strategy".to_owned()
    }

    fn words(&self) -> Vec<&'static str> {
        PRESETS.iter().map(|preset| preset.name).collect()
    }
}

/// A command line, split into words as a shell would split it.
#[derive(Debug, Clone, Copy)]
pub struct Command;

impl Domain for Command {
    type Value = CommandLine;

    fn parse(&self, value: &Value) -> Result<CommandLine, String> {
        let Value::String(text) = value else {
            return Err(format!("must be a command in quotes, such as \"nginx -p {{dir}}\", not {}", shown(value)));
        };
        let words = shlex::split(text)
            .ok_or_else(|| format!("a quotation mark or backslash is left open in {}", shown(value)))?;
        if words.first().is_none_or(String::is_empty) {
            return Err("names no program".to_owned());
        }
        if text.contains('\0') {
            return Err("contains a NUL byte, which no argument can".to_owned());
        }
        Ok(CommandLine { text: text.clone(), words })
    }

    fn to_toml(&self, value: &CommandLine) -> Option<Value> {
        Some(Value::String(value.text.clone()))
    }

    fn describe(&self) -> String {
        "command".to_owned()
    }
}

/// More files of a server are a mistake.
pub const FILES_LIMIT: usize = 1_000;

/// Files by name. A folder's name is replaced by its files before it gets here.
#[derive(Debug, Clone, Copy)]
pub struct Files;

impl Domain for Files {
    type Value = Vec<ServerFile>;

    fn parse(&self, value: &Value) -> Result<Vec<ServerFile>, String> {
        let wrong = || format!("must be a folder or a table of names and contents, not {}", shown(value));
        let table = value.as_table().ok_or_else(wrong)?;
        if table.len() > FILES_LIMIT {
            return Err(format!("names more than {FILES_LIMIT} files"));
        }
        let files = table.iter().map(|(name, contents)| {
            let shown_name = Value::String(name.clone());
            if let Some(problem) = misnamed(name) {
                return Err(format!("{shown_name} {problem}"));
            }
            match contents {
                Value::String(contents) => Ok(ServerFile { name: name.clone(), contents: contents.clone() }),
                Value::Table(inner) => Err(format!(
                    "a name that contains a dot must be in quotes: \"{name}.{}\"",
                    inner.keys().next().map_or("…", |inner| inner)
                )),
                other => Err(format!("the contents of {shown_name} must be a string, not {}", shown(other))),
            }
        });
        let files: Vec<ServerFile> = files.collect::<Result<_, _>>()?;
        let folders = |file: &ServerFile| file.name.match_indices('/').map(|(end, _)| end).collect::<Vec<_>>();
        let folders: HashSet<&str> =
            files.iter().flat_map(|file| folders(file).into_iter().map(|end| &file.name[..end])).collect();
        match files.iter().find(|file| folders.contains(&file.name[..])) {
            Some(outer) => Err(format!("\"{}\" cannot be both a file and a folder", outer.name)),
            None => Ok(files),
        }
    }

    fn to_toml(&self, value: &Vec<ServerFile>) -> Option<Value> {
        let table: Table = value.iter().map(|file| (file.name.clone(), Value::String(file.contents.clone()))).collect();
        Some(Value::Table(table))
    }

    fn describe(&self) -> String {
        "folder, or table of names and contents".to_owned()
    }
}

/// What is wrong with the name of a server's file.
fn misnamed(name: &str) -> Option<&'static str> {
    use std::path::Component;
    let below = !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    // What `components` leaves out.
    let odd = name.ends_with('/') || name.contains("//") || name.contains("/./") || name.contains('\0');
    (!below || odd).then_some("must be a path below the server's folder, such as \"nginx.conf\" or \"sites/one.conf\"")
}

/// The name of a signal.
#[derive(Debug, Clone, Copy)]
pub struct SignalName;

impl Domain for SignalName {
    type Value = Signal;

    fn parse(&self, value: &Value) -> Result<Signal, String> {
        let signal = value.as_str().and_then(|name| name.parse().or_else(|_| format!("SIG{name}").parse()).ok());
        signal.ok_or_else(|| {
            format!("must be the name of a signal, such as \"SIGTERM\" or \"HUP\", not {}", shown(value))
        })
    }

    fn to_toml(&self, value: &Signal) -> Option<Value> {
        Some(Value::String(value.as_str().to_owned()))
    }

    fn describe(&self) -> String {
        "signal".to_owned()
    }
}
