//! A strategy assembled from its queues, steering and wake-up.

use std::{io, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};

use super::{
    Acceptor, Helper, Receiver, TOKEN,
    balance::{Balancing, Exchange},
    bpf::Program,
    channel::Channel,
    dispatcher::Dispatcher,
    epoll::EpollListener,
    helper::Accepting,
    lock::LockedListener,
    pool::pool,
    publish::{Publisher, Publishing, States},
    steering,
    thread::ThreadAcceptor,
    uring::UringAcceptor,
};
use crate::{
    observe::{completions::Completions, listeners::Place},
    scenario::{AtOpenFiles, Balance, Dispatch, Steering, Strategy, Transport, Trigger, Wake},
    server::{Listeners, Site},
    sys::robust_mutex::RobustMutex,
};

/// A strategy's listeners, and everything else that its processes share. Made before the fork; after it, each process
/// takes its own part, which closes the rest there.
pub struct Mechanism {
    listeners: Listeners,
    /// How many the trial has opened before them.
    opened: usize,
    steering: Steering,
    /// The program that chooses listeners, if there is one, of the mechanism that was opened first.
    program: Option<Program>,
    /// Where workers publish their load, if the steering uses it.
    states: Option<Arc<States>>,
    wake: SharedWake,
    /// What workers need to hand connections over to each other, if they do.
    exchange: Option<Exchange>,
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
    /// They share it once their process has started them.
    Pool {
        workers: usize,
    },
}

/// The acceptor of a worker that is a thread.
pub type Pooled = Box<dyn Acceptor + Send>;

impl Mechanism {
    /// Opens the listeners and makes whatever else the processes share.
    pub fn open(strategy: &Strategy, site: Site) -> Result<Self> {
        let of = (site.transport, site.workers);
        let listeners = Listeners::open(site, strategy.queues)?;
        steering::mark(&strategy.steering, &listeners)?;
        let (program, states) = steering::steer(&strategy.steering, &listeners)?;
        Self::around(strategy, of, (listeners, 0), (program, states.map(Arc::new)))
    }

    /// Makes what the processes share of listeners that [`Self::listen`] opens later, in place of or besides those of `first`. `opened`: how
    /// many queues will have been opened before them.
    pub fn prepare(strategy: &Strategy, site: Site, first: &Self, opened: usize) -> Result<Self> {
        let of = (site.transport, site.workers);
        let listeners = Listeners::prepare(site, strategy.queues)?;
        steering::mark(&strategy.steering, &listeners)?;
        Self::around(strategy, of, (listeners, opened), (None, first.states.clone()))
    }

    /// Opens listeners that were only prepared, and makes the program of those that were opened first choose among them.
    pub fn listen(&self, program: Option<&mut Program>) -> Result<()> {
        self.listeners.listen()?;
        match program {
            Some(program) => program.turn_to(&self.listeners),
            None => steering::steer(&self.steering, &self.listeners).map(drop),
        }
    }

    /// The program that chooses listeners, which is to be kept if it shall choose among others later.
    pub fn into_program(self) -> Option<Program> {
        self.program
    }

