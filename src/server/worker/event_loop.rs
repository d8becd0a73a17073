//! The worker's loop: wait, accept, serve. It is the same for every strategy and every app.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use mio::{Events, Poll, Token, net::TcpStream};
use slab::Slab;
use socket2::SockRef;

use super::{
    EVENTS, Worker,
    mover::{Mover, wait},
    pause::Pauses,
};
use crate::{
    ipc::{
        control::{Count, Meter, Phase, Window},
        receipt::Tuple,
    },
    record::Step,
    scenario::{Admit, AtOpenFiles, Balance, Server, Wake},
    server::{
        accept::{self, Accepted, Acceptor, Source, Taken},
        app::{Application, Arrival, Connection},
        burn::Burns,
        datagrams::Datagrams,
        descriptors::{Descriptors, Spare},
    },
    sys::{clock, limits, socket},
};

pub(super) struct Loop<M> {
    pub(super) worker: Worker,
    pub(super) poll: Poll,
    pub(super) mover: M,
    pub(super) acceptor: Option<Box<dyn Acceptor>>,
    pub(super) datagrams: Option<Datagrams>,
    pub(super) application: Application,
    pub(super) connections: Slab<Connection>,
    /// Keys of connections accepted in this wake-up and not served yet.
    pub(super) fresh: VecDeque<usize>,
    /// The server's end of all connections, if it can have no other.
    pub(super) only_end: Option<SocketAddr>,
    /// When the worker leaves the listener alone.
    pub(super) pauses: Pauses,
    /// Its process's descriptors, once it accepts; `None` if another thread of the process looks after them.
    pub(super) descriptors: Option<Descriptors>,
    /// Kept while [`AtOpenFiles::Reserve`] asks for it.
    pub(super) spare: Spare,
    /// Until when the worker, which is leaving, serves what it has open.
    pub(super) drain_until_ns: Option<u64>,
    /// When the wait for events last ended.
    pub(super) woke_ns: u64,
}

/// How a worker's loop ended.
pub(super) enum Ending {
    /// With the trial.
    Stopped,
    /// The worker was told to leave, and has nothing open any more.
    Left,
}

