//! A connection between two hosts, which carries frames and knows how it ended.
//!
//! A forked process may use the link of its parent, which waits for it meanwhile: no byte is read beyond the end of a frame, so whoever
//! reads next begins with a whole one.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use socket2::{SockRef, TcpKeepalive};

use super::{
    frame::{self, Any, Frame},
    inbox::{Broken, Inbox},
};
use crate::{
    ipc::family::Patience,
    record::Counts,
    sys::{clock, process::poll_timeout},
};

/// How long the other host may leave a message unread while no room is left for another.
const SEND_PATIENCE: Duration = Duration::from_secs(10);
/// A silent connection is probed after this long, and then every [`PROBE_EVERY`]. Without an answer to [`PROBES`] it has ended.
const PROBE_AFTER: Duration = Duration::from_secs(5);
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBES: u32 = 5;

/// One end of a connection.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    inbox: Inbox,
    /// Whether a part of a frame was sent whose rest was not.
    cut_short: bool,
    sent: u64,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Link {
    /// A link over an established connection.
    pub fn over(stream: TcpStream) -> io::Result<Self> {
        let keepalive = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY).with_retries(PROBES);
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_user_timeout(Some(PROBE_AFTER + PROBE_EVERY * PROBES))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let (local, peer) = (canonical(stream.local_addr()?), canonical(stream.peer_addr()?));
        let inbox = Inbox::new(frame::LIMIT);
        Ok(Self { stream, inbox, cut_short: false, sent: 0, local, peer })
    }

    /// The same, which takes no longer payload than this: nobody knows yet who sends.
    pub(super) fn limited(mut self, limit: usize) -> Self {
        self.inbox.limit = limit;
        self
    }

    /// The same without that limit.
    pub(super) fn trusted(self) -> Self {
        self.limited(frame::LIMIT)
    }

    /// This host's address of the connection.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The other host's.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether the other end has closed the connection, or it has failed. What arrived before may still be read.
    pub fn has_ended(&self) -> bool {
        // Nothing but this, a hang-up or an error ends the call: data alone does not.
        let closed = PollFlags::from_bits_retain(libc::POLLRDHUP);
        poll(&mut [PollFd::new(self.stream.as_fd(), closed)], PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Bytes sent since the connection was made, by this process and by those before it that it was forked from.
    pub fn bytes_sent(&self) -> u64 {
        self.sent
    }

    /// Bytes received, likewise.
    pub fn bytes_received(&self) -> u64 {
        self.inbox.received
    }

    /// Sends a value as JSON of at most [`frame::LIMIT`] bytes.
    pub fn send(&mut self, value: &impl Serialize) -> Result<()> {
        Ok(self.send_bytes(&frame::of_value(value)?)?)
    }

    /// Sends a histogram under a name.
    pub fn send_histogram(&mut self, name: &str, values: &Counts) -> Result<()> {
        Ok(self.send_bytes(&frame::of_histogram(name, values)?)?)
    }

    pub(super) fn send_bytes(&mut self, mut bytes: &[u8]) -> Result<(), Broken> {
        if self.cut_short {
            return Err(Broken::Ended("a message to it was cut short".to_owned()));
        }
        let wait = Patience::of(SEND_PATIENCE).begin();
        self.cut_short = true;
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(length) => {
                    self.sent += length as u64;
                    bytes = &bytes[length..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait.check()?;
                    self.sleep(PollFlags::POLLOUT, wait.nap());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Broken::of(&error)),
            }
        }
        self.cut_short = false;
        Ok(())
    }

    /// Waits for a frame, and answers questions for the time meanwhile.
    pub fn receive<T: DeserializeOwned>(&mut self, patience: Patience<'_>) -> Result<Frame<T>, Broken> {
        let wait = patience.begin();
        loop {
            if let Some(frame) = self.try_receive()? {
                return Ok(frame);
            }
            wait.check()?;
            self.sleep(PollFlags::POLLIN, wait.nap());
        }
    }

    /// A frame, if a whole one has arrived. Answers questions for the time that came before it.
    pub fn try_receive<T: DeserializeOwned>(&mut self) -> Result<Option<Frame<T>>, Broken> {
        loop {
            match self.try_any()? {
                None => return Ok(None),
                Some(Any::Sent(frame)) => return Ok(Some(frame)),
                Some(Any::Ping(asked_ns)) => self.send_bytes(&frame::pong(asked_ns, clock::monotonic_ns()))?,
                // Whoever asked no longer waits for it.
                Some(Any::Pong { .. }) => {}
            }
        }
    }

    /// Sends a question for the time and returns the answer, in nanoseconds of the other host's CLOCK_MONOTONIC. Nothing else may be under
    /// way.
    pub(super) fn ask_time(&mut self, now_ns: u64, patience: Patience<'_>) -> Result<u64, Broken> {
        let wait = patience.begin();
        self.send_bytes(&frame::ping(now_ns))?;
        loop {
            match self.try_any::<IgnoredAny>()? {
                Some(Any::Pong { asked_ns, now_ns: there_ns }) if asked_ns == now_ns => return Ok(there_ns),
                // An answer to a question that was given up.
                Some(Any::Pong { .. }) => {}
                Some(_) => return Err(Broken::Garbled("it was asked for the time and sent something else".to_owned())),
                None => {
                    wait.check()?;
                    self.sleep(PollFlags::POLLIN, wait.nap());
                }
            }
        }
    }

    fn try_any<T: DeserializeOwned>(&mut self) -> Result<Option<Any<T>>, Broken> {
        self.inbox.next(&mut self.stream)
    }

    /// Sleeps until there is something to read, or room to write; a signal ends that early.
    fn sleep(&self, until: PollFlags, at_most: Duration) {
        let _ = poll(&mut [PollFd::new(self.stream.as_fd(), until)], poll_timeout(at_most));
    }
}

