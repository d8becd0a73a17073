//! Keys of a trial that are neither the server's nor the load's.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{
    domain::{Choice, Integer, OrWord, SPAN, Span, choice, integer, or_word, span},
    keys,
    lists::Address,
};
use crate::scenario::model::{Kind, Network, Protocol, Stamps};

/// At the shortest interval, sampling takes about a tenth of the time.
const SAMPLING: Span = span(MILLISECOND, Duration::from_millis(100)).step(MILLISECOND, "milliseconds");
const MILLISECOND: Duration = Duration::from_millis(1);

keys! { TRIAL:
    KIND: Choice<Kind> = "kind", choice(), Kind::Listen,
        "`listen`: a server under load. `ports`: filling the ephemeral ports (see below).";
    NETWORK: Choice<Network> = "network", choice(), Network::Namespace,
        "`netns`: a network namespace per trial, loopback only. `veth`: two namespaces per trial, joined by a pair of \
         virtual Ethernet devices. `host`: this machine's network, whose sysctls are left alone.";
    PROTOCOL: Choice<Protocol> = "protocol", choice(), Protocol::Tcp,
        "Connections, datagrams, or both on the same port number, as DNS servers do. `udp` requires app `echo` and a \
         strategy that supports datagrams.";
    STAMPS: Choice<Stamps> = "stamps", choice(), Stamps::Auto,
        "How accept waits are measured: exactly, by a BPF program (`sock_ops`, requires root); from the client's connect \
         call, an upper bound; or both, side by side. `auto`: exactly where possible.";
    QUEUE_INTERVAL: Span = "queue_interval", SAMPLING, Duration::from_millis(10),
        "Time between samples of the listeners' queues (sock_diag). `host.json` records the cost of a sample.";
    ADDRESS: Address = "address", Address, IpAddr::V4(Ipv4Addr::LOCALHOST),
        "Address the server listens on and the loaders connect to. `veth`: any unicast address except loopback, by \
         default `198.18.0.1`; the loaders' address differs in the last bit.";
    PORT: Integer<u16> = "port", integer(1, u16::MAX), 7_000,
        "Port the server listens on.";
    DEADLINE: OrWord<Span> = "deadline", or_word("auto", SPAN), None,
        "A trial still running this long after its start is ended and invalid. `auto`: the load's planned length \
         and timeouts, plus 10 s.";
}
