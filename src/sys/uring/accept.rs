//! An io_uring with one multishot accept.

use std::{
    io,
    net::{TcpListener, TcpStream},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use io_uring::{IoUring, cqueue, opcode, squeue, types::Fd};

/// Marks completions of the accept and of its cancellation.
const ACCEPT: u64 = 1;
const CANCEL: u64 = 2;

/// A ring and the listener it accepts on. Belongs to the process that created it: create it after the fork.
pub struct AcceptRing {
    ring: IoUring,
    listener: TcpListener,
    armed: bool,
}

impl AcceptRing {
    /// Creates a ring with room for `entries` completions; accepting starts with [`Self::arm`].
    pub fn new(listener: TcpListener, entries: u32) -> io::Result<Self> {
        Ok(Self { ring: IoUring::builder().setup_cqsize(entries).build(8)?, listener, armed: false })
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
                .user_data(ACCEPT);
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

    /// The next connection, or the error that ended the multishot accept; `None` when there is none.
    #[allow(clippy::should_implement_trait, reason = "an iterator's end would be final")]
    pub fn next(&mut self) -> Option<io::Result<TcpStream>> {
        loop {
            let completion = self.ring.completion().next()?;
            if completion.user_data() != ACCEPT {
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

    /// Cancels the multishot accept and returns the connections it had already taken.
    pub fn stop(&mut self) -> io::Result<Vec<TcpStream>> {
        let mut taken: Vec<TcpStream> = std::iter::from_fn(|| self.next()).flatten().collect();
        if self.armed {
            self.submit(&opcode::AsyncCancel::new(ACCEPT).build().user_data(CANCEL), 1)?;
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
