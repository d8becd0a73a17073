//! `shared-accept-mutex`: one inherited listener, and only the worker that holds a lock has it in its epoll instance.
//!
//! nginx's rule (`accept_mutex on`, ngx_event_accept.c): before it waits, a worker tries the lock. Whoever gets it puts
//! the listener into its epoll instance, waits, accepts, and gives the lock back before it serves anything. Whoever does
//! not takes the listener out, and waits for `server.accept_mutex_delay` at most before it tries again.

use std::{io, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use mio::Registry;

use super::{Accepted, Acceptor, Source, Strategy, epoll};
use crate::{
    server::{Listener, Listeners, Site},
    sys::robust_mutex::RobustMutex,
};

pub(super) struct SharedAcceptMutex {
    pub delay: Duration,
    /// Made before the fork.
    pub mutex: Option<Arc<RobustMutex>>,
}

impl Strategy for SharedAcceptMutex {
    fn open(&mut self, site: Site) -> Result<Listeners> {
        self.mutex = Some(Arc::new(RobustMutex::new().context("making a lock in shared memory")?));
        Ok(Listeners::shared(site)?)
    }

    fn acceptor(&mut self, _worker: usize, listener: Listener) -> Result<Box<dyn Acceptor>> {
        let mutex = Arc::clone(self.mutex.as_ref().context("the strategy has not been opened")?);
        let listener = epoll::EpollListener::new(listener, epoll::LEVEL);
        Ok(Box::new(MutexAcceptor {
            listener,
            listening: false,
            mutex,
            holding: false,
            delay: self.delay,
            registry: None,
        }))
    }
}

struct MutexAcceptor {
    listener: epoll::EpollListener,
    /// Whether the listener is in the epoll instance. It stays there while nobody else takes the lock.
    listening: bool,
    mutex: Arc<RobustMutex>,
    holding: bool,
    delay: Duration,
    /// `None` while the worker wants no connections.
    registry: Option<Registry>,
}

impl MutexAcceptor {
    fn release(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.holding) { self.mutex.unlock() } else { Ok(()) }
    }

    fn stop_listening(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.listening) { self.listener.deregister() } else { Ok(()) }
    }
}

impl Source for MutexAcceptor {
    fn register(&mut self, registry: &Registry) -> io::Result<()> {
        self.registry = Some(registry.try_clone()?);
        Ok(())
    }

    fn deregister(&mut self) -> io::Result<()> {
        self.registry = None;
        self.release()?;
        self.stop_listening()
    }

    fn before_wait(&mut self) -> io::Result<Option<Duration>> {
        let Some(registry) = &self.registry else { return Ok(None) };
        if self.mutex.try_lock()? {
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
}

impl Acceptor for MutexAcceptor {
    fn accept(&mut self) -> io::Result<Accepted> {
        self.listener.accept()
    }

    fn after_accepts(&mut self) -> io::Result<()> {
        self.release()
    }

    fn stop(&mut self) -> io::Result<Vec<Accepted>> {
        self.release()?;
        Ok(Vec::new())
    }
}
