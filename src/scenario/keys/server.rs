//! Keys of the server.

use std::time::Duration;

use toml::Value;

use super::{
    domain::{
        Boolean, Choice, Domain, Integer, Number, OrWord, POSITIVE_SPAN, SPAN, Span, choice, integer, number, or_word,
        quoted, shown, span,
    },
    keys,
    lists::{ChoiceOrNumbers, Numbers, WordOrList, choice_or, numbers},
};
use crate::{
    scenario::{
        placement::WorkerPlaces,
        server::{AcceptFlags, AppName, Registration, ServiceDistribution},
        strategy::{DEFAULT, Dispatch, IncomingPlaces, PRESETS, Preset},
    },
    sys::scheduler::Policy,
};

/// The most bytes of a request or reply, so that one buffer per process is enough.
const EXCHANGE_LIMIT_BYTES: usize = 65_536;
/// What the kernel takes for TCP_DEFER_ACCEPT and SO_BUSY_POLL is an `int`.
const WHOLE_SECONDS: Span = SPAN.step(Duration::from_secs(1), "seconds");
const WHOLE_MICROSECONDS: Span =
    span(Duration::ZERO, Duration::from_micros(i32::MAX as u64)).step(Duration::from_micros(1), "microseconds");
/// The processors that sched_setaffinity(2) of the C library can name: 0 to 1,023.
pub(super) const PROCESSORS: Numbers = numbers("processors", 1_023);

keys! { SERVER:
    SERVER_STRATEGY: StrategyName = "server.strategy", StrategyName, DEFAULT,
        "How workers obtain connections: see the strategies below.";
    SERVER_WORKERS: Integer<usize> = "server.workers", integer(1, 512), 2,
        "Worker processes.";
    SERVER_BACKLOG: Integer<i32> = "server.backlog", integer(0, 65_535), 1_024,
        "Second argument of listen(2). The queue holds min(backlog, somaxconn) + 1 connections.";
    SERVER_ACCEPT_BATCH: OrWord<Integer<u32>> = "server.accept_batch", or_word("drain", integer(1, u32::MAX)), None,
        "Most accepts per wake-up before the accepted connections are served. `drain`: until the queue is empty.";
    SERVER_ACCEPT_FLAGS: Choice<AcceptFlags> = "server.accept_flags", choice(), AcceptFlags::NonblockCloexec,
        "Flags of accept4(2). Without `nonblock`, making a connection non-blocking takes two more system calls. Not for \
         `*-uring`.";
    SERVER_DEFER_ACCEPT: Span = "server.defer_accept", WHOLE_SECONDS, Duration::ZERO,
        "TCP_DEFER_ACCEPT: accept a connection once its request has arrived, or after about this long. `0s`: off. \
         Not for app `close`.";
    SERVER_FASTOPEN: Integer<u32> = "server.fastopen", integer(0, 65_535), 0,
        "TCP_FASTOPEN: how many pending connections may send their request in the SYN. 0: off. Requires \
         `sysctl.tcp_fastopen = 3`. Not for app `close`.";
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
    SERVER_ACCEPT_MUTEX_DELAY: Span = "server.accept_mutex_delay", POSITIVE_SPAN, Duration::from_millis(500),
        "`shared-accept-mutex`: how long a worker that failed to get the lock waits before retrying.";
    SERVER_DISPATCH: Choice<Dispatch> = "server.dispatch", choice(), Dispatch::RoundRobin,
        "`dispatcher`: which worker gets a connection.";
    SERVER_HERMES_HANG: Span = "server.hermes_hang", POSITIVE_SPAN, Duration::from_millis(100),
        "`reuseport-hermes`: a worker whose event loop has been stuck for this long gets no connections.";
    SERVER_HERMES_THETA: Number = "server.hermes_theta", number(0.0, 1_000.0), 0.5,
        "`reuseport-hermes`: a worker with more than 1 + θ times the mean of connections or pending events gets no \
         connections.";
    SERVER_REGISTRATION: Choice<Registration> = "server.registration", choice(), Registration::Ascending,
        "Order, by worker number, in which workers add their listeners to epoll. EPOLLEXCLUSIVE wakes the first \
         idle one.";
    SERVER_PIN: ChoiceOrNumbers<WorkerPlaces> =
        "server.pin", choice_or(PROCESSORS), WordOrList::Word(WorkerPlaces::None),
        "`spread`: worker k runs on the k-th allowed processor only, starting over at the end. A list: on the k-th of the \
         list.";
    SERVER_SCHEDULER: Choice<Policy> = "server.scheduler", choice(), Policy::Normal,
        "How the kernel schedules workers: as usual; SCHED_BATCH, where waking up preempts no other process; or \
         SCHED_FIFO, ahead of everything else, which requires root or RLIMIT_RTPRIO.";
    SERVER_NODELAY: Boolean = "server.nodelay", Boolean, true,
        "TCP_NODELAY on the sockets of both ends.";
    SERVER_APP: Choice<AppName> = "server.app", choice(), AppName::Echo,
        "`close`: accept, then close. `echo`: fixed-size requests and replies. `http`: HTTP/1.1 with a fixed reply.";
    SERVER_REQUEST_BYTES: Integer<usize> = "server.request_bytes", integer(4, EXCHANGE_LIMIT_BYTES).unit("bytes"), 64,
        "Size of an `echo` request, which begins with the client's 4-byte nonce. At most 65507 with `udp`.";
    SERVER_REPLY_BYTES: Integer<usize> = "server.reply_bytes", integer(0, EXCHANGE_LIMIT_BYTES).unit("bytes"), 64,
        "Size of an `echo` reply (at least 16; at most 65507 with `udp`; from 52 on it carries the whole 4-tuple, not just a \
         digest) or of the body of an `http` reply.";
    SERVER_SERVICE_TIME: Span = "server.service_time", SPAN, Duration::ZERO,
        "CPU time a worker burns per request, or per connection with app `close`: the mean, or the short time of `bimodal`.";
    SERVER_SERVICE_DISTRIBUTION: Choice<ServiceDistribution> =
        "server.service_distribution", choice(), ServiceDistribution::Fixed,
        "How service times are distributed.";
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
        let names = || PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>();
        named.copied().ok_or_else(|| format!("must be one of {}, not {}", quoted(&names()), shown(value)))
    }

    fn to_toml(&self, value: &Self::Value) -> Option<Value> {
        Some(Value::String(value.name.to_owned()))
    }

    fn describe(&self) -> String {
        "strategy".to_owned()
    }
}
