//! Memory mapped with mmap(2) and unmapped when its owner is dropped.

use std::{io, num::NonZeroUsize, ptr::NonNull};

use aya::maps::MapFd;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::limits;

const READ_WRITE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

/// Memory for a number of elements, aligned to pages. Its owner decides who may refer to them.
#[derive(Debug)]
pub(super) struct Mapping<T> {
    start: NonNull<T>,
    length: usize,
}

impl<T> Mapping<T> {
    /// Maps `length` zeroed elements, shared with children. Pages cost memory only once touched, and none is set aside before.
    pub fn anonymous(length: usize) -> io::Result<Self> {
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping overlaps nothing.
        let start = unsafe { mmap_anonymous(None, bytes::<T>(length), READ_WRITE, flags) };
        let start =
            start.map_err(|error| limits::explained(&format!("mmap of {} bytes", bytes::<T>(length)), error))?;
        Ok(Self { start: start.cast(), length })
    }

    /// Maps `length` elements of a BPF map, shared with everyone else who uses it. Beyond the map's end, the kernel
    /// fails with EINVAL. (Beyond the end of an ordinary file, mapping would succeed and access would raise SIGBUS.)
    pub fn of_bpf_map(file: &MapFd, length: usize) -> io::Result<Self> {
        // SAFETY: a fresh mapping overlaps nothing.
        let start = unsafe { mmap(None, bytes::<T>(length), READ_WRITE, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { start: start.cast(), length })
    }

    /// The elements, valid to read and write while self lives.
    pub fn elements(&self) -> NonNull<[T]> {
        NonNull::slice_from_raw_parts(self.start, self.length)
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made by the constructor, and its owner lets no reference outlive self.
        let _ = unsafe { munmap(self.start.cast(), bytes::<T>(self.length).get()) };
    }
}

/// At least 1, because mmap rejects a length of 0.
fn bytes<T>(length: usize) -> NonZeroUsize {
    NonZeroUsize::new(size_of::<T>() * length).unwrap_or(NonZeroUsize::MIN)
}
