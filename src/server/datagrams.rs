//! A worker's datagrams: the loop waits for them; this module receives and answers them. It is the same for every strategy.

use std::{
    io::{self, ErrorKind, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsRawFd,
    sync::Arc,
};

use anyhow::{Context, Result};
use nix::{
    cmsg_space,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg},
};
use socket2::Socket;

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
    sys::{clock, socket},
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
    /// The port that clients send to.
    port: u16,
    /// By socket: its address, and how many datagrams it has lost so far.
    sockets: Vec<(IpAddr, u32)>,
    buffer: Vec<u8>,
    /// Room for one SO_RXQ_OVFL message, and for one that tells the destination.
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
    /// The socket that it came from, by its place.
    place: usize,
    /// The sender, as the socket has it: mapped, if it is an IPv6 socket that an IPv4 client has sent to.
    peer: SocketAddr,
    /// Where it was sent to, if the socket receives what is sent to any address.
    asked: Option<Asked>,
    /// How many datagrams the socket has lost so far; `None` if it has lost none.
    lost: Option<u32>,
}

/// The address that a datagram was sent to, as the kernel tells it, and takes it for the reply.
#[derive(Clone, Copy)]
enum Asked {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

impl Asked {
    fn of_v4(told: libc::in_pktinfo) -> Self {
        // The address that a reply comes from is the local one, and the routes choose its device.
        Self::V4(libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: told.ipi_addr, ..told })
    }

    fn of_v6(told: libc::in6_pktinfo) -> Self {
        let is_of_link = Ipv6Addr::from(told.ipi6_addr.s6_addr).is_unicast_link_local();
        let index = if is_of_link { told.ipi6_ifindex } else { 0 };
        Self::V6(libc::in6_pktinfo { ipi6_ifindex: index, ..told })
    }

    fn ip(self) -> IpAddr {
        match self {
            Self::V4(info) => Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into(),
            Self::V6(info) => IpAddr::from(info.ipi6_addr.s6_addr).to_canonical(),
        }
    }
}

