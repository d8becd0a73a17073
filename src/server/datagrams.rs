//! A worker's datagrams: the loop waits for them; this module receives and answers them. It is the same for every strategy.

use std::{
    io::{self, ErrorKind, IoSliceMut},
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsRawFd,
    sync::Arc,
};

use anyhow::{Context, Result};
use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg},
};

use super::{
    accept::Receiver,
    app::{Application, Caller},
};
use crate::{
    context::TrialContext,
    ipc::{
        connection_id::ConnectionId,
        control::{Count, Meter},
        ledger::Ledger,
        places::Places,
        receipt::{Told, Tuple},
    },
    record::Step,
    scenario::Admit,
    sys::clock,
};

/// Most datagrams received per wake-up, the same number as the kernel's budget for a device: under load the socket may never be
/// empty, and connections are waiting too.
const PASS: u32 = 64;
/// Enough for the longest datagram.
const BUFFER_BYTES: usize = 65_536;

/// A worker's source of datagrams, with its buffers.
pub(super) struct Datagrams {
    pub receiver: Box<dyn Receiver>,
    /// The number of its socket, by which clients name it.
    socket: u16,
    worker: u16,
    /// The address that clients send to.
    address: SocketAddr,
    buffer: Vec<u8>,
    /// Room for one SO_RXQ_OVFL message.
    control: Vec<u8>,
    clients: Arc<Places>,
    /// Whether strangers are answered.
    admit: Admit,
    /// Where to record who received, if events change that.
    ledger: Option<Arc<Ledger>>,
}

/// A datagram in the buffer.
struct Received {
    length: usize,
    peer: SocketAddr,
    /// How many datagrams the socket has lost so far; `None` if it has lost none.
    lost: Option<u32>,
}

impl Datagrams {
    pub fn new((receiver, socket): (Box<dyn Receiver>, u16), worker: usize, context: &TrialContext) -> Self {
        let TrialContext { scenario, clients, ledger, .. } = context;
        Self {
            receiver,
            socket,
            worker: worker as u16,
            address: scenario.address,
            buffer: vec![0; BUFFER_BYTES],
            control: cmsg_space!(u32),
            clients: Arc::clone(clients),
            admit: scenario.admit,
            ledger: ledger.clone().filter(|_| scenario.changes_workers()),
        }
    }

    /// Receives and answers up to `most` datagrams, as long as `running` returns true. Returns whether none are left.
    pub fn serve(
        &mut self,
        most: u32,
        running: impl Fn() -> bool,
        application: &mut Application,
        meter: &mut Meter<'_>,
    ) -> Result<bool> {
        meter.add(Count::DatagramWakeups, 1);
        let mut received = 0;
        let mut emptied = false;
        while received < most.min(PASS) && running() {
            match self.receive() {
                Ok(datagram) => {
                    received += 1;
                    self.answer(&datagram, application, meter);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    emptied = true;
                    break;
                }
                // The error of an earlier reply, for example to a client that is gone; it concerns only that reply.
                Err(error) => meter.add_error(Step::Serve, &error),
            }
        }
        if received == 0 && emptied {
            meter.add(Count::DatagramEmptyWakeups, 1);
        }
        if !emptied {
            self.receiver.left_some().context("re-arming the socket in epoll")?;
        }
        Ok(emptied)
    }

    fn answer(&self, datagram: &Received, application: &mut Application, meter: &mut Meter<'_>) {
        let now_ns = clock::monotonic_ns();
        meter.received(now_ns);
        if self.is_strangers(datagram, meter) && self.admit == Admit::Job {
            return;
        }
        let request = &self.buffer[..datagram.length];
        let theirs = ConnectionId::in_request(request);
        if let Some(ledger) = &self.ledger {
            ledger.received(began(datagram.peer, theirs), self.worker);
        }
        if let Some(lost) = datagram.lost {
            meter.lost(u64::from(lost));
        }
        let tuple = Tuple { client: datagram.peer, server: self.address };
        let id = theirs.map(|theirs| self.own_id(theirs, datagram.peer.port()));
        let caller = Caller { worker: self.worker, accept_ns: now_ns, tuple, told: Told::Nothing, id };
        let Some(reply) = application.answer(request, &caller) else {
            return meter.add_error(Step::Serve, io::Error::from_raw_os_error(libc::EBADMSG));
        };
        match self.receiver.socket().send_to(reply, &datagram.peer.into()) {
            Ok(_) => meter.add(Count::Requests, 1),
            Err(error) => meter.add_error(Step::Serve, &error),
        }
    }

    /// What this worker calls a flow whose datagram from this port has that id: the same, if that already names its socket.
    fn own_id(&self, theirs: ConnectionId, port: u16) -> ConnectionId {
        if theirs.socket() == Some(self.socket) { theirs } else { ConnectionId::of_server(self.socket, port, theirs) }
    }

    /// Whether a datagram comes from outside the job; counted.
    fn is_strangers(&self, datagram: &Received, meter: &Meter<'_>) -> bool {
        let strangers = self.clients.place(datagram.peer.ip()).is_none();
        meter.add(Count::DatagramsForeign, u64::from(strangers));
        strangers
    }

    /// Drains the socket, and counts the datagrams that will not be answered.
    pub fn drain(&mut self, count: Count, meter: &mut Meter<'_>) {
        loop {
            match self.receive() {
                Ok(datagram) => {
                    self.is_strangers(&datagram, meter);
                    meter.add(count, 1);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {}
            }
        }
    }

    fn receive(&mut self) -> io::Result<Received> {
        let socket = self.receiver.socket().as_raw_fd();
        let mut parts = [IoSliceMut::new(&mut self.buffer)];
        let message = recvmsg::<SockaddrStorage>(socket, &mut parts, Some(&mut self.control), MsgFlags::MSG_DONTWAIT)?;
        let lost = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::RxqOvfl(lost) => Some(lost),
            _ => None,
        });
        let address = message.address.ok_or_else(|| io::Error::from(ErrorKind::InvalidData))?;
        let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from(SocketAddrV4::new(v4.ip(), v4.port())));
        let v6 = || address.as_sockaddr_in6().map(|v6| SocketAddr::from(SocketAddrV6::new(v6.ip(), v6.port(), 0, 0)));
        let peer = v4.or_else(v6).ok_or_else(|| io::Error::from(ErrorKind::InvalidData))?;
        Ok(Received { length: message.bytes, peer, lost })
    }
}

/// The client's end in the flow's first datagram, which names the flow: its port may have changed since, and its id then says what it was.
fn began(peer: SocketAddr, id: Option<ConnectionId>) -> SocketAddr {
    SocketAddr::new(peer.ip(), id.and_then(ConnectionId::first_port).unwrap_or(peer.port()))
}
