//! The ports that loaders may use, and how many connections per second those can sustain indefinitely.

use serde::{Deserialize, Serialize};

use crate::{
    load::source,
    observe::{ports::Range, sysctl},
    record::TrialRecord,
    scenario::{CloseBy, CloseHow, Load, Scenario, Selection},
};

/// Both figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// Ports of the tuple group that has fewest.
    usable: u64,
    /// `None` if ports do not rest after use.
    per_s: Option<f64>,
}

impl Ceiling {
    /// Those of the calling process's network.
    pub fn of(scenario: &Scenario) -> Self {
        let sources = scenario.sources();
        let groups = source::groups(&sources, &[scenario.address]);
        let bound = source::bound(scenario).unwrap_or_default();
        let usable = Range::read().map(|range| source::usable(&range, sources.selection, &groups, &bound));
        let usable = usable.unwrap_or_default();
        let per_s = ceiling_per_s(scenario, usable.iter().sum());
        Self { usable: usable.iter().copied().min().unwrap_or(0), per_s }
    }

    /// Those of several hosts together.
    pub fn of_hosts(hosts: impl Iterator<Item = Self>) -> Option<Self> {
        hosts.reduce(|one, other| Self {
            usable: one.usable.min(other.usable),
            per_s: one.per_s.zip(other.per_s).map(|(one, other)| one + other),
        })
    }

    /// Enters both in a record.
    pub fn enter(self, record: &mut TrialRecord) {
        record.usable_ports = self.usable;
        record.ports_ceiling_per_s = self.per_s;
    }
}

/// Connections per second that the loaders' ports can sustain indefinitely in the calling process's network. A client that closes
/// first by FIN leaves its port in TIME_WAIT for a minute or, if tcp_tw_reuse allows, for tcp_tw_reuse_delay. A client that binds to
/// its port may take it over at once (kernel, tcp_twsk_unique without a death row).
fn ceiling_per_s(scenario: &Scenario, ports: u64) -> Option<f64> {
    /// TCP_TIMEWAIT_LEN of the kernel's include/net/tcp.h.
    const TIME_WAIT_S: f64 = 60.0;
    let rests = |load: &Load| {
        load.close_by == CloseBy::Client
            && load.close_how == CloseHow::Fin
            && load.udp_share < 1.0
            && load.sources.selection != Selection::Explicit
    };
    // Behind NAT, the ports that the server sees are others. When closed connections give those back depends on the kernel: 6.18 takes them
    // again as soon as no other is free, older ones when their entries go.
    if scenario.nat.is_some() || !scenario.loads.iter().all(rests) {
        return None;
    }
    let number = |name: &str| sysctl::read(name).and_then(|text| text.parse::<f64>().ok());
    let reuse = number("tcp_tw_reuse").unwrap_or(2.0);
    let rests_s = if reuse == 1.0 || (reuse == 2.0 && scenario.address.ip().is_loopback()) {
        number("tcp_tw_reuse_delay").unwrap_or(1_000.0) / 1_000.0
    } else {
        TIME_WAIT_S
    };
    (rests_s > 0.0).then(|| ports as f64 / rests_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_sustain_together_what_each_does() {
        let of = |usable, per_s| Ceiling { usable, per_s };
        let both = |one, other| Ceiling::of_hosts([one, other].into_iter());
        assert_eq!(both(of(7, Some(1.5)), of(5, Some(2.0))), Some(of(5, Some(3.5))));
        assert_eq!(both(of(7, Some(1.5)), of(9, None)), Some(of(7, None)));
        assert_eq!(Ceiling::of_hosts(std::iter::empty()), None);
    }
}
