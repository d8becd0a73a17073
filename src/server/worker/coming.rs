//! How a worker comes and goes during a trial, when an event says so.

use anyhow::{Context, Result};
use mio::Events;

use super::event_loop::{Loop, wait};
use crate::{
    ipc::control::{Count, Meter, Order},
    server::accept::Taken,
    sys::{clock, socket},
};

impl Loop {
    /// Waits until the worker is to accept; false if the trial ended first.
    pub(super) fn wait_for_order(&mut self) -> Result<bool> {
        let mut events = Events::with_capacity(2);
        while self.running() {
            if self.order() != Order::None {
                return Ok(true);
            }
            wait(&mut self.poll, &mut events, None)?;
        }
        Ok(false)
    }

    fn order(&self) -> Order {
        self.worker.context.control.order(self.worker.number)
    }

    /// Whether the worker has been told to leave.
    #[inline]
    pub(super) fn is_to_leave(&self) -> bool {
        matches!(self.order(), Order::Leave { .. })
    }

    /// Stops accepting, and gives up the listeners. What the strategy had already taken from the kernel is served.
    pub(super) fn leave(&mut self, meter: &mut Meter<'_>) -> Result<()> {
        let Order::Leave { until_ns, closes } = self.order() else { return Ok(()) };
        self.drain_until_ns = Some(until_ns);
        self.pauses.end();
        let mut queued = None;
        if let Some(mut acceptor) = self.acceptor.take() {
            // Other processes may have the listener too, and a descriptor that is closed stays in epoll as long as they do.
            acceptor.deregister().context("taking the listener out of epoll")?;
            for taken in acceptor.stop().context("stopping to accept")? {
                self.count(&taken, meter);
                if let Taken::Own(accepted) | Taken::Over(accepted) = taken
                    && !self.take_up(accepted, meter)
                {
                    acceptor.closed();
                }
            }
            let length = acceptor.listener().filter(|_| closes).and_then(|fd| socket::queue_length(&fd).ok());
            queued = length.map(|length| (length, clock::monotonic_ns()));
        }
        if let Some(mut datagrams) = self.datagrams.take() {
            datagrams.receiver.deregister().context("taking the socket out of epoll")?;
            if closes {
                // They vanish with the socket.
                datagrams.drain(Count::DatagramsDropped, meter);
            }
        }
        self.worker.context.control.closed(self.worker.number, queued, clock::monotonic_ns());
        self.serve_fresh(meter);
        Ok(())
    }

    /// Whether the worker was told to leave and has nothing open any more. What is open when its time is up is cut off.
    pub(super) fn has_drained(&mut self, now_ns: u64, meter: &Meter<'_>) -> bool {
        let Some(until_ns) = self.drain_until_ns else { return false };
        if now_ns >= until_ns {
            for _ in self.connections.drain() {
                meter.closed();
            }
        }
        self.connections.is_empty()
    }
}
