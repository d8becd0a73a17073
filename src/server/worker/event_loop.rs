//! The worker's loop: wait, accept, serve. It is the same for every strategy and every app.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use anyhow::{Context, Result};
use mio::{Events, Poll, Token, net::TcpStream};
use slab::Slab;

use super::{EVENTS, FIRST_CONNECTION, Worker};
use crate::{
    ipc::{
        control::{Count, Meter, Phase, Window},
        receipt::Tuple,
        tally::Tally,
    },
    record::Step,
    server::{
        accept::{self, Accepted, Acceptor, Source},
        app::{Application, Arrival, Connection},
        burn::Burns,
        datagrams::Datagrams,
    },
    sys::clock,
};

/// How long a worker that has run out of descriptors or memory leaves the listener alone.
const EXHAUSTED_PAUSE_NS: u64 = 10_000_000;

pub(super) struct Loop {
    pub(super) worker: Worker,
    pub(super) poll: Poll,
    pub(super) acceptor: Option<Box<dyn Acceptor>>,
    pub(super) datagrams: Option<Datagrams>,
    pub(super) application: Application,
    pub(super) connections: Slab<Connection>,
    /// Keys of connections accepted in this wake-up and not served yet.
    pub(super) fresh: VecDeque<usize>,
    /// Until when the worker leaves the listener alone because it has run out of descriptors or memory.
    pub(super) paused_until_ns: Option<u64>,
    pub(super) errors: Tally,
    /// When the wait for events last ended.
    pub(super) woke_ns: u64,
}

impl Loop {
    /// Workers register one at a time: with EPOLLEXCLUSIVE, the order decides which is woken.
    pub(super) fn register(&mut self) -> Result<()> {
        self.worker.context.control.wait_for_registration_turn(self.worker.rank);
        for source in sources(&mut self.acceptor, &mut self.datagrams) {
            source.register(self.poll.registry()).context("adding the listener to epoll")?;
        }
        self.worker.context.control.registered(self.worker.rank);
        Ok(())
    }

    /// Waits before accepting; false if the trial ended in the meantime.
    pub(super) fn sleep_until(&mut self, window: Window, delay: Duration, burns: &mut Burns) -> Result<bool> {
        let until = window.start_ns.saturating_add(clock::nanoseconds(delay));
        let mut events = Events::with_capacity(1);
        loop {
            let now_ns = clock::monotonic_ns();
            burns.burn_due(now_ns, &self.worker.context.control, || self.running());
            let left = until.min(burns.next_ns().unwrap_or(u64::MAX)).saturating_sub(now_ns);
            if !self.running() {
                return Ok(false);
            }
            if clock::monotonic_ns() >= until {
                return Ok(true);
            }
            wait(&mut self.poll, &mut events, Some(Duration::from_nanos(left)))?;
        }
    }

