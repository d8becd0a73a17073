//! What every engine keeps by key: the socket, the state of its connection, and unsent bytes.

use std::{
    io::{self, ErrorKind},
    net::{Shutdown, SocketAddr},
    ops::{Index, IndexMut},
    time::Duration,
};

use socket2::Socket;

use super::{Opened, Taken};
use crate::{
    load::{
        buffers::{self, Buffers, Kept},
        dialler::Dialler,
        source::Group,
    },
    record::{Cause, Step},
    scenario::Transport,
    sys::{socket, unix},
};

/// The seats, by key.
#[derive(Debug)]
pub(super) struct Seats {
    seats: Vec<Seat>,
    /// Free keys, the next one last.
    free: Vec<u32>,
    /// By key, as far as there are any: the first socket of a flow that has another now.
    former: Vec<Option<Socket>>,
    buffers: Buffers,
}

/// One connection's seat.
#[derive(Debug)]
pub(super) struct Seat {
    /// In a free seat: a disconnected socket, for the key's next connection.
    socket: Option<Socket>,
    pub state: State,
    pub transport: Transport,
    unsent: Kept,
}

/// The state of a seat's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// There is no connection.
    Free,
    /// connect(2) was called.
    Connecting,
    /// The connection is established; datagram flows are always open.
    Open,
    /// The connection is closed, but the kernel still has operations on it. `recycles`: its socket then serves the next connection.
    Closing { recycles: bool },
}

/// The state of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handshake {
    /// The connection is established.
    Over,
    /// The SYN waits for the first bytes (TCP_FASTOPEN).
    Deferred,
    /// It failed; or, for step `Receive`, the connection was established and then reset.
    Failed(Step, Cause),
}

impl Seat {
    /// The socket. Panics if the seat has none.
    #[inline]
    pub fn socket(&self) -> &Socket {
        self.socket.as_ref().expect("a seat in use has a socket")
    }

    #[inline]
    pub fn is_in_use(&self) -> bool {
        matches!(self.state, State::Connecting | State::Open)
    }

    /// Bytes that the socket has not taken yet.
    #[inline]
    pub fn unsent(&self) -> &[u8] {
        buffers::bytes(&self.unsent)
    }

    /// Asks the kernel for the state of a handshake after an event.
    pub fn handshake(&mut self, fastopen: bool) -> Handshake {
        match self.socket().take_error() {
            // In place of a refusal: the connection was established before it was reset.
            Ok(Some(error)) if error.raw_os_error() == Some(libc::ECONNRESET) => {
                Handshake::Failed(Step::Receive, Cause::from(&error))
            }
            Ok(Some(error)) | Err(error) => Handshake::Failed(Step::Connect, Cause::from(&error)),
            // With TCP_FASTOPEN_CONNECT, a socket that knows the server's cookie is writable at once.
            Ok(None) if fastopen && socket::is_connecting(self.socket()).unwrap_or(false) => Handshake::Deferred,
            Ok(None) => {
                self.state = State::Open;
                Handshake::Over
            }
        }
    }

    /// Settles whether a handshake in progress has succeeded.
    pub fn settle(&self) -> bool {
        // It may complete at any moment. Shutting down settles it: in SYN_SENT the kernel drops the attempt (state CLOSE); otherwise
        // the connection was established and the server has it.
        self.shut_down();
        self.has_connection()
    }

    /// Ends both directions of the connection.
    pub fn shut_down(&self) {
        // Fails only if the connection is already gone.
        let _ = self.socket().shutdown(Shutdown::Both);
    }

    pub fn has_connection(&self) -> bool {
        socket::has_connection(self.socket()).unwrap_or(false)
    }

    pub fn syn_retries(&self) -> u32 {
        socket::retransmissions(self.socket()).unwrap_or(0)
    }

    /// Makes the next close(2) reset the connection.
    pub fn reset_on_close(&self) {
        // Fails only on a socket that is already closed.
        let _ = self.socket().set_linger(Some(Duration::ZERO));
    }
}

impl Seats {
    /// Seats with room for this many connections: a list that grows leaves its outgrown allocations in the heap.
    pub fn with_capacity(room: usize) -> Self {
        Self {
            seats: Vec::with_capacity(room),
            free: Vec::with_capacity(room),
            former: Vec::new(),
            buffers: Buffers::default(),
        }
    }

    /// See [`super::Engine::open`].
    pub fn open(&mut self, transport: Transport, dialler: &Dialler) -> io::Result<Opened> {
        let key = self.free.pop().map_or_else(
            || {
                self.seats.push(Seat { socket: None, state: State::Free, transport, unsent: None });
                self.seats.len() - 1
            },
            |key| key as usize,
        );
        let seat = &mut self.seats[key];
        seat.transport = transport;
        // A flow of datagrams cannot use a connection's socket.
        let left = seat.socket.take().filter(|_| transport == Transport::Tcp);
        let recycled = left.is_some();
        match left.map_or_else(|| dialler.socket(transport), Ok) {
            Ok(socket) => seat.socket = Some(socket),
            Err(error) => {
                self.free.push(key as u32);
                return Err(error);
            }
        }
        Ok(Opened { key, recycled })
    }

