//! What the connections of a worker's ring wait for, and the bytes that they are to send, which stay where they are until they have gone
//! out.

use std::{mem, os::fd::RawFd};

use io_uring::{opcode, squeue, types::Fd};

use super::{
    POLL_FIRST,
    incoming::{GROUP, RECEIVE_BYTES},
    server::{RECEIVE, SEND, mark},
};

/// Send buffers that keep their memory while they are not in use.
const KEPT_BUFFERS: usize = 64;
/// No connection, or no buffer.
const NONE: u32 = u32::MAX;

/// When bytes to receive are expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receive {
    /// They may be there.
    Now,
    /// They are not: a first attempt would be wasted.
    Later,
}

/// A connection's part of the ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The buffer with what it is to send, or is sending.
    buffer: u32,
    /// The errno of a send that failed before a receive.
    pub failure: i32,
    pub receives: bool,
}

/// Bytes on their way.
#[derive(Debug, Default)]
struct Sending {
    bytes: Vec<u8>,
    key: u32,
    is_under_way: bool,
}

/// A send that is over.
pub(super) struct Sent {
    /// `None` if the connection is being closed.
    pub key: Option<usize>,
    pub length: usize,
}

/// What connections are to send, or are sending.
#[derive(Debug, Default)]
pub struct Outgoing {
    places: Vec<Place>,
    buffers: Vec<Sending>,
    /// Buffers not in use, the next one last.
    free: Vec<u32>,
}

impl Outgoing {
    pub(super) fn place(&mut self, key: usize) -> &mut Place {
        if self.places.len() <= key {
            self.places.resize(key + 1, Place { buffer: NONE, failure: 0, receives: false });
        }
        &mut self.places[key]
    }

    /// Adds to what a connection is to send. Panics while it is sending.
    pub fn put(&mut self, key: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut number = self.place(key).buffer;
        if number == NONE {
            number = self.free.pop().unwrap_or_else(|| {
                self.buffers.push(Sending::default());
                self.buffers.len() as u32 - 1
            });
            self.buffers[number as usize].key = key as u32;
            self.place(key).buffer = number;
        }
        let buffer = &mut self.buffers[number as usize];
        assert!(!buffer.is_under_way, "the kernel still reads the buffer");
        buffer.bytes.extend_from_slice(bytes);
    }

    /// How many bytes a connection is to send, or is sending.
    pub fn unsent(&self, key: usize) -> usize {
        let buffer = self.places.get(key).map_or(NONE, |place| place.buffer);
        if buffer == NONE { 0 } else { self.buffers[buffer as usize].bytes.len() }
    }

    /// The receive of a connection, which has no other.
    pub(super) fn receive(&mut self, key: usize, socket: RawFd, receive: Receive) -> squeue::Entry {
        let place = self.place(key);
        debug_assert!(!place.receives, "a connection has one receive at a time");
        place.receives = true;
        opcode::Recv::new(Fd(socket), std::ptr::null_mut(), RECEIVE_BYTES as u32)
            .buf_group(GROUP)
            .ioprio(if receive == Receive::Later { POLL_FIRST } else { 0 })
            .build()
            .flags(squeue::Flags::BUFFER_SELECT)
            .user_data(mark(RECEIVE, key as u64))
    }

    /// The send of what a connection was given, if that is anything.
    pub(super) fn send(&mut self, key: usize, socket: RawFd) -> Option<squeue::Entry> {
        let number = self.place(key).buffer;
        let buffer = self.buffers.get_mut(number as usize)?;
        assert!(!buffer.is_under_way, "a connection has one send at a time");
        buffer.is_under_way = true;
        let send = opcode::Send::new(Fd(socket), buffer.bytes.as_ptr(), buffer.bytes.len() as u32);
        let send = send.flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL).build();
        Some(send.user_data(mark(SEND, u64::from(number))))
    }

    /// Parts a connection from what it is sending.
    pub(super) fn forget(&mut self, key: usize) {
        let number = mem::replace(&mut self.place(key).buffer, NONE);
        if let Some(buffer) = self.buffers.get_mut(number as usize) {
            buffer.key = NONE;
        }
    }

    /// Frees the buffer of a send that is over.
    pub(super) fn sent(&mut self, number: usize) -> Sent {
        let buffer = &mut self.buffers[number];
        let (key, length) = (buffer.key, buffer.bytes.len());
        buffer.is_under_way = false;
        buffer.bytes.clear();
        if self.free.len() >= KEPT_BUFFERS {
            buffer.bytes = Vec::new();
        }
        self.free.push(number as u32);
        let key = (key != NONE).then_some(key as usize);
        if let Some(key) = key {
            self.place(key).buffer = NONE;
        }
        Sent { key, length }
    }
}
