//! An io_uring for a client's connections. The ring owns the buffers, one slot per connection, so that the kernel never
//! writes into freed memory.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

use io_uring::{IoUring, Probe, opcode, squeue, types::Fd};

use super::{POLL_FIRST, enter};

/// Operations that may be queued before they are submitted.
const SUBMISSIONS: u32 = 512;
/// Completions that may wait in the ring; the kernel keeps any more.
const COMPLETIONS: u32 = 4_096;
/// Kinds of operations. A slot has at most one of each pending.
const KINDS: usize = 3;

/// A kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Waits until the handshake succeeds or fails.
    Connect,
    /// Sends all the given bytes with send(2).
    Send,
    /// Receives into the slot's buffer with recv(2).
    Receive,
}

impl Operation {
    const ALL: [Self; KINDS] = [Self::Connect, Self::Send, Self::Receive];

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A completed operation.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    pub slot: usize,
    pub operation: Operation,
    /// The number of bytes, or the errno.
    pub result: Result<usize, i32>,
}

/// A connection's part of the ring.
struct Slot {
    received: Box<[u8]>,
    sending: Vec<u8>,
    /// Bits of the pending operations.
    under_way: u8,
}

impl Slot {
    fn new(receive_bytes: usize) -> Self {
        Self { received: vec![0; receive_bytes].into_boxed_slice(), sending: Vec::new(), under_way: 0 }
    }

    fn has(&self, operation: Operation) -> bool {
        self.under_way & operation.bit() != 0
    }

    fn received(&self) -> &[u8] {
        assert!(!self.has(Operation::Receive), "the kernel still writes into the buffer");
        &self.received
    }
}

/// A ring and its slots. Belongs to the process that created it: create it after the fork.
pub struct ClientRing {
    ring: IoUring,
    slots: Vec<Slot>,
    receive_bytes: usize,
    /// Flags of receives: when one is queued nothing has arrived yet, so an immediate attempt would be wasted.
    receive_flags: u16,
}

