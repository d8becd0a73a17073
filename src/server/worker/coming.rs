//! How a worker comes and goes during a trial, when an event says so.

use std::io;

use anyhow::{Context, Result};
use mio::Events;

use super::{
    event_loop::{Loop, count_refused},
    mover::{Mover, wait},
};
use crate::{
    context::TrialContext,
    ipc::control::{Count, Fate, Meter, Order, Phase},
    sys::{clock, socket},
};

impl<M: Mover> Loop<M> {
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
        let Order::Leave { until_ns, listener } = self.order() else { return Ok(()) };
        let closes = listener != Fate::Stays;
        self.drain_until_ns = Some(until_ns);
        self.pauses.end();
        let mut queued = None;
        if let Some(mut acceptor) = self.acceptor.take() {
            // Other processes may have the listener too, and a descriptor that is closed stays in epoll as long as they do.
            acceptor.deregister().context("taking the listener out of epoll")?;
            for taken in acceptor.stop().context("stopping to accept")? {
                self.take(taken, acceptor.as_mut(), meter);
            }
            count_refused(acceptor.as_mut(), meter);
            let listeners = if closes { acceptor.listeners() } else { Vec::new() };
            if !listeners.is_empty() {
                let lengths = listeners.iter().map(socket::queue_length);
                queued = lengths.sum::<io::Result<u64>>().ok().map(|length| (length, clock::monotonic_ns()));
            }
        }
        if listener != Fate::KeepsFlows {
            self.give_up_datagrams(closes, meter)?;
        }
        self.worker.context.control.closed(self.worker.number, queued, clock::monotonic_ns());
        self.serve_fresh(meter);
        Ok(())
    }

    fn give_up_datagrams(&mut self, closes: bool, meter: &mut Meter<'_>) -> Result<()> {
        let Some(mut datagrams) = self.datagrams.take() else { return Ok(()) };
        datagrams.receiver.deregister().context("taking the socket out of epoll")?;
        self.worker.context.control.receives_no_more(self.worker.number);
        if closes {
            if self.receives_last() {
                // What arrived between the last look and the close would vanish uncounted.
                datagrams.end_delivery();
            }
            // They vanish with the socket.
            datagrams.drain(Count::DatagramsDropped, meter);
        }
        Ok(())
    }

    /// Whether all that share the worker's socket have stopped receiving from it: those that have not still answer from there. One that has died
    /// never says so.
    fn receives_last(&self) -> bool {
        let TrialContext { scenario, control, .. } = &self.worker.context;
        let crew = scenario.crew();
        crew.sharers_with(&scenario.server, self.worker.number).all(|worker| control.has_stopped_receiving(worker))
    }

    /// Gives up the flows that the worker, which is leaving, has kept so far, if it is told to: no program sends anything here any more, and what
    /// has arrived is answered.
    pub(super) fn give_up_flows(&mut self, meter: &mut Meter<'_>) -> Result<()> {
        let Order::Leave { listener: Fate::Closes, .. } = self.order() else { return Ok(()) };
        if let Some(datagrams) = &mut self.datagrams {
            let control = &self.worker.context.control;
            let running = || control.phase() == Phase::Running;
            // Whatever the kernel has reported so far.
            datagrams.receiver.listener().report_all();
            while running() && !datagrams.serve(u32::MAX, running, &mut self.application, meter)? {}
        }
        // The trial has ended: what is left is counted as left.
        if self.running() { self.give_up_datagrams(true, meter) } else { Ok(()) }
    }

    /// Whether the worker was told to leave and has nothing open any more. What is open when its time is up is cut off.
    pub(super) fn has_drained(&mut self, now_ns: u64, meter: &Meter<'_>) -> Result<bool> {
        let Some(until_ns) = self.drain_until_ns else { return Ok(false) };
        if now_ns >= until_ns {
            let open = self.open();
            self.mover.cut_off(&mut self.connections)?;
            (0..open).for_each(|_| meter.closed());
        }
        Ok(self.open() == 0 && self.datagrams.is_none())
    }
}