impl Datagrams {
    pub fn new((receiver, socket): (Box<dyn Receiver>, u16), worker: usize, context: &TrialContext) -> Self {
        let TrialContext { scenario, clients, ledger, .. } = context;
        let bound = scenario.server.bind.bound(scenario.address);
        Self {
            receiver,
            socket,
            worker: worker as u16,
            port: scenario.address.port(),
            sockets: bound.into_iter().map(|address| (address.ip().to_canonical(), 0)).collect(),
            buffer: vec![0; BUFFER_BYTES],
            control: cmsg_space!(u32, libc::in6_pktinfo),
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
            let Some(place) = self.receiver.listener().turn() else {
                emptied = true;
                break;
            };
            match self.receive(place) {
                Ok(datagram) => {
                    received += 1;
                    self.receiver.listener().gave(place);
                    self.answer(&datagram, application, meter);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !self.receiver.listener().emptied(place) {
                        emptied = true;
                        break;
                    }
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

    fn answer(&mut self, datagram: &Received, application: &mut Application, meter: &mut Meter<'_>) {
        let now_ns = clock::monotonic_ns();
        meter.received(now_ns);
        if self.is_strangers(datagram, meter) && self.admit == Admit::Job {
            return;
        }
        let client = socket::unmapped(datagram.peer);
        let theirs = ConnectionId::in_request(&self.buffer[..datagram.length]);
        if let Some(ledger) = &self.ledger {
            ledger.received(began(client, theirs), self.worker);
        }
        let (own, lost) = &mut self.sockets[datagram.place];
        let server = SocketAddr::new(datagram.asked.map_or(*own, Asked::ip), self.port);
        if let Some(now_lost) = datagram.lost {
            *lost = now_lost;
            meter.lost(self.sockets.iter().map(|(_, lost)| u64::from(*lost)).sum());
        }
        let tuple = Tuple { client, server };
        let id = theirs.map(|theirs| self.own_id(theirs, client.port()));
        let caller = Caller { worker: self.worker, accept_ns: now_ns, tuple, told: Told::Nothing, id };
        let Some(reply) = application.answer(&self.buffer[..datagram.length], &caller) else {
            return meter.add_error(Step::Serve, io::Error::from_raw_os_error(libc::EBADMSG));
        };
        let socket = &self.receiver.listener().sockets()[datagram.place];
        let sent = match datagram.asked {
            None => socket.send_to(reply, &datagram.peer.into()),
            Some(asked) => send_from(socket, asked, reply, datagram.peer),
        };
        match sent {
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
        let strangers = self.clients.place(datagram.peer.ip().to_canonical()).is_none();
        meter.add(Count::DatagramsForeign, u64::from(strangers));
        strangers
    }

    /// Lets nothing more arrive at the sockets, where the kernel allows that.
    pub fn end_delivery(&mut self) {
        for socket in self.receiver.listener().sockets() {
            let _ = socket::end_delivery(socket);
        }
    }

    /// Drains the sockets, and counts the datagrams that will not be answered. What a socket has lost since it last gave one is counted, too: no
    /// later one would tell of it.
    pub fn drain(&mut self, count: Count, meter: &mut Meter<'_>) {
        for place in 0..self.sockets.len() {
            loop {
                match self.receive(place) {
                    Ok(datagram) => {
                        self.is_strangers(&datagram, meter);
                        meter.add(count, 1);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => {}
                }
            }
            if let Ok(lost) = socket::datagrams_lost(&self.receiver.listener().sockets()[place]) {
                self.sockets[place].1 = lost;
            }
        }
        meter.lost(self.sockets.iter().map(|(_, lost)| u64::from(*lost)).sum());
    }

    fn receive(&mut self, place: usize) -> io::Result<Received> {
        let socket = self.receiver.listener().sockets()[place].as_raw_fd();
        let mut parts = [IoSliceMut::new(&mut self.buffer)];
        let message = recvmsg::<SockaddrStorage>(socket, &mut parts, Some(&mut self.control), MsgFlags::MSG_DONTWAIT)?;
        let (mut lost, mut asked) = (None, None);
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::RxqOvfl(now_lost) => lost = Some(now_lost),
                ControlMessageOwned::Ipv4PacketInfo(told) => asked = Some(Asked::of_v4(told)),
                ControlMessageOwned::Ipv6PacketInfo(told) => asked = Some(Asked::of_v6(told)),
                _ => {}
            }
        }
        let address = message.address.ok_or_else(|| io::Error::from(ErrorKind::InvalidData))?;
        let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from(SocketAddrV4::new(v4.ip(), v4.port())));
        let v6 = || address.as_sockaddr_in6().map(|v6| SocketAddr::from(SocketAddrV6::new(v6.ip(), v6.port(), 0, 0)));
        let peer = v4.or_else(v6).ok_or_else(|| io::Error::from(ErrorKind::InvalidData))?;
        Ok(Received { length: message.bytes, place, peer, asked, lost })
    }
}

/// The client's end in the flow's first datagram, which names the flow: its port may have changed since, and its id then says what it was.
fn began(peer: SocketAddr, id: Option<ConnectionId>) -> SocketAddr {
    SocketAddr::new(peer.ip(), id.and_then(ConnectionId::first_port).unwrap_or(peer.port()))
}

/// Sends a reply from the address that the request was sent to.
fn send_from(socket: &Socket, asked: Asked, reply: &[u8], to: SocketAddr) -> io::Result<usize> {
    let control = match &asked {
        Asked::V4(info) => ControlMessage::Ipv4PacketInfo(info),
        Asked::V6(info) => ControlMessage::Ipv6PacketInfo(info),
    };
    let to = SockaddrStorage::from(to);
    Ok(sendmsg(socket.as_raw_fd(), &[IoSlice::new(reply)], &[control], MsgFlags::empty(), Some(&to))?)
}
