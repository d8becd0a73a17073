//! The state that all sessions of a loader share: what the scenario asks for, the protocol, and the account of what happened.
//!
//! Every attempt ends in exactly one of two ways: completed, or as one error counted by step and cause.

use std::net::{IpAddr, SocketAddr};

use super::{Phase, Session};
use crate::{
    ipc::{control::LoaderCount, interner::Interner, receipt::Tuple, tally::Tally},
    load::{
        buffers::Buffers, client::Client, measures::Measures, observer::Observer, report::LoaderReport, source::Group,
    },
    record::{Cause, Latency, Stage, Step},
    scenario::{App, CloseBy, CloseHow, Protocol, Scenario, Waiting, keys},
    sys::clock,
};

/// Length of the longest request.
const REQUEST_BYTES: usize = keys::SERVER_REQUEST_BYTES.max();

/// The state that sessions share.
pub(in crate::load) struct Shared<O> {
    pub policy: Policy,
    pub ends: Ends,
    /// The bytes of the last [`super::Action::Send`].
    pub out: Vec<u8>,
    pub measures: Measures,
    pub report: LoaderReport,
    pub observer: O,
    /// When the scenario's follow-up is due. Its response times count from then.
    pub follow_up_ns: u64,
    /// Set when a connection's stamp is too late, which is impossible unless the connection is gone and its port serves another. The
    /// driver asks the engine which it is.
    pub stamp_in_doubt: bool,
    pub(super) client: Box<dyn Client>,
    pub(super) buffers: Buffers,
    errors: Tally,
    nonce: u32,
}

/// What the scenario asks of every connection.
#[derive(Debug, Clone)]
pub(in crate::load) struct Policy {
    pub app: App,
    pub close_by: CloseBy,
    pub close_how: CloseHow,
    pub fastopen: bool,
    /// Length of the hold; 0 for none.
    pub hold_ns: u64,
    /// Whether datagram flows have separate latencies: a percentile over flows and connections together would describe neither.
    pub(super) tells_flows_apart: bool,
    /// Whether accept waits from the connect call are recorded.
    pub(super) bounds_waits: bool,
    /// The worker of each fault, if a fault strands connections with its worker.
    pub(super) stranding: Vec<usize>,
}

/// The ends of a loader's connections.
#[derive(Debug)]
pub(in crate::load) struct Ends {
    target: SocketAddr,
    /// A group for each source address that the scenario names, or one for all that the kernel picks.
    groups: Vec<Group>,
    /// Addresses that the kernel picked for connections whose group names none: nearly always one.
    picked: Interner<IpAddr>,
}

/// How a connection ended.
pub(in crate::load) type Ending = Result<(), (Step, Cause)>;

impl Policy {
    pub fn new(scenario: &Scenario, bounds_waits: bool) -> Self {
        let load = &scenario.load;
        let server = &scenario.server;
        let strands =
            (0..server.workers).any(|worker| server.strategy.waiting(worker, server.workers) != Waiting::Never);
        Self {
            app: scenario.server.app,
            close_by: load.close_by,
            close_how: load.close_how,
            fastopen: scenario.server.listen.fastopen > 0,
            hold_ns: clock::nanoseconds(load.hold),
            tells_flows_apart: scenario.protocol == Protocol::Both,
            bounds_waits,
            stranding: scenario.faults.iter().filter(|_| strands).map(|fault| fault.worker).collect(),
        }
    }
}

impl Ends {
    pub fn new(target: SocketAddr, groups: Vec<Group>) -> Self {
        Self { target, groups, picked: Interner::default() }
    }

    /// The tuple group of an attempt. Groups take turns.
    pub fn group_for(&self, attempt: u64) -> Group {
        self.groups[attempt as usize % self.groups.len()]
    }

    /// The number of a connection's local address, and its local port.
    pub fn number(&mut self, group: &Group, client: SocketAddr) -> (u16, u16) {
        // A scenario has 256 source addresses at most.
        let address = if group.source.is_some() { group.number as u16 } else { self.picked.number(client.ip()) };
        (address, client.port())
    }

