//! A thread of the worker blocks in accept(2) of each of its listeners, and hands connections over to the worker's loop. The kernel
//! wakes threads blocked on one queue first in, first out.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use crossbeam::queue::ArrayQueue;
use mio::{Registry, Waker, net::TcpStream};
use nix::poll::{PollFd, PollFlags, poll};

use super::{Accepted, Acceptor, Closed, HandedOver, Refused, Source, TOKEN, Taken};
use crate::{
    ipc::increase,
    scenario::AtOpenFiles,
    server::{Listener, descriptors::Spare},
    sys::{clock, limits, socket, thread},
};

/// Connections on their way from the threads to the loop. When this many wait, the threads stop accepting.
const IN_HAND: usize = 1_024;
/// How long the thread pauses if the loop does not keep up or accept fails.
const PAUSE: Duration = Duration::from_millis(1);
/// How long it pauses if nothing of its own can end the want of descriptors.
const EXHAUSTED: Duration = Duration::from_millis(10);
/// How often a thread that waits for a connection to close looks whether it is to stop.
const LOOK_AGAIN_MS: u8 = 100;

/// What the threads and the loop share.
struct Shared {
    listener: Listener,
    queue: ArrayQueue<io::Result<OnTheWay>>,
    /// Whether the thread is to accept, or to end.
    started: AtomicBool,
    stop: AtomicBool,
    /// What the thread does without a descriptor for a connection.
    at_open_files: AtOpenFiles,
    /// Accepts that failed with EMFILE, and with ENFILE, which the loop has not counted.
    refused: [AtomicU64; 2],
    /// Connections that the threads have given to the loop, and that the loop has closed.
    given: AtomicU64,
    closed: AtomicU64,
}

/// A connection between the thread and the loop.
struct OnTheWay {
    /// `None` if the thread has closed it, for want of a descriptor.
    stream: Option<TcpStream>,
    peer: SocketAddr,
    /// When accept(2) returned it, in nanoseconds of CLOCK_MONOTONIC.
    returned_ns: u64,
    /// Of one that was closed: whether it was plain TCP.
    is_plain: bool,
}

impl OnTheWay {
    /// The connection as the loop takes it.
    fn arrive(self) -> Taken {
        let Self { stream, peer, returned_ns, is_plain } = self;
        match stream {
            // A thread that blocks in accept wakes up as accept returns.
            Some(stream) => {
                Taken::Own(Accepted::received(stream, peer, HandedOver { woke_ns: returned_ns, returned_ns }))
            }
            None => Taken::Shed(Closed { peer, accept_ns: returned_ns, is_plain }),
        }
    }
}

pub(super) struct ThreadAcceptor {
    shared: Arc<Shared>,
    waker: Option<Arc<Waker>>,
    threads: Vec<JoinHandle<()>>,
}

impl ThreadAcceptor {
    /// The listener must block.
    pub(super) fn new(listener: Listener, at_open_files: AtOpenFiles) -> Result<Self> {
        thread::make_interruptible().context("sigaction")?;
        // Each thread may be about to push one more.
        let queue = ArrayQueue::new(IN_HAND + listener.sockets().len());
        let shared = Arc::new(Shared {
            listener,
            queue,
            started: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            at_open_files,
            refused: Default::default(),
            given: AtomicU64::new(0),
            closed: AtomicU64::new(0),
        });
        Ok(Self { shared, waker: None, threads: Vec::new() })
    }
}

