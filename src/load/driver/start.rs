//! From a due start to a session.

use std::io;

use anyhow::Result;

use super::{Driver, ERROR_PAUSE_NS};
use crate::{
    ipc::control::LoaderCount,
    load::{
        clock::Clock,
        engine::{Engine, Taken},
        observer::Observer,
        session::{Action, Session, Start},
    },
    record::{Cause, Latency, Step},
    scenario::Transport,
};

impl<E: Engine, O: Observer, C: Clock> Driver<E, O, C> {
    /// Starts a connection or flow that was due at `intended_ns`.
    pub(super) fn start(&mut self, intended_ns: u64) -> Result<()> {
        self.shared.report.attempted += 1;
        self.shared.observer.count(LoaderCount::Attempted);
        let transport = self.next_transport();
        match self.connect(transport, intended_ns) {
            Ok((key, session)) => {
                self.table.insert(key, session);
                if self.send_first(key) {
                    self.engine.watch(key)?;
                }
            }
            Err((step, error)) => {
                let now_ns = self.clock.now_ns();
                self.shared.failed(step, Cause::from(&error), now_ns);
                self.pacer.freed(now_ns + ERROR_PAUSE_NS);
            }
        }
        Ok(())
    }

    /// Spreads the scenario's share of flows evenly over the starts.
    fn next_transport(&mut self) -> Transport {
        self.flows_owed += self.settings.udp_share;
        if self.flows_owed >= 1.0 {
            self.flows_owed -= 1.0;
            return Transport::Udp;
        }
        Transport::Tcp
    }

    fn connect(&mut self, transport: Transport, intended_ns: u64) -> Result<(usize, Session), (Step, io::Error)> {
        let opened = self.engine.open(transport, &self.dialler);
        self.shared.report.recycled += u64::from(opened.as_ref().is_ok_and(|opened| opened.recycled));
        // Taken after the attempt to open a socket, so that it marks the connect call.
        let connect_ns = self.clock.now_ns();
        let measured = self.window.measures(intended_ns);
        if measured {
            self.shared.measures.record(Latency::SendLag, connect_ns - intended_ns);
            self.shared.report.measured_in_time += u64::from(connect_ns < self.window.measure_to_ns);
        }
        let key = opened.map_err(|error| (Step::Socket, error))?.key;
        let group = self.shared.ends.group_for(self.shared.report.attempted);
        let client = self.engine.connect(key, &mut self.dialler, &group)?;
        let own_end = self.shared.ends.number(&group, client);
        let start = Start { intended_ns, connect_ns };
        Ok((key, Session::new(transport, own_end, start, self.settings.requests, measured)))
    }

    /// Sends the first request if it can go out at once. Returns whether the connection goes on.
    fn send_first(&mut self, key: usize) -> bool {
        let session = &mut self.table[key];
        let action = session.on_started(&mut self.shared);
        if action == Action::Continue {
            return true;
        }
        let now_ns = self.clock.now_ns();
        if session.is_flow() {
            return self.carry_out(key, action, now_ns);
        }
        let action = match self.engine.send(key, &self.shared.out) {
            Ok(taken) => {
                session.on_taken(&mut self.shared, taken);
                // A socket that takes bytes is established. Otherwise wait for the event of its handshake.
                let connected = taken != Taken::Nothing;
                if connected { session.on_connected(&mut self.shared, now_ns) } else { Action::Continue }
            }
            Err(error) => session.on_send_failed(&mut self.shared, Cause::from(&error), now_ns),
        };
        self.carry_out(key, action, now_ns)
    }
}