impl ClientRing {
    /// Creates a ring whose slots have a receive buffer of this size. Fails if the kernel or an administrator forbids
    /// io_uring, or the kernel lacks an operation.
    pub fn new(receive_bytes: usize) -> io::Result<Self> {
        let own = || {
            // Completions are processed when this process asks for them, without interrupting it (Linux 6.1).
            IoUring::builder()
                .setup_cqsize(COMPLETIONS)
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_taskrun_flag()
                .build(SUBMISSIONS)
        };
        let (ring, receive_flags) = match own() {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                (IoUring::builder().setup_cqsize(COMPLETIONS).build(SUBMISSIONS)?, 0)
            }
            ring => (ring?, POLL_FIRST),
        };
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let codes = [opcode::PollAdd::CODE, opcode::Send::CODE, opcode::Recv::CODE];
        if !codes.iter().all(|code| probe.is_supported(*code)) || !ring.params().is_feature_ext_arg() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self { ring, slots: Vec::with_capacity(1_024), receive_bytes, receive_flags })
    }

    fn slot(&mut self, slot: usize) -> &mut Slot {
        while self.slots.len() <= slot {
            self.slots.push(Slot::new(self.receive_bytes));
        }
        &mut self.slots[slot]
    }

    /// Queues the wait for the end of a handshake; its result is the bits of poll(2). The descriptor must stay open until the slot is quiet.
    pub fn connected(&mut self, slot: usize, socket: BorrowedFd<'_>) -> io::Result<()> {
        let wait = opcode::PollAdd::new(Fd(socket.as_raw_fd()), (libc::POLLIN | libc::POLLOUT) as u32);
        self.push(slot, Operation::Connect, wait.build())
    }

    /// Queues a send. The descriptor must stay open until the slot is quiet.
    pub fn send(&mut self, slot: usize, socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
        assert!(!self.is_under_way(slot, Operation::Send), "the kernel still reads the buffer");
        let sending = &mut self.slot(slot).sending;
        sending.clear();
        sending.extend_from_slice(bytes);
        let send = opcode::Send::new(Fd(socket.as_raw_fd()), sending.as_ptr(), sending.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL);
        self.push(slot, Operation::Send, send.build())
    }

    /// Queues a receive into the slot's buffer. The descriptor must stay open until the slot is quiet.
    pub fn receive(&mut self, slot: usize, socket: BorrowedFd<'_>) -> io::Result<()> {
        assert!(!self.is_under_way(slot, Operation::Receive), "the kernel still writes into the buffer");
        let flags = self.receive_flags;
        let received = &mut self.slot(slot).received;
        let receive =
            opcode::Recv::new(Fd(socket.as_raw_fd()), received.as_mut_ptr(), received.len() as u32).ioprio(flags);
        self.push(slot, Operation::Receive, receive.build())
    }

    fn push(&mut self, slot: usize, operation: Operation, entry: squeue::Entry) -> io::Result<()> {
        if self.ring.submission().is_full() {
            self.submit()?;
        }
        let entry = entry.user_data((slot * KINDS + operation as usize) as u64);
        // SAFETY: the entry points at most to a buffer of its slot, which does not move while the kernel uses it:
        // `send`, `receive` and `received` refuse a buffer with a pending operation, and `drop` leaks such buffers.
        unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)?;
        self.slot(slot).under_way |= operation.bit();
        Ok(())
    }

    /// Length of a slot's receive buffer.
    pub fn receive_bytes(&self) -> usize {
        self.receive_bytes
    }

    /// Whether an operation of a slot is pending.
    pub fn is_under_way(&self, slot: usize, operation: Operation) -> bool {
        self.slots.get(slot).is_some_and(|slot| slot.has(operation))
    }

    /// Whether a slot has no pending operation.
    pub fn is_quiet(&self, slot: usize) -> bool {
        self.slots.get(slot).is_none_or(|slot| slot.under_way == 0)
    }

    /// Submits the queued operations, which the kernel starts at once.
    pub fn submit(&mut self) -> io::Result<()> {
        loop {
            let queued = self.ring.submission().len();
            if queued == 0 {
                return Ok(());
            }
            enter::submit(&self.ring)?;
            if self.ring.submission().len() == queued {
                // The kernel first requires completions to be taken: the queue goes with the next call.
                return Ok(());
            }
        }
    }

    /// Submits, and waits up to `at_most` for a completion; does not wait if it is zero.
    pub fn submit_and_wait(&mut self, at_most: Duration) -> io::Result<()> {
        enter::submit_and_wait(&self.ring, Some(at_most))
    }

    /// The next completed operation, if any.
    #[allow(clippy::should_implement_trait, reason = "an iterator's end would be final")]
    pub fn next(&mut self) -> Option<Done> {
        let completion = self.ring.completion().next()?;
        let place = completion.user_data() as usize;
        let (slot, operation) = (place / KINDS, Operation::ALL[place % KINDS]);
        self.slots[slot].under_way &= !operation.bit();
        let result = completion.result();
        Some(Done { slot, operation, result: usize::try_from(result).map_err(|_| -result) })
    }

    /// The slot's receive buffer: the bytes of the last receive, followed by older ones.
    ///
    /// Panics while a receive is pending.
    #[inline]
    pub fn received(&self, slot: usize) -> &[u8] {
        self.slots[slot].received()
    }
}

impl Drop for ClientRing {
    fn drop(&mut self) {
        // The kernel may still use these buffers: closing the ring only asks it to stop.
        for slot in self.slots.drain(..).filter(|slot| slot.under_way != 0) {
            std::mem::forget(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_readable_once_the_kernel_is_done_with_it() {
        let slot = Slot { under_way: Operation::Send.bit(), ..Slot::new(4) };
        assert_eq!(slot.received(), [0; 4]);
    }

    #[test]
    #[should_panic(expected = "the kernel still writes into the buffer")]
    fn a_buffer_the_kernel_still_writes_into_is_refused() {
        Slot { under_way: Operation::Receive.bit(), ..Slot::new(4) }.received();
    }
}
