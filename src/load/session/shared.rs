//! The state that all sessions of a loader share: what the scenario asks for, the protocol, and the account of what happened.
//!
//! Every attempt ends in exactly one of two ways: completed, or as one error counted by step and cause.

use std::net::{IpAddr, SocketAddr};

use slab::Slab;

use super::{
    Exchange, Hold, Phase, Session, Start, flow::Flow, is_to_be_held_at, readings::Readings, verify::Acceptance,
};
use crate::{
    ipc::{
        control::{Account, LoaderCount, Loss, Window},
        interner::Interner,
        proxy_header::{TEXT_LIMIT_BYTES, Template, Version},
        receipt::{Told, Tuple},
    },
    load::{client::Client, course::Course, measures::Measures, observer::Observer, source::Group},
    record::{Cause, Latency, Stage, Step},
    scenario::{App, CloseBy, CloseHow, Load, Mode, Protocol, Scenario, Transport, Waiting, keys},
    sys::clock,
    tls::{self, Secured},
};

/// How many requests a loader makes before its nonces meet those of the next: all 32 bits, shared among all loaders.
const NONCES_PER_LOADER: u32 = u32::MAX / keys::LOAD_LOADERS.max() as u32;
/// Length of the longest request.
const REQUEST_BYTES: usize = keys::SERVER_REQUEST_BYTES.max();

/// The state that sessions share.
pub(in crate::load) struct Shared<O> {
    pub policy: Policy,
    pub ends: Ends,
    /// The bytes of the last [`super::Action::Send`].
    pub out: Vec<u8>,
    pub measures: Measures,
    pub account: Account,
    pub observer: O,
    /// When the scenario's follow-up is due, if it is ever; otherwise 0. Its response times count from then.
    pub follow_up_ns: u64,
    /// Set when a connection's stamp is too late, which is impossible unless the connection is gone and its port serves another. The
    /// driver asks the engine which it is.
    pub stamp_in_doubt: bool,
    pub(super) client: Box<dyn Client>,
    /// Opens TLS sessions, if connections have them.
    pub(super) tls: Option<tls::Client>,
    /// What a server has said within TLS.
    pub(super) said: Vec<u8>,
    /// Connections and flows that completed.
    completions: Course,
    /// Requests answered.
    pub(super) requests: Course,
    /// TLS handshakes completed.
    handshakes: Course,
    pub(super) readings: Readings,
    pub(super) manners: Manners,
    /// Flows in progress, by number.
    pub(super) flows: Slab<Flow>,
    nonce: u32,
}

/// What is known of a server that may speak before it is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Manners {
    #[default]
    Unknown,
    /// A connection listens, or has heard nothing.
    Tried,
    SpeaksFirst,
}

/// What the scenario asks of every connection of a population.
#[derive(Debug, Clone)]
pub(in crate::load) struct Policy {
    pub app: App,
    /// Whether a connection's first bytes are the client's.
    speaks_first: bool,
    pub close_by: CloseBy,
    pub close_how: CloseHow,
    pub fastopen: bool,
    /// Whether connections ask for MPTCP.
    pub multipath: bool,
    /// The version of the PROXY protocol header that each connection begins with, if any.
    pub proxy_protocol: Option<Version>,
    /// Requests of a connection or flow.
    pub requests: u32,
    /// After how many of them a flow goes on from another port; 0 for never.
    pub rebind_after: u32,
    /// Whether connections stay open for requests that are due later.
    pub keeps: bool,
    /// Length of the hold; 0 for none.
    pub hold_ns: u64,
    /// Whether datagram flows have separate latencies: a percentile over flows and connections together would describe neither.
    pub(super) tells_flows_apart: bool,
    /// By worker: the number of the change that brings it, from 1, or 0.
    generations: Vec<u64>,
    /// The worker of each event, if the event has one and strands connections with it.
    pub(super) stranding: Vec<Option<usize>>,
}

/// The ends of a loader's connections.
#[derive(Debug)]
pub(in crate::load) struct Ends {
    target: SocketAddr,
    /// A group for each source address that the scenario names, or one for all that the kernel picks.
    groups: Vec<Group>,
    /// Addresses that the kernel picked for connections whose group names none: nearly always one.
    picked: Interner<IpAddr>,
    /// The PROXY protocol header by the number of the local address, once a connection has needed it.
    headers: Vec<Option<Template>>,
}

/// How a connection ended.
pub(in crate::load) type Ending = Result<(), (Step, Cause)>;

