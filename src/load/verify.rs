//! Whose a reply is, who accepted its connection and when: every reply is checked, every wait recorded once.

use super::{
    stages::{self, Instants},
    work::Work,
};
use crate::{
    ipc::{control::LoaderKept, ledger::Entry, receipt::Receipt},
    scenario::App,
    sys::socket,
};

impl Work {
    /// Checks a reply's receipt and records the accept wait of the connection's first; false when it is not ours.
    pub(super) fn verify(&mut self, key: usize, receipt: Option<Receipt>, now_ns: u64) -> bool {
        if self.connections[key].stream.is_udp() {
            return self.verify_datagram(key, receipt);
        }
        let tuple = self.tuple(key);
        let connection = &mut self.connections[key];
        let first = !std::mem::replace(&mut connection.served, true);
        let measured = connection.measured;
        let (worker, wait_ns) = match receipt {
            Some(receipt) => {
                self.report.verified += 1;
                // Only this machine's clock can be compared with ours.
                if !tuple.server.ip().is_loopback() && self.loader.context.ledger.is_none() {
                    return receipt.belongs_to(connection.nonce, &tuple);
                }
                match receipt.wait_since(connection.connect_ns) {
                    Some(wait_ns) if receipt.belongs_to(connection.nonce, &tuple) => (receipt.worker, wait_ns),
                    _ => return false,
                }
            }
            None if self.loader.context.scenario.server.app == App::Close => match self.acceptance(key) {
                Acceptance::By(entry) => (entry.worker, entry.accept_ns - self.connections[key].connect_ns),
                Acceptance::Never | Acceptance::Unknown => return true,
            },
            // Another server's reply. Ours always has a receipt, so within a trial it is not a worker's.
            None => return self.loader.context.ledger.is_none(),
        };
        let connection = &mut self.connections[key];
        connection.answered.by(worker);
        let accept_ns = connection.connect_ns + wait_ns;
        if first {
            self.note_stranded(key, worker, wait_ns);
            let stamp = self.stamp(key, accept_ns);
            if measured && stamp != Stamp::Lost {
                self.record_stages(key, worker, stamp, accept_ns, now_ns);
            }
        }
        if !(measured && first) {
            return true;
        }
        if self.loader.context.waits.bound {
            self.show(LoaderKept::AcceptWait, wait_ns);
        }
        self.measures.record_accept_wait(worker, wait_ns)
    }

    /// Counts a wait where whoever watches can see it, and whether anybody does or not: so watching costs nothing.
    #[inline]
    fn show(&self, kept: LoaderKept, wait_ns: u64) {
        self.loader.context.control.keep_of_loader(self.loader.part.loader, kept, wait_ns);
    }

    /// When the kernel had a connection of ours established on the server's side. That must lie between the connect call and
    /// accept's return, or something is wrong with the stamp, or with us.
    fn stamp(&mut self, key: usize, accept_ns: u64) -> Stamp {
        let connection = &self.connections[key];
        let stamps = self.loader.context.stamps.as_ref();
        let Some(at_ns) = stamps.and_then(|stamps| stamps.look(self.client(connection))) else { return Stamp::None };
        if (connection.connect_ns..=accept_ns).contains(&at_ns) {
            return Stamp::At(at_ns);
        }
        let lost = at_ns > accept_ns && !socket::has_connection(&connection.stream).unwrap_or(false);
        self.report.stamps_impossible += u64::from(!lost);
        Stamp::Lost
    }

    /// Records where the time of a first reply went, as far as worker and loader agree whose it is.
    fn record_stages(&mut self, key: usize, worker: u16, stamp: Stamp, accept_ns: u64, replied_ns: u64) {
        let connection = &self.connections[key];
        let Some(ledger) = &self.loader.context.ledger else { return };
        let instants = Instants {
            intended_ns: connection.intended_ns,
            connect_ns: connection.connect_ns,
            established_ns: if let Stamp::At(at_ns) = stamp { Some(at_ns) } else { None },
            accept_ns,
            replied_ns,
        };
        let journey = ledger.journey(self.client(connection));
        let Some(lengths) = stages::lengths(&instants, &journey) else { return };
        for (stage, length_ns) in lengths {
            self.measures.record_stage(worker, stage, length_ns);
        }
        self.connections[key].staged = true;
    }

    /// Records the accept wait of a connection that had to wait for the end of a worker's fault.
    fn note_stranded(&mut self, key: usize, worker: u16, wait_ns: u64) {
        if !self.strands {
            return;
        }
        let connect_ns = self.connections[key].connect_ns;
        for (number, fault) in self.loader.context.scenario.faults.iter().enumerate() {
            let over_ns = self.loader.context.control.fault(number).over_ns;
            if fault.worker == usize::from(worker) && (connect_ns + 1..=connect_ns + wait_ns).contains(&over_ns) {
                self.measures.record_stranded(number, wait_ns);
            }
        }
    }

    /// The same for a datagram: each has waited for its own reception.
    fn verify_datagram(&mut self, key: usize, receipt: Option<Receipt>) -> bool {
        let tuple = self.tuple(key);
        let connection = &mut self.connections[key];
        // Another server's reply.
        let Some(receipt) = receipt else { return self.loader.context.ledger.is_none() };
        if !receipt.belongs_to(connection.nonce, &tuple) {
            return false;
        }
        self.report.verified += 1;
        self.report.flows.replies += 1;
        connection.answered.by(receipt.worker);
        if !tuple.server.ip().is_loopback() && self.loader.context.ledger.is_none() {
            return true;
        }
        // A flow waits for its reply from the moment it asked.
        match receipt.wait_since(connection.waiting_since_ns) {
            Some(wait_ns) if connection.measured => {
                self.show(LoaderKept::ReceiveWait, wait_ns);
                self.measures.record_receive_wait(receipt.worker, wait_ns)
            }
            wait_ns => wait_ns.is_some(),
        }
    }

    /// What the ledger knows of the accept of a connection, for an app whose workers say nothing.
    pub(super) fn acceptance(&self, key: usize) -> Acceptance {
        let connection = &self.connections[key];
        match (&self.loader.context.ledger, self.client(connection)) {
            (None, _) => Acceptance::Unknown,
            (_, client) if client.port() == 0 => Acceptance::Unknown,
            (Some(ledger), client) => {
                ledger.entry(client, connection.connect_ns).map_or(Acceptance::Never, Acceptance::By)
            }
        }
    }
}

/// What a client finds in its port's place of the stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stamp {
    /// Nothing: nobody stamps.
    None,
    At(u64),
    /// Another connection's: a reset by the server frees the client's port at once, and the next that gets it may be
    /// established before the first's loader has looked.
    Lost,
}

/// Who accepted a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acceptance {
    By(Entry),
    /// Nobody has.
    Never,
    /// There is no ledger, or the connection was over before its port could be read.
    Unknown,
}
