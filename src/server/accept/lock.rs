//! A lock among the workers that share a queue: only the worker that holds it has the queue in its epoll instance.
//!
//! nginx's rule (`accept_mutex on`, ngx_event_accept.c): before it waits, a worker tries the lock. If it gets the lock, it
//! puts the listener into its epoll instance, waits, accepts, and gives the lock back before it serves anything. If not, it
//! takes the listener out, and waits for at most `server.accept_mutex_delay` before it tries again.

use std::{io, os::fd::BorrowedFd, time::Duration};

use mio::{Events, Registry};

use super::{Acceptor, Source, Taken, epoll::EpollListener};
use crate::{scenario::Trigger, server::Listener, sys::robust_mutex::RobustMutex};

pub(super) struct LockedListener {
    listener: EpollListener,
    /// Whether the listener is in the epoll instance. It stays there until another worker takes the lock.
    listening: bool,
    lock: RobustMutex,
    holding: bool,
    delay: Duration,
    /// Whether the worker takes connections.
    accepting: bool,
    registry: Option<Registry>,
}

impl LockedListener {
    pub(super) fn new(listener: Listener, lock: RobustMutex, delay: Duration) -> Self {
        let listener = EpollListener::new(listener, Trigger::Level);
        Self { listener, listening: false, lock, holding: false, delay, accepting: false, registry: None }
    }

    fn release(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.holding) { self.lock.unlock() } else { Ok(()) }
    }

    fn stop_listening(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.listening) { self.listener.deregister() } else { Ok(()) }
    }
}

impl Source for LockedListener {
    fn register(&mut self, registry: &Registry) -> io::Result<()> {
        self.listener.prepare(registry)?;
        if self.registry.is_none() {
            self.registry = Some(registry.try_clone()?);
        }
        self.accepting = true;
        Ok(())
    }

    fn deregister(&mut self) -> io::Result<()> {
        self.accepting = false;
        self.release()?;
        self.stop_listening()
    }

    fn before_wait(&mut self) -> io::Result<Option<Duration>> {
        let (true, Some(registry)) = (self.accepting, &self.registry) else { return Ok(None) };
        if self.lock.try_lock()? {
            self.holding = true;
            if !self.listening {
                self.listener.register(registry)?;
                self.listening = true;
            }
            return Ok(None);
        }
        self.stop_listening()?;
        Ok(Some(self.delay))
    }

    fn woke(&mut self, events: &Events, pending: usize) {
        self.listener.woke(events, pending);
    }
}

impl Acceptor for LockedListener {
    fn accept(&mut self) -> io::Result<Option<Taken>> {
        self.listener.accept()
    }

    fn has_another(&self) -> bool {
        self.listener.has_another()
    }

    fn after_accepts(&mut self) -> io::Result<()> {
        self.release()
    }

    fn stop(&mut self) -> io::Result<Vec<Taken>> {
        self.release()?;
        Ok(Vec::new())
    }

    fn listeners(&self) -> Vec<BorrowedFd<'_>> {
        self.listener.listeners()
    }
}