impl Policy {
    pub fn new(scenario: &Scenario, load: &Load) -> Self {
        let server = &scenario.server;
        let strands =
            (0..server.workers).any(|worker| server.strategy.waiting(worker, server.workers) != Waiting::Never);
        Self {
            app: scenario.server.app,
            speaks_first: match scenario.server.app {
                App::Close | App::Connect => false,
                App::Line => !load.line.send.is_empty(),
                App::Echo { .. } | App::Http { .. } | App::Https { .. } => true,
            },
            close_by: load.close_by,
            close_how: load.close_how,
            fastopen: scenario.server.listen.fastopen > 0,
            multipath: scenario.server.listen.multipath,
            proxy_protocol: load.proxy_protocol,
            requests: load.requests,
            rebind_after: load.rebind_after,
            keeps: matches!(load.mode, Mode::Kept { .. }),
            hold_ns: clock::nanoseconds(load.hold),
            tells_flows_apart: scenario.protocol == Protocol::Both,
            generations: scenario.crew().workers.iter().map(|worker| worker.generation as u64).collect(),
            stranding: scenario.events.iter().filter(|_| strands).map(|event| event.act.worker()).collect(),
        }
    }
}

impl Policy {
    /// What the server must have been told of the ends of a connection.
    pub(super) fn told(&self) -> Told {
        self.proxy_protocol.map_or(Told::Nothing, Told::Own)
    }

    /// The generation of a worker; 0 of one that the scenario does not know.
    #[inline]
    pub(super) fn generation(&self, worker: u16) -> u64 {
        self.generations.get(usize::from(worker)).copied().unwrap_or(0)
    }

    /// Whether the first request goes out before it is known that the connection is established.
    pub(super) fn asks_early(&self) -> bool {
        self.speaks_first && !self.fastopen
    }

    /// Whether clients say nothing and wait for nothing.
    pub(super) fn is_silent(&self) -> bool {
        self.app == App::Connect
    }

    /// Whether a client that closes could have seen its accept: one that says nothing is often gone before a worker comes to it.
    pub(super) fn awaits_accept(&self, session: &Session) -> bool {
        !self.is_silent() || session.planned_hold_ns(self) > 0
    }
}

impl Ends {
    pub fn new(target: SocketAddr, groups: Vec<Group>) -> Self {
        Self { target, groups, picked: Interner::default(), headers: Vec::new() }
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

    /// Writes the PROXY protocol header that names both ends of a session. Allocates for the first connection from an address.
    pub(super) fn write_header(&mut self, session: &Session, version: Version, out: &mut Vec<u8>) {
        let Tuple { client, server } = self.tuple(session);
        let place = usize::from(session.address);
        if self.headers.len() <= place {
            self.headers.resize_with(place + 1, || None);
        }
        let template = self.headers[place].get_or_insert_with(|| Template::new(version, client.ip(), server));
        template.write(client.port(), out);
    }

    /// Both ends of a session.
    #[inline]
    pub(super) fn tuple(&self, session: &Session) -> Tuple {
        Tuple { client: self.client(session), server: self.target }
    }
}

impl<O: Observer> Shared<O> {
    /// `loader` is the loader's number: no two loaders use the same nonces.
    pub fn new(
        policy: Policy,
        ends: Ends,
        client: Box<dyn Client>,
        (account, measures): (Account, Measures),
        observer: O,
        loader: usize,
    ) -> Self {
        Self {
            policy,
            ends,
            out: Vec::with_capacity(TEXT_LIMIT_BYTES + REQUEST_BYTES),
            measures,
            account,
            observer,
            follow_up_ns: 0,
            stamp_in_doubt: false,
            client,
            tls: None,
            said: Vec::new(),
            completions: Course::of_completions(Window::default()),
            requests: Course::of_answers(Window::default()),
            handshakes: Course::of_handshakes(Window::default()),
            readings: Readings::default(),
            manners: Manners::default(),
            flows: Slab::new(),
            nonce: loader as u32 * NONCES_PER_LOADER,
        }
    }

    /// Sets the measured window, and when a follow-up is due.
    pub fn begin(&mut self, window: Window, follow_up_ns: Option<u64>) {
        self.follow_up_ns = follow_up_ns.unwrap_or(0);
        self.completions = Course::of_completions(window);
        self.requests = Course::of_answers(window);
        self.handshakes = Course::of_handshakes(window);
    }

    /// The same for connections with TLS, whose sessions this opens.
    pub fn with_tls(self, tls: Option<tls::Client>) -> Self {
        Self { tls, ..self }
    }

