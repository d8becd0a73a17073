//! An io_uring for a worker's connections. Receives take a buffer of the ring when bytes are there, so that a connection that only waits
//! has none; what is to be sent is kept in the ring until it has gone out.
//!
//! A connection has a key, and at most one receive and one send under way, the receive never before the send is over: replies that a
//! client does not take stop its requests.

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd},
    time::Duration,
};

use io_uring::{
    IoUring, cqueue, opcode, squeue,
    types::{CancelBuilder, Fd},
};

use super::{
    enter,
    incoming::{Incoming, Received},
    outgoing::{Outgoing, Receive},
};

/// Operations that may be queued before they are submitted.
const SUBMISSIONS: u32 = 1_024;
/// Completions that may wait in the ring; the kernel keeps any more.
const COMPLETIONS: u32 = 4_096;
/// Kinds of operations, in the lowest bits of their marks; what they belong to follows.
const KIND_BITS: u32 = 2;
const WATCH: u64 = 0;
pub(super) const RECEIVE: u64 = 1;
pub(super) const SEND: u64 = 2;
const CLOSE: u64 = 3;

pub(super) fn mark(kind: u64, value: u64) -> u64 {
    value << KIND_BITS | kind
}

/// What has happened.
#[derive(Debug)]
pub enum Done {
    /// The watched descriptor is readable, and no longer watched.
    Watched,
    /// A connection has bytes or, if there are none of them, its end.
    Received { key: usize, received: Received },
    /// No buffer was left to receive into.
    Unreceived { key: usize },
    /// What a connection was to send before anything is received has gone out.
    Sent { key: usize },
    /// An operation has failed, and the connection has no other; `None` is one that is being closed.
    Failed { key: Option<usize>, errno: i32 },
    /// A connection is closed.
    Closed,
}

/// A ring and the buffers of a worker's connections. Belongs to the thread that created it.
pub struct ServerRing {
    ring: IoUring,
    incoming: Incoming,
    outgoing: Outgoing,
    /// Connections of which the close is under way.
    closing: usize,
    /// Operations that the kernel has not completed.
    under_way: usize,
}

impl ServerRing {
    /// Creates a ring. Fails if the kernel or an administrator forbids io_uring, or the kernel is older than Linux 6.1.
    pub fn new() -> io::Result<Self> {
        // Completions are processed when this thread asks for them, without interrupting it. Whatever knows this (Linux 6.1) knows the
        // operations used here, too.
        let ring = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(SUBMISSIONS)?;
        let incoming = Incoming::new();
        incoming.register(&ring)?;
        Ok(Self { ring, incoming, outgoing: Outgoing::default(), closing: 0, under_way: 0 })
    }

    /// Reports when a descriptor is readable, once. It must stay open until then.
    pub fn watch(&mut self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let poll = opcode::PollAdd::new(Fd(descriptor.as_raw_fd()), libc::POLLIN as u32);
        self.push(&[poll.build().user_data(mark(WATCH, 0))])
    }

    /// Sends what a connection was given to send, if anything, and receives after that, if it is to. The descriptor must stay open until
    /// something is reported of it.
    pub fn go_on(&mut self, key: usize, socket: BorrowedFd<'_>, receive: Option<Receive>) -> io::Result<()> {
        let send = self.outgoing.send(key, socket.as_raw_fd());
        let receive = receive.map(|receive| self.outgoing.receive(key, socket.as_raw_fd(), receive));
        match (send, receive) {
            (Some(send), Some(receive)) => self.push(&[send.flags(squeue::Flags::IO_LINK), receive]),
            (Some(one), None) | (None, Some(one)) => self.push(&[one]),
            (None, None) => Ok(()),
        }
    }

    /// Closes a connection once what it was given to send has gone out. It must not be receiving; its key is free now.
    pub fn close(&mut self, key: usize, socket: OwnedFd) -> io::Result<()> {
        let socket = socket.into_raw_fd();
        self.closing += 1;
        let send = self.outgoing.send(key, socket);
        self.outgoing.forget(key);
        match send {
            Some(send) => self.push(&[send.flags(squeue::Flags::IO_LINK), close(socket)]),
            None => self.push(&[close(socket)]),
        }
    }

    /// How many connections are being closed.
    pub fn closing(&self) -> usize {
        self.closing
    }

    /// Cancels all operations and waits until the kernel has let go of everything.
    pub fn cancel_all(&mut self) -> io::Result<()> {
        while self.under_way > 0 {
            self.submit()?;
            match self.ring.submitter().register_sync_cancel(None, CancelBuilder::any()) {
                Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
                _ => {}
            }
            self.submit_and_wait(Some(Duration::from_millis(10)))?;
            while let Some(done) = self.next()? {
                if let Done::Received { received, .. } = done {
                    self.give_back(&received);
                }
            }
        }
        Ok(())
    }

