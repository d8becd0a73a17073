//! The ports that loaders may use, and how many connections per second those can sustain indefinitely.

use crate::{
    load::source,
    observe::{ports::Range, sysctl},
    record::TrialRecord,
    scenario::{CloseBy, CloseHow, Scenario, Selection},
};

/// Enters both figures for the calling process's network.
pub(super) fn enter(scenario: &Scenario, record: &mut TrialRecord) {
    record.usable_ports = Range::read().map_or(0, |range| range.usable());
    record.ports_ceiling_per_s = ceiling_per_s(scenario, record.usable_ports);
}

/// Connections per second that the loaders' ports can sustain indefinitely in the calling process's network. A client that closes
/// first by FIN leaves its port in TIME_WAIT for a minute or, if tcp_tw_reuse allows, for tcp_tw_reuse_delay. A client that binds to
/// its port may take it over at once (kernel, tcp_twsk_unique without a death row).
fn ceiling_per_s(scenario: &Scenario, usable: u64) -> Option<f64> {
    /// TCP_TIMEWAIT_LEN of the kernel's include/net/tcp.h.
    const TIME_WAIT_S: f64 = 60.0;
    let load = &scenario.load;
    if load.close_by != CloseBy::Client
        || load.close_how != CloseHow::Fin
        || load.udp_share >= 1.0
        || scenario.sources.selection == Selection::Explicit
    {
        return None;
    }
    let number = |name: &str| sysctl::read(name).and_then(|text| text.parse::<f64>().ok());
    let reuse = number("tcp_tw_reuse").unwrap_or(2.0);
    let rests_s = if reuse == 1.0 || (reuse == 2.0 && scenario.address.ip().is_loopback()) {
        number("tcp_tw_reuse_delay").unwrap_or(1_000.0) / 1_000.0
    } else {
        TIME_WAIT_S
    };
    let groups = source::groups(&scenario.sources, &[scenario.address]).len() as u64;
    (rests_s > 0.0).then(|| (groups * usable) as f64 / rests_s)
}