    /// Whether connections have TLS.
    pub(super) fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// Counts a completed TLS handshake, and records how long it took if that is measured.
    pub(super) fn secured(&mut self, secured: Secured, took_ns: Option<u64>, now_ns: u64) {
        for (count, is_so) in [
            (LoaderCount::Handshakes, true),
            (LoaderCount::HandshakesResumed, secured.resumed),
            (LoaderCount::HandshakesTls13, secured.is_1_3),
            (LoaderCount::HandshakesAlpn, secured.alpn),
        ] {
            self.account.add(count, u64::from(is_so));
        }
        self.handshakes.happened(now_ns, &self.account);
        if let Some(took_ns) = took_ns {
            self.measures.record(Latency::Tls, took_ns);
        }
    }

    /// Appends the next request to what is to be sent, and returns its nonce. `last`: it is the last one on its connection.
    #[inline]
    pub(super) fn request(&mut self, last: bool) -> u32 {
        self.nonce = self.nonce.wrapping_add(1);
        self.client.ask(self.nonce, last, &mut self.out);
        self.nonce
    }

    /// Takes up a flow that has begun.
    pub(super) fn begin_flow(&mut self, session: &mut Session) {
        self.account.add(LoaderCount::Flows, 1);
        // The nonces of its requests follow.
        session.tag = self.flows.insert(Flow::new(session.port, self.nonce)) as u32;
    }

    /// The port that a flow had first, if it has another now.
    pub fn former_port(&self, session: &Session) -> Option<u16> {
        let flow = self.flows.get(session.tag as usize).filter(|_| session.is_flow)?;
        Some(flow.first_port()).filter(|_| flow.has_rebound())
    }

    /// How many connections have been established, if they ask for MPTCP.
    #[inline]
    pub fn asking_for_multipath(&self) -> Option<u64> {
        self.policy.multipath.then(|| self.account.get(LoaderCount::Established))
    }

    /// Counts an established connection.
    pub(super) fn established(&mut self, session: &Session, now_ns: u64) {
        self.account.add(LoaderCount::Established, 1);
        self.observer.established(self.ends.client(session));
        if session.measured {
            self.measures.record(Latency::Connect, now_ns - session.connect_ns);
            self.measures.record(Latency::ConnectFromIntended, now_ns - session.intended_ns);
        }
    }

    /// Counts a connection's end.
    pub fn ended(&mut self, session: &mut Session, ending: Ending, now_ns: u64) {
        self.readings.clear(&mut session.reading);
        let is_never_accepted = self.policy.is_silent()
            && session.phase != Phase::Connecting
            && session.note_accept(self) == Acceptance::Never;
        if session.is_flow {
            self.count_flow(session);
        } else if session.phase == Phase::Connecting {
            self.observer.given_up(self.ends.client(session));
        } else if !session.served {
            self.account.add(LoaderCount::Unserved, 1);
        }
        if let Err((step, cause)) = ending {
            let is_cut_off = matches!(cause, Cause::Interrupted | Cause::Deadline);
            if session.measured && !session.is_flow && step == Step::Connect && !is_cut_off {
                self.measures.record(Latency::FailedConnect, now_ns - session.connect_ns);
            }
            self.attribute(session, step, cause, now_ns);
            if session.measured && cause != Cause::Interrupted {
                self.lose(session);
            }
            self.failed(step, cause, now_ns);
            return;
        }
        if let (true, Some(worker)) = (session.staged, session.first_worker()) {
            // The hold is part of the scenario, not of the wait.
            let held_until_ns = if session.is_holding() { session.hold_until_ns() } else { 0 };
            let from_ns = session.waiting_since_ns.max(held_until_ns.min(now_ns));
            self.measures.record_stage(worker, Stage::Close, now_ns - from_ns);
        }
        let is_wait_lost = session.measured && is_never_accepted && self.policy.awaits_accept(session);
        self.account.add(LoaderCount::LostWaits, u64::from(is_wait_lost));
        self.account.add(LoaderCount::PlannedCompleted, u64::from(session.measured && !self.policy.keeps));
        self.completed(now_ns);
    }

