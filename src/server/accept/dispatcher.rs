//! One process accepts for all workers, and hands each connection to one of them (SCM_RIGHTS).
//!
//! `server.dispatch` chooses the worker: `round-robin`, or `least-connections`, that is, the worker with the fewest connections open
//! or on their way to it and, among equals, the lowest number.

use std::{io::ErrorKind, net::SocketAddr, os::fd::AsFd, time::Duration};

use anyhow::Result;
use mio::net::TcpStream;
use nix::poll::PollFlags;

use super::{
    HandedOver,
    channel::{Channel, Outlet, wait},
    helper::HandsOver,
};
use crate::{
    ipc::control::{Control, Count, Meter, Phase},
    record::Step,
    scenario::Dispatch,
    sys::fd_passing,
};

/// How often it looks whether it can send again.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The dispatcher's choice.
pub(super) struct Dispatcher {
    dispatch: Dispatch,
    workers: Vec<Outlet>,
    /// Connections handed over, by worker.
    sent: Vec<u64>,
    /// Workers that have died.
    gone: Vec<bool>,
    /// The next worker, for round-robin.
    next: usize,
}

impl HandsOver for Dispatcher {
    fn hand_over(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        handed_over: HandedOver,
        control: &Control,
        meter: &Meter<'_>,
    ) -> Result<()> {
        while let Some(worker) = self.pick(control) {
            let channel = &self.workers[worker];
            match channel.send(stream.as_fd(), Some(handed_over), peer) {
                Ok(()) => {
                    self.sent[worker] += 1;
                    control.assigned(worker);
                    meter.add(Count::HandedOver, 1);
                    return Ok(());
                }
                // A worker that does not keep up blocks the dispatcher, and so every worker: that is inherent in this strategy.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if control.phase() != Phase::Running {
                        return Ok(());
                    }
                    wait(&[(channel.as_fd(), PollFlags::POLLOUT), (control.wake().as_fd(), PollFlags::POLLIN)], None)?;
                    self.next = worker;
                }
                // Too many descriptors are under way, to all workers together, and nothing tells when there are fewer.
                Err(error) if fd_passing::is_full(&error) => {
                    if control.phase() != Phase::Running {
                        return Ok(());
                    }
                    std::thread::sleep(LOOK_AGAIN);
                    self.next = worker;
                }
                Err(error) => {
                    // The worker has died: it gets no more connections, and this one goes to another.
                    meter.add_error(Step::Accept, &error);
                    self.gone[worker] = true;
                }
            }
        }
        Ok(())
    }
}

impl Dispatcher {
    pub(super) fn new(dispatch: Dispatch, channels: Vec<Channel>) -> Self {
        let workers: Vec<Outlet> = channels.into_iter().map(|channel| channel.outlet).collect();
        let (sent, gone) = (vec![0; workers.len()], vec![false; workers.len()]);
        Self { dispatch, workers, sent, gone, next: 0 }
    }

    /// The worker that gets the next connection; `None` when all have died.
    fn pick(&mut self, control: &Control) -> Option<usize> {
        let count = self.workers.len();
        match self.dispatch {
            Dispatch::RoundRobin => {
                let worker =
                    (self.next..self.next + count).map(|worker| worker % count).find(|&worker| !self.gone[worker])?;
                self.next = (worker + 1) % count;
                Some(worker)
            }
            Dispatch::LeastConnections => {
                let load = |worker: &usize| {
                    let under_way = self.sent[*worker].saturating_sub(control.count(*worker, Count::Accepted));
                    control.count(*worker, Count::Open) + under_way
                };
                (0..count).filter(|&worker| !self.gone[worker]).min_by_key(load)
            }
        }
    }
}