/// An IPv4 address that a socket of both protocols shows as one of IPv6, as what it is.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::ipc::family::Cut;

    pub const SOON: Duration = Duration::from_secs(10);

    /// Both ends of a connection.
    pub fn pair() -> (Link, Link) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        (Link::over(near).unwrap(), Link::over(far).unwrap())
    }

    fn value(link: &mut Link) -> Result<u32, Broken> {
        match link.receive(Patience::of(SOON))? {
            Frame::Value(value) => Ok(value),
            Frame::Histogram(..) => panic!("a value"),
        }
    }

    #[test]
    fn frames_arrive_in_order_and_are_counted() {
        let (mut near, mut far) = pair();
        let mut histogram = Counts::new(1, 1_000, 3).unwrap();
        histogram.extend([(7, 1)].into_iter());
        near.send(&1).unwrap();
        near.send_histogram("connect", &histogram).unwrap();
        near.send(&2).unwrap();
        assert_eq!(value(&mut far).unwrap(), 1);
        let Frame::Histogram(name, again) = far.receive::<u32>(Patience::of(SOON)).unwrap() else { panic!() };
        assert_eq!((&name[..], again), ("connect", histogram));
        assert_eq!(value(&mut far).unwrap(), 2);
        assert_eq!((near.bytes_sent(), near.bytes_received()), (far.bytes_received(), far.bytes_sent()));
        assert!(near.bytes_sent() > 12 && (near.local(), near.peer()) == (far.peer(), far.local()));
    }

    #[test]
    fn silence_and_an_end_are_told_apart() {
        let (near, mut far) = pair();
        let silence = far.receive::<u32>(Patience::of(Duration::ZERO)).unwrap_err();
        assert!(matches!(silence, Broken::Cut(Cut::TooLong(_))), "{silence}");
        assert!(far.try_receive::<u32>().unwrap().is_none() && !far.has_ended());
        drop(near);
        let end = value(&mut far).unwrap_err();
        assert!(matches!(end, Broken::Ended(_)) && end.to_string() == "it closed its connection", "{end}");
        assert!(far.has_ended());
    }

    #[test]
    fn a_frame_may_come_in_parts_and_break_off() {
        let (mut near, mut far) = pair();
        let frame = frame::of_value(&1_234_567).unwrap();
        for byte in &frame {
            assert!(far.try_receive::<u32>().unwrap().is_none());
            near.send_bytes(&[*byte]).unwrap();
        }
        assert_eq!(value(&mut far).unwrap(), 1_234_567);
        near.send_bytes(&frame[..frame.len() - 1]).unwrap();
        drop(near);
        let end = value(&mut far).unwrap_err();
        assert!(matches!(end, Broken::Ended(_)) && end.to_string().ends_with("within a message"), "{end}");
    }

    #[test]
    fn nothing_is_read_beyond_a_frame() {
        let (mut near, mut far) = pair();
        near.send(&1).unwrap();
        near.send(&2).unwrap();
        assert_eq!(value(&mut far).unwrap(), 1);
        // As a forked process does that takes the link over.
        let mut child = Link::over(far.stream.try_clone().unwrap()).unwrap();
        assert_eq!(value(&mut child).unwrap(), 2);
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_before_it_arrives() {
        let (mut near, far) = pair();
        let mut far = far.limited(10);
        near.send_bytes(&[11, 0, 0, 0, 1]).unwrap();
        let error = value(&mut far).unwrap_err();
        assert!(matches!(error, Broken::Garbled(_)) && error.to_string().contains("over the limit of 10"), "{error}");
    }

    #[test]
    fn what_does_not_fit_is_neither_silence_nor_an_end() {
        let (mut near, mut far) = pair();
        near.send(&"text").unwrap();
        assert!(matches!(value(&mut far).unwrap_err(), Broken::Garbled(_)));
    }

    #[test]
    fn a_link_with_half_a_message_sends_no_more() {
        let (mut near, far) = pair();
        // More than buffers hold, to an end that is gone before it has read any.
        drop(far);
        let big = "x".repeat(frame::LIMIT - 2);
        while near.send(&big).is_ok() {}
        let error = near.send(&1).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Broken::Ended(_))), "{error}");
    }
}