    /// Counts a connection that the server refused or ended as lost to an event, if one goes on.
    fn attribute(&self, session: &Session, step: Step, cause: Cause, now_ns: u64) {
        let loss = match (session.phase, cause) {
            _ if session.is_flow => return,
            (Phase::Connecting, Cause::Errno(libc::ECONNREFUSED)) => Loss::Refused,
            (Phase::Connecting, _) => return,
            // The last reply is complete, and so is the hold.
            (Phase::AwaitingClose, _) if step == Step::Close && !self.policy.is_silent() => return,
            (_, Cause::Errno(libc::ECONNRESET | libc::EPIPE) | Cause::EndOfFile | Cause::Truncated | Cause::HungUp) => {
                let client = self.ends.client(session);
                // It would have been closed without the event, too.
                if !session.served && self.observer.is_shed(client, session.connect_ns) {
                    return;
                }
                let accepted = || self.observer.accept(client, session.connect_ns).is_some();
                // Nobody knows what another server has accepted.
                if session.served || !self.observer.has_ledger() || accepted() { Loss::Cut } else { Loss::ResetInQueue }
            }
            _ => return,
        };
        self.observer.lost(loss, session.connect_ns, now_ns);
    }

    /// Counts the end of a connection that another continues.
    pub fn renewed(&mut self, session: &mut Session, now_ns: u64) {
        self.readings.clear(&mut session.reading);
        self.completed(now_ns);
    }

    fn completed(&mut self, now_ns: u64) {
        self.account.add(LoaderCount::Completed, 1);
        self.account.set(LoaderCount::LastCompletedNs, now_ns);
        self.completions.happened(now_ns, &self.account);
        self.account.set(LoaderCount::EndedNs, now_ns);
    }

    /// Counts what a measured connection or flow that failed was to leave.
    fn lose(&self, session: &Session) {
        if session.is_flow {
            self.account.add(LoaderCount::LostFlowResponses, session.unanswered());
            return;
        }
        // Nothing was to be answered.
        let unanswered = if self.policy.is_silent() { 0 } else { session.unanswered() };
        self.account.add(LoaderCount::LostResponses, unanswered);
        self.account.add(LoaderCount::LostConnects, u64::from(session.phase == Phase::Connecting));
        // That of a kept connection is not one of its later requests'.
        let is_first = session.exchange == Exchange::First;
        let is_unsecured = self.is_secured() && is_first && session.secured_ns().is_none();
        self.account.add(LoaderCount::LostHandshakes, u64::from(is_unsecured));
        let is_wait_lost =
            !session.served && (session.phase == Phase::Connecting || self.policy.awaits_accept(session));
        self.account.add(LoaderCount::LostWaits, u64::from(is_wait_lost));
        let is_asked = session.exchange == Exchange::FollowUp;
        let is_due = self.follow_up_ns > 0
            && is_to_be_held_at(self.follow_up_ns, session.intended_ns, session.planned_hold_ns(&self.policy));
        let is_lost = if is_asked { session.phase == Phase::Exchanging } else { is_due };
        self.account.add(LoaderCount::LostFollowUps, u64::from(is_lost));
    }

    /// Counts what a measured attempt that never got as far as a connection, or never began, was to leave.
    pub fn lose_start(&mut self, transport: Transport, intended_ns: u64, (requests, hold): (u32, Hold)) {
        let start = Start { intended_ns, connect_ns: intended_ns };
        self.lose(&Session::new(transport, (0, 0), start, requests, true).held_for(hold));
    }

    /// Counts a failed attempt, whether or not it got as far as a connection.
    pub fn failed(&mut self, step: Step, cause: Cause, now_ns: u64) {
        let exhausted = matches!(cause, Cause::Errno(libc::EADDRNOTAVAIL | libc::EADDRINUSE));
        if exhausted && self.account.get(LoaderCount::FirstExhaustedNs) == 0 {
            self.account.set(LoaderCount::FirstExhaustedNs, now_ns);
        }
        self.account.add_error(step, cause);
        self.account.add(LoaderCount::Failed, 1);
        if matches!(step, Step::Socket | Step::Bind | Step::Connect) {
            self.account.add(LoaderCount::Unconnected, 1);
        }
        self.account.set(LoaderCount::EndedNs, now_ns);
    }

    /// Counts a flow by the workers that answered it.
    fn count_flow(&mut self, session: &Session) {
        let Some(flow) = self.flows.try_remove(session.tag as usize) else { return };
        let Some((first, kind)) = flow.ended() else { return };
        let began = SocketAddr::new(self.ends.client(session).ip(), flow.first_port());
        self.observer.flow_answered(began, first);
        self.account.add_flow(first.into());
        if let Some(kind) = kind {
            self.account.add(kind, 1);
        }
    }
}
