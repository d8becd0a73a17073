//! Checks that a reply belongs to its connection, and finds who accepted the connection and when. Every reply is checked, and every
//! wait recorded once.

use super::{Exchange, Session, Shared};
use crate::{
    ipc::{control::LoaderKept, ledger::Entry, receipt::Receipt},
    load::{
        observer::Observer,
        stages::{self, Instants},
    },
    record::Latency,
    scenario::App,
};

/// Who accepted a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acceptance {
    By(Entry),
    /// No worker has.
    Never,
    /// There is no ledger, or the connection was over before its port could be read.
    Unknown,
}

/// The stamp found for the client's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stamp {
    /// Connections are not stamped.
    None,
    At(u64),
    /// This connection's stamp is gone: a reset by the server frees the client's port at once, and the next connection from it may be
    /// established before the first one's loader has looked. Or the stamp is impossible.
    Lost,
}

impl Session {
    /// Checks a reply's receipt, and records the accept wait with the first one. Returns false if the reply belongs to another
    /// connection or request.
    pub(super) fn verify<O: Observer>(
        &mut self,
        shared: &mut Shared<O>,
        receipt: Option<Receipt>,
        now_ns: u64,
    ) -> bool {
        if self.is_flow {
            return self.verify_datagram(shared, receipt);
        }
        let tuple = shared.ends.tuple(self);
        let first = !std::mem::replace(&mut self.served, true);
        let (worker, wait_ns) = match receipt {
            Some(receipt) => {
                shared.report.verified += 1;
                // Accept times can be compared only with those of this machine's clock.
                if !tuple.server.ip().is_loopback() && !shared.observer.has_ledger() {
                    return receipt.belongs_to(self.nonce, &tuple);
                }
                match receipt.wait_since(self.connect_ns) {
                    Some(wait_ns) if receipt.belongs_to(self.nonce, &tuple) => (receipt.worker, wait_ns),
                    _ => return false,
                }
            }
            None if shared.policy.app == App::Close => match self.acceptance(shared) {
                Acceptance::By(entry) => (entry.worker, entry.accept_ns - self.connect_ns),
                Acceptance::Never | Acceptance::Unknown => return true,
            },
            // listenbench's own server always sends a receipt, so within a trial this reply is not a worker's.
            None => return !shared.observer.has_ledger(),
        };
        self.answered.by(worker);
        if first { self.record_accept(shared, worker, wait_ns, now_ns) } else { true }
    }

    /// Records the accept wait and the stages of a first reply. Returns false if no scenario can have a worker of this number.
    fn record_accept<O: Observer>(
        &mut self,
        shared: &mut Shared<O>,
        worker: u16,
        wait_ns: u64,
        replied_ns: u64,
    ) -> bool {
        self.note_stranded(shared, worker, wait_ns);
        let accept_ns = self.connect_ns + wait_ns;
        let stamp = self.stamp(shared, accept_ns);
        if !self.measured {
            return true;
        }
        if stamp != Stamp::Lost {
            self.record_stages(shared, worker, stamp, accept_ns, replied_ns);
        }
        if shared.policy.bounds_waits {
            // Shown whether or not anything watches, so that watching costs nothing.
            shared.observer.show(LoaderKept::AcceptWait, wait_ns);
        }
        shared.measures.record_accept_wait(worker, wait_ns)
    }

    /// When the kernel established the connection on the server's side. Unless that lies between the connect call and accept's return,
    /// something is wrong with the stamp or the loader.
    fn stamp<O: Observer>(&self, shared: &mut Shared<O>, accept_ns: u64) -> Stamp {
        let Some(at_ns) = shared.observer.stamp(shared.ends.client(self)) else { return Stamp::None };
        if (self.connect_ns..=accept_ns).contains(&at_ns) {
            return Stamp::At(at_ns);
        }
        if at_ns > accept_ns {
            shared.stamp_in_doubt = true;
        } else {
            shared.report.stamps_impossible += 1;
        }
        Stamp::Lost
    }