    pub(super) fn run(&mut self, burns: &mut Burns, meter: &mut Meter<'_>) -> Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        while self.running() {
            let now_ns = clock::monotonic_ns();
            burns.burn_due(now_ns, &self.worker.context.control, || self.running());
            if self.paused_until_ns.is_some_and(|until_ns| until_ns <= now_ns) {
                self.paused_until_ns = None;
                if let Some(acceptor) = &mut self.acceptor {
                    acceptor.register(self.poll.registry()).context("adding the listener to epoll")?;
                }
            }
            let next_ns = [self.paused_until_ns, burns.next_ns()].into_iter().flatten().min();
            let mut left = next_ns.map(|next_ns| Duration::from_nanos(next_ns.saturating_sub(now_ns)));
            for source in sources(&mut self.acceptor, &mut self.datagrams) {
                let patience = source.before_wait().context("preparing to accept")?;
                left = [left, patience].into_iter().flatten().min();
            }
            wait(&mut self.poll, &mut events, left)?;
            self.woke_ns = clock::monotonic_ns();
            meter.pass(self.woke_ns);
            for source in sources(&mut self.acceptor, &mut self.datagrams) {
                source.woke(events.iter().count());
            }
            self.take_in(&events, meter)?;
            for event in events.iter().filter(|event| event.token().0 >= FIRST_CONNECTION) {
                if !self.running() {
                    return Ok(());
                }
                self.ready(event, meter);
            }
        }
        Ok(())
    }

    /// Accepts and serves what is new.
    fn take_in(&mut self, events: &Events, meter: &mut Meter<'_>) -> Result<()> {
        let ready = |token: Token| events.iter().any(|event| event.token() == token);
        if ready(accept::TOKEN) {
            self.accept(meter)?;
        }
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.after_accepts().context("ending the accepts")?;
        }
        self.serve_fresh(meter);
        if let (true, Some(datagrams)) = (ready(accept::TOKEN_DATAGRAMS), &mut self.datagrams) {
            let worker = &self.worker;
            let running = || worker.context.control.phase() == Phase::Running;
            datagrams.serve(worker.batch(), running, &mut self.application, &mut self.errors, meter)?;
        }
        Ok(())
    }

    /// Whether the worker should go on. Checked between requests: after a stop, unserved connections no longer have a client.
    pub(super) fn running(&self) -> bool {
        self.worker.context.control.phase() == Phase::Running
    }

    /// Accepts a batch, to be served next. Its size determines how long the queue waits while the batch is served.
    fn accept(&mut self, meter: &mut Meter<'_>) -> Result<()> {
        let Some(mut acceptor) = self.acceptor.take() else { return Ok(()) };
        let result = self.accept_from(acceptor.as_mut(), meter);
        self.acceptor = Some(acceptor);
        result
    }

    fn accept_from(&mut self, acceptor: &mut dyn Acceptor, meter: &mut Meter<'_>) -> Result<()> {
        let most = self.worker.batch();
        meter.add(Count::Wakeups, 1);
        let mut accepted = 0;
        let mut emptied = false;
        while accepted < most && self.running() {
            match acceptor.accept() {
                Ok(connection) => {
                    accepted += 1;
                    self.count(&connection, meter);
                    if !self.open(connection, meter) {
                        acceptor.closed();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    meter.add(Count::AcceptEagain, 1);
                    emptied = true;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.errors.add(Step::Accept, &error);
                    if error.kind() == ErrorKind::ConnectionAborted {
                        // The error concerns only this connection.
                        continue;
                    }
                    // EMFILE, ENFILE, ENOBUFS, ENOMEM: the worker cannot accept anything now, and a non-empty queue would wake
                    // it again at once for nothing.
                    acceptor.deregister().context("taking the listener out of epoll")?;
                    self.paused_until_ns = Some(clock::monotonic_ns() + EXHAUSTED_PAUSE_NS);
                    break;
                }
            }
        }
        if accepted == 0 && emptied {
            meter.add(Count::EmptyWakeups, 1);
        }
        if accepted > 0 {
            meter.batch(accepted);
        }
        if !emptied && self.paused_until_ns.is_none() {
            acceptor.left_some().context("re-arming the listener in epoll")?;
        }
        Ok(())
    }

    /// Counts an accept, in the ledger too.
    pub(super) fn count(&self, accepted: &Accepted, meter: &mut Meter<'_>) {
        meter.accepted(accepted.accept_ns);
        match (&self.worker.context.ledger, accepted.peer) {
            (Some(ledger), Some(peer)) => ledger.accepted(peer, self.worker.number as u16, accepted.accept_ns),
            (Some(ledger), None) => ledger.accepted_nameless(),
            (None, _) => {}
        }
        if let Some(stamps) = &self.worker.context.stamps {
            match accepted.peer.and_then(|peer| stamps.take(peer)) {
                Some(established_ns) if established_ns <= accepted.accept_ns => {
                    meter.waited(established_ns, accepted.accept_ns);
                }
                _ => meter.add(Count::Unstamped, 1),
            }
        }
    }

    /// Opens a connection, to be served after the wake-up's accepts; false if it is already over.
    fn open(&mut self, accepted: Accepted, meter: &Meter<'_>) -> bool {
        // A client that has gone needs no service.
        let Some(peer) = accepted.peer else { return false };
        let Accepted { stream, accept_ns, .. } = accepted;
        match self.own_end(&stream) {
            Ok(server) => {
                let tuple = Tuple { client: peer, server };
                let arrival = Arrival { stream, tuple, accept_ns, woke_ns: self.woke_ns };
                let connection = self.application.take_up(arrival);
                meter.opened();
                self.fresh.push_back(self.connections.insert(connection));
                true
            }
            Err(error) => {
                self.errors.add(Step::Accept, &error);
                false
            }
        }
    }

    /// The server's end of a connection. All connections of a listener bound to one address have that address.
    fn own_end(&self, stream: &TcpStream) -> io::Result<SocketAddr> {
        let bound = self.worker.context.scenario.address;
        if bound.ip().is_unspecified() { stream.local_addr() } else { Ok(bound) }
    }
}

/// The sources that wake the worker for new work.
fn sources<'a>(
    acceptor: &'a mut Option<Box<dyn Acceptor>>,
    datagrams: &'a mut Option<Datagrams>,
) -> impl Iterator<Item = &'a mut dyn Source> {
    let acceptor = acceptor.as_mut().map(|acceptor| acceptor.as_mut() as &mut dyn Source);
    let receiver = datagrams.as_mut().map(|datagrams| datagrams.receiver.as_mut() as &mut dyn Source);
    acceptor.into_iter().chain(receiver)
}

/// Waits for events; a signal counts as a wake-up without any.
fn wait(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> Result<()> {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        result => result.context("epoll_wait"),
    }
}
