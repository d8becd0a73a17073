//! Keys of source NAT in front of the clients.

use super::{
    domain::{Choice, Integer, choice, integer},
    keys,
};
use crate::scenario::nat::NatPorts;

keys! { NAT:
    NAT_CLIENTS: Integer<u32> = "nat.clients", integer(0, 4_096), 0,
        "Clients behind source NAT: connections come from this many addresses in turn, and all of them reach the server from a single one. 0: no NAT. \
         Their addresses are 100.64.0.1 and those that follow (RFC 6598), or fd00:6e61:74::1 over IPv6. Requires nft, network `veth`, and \
         `load.source_ports` other than `kernel`.";
    NAT_PORTS: Choice<NatPorts> = "nat.ports", choice(), NatPorts::Kept,
        "How NAT chooses the port that the server sees. `kept`: the client's own, unless another connection has it or it is not in the range. `random`: \
         from a start that differs for each (`masquerade random`). `fully-random`: any, by chance (`masquerade fully-random`).";
    NAT_PORT_COUNT: Integer<u32> = "nat.port_count", integer(0, 64_512), 0,
        "Ports that NAT may choose from, from 1024 on. 0: those that the kernel allows, about 64,000.";
}
