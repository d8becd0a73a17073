//! The receive buffers of a worker's ring. Its receives share them: the kernel takes one when bytes are there, and gets it back once
//! they are read.

use std::{
    alloc::{self, Layout},
    io, mem,
    ptr::NonNull,
    sync::atomic::{AtomicU16, Ordering::Release},
};

use io_uring::{IoUring, types::BufRingEntry};

/// Receive buffers: a power of two.
const BUFFERS: u16 = 256;
/// The most bytes of a receive.
pub(super) const RECEIVE_BYTES: usize = 65_536;
/// From one buffer to the next. At a power of two, the beginnings of all would compete for the same few lines of the caches.
const STRIDE_BYTES: usize = RECEIVE_BYTES + 192;
/// The number of the group of receive buffers.
pub(super) const GROUP: u16 = 0;
/// The page size: the kernel requires the ring of buffers to be page-aligned.
const PAGE_BYTES: usize = 4_096;

/// Bytes in a receive buffer, which is to be given back.
#[derive(Debug)]
pub struct Received {
    buffer: Option<u16>,
    length: usize,
}

impl Received {
    pub(super) fn new(buffer: Option<u16>, length: usize) -> Self {
        Self { buffer, length }
    }

    /// Whether it is the end of what the client sends.
    pub fn is_end(&self) -> bool {
        self.length == 0
    }
}

/// The receive buffers, and the ring in which they are offered to the kernel.
pub(super) struct Incoming {
    ring: NonNull<BufRingEntry>,
    bytes: Vec<u8>,
    tail: u16,
}

impl Incoming {
    const LAYOUT: Layout = match Layout::from_size_align(BUFFERS as usize * size_of::<BufRingEntry>(), PAGE_BYTES) {
        Ok(layout) => layout,
        Err(_) => panic!("a page is a power of two"),
    };

    pub fn new() -> Self {
        // SAFETY: the layout is not empty, and entries of zeros are valid.
        let ring = unsafe { alloc::alloc_zeroed(Self::LAYOUT) }.cast::<BufRingEntry>();
        let Some(ring) = NonNull::new(ring) else { alloc::handle_alloc_error(Self::LAYOUT) };
        // Pages cost memory only once touched.
        let mut buffers = Self { ring, bytes: vec![0; usize::from(BUFFERS) * STRIDE_BYTES], tail: 0 };
        (0..BUFFERS).for_each(|buffer| buffers.offer(buffer));
        buffers
    }

    /// Makes it the buffers of an io_uring, of which this must be dropped after it.
    pub fn register(&self, to: &IoUring) -> io::Result<()> {
        // SAFETY: the ring is page-aligned, has as many entries, and stays where it is.
        unsafe { to.submitter().register_buf_ring_with_flags(self.ring.as_ptr() as u64, BUFFERS, GROUP, 0) }
    }

    /// Offers a buffer again, if the received bytes have one.
    pub fn take_back(&mut self, received: &Received) {
        if let Some(buffer) = received.buffer {
            self.offer(buffer);
        }
    }

    /// Offers a buffer to the kernel.
    fn offer(&mut self, buffer: u16) {
        let place = usize::from(self.tail & (BUFFERS - 1));
        let start = usize::from(buffer) * STRIDE_BYTES;
        let bytes = &mut self.bytes[start..start + RECEIVE_BYTES];
        // SAFETY: the place is one of the ring's entries. The kernel only reads entries, and this one only once the tail is past it.
        let entry = unsafe { self.ring.add(place).as_mut() };
        entry.set_addr(bytes.as_mut_ptr() as u64);
        entry.set_len(RECEIVE_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the ring's base is valid, and its tail is an aligned u16 that lives as long; the kernel reads it at any time.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.ring.as_ptr()).cast_mut()) };
        tail.store(self.tail, Release);
    }

    /// The bytes that were received.
    pub fn bytes(&self, received: &Received) -> &[u8] {
        let start = usize::from(received.buffer.unwrap_or(0)) * STRIDE_BYTES;
        &self.bytes[start..start + received.length.min(RECEIVE_BYTES)]
    }

    /// Leaves the memory to the kernel.
    pub fn leak(&mut self) {
        mem::forget(mem::take(&mut self.bytes));
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // The kernel has pinned the pages of a ring that it still uses.
        // SAFETY: allocated with this layout, and not used any more.
        unsafe { alloc::dealloc(self.ring.as_ptr().cast(), Self::LAYOUT) };
    }
}
