//! A thread of the worker blocks in accept(2) of each of its listeners, and hands connections over to the worker's loop. The kernel
//! wakes threads blocked on one queue first in, first out.

use std::{
    io,
    net::SocketAddr,
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use crossbeam::queue::ArrayQueue;
use mio::{Registry, Waker, net::TcpStream};

use super::{Accepted, Acceptor, HandedOver, Source, TOKEN, Taken};
use crate::{
    server::Listener,
    sys::{clock, thread},
};

/// Connections on their way from the threads to the loop. When this many wait, the threads stop accepting.
const IN_HAND: usize = 1_024;
/// How long the thread pauses if the loop does not keep up or accept fails.
const PAUSE: Duration = Duration::from_millis(1);

/// What the threads and the loop share.
struct Shared {
    listener: Listener,
    queue: ArrayQueue<io::Result<OnTheWay>>,
    stop: AtomicBool,
}

/// A connection between the thread and the loop.
struct OnTheWay {
    stream: TcpStream,
    peer: SocketAddr,
    /// When accept(2) returned it, in nanoseconds of CLOCK_MONOTONIC.
    returned_ns: u64,
}

impl OnTheWay {
    /// The connection as the loop takes it.
    fn arrive(self) -> Accepted {
        let Self { stream, peer, returned_ns } = self;
        // A thread that blocks in accept wakes up as accept returns.
        Accepted::received(stream, peer, HandedOver { woke_ns: returned_ns, returned_ns })
    }
}

pub(super) struct ThreadAcceptor {
    shared: Arc<Shared>,
    waker: Option<Arc<Waker>>,
    threads: Vec<JoinHandle<()>>,
}

impl ThreadAcceptor {
    /// The listener must block.
    pub(super) fn new(listener: Listener) -> Result<Self> {
        thread::make_interruptible().context("sigaction")?;
        // Each thread may be about to push one more.
        let queue = ArrayQueue::new(IN_HAND + listener.sockets().len());
        let shared = Arc::new(Shared { listener, queue, stop: AtomicBool::new(false) });
        Ok(Self { shared, waker: None, threads: Vec::new() })
    }
}

impl Shared {
    /// Accepts from one listener until the worker stops it and a signal interrupts the pending accept.
    fn accept(&self, place: usize, waker: &Waker) {
        while !self.stop.load(Relaxed) {
            if self.queue.len() >= IN_HAND {
                std::thread::sleep(PAUSE);
                continue;
            }
            let accepted = match self.listener.accept_at(place) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                accepted => accepted.map(|(stream, peer)| {
                    let returned_ns = clock::monotonic_ns();
                    OnTheWay { stream, peer, returned_ns }
                }),
            };
            let failed = accepted.is_err();
            // The loop need not see every one of several failures, and no connection should queue behind them.
            if !failed || self.queue.is_empty() {
                // Between its looks at the length, each thread pushes one at most, so there is room.
                let _ = self.queue.push(accepted);
                // Fails only when memory runs out; the next connection wakes the loop as well.
                let _ = waker.wake();
            }
            if failed {
                std::thread::sleep(PAUSE);
            }
        }
    }
}

impl Source for ThreadAcceptor {
    fn register(&mut self, registry: &Registry) -> io::Result<()> {
        if self.waker.is_none() {
            let waker = Arc::new(Waker::new(registry, TOKEN)?);
            for place in 0..self.shared.listener.sockets().len() {
                let (shared, for_thread) = (Arc::clone(&self.shared), Arc::clone(&waker));
                let thread = std::thread::Builder::new().name("lb:accept".to_owned());
                self.threads.push(thread.spawn(move || shared.accept(place, &for_thread))?);
            }
            self.waker = Some(waker);
        }
        // The wake-ups for connections that arrived while the loop paused are gone.
        self.left_some()
    }

    fn deregister(&mut self) -> io::Result<()> {
        // The thread itself pauses when accept fails, so nothing wakes the loop unnecessarily.
        Ok(())
    }

    fn left_some(&mut self) -> io::Result<()> {
        match &self.waker {
            // An empty queue wakes the loop once it is no longer empty.
            Some(waker) if !self.shared.queue.is_empty() => waker.wake(),
            _ => Ok(()),
        }
    }
}

impl Acceptor for ThreadAcceptor {
    fn accept(&mut self) -> io::Result<Option<Taken>> {
        Ok(self.shared.queue.pop().transpose()?.map(|connection| Taken::Own(connection.arrive())))
    }

    fn stop(&mut self) -> io::Result<Vec<Taken>> {
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // A signal that arrives just before the call of accept is lost, so repeat until the thread has ended.
            while !thread.is_finished() {
                thread::interrupt(&thread);
                std::thread::sleep(PAUSE);
            }
        }
        Ok(std::iter::from_fn(|| self.shared.queue.pop())
            .flatten()
            .map(|connection| Taken::Own(connection.arrive()))
            .collect())
    }

    fn listeners(&self) -> Vec<BorrowedFd<'_>> {
        self.shared.listener.descriptors().collect()
    }
}