    /// Queues operations that belong together.
    fn push(&mut self, entries: &[squeue::Entry]) -> io::Result<()> {
        let room = {
            let queue = self.ring.submission();
            queue.capacity() - queue.len()
        };
        if room < entries.len() {
            self.submit()?;
        }
        // SAFETY: sends point to a buffer of `outgoing`, which refuses changes until the send has completed; receives take buffers of
        // `incoming`. Neither moves, and `drop` leaks both if the kernel may still use them.
        unsafe { self.ring.submission().push_multiple(entries) }.map_err(io::Error::other)?;
        self.under_way += entries.len();
        Ok(())
    }

    /// Submits the queued operations, which the kernel starts at once.
    pub fn submit(&mut self) -> io::Result<()> {
        enter::submit(&self.ring)
    }

    /// Submits, and waits up to `at_most` for a completion. Does not wait if that is zero.
    pub fn submit_and_wait(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        enter::submit_and_wait(&self.ring, at_most)
    }

    /// What has happened next, if anything.
    #[allow(clippy::should_implement_trait, reason = "an iterator's end would be final")]
    pub fn next(&mut self) -> io::Result<Option<Done>> {
        loop {
            let Some(completion) = self.ring.completion().next() else { return Ok(None) };
            self.under_way -= 1;
            if let Some(done) = self.done(&completion)? {
                return Ok(Some(done));
            }
        }
    }

    fn done(&mut self, completion: &cqueue::Entry) -> io::Result<Option<Done>> {
        let (kind, value) = (completion.user_data() & CLOSE, completion.user_data() >> KIND_BITS);
        let result = completion.result();
        Ok(match kind {
            WATCH => Some(Done::Watched),
            RECEIVE => {
                let key = value as usize;
                let place = self.outgoing.place(key);
                place.receives = false;
                let failure = mem::take(&mut place.failure);
                let buffer = cqueue::buffer_select(completion.flags());
                match result {
                    0.. => Some(Done::Received { key, received: Received::new(buffer, result as usize) }),
                    // The send before it has failed.
                    _ if failure != 0 => Some(Done::Failed { key: Some(key), errno: failure }),
                    _ if -result == libc::ENOBUFS => Some(Done::Unreceived { key }),
                    _ if -result == libc::ECANCELED => None,
                    _ => Some(Done::Failed { key: Some(key), errno: -result }),
                }
            }
            SEND => {
                let sent = self.outgoing.sent(value as usize);
                let errno = match usize::try_from(result) {
                    Ok(length) if length == sent.length => 0,
                    // It waits for room unless the connection ends: the client has reset it.
                    Ok(_) => libc::ECONNRESET,
                    Err(_) => -result,
                };
                let waits = sent.key.is_some_and(|key| self.outgoing.place(key).receives);
                match (sent.key, errno) {
                    (Some(key), 1..) if waits => {
                        self.outgoing.place(key).failure = errno;
                        None
                    }
                    (Some(key), 0) => (!waits).then_some(Done::Sent { key }),
                    (None, 0) => None,
                    (key, _) => Some(Done::Failed { key, errno }),
                }
            }
            // The send before it has failed.
            _ if -result == libc::ECANCELED => {
                self.push(&[close(value as RawFd)])?;
                None
            }
            _ => {
                self.closing -= 1;
                Some(Done::Closed)
            }
        })
    }

    /// The bytes that were received, and where what is said to them goes.
    pub fn hand(&mut self, received: &Received) -> (&[u8], &mut Outgoing) {
        (self.incoming.bytes(received), &mut self.outgoing)
    }

    /// Where what is said goes.
    pub fn outgoing(&mut self) -> &mut Outgoing {
        &mut self.outgoing
    }

    /// Gives a receive buffer back to the kernel.
    pub fn give_back(&mut self, received: &Received) {
        self.incoming.take_back(received);
    }
}

impl Drop for ServerRing {
    fn drop(&mut self) {
        // Closing a ring only asks the kernel to stop.
        if self.under_way > 0 {
            mem::forget(mem::take(&mut self.outgoing));
            self.incoming.leak();
        }
    }
}

