//! A process or thread that accepts for all workers, and hands connections over to them.

use std::{io::ErrorKind, net::SocketAddr, os::fd::AsFd, time::Duration};

use anyhow::Result;
use mio::net::TcpStream;
use nix::poll::PollFlags;

use super::{HandedOver, channel::wait};
use crate::{
    ipc::control::{Control, Count, Meter, Phase},
    record::Step,
    server::Listener,
    sys::clock,
};

/// How long it ignores the listener after running out of descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(10);

/// A strategy's helper, in addition to the workers.
pub trait Helper {
    /// Runs from the barrier until the phase changes. Returns the listener, which is to stay open until its queue has been counted.
    fn run(self: Box<Self>, control: &Control, meter: &mut Meter<'_>) -> Result<Listener>;
}

/// How a helper hands a connection to a worker.
pub(super) trait HandsOver {
    /// Hands a connection over. With no worker left to get it, it is lost when the stream is dropped.
    fn hand_over(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        handed_over: HandedOver,
        control: &Control,
        meter: &Meter<'_>,
    ) -> Result<()>;
}

/// A helper's loop.
pub(super) struct Accepting<H> {
    pub listener: Listener,
    pub hands: H,
}

impl<H: HandsOver> Helper for Accepting<H> {
    fn run(mut self: Box<Self>, control: &Control, meter: &mut Meter<'_>) -> Result<Listener> {
        while control.phase() == Phase::Running {
            let listeners = self.listener.descriptors();
            let count = listeners.len();
            let all: Vec<_> = listeners.chain([control.wake().as_fd()]).map(|fd| (fd, PollFlags::POLLIN)).collect();
            let ready = wait(&all, None)?;
            self.listener.report((0..count).filter(|place| ready[*place]));
            self.accept(control, meter)?;
        }
        let Self { listener, .. } = *self;
        Ok(listener)
    }
}

impl<H: HandsOver> Accepting<H> {
    /// Accepts and hands over until the queues are empty.
    fn accept(&mut self, control: &Control, meter: &mut Meter<'_>) -> Result<()> {
        let woke_ns = clock::monotonic_ns();
        while control.phase() == Phase::Running {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    let returned_ns = clock::monotonic_ns();
                    meter.pass(returned_ns);
                    self.hands.hand_over(stream, peer, HandedOver { woke_ns, returned_ns }, control, meter)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    meter.add(Count::AcceptEagain, 1);
                    if !self.listener.has_another() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    meter.add_error(Step::Accept, &error);
                    if error.kind() != ErrorKind::ConnectionAborted {
                        std::thread::sleep(EXHAUSTED_PAUSE);
                    }
                }
            }
        }
        Ok(())
    }
}
