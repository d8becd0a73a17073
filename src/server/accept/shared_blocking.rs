//! `shared-blocking`: a thread of each worker blocks in accept(2) on one inherited listener, and hands connections over
//! to the worker's loop. The kernel wakes blocked threads first in, first out.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use crossbeam::queue::ArrayQueue;
use mio::{Registry, Waker};

use super::{Accepted, Acceptor, Source, Strategy, TOKEN};
use crate::{
    server::{Listener, Listeners, Site},
    sys::thread,
};

/// Connections on their way from the thread to the loop. When so many wait, the thread accepts no further.
const IN_HAND: usize = 1_024;
/// The thread's pause when the loop does not keep up, or accept cannot.
const PAUSE: Duration = Duration::from_millis(1);

pub(super) struct SharedBlocking;

impl Strategy for SharedBlocking {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        let listeners = Listeners::shared(site)?;
        listeners.any().set_nonblocking(false).context("fcntl of the listener")?;
        Ok(listeners)
    }

    fn acceptor(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Acceptor>> {
        thread::make_interruptible().context("sigaction")?;
        let shared = Arc::new(Shared { listener, queue: ArrayQueue::new(IN_HAND), stop: AtomicBool::new(false) });
        Ok(Box::new(BlockingAcceptor { shared, waker: None, thread: None }))
    }
}

/// What the thread and the loop share.
struct Shared {
    listener: Listener,
    queue: ArrayQueue<io::Result<Accepted>>,
    stop: AtomicBool,
}

struct BlockingAcceptor {
    shared: Arc<Shared>,
    waker: Option<Arc<Waker>>,
    thread: Option<JoinHandle<()>>,
}

impl Shared {
    /// Accepts until told to stop, and a signal has ended the accept that was under way.
    fn accept(&self, waker: &Waker) {
        while !self.stop.load(Relaxed) {
            if self.queue.is_full() {
                std::thread::sleep(PAUSE);
                continue;
            }
            let accepted = match self.listener.accept() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                accepted => accepted.map(Accepted::now),
            };
            let failed = accepted.is_err();
            // The loop need not hear of each failure in a row, and no connection is to stand behind them.
            if !failed || self.queue.is_empty() {
                // Only this thread pushes, so there is room still.
                let _ = self.queue.push(accepted);
                // Fails only without memory; the next connection wakes the loop as well.
                let _ = waker.wake();
            }
            if failed {
                std::thread::sleep(PAUSE);
            }
        }
    }
}

impl Source for BlockingAcceptor {
    fn register(&mut self, registry: &Registry) -> io::Result<()> {
        if self.thread.is_none() {
            let waker = Arc::new(Waker::new(registry, TOKEN)?);
            let (shared, for_thread) = (Arc::clone(&self.shared), Arc::clone(&waker));
            let thread = std::thread::Builder::new().name("lb:accept".to_owned());
            self.thread = Some(thread.spawn(move || shared.accept(&for_thread))?);
            self.waker = Some(waker);
        }
        // What came while the loop paused has woken it in vain.
        self.left_some()
    }

    fn deregister(&mut self) -> io::Result<()> {
        // The thread pauses by itself when accept fails, and there is nothing that would wake the loop for nothing.
        Ok(())
    }

    fn left_some(&mut self) -> io::Result<()> {
        match &self.waker {
            // An empty queue wakes the loop when it is no longer empty.
            Some(waker) if !self.shared.queue.is_empty() => waker.wake(),
            _ => Ok(()),
        }
    }
}

impl Acceptor for BlockingAcceptor {
    fn accept(&mut self) -> io::Result<Accepted> {
        self.shared.queue.pop().unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
    }

    fn stop(&mut self) -> io::Result<Vec<Accepted>> {
        self.shared.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // A signal that comes just before the call of accept is lost: hence again until the thread has ended.
            while !thread.is_finished() {
                thread::interrupt(&thread);
                std::thread::sleep(PAUSE);
            }
        }
        Ok(std::iter::from_fn(|| self.shared.queue.pop()).flatten().collect())
    }
}
