//! Checks that a reply belongs to its connection, and finds who accepted the connection and when. Every reply is checked, and every
//! wait recorded once.

use super::{Exchange, Session, Shared};
use crate::{
    ipc::{
        control::LoaderCount,
        ledger::Entry,
        receipt::{Receipt, Told},
    },
    load::{
        client::Whole,
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
    /// No ledger on this host records accepts, or the connection ended before its port could be read.
    Unknown,
}

/// Where a reply with a receipt comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// It answers this connection's request.
    This,
    /// It answers this connection's request, but the server saw another 4-tuple: that of a proxy, or of translated addresses. No
    /// worker of a trial can.
    Proxied,
    /// It answers another request.
    Another,
    /// What looks like a receipt is another program's bytes.
    None,
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
    pub(super) fn verify<O: Observer>(&mut self, shared: &mut Shared<O>, reply: &Whole, now_ns: u64) -> bool {
        if self.is_flow {
            return self.verify_datagram(shared, reply);
        }
        let receipt = reply.receipt;
        let first = !std::mem::replace(&mut self.served, true);
        let (worker, wait_ns) = match receipt {
            Some(receipt) => {
                match self.origin(shared, &receipt) {
                    // Accept times can be compared only with those of this host's clock.
                    Origin::This if !shared.observer.is_beside() => return self.note_answer(shared, receipt.worker),
                    Origin::This => {}
                    Origin::Proxied | Origin::None => return true,
                    Origin::Another => return false,
                }
                let Some(wait_ns) = receipt.wait_since(self.connect_ns) else { return false };
                (receipt.worker, wait_ns)
            }
            None if shared.policy.app == App::Close => match self.acceptance(shared) {
                Acceptance::By(entry) => (entry.worker, entry.accept_ns - self.connect_ns),
                Acceptance::Never | Acceptance::Unknown => return true,
            },
            // listenbench's own server always sends a receipt, so within a trial this reply is not a worker's.
            None => return !shared.observer.has_ledger(),
        };
        self.note_worker(worker);
        if first { self.record_accept(shared, worker, wait_ns, now_ns) } else { true }
    }

    /// Looks up who accepted a connection whose workers send nothing, and records the accept wait.
    pub(super) fn note_accept<O: Observer>(&mut self, shared: &mut Shared<O>) -> Acceptance {
        let acceptance = self.acceptance(shared);
        let Acceptance::By(entry) = acceptance else { return acceptance };
        self.served = true;
        self.note_worker(entry.worker);
        let wait_ns = entry.accept_ns - self.connect_ns;
        self.note_stranded(shared, entry.worker, wait_ns);
        if self.measured && shared.policy.awaits_accept(self) {
            shared.measures.record_accept_wait(entry.worker, wait_ns);
        }
        acceptance
    }

    /// Notes who answered. Returns false if the trial's own server cannot have a worker of this number.
    fn note_answer<O: Observer>(&mut self, shared: &mut Shared<O>, worker: u16) -> bool {
        let is_possible = !shared.observer.has_ledger() || shared.measures.has_worker(worker);
        match shared.flows.get_mut(self.tag as usize).filter(|_| self.is_flow) {
            _ if !is_possible => {}
            Some(flow) => flow.answered(worker, shared.policy.generation(worker), &shared.account),
            None => self.note_worker(worker),
        }
        is_possible
    }

    /// Notes who answered a connection first.
    fn note_worker(&mut self, worker: u16) {
        if self.tag == 0 {
            self.tag = u32::from(worker) + 1;
        }
    }

    /// Whose receipt it is; counted.
    fn origin<O: Observer>(&self, shared: &mut Shared<O>, receipt: &Receipt) -> Origin {
        let is_asked = receipt.nonce == self.nonce;
        let expected = if self.is_flow { Told::Nothing } else { shared.policy.told() };
        let told = receipt.told_of(&shared.ends.tuple(self));
        let origin = match told {
            Some(told) if is_asked && told == expected => Origin::This,
            _ if shared.observer.has_ledger() => Origin::Another,
            // A proxy has named this connection to the server.
            Some(Told::Another(_)) if is_asked => Origin::Proxied,
            // Also a server that has not read the header, or one that nobody has sent.
            Some(_) => Origin::Another,
            None if is_asked => Origin::Proxied,
            None if receipt.is_certain() => Origin::Another,
            None => Origin::None,
        };
        let is_proxied = origin == Origin::Proxied;
        shared.account.add(LoaderCount::Verified, u64::from(origin != Origin::None));
        shared.account.add(LoaderCount::Proxied, u64::from(is_proxied));
        shared.account.add(LoaderCount::Named, u64::from(is_proxied && told.is_some()));
        origin
    }

    /// Records the accept wait and the stages of a first reply. Returns false if the server cannot have a worker of this number.
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
            shared.account.add(LoaderCount::StampsImpossible, 1);
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
            secured_ns: self.secured_ns(),
            replied_ns,
        };
        let Some(lengths) = stages::lengths(&instants, &journey) else { return };
        for (stage, length_ns) in lengths {
            shared.measures.record_stage(worker, stage, length_ns);
        }
        self.staged = true;
    }

    /// Records the accept wait of a connection that had to wait for the end of a worker's event.
    fn note_stranded<O: Observer>(&self, shared: &mut Shared<O>, worker: u16, wait_ns: u64) {
        for (number, stranding) in shared.policy.stranding.iter().enumerate() {
            let over_ns = shared.observer.event_over_ns(number);
            if *stranding == Some(usize::from(worker))
                && (self.connect_ns + 1..=self.connect_ns + wait_ns).contains(&over_ns)
            {
                shared.measures.record_stranded(number, wait_ns);
            }
        }
    }

    /// Like [`Self::verify`], for a datagram: each datagram has its own receive wait.
    fn verify_datagram<O: Observer>(&mut self, shared: &mut Shared<O>, reply: &Whole) -> bool {
        // A reply without a receipt comes from another server.
        let Some(receipt) = reply.receipt else {
            let is_foreign = !shared.observer.has_ledger();
            shared.account.add(LoaderCount::FlowReplies, u64::from(is_foreign));
            return is_foreign;
        };
        let origin = self.origin(shared, &receipt);
        if origin == Origin::Another {
            return false;
        }
        shared.account.add(LoaderCount::FlowReplies, 1);
        if origin == Origin::None {
            return true;
        }
        if !self.note_answer(shared, receipt.worker) {
            return false;
        }
        if let Some(flow) = shared.flows.get_mut(self.tag as usize) {
            flow.named(reply);
        }
        if origin == Origin::Proxied || !shared.observer.is_beside() {
            return true;
        }
        // A flow waits for its reply from the moment it asked.
        match receipt.wait_since(self.waiting_since_ns) {
            Some(wait_ns) if self.measured => shared.measures.record_receive_wait(receipt.worker, wait_ns),
            wait_ns => wait_ns.is_some(),
        }
    }

    /// Counts a reply, and records how long it took.
    pub(super) fn record_response<O: Observer>(&self, shared: &mut Shared<O>, now_ns: u64) {
        shared.requests.happened(now_ns, &shared.account);
        if !self.measured {
            return;
        }
        // Of kept connections, requests are what is planned.
        shared.account.add(LoaderCount::PlannedCompleted, u64::from(shared.policy.keeps));
        let (response_from_ns, service_from_ns) = match self.exchange {
            Exchange::First | Exchange::Heard => (self.intended_ns, self.connect_ns),
            Exchange::Further => (self.waiting_since_ns, self.waiting_since_ns),
            Exchange::Due => (self.intended_ns, self.waiting_since_ns),
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
        if !(shared.observer.has_ledger() && shared.observer.is_beside()) || client.port() == 0 {
            return Acceptance::Unknown;
        }
        shared.observer.accept(client, self.connect_ns).map_or(Acceptance::Never, Acceptance::By)
    }
}
