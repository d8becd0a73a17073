//! One thread accepts, and a pool of threads in the same process takes connections from its channel: the shape of servers in tokio and
//! Go. A connection crosses no process, so nothing but the channel stands between accept(2) and its worker.
//!
//! As there, a worker that waits is woken for a connection, and one that does not wait looks at the channel by itself when it comes round.

use std::{
    io,
    net::SocketAddr,
    os::fd::BorrowedFd,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use anyhow::Result;
use crossbeam::{
    channel::{Receiver, Sender, bounded},
    utils::CachePadded,
};
use mio::{Events, Registry, Waker, net::TcpStream};

use super::{
    Accepted, Acceptor, HandedOver, Source, TOKEN, Taken,
    helper::{Accepting, HandsOver},
};
use crate::{
    ipc::{
        control::{Control, Count, Meter},
        increase,
    },
    scenario::AtOpenFiles,
    server::Listener,
};

/// Connections on their way to the workers. When this many wait, the thread stops accepting.
const IN_HAND: usize = 1_024;
/// How long a stopping worker waits until nothing more can come.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// A worker as the accepting thread sees it.
#[derive(Default)]
struct Seat {
    /// Whether it waits, and nobody has woken it.
    waits: CachePadded<AtomicBool>,
    waker: OnceLock<Waker>,
    /// Connections that the worker has closed.
    closed: CachePadded<AtomicU64>,
}

impl Seat {
    /// Wakes the worker if it waits.
    fn wake(&self) -> io::Result<bool> {
        let waker = self.waker.get().filter(|_| self.waits.swap(false, SeqCst));
        waker.map_or(Ok(false), |waker| waker.wake().map(|()| true))
    }
}

/// A connection on its way.
struct OnTheWay {
    stream: TcpStream,
    peer: SocketAddr,
    handed_over: HandedOver,
}

/// The accepting thread's part and those of so many workers.
pub(super) fn pool(
    listener: Listener,
    workers: usize,
    at_open_files: AtOpenFiles,
) -> (Accepting<Feeder>, Vec<PoolAcceptor>) {
    let (sender, receiver) = bounded(IN_HAND);
    let seats: Arc<[Seat]> = (0..workers).map(|_| Seat::default()).collect();
    let acceptor = |own| PoolAcceptor { receiver: receiver.clone(), seats: Arc::clone(&seats), own };
    let acceptors = (0..workers).map(acceptor).collect();
    (Accepting::new(listener, Feeder { sender, seats, next: 0 }, at_open_files), acceptors)
}

/// The accepting thread's part.
pub(super) struct Feeder {
    sender: Sender<OnTheWay>,
    seats: Arc<[Seat]>,
    /// The worker that is woken next, if it waits.
    next: usize,
}

impl HandsOver for Feeder {
    fn hand_over(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        handed_over: HandedOver,
        _: &Control,
        meter: &Meter<'_>,
    ) -> Result<()> {
        // A pool that does not keep up blocks the thread, as it would elsewhere. Without workers, the connection is lost.
        if self.sender.send(OnTheWay { stream, peer, handed_over }).is_ok() {
            meter.add(Count::HandedOver, 1);
            self.wake_one()?;
        }
        Ok(())
    }

    fn closed(&self) -> Option<u64> {
        Some(self.seats.iter().map(|seat| seat.closed.load(Relaxed)).sum())
    }
}

impl Feeder {
    /// Wakes one of the workers that wait, in turn.
    fn wake_one(&mut self) -> io::Result<()> {
        let count = self.seats.len();
        for worker in (self.next..self.next + count).map(|worker| worker % count) {
            if self.seats[worker].wake()? {
                self.next = (worker + 1) % count;
                break;
            }
        }
        Ok(())
    }
}

/// A worker's part.
pub(super) struct PoolAcceptor {
    receiver: Receiver<OnTheWay>,
    seats: Arc<[Seat]>,
    own: usize,
}

impl PoolAcceptor {
    /// Wakes the worker itself if there is something to take.
    fn look(&self) -> io::Result<()> {
        match self.seats[self.own].waker.get() {
            Some(waker) if !self.receiver.is_empty() => waker.wake(),
            _ => Ok(()),
        }
    }
}

impl OnTheWay {
    fn arrive(self) -> Taken {
        Taken::Over(Accepted::received(self.stream, self.peer, self.handed_over))
    }
}

impl Source for PoolAcceptor {
    fn register(&mut self, registry: &Registry) -> io::Result<()> {
        let waker = &self.seats[self.own].waker;
        if waker.get().is_none() {
            // Only this thread sets it.
            let _ = waker.set(Waker::new(registry, TOKEN)?);
        }
        self.look()
    }

    fn deregister(&mut self) -> io::Result<()> {
        // Taking a connection from the channel never fails.
        Ok(())
    }

    fn before_wait(&mut self) -> io::Result<Option<Duration>> {
        // The accepting thread first sends, then looks who waits; this one does both the other way round. So one of the two sees the
        // other.
        self.seats[self.own].waits.store(true, SeqCst);
        self.look()?;
        Ok(None)
    }

    fn woke(&mut self, _: &Events, _: usize) {
        self.seats[self.own].waits.store(false, SeqCst);
    }

    fn left_some(&mut self) -> io::Result<()> {
        self.look()
    }
}

impl Acceptor for PoolAcceptor {
    fn accept(&mut self) -> io::Result<Option<Taken>> {
        Ok(self.receiver.try_recv().ok().map(OnTheWay::arrive))
    }

    fn closed(&mut self) {
        increase(&self.seats[self.own].closed, 1);
    }

    /// The accepting thread closes its end when it stops.
    fn stop(&mut self) -> io::Result<Vec<Taken>> {
        Ok(std::iter::from_fn(|| self.receiver.recv_timeout(END_PATIENCE).ok()).map(OnTheWay::arrive).collect())
    }

    fn listeners(&self) -> Vec<BorrowedFd<'_>> {
        // They are the accepting thread's.
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use mio::Poll;

    use super::*;

    #[test]
    fn workers_that_wait_are_woken_in_turn_and_others_not_at_all() {
        let polls: Vec<Poll> = (0..3).map(|_| Poll::new().unwrap()).collect();
        let seats: Arc<[Seat]> = (0..3).map(|_| Seat::default()).collect();
        let (sender, receiver) = bounded(8);
        let mut feeder = Feeder { sender, seats: Arc::clone(&seats), next: 0 };
        let waiting = || seats.iter().map(|seat| seat.waits.load(SeqCst)).collect::<Vec<_>>();
        for (own, poll) in polls.iter().enumerate() {
            let mut acceptor = PoolAcceptor { receiver: receiver.clone(), seats: Arc::clone(&seats), own };
            acceptor.register(poll.registry()).unwrap();
            acceptor.before_wait().unwrap();
        }
        assert_eq!(waiting(), [true, true, true]);
        feeder.wake_one().unwrap();
        assert_eq!(waiting(), [false, true, true]);
        seats[0].waits.store(true, SeqCst);
        feeder.wake_one().unwrap();
        assert_eq!(waiting(), [true, false, true], "the next in turn");
        feeder.wake_one().unwrap();
        feeder.wake_one().unwrap();
        assert_eq!(waiting(), [false, false, false]);
        // Nobody waits, so nobody is woken.
        feeder.wake_one().unwrap();
        assert_eq!((waiting(), feeder.next), (vec![false, false, false], 1));
    }
}
