//! Accept, then hand over: a worker that has more connections than the mean of all passes what it accepts to the one that has the
//! fewest. Envoy's exact balance, Seastar's connection balancing and Puma's clusters are of this kind.
//!
//! As in Envoy, the choice is made under a lock, so that it never rests on figures that another choice is changing: as long as no
//! connection closes, workers' open connections differ by one at most.

use std::{
    io::{self, ErrorKind},
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crossbeam::utils::CachePadded;
use mio::{Events, Registry};

use super::{
    Accepted, Acceptor, HandedOver, Refused, Source, TOKEN, TOKEN_TAKEN_OVER, Taken,
    channel::{Channel, Inlet, Outlet},
    kind,
};
use crate::sys::{clock, fd_passing, robust_mutex::RobustMutex, shared::SharedSlice};

/// What the workers share. Made before the fork.
pub(super) struct Exchange {
    loads: Loads,
    /// A channel to each worker.
    channels: Vec<Channel>,
    /// Whether it is known when workers accept; not if they have rings.
    timed: bool,
}

impl Exchange {
    pub fn new(workers: usize, timed: bool) -> io::Result<Self> {
        let loads = Loads { open: SharedSlice::new(workers)?, lock: RobustMutex::new()? };
        Ok(Self { loads, channels: (0..workers).map(|_| Channel::new()).collect::<io::Result<_>>()?, timed })
    }
}

/// The connections of each worker, open or on the way to it.
struct Loads {
    open: SharedSlice<CachePadded<AtomicU64>>,
    lock: RobustMutex,
}

impl Loads {
    /// Chooses the worker that gets a connection accepted by `own`, and counts it there. `can_get` excludes workers that have died.
    fn place(&self, own: usize, can_get: impl Fn(usize) -> bool) -> io::Result<usize> {
        self.lock.lock()?;
        let alive = || (0..self.open.len()).filter(|worker| can_get(*worker));
        let chosen = choose(own, || alive().map(|worker| (worker, self.open[worker].load(Relaxed))));
        self.add(chosen);
        self.lock.unlock()?;
        Ok(chosen)
    }

    fn add(&self, worker: usize) {
        self.open[worker].fetch_add(1, Relaxed);
    }

    fn remove(&self, worker: usize) {
        self.open[worker].fetch_sub(1, Relaxed);
    }
}

/// The worker that accepted keeps the connection, unless it has more than the mean; then the one with the fewest gets it, and among
/// equals the lowest number.
fn choose<L: Iterator<Item = (usize, u64)>>(own: usize, loads: impl Fn() -> L) -> usize {
    let (mut sum, mut count, mut has) = (0, 0, 0);
    for (worker, load) in loads() {
        sum += load;
        count += 1;
        if worker == own {
            has = load;
        }
    }
    if has * count <= sum {
        return own;
    }
    loads().min_by_key(|(worker, load)| (*load, *worker)).map_or(own, |(worker, _)| worker)
}

/// A source of connections whose worker shares them with the others.
pub(super) struct Balancing<A> {
    source: A,
    own: usize,
    loads: Loads,
    /// To each other worker; `None` for this one, and for those that have died.
    outlets: Vec<Option<Outlet>>,
    inlet: Inlet,
    timed: bool,
    woke_ns: u64,
    /// Which of the two the latest events are for.
    source_ready: bool,
    inlet_ready: bool,
}

impl<A: Acceptor> Balancing<A> {
    /// The part of one worker, in that worker's process.
    pub fn new(source: A, own: usize, exchange: Exchange) -> Self {
        let Exchange { loads, channels, timed } = exchange;
        let mut outlets = Vec::with_capacity(channels.len());
        let mut inlet = None;
        for (worker, channel) in channels.into_iter().enumerate() {
            if worker == own {
                inlet = Some(channel.into_inlet(TOKEN_TAKEN_OVER));
                outlets.push(None);
            } else {
                outlets.push(Some(channel.outlet));
            }
        }
        let inlet = inlet.expect("a channel for each worker");
        Self { source, own, loads, outlets, inlet, timed, woke_ns: 0, source_ready: false, inlet_ready: false }
    }

    /// The next connection, of the source's as `accept` gets it. What others have accepted comes first: it has waited longer.
    fn next(&mut self, accept: impl FnOnce(&mut A) -> io::Result<Option<Taken>>) -> io::Result<Option<Taken>> {
        if self.inlet_ready {
            match self.inlet.receive() {
                Ok(Some(accepted)) => return Ok(Some(Taken::Over(accepted))),
                Ok(None) => self.inlet_ready = false,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.inlet_ready = false,
                Err(error) => {
                    // It is lost.
                    self.loads.remove(self.own);
                    return Err(error);
                }
            }
        }
        if !self.source_ready {
            return Ok(None);
        }
        match accept(&mut self.source)? {
            Some(Taken::Own(accepted)) => self.place(accepted).map(Some),
            Some(Taken::Shed(closed)) => {
                self.loads.add(self.own);
                Ok(Some(Taken::Shed(closed)))
            }
            other => Ok(other),
        }
    }

    /// Keeps a connection that this worker has accepted, or hands it over.
    fn place(&mut self, accepted: Accepted) -> io::Result<Taken> {
        let Some(peer) = accepted.peer else {
            // The client has gone: there is nothing to serve.
            self.loads.add(self.own);
            return Ok(Taken::Own(accepted));
        };
        let (own, outlets) = (self.own, &self.outlets);
        let chosen = self.loads.place(own, |worker| worker == own || outlets[worker].is_some())?;
        let Some(outlet) = &self.outlets[chosen] else { return Ok(Taken::Own(accepted)) };
        let now = HandedOver { woke_ns: self.woke_ns, returned_ns: accepted.accept_ns };
        let handed_over = accepted.handed_over.or(self.timed.then_some(now));
        match outlet.send(accepted.stream.as_fd(), handed_over, peer) {
            Ok(()) => {
                // Its descriptor here is free again.
                self.source.closed();
                return Ok(Taken::HandedOver);
            }
            // It does not keep up.
            Err(error) if fd_passing::is_full(&error) => {}
            Err(_) => self.outlets[chosen] = None,
        }
        self.loads.remove(chosen);
        self.loads.add(self.own);
        Ok(Taken::Own(accepted))
    }
}

impl<A: Acceptor> Source for Balancing<A> {
    fn register(&mut self, registry: &Registry) -> io::Result<()> {
        self.source.register(registry)?;
        self.inlet.register(registry)
    }

    fn deregister(&mut self) -> io::Result<()> {
        self.source.deregister()?;
        self.inlet.deregister()
    }

    fn before_wait(&mut self) -> io::Result<Option<Duration>> {
        self.source.before_wait()
    }

    fn woke(&mut self, events: &Events, pending: usize) {
        self.woke_ns = clock::monotonic_ns();
        self.source_ready = events.iter().any(|event| kind(event.token()) == TOKEN);
        self.inlet_ready = events.iter().any(|event| event.token() == TOKEN_TAKEN_OVER);
        self.source.woke(events, pending);
    }

    fn left_some(&mut self) -> io::Result<()> {
        if self.inlet_ready {
            self.inlet.left_some()?;
        }
        if self.source_ready { self.source.left_some() } else { Ok(()) }
    }
}

impl<A: Acceptor> Acceptor for Balancing<A> {
    fn accept(&mut self) -> io::Result<Option<Taken>> {
        self.next(A::accept)
    }

    fn accept_spared(&mut self) -> io::Result<Option<Taken>> {
        self.next(A::accept_spared)
    }

    fn start(&mut self) -> io::Result<()> {
        self.source.start()
    }

    fn receives(&self) -> bool {
        true
    }

    fn refused(&mut self) -> Refused {
        self.source.refused()
    }

    fn has_another(&self) -> bool {
        self.source_ready && self.source.has_another()
    }

    fn closed(&mut self) {
        self.loads.remove(self.own);
        self.source.closed();
    }

    fn after_accepts(&mut self) -> io::Result<()> {
        self.source.after_accepts()
    }

    fn stop(&mut self) -> io::Result<Vec<Taken>> {
        let mut taken = self.source.stop()?;
        // Workers wait for each other's last connections, so none may wait before it has closed its outlets.
        self.outlets.clear();
        taken.extend(self.inlet.drain()?.into_iter().map(Taken::Over));
        Ok(taken)
    }

    fn listeners(&self) -> Vec<BorrowedFd<'_>> {
        self.source.listeners()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_above_the_mean_passes_to_the_one_with_the_fewest() {
        for (own, loads, chosen) in [
            (0, vec![Some(0), Some(0), Some(0)], 0),
            // Exactly the mean is not above it.
            (0, vec![Some(2), Some(2), Some(2)], 0),
            (1, vec![Some(1), Some(2), Some(3)], 1),
            (0, vec![Some(2), Some(1), Some(1)], 1),
            (2, vec![Some(5), Some(0), Some(6)], 1),
            // Below the mean it keeps it, though another has less.
            (0, vec![Some(1), Some(0), Some(9)], 0),
            // The dead get nothing, and count for nothing.
            (0, vec![Some(2), None, Some(1)], 2),
            (0, vec![Some(2), None, Some(2)], 0),
            (0, vec![Some(7)], 0),
        ] {
            let alive = || loads.iter().enumerate().filter_map(|(worker, load)| Some((worker, (*load)?)));
            assert_eq!(choose(own, alive), chosen, "{own} {loads:?}");
        }
    }

    #[test]
    fn held_connections_differ_by_one_whoever_accepts() {
        let loads = Loads { open: SharedSlice::new(5).unwrap(), lock: RobustMutex::new().unwrap() };
        // Worker 3 accepts most, worker 0 some, the others nothing.
        for accept in 0..1_003 {
            loads.place(if accept % 7 == 0 { 0 } else { 3 }, |_| true).unwrap();
            let open: Vec<u64> = loads.open.iter().map(|open| open.load(Relaxed)).collect();
            let (least, most) = (open.iter().min().unwrap(), open.iter().max().unwrap());
            assert!(most - least <= 1, "{open:?}");
        }
    }
}