impl Shared {
    /// Accepts from one listener until the worker stops it and a signal interrupts the pending accept.
    fn accept(&self, place: usize, mut spare: Spare, waker: &Waker) {
        while !self.started.load(Relaxed) {
            std::thread::park();
        }
        while !self.stop.load(Relaxed) {
            if self.queue.len() >= IN_HAND {
                std::thread::sleep(PAUSE);
                continue;
            }
            let accepted = match self.listener.accept_at(place) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if limits::is_out_of_files(&error) => {
                    self.refused[usize::from(error.raw_os_error() == Some(libc::ENFILE))].fetch_add(1, Relaxed);
                    match self.at_open_files {
                        AtOpenFiles::Spin => continue,
                        AtOpenFiles::Reserve if spare.take() => match self.accept_spared(place, &mut spare) {
                            Some(accepted) => Ok(accepted),
                            None => continue,
                        },
                        AtOpenFiles::Pause => {
                            self.pause(&error);
                            continue;
                        }
                        // Something else has taken its spare one.
                        AtOpenFiles::Reserve => {
                            std::thread::sleep(EXHAUSTED);
                            continue;
                        }
                    }
                }
                accepted => accepted.map(|(stream, peer)| {
                    let returned_ns = clock::monotonic_ns();
                    OnTheWay { stream: Some(stream), peer, returned_ns, is_plain: false }
                }),
            };
            if accepted.as_ref().is_ok_and(|accepted| accepted.stream.is_some()) {
                self.given.fetch_add(1, Relaxed);
            }
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

impl Shared {
    /// Pauses after an accept that failed for want of a descriptor: until a connection closes or, if that cannot end it, for a while.
    fn pause(&self, error: &io::Error) {
        // In this order: what closes later than this changes it, and what closed before has left room.
        let closed = self.closed.load(Relaxed);
        if self.listener.descriptors().next().is_none_or(limits::has_room) {
            return;
        }
        if error.raw_os_error() != Some(libc::EMFILE) || self.given.load(Relaxed) <= closed {
            return std::thread::sleep(EXHAUSTED);
        }
        while self.closed.load(Relaxed) == closed && !self.stop.load(Relaxed) {
            std::thread::sleep(PAUSE);
        }
    }

    /// Accepts a connection with the spare descriptor. If that is the only one, the connection is closed at once. `None` if there is no
    /// connection after all, or the thread is to look around first.
    fn accept_spared(&self, place: usize, spare: &mut Spare) -> Option<OnTheWay> {
        // A blocking accept would keep the descriptor for as long as none comes.
        while !is_readable(&self.listener.sockets()[place]) {
            if self.stop.load(Relaxed) {
                return None;
            }
        }
        spare.free();
        let accepted = self.listener.accept_at(place).ok().map(|(stream, peer)| {
            let returned_ns = clock::monotonic_ns();
            let is_plain = socket::is_multipath(&stream) == Some(false);
            OnTheWay { stream: Some(stream).filter(|_| spare.take()), peer, returned_ns, is_plain }
        });
        spare.take();
        accepted
    }
}

/// Whether a connection waits at a listener, or comes within a moment.
fn is_readable(listener: &impl AsFd) -> bool {
    matches!(poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], LOOK_AGAIN_MS), Ok(1))
}

impl Source for ThreadAcceptor {
    fn register(&mut self, registry: &Registry) -> io::Result<()> {
        if self.waker.is_none() {
            let waker = Arc::new(Waker::new(registry, TOKEN)?);
            for place in 0..self.shared.listener.sockets().len() {
                let mut spare = Spare::default();
                if self.shared.at_open_files == AtOpenFiles::Reserve {
                    spare.take();
                }
                let (shared, for_thread) = (Arc::clone(&self.shared), Arc::clone(&waker));
                let thread = std::thread::Builder::new().name("lb:accept".to_owned());
                self.threads.push(thread.spawn(move || shared.accept(place, spare, &for_thread))?);
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
        Ok(self.shared.queue.pop().transpose()?.map(OnTheWay::arrive))
    }

    fn start(&mut self) -> io::Result<()> {
        self.shared.started.store(true, Relaxed);
        self.threads.iter().for_each(|thread| thread.thread().unpark());
        Ok(())
    }

    fn stop(&mut self) -> io::Result<Vec<Taken>> {
        self.shared.stop.store(true, Relaxed);
        self.start()?;
        for thread in self.threads.drain(..) {
            // A signal that arrives just before the call of accept is lost, so repeat until the thread has ended.
            while !thread.is_finished() {
                thread::interrupt(&thread);
                std::thread::sleep(PAUSE);
            }
        }
        Ok(std::iter::from_fn(|| self.shared.queue.pop()).flatten().map(OnTheWay::arrive).collect())
    }

    fn refused(&mut self) -> Refused {
        // Writing to what the thread never writes to would be a waste.
        let take = |times: &AtomicU64| if times.load(Relaxed) == 0 { 0 } else { times.swap(0, Relaxed) };
        let [own, machine] = &self.shared.refused;
        [(libc::EMFILE, take(own)), (libc::ENFILE, take(machine))]
    }

    fn closed(&mut self) {
        increase(&self.shared.closed, 1);
    }

    fn listeners(&self) -> Vec<BorrowedFd<'_>> {
        self.shared.listener.descriptors().collect()
    }
}
