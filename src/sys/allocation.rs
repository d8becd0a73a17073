//! The bound on what a fuzzer's input may make the program allocate.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The most bytes that may be allocated at once, beyond those that were when the input was given.
const LIMIT_BYTES: usize = 256 << 20;

/// The system's allocator, with a bound.
struct Bounded;

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static ALLOWED: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Begins another input.
pub fn begin() {
    ALLOWED.store(ALLOCATED.load(Relaxed) + LIMIT_BYTES, Relaxed);
}

fn add(bytes: usize) {
    let before = ALLOCATED.fetch_add(bytes, Relaxed);
    if before.saturating_add(bytes) > ALLOWED.load(Relaxed) {
        // The message may allocate too.
        ALLOWED.store(usize::MAX, Relaxed);
        panic!("an allocation of {bytes} bytes makes it more than {LIMIT_BYTES} for one input");
    }
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promises are those that the system's allocator demands.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        add(bytes);
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as in `alloc`.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}