    fn around(
        strategy: &Strategy,
        (transport, workers): (Transport, usize),
        (listeners, opened): (Listeners, usize),
        (program, states): (Option<Program>, Option<Arc<States>>),
    ) -> Result<Self> {
        let wake = match strategy.wake {
            Wake::Epoll(trigger) => SharedWake::Epoll(trigger),
            Wake::Lock { delay } => {
                let locks = (0..listeners.queues()).map(|_| RobustMutex::new()).collect::<io::Result<_>>();
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
            Wake::Pool => SharedWake::Pool { workers },
            Wake::Dispatcher { dispatch } => {
                let channels = (0..workers).map(|_| Channel::new()).collect::<io::Result<_>>();
                SharedWake::Dispatcher { dispatch, channels: channels.context("socketpair")? }
            }
        };
        let balanced = transport == Transport::Tcp && strategy.balance == Balance::Least;
        let exchange = balanced.then(|| Exchange::new(workers, strategy.wake != Wake::Uring)).transpose();
        Ok(Self {
            listeners,
            opened,
            steering: strategy.steering.clone(),
            program,
            states,
            wake,
            exchange: exchange.context("making what workers hand connections over with")?,
        })
    }

    /// The listeners.
    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// The number of the listener of the worker with this place, among all that the trial opens.
    pub fn socket_number(&self, place: usize) -> usize {
        self.opened + self.listeners.queue_of(place)
    }

    /// The acceptor of the worker with this number, in that worker's process; `place` is its number among those of the listeners.
    /// `at_open_files`: what a thread of its own does without a descriptor for a connection. `completions`: when the worker's ring
    /// completed its accepts, if that is recorded.
    pub fn acceptor(
        self,
        worker: usize,
        place: usize,
        at_open_files: AtOpenFiles,
        completions: Option<&Arc<Completions>>,
    ) -> Result<Box<dyn Acceptor>> {
        let queue = self.listeners.queue_of(place);
        let listener = self.listeners.take(place);
        let around = Around {
            balancing: self.exchange.map(|exchange| (place, exchange)),
            publisher: self.states.map(|states| Publisher::new(states, queue)),
        };
        Ok(match self.wake {
            SharedWake::Epoll(trigger) => around.wrap(EpollListener::new(listener, trigger)),
            SharedWake::Lock { delay, mut locks } => {
                around.wrap(LockedListener::new(listener, locks.swap_remove(queue), delay))
            }
            SharedWake::Thread => around.wrap(ThreadAcceptor::new(listener, at_open_files)?),
            SharedWake::Uring => around.wrap(UringAcceptor::new(listener, worker, completions.cloned())?),
            SharedWake::Dispatcher { mut channels, .. } => around.wrap(channels.swap_remove(place).into_inlet(TOKEN)),
            SharedWake::Pool { .. } => bail!("the workers of a pool get their acceptors together"),
        })
    }

    /// The receiver of the worker with this place, in that worker's process, if the listeners are UDP sockets. Scenarios allow only strategies that
    /// take datagrams.
    pub fn receiver(self, place: usize) -> Result<Box<dyn Receiver>> {
        let SharedWake::Epoll(trigger) = self.wake else { bail!("the strategy has no receiver of datagrams") };
        let queue = self.listeners.queue_of(place);
        let receiver = EpollListener::new(self.listeners.take(place), trigger);
        Ok(match self.states.map(|states| Publisher::new(states, queue)) {
            Some(publisher) => Box::new(Publishing::new(receiver, publisher)),
            None => Box::new(receiver),
        })
    }

    /// The name of the helper process that accepts for the workers, if there is one.
    pub fn helper(&self) -> Option<&'static str> {
        matches!(self.wake, SharedWake::Dispatcher { .. }).then_some("lb:dispatcher")
    }

    /// The helper itself, in the helper's process.
    pub fn into_helper(self, at_open_files: AtOpenFiles) -> Option<Box<dyn Helper>> {
        let SharedWake::Dispatcher { dispatch, channels } = self.wake else { return None };
        let hands = Dispatcher::new(dispatch, channels);
        Some(Box::new(Accepting::new(self.listeners.take(0), hands, at_open_files)))
    }

    /// Whether the workers are threads of one process.
    pub fn is_pool(&self) -> bool {
        matches!(self.wake, SharedWake::Pool { .. })
    }

    /// What accepts for them, and the acceptor of each, in that process.
    pub fn into_pool(self, at_open_files: AtOpenFiles) -> Option<(Box<dyn Helper>, Vec<Pooled>)> {
        let SharedWake::Pool { workers } = self.wake else { return None };
        let (accepting, acceptors) = pool(self.listeners.take(0), workers, at_open_files);
        let boxed = acceptors.into_iter().map(|acceptor| Box::new(acceptor) as Pooled);
        Some((Box::new(accepting), boxed.collect()))
    }
}