    /// The tuple group of a session.
    #[inline]
    pub fn group(&self, session: &Session) -> &Group {
        let named = self.groups[0].source.is_some();
        &self.groups[if named { usize::from(session.address) } else { 0 }]
    }

    /// A session's local end.
    #[inline]
    pub(super) fn client(&self, session: &Session) -> SocketAddr {
        let named = self.group(session).source;
        SocketAddr::new(named.unwrap_or_else(|| self.picked[session.address]), session.port)
    }

    /// Both ends of a session.
    #[inline]
    pub(super) fn tuple(&self, session: &Session) -> Tuple {
        Tuple { client: self.client(session), server: self.target }
    }
}

impl<O: Observer> Shared<O> {
    pub fn new(policy: Policy, ends: Ends, client: Box<dyn Client>, measures: Measures, observer: O) -> Self {
        Self {
            policy,
            ends,
            out: Vec::with_capacity(REQUEST_BYTES),
            measures,
            report: LoaderReport::default(),
            observer,
            follow_up_ns: 0,
            stamp_in_doubt: false,
            client,
            buffers: Buffers::default(),
            errors: Tally::default(),
            nonce: 0,
        }
    }

    /// Writes the next request, and returns its nonce. `last`: it is the last one on its connection.
    #[inline]
    pub(super) fn request(&mut self, last: bool) -> u32 {
        self.nonce = self.nonce.wrapping_add(1);
        self.out.clear();
        self.client.ask(self.nonce, last, &mut self.out);
        self.nonce
    }

    /// Counts an established connection.
    pub(super) fn established(&mut self, session: &Session, now_ns: u64) {
        self.report.established += 1;
        self.observer.count(LoaderCount::Established);
        self.observer.established(self.ends.client(session));
        if session.measured {
            self.measures.record(Latency::Connect, now_ns - session.connect_ns);
            self.measures.record(Latency::ConnectFromIntended, now_ns - session.intended_ns);
        }
    }

    /// Counts a connection's end.
    pub fn ended(&mut self, session: &mut Session, ending: Ending, now_ns: u64) {
        self.buffers.clear(&mut session.input);
        if session.is_flow {
            self.count_flow(session);
        } else if session.phase != Phase::Connecting && !session.served {
            self.report.unserved += 1;
        }
        if let Err((step, cause)) = ending {
            self.failed(step, cause, now_ns);
            return;
        }
        if let (true, Some(worker)) = (session.staged, session.answered.first()) {
            // The hold is part of the scenario, not of the wait.
            let from_ns = session.waiting_since_ns.max(session.hold_until_ns.min(now_ns));
            self.measures.record_stage(worker, Stage::Close, now_ns - from_ns);
        }
        self.report.completed += 1;
        self.report.measured_completed += u64::from(session.measured);
        self.observer.count(LoaderCount::Completed);
        self.report.ended_ns = now_ns;
    }

    /// Counts a failed attempt, whether or not it got as far as a connection.
    pub fn failed(&mut self, step: Step, cause: Cause, now_ns: u64) {
        if matches!(cause, Cause::Errno(libc::EADDRNOTAVAIL | libc::EADDRINUSE)) {
            self.report.first_exhausted_ns.get_or_insert(now_ns);
        }
        self.errors.add(step, cause);
        self.observer.count(LoaderCount::Failed);
        self.report.ended_ns = now_ns;
    }

    /// Counts a flow by the workers that answered it.
    fn count_flow(&mut self, session: &Session) {
        let answered = &session.answered;
        let Some(first) = answered.first().map(usize::from) else { return };
        let flows = &mut self.report.flows;
        if flows.by_worker.len() <= first {
            flows.by_worker.resize(first + 1, 0);
        }
        flows.by_worker[first] += 1;
        match (answered.again, answered.moved) {
            (false, _) => {}
            (true, false) => flows.sticky += 1,
            (true, true) => flows.moved += 1,
        }
    }

    /// The account and the histograms.
    pub fn into_parts(self) -> (LoaderReport, Measures) {
        let report = LoaderReport { errors: self.errors.counts(), overflows: self.measures.overflows(), ..self.report };
        (report, self.measures)
    }
}
