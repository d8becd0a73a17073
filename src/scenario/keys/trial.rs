//! Keys of a trial that are neither the server's nor the load's.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{
    domain::{Choice, Integer, OrWord, SPAN, Span, choice, integer, or_word, span},
    keys,
    lists::{Address, Listens},
};
use crate::scenario::model::{Admit, Kind, Network, Probe, Protocol, Stamps};

/// At the shortest interval, sampling takes about a tenth of the time.
const SAMPLING: Span = span(MILLISECOND, Duration::from_millis(100)).step(MILLISECOND, "milliseconds");
const MILLISECOND: Duration = Duration::from_millis(1);

keys! { TRIAL:
    KIND: Choice<Kind> = "kind", choice(), Kind::Listen,
        "`listen`: a server under load. `ports`: filling the ephemeral ports, as the keys of `[ports]` say.";
    NETWORK: Choice<Network> = "network", choice(), Network::Namespace,
        "`netns`: a network namespace per trial, loopback only. `veth`: two namespaces per trial, joined by a pair of \
         virtual Ethernet devices. `host`: this machine's network, whose sysctls are left alone.";
    PROTOCOL: Choice<Protocol> = "protocol", choice(), Protocol::Tcp,
        "What the load consists of; datagrams require app `echo` and a strategy that supports them. `tcp`: connections. `udp`: datagrams. \
         `tcp+udp`: both on the same port number, as DNS servers do. `mptcp`: connections for which both ends ask for Multipath TCP (Linux 5.16); \
         those that become plain TCP are counted. Not with strategies in which a program chooses the listener.";
    STAMPS: Choice<Stamps> = "stamps", choice(), Stamps::Auto,
        "How accept waits are measured. `sock_ops`: exactly, by a BPF program, which requires root. `connect-call`: from the client's connect \
         call, an upper bound. `both`: side by side. `auto`: exactly where possible, else from the connect call.";
    PROBE: Choice<Probe> = "probe", choice(), Probe::Auto,
        "How a BPF program counts accepts from outside the server (requires root). `btf`: with exact waits, by the kernel's type information. \
         `tracepoints`: with exact waits, by the peer's address. `counts`: without waits. `off`: not at all. `auto`: the first of these \
         that works; for our own server, which counts itself, `off`.";
    QUEUE_INTERVAL: Span = "queue_interval", SAMPLING, Duration::from_millis(10),
        "Time between samples of the listeners' queues (sock_diag). `host.json` records the cost of a sample.";
    ADDRESS: Address = "address", Address, Listens::At(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        "Address the server listens on and the loaders connect to. `veth`: any unicast address except loopback, by \
         default `198.18.0.1`; the loaders' address differs in the last bit. A Unix socket: `unix:/path`, `unix:{dir}/path` in a folder of the \
         trial's own, which is the command's, or `unix:@name` for an abstract name; not with `veth`. With `unixpacket:` in place of `unix:`, the socket is not a stream, but keeps \
         the bounds of messages (SOCK_SEQPACKET).";
    PORT: Integer<u16> = "port", integer(1, u16::MAX), 7_000,
        "Port the server listens on. A Unix socket has none.";
    HOSTS_SERVER: Integer<usize> = "hosts.server", integer(0, 63), 0,
        "The server host that has the server under test, by its rank: less than `hosts.servers`.";
    HOSTS_ADMIT: Choice<Admit> = "hosts.admit", choice(), Admit::Job,
        "Whom our own server serves in a job; without a launcher, it has no effect. `job`: connections from other hosts than the job's are closed at \
         once. `anyone`: they are served. In both cases they are counted as `foreign`.";
    DEADLINE: OrWord<Span> = "deadline", or_word("auto", SPAN), None,
        "A trial still running this long after its start is ended and invalid. `auto`: the load's planned length \
         and timeouts, plus 10 s.";
}