/// What surrounds a worker's source of connections.
struct Around {
    /// The worker's number, and what it hands connections over with.
    balancing: Option<(usize, Exchange)>,
    /// Where it publishes, if the steering uses that.
    publisher: Option<Publisher>,
}

impl Around {
    fn wrap(self, acceptor: impl Acceptor + 'static) -> Box<dyn Acceptor> {
        match (self.balancing, self.publisher) {
            (None, None) => Box::new(acceptor),
            (None, Some(publisher)) => Box::new(Publishing::new(acceptor, publisher)),
            (Some((worker, exchange)), None) => Box::new(Balancing::new(acceptor, worker, exchange)),
            (Some((worker, exchange)), Some(publisher)) => {
                Box::new(Publishing::new(Balancing::new(acceptor, worker, exchange), publisher))
            }
        }
    }
}

/// Tries whether kernel and user permit a strategy, in the caller's own network namespace: opens it for two workers and creates the
/// acceptor, or receiver, of one. Returns what it was bound to. Fails with the reason and the remedy.
pub fn try_out(strategy: &Strategy, site: Site) -> Result<Vec<Place>> {
    let transport = site.transport;
    let mechanism = Mechanism::open(strategy, Site { workers: 2, ..site })?;
    let places = mechanism.listeners().places().context("getsockopt of a listener")?;
    match transport {
        Transport::Tcp if mechanism.is_pool() => {}
        Transport::Tcp => drop(mechanism.acceptor(0, 0, AtOpenFiles::Pause, None)?),
        Transport::Udp => drop(mechanism.receiver(0)?),
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use mio::{Events, Poll};

    use super::*;
    use crate::{scenario::Queues, server::accept::Taken};

    /// Two queues for three workers, with each way to be woken that can share a queue: worker 2 accepts from the first
    /// queue, and once the second is closed, everything arrives there, on one address and on several.
    #[test]
    fn queues_can_be_shared_with_any_way_to_be_woken() {
        const CLIENTS: usize = 10;
        let delay = Duration::from_millis(1);
        let all = [
            Wake::Epoll(Trigger::Level),
            Wake::Epoll(Trigger::Edge),
            Wake::Epoll(Trigger::Exclusive),
            Wake::Lock { delay },
            Wake::Thread,
            Wake::Uring,
        ];
        for (wake, others) in all.into_iter().flat_map(|wake| [(wake, 0), (wake, 2)]) {
            let queues = Queues::Group(2);
            let strategy = Strategy { name: "made-up", queues, steering: Steering::Hash, wake, balance: Balance::Off };
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let mut site = Site::at(address, Transport::Tcp, 3);
            site.bound.extend((0..others).map(|other| SocketAddr::from(([127, 0, 0, 2 + other], address.port()))));
            let bound = site.bound.clone();
            let mechanism = Mechanism::open(&strategy, site).unwrap();
            let listeners = mechanism.listeners();
            assert_eq!([0, 1, 2].map(|worker| listeners.queue_of(worker)), [0, 1, 0]);

            let mut acceptor = mechanism.acceptor(2, 2, AtOpenFiles::Pause, None).unwrap();
            let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
            acceptor.register(poll.registry()).unwrap();
            acceptor.start().unwrap();
            let clients: Vec<TcpStream> =
                bound.iter().cycle().take(CLIENTS).map(|to| TcpStream::connect(to).unwrap()).collect();
            let mut peers = Vec::new();
            while peers.len() < CLIENTS {
                let patience = acceptor.before_wait().unwrap();
                poll.poll(&mut events, patience).unwrap();
                acceptor.woke(&events, events.iter().count());
                loop {
                    match acceptor.accept() {
                        Ok(Some(Taken::Own(accepted))) => peers.push(accepted.peer.unwrap()),
                        _ if acceptor.has_another() => {}
                        _ => break,
                    }
                }
                acceptor.after_accepts().unwrap();
            }
            assert!(clients.iter().all(|client| peers.contains(&client.local_addr().unwrap())), "{wake:?}");
            assert!(acceptor.stop().unwrap().is_empty());
        }
    }
}
