//! Rules about what packets passed on their way to the server.

use crate::record::{Connections, Firewall, Grounds};

/// Whether connections were established whose packets did not pass the generated rules.
pub(super) fn bypassed(firewall: &Firewall, connections: &Connections) -> Option<Grounds> {
    let (established, passed) = (connections.established - connections.self_connected, firewall.passed?);
    // Each begins with a packet that no earlier connection accounts for.
    (passed < established).then_some(Grounds::RulesBypassed { established, passed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_a_packet_that_passed_the_rules() {
        let of = |passed, established, self_connected| {
            let connections = Connections { established, self_connected, ..Connections::default() };
            bypassed(&Firewall { passed, ..Firewall::default() }, &connections).is_some()
        };
        assert!(!of(Some(10), 10, 0) && !of(Some(60), 10, 0) && !of(None, 10, 0) && !of(Some(9), 10, 1));
        assert!(of(Some(9), 10, 0));
    }
}