impl<M: Mover> Loop<M> {
    /// Limits the process's descriptors as the scenario says, adds the listener to epoll, counts the descriptors and begins to accept.
    /// Workers do so one at a time: with EPOLLEXCLUSIVE, the order decides which is woken. The threads of a pool leave limit and count to
    /// the one that accepts for them.
    pub(super) fn begin(&mut self) -> Result<()> {
        let scenario = Arc::clone(&self.worker.context.scenario);
        let is_limited = self.acceptor.is_some() && !scenario.server.strategy.is_pool();
        if is_limited {
            if self.keeps_spare() {
                self.spare.take();
            }
            Descriptors::limit(&scenario.server)?;
        }
        let (control, turn) = (&self.worker.context.control, self.worker.turn);
        match turn.after {
            Some(before) if self.worker.waits => control.wait_until_serving(before),
            _ if self.worker.waits => {}
            _ => control.wait_for_registration_turn(turn.rank),
        }
        for source in sources(&mut self.acceptor, &mut self.datagrams) {
            source.register(self.poll.registry()).context("adding the listener to epoll")?;
        }
        if is_limited {
            self.descriptors = Some(Descriptors::count(scenario.address.port())?);
        }
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.start().context("beginning to accept")?;
        }
        if self.worker.waits {
            self.worker.context.control.serves(self.worker.number, clock::monotonic_ns());
        } else {
            self.worker.context.control.registered(turn.rank);
        }
        Ok(())
    }

    /// Whether it has a descriptor to spare. A thread that accepts for it has its own; that is not for what other workers hand over.
    fn keeps_spare(&self) -> bool {
        let Server { strategy, at_open_files, .. } = &self.worker.context.scenario.server;
        let accepts = strategy.wake != Wake::Thread || strategy.balance != Balance::Off;
        *at_open_files == AtOpenFiles::Reserve && accepts && !strategy.is_pool()
    }

    /// Waits before accepting; false if the trial ended in the meantime, or the worker is to leave.
    pub(super) fn sleep_until(&mut self, window: Window, delay: Duration, burns: &mut Burns) -> Result<bool> {
        let until = window.start_ns.saturating_add(clock::nanoseconds(delay));
        let mut events = Events::with_capacity(1);
        loop {
            let now_ns = clock::monotonic_ns();
            burns.burn_due(now_ns, &self.worker.context.control, || self.running());
            let left = until.min(burns.next_ns().unwrap_or(u64::MAX)).saturating_sub(now_ns);
            if !self.running() || self.is_to_leave() {
                return Ok(false);
            }
            if clock::monotonic_ns() >= until {
                return Ok(true);
            }
            wait(&mut self.poll, &mut events, Some(Duration::from_nanos(left)))?;
        }
    }

    pub(super) fn run(&mut self, burns: &mut Burns, meter: &mut Meter<'_>) -> Result<Ending> {
        let mut events = Events::with_capacity(EVENTS);
        while self.running() {
            let now_ns = clock::monotonic_ns();
            burns.burn_due(now_ns, &self.worker.context.control, || self.running());
            if self.drain_until_ns.is_none() && self.is_to_leave() {
                self.leave(meter)?;
            } else if self.drain_until_ns.is_some() && self.datagrams.is_some() {
                self.give_up_flows(meter)?;
            }
            if self.has_drained(now_ns, meter)? {
                return Ok(Ending::Left);
            }
            if self.pauses.ends(now_ns, self.open())
                && let Some(acceptor) = &mut self.acceptor
            {
                acceptor.register(self.poll.registry()).context("adding the listener to epoll")?;
            }
            // Flows are kept until the worker is told otherwise.
            let drained_ns = self.drain_until_ns.filter(|_| self.datagrams.is_none());
            let next_ns = [self.pauses.until_ns(), drained_ns, burns.next_ns()].into_iter().flatten().min();
            let mut left = next_ns.map(|next_ns| Duration::from_nanos(next_ns.saturating_sub(now_ns)));
            for source in sources(&mut self.acceptor, &mut self.datagrams) {
                let patience = source.before_wait().context("preparing to accept")?;
                left = [left, patience].into_iter().flatten().min();
            }
            let closed = self.mover.wait(&mut self.poll, &mut events, left)?;
            self.woke_ns = clock::monotonic_ns();
            meter.pass(self.woke_ns);
            (0..closed).for_each(|_| self.closed(meter));
            let pending = self.mover.pending(&events);
            for source in sources(&mut self.acceptor, &mut self.datagrams) {
                source.woke(&events, pending);
            }
            self.take_in(&events, meter)?;
            M::serve_ready(self, &events, meter)?;
        }
        Ok(Ending::Stopped)
    }

    /// Accepts and serves what is new.
    fn take_in(&mut self, events: &Events, meter: &mut Meter<'_>) -> Result<()> {
        let ready = |token: Token| events.iter().any(|event| accept::kind(event.token()) == token);
        if ready(accept::TOKEN) || ready(accept::TOKEN_TAKEN_OVER) {
            self.accept(meter)?;
        }
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.after_accepts().context("ending the accepts")?;
            count_refused(acceptor.as_mut(), meter);
        }
        self.serve_fresh(meter);
        if let (true, Some(datagrams)) = (ready(accept::TOKEN_DATAGRAMS), &mut self.datagrams) {
            let worker = &self.worker;
            let running = || worker.context.control.phase() == Phase::Running;
            datagrams.serve(worker.batch(), running, &mut self.application, meter)?;
        }
        Ok(())
    }

    /// How many connections it has, those that are being closed included.
    pub(super) fn open(&self) -> usize {
        self.connections.len() + self.mover.closing()
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
        let at_open_files = self.worker.context.scenario.server.at_open_files;
        let needs_room = at_open_files != AtOpenFiles::Spin && acceptor.receives();
        meter.add(Count::Wakeups, 1);
        let mut accepted = 0;
        let mut emptied = false;
        while accepted < most && self.running() {
            if self.pauses.lets_others_go_first(self.open()) {
                acceptor.deregister().context("taking the listener out of epoll")?;
                break;
            }
            let would_lose = needs_room && !self.has_room();
            let next = if would_lose { Err(io::Error::from_raw_os_error(libc::EMFILE)) } else { acceptor.accept() };
            match next {
                Ok(Some(taken)) => {
                    accepted += 1;
                    self.pauses.accepted();
                    self.take(taken, acceptor, meter);
                }
                Ok(None) => {
                    emptied = true;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    meter.add(Count::AcceptEagain, 1);
                    if !acceptor.has_another() {
                        emptied = true;
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if limits::is_out_of_files(&error) => {
                    meter.accepts_failed(&error, 1);
                    match at_open_files {
                        // A queue that is not empty wakes it again at once.
                        AtOpenFiles::Spin => {}
                        AtOpenFiles::Reserve if self.spare.take() => {
                            emptied = self.shed(acceptor, &mut accepted, meter)?;
                        }
                        AtOpenFiles::Pause | AtOpenFiles::Reserve => {
                            // A ring may have failed before connections that it had accepted turned out to be over.
                            let is_full = error.raw_os_error() == Some(libc::EMFILE)
                                && !limits::has_room(self.worker.context.control.wake());
                            acceptor.deregister().context("taking the listener out of epoll")?;
                            self.pauses.out_of_files(self.open(), is_full);
                        }
                    }
                    break;
                }
                Err(error) => {
                    meter.accepts_failed(&error, 1);
                    if error.kind() == ErrorKind::ConnectionAborted {
                        // The error concerns only this connection.
                        continue;
                    }
                    // ENOBUFS, ENOMEM: the worker cannot accept anything now, and a non-empty queue would wake it again at once for
                    // nothing.
                    acceptor.deregister().context("taking the listener out of epoll")?;
                    self.pauses.exhausted();
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
        if !emptied && !self.pauses.is_paused() {
            acceptor.left_some().context("re-arming the listener in epoll")?;
        }
        Ok(())
    }

    /// Whether the process has a descriptor for another connection.
    #[inline]
    fn has_room(&self) -> bool {
        let used_up = self.descriptors.is_some_and(|descriptors| descriptors.may_be_used_up(self.open()));
        !used_up || limits::has_room(self.worker.context.control.wake())
    }

    /// Frees the spare descriptor to accept a connection, which is closed if there is no other, and takes it again; until the queue is
    /// empty, when it returns true, or the batch is full.
    fn shed(&mut self, acceptor: &mut dyn Acceptor, accepted: &mut u32, meter: &mut Meter<'_>) -> Result<bool> {
        let most = self.worker.batch();
        let mut emptied = false;
        while !emptied && *accepted < most && self.running() {
            self.spare.free();
            match acceptor.accept_spared() {
                Ok(Some(taken)) => {
                    *accepted += 1;
                    self.pauses.accepted();
                    self.take(taken, acceptor, meter);
                }
                Ok(None) => emptied = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    meter.add(Count::AcceptEagain, 1);
                    emptied = !acceptor.has_another();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    // If for want of a descriptor, another process was faster: the machine's are used up.
                    meter.accepts_failed(&error, 1);
                    if error.kind() != ErrorKind::ConnectionAborted {
                        acceptor.deregister().context("taking the listener out of epoll")?;
                        self.pauses.exhausted();
                        break;
                    }
                }
            }
        }
        if !self.pauses.is_paused() {
            // A ring can wait for connections only while a descriptor is free.
            acceptor.left_some().context("re-arming the listener in epoll")?;
        }
        self.spare.take();
        Ok(emptied)
    }

    /// Counts what was taken, and opens a connection that is to be served. One that has the descriptor that the worker is to spare is
    /// closed.
    pub(super) fn take(&mut self, taken: Taken, acceptor: &mut dyn Acceptor, meter: &mut Meter<'_>) {
        self.count(&taken, meter);
        let is_open = match taken {
            Taken::HandedOver => return,
            Taken::Shed(_) => false,
            Taken::Own(connection) | Taken::Over(connection) => {
                if self.keeps_spare() && !self.spare.take() {
                    meter.add(Count::Shed, 1);
                    meter.add(Count::Settled, 1);
                    if let (Some(stamps), Some(peer)) = (&self.worker.context.stamps, connection.peer) {
                        stamps.take(peer);
                    }
                    if let (Some(ledger), Some(peer)) = (&self.worker.context.ledger, connection.peer) {
                        ledger.shed(peer, connection.accept_ns);
                    }
                    drop(connection);
                    self.spare.take();
                    false
                } else {
                    self.take_up(connection, meter)
                }
            }
        };
        if !is_open {
            acceptor.closed();
        }
    }

    /// Counts what was taken; a connection to be served, in the ledger too.
    pub(super) fn count(&self, taken: &Taken, meter: &mut Meter<'_>) {
        if self.worker.context.scenario.server.listen.multipath && taken.fell_back() {
            meter.add(Count::FellBack, 1);
        }
        let (peer, accept_ns) = match taken {
            Taken::HandedOver => return meter.add(Count::HandedOver, 1),
            Taken::Over(accepted) => {
                meter.add(Count::TakenOver, 1);
                (accepted.peer, accepted.accept_ns)
            }
            Taken::Own(accepted) => (accepted.peer, accepted.accept_ns),
            Taken::Shed(closed) => {
                meter.add(Count::Shed, 1);
                meter.add(Count::Settled, 1);
                if let Some(ledger) = &self.worker.context.ledger {
                    ledger.shed(closed.peer, closed.accept_ns);
                }
                (Some(closed.peer), closed.accept_ns)
            }
        };
        meter.accepted(accept_ns);
        match (&self.worker.context.ledger, peer) {
            (Some(ledger), Some(peer)) => ledger.accepted(peer, self.worker.number as u16, accept_ns),
            (Some(ledger), None) => ledger.accepted_nameless(),
            (None, _) => {}
        }
    }

    /// Records the accept wait of a connection, and opens it; false if it is already over. A stranger's has no stamp, and unless strangers
    /// are served, it is over now.
    pub(super) fn take_up(&mut self, accepted: Accepted, meter: &Meter<'_>) -> bool {
        let context = &self.worker.context;
        let stranger = accepted.peer.is_some_and(|peer| context.clients.place(peer.ip()).is_none());
        if !stranger {
            self.record_wait(&accepted, meter);
        }
        meter.add(Count::Settled, 1);
        if stranger && context.scenario.admit == Admit::Job {
            // Nothing is left of it here, not even a TIME-WAIT socket. If the client is gone already, so is the connection.
            let _ = SockRef::from(&accepted.stream).set_linger(Some(Duration::ZERO));
            return false;
        }
        self.open_one(accepted, meter)
    }

    fn record_wait(&self, accepted: &Accepted, meter: &Meter<'_>) {
        let Accepted { accept_ns, handed_over, .. } = *accepted;
        let returned_ns = handed_over.map_or(accept_ns, |handed_over| handed_over.returned_ns);
        // Hand-overs are recorded of the same connections as exact waits; without stamps, of those that accept(2) returned in the
        // measured window.
        let mut from_ns = returned_ns;
        if let Some(stamps) = &self.worker.context.stamps {
            match accepted.peer.and_then(|peer| stamps.take(peer)) {
                Some(established_ns) if established_ns <= returned_ns => {
                    meter.waited(established_ns, accept_ns);
                    from_ns = established_ns;
                }
                _ => return meter.add(Count::Unstamped, 1),
            }
        }
        if handed_over.is_some() {
            meter.handed_over(from_ns, accept_ns - returned_ns);
        } else if self.worker.context.completions.is_some() {
            meter.add(Count::HandOverUnknown, 1);
        }
    }

    /// Opens a connection, to be served after the wake-up's accepts; false if it is already over.
    fn open_one(&mut self, accepted: Accepted, meter: &Meter<'_>) -> bool {
        // A client that has gone needs no service.
        let Some(peer) = accepted.peer else { return false };
        let Accepted { stream, accept_ns, handed_over, .. } = accepted;
        match self.own_end(&stream) {
            Ok(server) => {
                let tuple = Tuple { client: peer, server };
                let (woke_ns, returned_ns) = handed_over
                    .map_or((self.woke_ns, accept_ns), |handed_over| (handed_over.woke_ns, handed_over.returned_ns));
                if let Some(ledger) = &self.worker.context.ledger {
                    ledger.arrived(peer, woke_ns, returned_ns, accept_ns);
                }
                let connection = self.application.take_up(Arrival { stream, tuple, accept_ns });
                meter.opened();
                self.fresh.push_back(self.connections.insert(connection));
                true
            }
            Err(error) => {
                meter.add_error(Step::Accept, &error);
                false
            }
        }
    }

    /// The server's end of a connection. All connections of a server bound to one address have that address.
    fn own_end(&self, stream: &TcpStream) -> io::Result<SocketAddr> {
        match self.only_end {
            Some(only) => Ok(only),
            None => stream.local_addr().map(socket::unmapped),
        }
    }
}

/// Counts what a thread of the acceptor's was refused for want of a descriptor.
pub(super) fn count_refused(acceptor: &mut dyn Acceptor, meter: &Meter<'_>) {
    for (errno, times) in acceptor.refused() {
        meter.accepts_failed(&io::Error::from_raw_os_error(errno), times);
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
