//! A strategy assembled from its queues, steering and wake-up.

use std::{io, time::Duration};

use anyhow::{Context, Result, bail};

use super::{
    Acceptor, Helper, Receiver,
    dispatcher::{self, Channel},
    epoll::EpollListener,
    lock::LockedListener,
    publish::{Publisher, Publishing, States},
    steering,
    thread::ThreadAcceptor,
    uring::UringAcceptor,
};
use crate::{
    scenario::{Dispatch, Strategy, Transport, Trigger, Wake},
    server::{Listeners, Site},
    sys::robust_mutex::RobustMutex,
};

/// A strategy's listeners, and everything else that its processes share. Made before the fork; after it, each process
/// takes its own part, which closes the rest there.
pub struct Mechanism {
    listeners: Listeners,
    /// Where workers publish their load, if the steering uses it.
    states: Option<States>,
    wake: SharedWake,
}

/// How workers learn of connections, with the state they share for it.
enum SharedWake {
    Epoll(Trigger),
    /// A lock for each queue.
    Lock {
        delay: Duration,
        locks: Vec<RobustMutex>,
    },
    Thread,
    Uring,
    /// A channel for each worker.
    Dispatcher {
        dispatch: Dispatch,
        channels: Vec<Channel>,
    },
}

impl Mechanism {
    /// Opens the listeners and makes whatever else the processes share.
    pub fn open(strategy: &Strategy, site: Site) -> Result<Self> {
        let listeners = Listeners::open(site, strategy.queues)?;
        let states = steering::steer(&strategy.steering, &listeners)?;
        let wake = match strategy.wake {
            Wake::Epoll(trigger) => SharedWake::Epoll(trigger),
            Wake::Lock { delay } => {
                let locks = listeners.each().map(|_| RobustMutex::new()).collect::<io::Result<_>>();
                SharedWake::Lock { delay, locks: locks.context("making a lock in shared memory")? }
            }
            Wake::Thread => {
                listeners
                    .each()
                    .try_for_each(|socket| socket.set_nonblocking(false))
                    .context("fcntl of the listener")?;
                SharedWake::Thread
            }
            Wake::Uring => SharedWake::Uring,
            Wake::Dispatcher { dispatch } => {
                let channels = (0..site.workers).map(|_| Channel::new()).collect::<io::Result<_>>();
                SharedWake::Dispatcher { dispatch, channels: channels.context("socketpair")? }
            }
        };
        Ok(Self { listeners, states, wake })
    }

    /// The listeners.
    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// The acceptor of one worker, in that worker's process.
    pub fn acceptor(self, worker: usize) -> Result<Box<dyn Acceptor>> {
        let queue = self.listeners.queue_of(worker);
        let listener = self.listeners.take(worker);
        let publisher = self.states.map(|states| Publisher::new(states, worker));
        Ok(match self.wake {
            SharedWake::Epoll(trigger) => boxed(EpollListener::new(listener, trigger), publisher),
            SharedWake::Lock { delay, mut locks } => {
                boxed(LockedListener::new(listener, locks.swap_remove(queue), delay), publisher)
            }
            SharedWake::Thread => boxed(ThreadAcceptor::new(listener)?, publisher),
            SharedWake::Uring => boxed(UringAcceptor::new(listener)?, publisher),
            SharedWake::Dispatcher { mut channels, .. } => {
                boxed(channels.swap_remove(worker).into_acceptor(), publisher)
            }
        })
    }

    /// The receiver of one worker, in that worker's process, if the listeners are UDP sockets. Scenarios allow only strategies that
    /// take datagrams.
    pub fn receiver(self, worker: usize) -> Result<Box<dyn Receiver>> {
        let SharedWake::Epoll(trigger) = self.wake else { bail!("the strategy has no receiver of datagrams") };
        let receiver = EpollListener::new(self.listeners.take(worker), trigger);
        Ok(match self.states.map(|states| Publisher::new(states, worker)) {
            Some(publisher) => Box::new(Publishing::new(receiver, publisher)),
            None => Box::new(receiver),
        })
    }

    /// The name of the helper process that accepts for the workers, if there is one.
    pub fn helper(&self) -> Option<&'static str> {
        matches!(self.wake, SharedWake::Dispatcher { .. }).then_some("lb:dispatcher")
    }

    /// The helper itself, in the helper's process.
    pub fn into_helper(self) -> Option<Box<dyn Helper>> {
        let SharedWake::Dispatcher { dispatch, channels } = self.wake else { return None };
        Some(Box::new(dispatcher::Work::new(self.listeners.take(0), dispatch, channels)))
    }
}

/// Boxes an acceptor, which publishes if the steering uses that.
fn boxed(acceptor: impl Acceptor + 'static, publisher: Option<Publisher>) -> Box<dyn Acceptor> {
    match publisher {
        Some(publisher) => Box::new(Publishing::new(acceptor, publisher)),
        None => Box::new(acceptor),
    }
}

/// Tries whether kernel and user permit a strategy, in the caller's own network namespace: opens it for two workers and creates the
/// acceptor, or receiver, of one. Fails with the reason and the remedy.
pub fn try_out(strategy: &Strategy, site: Site) -> Result<()> {
    let mechanism = Mechanism::open(strategy, Site { workers: 2, ..site })?;
    match site.transport {
        Transport::Tcp => mechanism.acceptor(0).map(drop),
        Transport::Udp => mechanism.receiver(0).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use mio::{Events, Poll};

    use super::*;
    use crate::scenario::{ListenOptions, Queues, Steering};

    /// Two queues for three workers, with each way to be woken that can share a queue: worker 2 accepts from the first
    /// queue, and once the second is closed, everything arrives there.
    #[test]
    fn queues_can_be_shared_with_any_way_to_be_woken() {
        const CLIENTS: usize = 10;
        let delay = Duration::from_millis(1);
        for wake in [
            Wake::Epoll(Trigger::Level),
            Wake::Epoll(Trigger::Edge),
            Wake::Epoll(Trigger::Exclusive),
            Wake::Lock { delay },
            Wake::Thread,
            Wake::Uring,
        ] {
            let strategy = Strategy { name: "made-up", queues: Queues::Shared(2), steering: Steering::Hash, wake };
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let site = Site { address, transport: Transport::Tcp, workers: 3, options: ListenOptions::default() };
            let mechanism = Mechanism::open(&strategy, site).unwrap();
            let inodes = mechanism.listeners().inodes().unwrap();
            assert!(inodes[0] == inodes[2] && inodes[0] != inodes[1], "{inodes:?}");

            let mut acceptor = mechanism.acceptor(2).unwrap();
            let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
            acceptor.register(poll.registry()).unwrap();
            let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| TcpStream::connect(address).unwrap()).collect();
            let mut peers = Vec::new();
            while peers.len() < CLIENTS {
                let patience = acceptor.before_wait().unwrap();
                poll.poll(&mut events, patience).unwrap();
                while let Ok(accepted) = acceptor.accept() {
                    peers.push(accepted.peer.unwrap());
                }
                acceptor.after_accepts().unwrap();
            }
            assert!(clients.iter().all(|client| peers.contains(&client.local_addr().unwrap())), "{wake:?}");
            assert!(acceptor.stop().unwrap().is_empty());
        }
    }
}
