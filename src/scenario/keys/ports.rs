//! Keys of scenarios that fill the ports.

use std::time::Duration;

use super::{
    domain::{Integer, Number, POSITIVE_SPAN, Span, integer, number},
    keys,
    lists::{Addresses, Ports},
};

keys! { PORTS:
    PORTS_DESTINATION_ADDRESSES: Addresses = "ports.destination_addresses", Addresses, Vec::new(),
        "Addresses to connect to, in turn, written as in `load.source_addresses`. Empty: `address`.";
    PORTS_DESTINATION_PORTS: Ports = "ports.destination_ports", Ports, Vec::new(),
        "Ports to connect to, e.g. `7000-7003,8000`. Empty: `port`.";
    PORTS_UNTIL: Number = "ports.until", number(0.001, 1.0), 1.0,
        "Stop at this share of the capacity; 1: at the wall.";
    PORTS_STEPS: Integer<usize> = "ports.steps", integer(10, 1_000), 200,
        "Points of the curve.";
    PORTS_RECOVER: Number = "ports.recover", number(0.0, 1.0), 0.0,
        "After everything is closed, measure the time until this share of the capacity is available again. 0: off.";
    PORTS_RECOVER_WITHIN: Span = "ports.recover_within", POSITIVE_SPAN, Duration::from_secs(90),
        "Longest time to wait for that.";
}
