//! Memory that a process shares with the children it forks afterwards.

use std::{
    io,
    ops::Deref,
    os::fd::AsFd,
    sync::atomic::{AtomicU32, AtomicU64},
};

use crossbeam::utils::CachePadded;
use nix::sys::mman::MapFlags;

use super::mapping::Mapping;

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

/// A slice in a MAP_SHARED mapping. Children forked later see the same memory.
#[derive(Debug)]
pub struct SharedSlice<T: Shareable>(Mapping<T>);

// SAFETY: only shared references to T are handed out, and T is Sync.
unsafe impl<T: Shareable> Send for SharedSlice<T> {}
// SAFETY: as above.
unsafe impl<T: Shareable> Sync for SharedSlice<T> {}

impl<T: Shareable> SharedSlice<T> {
    /// Maps `length` zeroed elements. Pages cost memory only once they are touched.
    pub fn new(length: usize) -> io::Result<Self> {
        Mapping::anonymous(length, MapFlags::MAP_SHARED).map(Self)
    }

    /// Maps `length` elements of a file whose memory others change by atomic operations only, such as an mmapable BPF
    /// array. Fails when the file is smaller.
    pub fn of_file(file: &impl AsFd, length: usize) -> io::Result<Self> {
        Mapping::of_file(file, length).map(Self)
    }
}

impl<T: Shareable> Deref for SharedSlice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: T is valid whatever the bytes are, since it consists of atomics, and the elements live as long as self.
        unsafe { self.0.elements().as_ref() }
    }
}