    /// See [`super::Engine::connect`]. Also returns whether another socket has replaced the opened one.
    pub fn connect(
        &mut self,
        key: usize,
        dialler: &mut Dialler,
        group: &Group,
    ) -> Result<(SocketAddr, bool), (Step, io::Error)> {
        let seat = &mut self.seats[key];
        let connected = dialler.connect(seat.socket(), seat.transport, group).and_then(|another| {
            let replaced = another.is_some();
            seat.socket = another.or_else(|| seat.socket.take());
            let client = seat.socket().local_addr().map_err(|error| (Step::Connect, error))?;
            // As the server has it.
            let client = unix::end(&client).ok_or_else(|| (Step::Connect, ErrorKind::Unsupported.into()))?;
            Ok((client, replaced))
        });
        if connected.is_ok() {
            seat.state = match seat.transport {
                Transport::Tcp => State::Connecting,
                Transport::Udp => State::Open,
            };
        } else {
            self.release(key, false);
        }
        connected
    }

    /// See [`super::Engine::rebind`].
    pub fn rebind(
        &mut self,
        key: usize,
        dialler: &mut Dialler,
        group: &Group,
    ) -> Result<SocketAddr, (Step, io::Error)> {
        let seat = &mut self.seats[key];
        let fresh = dialler.socket(seat.transport).map_err(|error| (Step::Socket, error))?;
        let fresh = dialler.connect(&fresh, seat.transport, group)?.unwrap_or(fresh);
        let client = fresh.local_addr().map_err(|error| (Step::Connect, error))?;
        let client = client.as_socket().ok_or_else(|| (Step::Connect, ErrorKind::Unsupported.into()))?;
        if self.former.len() <= key {
            self.former.resize_with(key + 1, || None);
        }
        self.former[key] = seat.socket.replace(fresh);
        Ok(socket::unmapped(client))
    }

    /// See [`super::Engine::send`]. `opens`: a socket that takes bytes is established.
    pub fn send(&mut self, key: usize, bytes: &[u8], opens: bool) -> io::Result<Taken> {
        let seat = &mut self.seats[key];
        if seat.transport == Transport::Udp {
            return seat.socket().send_with_flags(bytes, libc::MSG_NOSIGNAL).map(|_| Taken::All);
        }
        // Queue behind unsent bytes: a server may answer before it has read everything.
        let taken = match seat.unsent {
            Some(_) => 0,
            None => match send(seat.socket(), bytes) {
                // It is established, and the server has closed it already. Nobody will read this, but what the server said can be read.
                Err(error) if opens && seat.state == State::Connecting && error.kind() == ErrorKind::BrokenPipe => {
                    bytes.len()
                }
                taken => taken?,
            },
        };
        if taken > 0 && opens {
            seat.state = State::Open;
        }
        if taken == bytes.len() {
            return Ok(Taken::All);
        }
        self.buffers.append(&mut seat.unsent, &bytes[taken..]);
        Ok(if taken == 0 { Taken::Nothing } else { Taken::Part })
    }

    /// Gives the socket bytes that go out with the FIN of the close that follows, unless others are still unsent.
    pub fn send_last(&mut self, key: usize, bytes: &[u8]) {
        let seat = &self.seats[key];
        if seat.unsent.is_none() {
            // Whether or not they arrive, the connection ends.
            let _ = seat.socket().send_with_flags(bytes, libc::MSG_NOSIGNAL | libc::MSG_MORE);
        }
    }

    /// Sends as many of the unsent bytes as the socket takes now. Returns whether all of them have gone out.
    pub fn flush(&mut self, key: usize) -> io::Result<bool> {
        let seat = &self.seats[key];
        let sent = send(seat.socket(), seat.unsent())?;
        Ok(self.sent(key, sent))
    }

    /// Drops the first `length` unsent bytes, which have gone out. Returns whether they were the last.
    pub fn sent(&mut self, key: usize, length: usize) -> bool {
        let seat = &mut self.seats[key];
        self.buffers.consume(&mut seat.unsent, length);
        seat.unsent.is_none()
    }

    /// Frees a key. `recycles`: its socket serves the next connection; otherwise it is closed.
    pub fn release(&mut self, key: usize, recycles: bool) {
        let seat = &mut self.seats[key];
        if !recycles {
            seat.socket = None;
        }
        if let Some(former) = self.former.get_mut(key) {
            *former = None;
        }
        seat.state = State::Free;
        self.buffers.clear(&mut seat.unsent);
        self.free.push(key as u32);
    }
}

impl Index<usize> for Seats {
    type Output = Seat;

    #[inline]
    fn index(&self, key: usize) -> &Seat {
        &self.seats[key]
    }
}

impl IndexMut<usize> for Seats {
    #[inline]
    fn index_mut(&mut self, key: usize) -> &mut Seat {
        &mut self.seats[key]
    }
}

/// Sends as many bytes as the socket takes, and returns their number.
fn send(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match socket.send_with_flags(&bytes[sent..], libc::MSG_NOSIGNAL) {
            Ok(length) => sent += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_seat_is_small() {
        assert!(size_of::<Seat>() <= 16, "{}", size_of::<Seat>());
    }
}