    /// Records the stages of a first reply, if worker and loader agree on the connection it belongs to.
    fn record_stages<O: Observer>(
        &mut self,
        shared: &mut Shared<O>,
        worker: u16,
        stamp: Stamp,
        accept_ns: u64,
        replied_ns: u64,
    ) {
        let Some(journey) = shared.observer.journey(shared.ends.client(self)) else { return };
        let instants = Instants {
            intended_ns: self.intended_ns,
            connect_ns: self.connect_ns,
            established_ns: if let Stamp::At(at_ns) = stamp { Some(at_ns) } else { None },
            accept_ns,
            replied_ns,
        };
        let Some(lengths) = stages::lengths(&instants, &journey) else { return };
        for (stage, length_ns) in lengths {
            shared.measures.record_stage(worker, stage, length_ns);
        }
        self.staged = true;
    }

    /// Records the accept wait of a connection that had to wait for the end of a worker's fault.
    fn note_stranded<O: Observer>(&self, shared: &mut Shared<O>, worker: u16, wait_ns: u64) {
        for (number, stranding) in shared.policy.stranding.iter().enumerate() {
            let over_ns = shared.observer.fault_over_ns(number);
            if *stranding == usize::from(worker) && (self.connect_ns + 1..=self.connect_ns + wait_ns).contains(&over_ns)
            {
                shared.measures.record_stranded(number, wait_ns);
            }
        }
    }

    /// Like [`Self::verify`], for a datagram: each datagram has its own receive wait.
    fn verify_datagram<O: Observer>(&mut self, shared: &mut Shared<O>, receipt: Option<Receipt>) -> bool {
        let tuple = shared.ends.tuple(self);
        // A reply without a receipt comes from another server.
        let Some(receipt) = receipt else { return !shared.observer.has_ledger() };
        if !receipt.belongs_to(self.nonce, &tuple) {
            return false;
        }
        shared.report.verified += 1;
        shared.report.flows.replies += 1;
        self.answered.by(receipt.worker);
        if !tuple.server.ip().is_loopback() && !shared.observer.has_ledger() {
            return true;
        }
        // A flow waits for its reply from the moment it asked.
        match receipt.wait_since(self.waiting_since_ns) {
            Some(wait_ns) if self.measured => {
                shared.observer.show(LoaderKept::ReceiveWait, wait_ns);
                shared.measures.record_receive_wait(receipt.worker, wait_ns)
            }
            wait_ns => wait_ns.is_some(),
        }
    }

    /// Records how long a reply took.
    pub(super) fn record_response<O: Observer>(&self, shared: &mut Shared<O>, now_ns: u64) {
        if !self.measured {
            return;
        }
        let (response_from_ns, service_from_ns) = match self.exchange {
            Exchange::First => (self.intended_ns, self.connect_ns),
            Exchange::Further => (self.waiting_since_ns, self.waiting_since_ns),
            Exchange::FollowUp => {
                shared.measures.record(Latency::FollowUp, now_ns - shared.follow_up_ns);
                return;
            }
        };
        let (response, service) = if self.is_flow && shared.policy.tells_flows_apart {
            (Latency::UdpResponse, Latency::UdpService)
        } else {
            (Latency::Response, Latency::Service)
        };
        shared.measures.record(response, now_ns - response_from_ns);
        shared.measures.record(service, now_ns - service_from_ns);
    }

    /// The connection's accept according to the ledger, for an app whose workers send nothing.
    pub(super) fn acceptance<O: Observer>(&self, shared: &Shared<O>) -> Acceptance {
        let client = shared.ends.client(self);
        if !shared.observer.has_ledger() || client.port() == 0 {
            return Acceptance::Unknown;
        }
        shared.observer.accept(client, self.connect_ns).map_or(Acceptance::Never, Acceptance::By)
    }
}