fn close(socket: RawFd) -> squeue::Entry {
    opcode::Close::new(Fd(socket)).build().user_data(mark(CLOSE, socket as u64))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::{fd::AsFd, unix::net::UnixStream},
    };

    use super::*;

    /// What has happened next; panics if that is nothing within ten seconds.
    fn next(ring: &mut ServerRing) -> Done {
        for _ in 0..10 {
            if let Some(done) = ring.next().unwrap() {
                return done;
            }
            ring.submit_and_wait(Some(Duration::from_secs(1))).unwrap();
        }
        panic!("nothing has happened");
    }

    fn received(ring: &mut ServerRing, key: usize) -> Vec<u8> {
        let done = next(ring);
        let Done::Received { key: found, received } = done else { panic!("{done:?}") };
        assert_eq!(found, key);
        let bytes = ring.hand(&received).0.to_vec();
        ring.give_back(&received);
        bytes
    }

    #[test]
    fn a_reply_leaves_before_the_close() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut ring = ServerRing::new().unwrap();
        client.write_all(b"ask").unwrap();
        ring.go_on(7, server.as_fd(), Some(Receive::Now)).unwrap();
        assert_eq!(received(&mut ring, 7), b"ask");
        ring.outgoing().put(7, b"ans");
        ring.outgoing().put(7, b"wer");
        ring.close(7, server.into()).unwrap();
        // The key is free, and its next connection has nothing to send.
        assert_eq!((ring.closing(), ring.outgoing().unsent(7)), (1, 0));
        assert!(matches!(next(&mut ring), Done::Closed));
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!((&*answer, ring.closing()), ("answer", 0));
    }

    #[test]
    fn a_client_that_does_not_read_is_not_listened_to() {
        const LONG: usize = 4 << 20;
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut ring = ServerRing::new().unwrap();
        ring.outgoing().put(0, &vec![b'x'; LONG]);
        ring.go_on(0, server.as_fd(), Some(Receive::Later)).unwrap();
        client.write_all(b"more").unwrap();
        ring.submit_and_wait(Some(Duration::from_millis(50))).unwrap();
        assert!(ring.next().unwrap().is_none());
        assert_eq!(ring.outgoing().unsent(0), LONG);
        let reader = std::thread::spawn(move || {
            client.read_exact(&mut vec![0; LONG]).unwrap();
            client
        });
        assert_eq!(received(&mut ring, 0), b"more");
        assert_eq!(ring.outgoing().unsent(0), 0);
        let client = reader.join().unwrap();
        ring.go_on(0, server.as_fd(), Some(Receive::Later)).unwrap();
        drop(client);
        assert_eq!(received(&mut ring, 0), b"");
    }

    #[test]
    fn a_send_alone_is_reported() {
        let (_client, server) = UnixStream::pair().unwrap();
        let mut ring = ServerRing::new().unwrap();
        ring.outgoing().put(3, b"one");
        ring.go_on(3, server.as_fd(), None).unwrap();
        assert!(matches!(next(&mut ring), Done::Sent { key: 3 }));
    }

    #[test]
    fn what_fails_is_reported_once() {
        let mut ring = ServerRing::new().unwrap();
        for receive in [None, Some(Receive::Later)] {
            let (client, server) = UnixStream::pair().unwrap();
            drop(client);
            ring.outgoing().put(5, b"lost");
            ring.go_on(5, server.as_fd(), receive).unwrap();
            assert!(matches!(next(&mut ring), Done::Failed { key: Some(5), errno: libc::EPIPE }));
            ring.outgoing().put(5, b"again");
            ring.close(5, server.into()).unwrap();
            // The close that the failed send has cancelled comes all the same.
            assert!(matches!(next(&mut ring), Done::Failed { key: None, errno: libc::EPIPE }));
            assert!(matches!(next(&mut ring), Done::Closed));
            assert_eq!(ring.under_way, 0);
        }
    }

    #[test]
    fn receives_without_a_buffer_are_repeated() {
        const CLIENTS: usize = 300;
        let mut ring = ServerRing::new().unwrap();
        let pairs: Vec<_> = (0..CLIENTS).map(|_| UnixStream::pair().unwrap()).collect();
        for (key, (client, server)) in pairs.iter().enumerate() {
            (&mut &*client).write_all(&(key as u32).to_ne_bytes()).unwrap();
            ring.go_on(key, server.as_fd(), Some(Receive::Now)).unwrap();
        }
        let (mut taken, mut without) = (Vec::new(), Vec::new());
        while taken.len() + without.len() < CLIENTS {
            match next(&mut ring) {
                Done::Received { key, received } => taken.push((key, received)),
                Done::Unreceived { key } => without.push(key),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(taken.len(), 256);
        for (key, received) in &taken {
            assert_eq!(ring.hand(received).0, (*key as u32).to_ne_bytes());
            ring.give_back(received);
        }
        for key in without {
            ring.go_on(key, pairs[key].1.as_fd(), Some(Receive::Now)).unwrap();
            assert_eq!(received(&mut ring, key), (key as u32).to_ne_bytes());
        }
    }

    #[test]
    fn nothing_keeps_a_socket_open_once_all_is_cancelled() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut ring = ServerRing::new().unwrap();
        ring.watch(server.as_fd()).unwrap();
        ring.outgoing().put(0, &vec![0; 4 << 20]);
        ring.go_on(0, server.as_fd(), Some(Receive::Later)).unwrap();
        ring.cancel_all().unwrap();
        assert_eq!(ring.under_way, 0);
        drop(server);
        client.read_to_end(&mut Vec::new()).unwrap();
    }
}
