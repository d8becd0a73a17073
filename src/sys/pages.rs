//! Memory of one process that costs nothing until it is used. The heap clears much of what it hands out, and so touches it.

use std::{
    io,
    num::NonZeroUsize,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Zeros in an anonymous private mapping.
#[derive(Debug)]
pub struct Pages {
    start: NonNull<u32>,
    length: usize,
}

impl Pages {
    /// Maps so many zeros. Each page costs memory from the first write to it on.
    pub fn zeroed(length: usize) -> io::Result<Self> {
        // SAFETY: a fresh anonymous mapping overlaps nothing.
        let start = unsafe {
            mmap_anonymous(None, bytes(length), ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE)
        }?;
        Ok(Self { start: start.cast(), length })
    }
}

fn bytes(length: usize) -> NonZeroUsize {
    NonZeroUsize::new((size_of::<u32>() * length).max(1)).expect("at least 1")
}

impl Deref for Pages {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        // SAFETY: the mapping holds `length` numbers, which zero is one of, is aligned to pages, and lives as long as self.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u32] {
        // SAFETY: as above; and nobody else has the mapping.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `zeroed`, and no reference into it outlives self.
        let _ = unsafe { munmap(self.start.cast(), bytes(self.length).get()) };
    }
}
