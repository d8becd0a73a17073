//! Which requests of an access log came over one connection.

use std::collections::HashMap;

use anyhow::Result;

use super::{Arrival, SECOND_NS, access_log::Client};

/// How long after its last request a connection identified by its client's address and port may still be open: nginx's default of
/// `keepalive_timeout`. A later request with the same address and port came over another one.
const IDLE_NS: i64 = 75 * SECOND_NS;

/// The same for one with a serial number, which no other has before nginx restarts.
const IDLE_SERIAL_NS: i64 = 3_600 * SECOND_NS;

/// Requests after which connections that have ended are looked for.
const SWEEP: u64 = 1 << 16;

/// The connections that may still be open, as the log's lines go by.
#[derive(Debug, Default)]
pub(super) struct KeepAlive {
    open: HashMap<Client, Open>,
    /// When the last request ended.
    now_ns: i64,
    since_sweep: u64,
    /// How many were left by the last sweep.
    left: u64,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    first_ns: i64,
    last_ns: i64,
    requests: u32,
}

impl Open {
    /// The time between it and a request, which may be earlier: lines of a log may be in any order. Not above 0 where they overlap.
    fn gap_ns(&self, start_ns: i64, end_ns: i64) -> i64 {
        start_ns.saturating_sub(self.last_ns).max(self.first_ns.saturating_sub(end_ns))
    }

    fn arrival(self) -> Arrival {
        Arrival { at_ns: self.first_ns, requests: Some(self.requests), hold_ns: None }
    }
}

fn idle_ns(client: Client) -> i64 {
    match client {
        Client::Serial(_) => IDLE_SERIAL_NS,
        Client::End(_) => IDLE_NS,
    }
}

impl KeepAlive {
    /// Takes a request that lasted from one instant to another, and emits the connection that it shows to have ended.
    pub fn request(
        &mut self,
        client: Client,
        (start_ns, end_ns): (i64, i64),
        ordinal: Option<u64>,
        emit: &mut dyn FnMut(Arrival) -> Result<()>,
    ) -> Result<()> {
        self.now_ns = self.now_ns.max(end_ns);
        let new = Open { first_ns: start_ns, last_ns: end_ns, requests: 1 };
        match self.open.get_mut(&client) {
            Some(open) if ordinal != Some(1) && open.gap_ns(start_ns, end_ns) <= idle_ns(client) => {
                open.first_ns = open.first_ns.min(start_ns);
                open.last_ns = open.last_ns.max(end_ns);
                open.requests = open.requests.saturating_add(1);
            }
            Some(open) => {
                let ended = std::mem::replace(open, new);
                emit(ended.arrival())?;
            }
            None => {
                self.open.insert(client, new);
            }
        }
        self.since_sweep += 1;
        // Both bounds keep the memory to the connections of a few minutes, and the time to a constant for each request.
        if self.since_sweep >= SWEEP.max(self.left) {
            self.since_sweep = 0;
            let now_ns = self.now_ns;
            let ended = self.open.extract_if(|client, open| open.last_ns.saturating_add(idle_ns(*client)) < now_ns);
            ended.map(|(_, open)| open.arrival()).try_for_each(emit)?;
            self.left = self.open.len() as u64;
        }
        Ok(())
    }

    /// The log has ended: emits what was still open.
    pub fn end(self, emit: &mut dyn FnMut(Arrival) -> Result<()>) -> Result<()> {
        self.open.into_values().map(Open::arrival).try_for_each(emit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(requests: &[(Client, i64, Option<u64>)]) -> Vec<(i64, u32)> {
        let mut all = Vec::new();
        let mut emit = |arrival: Arrival| {
            all.push((arrival.at_ns / SECOND_NS, arrival.requests.unwrap()));
            Ok(())
        };
        let mut keep_alive = KeepAlive::default();
        for (client, at_s, ordinal) in requests {
            let at_ns = at_s * SECOND_NS;
            keep_alive.request(*client, (at_ns, at_ns), *ordinal, &mut emit).unwrap();
        }
        keep_alive.end(&mut emit).unwrap();
        all.sort_unstable();
        all
    }

    #[test]
    fn requests_of_one_client_and_port_are_one_connection_until_it_idles() {
        let (a, b) = (Client::of_end(b"192.0.2.1", 1), Client::of_end(b"192.0.2.1", 2));
        let requests = [(a, 0, None), (b, 1, None), (a, 75, None), (a, 151, None), (b, 2, None)];
        assert_eq!(connections(&requests), [(0, 2), (1, 2), (151, 1)]);
        // The newer log may come first, and lines in any order.
        assert_eq!(connections(&[(a, 500, None), (a, 510, None), (a, 0, None), (a, 10, None)]), [(0, 2), (500, 2)]);
        assert_eq!(connections(&[(a, 20, None), (a, 10, None), (a, 0, None)]), [(0, 3)]);
        assert_eq!(connections(&[(a, 0, Some(1)), (a, 1, Some(2)), (a, 2, Some(1))]), [(0, 2), (2, 1)]);
        assert_eq!(connections(&[(Client::Serial(7), 0, None), (Client::Serial(7), 3_600, None)]), [(0, 2)]);
    }

    #[test]
    fn connections_that_have_ended_are_forgotten() {
        let mut keep_alive = KeepAlive::default();
        let mut emitted = 0_u64;
        for port in 0..4 * SWEEP {
            let at_ns = port as i64 * SECOND_NS / 10;
            let mut emit = |_| {
                emitted += 1;
                Ok(())
            };
            keep_alive.request(Client::of_end(b"::1", port), (at_ns, at_ns), None, &mut emit).unwrap();
        }
        assert!(keep_alive.open.len() as u64 <= SWEEP + 751, "{}", keep_alive.open.len());
        assert_eq!(emitted + keep_alive.open.len() as u64, 4 * SWEEP);
    }
}
