//! Memory that a process shares with the children it forks afterwards.

use std::{
    io,
    num::NonZeroUsize,
    ops::Deref,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64},
};

use crossbeam::utils::CachePadded;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Types that may lie in shared memory.
///
/// # Safety
/// All-zero bytes are a valid value, the type holds no pointer, and every change goes through atomics.
pub unsafe trait Shareable: Sync {}

// SAFETY: an atomic integer is valid when zero and changed by atomic operations only.
unsafe impl Shareable for AtomicU64 {}
// SAFETY: as above.
unsafe impl Shareable for AtomicU32 {}
// SAFETY: an array is as valid as its elements.
unsafe impl<T: Shareable, const N: usize> Shareable for [T; N] {}
// SAFETY: padding has no value; the rest is the inner type's.
unsafe impl<T: Shareable> Shareable for CachePadded<T> {}

/// A slice in an anonymous MAP_SHARED mapping, zero at first. Children forked later see the same memory.
#[derive(Debug)]
pub struct SharedSlice<T: Shareable> {
    start: NonNull<T>,
    length: usize,
}

// SAFETY: only shared references to T are handed out, and T is Sync.
unsafe impl<T: Shareable> Send for SharedSlice<T> {}
// SAFETY: as above.
unsafe impl<T: Shareable> Sync for SharedSlice<T> {}

impl<T: Shareable> SharedSlice<T> {
    /// Maps `length` zeroed elements. Pages cost memory only once they are touched.
    pub fn new(length: usize) -> io::Result<Self> {
        let bytes = NonZeroUsize::new((size_of::<T>() * length).max(1)).expect("at least 1");
        // SAFETY: a fresh anonymous mapping overlaps nothing.
        let start =
            unsafe { mmap_anonymous(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED) }?;
        Ok(Self { start: start.cast(), length })
    }
}

impl<T: Shareable> SharedSlice<T> {
    /// Maps `length` elements of a file whose memory others change by atomic operations only, such as an mmapable BPF
    /// array. Fails when the file is smaller.
    pub fn of_file(file: &impl AsFd, length: usize) -> io::Result<Self> {
        let bytes = NonZeroUsize::new((size_of::<T>() * length).max(1)).expect("at least 1");
        // SAFETY: a fresh mapping overlaps nothing, and T is valid whatever the bytes are: it consists of atomics.
        let start =
            unsafe { mmap(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { start: start.cast(), length })
    }
}

impl<T: Shareable> Deref for SharedSlice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `length` elements, zero is valid for T, mmap aligns to pages, and it lives as
        // long as self.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T: Shareable> Drop for SharedSlice<T> {
    fn drop(&mut self) {
        let bytes = (size_of::<T>() * self.length).max(1);
        // SAFETY: this is the mapping made in `new`, and no reference into it outlives self.
        let _ = unsafe { munmap(self.start.cast(), bytes) };
    }
}
