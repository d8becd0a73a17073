//! An io_uring with one multishot accept.

use std::{
    io,
    net::{TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use io_uring::{IoUring, cqueue, opcode, squeue, types::Fd};
use socket2::SockRef;

/// Marks the completion of the accept's cancellation.
const CANCEL: u64 = 0;

/// A ring and the listener it accepts on. Belongs to the process that created it: create it after the fork.
pub struct AcceptRing {
    ring: IoUring,
    listener: TcpListener,
    /// Marks completions of the accept.
    user_data: u64,
    armed: bool,
}

impl AcceptRing {
    /// Creates a ring with room for `entries` completions, those of the accept marked with `user_data`, which is not 0.
    /// Accepting starts with [`Self::arm`].
    pub fn new(listener: TcpListener, entries: u32, user_data: u64) -> io::Result<Self> {
        Ok(Self { ring: IoUring::builder().setup_cqsize(entries).build(8)?, listener, user_data, armed: false })
    }

    /// The listener.
    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Whether the multishot accept is active, judging by the completions taken so far.
    pub fn is_armed(&self) -> bool {
        self.armed
    }

    /// Starts the multishot accept, unless it is active.
    pub fn arm(&mut self) -> io::Result<()> {
        if !self.armed {
            let accept = opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd()))
                .flags(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)
                .build()
                .user_data(self.user_data);
            self.submit(&accept, 0)?;
            self.armed = true;
        }
        Ok(())
    }

    fn submit(&mut self, entry: &squeue::Entry, wait_for: usize) -> io::Result<()> {
        // SAFETY: the entry refers to no memory, and its descriptor lives as long as the ring.
        unsafe { self.ring.submission().push(entry) }.map_err(io::Error::other)?;
        self.ring.submit_and_wait(wait_for)?;
        Ok(())
    }

    /// The next completion; of those for which the ring had no room, too.
    fn completion(&mut self) -> io::Result<Option<cqueue::Entry>> {
        let found = self.ring.completion().next();
        if found.is_some() || !self.ring.submission().cq_overflow() {
            return Ok(found);
        }
        // The kernel moves them into the ring only when it is entered, and an edge-triggered epoll instance was already told of them.
        self.ring.submit()?;
        Ok(self.ring.completion().next())
    }

    /// The next connection, or the error that ended the multishot accept; `None` when there is none.
    #[allow(clippy::should_implement_trait, reason = "an iterator's end would be final")]
    pub fn next(&mut self) -> Option<io::Result<TcpStream>> {
        loop {
            let completion = match self.completion().transpose()? {
                Ok(completion) => completion,
                Err(error) => return Some(Err(error)),
            };
            if completion.user_data() != self.user_data {
                continue;
            }
            self.armed = cqueue::more(completion.flags());
            let result = completion.result();
            if result == -libc::ECANCELED {
                continue;
            }
            return Some(if result < 0 {
                Err(io::Error::from_raw_os_error(-result))
            } else {
                // SAFETY: the kernel has just given this descriptor to this process, and nothing else owns it.
                Ok(unsafe { OwnedFd::from_raw_fd(result) }.into())
            });
        }
    }

    /// Calls accept(2) itself, after an error has ended the multishot accept. Fails with `WouldBlock` if nothing waits.
    pub fn accept(&self) -> io::Result<TcpStream> {
        // Not std's, which knows only the addresses of IP.
        SockRef::from(&self.listener).accept().map(|(stream, _)| stream.into())
    }

    /// Cancels the multishot accept and returns the connections it had already taken.
    pub fn stop(&mut self) -> io::Result<Vec<TcpStream>> {
        let mut taken: Vec<TcpStream> = std::iter::from_fn(|| self.next()).flatten().collect();
        if self.armed {
            self.submit(&opcode::AsyncCancel::new(self.user_data).build().user_data(CANCEL), 1)?;
            // Its last completion has no MORE flag.
            while self.armed {
                self.ring.submit_and_wait(1)?;
                taken.extend(std::iter::from_fn(|| self.next()).flatten());
            }
        }
        Ok(taken)
    }
}

impl AsRawFd for AcceptRing {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    /// The completion that ends a multishot accept is one of those without room.
    #[test]
    fn more_connections_than_fit_in_the_ring_are_all_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut ring = AcceptRing::new(listener, 8, 1).unwrap();
        ring.arm().unwrap();
        let clients: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut taken = Vec::new();
        for _ in 0..1_000 {
            while let Some(stream) = ring.next() {
                taken.push(stream.unwrap().peer_addr().unwrap());
                ring.arm().unwrap();
            }
            if taken.len() == clients.len() {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        assert!(clients.iter().all(|client| taken.contains(&client.local_addr().unwrap())), "{}", taken.len());
    }
}
