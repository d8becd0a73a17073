//! A process or thread that accepts for all workers, and hands connections over to them.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    os::fd::AsFd,
    time::Duration,
};

use anyhow::Result;
use mio::net::TcpStream;
use nix::poll::PollFlags;

use super::{HandedOver, channel::wait};
use crate::{
    ipc::{
        control::{Control, Count, Meter, Phase},
        ledger::Ledger,
    },
    scenario::AtOpenFiles,
    server::{Listener, descriptors::Spare},
    sys::{clock, limits, socket},
};

/// How long it ignores the listener after running out of descriptors or memory, if nothing of its own process can end that.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(10);
/// How often it looks whether a connection has closed.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A strategy's helper, in addition to the workers.
pub trait Helper {
    /// Runs from the barrier until the phase changes. Returns the listener, which is to stay open until its queue has been counted.
    fn run(self: Box<Self>, control: &Control, meter: &mut Meter<'_>, ledger: Option<&Ledger>) -> Result<Listener>;

    /// Takes the descriptor that it is to have to spare, if any, before its descriptors are counted.
    fn take_spare(&mut self);
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

    /// How many of the connections that were handed over are closed; `None` if they take no descriptors of this process.
    fn closed(&self) -> Option<u64> {
        None
    }
}

/// A helper's loop.
pub(super) struct Accepting<H> {
    listener: Listener,
    hands: H,
    at_open_files: AtOpenFiles,
    spare: Spare,
    /// How many connections it has handed over.
    given: u64,
}

impl<H: HandsOver> Helper for Accepting<H> {
    fn run(mut self: Box<Self>, control: &Control, meter: &mut Meter<'_>, ledger: Option<&Ledger>) -> Result<Listener> {
        while control.phase() == Phase::Running {
            let listeners = self.listener.descriptors();
            let count = listeners.len();
            let all: Vec<_> = listeners.chain([control.wake().as_fd()]).map(|fd| (fd, PollFlags::POLLIN)).collect();
            let ready = wait(&all, None)?;
            self.listener.report((0..count).filter(|place| ready[*place]));
            self.accept(control, meter, ledger)?;
        }
        let Self { listener, .. } = *self;
        Ok(listener)
    }

    fn take_spare(&mut self) {
        if self.at_open_files == AtOpenFiles::Reserve {
            self.spare.take();
        }
    }
}

impl<H: HandsOver> Accepting<H> {
    pub(super) fn new(listener: Listener, hands: H, at_open_files: AtOpenFiles) -> Self {
        Self { listener, hands, at_open_files, spare: Spare::default(), given: 0 }
    }

    /// Accepts and hands over until the queues are empty.
    fn accept(&mut self, control: &Control, meter: &mut Meter<'_>, ledger: Option<&Ledger>) -> Result<()> {
        let woke_ns = clock::monotonic_ns();
        while control.phase() == Phase::Running {
            let mut accepted = self.listener.accept();
            if let Err(error) = &accepted
                && limits::is_out_of_files(error)
            {
                meter.accepts_failed(error, 1);
                match self.at_open_files {
                    // The poll that follows returns at once if a connection waits.
                    AtOpenFiles::Spin => return Ok(()),
                    AtOpenFiles::Reserve if self.spare.take() => match self.accept_spared(control, meter, ledger) {
                        Some(spared) => accepted = spared,
                        None => continue,
                    },
                    AtOpenFiles::Pause | AtOpenFiles::Reserve => {
                        self.pause(error, control);
                        continue;
                    }
                }
            }
            match accepted {
                Ok((stream, peer)) => {
                    let returned_ns = clock::monotonic_ns();
                    meter.pass(returned_ns);
                    self.given += 1;
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
                    meter.accepts_failed(&error, 1);
                    if error.kind() != ErrorKind::ConnectionAborted {
                        std::thread::sleep(EXHAUSTED_PAUSE);
                    }
                }
            }
        }
        Ok(())
    }

    /// Frees the spare descriptor to accept a connection. Returns `None` if no other descriptor is left; the connection is then closed at once.
    fn accept_spared(
        &mut self,
        control: &Control,
        meter: &mut Meter<'_>,
        ledger: Option<&Ledger>,
    ) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        self.spare.free();
        let accepted = self.listener.accept();
        if self.spare.take() {
            return Some(accepted);
        }
        let Ok((stream, peer)) = accepted else { return Some(accepted) };
        let now_ns = clock::monotonic_ns();
        meter.pass(now_ns);
        meter.add(Count::Shed, 1);
        let fell_back = self.listener.is_multipath() && socket::is_multipath(&stream) == Some(false);
        meter.add(Count::FellBack, u64::from(fell_back));
        if let Some(ledger) = ledger {
            ledger.accepted(peer, control.workers() as u16, now_ns);
            ledger.shed(peer, now_ns);
        }
        drop(stream);
        self.spare.take();
        None
    }

    /// Pauses after an accept that failed for want of a descriptor: until a connection closes or, if that cannot end it, for a while.
    fn pause(&self, error: &io::Error, control: &Control) {
        // In this order: what closes later than this changes it, and what closed before has left room.
        let closed = self.hands.closed();
        if limits::has_room(control.wake()) {
            return;
        }
        let is_own = error.raw_os_error() == Some(libc::EMFILE);
        let Some(closed) = closed.filter(|closed| is_own && self.given > *closed) else {
            return std::thread::sleep(EXHAUSTED_PAUSE);
        };
        while self.hands.closed() == Some(closed) && control.phase() == Phase::Running {
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}
